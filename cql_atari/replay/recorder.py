"""Writes play as a run in the published format."""

import collections
import contextlib
import json
import os
import pathlib
import pickle
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from isal import igzip

from cql_atari.core.errors import UserError
from cql_atari.core.files import sync, write_text
from cql_atari.replay.episodes import CUT_OFF
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE
from cql_atari.replay.npy_gz import ArrayReader, atomic_gzip
from cql_atari.replay.shard import Shard
from cql_atari.replay.shard_folder import EPISODES

NUM_SHARDS = 50  # Of a published run.
# Rows that come before an episode's first frame, so that it can be stacked.
PADDING_ROWS = STACK_SIZE - 1
_COMPRESSION_LEVEL = 2
_WRITTEN = re.compile(r'_ckpt\.\d+\.gz$|^\.observation\.\d+\.partial$')
_BLANK_ROWS = 1000  # Written at a time.

# Rows that follow one another: what reads their frames, which has to be called
# in order with numbers of rows, and their actions, rewards and endings.
_Part = tuple[Callable[[int], np.ndarray], list[np.ndarray]]


def check_steps(rows: int, num_shards: int) -> None:
  """Raises a UserError where so many rows do not fill so many shards."""
  if rows % num_shards or rows < 100 * num_shards:
    raise UserError(
      f'--steps={rows} do not fill {num_shards} shards: give a multiple of '
      f'{num_shards}, and at least {100 * num_shards}.'
    )


def write_shard(
  directory: str | os.PathLike,
  index: int,
  frames: Iterable[np.ndarray],
  actions: np.ndarray,
  rewards: np.ndarray,
  terminals: np.ndarray,
  add_count: int,
) -> Shard:
  """Writes one shard as Dopamine's replay buffer saves it, file by file.

  Args:
    directory: the `replay_logs` folder; made when missing.
    index: N of `ckpt.N`.
    frames: uint8 arrays of shape (any, 84, 84) that make up the rows in order.
    actions: (R,) integers.
    rewards: (R,) clipped rewards.
    terminals: (R,) 0/1 flags.
    add_count: rows added to the buffer so far; its remainder by R is the write
      cursor.

  Returns:
    The shard written.

  Raises:
    ValueError: the arrays differ in length.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  shard, capacity = Shard(directory, index), len(actions)
  if not len(actions) == len(rewards) == len(terminals):
    raise ValueError('actions, rewards and terminals differ in length')
  with atomic_gzip(shard.path('observation')) as file:
    _write_header(file, capacity)
    written = 0
    for rows in frames:
      file.write(np.ascontiguousarray(rows, np.uint8).data)
      written += len(rows)
    if written != capacity:
      raise ValueError(f'{written} frames for {capacity} actions')
  _write_columns(shard, actions, rewards, terminals, add_count)
  return shard


def _write_header(file, capacity: int) -> None:
  np.lib.format.write_array_header_1_0(
    file,
    {'descr': '|u1', 'fortran_order': False, 'shape': (capacity, *FRAME_SHAPE)},
  )


def _write_columns(shard, actions, rewards, terminals, add_count) -> None:
  offsets = np.arange(-1, STACK_SIZE)  # For 1-step returns, as published.
  arrays = {
    'action': np.asarray(actions, np.int32),
    'reward': np.asarray(rewards, np.float32),
    'terminal': np.asarray(terminals, np.uint8),
    'add_count': np.array(add_count),
    'invalid_range': (add_count + offsets) % len(actions),
  }
  for name, array in arrays.items():
    with atomic_gzip(shard.path(name)) as file:
      np.save(file, array, allow_pickle=False)


class Recorder:
  """Appends episodes to a run of shards, as the DQN Replay dataset has them.

  A shard appears when one row short of full: the buffer it stands for is saved
  before its last row is overwritten, so that row is stale there (zero in shard
  0, otherwise the row between the shard before and this one). Until then its
  frames grow in a hidden file, so little is kept in memory.

  Attributes:
    add_count: rows appended so far, padding included.
    episodes: of each episode appended, its raw 'return', its 'length', the
      'first_shard' that has rows of it, and whether it is 'complete'.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    rows_per_shard: int,
    num_shards: int,
    game: str | None = None,
  ):
    """Begins an empty run.

    Args:
      directory: the `replay_logs` folder; made when missing.
      rows_per_shard: rows of each shard, the stale one included.
      num_shards: shards of the whole run.
      game: what is played, for where the folder's path does not tell.
    """
    self._directory, self._game = pathlib.Path(directory), game
    self._directory.mkdir(parents=True, exist_ok=True)
    self._rows_per_shard, self._num_shards = rows_per_shard, num_shards
    self.add_count, self.episodes = 0, []
    self._columns = {
      'actions': np.zeros(rows_per_shard, np.int32),
      'rewards': np.zeros(rows_per_shard, np.float32),
      'terminals': np.zeros(rows_per_shard, np.uint8),
    }
    self._stale_frame = np.zeros(FRAME_SHAPE, np.uint8)
    self._cut_offs: list[int] = []  # Rows of the run that end a cut game.
    self._is_closed = False

  @property
  def total_rows(self) -> int:
    """Rows of the whole run."""
    return self._rows_per_shard * self._num_shards - 1

  @property
  def num_finished(self) -> int:
    """Shards that are whole."""
    return (self.add_count + 1) // self._rows_per_shard

  @property
  def is_full(self) -> bool:
    """Whether every shard is written."""
    return self.add_count >= self.total_rows

  def append(
    self,
    frames: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    is_over: bool,
  ) -> None:
    """Appends an episode, after its padding rows; what is too much is dropped.

    Args:
      frames: uint8 (T, 84, 84), each before its action.
      actions: integers (T,).
      rewards: (T,), raw; stored clipped to [-1, 1].
      is_over: whether the game was over after it, or else cut off.
    """
    if self._is_closed:
      raise ValueError('the run is closed: nothing can be appended to it')
    terminals = np.zeros(len(actions), np.uint8)
    terminals[-1] = is_over
    before, length = self.add_count, PADDING_ROWS + len(frames)
    if not is_over:
      self._cut_offs.append(before + length - 1)
    padding = PADDING_ROWS, 0
    columns = actions, np.clip(rewards, -1.0, 1.0), terminals
    self._append_rows(
      np.pad(frames, (padding, (0, 0), (0, 0))),
      [np.pad(column, padding) for column in columns],
    )
    self.episodes.append(
      {
        'return': float(np.sum(rewards)),
        'length': len(frames),
        'first_shard': before // self._rows_per_shard,
        'complete': self.add_count - before == length,
      }
    )

  def write_episodes(self) -> None:
    """Writes `episodes.json` beside the `replay_logs` folder."""
    path = self._directory.parent / EPISODES
    record = {'game': self._game, 'episodes': self.episodes}
    write_text(path, json.dumps(record))

  def _append_rows(self, frames, values) -> None:
    start, size = 0, self._rows_per_shard
    while start < len(frames) and not self.is_full:
      row = self.add_count % size
      stop = min(start + max(size - 1 - row, 1), len(frames))
      for column, new in zip(self._columns.values(), values):
        column[row : row + stop - start] = new[start:stop]
      if row == size - 1:  # It will be the next shard's stale row.
        self._stale_frame = frames[start].copy()
      else:
        self._write(frames[start:stop])
      self.add_count += stop - start
      if self.add_count % size == size - 1:
        self._end_shard()
      start = stop

  def _write(self, frames: np.ndarray) -> None:
    """Appends frames to the hidden file, as a gzip member of their own."""
    begins = not self.add_count % self._rows_per_shard
    with (
      open(self._partial, 'wb' if begins else 'ab') as raw,
      igzip.IGzipFile('', 'wb', _COMPRESSION_LEVEL, raw, mtime=0) as file,
    ):
      if begins:
        _write_header(file, self._rows_per_shard)
      file.write(np.ascontiguousarray(frames, np.uint8).data)

  def _end_shard(self) -> None:
    self._write(self._stale_frame[None])
    sync(self._partial)
    shard = self._shard
    self._write_cut_offs(shard)
    _write_columns(shard, *self._columns.values(), self.add_count)
    os.replace(self._partial, shard.path('observation'))

  def _write_cut_offs(self, shard: Shard) -> None:
    """As Dopamine does, without games that are over: terminals say those."""
    size = self._rows_per_shard
    # The row before its first is its last one.
    rows = {row % size for row in self._cut_offs if row < self.add_count}
    self._cut_offs = [row for row in self._cut_offs if row >= self.add_count]
    if rows:
      with atomic_gzip(shard.path('episode_end_indices')) as file:
        pickle.dump(rows, file)

  def close(self) -> None:
    """Ends a run that is not full, whose last shard is full in part alone.

    A padding row, as the next game would begin with, comes after the last game:
    a buffer's newest row is never sampled, and it would be that game's end.
    """
    if self.add_count and not self._is_closed:
      frame = np.zeros((1, *FRAME_SHAPE), np.uint8)
      self._append_rows(frame, np.zeros((len(self._columns), 1)))
    has_partial, self._is_closed = self._has_partial, True
    if not has_partial:
      return
    size = self._rows_per_shard
    blank = size - 1 - self.add_count % size
    for column in self._columns.values():
      column[size - 1 - blank : size - 1] = 0
    for first in range(0, blank, _BLANK_ROWS):
      rows = min(_BLANK_ROWS, blank - first)
      self._write(np.zeros((rows, *FRAME_SHAPE), np.uint8))
    self._end_shard()

  # --- Saving. ---

  def state(self) -> tuple[dict[str, np.ndarray], dict]:
    """The state beside the files: arrays, and JSON-compatible data."""
    data = {
      'add_count': self.add_count,
      'episodes': self.episodes,
      'cut_offs': self._cut_offs,
    }
    if self._has_partial:
      sync(self._partial)
      data['partial_bytes'] = self._partial.stat().st_size
    return {'stale_frame': self._stale_frame, **self._columns}, data

  def load_state(self, arrays: dict[str, np.ndarray], data: dict) -> None:
    """Goes back to what `state` gave; what was written later is deleted."""
    self.add_count = data['add_count']
    self.episodes = data['episodes']
    self._stale_frame = arrays['stale_frame']
    self._cut_offs = data['cut_offs']
    self._columns = {name: arrays[name] for name in self._columns}
    keep = {self._partial} if self._has_partial else set()
    if keep:
      if not self._partial.exists():  # The shard was finished since.
        os.replace(self._shard.path('observation'), self._partial)
      os.truncate(self._partial, data['partial_bytes'])
    for index in range(self.num_finished):
      keep.update(Shard(self._directory, index).sources)
    for path in self._directory.iterdir():
      if path not in keep and _WRITTEN.search(path.name):
        path.unlink()

  def newest_episodes(self, rows: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The newest episodes, read back.

    Args:
      rows: only the shards that the newest so many rows reach into.

    Yields:
      Tuples of frames, actions, clipped rewards and terminals, oldest first;
      the last terminal of a game that was cut off is `episodes.CUT_OFF`.
    """
    first = max(self.add_count - rows, 0) // self._rows_per_shard
    yield from _whole_episodes(self._parts(first), from_start=first == 0)

  def _parts(self, first: int) -> Iterator[_Part]:
    """All play from a shard on, one part after another."""
    size = self._rows_per_shard
    for index in range(first, self.num_finished):
      shard = Shard(self._directory, index)
      columns = [
        shard.read('action', size),
        shard.read('reward', size),
        shard.endings(size),
      ]
      if index:  # The row before its first stands behind its last.
        last = collections.deque(shard.frames(size), maxlen=1).pop()[-1:]
        yield lambda count, last=last: last, _rows(columns, size - 1)
      with contextlib.closing(ArrayReader(shard.path('observation'))) as reader:
        yield reader.read, _rows(columns, 0, size - 1)
    row = self.add_count % size
    if self._is_closed or row == size - 1:
      return
    columns = [column.copy() for column in self._columns.values()]
    begin = self.add_count - row
    cut = [(at - begin) % size for at in self._cut_offs if at >= begin - 1]
    columns[-1][cut] = CUT_OFF
    if begin:
      yield lambda count: self._stale_frame[None], _rows(columns, size - 1)
    if row:
      with contextlib.closing(ArrayReader(self._partial)) as reader:
        yield reader.read, _rows(columns, 0, row)

  @property
  def _shard(self) -> Shard:
    return Shard(self._directory, self.add_count // self._rows_per_shard)

  @property
  def _partial(self) -> pathlib.Path:
    return self._directory / f'.observation.{self._shard.index}.partial'

  @property
  def _has_partial(self) -> bool:
    """Whether the shard has begun and not ended."""
    row = self.add_count % self._rows_per_shard
    return not self._is_closed and row not in (0, self._rows_per_shard - 1)


def _rows(
  columns: list[np.ndarray], start: int, stop: int | None = None
) -> list[np.ndarray]:
  return [column[start:stop] for column in columns]


def _whole_episodes(
  parts: Iterable[_Part], from_start: bool
) -> Iterator[tuple[np.ndarray, ...]]:
  """The episodes that begin and end in consecutive parts of play."""
  pieces = [] if from_start else None  # Of the episode under way, if all.
  for read_frames, columns in parts:
    start, stops = 0, np.flatnonzero(columns[-1]) + 1
    for stop in np.unique([*stops, len(columns[-1])]).tolist():
      piece = read_frames(stop - start), *_rows(columns, start, stop)
      if pieces is not None:
        pieces.append(piece)
      if stop in stops:
        if pieces:
          yield tuple(np.concatenate(x)[PADDING_ROWS:] for x in zip(*pieces))
        pieces = []
      start = stop
