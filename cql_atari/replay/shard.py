"""One published DQN-Replay shard: names, reading, checking.

A shard is a saved Dopamine replay buffer: gzipped `.npy` files named
`$store$_{observation,action,reward,terminal}_ckpt.N.gz`, `add_count_ckpt.N.gz`
and `invalid_range_ckpt.N.gz`. A row is (frame before the action, action,
clipped reward, game over). Every episode begins with three all-zero padding
rows. Newer Dopamine adds `episode_end_indices_ckpt.N.gz`, for games that were
cut off. The buffer is circular: rows at and after the write cursor
(`add_count % capacity`) are stale, left from an earlier turn or uninitialised,
and a transition whose stack or whose next state would touch them is invalid.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator

import numpy as np

from cql_atari.core.errors import UserError
from cql_atari.replay import cut_offs, episodes
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE
from cql_atari.replay.npy_gz import ArrayReader, missing

ELEMENTS = ('observation', 'action', 'reward', 'terminal')
ROWS_PER_READ = 1024  # 7 MB of frames.
_MAX_STITCHED = 64  # The published data needs one row.


def file_name(name: str, index: int) -> str:
  """The published name of an array's file, e.g. `add_count_ckpt.7.gz`."""
  prefix = '$store$_' if name in ELEMENTS else ''
  return f'{prefix}{name}_ckpt.{index}.gz'


@dataclasses.dataclass(frozen=True)
class Shard:
  """One shard of a run, read lazily and as a stream.

  Attributes:
    directory: the folder of `replay_logs` files.
    index: N of `ckpt.N`; 0 to 50 in the published data.
  """

  directory: pathlib.Path
  index: int

  def path(self, name: str) -> pathlib.Path:
    """The file that holds `name` (an element, add_count or invalid_range)."""
    return self.directory / file_name(name, self.index)

  @property
  def sources(self) -> list[pathlib.Path]:
    """The files this package reads of the shard.

    Raises:
      UserError: one of them is missing.
    """
    names = (*ELEMENTS, 'add_count', 'invalid_range')
    paths = [self.path(name) for name in names]
    for path in paths:
      if not path.is_file():
        raise missing(path)
    ends = self.path('episode_end_indices')
    return [*paths, ends] if ends.is_file() else paths

  def fetched_rows(self, record: dict | None) -> int | None:
    """Rows that were fetched of it, by `fetched.read`; None for all."""
    counts = [
      (record or {}).get(self.path(name).name, {}).get('rows')
      for name in ELEMENTS
    ]
    return min((rows for rows in counts if rows is not None), default=None)

  @functools.cached_property
  def capacity(self) -> int:
    """Rows in the files, checked to be the same in all of them.

    Raises:
      UserError: a file is missing, broken, of another length, shape or type.
    """
    lengths = {}
    for name in ELEMENTS:
      with contextlib.closing(ArrayReader(self.path(name))) as reader:
        row_shape = FRAME_SHAPE if name == 'observation' else ()
        if not reader.shape or reader.shape[1:] != row_shape:
          raise UserError(
            f'{reader.path} holds rows of shape {reader.shape[1:]}, but '
            f'{name} rows in the published format are {row_shape}: fetch that '
            'shard again.'
          )
        is_wrong = reader.dtype.kind not in _KINDS[name]
        if is_wrong or (name == 'observation' and reader.dtype != np.uint8):
          raise UserError(
            f'{reader.path} holds {reader.dtype}, but {name} in the published '
            f'format is {_PUBLISHED_TYPES[name]}: fetch that shard again.'
          )
        lengths[name] = reader.shape[0]
    if len(set(lengths.values())) != 1:
      raise UserError(
        f'shard {self.index} in {self.directory} has arrays of different '
        f'lengths ({lengths}): its files come from different saves; fetch '
        'them again.'
      )
    if not lengths['observation']:
      raise UserError(
        f'shard {self.index} in {self.directory} holds no rows: fetch it again.'
      )
    return lengths['observation']

  @functools.cached_property
  def add_count(self) -> int:
    """Rows ever added to the buffer when it was saved, padding included."""
    with contextlib.closing(ArrayReader(self.path('add_count'))) as reader:
      values = reader.read_integers()
    if len(values) != 1 or values[0] < 0:
      raise UserError(
        f'{reader.path} holds {values.tolist()}, which counts nothing: fetch '
        'that shard again.'
      )
    return int(values[0])

  @functools.cached_property
  def invalid_range(self) -> np.ndarray:
    """Indices around the write cursor that Dopamine never samples: (K,)."""
    with contextlib.closing(ArrayReader(self.path('invalid_range'))) as reader:
      values = reader.read_integers()
    if self.add_count and self.add_count % self.capacity not in values:
      raise UserError(
        f'{reader.path} does not name the write cursor '
        f'{self.add_count % self.capacity} that add_count gives: the files of '
        f'shard {self.index} come from different saves; fetch them again.'
      )
    return values

  @functools.cached_property
  def num_rows(self) -> int:
    """Usable rows: those before the write cursor, in the order of play."""
    cursor = self.add_count % self.capacity
    return cursor if cursor or not self.add_count else self.capacity

  def rows_after(self, previous: 'Shard') -> tuple[int, int] | None:
    """Which rows here lie between the last of `previous` and this one's first.

    The buffer is circular: what stands at and after this shard's cursor was
    written a turn earlier, and `previous` was saved before it was.

    Args:
      previous: another shard of the run.

    Returns:
      (start, stop) of the rows in these files that continue the play of
      `previous` and are continued by row 0; None when the play in between was
      not kept.
    """
    turn, turn_before = (
      (shard.add_count - 1) // shard.capacity for shard in (self, previous)
    )
    start = previous.num_rows
    if previous.capacity != self.capacity or turn != turn_before + 1:
      return None
    if start < self.capacity and self.num_rows > start:
      return None  # Overwritten already.
    if self.capacity - start > _MAX_STITCHED:
      return None
    return start, self.capacity

  def read(self, name: str, stop: int | None = None) -> np.ndarray:
    """Reads rows [0, stop) of a small array (action, reward or terminal).

    Decompression stops at `stop`, so a file damaged further on still reads;
    where that is all usable rows, the file's checksum is compared too.

    Args:
      name: 'action', 'reward' or 'terminal'.
      stop: rows to read; all usable rows by default.

    Returns:
      An array of shape (stop,).

    Raises:
      UserError: the file ends before `stop`, or is damaged.
    """
    stop = self.num_rows if stop is None else stop
    with contextlib.closing(ArrayReader(self.path(name))) as reader:
      values = reader.read(stop)
      if stop >= self.num_rows:
        reader.finish()
    return values

  def endings(self, stop: int | None = None) -> np.ndarray:
    """Flags that mark the last rows of games, among rows [0, stop).

    Args:
      stop: rows to read; all usable rows by default.

    Returns:
      uint8 (stop,): 1 where a game terminated, `episodes.CUT_OFF` where it was
      cut off (known only from episode_end_indices), 0 elsewhere.

    Raises:
      UserError: a file is damaged.
    """
    endings = self.read('terminal', stop).astype(np.uint8)
    path = self.path('episode_end_indices')
    if path.is_file():
      ends = cut_offs.read_ends(path, self.capacity)
      ends = ends[ends < len(endings)]
      endings[ends[endings[ends] == 0]] = episodes.CUT_OFF
    return endings

  def frames(self, stop: int | None = None) -> Iterator[np.ndarray]:
    """Streams rows [0, stop) of the frames, never the array as a whole.

    Args:
      stop: row after the last; all usable rows by default.

    Yields:
      Consecutive uint8 arrays of shape (at most ROWS_PER_READ, 84, 84).

    Raises:
      UserError: the file ends before `stop`, or is damaged; of all usable
        rows, gzip's checksum is compared after the last.
    """
    stop = self.num_rows if stop is None else stop
    with contextlib.closing(ArrayReader(self.path('observation'))) as reader:
      for first in range(0, stop, ROWS_PER_READ):
        yield reader.read(min(ROWS_PER_READ, stop - first))
      if stop >= self.num_rows:
        reader.finish()

  def valid_transitions(self, update_horizon: int = 1) -> np.ndarray:
    """The rows that Dopamine's own buffer may sample, stale rows excluded.

    Args:
      update_horizon: n of the n-step return.

    Returns:
      Sorted row indices, int64 of shape (V,).
    """
    valid = episodes.valid_rows(self.endings(), update_horizon)
    return valid[~np.isin(valid, self.invalid_range)]

  def checked_frames(
    self, num_actions: int, stop: int | None = None
  ) -> Iterator[np.ndarray]:
    """Streams frames as `frames` does, and checks all there is to check.

    Args:
      num_actions: size of the game's action set.
      stop: row after the last; all usable rows by default.

    Yields:
      Consecutive uint8 arrays of shape (at most ROWS_PER_READ, 84, 84).

    Raises:
      UserError: names the file and row of the first thing that is wrong.
    """
    stop = self.num_rows if stop is None else stop
    actions, rewards, terminals = (
      self.read(name, stop) for name in ELEMENTS[1:]
    )
    _ = self.invalid_range  # Reading it checks it.
    check_rows(self, 0, actions, rewards, terminals, num_actions)
    padding = np.zeros(stop, bool)
    starts = np.flatnonzero(self.endings(stop)) + 1
    if self.add_count <= self.capacity:
      starts = np.append(0, starts)
    rows = starts[:, None] + np.arange(STACK_SIZE - 1)
    padding[rows[rows < stop]] = True
    row = 0
    for frames in self.frames(stop):
      blank = ~frames.any(axis=(1, 2))
      wrong = padding[row : row + len(frames)] & ~blank
      if wrong.any():
        raise UserError(
          f'{self.path("observation")} row {row + int(wrong.argmax())} should '
          'be zero padding at the start of an episode, but holds a frame.'
        )
      yield frames
      row += len(frames)


_KINDS = {'observation': 'u', 'action': 'iu', 'reward': 'f', 'terminal': 'iub'}
_PUBLISHED_TYPES = {
  'observation': 'uint8',
  'action': 'int32',
  'reward': 'float32',
  'terminal': 'uint8',
}


def check_rows(
  shard: Shard,
  first_row: int,
  actions: np.ndarray,
  rewards: np.ndarray,
  terminals: np.ndarray,
  num_actions: int,
) -> None:
  """Checks the values of consecutive rows.

  Args:
    shard: where the rows are from, for the error's text.
    first_row: the shard row of the first entry.
    actions: (R,) integers.
    rewards: (R,) floats.
    terminals: (R,) integers.
    num_actions: size of the game's action set.

  Raises:
    UserError: names the file and row of the first bad value.
  """
  highest = num_actions - 1
  for name, values, wrong, right in (
    (
      'action',
      actions,
      (actions < 0) | (actions > highest),
      f"in the game's action set, 0 to {highest}",
    ),
    ('reward', rewards, ~(np.abs(rewards) <= 1), 'clipped to [-1, 1]'),
    ('terminal', terminals, (terminals != 0) & (terminals != 1), '0 or 1'),
  ):
    if wrong.any():
      row = int(wrong.argmax())
      raise UserError(
        f'{shard.path(name)} row {first_row + row} holds {values[row]}, which '
        f'is not {right}: wrong game or a damaged file.'
      )
