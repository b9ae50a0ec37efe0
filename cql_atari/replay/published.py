"""The published dataset: fetches a run of it, or the part that a split needs.

A 1 % or 10 % split takes the first rows of every shard, so no more than these
are read: some 1 % or 10 % of the bytes.
"""

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator

from cql_atari.core import download, fetched, progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import exclusive_lock
from cql_atari.replay import split as split_lib
from cql_atari.replay.shard import ELEMENTS, file_name
from cql_atari.replay.shard_folder import EPISODES

_SMALL = ('add_count', 'invalid_range')  # Always whole.
_OPTIONAL = 'episode_end_indices'  # Of newer Dopamine; no array.
_MARGIN = 1.3  # A file's first rows may compress worse than the rest.


def fetch(
  folder: pathlib.Path,
  game: str,
  run: int,
  split: split_lib.Split,
  url: str,
  jobs: int,
  timeout: float,
) -> None:
  """Fetches a run, resuming what an earlier fetch began.

  Args:
    folder: gets the shards, such as data/Pong/1/replay_logs; it exists.
    game: such as 'Pong'.
    run: which of the five.
    split: what will be trained on.
    url: the folder of games, at any fsspec URL.
    jobs: files at once.
    timeout: seconds after which a silent connection has stalled.

  Raises:
    UserError: the source lacks it or cannot be reached, or there is no room.
  """
  source = download.Source(
    f'{url.rstrip("/")}/{game}/{run}/replay_logs', timeout
  )
  before = fetched.source(folder)
  if before not in (None, source.url):
    raise UserError(
      f'{folder} has files of {before}: give that --source, or another --out.'
    )
  with exclusive_lock(folder, 'fetching'):
    if any(folder.glob(file_name('*', '*'))) and fetched.read(folder) is None:
      raise UserError(
        f'{folder} holds data that was not fetched: give another --out.'
      )
    _fetch_all(source, folder, split, jobs)


def _fetch_all(source, folder, split, jobs) -> None:
  plan, missing = _plan(source, folder, split, jobs)
  size = sum(expected for _, _, expected in plan)
  free = shutil.disk_usage(folder).free
  print(
    f'{source.url}: {progress.count(len(plan), "file")} to read, as much disk, '
    f'about {_megabytes(size)}; {_megabytes(free)} are free in {folder}.'
  )
  if missing:
    lacks = progress.count(len(missing), 'shard')
    print(f'The source lacks {lacks}, such as {missing[0]}.')
  if size > free:
    raise UserError(
      f'{folder} has too little room: free {_megabytes(size - free)}, or '
      'choose another --out.'
    )
  _fetch(source, folder, plan, jobs)
  _fetch_returns(source, folder.parent)


def _fetch_returns(source: download.Source, run: pathlib.Path) -> None:
  """Fetches the raw scores of somebody's recording; published play has none."""
  beside = dataclasses.replace(source, url=source.url.rpartition('/')[0])
  if not (run / EPISODES).exists():
    with contextlib.suppress(download.Missing):
      download.fetch_file(
        beside, run, EPISODES, None, lambda _: None, threading.Event()
      )


def _plan(
  source: download.Source,
  folder: pathlib.Path,
  split: split_lib.Split,
  jobs: int,
) -> tuple[list[tuple[str, float | None, int]], list[int]]:
  """Lists the files that are still to be fetched.

  Returns:
    (file, share of its rows or None for all, bytes expected) of every file,
    and the numbers of the shards that the source lacks.
  """
  share = None if split.fraction == 1 else split.fraction
  indices = split.shard_numbers
  record = fetched.read(folder) or {}

  def look(index: int) -> list[tuple[str, float | None, int]] | None:
    files = []
    for name in (*ELEMENTS, *_SMALL, _OPTIONAL):
      file = file_name(name, index)
      wanted = share if name in ELEMENTS else None
      if _have(folder, record.get(file), file, wanted):
        continue
      try:
        size = source.size(file)
      except download.Missing:
        if name == ELEMENTS[0]:
          return None
        if name == _OPTIONAL:
          continue
        raise UserError(
          f'{source.path(file)} is missing, but its shard is there: give a '
          'complete --source.'
        ) from None
      expected = size if wanted is None else min(size, _MARGIN * wanted * size)
      partial = folder / f'{file}.partial'
      held = partial.stat().st_size if partial.is_file() else 0
      files.append((file, wanted, max(int(expected) - held, 0)))
    return files

  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    found = pool.map(look, indices)
    looked = list(
      progress.bar(len(indices), ' shards', 'looking', iterable=found)
    )
  missing = [index for index, files in zip(indices, looked) if files is None]
  if len(missing) == len(indices):
    raise UserError(
      f'{source.url} holds no shards: check --game, --run and --source, and '
      'that this machine can reach it.'
    )
  return [file for files in looked for file in files or ()], missing


def _have(folder, entry: dict | None, file: str, wanted: float | None) -> bool:
  """Whether an earlier fetch brought the file, as far as it is wanted."""
  if entry is None:
    return False
  with contextlib.suppress(UserError):
    fetched.check(folder / file, {file: entry})
    return entry['rows'] is None or entry.get('fraction', 0) >= (wanted or 1)
  return False  # It has changed since.


def _fetch(source, folder, plan, jobs) -> None:
  stop = threading.Event()
  with (
    _interrupted_by_sigterm(),
    progress.bar(
      sum(expected for _, _, expected in plan), 'B', 'fetching', unit_scale=True
    ) as bar,
    concurrent.futures.ThreadPoolExecutor(jobs) as pool,
  ):
    try:
      futures = [
        pool.submit(
          download.fetch_file,
          source,
          folder,
          file,
          share,
          bar.update,
          stop,
          is_array=not file.startswith(_OPTIONAL),
        )
        for file, share, _ in plan
      ]
      for future in concurrent.futures.as_completed(futures):
        future.result()
    except BaseException:
      stop.set()
      pool.shutdown(cancel_futures=True)
      raise


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
  """Makes SIGTERM what Ctrl-C is, if this is the main thread."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _megabytes(size: float) -> str:
  return f'{size / 1e6:,.0f} MB'
