"""Cloning of the data's policy, before an agent that needs it learns."""

import math

import numpy as np
import tensorflow as tf

from cql_atari.agents import optimizers
from cql_atari.continuous import networks
from cql_atari.continuous.sampling import FixedSampler, Noise
from cql_atari.core.errors import UserError

_HELD_OUT_SHARE, _MAX_HELD_OUT = 0.05, 10_000
_LEAST_GAIN = 0.01  # Nats; less is no improvement.
# As in BRAC's code: actions at the ends of their range have no finite density,
# and next to them one that outweighs all others.
_LARGEST_ACTION = 1.0 - 1e-3


class BehaviorCloning(tf.Module):
  """Fits a policy to the data by likelihood, as BRAC's code does.

  A tuned temperature keeps the entropy at -A or above. Training ends after a
  number of steps, or early once the held-out likelihood stops rising.

  Attributes:
    policy: the fitted policy.
    held_out_loss: negative log-likelihood of the held-out transitions, in nats,
      at the last validation that improved it; a scalar variable.
  """

  def __init__(
    self,
    policy: networks.TanhGaussianPolicy,
    sampler: FixedSampler,
    batch_size: int,
    learning_rate: float,
    most_steps: int,
    check_period: int,
    patience: int,
    seed: int,
  ):
    """Splits the data; learns nothing yet.

    Args:
      policy: what to fit.
      sampler: has the data.
      batch_size: transitions in a gradient step.
      learning_rate: Adam's.
      most_steps: gradient steps after which it ends.
      check_period: gradient steps between looks at the transitions held out.
      patience: looks without improvement after which it ends.
      seed: seeds the batches, the noise, and what is held out.
    """
    super().__init__()
    self.policy, self._sampler, self._seed = policy, sampler, seed
    self._batch_size, self._most_steps = batch_size, most_steps
    self._check_period, self._patience = check_period, patience
    size = len(sampler)
    order = np.random.default_rng([seed, size]).permutation(size)
    held_out = max(1, min(int(_HELD_OUT_SHARE * size), _MAX_HELD_OUT))
    self._held_out = tf.constant(order[:held_out], tf.int32)
    self._learned = tf.constant(order[held_out:] if size > 1 else order)
    self._adam = optimizers.Adam(learning_rate, epsilon=1e-8)
    self._adam.build(policy.layers)
    self._temperature = optimizers.DualVariable(1.0, learning_rate)
    self.held_out_loss = tf.Variable(math.inf)
    self._looks_without_gain = tf.Variable(0)

  @property
  def steps_left(self) -> int:
    """Gradient steps until it ends; it may end before."""
    if int(self._looks_without_gain) >= self._patience:
      return 0
    return max(0, self._most_steps - int(self._adam.iterations))

  def learn(self, count: int) -> None:
    """Takes gradient steps: `count`, or as many as are left."""
    while count > 0 and (left := self.steps_left):
      until_look = -int(self._adam.iterations) % self._check_period
      steps = min(count, left, until_look or self._check_period)
      self._learn(tf.constant(steps))
      if steps == left or not int(self._adam.iterations) % self._check_period:
        self._look()
        self._check()
      count -= steps

  def _check(self) -> None:
    if not all(np.isfinite(v.numpy()).all() for v in self.policy.layers):
      raise UserError(
        "the cloning of the data's policy came to weights that are no numbers: "
        'lower BRACAgent.behavior_learning_rate and start in a new --base_dir.'
      )

  @tf.function
  def _learn(self, count: tf.Tensor) -> None:
    for _ in tf.range(count):
      self._learn_from_next_batch()

  @tf.autograph.experimental.do_not_convert
  def _learn_from_next_batch(self) -> None:
    # Numbers below zero: the draws of the agent's own steps are others.
    noise = Noise(self._seed, -1 - self._adam.iterations.read_value())
    picked = noise.integers(self._batch_size, len(self._learned))
    batch = self._sampler.rows(tf.gather(self._learned, picked))
    normal = noise.normal(self._batch_size, self.policy.action_size)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(self.policy.layers)
      loss, entropy = self.loss(batch.state, batch.action, normal)
    self._adam.apply(tape.gradient(loss, self.policy.layers))
    self._temperature.ascend(-float(self.policy.action_size) - entropy)

  def loss(
    self, states: tf.Tensor, actions: tf.Tensor, normal: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """T log b(a|s) - log b(a_data|s), a drawn from b.

    Args:
      states: (B, S).
      actions: (B, A), the data's.
      normal: (B, A) standard normal, for the drawn actions.

    Returns:
      The loss, and the entropy of b: scalars.
    """
    _, log_density = self.policy.sample(states, normal)
    entropy = -tf.reduce_mean(log_density)
    likelihood = self._log_likelihood(states, actions)
    return -self._temperature.value * entropy - likelihood, entropy

  def _log_likelihood(self, states, actions):
    actions = tf.clip_by_value(actions, -_LARGEST_ACTION, _LARGEST_ACTION)
    return tf.reduce_mean(self.policy.log_density(states, actions))

  @tf.function
  def _look(self) -> None:
    """Compares the likelihood of what was held out with the best so far."""
    batch = self._sampler.rows(self._held_out)
    loss = -self._log_likelihood(batch.state, batch.action)
    is_better = loss < self.held_out_loss - _LEAST_GAIN
    looks = tf.where(is_better, 0, self._looks_without_gain + 1)
    self._looks_without_gain.assign(looks)
    best = tf.where(is_better, loss, self.held_out_loss)
    self.held_out_loss.assign(best)

  def saved(self) -> dict[str, tf.Variable]:
    """Its variables by name, for a checkpoint."""
    groups = {
      'behavior': self.policy.layers,
      'behavior_steps': [self._adam.iterations],
      **{f'behavior_{key}': slot for key, slot in self._adam.slots.items()},
      'behavior_look': [self.held_out_loss, self._looks_without_gain],
    }
    return {
      **{f'{n}_{i}': v for n, vs in groups.items() for i, v in enumerate(vs)},
      **self._temperature.saved('behavior_temperature'),
    }
