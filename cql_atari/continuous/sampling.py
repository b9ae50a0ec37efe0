"""Batches and noise inside the graph, a pure function of seed and step."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cql_atari.continuous.datasets import Dataset
from cql_atari.core.constraints import HalfOpenUnitInterval, configurable
from cql_atari.replay import holding_out


class Transition(NamedTuple):
  """A batch of transitions.

  Attributes:
    state: float32 (B, S).
    action: float32 (B, A), in [-1, 1].
    reward: float32 (B,).
    next_state: float32 (B, S); undefined content where terminal.
    terminal: float32 (B,), 1 where the episode came to its own end.
  """

  state: tf.Tensor
  action: tf.Tensor
  reward: tf.Tensor
  next_state: tf.Tensor
  terminal: tf.Tensor


class Noise:
  """Random tensors of one gradient step, each call's its own.

  A counter-based generator keyed by (seed, step, call): nothing has to be
  saved for a resumed run to draw what one never stopped would have drawn.
  """

  def __init__(self, seed: int, step: tf.Tensor):
    """Begins a step's draws.

    Args:
      seed: the run's seed.
      step: the number of the gradient step, an int64 scalar.
    """
    self._seed, self._step, self._calls = seed, step, 0

  def _key(self) -> tf.Tensor:
    self._calls += 1
    call = np.random.SeedSequence([self._seed, self._calls])
    first = int(call.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return tf.stack([tf.constant(first, tf.int64), self._step])

  def normal(self, *shape: int) -> tf.Tensor:
    """Standard normal float32 of a shape."""
    return tf.random.stateless_normal(shape, self._key())

  def uniform(self, *shape: int) -> tf.Tensor:
    """Uniform float32 in [-1, 1) of a shape."""
    return tf.random.stateless_uniform(shape, self._key(), -1.0, 1.0)

  def integers(self, count: int, below: tf.Tensor) -> tf.Tensor:
    """Uniform int32 (count,) in [0, below)."""
    return tf.random.stateless_uniform(
      (count,), self._key(), 0, below, dtype=tf.int32
    )


@configurable(denylist=['data'])
class FixedSampler:
  """Draws uniformly, with replacement, from a dataset.

  Attributes:
    held_out: transitions of the episodes held out, 1,024 of them at most, or
      None.
  """

  def __init__(self, data: Dataset, held_out: HalfOpenUnitInterval = 0.0):
    """Moves the dataset to TensorFlow.

    Args:
      data: the dataset.
      held_out: share of its rows, in whole episodes, that is never sampled, the
        same for every seed; `held_out_scalars` are measured on these.
    """
    columns = [getattr(data, name) for name in Transition._fields]
    self.held_out = None
    if held_out:
      rows = np.arange(len(data))
      episode = np.searchsorted(data.starts, rows, side='right')
      kept = holding_out.choose(episode, held_out, 'FixedSampler.held_out')
      some = holding_out.at_most(rows[kept])
      self.held_out = Transition(*(column[some] for column in columns))
      columns = [column[~kept] for column in columns]
    self._size = len(columns[0])
    self._columns = Transition(*map(tf.constant, columns))

  def __len__(self) -> int:
    return self._size

  def sample(self, noise: Noise, batch_size: int) -> Transition:
    """Part of the gradient step: a batch of B transitions."""
    return self.rows(noise.integers(batch_size, self._size))

  def rows(self, rows: tf.Tensor) -> Transition:
    """The transitions of given rows, (B,) integers."""
    return Transition(*(tf.gather(column, rows) for column in self._columns))


class ReplayMemory:
  """A replay memory of all transitions of an online run.

  Attributes:
    state: float32 (capacity, S), a variable; the first `len` rows are filled.
    action: float32 (capacity, A), as `state`.
    state_mean: float32 (S,), what was subtracted from states; zeros at first.
    state_std: float32 (S,), what they were divided by; ones at first.
  """

  def __init__(self, capacity: int, state_size: int, action_size: int):
    """Makes room for `capacity` rows."""
    sizes = ((state_size,), (action_size,), (), (state_size,), ())
    self._columns = Transition(
      *(tf.Variable(tf.zeros((capacity, *size))) for size in sizes)
    )
    self._size = tf.Variable(0)
    self.state, self.action = self._columns.state, self._columns.action
    self.state_mean = np.zeros(state_size, np.float32)
    self.state_std = np.ones(state_size, np.float32)

  def __len__(self) -> int:
    return int(self._size.numpy())

  def extend(self, *columns: np.ndarray) -> None:
    """Adds rows, given as the columns of a Transition."""
    start = len(self)
    stop = start + len(columns[0])
    for variable, values in zip(self._columns, columns):
      variable[start:stop].assign(tf.constant(values, tf.float32))
    self._size.assign(stop)

  def columns(self) -> Transition:
    """All rows, as arrays."""
    return Transition(*(c[: len(self)].numpy() for c in self._columns))

  def sample(self, noise: Noise, batch_size: int) -> Transition:
    """Part of the gradient step: a batch of B transitions."""
    rows = noise.integers(batch_size, self._size.read_value())
    return Transition(*(tf.gather(column, rows) for column in self._columns))


class MixedSampler:
  """Draws a share of every batch from a dataset, and the rest from a memory.

  Its length and its `rows` are the dataset's.
  """

  def __init__(self, data: Dataset, memory: ReplayMemory, share: float):
    """Makes the sampler of the dataset.

    Args:
      data: the dataset.
      memory: what was played.
      share: the dataset's part of a batch, rounded to whole transitions.
    """
    self._fixed = FixedSampler(data)
    self._memory, self._share = memory, share
    self.rows = self._fixed.rows

  def __len__(self) -> int:
    return len(self._fixed)

  def sample(self, noise: Noise, batch_size: int) -> Transition:
    """Part of the gradient step: a batch of B transitions."""
    of_fixed = round(self._share * batch_size)
    played = self._memory.sample(noise, batch_size - of_fixed)
    logged = self._fixed.sample(noise, of_fixed)
    return Transition(*(tf.concat(both, 0) for both in zip(played, logged)))
