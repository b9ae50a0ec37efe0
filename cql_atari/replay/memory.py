"""A replay memory that grows while an agent plays."""

import collections
import itertools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow as tf

from cql_atari.core.errors import UserError
from cql_atari.replay import episodes, sampler
from cql_atari.replay.frames import FRAME_SHAPE
from cql_atari.replay.recorder import PADDING_ROWS
from cql_atari.replay.store import Store

_LEAST_CAPACITY = 30_000
_SPARE_ROWS = 256  # What an n-step window may reach over.
_STREAM = 1 << 64  # Of the memory's draws, beside those of a split.


class ReplayMemory:
  """The newest episodes, uncompressed; offers what sampling asks of a Store.

  An episode lies in consecutive rows, after its padding rows. One that doesn't
  fit in before the end goes to the beginning, over the oldest.
  """

  record: ClassVar[dict] = {}  # See `Store`.

  def __init__(self, capacity: int):
    """Makes an empty memory.

    Args:
      capacity: rows, padding included; 7,056 bytes each once used.
    """
    if capacity < _LEAST_CAPACITY:
      raise UserError(
        f'Collector.replay_capacity is {capacity}: give at least '
        f'{_LEAST_CAPACITY}, to hold the longest game.'
      )
    self.capacity, self._next = capacity, 0
    rows = capacity + _SPARE_ROWS
    self.frames = np.zeros((rows, *FRAME_SHAPE), np.uint8)
    self.actions = np.zeros(rows, np.uint8)
    self.rewards = np.zeros(rows, np.float32)
    self.terminals = np.zeros(rows, np.uint8)
    self._episodes = collections.deque()  # (start, stop), oldest first.
    self._valid = {}

  def append(
    self,
    frames: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    terminals: np.ndarray,
  ) -> None:
    """Adds an episode, as `Recorder.newest_episodes` gives it."""
    length = PADDING_ROWS + len(frames)
    if self._next + length > self.capacity:
      self._forget(self._next, self.capacity)
      self._next = 0
    start, stop = self._next, self._next + length
    self._forget(start, stop)
    self._episodes.append((start, stop))
    begin = start + PADDING_ROWS
    columns = self.frames, self.actions, self.rewards, self.terminals
    for column, values in zip(columns, (frames, actions, rewards, terminals)):
      column[start:begin], column[begin:stop] = 0, values
    self._next = stop
    self._valid.clear()

  @property
  def is_empty(self) -> bool:
    """Whether it holds no episode."""
    return not self._episodes

  def _forget(self, start: int, stop: int) -> None:
    """Drops the oldest episodes while they reach into these rows."""
    while self._episodes:
      first, last = self._episodes[0]
      if last <= start or stop <= first:
        break
      self._episodes.popleft()

  def valid_transitions(self, update_horizon: int = 1) -> np.ndarray:
    """Every row that is a valid transition: (V,)."""
    if update_horizon not in self._valid:
      after = np.zeros(update_horizon, np.uint8)  # As if play went on.
      self._valid[update_horizon] = np.concatenate(
        [
          start
          + episodes.valid_rows(
            np.append(self.terminals[start:stop], after), update_horizon
          )
          for start, stop in self._episodes
        ]
      )
    return self._valid[update_horizon]

  def read_frames(
    self, first_rows: np.ndarray, length: int, out: np.ndarray | None = None
  ) -> np.ndarray:
    """Windows of consecutive frames: uint8 (B, length, 84, 84)."""
    rows = first_rows[:, None] + np.arange(length)
    return self.frames.take(rows, axis=0, out=out, mode='clip')


class OnlineSampler(sampler.TransitionSampler):
  """Draws uniformly over what a `ReplayMemory` holds at the time."""

  max_chunk_size = 1

  @property
  def valid(self) -> np.ndarray:
    """(V,): the rows that may be sampled now."""
    return self.store.valid_transitions(self.update_horizon)

  def chunks(self, start: int, size: int) -> Iterator[sampler.Transition]:
    """As `TransitionSampler`'s, each drawn when it is asked for."""
    for number in itertools.count(start):
      yield self.chunk(number * size, size)


class MixedSampler:
  """Draws a share of every batch from a split, and the rest from a memory.

  Attributes:
    store: the split.
  """

  max_chunk_size = OnlineSampler.max_chunk_size
  is_on_device = False
  held_out = 0.0

  def __init__(
    self,
    memory: ReplayMemory,
    batch_size: int,
    update_horizon: int,
    gamma: float,
    seed: int,
    *,
    store: Store,
    share: float,
  ):
    """Divides the batch.

    Args:
      memory: what was played lately.
      batch_size: B.
      update_horizon: n of the n-step return.
      gamma: discount per step.
      seed: seeds the draws.
      store: the split.
      share: the split's part of B, rounded.
    """
    self.store = store
    of_store, rest = round(share * batch_size), (update_horizon, gamma)
    parts = (
      OnlineSampler(memory, batch_size - of_store, *rest, _STREAM + seed),
      sampler.TransitionSampler(store, of_store, *rest, seed),
    )
    self._parts = [part for part in parts if part.batch_size]

  def chunks(self, start: int, size: int) -> Iterator[sampler.Transition]:
    """Chunks whose batches hold the memory's transitions, then the split's."""
    for chunks in zip(*(part.chunks(start, size) for part in self._parts)):
      framed = [
        part.with_states(chunk) for part, chunk in zip(self._parts, chunks)
      ]
      yield sampler.Transition(*(tf.concat(both, 1) for both in zip(*framed)))

  def with_states(self, batches: sampler.Transition) -> sampler.Transition:
    """The same; they have states."""
    return batches
