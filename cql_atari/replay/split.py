"""Which rows of which shards: 1 %, 10 %, first 20 %, by three conventions.

- `prefix`: the first rows of every shard (the CQL authors' 1 % and 10 %).
- `trajectories`: whole episodes drawn at random (the REM paper, d3rlpy).
- `uniform`: single transitions drawn at random.

The first 20 % of a run is `Split(shards=(0, 10))`: 10 of its 50 shards. Second
readings of the paper's 10 % and first 20 % are in docs/data.md.
"""

import dataclasses
import json
import os
import shlex
from typing import Literal

import numpy as np

from cql_atari.core import fetched
from cql_atari.core.constraints import (
  NonNegativeInt,
  NonNegativeInts,
  PositiveInt,
  PositiveUnitInterval,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import shard_folder
from cql_atari.replay.frames import STACK_SIZE

CONVENTIONS = ('prefix', 'trajectories', 'uniform')


NAMED_SPLITS = {
  '1pct': {'fraction': 0.01},
  '10pct': {'fraction': 0.1},
  '10pct_10shards': {'fraction': 0.1, 'num_shards': 10, 'seed': 0},
  'first20pct': {'shards': (0, 10)},
  'first20m': {'shards': (0, 5)},
  'all': {},
}


@dataclasses.dataclass(frozen=True)
class ShardRows:
  """The rows of one shard that a split uses.

  Attributes:
    shard: the shard.
    ranges: int64 (R, 2), disjoint sorted [start, stop) runs of rows.
    transitions: int64 (T,), the rows among them that may be sampled, or None
      when every valid one may.
    stitch: (start, stop) of the rows that come before all others and continue
      the play of the shard before (`Shard.rows_after`); None where they do not.
  """

  shard: shard_lib.Shard
  ranges: np.ndarray
  transitions: np.ndarray | None = None
  stitch: tuple[int, int] | None = None

  @property
  def ranges_in_play_order(self) -> np.ndarray:
    """int64 (R', 2): all runs of rows in order of play, stitched ones first."""
    if self.stitch is None:
      return self.ranges
    return np.concatenate([[self.stitch], self.ranges])

  @property
  def num_rows(self) -> int:
    """Rows in all runs."""
    return int(np.diff(self.ranges_in_play_order).sum())

  @property
  def record(self) -> dict:
    """The rows and their files' sizes as plain JSON, for manifests."""
    return {
      'shard': self.shard.index,
      'rows': self.ranges_in_play_order.tolist(),
      'stitched': self.stitch is not None,
      'files': {path.name: path.stat().st_size for path in self.shard.sources},
    }


@configurable
@dataclasses.dataclass(frozen=True)
class Split:
  """A deterministic choice of rows of a run.

  Attributes:
    fraction: share of each shard's rows (prefix), of all rows (trajectories)
      or of all valid transitions (uniform), in (0, 1].
    shards: (first, last + 1) of the shards to draw from. Shard 50 of the
      published data is a partial last buffer, outside the default.
    convention: 'prefix', 'trajectories' or 'uniform'.
    seed: seeds the random draws; where nothing is drawn, it is 0.
    update_horizon: the longest n-step return that drawn episodes and
      transitions keep rows for; prefix serves any, and has 1 here.
    num_shards: how many of `shards` to use, drawn at random; None for all.
  """

  fraction: PositiveUnitInterval = 1.0
  shards: NonNegativeInts = (0, 50)
  convention: Literal['prefix', 'trajectories', 'uniform'] = 'prefix'
  seed: NonNegativeInt = 0
  update_horizon: PositiveInt = 1
  num_shards: PositiveInt | None = None

  def __post_init__(self):
    if len(self.shards) != 2 or not self.shards[0] < self.shards[1]:
      raise UserError(
        f'Split.shards is {self.shards!r}: give (first, last + 1), such as '
        '(0, 10) for the first 20 % of a run.'
      )
    object.__setattr__(self, 'fraction', float(self.fraction))
    object.__setattr__(self, 'shards', tuple(self.shards))
    if self.num_shards and self.num_shards > self.shards[1] - self.shards[0]:
      raise UserError(
        f'Split.num_shards is {self.num_shards}, but Split.shards has only '
        f'{self.shards[1] - self.shards[0]}: give fewer.'
      )
    if self.convention == 'prefix':  # The same rows, whatever these are.
      object.__setattr__(self, 'update_horizon', 1)
      if self.num_shards is None:
        object.__setattr__(self, 'seed', 0)

  @property
  def shard_numbers(self) -> list[int]:
    """The numbers of the shards to draw from, there or not."""
    numbers = range(*self.shards)
    if self.num_shards is None:
      return list(numbers)
    rng = np.random.default_rng(self.seed)
    return sorted(rng.choice(numbers, self.num_shards, replace=False).tolist())

  @property
  def record(self) -> dict:
    """Its settings as plain JSON, for manifests."""
    settings = dataclasses.asdict(self)
    if self.num_shards is None:  # Manifests had no such setting once.
      del settings['num_shards']
    return json.loads(json.dumps(settings))

  @property
  def label(self) -> str:
    """The share of a run of the dataset, such as '1 %' or 'first 20 %'."""
    first, stop = self.shards
    if self.num_shards is not None:
      name = f'{100 * self.fraction:g} % of {self.num_shards} shards'
    elif (first, stop) == (0, 50):
      name = f'{100 * self.fraction:g} %'
    elif self.fraction == 1 and first == 0 and stop < 50:
      name = f'first {2 * stop} %'
    else:
      name = f'{100 * self.fraction:g} % of shards {first} to {stop - 1}'
    return (
      name if self.convention == 'prefix' else f'{name} ({self.convention})'
    )

  def select(self, replay_dir: str | os.PathLike) -> list[ShardRows]:
    """Chooses the rows, reading only what the convention needs.

    Args:
      replay_dir: a run's folder, or its `replay_logs`.

    Returns:
      One entry per shard that contributes rows, in order.

    Raises:
      UserError: no such data, broken files, or nothing left to train on.
    """
    available = shard_folder.list_shards(replay_dir)
    numbers = self.shard_numbers
    shards = [shard for shard in available if shard.index in numbers]
    if not shards:
      picked = f'Split.shards {self.shards}'
      if self.num_shards is not None:
        picked = f'Split.num_shards {self.num_shards}, of shards {self.shards},'
      raise UserError(
        f'{picked} picks none of the shards in '
        f'{available[0].directory}: it has {available[0].index} to '
        f'{available[-1].index}.'
      )
    self._check_fetched(shards)
    chosen = getattr(self, f'_select_{self.convention}')(shards)
    if not chosen:
      raise UserError(
        f'Split.fraction {self.fraction} of {shards[0].directory} is not one '
        'transition: ask for more.'
      )
    return chosen

  @property
  def to_fetch(self) -> str:
    """The --split of `cql_atari.fetch` that brings every row that is read."""
    share = self.fraction if self.convention == 'prefix' else 1.0
    asked = {'fraction': share, 'shards': self.shards}
    if self.num_shards is not None:
      asked |= {'num_shards': self.num_shards, 'seed': self.seed}
    for name, settings in NAMED_SPLITS.items():
      if asked == {'fraction': 1.0, 'shards': (0, 50), **settings}:
        return name
    return 'all' if share == 1 else str(share)

  def _check_fetched(self, shards: list[shard_lib.Shard]) -> None:
    """Refuses shards of which a fetch brought too few rows."""
    record = fetched.read(shards[0].directory)
    for shard in shards:
      rows = shard.fetched_rows(record)
      if rows is None:
        continue
      needed = shard.num_rows
      if self.convention == 'prefix':
        needed = self._prefix(shard)
      if rows < needed:
        folder = shard.directory.absolute()
        game, run = folder.parts[-3:-1]
        begun = fetched.source(folder)
        url = begun.removesuffix(f'/{game}/{run}/replay_logs')
        more = (
          ''
          if url == shard_folder.PUBLISHED_URL
          else f' --source={shlex.quote(url)}'
        )
        raise UserError(
          f'{shard.directory} holds the first {rows:,} rows of shard '
          f'{shard.index}, but the split reads {needed:,}: fetch the rest with '
          f'"python -m cql_atari.fetch --game={game} --run={run} '
          f'--split={self.to_fetch} --out={folder.parents[2]}{more}".'
        )

  def _prefix(self, shard: shard_lib.Shard) -> int:
    """The number of a shard's first rows that a prefix has."""
    return min(round(self.fraction * shard.capacity), shard.num_rows)

  def _select_prefix(self, shards: list[shard_lib.Shard]) -> list[ShardRows]:
    chosen = []
    for shard in shards:
      rows, stitch = self._prefix(shard), None
      if chosen and chosen[-1].ranges[-1, 1] == chosen[-1].shard.num_rows:
        stitch = shard.rows_after(chosen[-1].shard)
      # A recording's last few rows count by those before them.
      if rows > STACK_SIZE or (stitch and rows == shard.num_rows):
        chosen.append(ShardRows(shard, np.array([[0, rows]]), stitch=stitch))
    return chosen

  def _select_trajectories(
    self, shards: list[shard_lib.Shard]
  ) -> list[ShardRows]:
    """Draws whole episodes until their rows reach the fraction of all rows."""
    episodes = []
    for position, shard in enumerate(shards):
      ends = np.flatnonzero(shard.endings()) + 1
      starts = np.append(0, ends[:-1])
      if len(ends) and shard.add_count > shard.capacity:
        starts, ends = starts[1:], ends[1:]  # The first began a shard earlier.
      episodes += [(position, start, end) for start, end in zip(starts, ends)]
    target = self.fraction * sum(shard.num_rows for shard in shards)
    order = np.random.default_rng(self.seed).permutation(len(episodes))
    ranges, drawn = [[] for _ in shards], [[] for _ in shards]
    # Rows after the end complete the next states of its last transitions.
    tail = max(STACK_SIZE - 1, self.update_horizon)
    for index in order:
      if target <= 0:
        break
      position, start, end = episodes[index]
      stop = min(end + tail, shards[position].num_rows)
      ranges[position].append((start, stop))
      drawn[position].append(np.arange(start, end))
      target -= end - start
    if target > 0 and self.fraction < 1:
      raise UserError(
        f"Split.convention 'trajectories' found {len(episodes)} whole "
        f'episodes in {shards[0].directory}, too few for fraction '
        f"{self.fraction}: use 'prefix'."
      )
    return [
      ShardRows(shard, _merge(np.array(runs)), np.sort(np.concatenate(rows)))
      for shard, runs, rows in zip(shards, ranges, drawn)
      if runs
    ]

  def _select_uniform(self, shards: list[shard_lib.Shard]) -> list[ShardRows]:
    """Draws transitions, and keeps the rows around each."""
    valid = [shard.valid_transitions(self.update_horizon) for shard in shards]
    total = sum(map(len, valid))
    rng = np.random.default_rng(self.seed)
    drawn = np.zeros(total, bool)
    drawn[rng.choice(total, round(self.fraction * total), replace=False)] = True
    chosen, offset = [], 0
    for shard, rows in zip(shards, valid):
      rows, offset = rows[drawn[offset:][: len(rows)]], offset + len(rows)
      if len(rows):
        first = rows - (STACK_SIZE - 1)
        last = rows + self.update_horizon
        ranges = _merge(np.stack([first, last + 1], axis=1))
        chosen.append(ShardRows(shard, ranges, rows))
    return chosen


def named_split(name: str) -> Split:
  """A split by the name its gin files have.

  Args:
    name: 1pct, 10pct, 10pct_10shards, first20pct, first20m, all, or a share
      such as 0.05.

  Raises:
    UserError: there is no such split.
  """
  settings = NAMED_SPLITS.get(name)
  if settings is None:
    try:
      settings = {'fraction': float(name)}
    except ValueError:
      raise UserError(
        f'there is no split {name!r}: choose one of {", ".join(NAMED_SPLITS)}, '
        'or give a share such as 0.05.'
      ) from None
  return Split(**settings)


def _merge(ranges: np.ndarray) -> np.ndarray:
  """Joins [start, stop) runs that touch or overlap: (R, 2) -> (<= R, 2)."""
  ranges = ranges[np.argsort(ranges[:, 0], kind='stable')]
  stops = np.maximum.accumulate(ranges[:, 1])
  begins = np.append(True, ranges[1:, 0] > stops[:-1])
  starts = ranges[begins, 0]
  lasts = np.append(np.flatnonzero(begins)[1:] - 1, len(ranges) - 1)
  return np.stack([starts, stops[lasts]], axis=1)
