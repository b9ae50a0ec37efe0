"""A split on disk and in memory: compressed frames, plain arrays for the rest.

A store is a folder:

- `frames.zst`: the split's frames in order, every FRAMES_PER_BLOCK of them one
  zstd block, so that any few consecutive frames cost one to three small blocks;
- `dictionary.npy`: uint8 (D, 84, 84), frames every block is compressed against,
  so that small blocks need not repeat the game's background;
- `frame_offsets.npy`: uint64 (blocks + 1,), where each block begins;
- `actions.npy`, `rewards.npy`, `terminals.npy`: (R,) arrays; a terminal is 1,
  or `episodes.CUT_OFF` where a game ended without being over;
- `drawn.npy`: bool (R,), rows that may be sampled if they are valid;
- `manifest.json`: format version, game, run, split, the rows of every shard,
  sizes and checksums of the sources, checksums of the files above.

It is written under a temporary name and renamed when whole.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import threading

import numpy as np
import zstandard
from isal import isal_zlib

from cql_atari.core.errors import UserError
from cql_atari.replay import episodes
from cql_atari.replay.frames import (
  FRAME_BYTES,
  FRAME_SHAPE,
  STACK_SIZE,
  stack_frames,
  zstd_dictionary,
)
from cql_atari.replay.split import Split

FORMAT_VERSION = 6
FRAMES_PER_BLOCK = 4
_ROWS_AT_ONCE = 1024
_WINDOWS_AT_ONCE = 32  # More would not fit a core's cache.
_PIECE = 1 << 24  # Entries of an array that are checked at a time.
COMPRESSION_LEVEL = 9  # Decompresses fastest, for it leaves the least to do.
COLUMNS = ('actions', 'rewards', 'terminals', 'drawn')
_ARRAYS = (*COLUMNS, 'frame_offsets', 'dictionary')
_NAMED_BY = ('game', 'num_actions', 'split', 'sha256_of_columns')


@dataclasses.dataclass(frozen=True, repr=False)
class Store:
  """A split's rows, ready for sampling.

  Attributes:
    manifest: what the store holds and where it came from.
    actions: uint8 (R,).
    rewards: float32 (R,), clipped as stored.
    terminals: uint8 (R,), 1 where the game was over, `episodes.CUT_OFF` where
      it ended all the same.
    drawn: bool (R,), rows the split allows to be sampled.
    blocks: uint8, the compressed frames, one block after another.
    frame_offsets: uint64 (blocks + 1,), where each block begins.
    dictionary: uint8 (D, 84, 84), frames the blocks are compressed against.
    frames: uint8 (R, 84, 84), the frames as they are; None where they are only
      held compressed.
    record: its fields in run.json.
  """

  manifest: dict
  actions: np.ndarray
  rewards: np.ndarray
  terminals: np.ndarray
  drawn: np.ndarray
  blocks: np.ndarray
  frame_offsets: np.ndarray
  dictionary: np.ndarray
  frames: np.ndarray | None = None
  record: dict = dataclasses.field(default_factory=dict)
  _local: threading.local = dataclasses.field(default_factory=threading.local)

  @classmethod
  def load(cls, directory: str | os.PathLike) -> 'Store':
    """Opens a store, mapped: the operating system reads what is sampled.

    It keeps one copy for all processes on the machine.

    Args:
      directory: the store's folder.

    Raises:
      UserError: the folder is no store, or its files are not as they were
        written; every byte is read for that.
    """
    directory = pathlib.Path(directory)
    try:
      manifest = json.loads((directory / 'manifest.json').read_text())
      arrays = {
        name: np.load(
          directory / f'{name}.npy', mmap_mode='r', allow_pickle=False
        )
        for name in _ARRAYS
      }
      blocks = np.memmap(directory / 'frames.zst', np.uint8, 'r')
      sizes = {len(arrays[name]) for name in COLUMNS}
      if sizes != {manifest['num_rows']} or (
        len(blocks) != arrays['frame_offsets'][-1]
        or segments_of(manifest['shards'])[-1, 1] != manifest['num_rows']
      ):
        raise ValueError('its files do not fit together')
      sums = checksums(blocks, arrays)
      if sums != {name: manifest[name] for name in sums}:
        raise ValueError('its contents have changed')
    except (OSError, LookupError, ValueError, TypeError, EOFError) as error:
      raise UserError(
        f'the store {directory} is damaged ({error!r}): delete it. Training '
        'builds it again, or cql_atari.prepare where that made it.'
      ) from None
    return cls(manifest, blocks=blocks, **arrays)

  @property
  def digest(self) -> str:
    """SHA-256 that names exactly what was trained on.

    The same rows have the same one after a fetch of more of the run.
    """
    named = {name: self.manifest[name] for name in _NAMED_BY}
    named['shards'] = [
      {key: value for key, value in shard.items() if key != 'files'}
      for shard in self.manifest['shards']
    ]
    text = json.dumps(named, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

  def __repr__(self) -> str:
    return f'<Store: {self.manifest["game"]}, {self.label}>'

  @property
  def label(self) -> str:
    """The share of the run, such as '1 %' or 'first 20 %'."""
    return Split(**self.manifest['split']).label

  @property
  def is_published(self) -> bool:
    """Whether it is of the dataset, and not of a recording of one's own."""
    return not self.manifest['is_own']

  @property
  def action_size(self) -> int:
    """The number of actions in every state."""
    return self.manifest['num_actions']

  @property
  def largest(self) -> dict[str, float]:
    """The greatest size of its numbers, by name."""
    return {'rewards': float(np.abs(self.rewards).max())}

  @property
  def nbytes(self) -> int:
    """Bytes of all arrays: what a store in memory takes."""
    arrays = [getattr(self, name) for name in (*_ARRAYS, 'blocks', 'frames')]
    return sum(array.nbytes for array in arrays if array is not None)

  @functools.cached_property
  def segments(self) -> np.ndarray:
    """int64 (S, 2): [start, stop) runs of rows that were adjacent in play."""
    return segments_of(self.manifest['shards'])

  @functools.cached_property
  def episode_starts(self) -> np.ndarray:
    """int64 (G,): rows of first frames of games, as far as they are known."""
    ends = np.flatnonzero(self.terminals)
    begins = ends[self._are_of_one_segment(ends, ends + 1)] + 1
    if self.manifest['split']['convention'] == 'trajectories':
      # Whole episodes were drawn, so every segment begins with one.
      begins = np.union1d(begins, self.segments[:, 0])
    first = self.manifest['shards'][0]
    if (first['shard'], first['rows'][0][0]) == (0, 0):  # So the run begins.
      begins = np.union1d(begins, [0])
    starts = begins + STACK_SIZE - 1  # After the padding.
    return starts[self._are_of_one_segment(begins, starts)]

  def _are_of_one_segment(self, rows, later_rows) -> np.ndarray:
    """Whether all from a row to a later one followed in play, (N,)."""
    segment, later = (
      np.searchsorted(self.segments[:, 0], r, side='right')
      for r in (rows, later_rows)
    )
    return (segment == later) & (later_rows < len(self.terminals))

  def valid_transitions(self, update_horizon: int = 1) -> np.ndarray:
    """Every store row that is a valid transition of the split.

    Args:
      update_horizon: n of the n-step return.

    Returns:
      Sorted int64 row indices (V,).

    Raises:
      UserError: the split kept too few rows for so long a return, or has no
        valid transition.
    """
    split = self.manifest['split']
    if (
      split['convention'] != 'prefix'
      and update_horizon > split['update_horizon']
    ):
      raise UserError(
        f'update_horizon {update_horizon} needs rows that this split left '
        f'out: bind Split.update_horizon={update_horizon}.'
      )
    valid = [
      start + episodes.valid_rows(self.terminals[start:stop], update_horizon)
      for start, stop in self.segments
    ]
    rows = np.concatenate(valid)
    rows = rows[self.drawn[rows]]
    if not len(rows):
      raise UserError(
        'the split holds no valid transition: ask for a larger one.'
      )
    return rows

  def read_frames(
    self, first_rows: np.ndarray, length: int, out: np.ndarray | None = None
  ) -> np.ndarray:
    """Decompresses windows of consecutive frames. Safe to call from threads.

    Args:
      first_rows: (B,) first store row of each window.
      length: frames in a window.
      out: uint8 (B, length, 84, 84) to be filled; new memory by default.

    Returns:
      uint8 (B, length, 84, 84): `out`, if it was given.

    Raises:
      UserError: the compressed frames are damaged.
    """
    if self.frames is not None:
      rows = first_rows[:, None] + np.arange(length)
      # All are in range; to make sure of it would take another copy.
      return self.frames.take(rows, axis=0, out=out, mode='clip')
    if out is None:
      out = np.empty((len(first_rows), length, *FRAME_SHAPE), np.uint8)
    try:
      for start in range(0, len(out), _WINDOWS_AT_ONCE):
        part = slice(start, start + _WINDOWS_AT_ONCE)
        self._decompress(first_rows[part], out[part])
    except (zstandard.ZstdError, ValueError) as error:
      raise UserError(
        f'the frames of the store of {self.manifest["game"]} are damaged '
        f'({error}): delete it and give the same command again.'
      ) from None
    return out

  def in_memory(self) -> 'Store':
    """The same, read into memory."""
    arrays = {
      name: np.array(getattr(self, name)) for name in (*_ARRAYS, 'blocks')
    }
    return dataclasses.replace(self, **arrays)

  def decompressed(self) -> 'Store':
    """The same with its frames as they are in memory, 7,056 bytes each."""
    frames = np.empty((len(self.actions), *FRAME_SHAPE), np.uint8)
    for start in range(0, len(frames), _ROWS_AT_ONCE):
      part = frames[start : start + _ROWS_AT_ONCE]
      self.read_frames(np.array([start]), len(part), out=part[None])
    return dataclasses.replace(self, frames=frames)

  def _decompress(self, first_rows: np.ndarray, out: np.ndarray) -> None:
    """Fills windows (B, length, 84, 84)."""
    length = out.shape[1]
    first_blocks, skipped = np.divmod(first_rows, FRAMES_PER_BLOCK)
    count = -(-(length + FRAMES_PER_BLOCK - 1) // FRAMES_PER_BLOCK)
    numbers = np.minimum(
      first_blocks[:, None] + np.arange(count), len(self.frame_offsets) - 2
    ).ravel()
    starts = self.frame_offsets[numbers]
    segments = np.stack([starts, self.frame_offsets[numbers + 1] - starts], 1)
    # One call for all, so that threads rarely wait for Python's lock.
    blocks = self._decompressor().multi_decompress_to_buffer(
      zstandard.BufferWithSegments(self.blocks, segments.tobytes()), threads=1
    )
    target, window = memoryview(out.reshape(-1)), length * FRAME_BYTES
    for index, skip in enumerate((skipped * FRAME_BYTES).tolist()):
      position, end = index * window, (index + 1) * window
      for number in range(index * count, (index + 1) * count):
        piece = memoryview(blocks[number])[skip : skip + end - position]
        target[position : position + len(piece)] = piece
        position, skip = position + len(piece), 0

  def _decompressor(self) -> zstandard.ZstdDecompressor:
    if not hasattr(self._local, 'decompressor'):
      self._local.decompressor = zstandard.ZstdDecompressor(
        zstd_dictionary(self.dictionary)
      )
    return self._local.decompressor

  def sample_states(self, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random states of valid transitions, uint8 (count, 84, 84, 4)."""
    return self._states(rng.choice(self.valid_transitions(), count))

  def initial_states(self, most: int) -> np.ndarray:
    """States that games begin in, (G, 84, 84, 4): `most` at most."""
    starts = np.intersect1d(self.episode_starts, self.valid_transitions())
    return self._states(starts[:most])

  def _states(self, rows: np.ndarray) -> np.ndarray:
    if not len(rows):
      return np.zeros((0, *FRAME_SHAPE, STACK_SIZE), np.uint8)
    return stack_frames(self.read_frames(rows - (STACK_SIZE - 1), STACK_SIZE))

  def learned_rewards(self, rewards: np.ndarray) -> np.ndarray:
    """A game's rewards, clipped as the data's are."""
    return np.clip(rewards, -1.0, 1.0)

  def discounted_return(self, gamma: float) -> float | None:
    """The mean discounted return-to-go of the data's actions.

    Over every step of the games that are whole in the store; rewards as stored,
    clipped.

    Args:
      gamma: discount per step.

    Returns:
      The mean, or None without a whole game.
    """
    starts, ends = self.episode_starts, np.flatnonzero(self.terminals)
    nexts = np.searchsorted(ends, starts)
    ends = np.append(ends, len(self.terminals))[nexts]
    is_whole = self._are_of_one_segment(starts, ends)
    is_whole &= np.append(self.terminals, 0)[ends] == 1  # Not cut off.
    total, steps = 0.0, 0
    for first, last in zip(starts[is_whole], ends[is_whole]):
      rewards = self.rewards[first : last + 1]
      total += episodes.summed_returns(rewards, gamma)
      steps += len(rewards)
    return total / steps if steps else None


def checksums(
  blocks: np.ndarray, arrays: dict[str, np.ndarray]
) -> dict[str, str | int]:
  """The manifest's entries that tell a changed store.

  Args:
    blocks: the compressed frames.
    arrays: the others, by name.
  """
  digest = hashlib.sha256()
  for name in COLUMNS:
    digest.update(np.ascontiguousarray(arrays[name]))
  crc = 0
  for array in (blocks, arrays['frame_offsets'], arrays['dictionary']):
    for start in range(0, len(array), _PIECE):
      crc = isal_zlib.crc32(
        np.ascontiguousarray(array[start : start + _PIECE]), crc
      )
  return {'sha256_of_columns': digest.hexdigest(), 'crc32_of_frames': crc}


def segments_of(shards: list[dict]) -> np.ndarray:
  """[start, stop) runs of store rows that were adjacent in play.

  Args:
    shards: the manifest's entries: `rows`, [start, stop) runs in the order they
      are stored, and whether the first of them is `stitched`: then it continues
      the shard before, and the second run continues the first.

  Returns:
    Sorted int64 (S, 2).
  """
  segments, row = [], 0
  for shard in shards:
    for position, (start, stop) in enumerate(shard['rows']):
      if shard['stitched'] and position < 2:
        segments[-1][1] += stop - start
      else:
        segments.append([row, row + stop - start])
      row += stop - start
  return np.array(segments, np.int64)
