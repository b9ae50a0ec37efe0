"""From a store to training batches: uniform sampling, stacks, n-step returns.

Batch k of a run is a pure function of (store, seed, k): a counter-based
generator draws its rows, so the sampler's whole state is the number of batches
drawn, and threads that prepare batches ahead change nothing.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cql_atari.replay import store as store_lib
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE, stack_frames

_PREFETCHED_BATCHES = 8


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


_SIGNATURE = Transition(
  state=tf.TensorSpec((None, *FRAME_SHAPE, 4), tf.uint8),
  action=tf.TensorSpec((None,), tf.int32),
  reward=tf.TensorSpec((None,), tf.float32),
  next_state=tf.TensorSpec((None, *FRAME_SHAPE, 4), tf.uint8),
  terminal=tf.TensorSpec((None,), tf.uint8),
)


@dataclasses.dataclass(frozen=True)
class TransitionSampler:
  """Draws uniformly, with replacement, over every valid transition of a store.

  Attributes:
    store: the split.
    batch_size: B.
    update_horizon: n of the n-step return.
    gamma: discount per step, applied to rewards inside the n steps.
    seed: of the draws.
  """

  store: store_lib.Store
  batch_size: int = 32
  update_horizon: int = 1
  gamma: float = 0.99
  seed: int = 0

  @functools.cached_property
  def valid(self) -> np.ndarray:
    """int64 (V,): the store rows that may be sampled."""
    return self.store.valid_transitions(self.update_horizon)

  def sample_rows(self, batch: int) -> np.ndarray:
    """The store rows of batch number `batch`: int64 (B,)."""
    bits = np.random.Philox(key=self.seed, counter=[0, 0, 0, batch])
    draws = np.random.Generator(bits).integers(
      0, len(self.valid), self.batch_size
    )
    return self.valid[draws]

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
      next_frames = frames[1:]
    else:
      length = np.where(terminal, terminals.argmax(axis=1) + 1, horizon)
      window = length + np.arange(STACK_SIZE)[:, None]
      next_frames = frames[window, np.arange(len(rows))]
    return Transition(
      state=stack_frames(frames[:STACK_SIZE]),
      action=store.actions[rows].astype(np.int32),
      reward=reward,
      next_state=stack_frames(next_frames),
      terminal=terminal.astype(np.uint8),
    )

  def batches(self, start: int = 0) -> tf.data.Dataset:
    """An endless dataset of batches start, start + 1, ..., prefetched.

    Args:
      start: number of the first batch; a learner that has taken k gradient
        steps resumes at k.

    Returns:
      A dataset of `Transition` tensors.
    """
    self.valid  # Found before threads ask for it.  # noqa: B018

    def assemble(batch: np.ndarray) -> Transition:
      return self.transitions(self.sample_rows(int(batch)))

    def as_tensors(batch: tf.Tensor) -> Transition:
      types = [spec.dtype for spec in _SIGNATURE]
      tensors = Transition(*tf.numpy_function(assemble, [batch], types))
      for tensor, spec in zip(tensors, _SIGNATURE):
        tensor.set_shape((self.batch_size, *spec.shape[1:]))
      return tensors

    return (
      tf.data.Dataset.counter(start)
      .map(as_tensors)
      .prefetch(_PREFETCHED_BATCHES)
    )
