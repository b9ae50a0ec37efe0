"""Fetches a run of the dataset: python -m cql_atari.fetch --game=Pong.

A 1 % or 10 % split takes the first rows of every shard, so no more than these
are read: some 1 % or 10 % of the bytes.
"""

import concurrent.futures
import pathlib
import shutil
import signal
import threading

import tqdm
from absl import flags

from cql_atari.core import download, errors, fetched, locks
from cql_atari.core.files import make_folder
from cql_atari.environments import atari
from cql_atari.replay import split as split_lib
from cql_atari.replay.shard import ELEMENTS, file_name

PUBLIC = 'https://storage.googleapis.com/atari-replay-datasets/dqn'
_SMALL = ('add_count', 'invalid_range')  # Always whole.
_MARGIN = 1.3  # A file's first rows may compress worse than the rest.

_GAME = flags.DEFINE_string('game', None, 'The game, such as Pong.')
_RUN = flags.DEFINE_integer('run', 1, 'Which of the five runs.', lower_bound=1)
_SPLIT = flags.DEFINE_string(
  'split', '1pct', '1pct, 10pct, first20pct, all, or a share such as 0.05.'
)
_OUT = flags.DEFINE_string(
  'out', 'data', 'Where to: the run becomes OUT/GAME/RUN/replay_logs.'
)
_SOURCE = flags.DEFINE_string(
  'source', PUBLIC, 'The folder of games, at any fsspec URL.'
)
_JOBS = flags.DEFINE_integer('jobs', 8, 'Files at once.', lower_bound=1)
_TIMEOUT = flags.DEFINE_float(
  'timeout', 30.0, 'Seconds after which a silent connection has stalled.'
)


def main() -> None:
  """Fetches by the flags."""
  if not _GAME.value:
    raise errors.UserError('no --game given: name one, such as --game=Pong.')
  atari.rom_name(_GAME.value)
  split = split_lib.named_split(_SPLIT.value)
  run = make_folder('out', _OUT.value, _GAME.value, str(_RUN.value))
  folder = run / 'replay_logs'
  folder.mkdir(exist_ok=True)
  source = download.Source(
    f'{_SOURCE.value.rstrip("/")}/{_GAME.value}/{_RUN.value}/replay_logs',
    _TIMEOUT.value,
  )
  with locks.alone_in(folder, 'fetching'):
    _fetch_all(source, folder, split)
  (folder / '.lock').unlink(missing_ok=True)
  print(
    f'{run} is complete: train on it with --replay_dir={run}, or look at it '
    f'with python -m cql_atari.verify {run}.'
  )


def _fetch_all(source, folder, split) -> None:
  plan, missing = _plan(source, folder, split)
  size = sum(expected for _, _, expected in plan)
  free = shutil.disk_usage(folder).free
  print(
    f'{source.url}: {len(plan)} files to read, about {_megabytes(size)}, as '
    f'much disk; {_megabytes(free)} are free in {folder}.'
  )
  if missing:
    print(f'The source lacks {len(missing)} shards, such as {missing[0]}.')
  if size > free:
    raise errors.UserError(
      f'{folder} has too little room: free {_megabytes(size - free)}, or '
      'choose another --out.'
    )
  _fetch(source, folder, plan)


def _plan(
  source: download.Source, folder: pathlib.Path, split: split_lib.Split
) -> tuple[list[tuple[str, float | None, int]], list[int]]:
  """What is still to be fetched.

  Returns:
    (file, share of its rows or None for all, bytes expected) of every file,
    and the numbers of the shards that the source lacks.
  """
  share = None if split.fraction == 1 else split.fraction
  indices = range(*split.shards)
  record = fetched.read(folder) or {}

  def look(index: int) -> list[tuple[str, float | None, int]] | None:
    files = []
    for name in (*ELEMENTS, *_SMALL):
      file = file_name(name, index)
      wanted = None if name in _SMALL else share
      if _have(folder, record.get(file), file, wanted):
        continue
      try:
        size = source.size(file)
      except download.Missing:
        if name == ELEMENTS[0]:
          return None
        raise errors.UserError(
          f'{source.path(file)} is missing, but its shard is there: give a '
          'complete --source.'
        ) from None
      expected = size if wanted is None else min(size, _MARGIN * wanted * size)
      files.append((file, wanted, int(expected)))
    return files

  with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
    looked = list(
      tqdm.tqdm(
        pool.map(look, indices),
        total=len(indices),
        desc='looking',
        leave=False,
        disable=None,
      )
    )
  missing = [index for index, files in zip(indices, looked) if files is None]
  if len(missing) == len(indices):
    raise errors.UserError(
      f'{source.url} holds no shards: check --game, --run and --source, and '
      'that this machine can reach it.'
    )
  return [file for files in looked for file in files or ()], missing


def _have(folder, entry: dict | None, file: str, wanted: float | None) -> bool:
  """Whether an earlier fetch brought the file, as far as it is wanted."""
  if entry is None or not (folder / file).is_file():
    return False
  if (folder / file).stat().st_size != entry['bytes']:
    return False
  return entry['rows'] is None or (
    wanted is not None and entry.get('fraction', 0) >= wanted
  )


def _fetch(source, folder, plan) -> None:
  stop = threading.Event()

  def ask_to_stop(*_):
    stop.set()
    raise KeyboardInterrupt

  signal.signal(signal.SIGTERM, ask_to_stop)
  with (
    tqdm.tqdm(
      total=sum(expected for _, _, expected in plan),
      unit='B', unit_scale=True, desc='fetching', leave=False, disable=None,
      dynamic_ncols=True,
    ) as bar,
    concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool,
  ):  # fmt: skip
    futures = [
      pool.submit(
        download.fetch_file, source, folder, file, share, bar.update, stop
      )
      for file, share, _ in plan
    ]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
    except BaseException:
      stop.set()
      pool.shutdown(cancel_futures=True)
      raise


def _megabytes(size: float) -> str:
  return f'{size / 1e6:,.0f} MB'


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
