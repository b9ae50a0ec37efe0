"""Builds the store of a split from its shards, once, and opens it."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import threading
from collections.abc import Iterator

import gin
import numpy as np
import tqdm
import zstandard

from cql_atari.errors import UserError
from cql_atari.replay import replay_logs
from cql_atari.replay import rows as rows_lib
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import split as split_lib
from cql_atari.replay.store import (
  COLUMNS,
  COMPRESSION_LEVEL,
  FORMAT_VERSION,
  FRAMES_PER_BLOCK,
  Store,
  zstd_dictionary,
)

_DICTIONARY_FRAMES = 256
_PEEKED = 512  # Rows read of a shard for the dictionary.


@gin.configurable
def open_store(
  replay_dir: str | None,
  game: str,
  num_actions: int,
  split: split_lib.Split | None = None,
  cache_dir: str | None = None,
) -> Store:
  """The store of a split: reused when it is there, built when it is not.

  Args:
    replay_dir: a run's folder (with `replay_logs`), or `replay_logs` itself.
    game: the game's name, such as 'Pong'.
    num_actions: size of its action set; data outside it is refused.
    split: which rows; by default the one gin describes.
    cache_dir: where stores are kept; `cql_atari` in the user's cache folder by
      default.

  Returns:
    The store, in memory.

  Raises:
    UserError: missing or broken data, data of another game, or a full disk.
  """
  if replay_dir is None or not os.path.isdir(os.path.expanduser(replay_dir)):
    raise UserError(
      (
        f'there is no replay folder {replay_dir}'
        if replay_dir
        else f'no replay data of {game} was given'
      )
      + ': download a run with "gsutil -m cp -r '
      f'gs://atari-replay-datasets/dqn/{game}/1/replay_logs DIR/" and pass '
      '--replay_dir=DIR, or try the built-in data with '
      '--gin_files=cql_demo.gin.'
    )
  split = split or split_lib.Split()
  folder = replay_logs.find_replay_logs(replay_dir)
  run = folder.parent if folder.name == 'replay_logs' else folder
  _check_game(run.resolve(), game)
  selection = split.select(folder)
  sources = [
    [
      (path.name, path.stat().st_size, path.stat().st_mtime_ns)
      for path in rows.shard.sources
    ]
    for rows in selection
  ]
  key = hashlib.sha256(
    json.dumps(
      [
        FORMAT_VERSION,
        game,
        dataclasses.astuple(split),
        str(run.resolve()),
        sources,
      ]
    ).encode()
  ).hexdigest()
  cache = pathlib.Path(cache_dir or _default_cache()).expanduser()
  directory = cache / f'{game}-{run.name}-{split.convention}-{key[:16]}'
  if not directory.is_dir():
    build_store(directory, selection, split, game, run.name, num_actions)
  return Store.load(directory)


def _check_game(run: pathlib.Path, game: str) -> None:
  """Compares the game with the published layout, {Game}/{run}/replay_logs."""
  folder = run.parent.name
  if run.name.isdigit() and folder[:1].isupper() and folder != game:
    raise UserError(
      f'{run} holds play of {folder}, but the game is {game}: add '
      f'--gin_bindings="GAME=\'{folder}\'", or give another --replay_dir.'
    )


def _default_cache() -> str:
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return os.path.join(cache, 'cql_atari', 'stores')


def build_store(
  directory: pathlib.Path,
  selection: list[split_lib.ShardRows],
  split: split_lib.Split,
  game: str,
  run: str,
  num_actions: int,
) -> None:
  """Compresses the rows of a split into a store, in one streaming pass.

  Args:
    directory: the store's folder; it appears there only when whole.
    selection: the rows, from `Split.select`.
    split: what selected them, for the manifest.
    game: for the manifest.
    run: for the manifest.
    num_actions: size of the game's action set; data outside it is refused.

  Raises:
    UserError: broken data, or a disk that is full or can't be written.
  """
  try:
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = tempfile.mkdtemp(prefix='.building-', dir=directory.parent)
    try:
      _write_store(
        pathlib.Path(partial), selection, split, game, run, num_actions
      )
      os.chmod(partial, 0o755)
      with contextlib.suppress(OSError):  # Another process was faster.
        os.rename(partial, directory)
    finally:
      shutil.rmtree(partial, ignore_errors=True)
  except OSError as error:
    raise UserError(
      f'the store {directory} cannot be written ({error.strerror}): make room, '
      'or bind open_store.cache_dir to a folder that has it.'
    ) from None


def _write_store(directory, selection, split, game, run, num_actions):
  parts = [_small_arrays(rows, num_actions) for rows in selection]
  columns = {
    name: np.concatenate(values)
    for name, values in (
      (key, [part[key] for part in parts]) for key in COLUMNS
    )
  }
  digests = [hashlib.sha256() for _ in selection]
  for digest, part in zip(digests, parts):
    for name in COLUMNS[:-1]:
      digest.update(part[name].tobytes())
  num_rows = len(columns['actions'])
  columns['dictionary'] = dictionary = _typical_frames(selection)
  offsets = [0]
  with open(directory / 'frames.zst', 'wb') as file:
    for block in _compressed_blocks(selection, dictionary, digests, num_rows):
      file.write(block)
      offsets.append(offsets[-1] + len(block))
  columns['frame_offsets'] = np.array(offsets, np.uint64)
  for name, array in columns.items():
    np.save(directory / f'{name}.npy', array, allow_pickle=False)
  manifest = {
    'format_version': FORMAT_VERSION,
    'game': game,
    'run': run,
    'num_actions': num_actions,
    'split': dataclasses.asdict(split),
    'num_rows': num_rows,
    'behavior_return': _behavior_return(selection, parts),
    'shards': [
      {
        'shard': rows.shard.index,
        'rows': rows.ranges.tolist(),
        'files': {
          path.name: path.stat().st_size for path in rows.shard.sources
        },
        'sha256_of_rows': digest.hexdigest(),
      }
      for rows, digest in zip(selection, digests)
    ],
  }
  text = json.dumps(manifest, indent=1)
  (directory / 'manifest.json').write_text(text)


def _small_arrays(rows: split_lib.ShardRows, num_actions: int | None) -> dict:
  """Everything but the frames of the chosen rows of one shard, checked."""
  shard, stop = rows.shard, int(rows.ranges[-1, 1])
  actions, rewards, terminals = (
    shard.read(name, stop) for name in shard_lib.ELEMENTS[1:]
  )
  shard_lib.check_rows(shard, 0, actions, rewards, terminals, num_actions)
  drawn = np.full(stop, rows.transitions is None)
  if rows.transitions is not None:
    drawn[rows.transitions] = True
  drawn[shard.invalid_range[shard.invalid_range < stop]] = False
  columns = {
    'actions': actions.astype(np.uint8),
    'rewards': rewards.astype(np.float32),
    'terminals': terminals.astype(np.uint8),
    'drawn': drawn,
  }
  return {
    name: np.concatenate([column[a:b] for a, b in rows.ranges])
    for name, column in columns.items()
  }


def _typical_frames(selection: list[split_lib.ShardRows]) -> np.ndarray:
  """Frames from the beginning of shards all over the split: (D, 84, 84)."""
  picked = np.linspace(0, len(selection) - 1, _DICTIONARY_FRAMES).astype(int)
  frames = []
  for position, count in zip(*np.unique(picked, return_counts=True)):
    rows = selection[position]
    some = next(rows.shard.frames(stop=min(_PEEKED, int(rows.ranges[-1, 1]))))
    frames.append(
      some[np.linspace(0, len(some) - 1, count + 1).astype(int)[1:]]
    )
  return np.concatenate(frames)


def _compressed_blocks(
  selection, dictionary, digests, num_rows
) -> Iterator[bytes]:
  """Yields the split's frames as zstd blocks, with a progress bar.

  Decompressing shards, hashing and compressing release the GIL, so one thread
  reads ahead while a pool compresses what it read.
  """
  compressors = threading.local()
  shared = zstd_dictionary(dictionary)
  shared.precompute_compress(level=COMPRESSION_LEVEL)

  def compress(frames: np.ndarray) -> list[bytes]:
    if not hasattr(compressors, 'zstd'):
      compressors.zstd = zstandard.ZstdCompressor(COMPRESSION_LEVEL, shared)
    return [
      compressors.zstd.compress(frames[i : i + FRAMES_PER_BLOCK].tobytes())
      for i in range(0, len(frames), FRAMES_PER_BLOCK)
    ]

  with (
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    tqdm.tqdm(
      total=num_rows,
      unit=' rows',
      unit_scale=True,
      desc='building the store',
      leave=False,
      disable=None,
    ) as bar,
  ):
    pending = []
    for frames in _in_whole_blocks(_split_frames(selection, digests)):
      pending.append((len(frames), pool.submit(compress, frames)))
      if len(pending) > 2 * os.cpu_count():
        count, done = pending.pop(0)
        yield from done.result()
        bar.update(count)
    for count, done in pending:
      yield from done.result()
      bar.update(count)


def _split_frames(selection, digests) -> Iterator[np.ndarray]:
  """Streams the frames of the chosen rows, hashing them per shard."""
  for rows, digest in zip(selection, digests):
    row, ranges = 0, rows.ranges
    for frames in rows.shard.frames(stop=int(ranges[-1, 1])):
      end = row + len(frames)
      inside = (ranges[:, 0] < end) & (ranges[:, 1] > row)
      for start, stop in ranges[inside]:
        piece = frames[max(start - row, 0) : stop - row]
        digest.update(piece)
        yield piece
      row = end


def _in_whole_blocks(pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
  """Regroups pieces so that all but the last are whole blocks."""
  target, held, count = 128 * FRAMES_PER_BLOCK, [], 0
  for piece in pieces:
    held.append(piece)
    count += len(piece)
    if count >= target:
      frames = np.concatenate(held)
      whole = count - count % FRAMES_PER_BLOCK
      yield frames[:whole]
      held, count = [frames[whole:]], count - whole
  if count:
    yield np.concatenate(held)


def _behavior_return(selection, parts) -> dict | None:
  """Mean return of the data's games: raw where recorded, else clipped."""
  recorded = replay_logs.recorded_returns(selection[0].shard.directory)
  if recorded:
    source, returns = 'raw scores of the recorded games', recorded
  else:
    source, returns = 'clipped rewards of whole episodes in the split', []
    for rows, part in zip(selection, parts):
      if rows.transitions is not None:
        continue  # Single transitions are no episodes.
      row, fresh = 0, rows.shard.add_count <= rows.shard.capacity
      for start, stop in rows.ranges:
        segment = slice(row, row + stop - start)
        row = segment.stop
        returns.extend(
          rows_lib.episode_returns(
            part['terminals'][segment],
            part['rewards'][segment],
            from_start=fresh and start == 0,
          )
        )
  if not len(returns):
    return None
  return {
    'mean': float(np.mean(returns)),
    'episodes': len(returns),
    'source': source,
  }
