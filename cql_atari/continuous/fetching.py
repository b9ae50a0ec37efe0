"""Fetches D4RL's data: python -m cql_atari.continuous.fetching --task=TASK.

D4RL publishes no checksums. A file is read and checked as soon as it is there,
and its checksum kept, so that later damage is found.
"""

import pathlib
import threading

import tqdm
from absl import flags

from cql_atari.continuous import files, tasks
from cql_atari.core import download, errors, fetched, locks
from cql_atari.core.files import make_folder, sha256

_TASK = flags.DEFINE_string('task', None, 'Such as hopper-medium-v2.')
_OUT = flags.DEFINE_string('out', 'data/d4rl', 'The folder for the file.')
_SOURCE = flags.DEFINE_string(
  'source', tasks.URL, "D4RL's folder of datasets, at any fsspec URL."
)
_TIMEOUT = flags.DEFINE_float(
  'timeout', 30.0, 'Seconds after which a silent connection has stalled.'
)


def main() -> None:
  """Fetches by the flags."""
  if not _TASK.value:
    raise errors.UserError(
      'no --task given: name one, such as --task=hopper-medium-v2.'
    )
  task = tasks.task(_TASK.value)
  folder = make_folder('out', _OUT.value)
  with locks.alone_in(folder, 'fetching'):
    if task.data == 'random-expert':
      _mix(task, folder)
    else:
      _fetch(task, folder)
  print(
    f'{task.name} is complete: train on it with --replay_dir={folder} and '
    f'--gin_bindings="TASK=\'{task.name}\'".'
  )


def _fetch(task: tasks.Task, folder: pathlib.Path) -> files.Steps:
  """Fetches a task's file unless it is there, and reads it."""
  if task.path is None:
    raise errors.UserError(
      f'no address of {task.name} is known here: leave the version out.'
    )
  where, _, name = f'{_SOURCE.value.rstrip("/")}/{task.path}'.rpartition('/')
  source = download.Source(where, _TIMEOUT.value)
  entry = (fetched.read(folder) or {}).get(name)
  is_whole = (
    entry is not None
    and (folder / name).is_file()
    and sha256(folder / name) == entry['sha256']
  )
  if not is_whole:
    try:
      with tqdm.tqdm(
        total=source.size(name) or None,
        unit='B',
        unit_scale=True,
        desc=name,
        disable=None,
      ) as bar:
        download.fetch_file(
          source, folder, name, None, bar.update, threading.Event()
        )
    except download.Missing:
      raise errors.UserError(f'{where} has no {name}.') from None
  try:
    steps = files.read_hdf5(folder / name, task)
    files.check(steps, task, name)
  except errors.UserError:
    (folder / name).unlink()  # The next fetch begins anew.
    raise
  return steps


def _mix(task: tasks.Task, folder: pathlib.Path) -> None:
  """Random play and an expert's, one after the other."""
  parts = [
    _fetch(tasks.Task(task.domain, data, task.version), folder)
    for data in ('random', 'expert')
  ]
  path = folder / f'{task.name}.hdf5'
  files.write_hdf5(path, files.concatenate(*parts))


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
