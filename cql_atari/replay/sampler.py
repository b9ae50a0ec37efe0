"""From a store to training batches: uniform sampling, stacks, n-step returns.

Batch k of a run is a pure function of (store, seed, k): a counter-based
generator draws its rows, so the sampler's whole state is the number of batches
drawn, and threads that prepare batches ahead change nothing.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cql_atari.core import devices
from cql_atari.core.constraints import (
  HalfOpenUnitInterval,
  PositiveInt,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.replay import holding_out
from cql_atari.replay import store as store_lib
from cql_atari.replay.frames import (
  FRAME_SHAPE,
  STACK_SIZE,
  Buffers,
  aligned_empty,
  stack_frames,
)

_WINDOWS_AT_ONCE = 64  # Their frames are still in cache when they are stacked.
_ROWS_AT_ONCE = 4096  # Of frames on their way to the device.
_BATCHES_AT_ONCE = {'CPU': 8, 'GPU': 40}


class Transition(NamedTuple):
  """A batch of transitions, as Dopamine's replay buffer returns it.

  Attributes:
    state: uint8 (B, 84, 84, 4), oldest frame first.
    action: int32 (B,).
    reward: float32 (B,), clipped as stored, n-step discounted when n > 1.
    next_state: uint8 (B, 84, 84, 4); undefined content where terminal.
    terminal: uint8 (B,), 1 where the game ended within the n steps.
  """

  state: tf.Tensor
  action: tf.Tensor
  reward: tf.Tensor
  next_state: tf.Tensor
  terminal: tf.Tensor


@configurable(
  denylist=['store', 'batch_size', 'update_horizon', 'gamma', 'seed', 'worker',
            'num_workers']
)  # fmt: skip
@dataclasses.dataclass(frozen=True)
class TransitionSampler:
  """Draws uniformly, with replacement, over every valid transition of a store.

  Attributes:
    store: the split.
    batch_size: B.
    update_horizon: n of the n-step return.
    gamma: discount per step, applied to rewards inside the n steps.
    seed: seeds the draws.
    worker: index of the part of every batch that this worker assembles.
    num_workers: parts of every batch, for data-parallel training. All workers
      together sample the rows that a single one would.
    num_threads: threads that prefetch batches.
    held_out: share of the games that is held out, the same games for every
      seed; `held_out_scalars` are measured on them.
  """

  store: store_lib.Store
  batch_size: int = 32
  update_horizon: int = 1
  gamma: float = 0.99
  seed: int = 0
  worker: int = 0
  num_workers: int = 1
  num_threads: PositiveInt = 1
  held_out: HalfOpenUnitInterval = 0.0

  def __post_init__(self):
    if self.batch_size % self.num_workers or not (
      0 <= self.worker < self.num_workers
    ):
      raise ValueError(
        f'batch_size {self.batch_size} for worker {self.worker} of '
        f'{self.num_workers}: it must be a multiple.'
      )

  @functools.cached_property
  def valid(self) -> np.ndarray:
    """(V,): the store rows that may be sampled, in as few bytes as they fit."""
    valid = self.store.valid_transitions(self.update_horizon)
    if self.held_out:
      valid = valid[~self._is_held_out(valid)]
    fits = self.store.manifest['num_rows'] <= np.iinfo(np.int32).max
    return valid.astype(np.int32) if fits else valid

  def _is_held_out(self, rows: np.ndarray) -> np.ndarray:
    """Whether sorted rows are of games that are held out, bool (R,).

    Raises:
      UserError: there are too few games to hold out such a share, or the split
        has no games, but single transitions.
    """
    if self.store.manifest['split']['convention'] == 'uniform':
      raise UserError(
        'TransitionSampler.held_out needs games, and with Split.convention='
        "'uniform' there are single transitions: take another convention."
      )
    # Rows of a game lie between two endings, or the edges of what was kept.
    edges = np.flatnonzero(self.store.terminals) + 1
    edges = np.union1d(edges, [start for start, _ in self.store.segments])
    game = np.searchsorted(edges, rows, side='right')
    return holding_out.choose(game, self.held_out, 'TransitionSampler.held_out')

  @functools.cached_property
  def held_out_rows(self) -> np.ndarray:
    """(H,): rows of the games held out, 1,024 of them at most."""
    valid = self.store.valid_transitions(self.update_horizon)
    if not self.held_out:
      return valid[:0]
    return holding_out.at_most(valid[self._is_held_out(valid)])

  def sample_rows(self, first: int, size: int = 1) -> np.ndarray:
    """The store rows of batches: int64 (size, B / num_workers).

    Args:
      first: number of the first batch.
      size: how many.
    """
    bits = np.random.Philox(key=self.seed, counter=0)
    generator, state = np.random.Generator(bits), bits.state
    draws = np.empty((size, self.batch_size), np.int64)
    for index in range(size):
      # A tenth of the time that a generator for each would take.
      state['state']['counter'][3] = first + index
      bits.state = state
      draws[index] = generator.integers(0, len(self.valid), self.batch_size)
    part = draws[:, self.worker :: self.num_workers]
    return self.valid[part].astype(np.int64)

  def transitions(
    self,
    rows: np.ndarray,
    empty: Callable[[tuple[int, ...]], np.ndarray] = aligned_empty,
  ) -> Transition:
    """Assembles the transitions that begin at given store rows.

    Args:
      rows: (B,) valid store rows.
      empty: gives memory for frames, called with a shape.

    Returns:
      A Transition of NumPy arrays.
    """
    horizon = self.update_horizon
    action, reward, steps, terminal = self._outcomes(rows)
    states = empty((2, len(rows), *FRAME_SHAPE, STACK_SIZE))
    windows = empty((_WINDOWS_AT_ONCE, STACK_SIZE + horizon, *FRAME_SHAPE))
    for start in range(0, len(rows), _WINDOWS_AT_ONCE):
      part = slice(start, start + _WINDOWS_AT_ONCE)
      first_rows = rows[part] - (STACK_SIZE - 1)
      frames = self.store.read_frames(
        first_rows, STACK_SIZE + horizon, windows[: len(first_rows)]
      )
      if horizon == 1:
        next_frames = frames[:, 1:]
      else:
        window = steps[part, None] + np.arange(STACK_SIZE)
        next_frames = frames[np.arange(len(frames))[:, None], window]
      stack_frames(frames[:, :STACK_SIZE], states[0, part])
      stack_frames(next_frames, states[1, part])
    return Transition(states[0], action, reward, states[1], terminal)

  def _outcomes(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """All but frames: actions, rewards, steps to the next state, terminals."""
    store, horizon = self.store, self.update_horizon
    reached = rows[:, None] + np.arange(horizon)
    terminals = store.terminals[reached] != 0
    terminal = terminals.any(axis=1)
    reward = np.zeros(len(rows), np.float32)
    discounts = np.power(self.gamma, np.arange(horizon)).astype(np.float32)
    running = np.ones(len(rows), bool)
    for step in range(horizon):
      # In order and in float32, as Dopamine sums them.
      term = discounts[step] * store.rewards[reached[:, step]]
      reward += np.where(running, term, np.float32(0))
      running &= ~terminals[:, step]
    steps = np.where(terminal, terminals.argmax(axis=1) + 1, horizon)
    action = store.actions[rows].astype(np.int32)
    return action, reward, steps, terminal.astype(np.uint8)

  @property
  def max_chunk_size(self) -> int:
    """Largest number of batches that a learner requests at once."""
    return _BATCHES_AT_ONCE['GPU' if devices.has_gpu() else 'CPU']

  def chunk(self, first: int, size: int) -> Transition:
    """Batches first, first + 1, ..., stacked: tensors (size, B, ...).

    What `with_states` gives for it is what a learner sees.
    """
    rows = self.sample_rows(first, size)
    flat = rows.ravel()
    # In one go, so that threads rarely wait for Python's lock.
    if self._stacks_in_graph:
      batches = self._unstacked(flat)
    else:
      batches = self.transitions(flat, self._buffers.take)
    return Transition(
      *(
        _as_tensor(column.reshape(*rows.shape, *column.shape[1:]))
        for column in batches
      )
    )

  @functools.cached_property
  def _buffers(self) -> Buffers:
    return Buffers()

  @property
  def is_on_device(self) -> bool:
    """Whether the learner's device has the frames."""
    record = {} if self.store is None else self.store.record
    return record.get('residence') == 'device'

  @property
  def _stacks_in_graph(self) -> bool:
    """Whether a chunk has no states yet, as a GPU stacks them at no cost."""
    return self.is_on_device or devices.has_gpu()

  def _unstacked(self, rows: np.ndarray) -> Transition:
    """As `transitions`, with what `with_states` makes states of.

    In place of states are windows of frames, (B, 4 + n, 84, 84), or where the
    device has the frames, the row that each begins with; and in place of the
    next states the steps to them.
    """
    action, reward, steps, terminal = self._outcomes(rows)
    windows = rows - (STACK_SIZE - 1)
    if not self.is_on_device:
      length = STACK_SIZE + self.update_horizon
      out = self._buffers.take((len(rows), length, *FRAME_SHAPE))
      windows = self.store.read_frames(windows, length, out)
    return Transition(windows, action, reward, steps, terminal)

  def with_states(self, batches: Transition) -> Transition:
    """Part of a graph: a chunk, or one batch of it, with its states."""
    if not self._stacks_in_graph:
      return batches
    windows, steps = batches.state, batches.next_state
    if self.is_on_device:
      length = STACK_SIZE + self.update_horizon
      rows = windows[..., None] + tf.range(length, dtype=windows.dtype)
      windows = tf.gather(self._device_frames, rows)
    return batches._replace(
      state=_stacked(windows, tf.zeros_like(steps)),
      next_state=_stacked(windows, steps),
    )

  @functools.cached_property
  def _device_frames(self) -> tf.Variable:
    """uint8 (R, 84, 84), every frame of the store, on the device."""
    count = self.store.manifest['num_rows']
    with tf.init_scope():
      frames = tf.Variable(
        tf.zeros((count, *FRAME_SHAPE), tf.uint8), trainable=False
      )
      for start in range(0, count, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, count)
        part = self.store.read_frames(np.array([start]), stop - start)[0]
        frames[start:stop].assign(part)
    return frames

  def chunks(self, start: int, size: int) -> Iterator[Transition]:
    """Endless chunks start, start + 1, ... of `size` batches each.

    Background threads prepare them, ahead of the learner. Chunk n holds the
    batches n * size, n * size + 1, ...
    """
    return _Prefetcher(
      lambda number: self.chunk(number * size, size), start, self.num_threads
    )

  def batches(self, start: int = 0) -> Iterator[Transition]:
    """Endless batches start, start + 1, ..., prepared by background threads.

    Args:
      start: number of the first batch; a learner that has taken k gradient
        steps resumes at k.

    Returns:
      An iterator of `Transition` tensors.
    """
    return map(
      lambda chunk: self.with_states(
        Transition(*(stacked[0] for stacked in chunk))
      ),
      self.chunks(start, 1),
    )


def _stacked(windows: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
  """(..., W, 84, 84) and the first frame of each (...) -> (..., 84, 84, 4)."""
  axis = windows.shape.rank - 3
  frames = tf.gather(
    windows,
    first[..., None] + tf.range(STACK_SIZE, dtype=first.dtype),
    axis=axis,
    batch_dims=axis,
  )
  return tf.transpose(frames, (*range(axis), axis + 1, axis + 2, axis))


def _as_tensor(array: np.ndarray) -> tf.Tensor:
  """A tensor; of frames, which are aligned, without a copy on a CPU."""
  if devices.has_gpu() or array.ndim <= len(FRAME_SHAPE):
    return tf.convert_to_tensor(array)
  return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


class _Prefetcher(Iterator[Transition]):
  """Keeps a few chunks ahead of the learner.

  It uses plain threads because deleting a tf.data iterator deadlocks: it waits,
  holding the GIL, for a Python function that waits for the GIL.
  """

  def __init__(
    self, make: Callable[[int], Transition], start: int, num_threads: int
  ):
    self._pool = pool = futures.ThreadPoolExecutor(num_threads, 'batches')
    self._submitted = (
      pool.submit(make, number) for number in itertools.count(start)
    )
    self._ahead = collections.deque(
      itertools.islice(self._submitted, num_threads + 1)
    )

  def __next__(self) -> Transition:
    chunk = self._ahead[0].result()  # Raises an error whenever it is asked for.
    self._ahead.popleft()
    self._ahead.append(next(self._submitted))
    return chunk

  def __del__(self):
    self._pool.shutdown(wait=False, cancel_futures=True)
