"""Fetches D4RL's data.

D4RL publishes no checksums. A file is read and checked as soon as it is there,
and its checksum kept, so that later damage is found.
"""

import contextlib
import pathlib
import threading

from cql_atari.continuous import files, tasks
from cql_atari.core import download, fetched, progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import atomic_path, exclusive_lock, sha256


def fetch(
  task: tasks.Task, folder: pathlib.Path, url: str, timeout: float
) -> None:
  """Fetches a task's file unless it is there; mixes the one that D4RL lacks.

  Args:
    task: whose.
    folder: where to, an existing folder.
    url: D4RL's folder of datasets, at any fsspec URL.
    timeout: seconds after which a silent connection has stalled.

  Raises:
    UserError: the source lacks it, or what came is broken.
  """
  with exclusive_lock(folder, 'fetching'):
    make = _mix if task.data == 'random-expert' else _fetch
    make(task, folder, url, timeout)


def _is_there(path: pathlib.Path) -> bool:
  """Whether an earlier fetch brought a file, and it is still what it was.

  Raises:
    UserError: there is one that no fetch brought.
  """
  record = fetched.read(path.parent) or {}
  if path.exists() and path.name not in record:
    raise UserError(f'{path} was not fetched: move it, or give another --out.')
  with contextlib.suppress(UserError):
    fetched.check(path, record)
    return True
  return False


def _fetch(
  task: tasks.Task, folder: pathlib.Path, url: str, timeout: float
) -> files.Steps:
  """Fetches a task's file unless it is there, and reads it."""
  if task.path is None:
    raise UserError(
      f'no address of {task.name} is known here: leave the version out.'
    )
  where, _, name = f'{url.rstrip("/")}/{task.path}'.rpartition('/')
  source = download.Source(where, timeout)
  if not _is_there(folder / name):
    try:
      size = source.size(name) or None
      with progress.bar(size, 'B', name, unit_scale=True) as bar:
        download.fetch_file(
          source, folder, name, None, bar.update, threading.Event()
        )
    except download.Missing:
      raise UserError(f'{where} has no {name}.') from None
  try:
    steps = files.read_hdf5(folder / name, task)
    files.check(steps, task, name)
  except UserError:
    (folder / name).unlink()  # The next fetch begins anew.
    raise
  return steps


def _mix(
  task: tasks.Task, folder: pathlib.Path, url: str, timeout: float
) -> None:
  """Random play and an expert's, one after the other."""
  path = folder / f'{task.name}.hdf5'
  if _is_there(path):
    return
  parts = [
    _fetch(tasks.Task(task.domain, data, task.version), folder, url, timeout)
    for data in ('random', 'expert')
  ]
  with atomic_path(path) as partial:
    files.write_hdf5(partial, files.concatenate(*parts))
    size, digest = partial.stat().st_size, sha256(partial)
    # First: what lies there without a record counts as somebody else's.
    entry = {'bytes': size, 'sha256': digest, 'rows': None}
    fetched.add(folder, fetched.source(folder), path.name, entry)
