"""From a store to training batches: uniform sampling, stacks, n-step returns.

Batch k of a run is a pure function of (store, seed, k): a counter-based
generator draws its rows, so the sampler's whole state is the number of batches
drawn, and threads that prepare batches ahead change nothing.
"""

import contextlib
import dataclasses
import functools
import itertools
import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cql_atari.replay import store as store_lib
from cql_atari.replay.frames import STACK_SIZE, stack_frames

_PREFETCHED_BATCHES = 4


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


@dataclasses.dataclass(frozen=True)
class TransitionSampler:
  """Draws uniformly, with replacement, over every valid transition of a store.

  Attributes:
    store: the split.
    batch_size: B.
    update_horizon: n of the n-step return.
    gamma: discount per step, applied to rewards inside the n steps.
    seed: seeds the draws.
    worker: which part of every batch this one assembles, of
    num_workers: parts in all, for data-parallel training. Together they draw
      the rows that one alone would.
  """

  store: store_lib.Store
  batch_size: int = 32
  update_horizon: int = 1
  gamma: float = 0.99
  seed: int = 0
  worker: int = 0
  num_workers: int = 1

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
    fits = self.store.manifest['num_rows'] <= np.iinfo(np.int32).max
    return valid.astype(np.int32) if fits else valid

  def sample_rows(self, batch: int) -> np.ndarray:
    """The store rows of batch number `batch`: int64 (B / num_workers,)."""
    bits = np.random.Philox(key=self.seed, counter=[0, 0, 0, batch])
    draws = np.random.Generator(bits).integers(
      0, len(self.valid), self.batch_size
    )
    part = draws[self.worker :: self.num_workers]
    return self.valid[part].astype(np.int64)

  def transitions(self, rows: np.ndarray) -> Transition:
    """Assembles the transitions that begin at given store rows.

    Args:
      rows: (B,) valid store rows.

    Returns:
      A Transition of NumPy arrays.
    """
    store, horizon = self.store, self.update_horizon
    frames = store.read_frames(rows - (STACK_SIZE - 1), STACK_SIZE + horizon)
    steps = rows[:, None] + np.arange(horizon)
    terminals = store.terminals[steps] != 0
    terminal = terminals.any(axis=1)
    reward = np.zeros(len(rows), np.float32)
    discounts = np.power(self.gamma, np.arange(horizon)).astype(np.float32)
    running = np.ones(len(rows), bool)
    for step in range(horizon):
      # In order and in float32, as Dopamine sums them.
      term = discounts[step] * store.rewards[steps[:, step]]
      reward += np.where(running, term, np.float32(0))
      running &= ~terminals[:, step]
    if horizon == 1:
      next_frames = frames[:, 1:]
    else:
      length = np.where(terminal, terminals.argmax(axis=1) + 1, horizon)
      window = length[:, None] + np.arange(STACK_SIZE)
      next_frames = frames[np.arange(len(rows))[:, None], window]
    return Transition(
      state=stack_frames(frames[:, :STACK_SIZE]),
      action=store.actions[rows].astype(np.int32),
      reward=reward,
      next_state=stack_frames(next_frames),
      terminal=terminal.astype(np.uint8),
    )

  def batches(self, start: int = 0) -> Iterator[Transition]:
    """Endless batches start, start + 1, ..., prepared by a background thread.

    Args:
      start: number of the first batch; a learner that has taken k gradient
        steps resumes at k.

    Returns:
      An iterator of `Transition` tensors.
    """
    return _Prefetcher(self, start)


class _Prefetcher(Iterator[Transition]):
  """Keeps a few batches ahead of the learner.

  A plain thread: deleting a tf.data iterator waits, with Python's lock held,
  for the Python function that it runs, which waits for that lock.
  """

  def __init__(self, sampler: TransitionSampler, start: int):
    self._ready = queue.Queue(_PREFETCHED_BATCHES)
    self._stop = threading.Event()
    self._thread = threading.Thread(
      target=self._prepare,
      args=(sampler, start, self._ready, self._stop),
      daemon=True,
    )
    self._thread.start()

  @staticmethod
  def _prepare(
    sampler: TransitionSampler,
    start: int,
    ready: queue.Queue,
    stop: threading.Event,
  ) -> None:
    for batch in itertools.count(start):
      try:
        item = Transition(
          *map(
            tf.convert_to_tensor,
            sampler.transitions(sampler.sample_rows(batch)),
          )
        )
      except Exception as error:  # Raised where the batch is asked for.
        item = error
      while not stop.is_set():
        with contextlib.suppress(queue.Full):
          ready.put(item, timeout=0.5)
          break
      if stop.is_set() or isinstance(item, Exception):
        return

  def __next__(self) -> Transition:
    item = self._ready.get()
    if isinstance(item, Exception):
      self._ready.put(item)  # For whoever asks again.
      raise item
    return item

  def __del__(self):
    self._stop.set()
