"""Builds the store of a split from its shards.

Every shard is compressed by a thread of its own into a part of the store, so
that what is done when the process is killed stays done. Only a few frames on
either side of a shard's border share a block with its neighbour: a part keeps
those as they are, and they are compressed when the parts are joined.
"""

import concurrent.futures
import hashlib
import json
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator

import numpy as np
import zstandard

from cql_atari.core import devices, fetched, progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import atomic_file, locked, sync, writing
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import shard_folder, summary
from cql_atari.replay import split as split_lib
from cql_atari.replay.frames import FRAME_SHAPE, zstd_dictionary
from cql_atari.replay.store import (
  COLUMNS,
  COMPRESSION_LEVEL,
  FORMAT_VERSION,
  FRAMES_PER_BLOCK,
  checksums,
)

_DICTIONARY_FRAMES = 256
_PEEKED = 512  # Rows read of a shard for the dictionary.


def build_store(
  directory: pathlib.Path,
  key: str,
  selection: list[split_lib.ShardRows],
  split: split_lib.Split,
  game: str,
  run: str,
  num_actions: int,
) -> None:
  """Compresses the rows of a split into a store, in one streaming pass.

  Uses every core, some 50 MB of memory for each and 40 bytes for each row, and
  twice the store's size on disk while it works. A build that was killed goes on
  from the shards it had finished; one that another process is busy with is
  waited for.

  Args:
    directory: the store's folder; it appears there only when whole.
    key: hash of sources and settings: finished parts are reused under the same.
    selection: the rows, from `Split.select`.
    split: what selected them, for the manifest.
    game: for the manifest.
    run: for the manifest.
    num_actions: size of the game's action set; data outside it is refused.

  Raises:
    UserError: broken data, or a disk that is full or can't be written.
  """
  partial = directory.with_name(f'.building-{directory.name}-{key}')
  lock = directory.with_name(f'.{directory.name}.lock')
  with writing(
    f'the store {directory}',
    'make room, or choose another folder (open_store.cache_dir, or --out of '
    'prepare)',
  ):
    partial.mkdir(parents=True, exist_ok=True)
    with locked(
      lock, f'Waiting for another process to build {directory}.', wait=True
    ):
      if not directory.is_dir():
        partial.mkdir(exist_ok=True)  # The other process may have failed.
        try:
          _write_store(partial, selection, split, game, run, num_actions)
          partial.rename(directory)
        except (UserError, OSError):
          shutil.rmtree(partial, ignore_errors=True)
          raise
      shutil.rmtree(partial, ignore_errors=True)
      lock.unlink(missing_ok=True)  # Whoever waits for it finds the store.


def _check_beginnings(selection: list[split_lib.ShardRows]) -> None:
  """Compares files of which a fetch brought the first rows with its record.

  What gzip would compare is at the end of the whole file.
  """
  record = fetched.read(selection[0].shard.directory) or {}
  for rows in selection:
    if rows.shard.fetched_rows(record) is not None:
      for path in rows.shard.sources:
        fetched.check(path, record)


def _write_store(directory, selection, split, game, run, num_actions):
  _check_beginnings(selection)
  followed = [rows.stitch is not None for rows in selection[1:]] + [False]
  parts = [
    _small_arrays(rows, follows, num_actions)
    for rows, follows in zip(selection, followed)
  ]
  columns = {
    name: np.concatenate([part[name] for part in parts]) for name in COLUMNS
  }
  columns['dictionary'] = _typical_frames(selection)
  dictionary = zstd_dictionary(columns['dictionary'])
  dictionary.precompute_compress(level=COMPRESSION_LEVEL)
  first_rows = np.cumsum([0] + [rows.num_rows for rows in selection])
  with progress.bar(
    int(first_rows[-1]), ' rows', 'building the store', unit_scale=True
  ) as bar:
    _compress_shards(directory, selection, first_rows, dictionary, bar.update)
  compressor = zstandard.ZstdCompressor(COMPRESSION_LEVEL, dictionary)
  columns['frame_offsets'], digests = _join_parts(
    directory, selection, first_rows, compressor
  )
  for name, array in columns.items():
    np.save(directory / f'{name}.npy', array, allow_pickle=False)
  shards = [
    {**rows.record, 'sha256_of_frames': digest}
    for rows, digest in zip(selection, digests)
  ]
  blocks = np.memmap(directory / 'frames.zst', np.uint8, 'r')
  manifest = {
    'format_version': FORMAT_VERSION,
    'game': game,
    'run': run,
    'num_actions': num_actions,
    'is_own': shard_folder.is_own(selection[0].shard.directory),
    'split': split.record,
    'num_rows': int(first_rows[-1]),
    **checksums(blocks, columns),
    'transitions_gained_by_stitching': summary.gained(
      selection, columns, shards
    ),
    'behavior_return': summary.behavior_return(
      selection, columns, shards, split
    ),
    'shards': shards,
  }
  (directory / 'manifest.json').write_text(json.dumps(manifest, indent=1))
  # Parts, and what a kill left of one.
  for path in (*directory.glob('shard-*'), *directory.glob('.*')):
    path.unlink()


def _small_arrays(
  rows: split_lib.ShardRows, followed: bool, num_actions: int
) -> dict:
  """Everything but the frames of the chosen rows of one shard, checked."""
  shard, stop = rows.shard, int(rows.ranges_in_play_order[:, 1].max())
  actions, rewards, terminals = (
    shard.read(name, stop) for name in shard_lib.ELEMENTS[1:]
  )
  for start, end in rows.ranges_in_play_order:
    run = slice(start, end)
    shard_lib.check_rows(
      shard, start, actions[run], rewards[run], terminals[run], num_actions
    )
  drawn = np.full(stop, rows.transitions is None)
  if rows.transitions is not None:
    drawn[rows.transitions] = True
  # Dopamine never samples near its buffer's cursor, where the newest
  # transitions meet the oldest.
  invalid = shard.invalid_range
  after = (invalid - shard.add_count) % shard.capacity < len(invalid)
  if rows.stitch is not None:
    invalid, after = invalid[~after], after[~after]
  if followed:
    invalid = invalid[after]
  drawn[invalid[invalid < stop]] = False
  columns = {
    'actions': actions.astype(np.uint8),
    'rewards': rewards.astype(np.float32),
    'terminals': shard.endings(stop),
    'drawn': drawn,
  }
  return {
    name: np.concatenate([column[a:b] for a, b in rows.ranges_in_play_order])
    for name, column in columns.items()
  }


def _typical_frames(selection: list[split_lib.ShardRows]) -> np.ndarray:
  """Frames from the beginning of shards all over the split: (D, 84, 84)."""
  picked = np.linspace(0, len(selection) - 1, _DICTIONARY_FRAMES).astype(int)
  frames = []
  for position, count in zip(*np.unique(picked, return_counts=True)):
    rows = selection[position]
    some = next(rows.shard.frames(min(_PEEKED, int(rows.ranges[-1, 1]))))
    frames.append(
      some[np.linspace(0, len(some) - 1, count + 1).astype(int)[1:]]
    )
  return np.concatenate(frames)


def _compressed(
  frames: np.ndarray, compressor: zstandard.ZstdCompressor
) -> list[bytes]:
  """One block for every FRAMES_PER_BLOCK of the frames (F, 84, 84)."""
  return [
    compressor.compress(frames[i : i + FRAMES_PER_BLOCK].tobytes())
    for i in range(0, len(frames), FRAMES_PER_BLOCK)
  ]


def _compress_shards(directory, selection, first_rows, dictionary, on_rows):
  """Makes the parts that are not there yet, a thread a shard."""
  stop = threading.Event()

  def work(rows, first):
    try:
      if _part(directory, rows, 'npz').is_file():
        on_rows(rows.num_rows)
      elif not stop.is_set():
        compressor = zstandard.ZstdCompressor(COMPRESSION_LEVEL, dictionary)
        _compress_shard(directory, rows, first, compressor, on_rows, stop)
    except BaseException:
      stop.set()
      raise

  with concurrent.futures.ThreadPoolExecutor(devices.cores()) as pool:
    futures = [
      pool.submit(work, rows, int(first))
      for rows, first in zip(selection, first_rows)
    ]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
    finally:
      stop.set()


def _part(directory, rows, kind) -> pathlib.Path:
  return directory / f'shard-{rows.shard.index}.{kind}'


def _compress_shard(
  directory: pathlib.Path,
  rows: split_lib.ShardRows,
  first_row: int,
  compressor: zstandard.ZstdCompressor,
  on_rows: Callable[[int], None],
  stop: threading.Event,
) -> None:
  """Writes one shard's part: whole blocks, and the frames at its borders."""
  stitched = rows.num_rows - int(np.diff(rows.ranges).sum())
  # Stitched frames come first in the store and last in the file.
  begin = -(-(first_row + stitched) // FRAMES_PER_BLOCK) * FRAMES_PER_BLOCK
  end = (first_row + rows.num_rows) // FRAMES_PER_BLOCK * FRAMES_PER_BLOCK
  digest, sizes = hashlib.sha256(), []
  held = np.zeros((0, *FRAME_SHAPE), np.uint8)
  border_rows, border_frames = [], [held]
  with open(_part(directory, rows, 'zst'), 'wb') as file:
    for row, frames in _placed_frames(rows, first_row):
      if stop.is_set():
        return
      digest.update(frames)
      places = np.arange(row, row + len(frames))
      inside = (places >= begin) & (places < end)
      border_rows.extend(places[~inside].tolist())
      border_frames.append(frames[~inside])
      held = np.concatenate([held, frames[inside]])
      whole = len(held) - len(held) % FRAMES_PER_BLOCK
      for block in _compressed(held[:whole], compressor):
        file.write(block)
        sizes.append(len(block))
      held = held[whole:]
      on_rows(len(frames))
  sync(_part(directory, rows, 'zst'))
  with atomic_file(_part(directory, rows, 'npz')) as file:
    np.savez(
      file,
      sizes=np.array(sizes, np.uint32),
      border_rows=np.array(border_rows, np.int64),
      border_frames=np.concatenate(border_frames),
      digest=np.frombuffer(digest.digest(), np.uint8),
    )


def _placed_frames(
  rows: split_lib.ShardRows, first_row: int
) -> Iterator[tuple[int, np.ndarray]]:
  """Streams a shard's chosen frames, each piece with its first store row."""
  runs, row = rows.ranges_in_play_order, 0
  store_stops = first_row + np.cumsum(runs[:, 1] - runs[:, 0])
  order = np.argsort(runs[:, 0])  # In the file, stitched rows come last.
  starts, stops = runs[order].T
  for frames in rows.shard.frames(int(stops[-1])):
    end = row + len(frames)
    first = np.searchsorted(stops, row, side='right')
    for index in np.sort(order[first : np.searchsorted(starts, end)]).tolist():
      start, stop = runs[index].tolist()
      begin = max(start, row)
      piece = frames[begin - row : stop - row]
      yield int(store_stops[index]) - (stop - begin), piece
    row = end


def _join_parts(
  directory, selection, first_rows, compressor
) -> tuple[np.ndarray, list[str]]:
  """Writes frames.zst from the parts; returns frame_offsets and digests."""
  sizes, digests, border = [], [], {}
  next_row = 0  # Of the block to be written next.
  with open(directory / 'frames.zst', 'wb') as file:

    def close_gap(stop: int) -> None:
      nonlocal next_row
      if next_row < stop:
        frames = np.stack([border.pop(row) for row in range(next_row, stop)])
        blocks = _compressed(frames, compressor)
        file.write(b''.join(blocks))
        sizes.append([len(block) for block in blocks])
        next_row = stop

    for rows in selection:
      with np.load(_part(directory, rows, 'npz'), allow_pickle=False) as part:
        border.update(zip(part['border_rows'].tolist(), part['border_frames']))
        inner = FRAMES_PER_BLOCK * len(part['sizes'])
        digests.append(part['digest'].tobytes().hex())
        if inner:
          start = next_row
          while start in border:
            start += 1
          close_gap(start)
          sizes.append(part['sizes'])
          with open(_part(directory, rows, 'zst'), 'rb') as blocks:
            shutil.copyfileobj(blocks, file, 1 << 20)
          next_row += inner
    close_gap(int(first_rows[-1]))
  sync(directory / 'frames.zst')
  offsets = np.cumsum(np.concatenate([[0], *sizes]), dtype=np.uint64)
  return offsets, digests
