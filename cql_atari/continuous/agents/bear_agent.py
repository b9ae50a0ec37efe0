"""BEAR: Kumar et al. (2019), as D4RL ran it."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from cql_atari.agents import optimizers
from cql_atari.continuous import networks
from cql_atari.continuous.agents.base import Loss
from cql_atari.continuous.agents.sac_agent import SACAgent
from cql_atari.continuous.datasets import Dataset
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.core.constraints import (
  NonNegative,
  Positive,
  PositiveInt,
  UnitInterval,
  configurable,
)
from cql_atari.losses import actor_critic

_MAX_LATENT = 0.5  # Of what likely actions are decoded from.
_LOG_MULTIPLIER_RANGE = (-5.0, 10.0)


@configurable
class BEARAgent(SACAgent):
  """Keeps the policy within the support of the data's, by MMD."""

  LABEL = 'BEAR'
  NEEDS_DATA = True
  SCALARS = ('behavior_loss', 'mmd', 'multiplier')
  WARMUP_STEPS, ENTROPY_BACKUP = 40_000, False

  def __init__(
    self,
    data: Dataset,
    *args,
    behavior: Callable[..., networks.ConditionalVAE] = networks.ConditionalVAE,
    behavior_learning_rate: NonNegative = 3e-4,
    kernel: Literal['laplacian', 'gaussian'] | None = None,
    bandwidth: Positive = 20.0,
    threshold: NonNegative = 0.05,
    multiplier_learning_rate: NonNegative = 1e-3,
    mmd_samples: PositiveInt = 4,
    num_samples: PositiveInt = 10,
    play_samples: PositiveInt = 100,
    least_weight: UnitInterval = 0.75,
    temperature: NonNegative | None = 0.0,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      data: see ContinuousAgent.
      *args: see SACAgent.
      behavior: makes the model of the data's actions, called with (S, A, seed).
      behavior_learning_rate: Adam's.
      kernel: kernel of the MMD; by default D4RL's, 'gaussian' for halfcheetah
        and 'laplacian' for all others.
      bandwidth: sigma of the kernel.
      threshold: upper bound on the MMD.
      multiplier_learning_rate: Adam's, on the log of its Lagrange multiplier.
      mmd_samples: actions of each distribution in every state, for the MMD.
      num_samples: policy samples at every next state; the target is the value
        of the best one.
      play_samples: policy samples in play; the best one is taken.
      least_weight: lambda, weight of the minimum over the Q-functions in the
        target; the maximum has weight 1 - lambda.
      temperature: see SACAgent; BEAR has no entropy term.
      **kwargs: see SACAgent; for the `warmup_steps`, by default 40,000, the
        policy learns by the MMD alone.

    Raises:
      UserError: there are no data that it could stay near to.
    """
    self._check_data(data)
    self._behavior_fn = behavior
    self._behavior_learning_rate = behavior_learning_rate
    is_gaussian = data.task.domain == 'halfcheetah'
    self.kernel = kernel or ('gaussian' if is_gaussian else 'laplacian')
    self.bandwidth, self.threshold = bandwidth, threshold
    low, high = map(math.exp, _LOG_MULTIPLIER_RANGE)
    self._multiplier = optimizers.DualVariable(
      1.0, multiplier_learning_rate, high, low
    )
    self.mmd_samples, self.play_samples = mmd_samples, play_samples
    self.num_samples, self.least_weight = num_samples, least_weight
    self.value_samples = num_samples
    super().__init__(data, *args, temperature=temperature, **kwargs)

  def _build(self) -> None:
    super()._build()
    self.behavior = self._make_network(self._behavior_fn, 2)
    self._add_part(
      'behavior_loss',
      self.behavior_loss,
      self._behavior_learning_rate,
      self.behavior,
    )

  def behavior_loss(self, batch: Transition, noise: Noise) -> Loss:
    """The model's: see `networks.ConditionalVAE.loss`."""
    latent = noise.normal(self.batch_size, self.behavior.latent_size)
    return self.behavior.loss(batch.state, batch.action, latent), {}

  def next_value(self, batch: Transition, noise: Noise) -> tf.Tensor:
    """V(s') (B,): the best of several actions, by least and greatest Q."""
    actions, _ = self.policy.sample(
      batch.next_state, self._normal(noise, self.num_samples)
    )
    return self.value_of_samples(self.target_critic(batch.next_state, actions))

  def value_of_samples(self, q_values: tf.Tensor) -> tf.Tensor:
    """That of the best of the samples: (K, B, N) -> (B,)."""
    return tf.reduce_max(self._mixed(q_values), axis=1)

  def _mixed(self, q_values: tf.Tensor) -> tf.Tensor:
    """The least and the greatest Q-function's, weighed: (K, ...) -> (...)."""
    mixed = self.least_weight * tf.reduce_min(q_values, axis=0)
    return mixed + (1.0 - self.least_weight) * tf.reduce_max(q_values, axis=0)

  def select_actions(
    self, states: np.ndarray, rng: np.random.Generator | None = None
  ) -> np.ndarray:
    """The best of many actions of the policy, by the first Q-function.

    Args:
      states: float32 (E, S), as observed.
      rng: draws the actions; a fresh one of seed 0 by default.

    Returns:
      (E, A).
    """
    rng = rng or np.random.default_rng(0)
    return self._best(states, rng, self.play_samples, True)

  def _exported(self, states: tf.Tensor) -> dict[str, tf.Tensor]:
    """As `select_actions`, with draws that are the same for every state."""
    shape = (1, self.play_samples, self.action_size)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    tiled = tf.tile(noise, (tf.shape(states)[0], 1, 1))
    action, value = self._best_actions(states, tiled, True)
    return {'action': action, 'q_value': value}

  def sample_actions(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """The best of several, by both Q-functions, as the values are of it."""
    return self._best(states, rng, self.num_samples, False)

  def _best(self, states, rng, count: int, by_first: bool) -> np.ndarray:
    shape = (len(states), count, self.action_size)
    noise = rng.standard_normal(shape, np.float32)
    states, noise = self._checked_states(states), tf.constant(noise)
    return self._best_actions(states, noise, by_first)[0].numpy()

  @tf.function(reduce_retracing=True)
  def _best_actions(
    self, states: tf.Tensor, noise: tf.Tensor, by_first: bool
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """The best actions (B, A), and their values by the least Q-function."""
    states = self._normalized(states)
    actions, _ = self.policy.sample(states, noise)
    values = self.critic(states, actions)
    best = tf.argmax(values[0] if by_first else self._mixed(values), axis=1)
    least = tf.gather(tf.reduce_min(values, axis=0), best, batch_dims=1)
    return tf.gather(actions, best, batch_dims=1), least

  def warmup_value(self, batch: Transition) -> tf.Tensor:
    """Zeros (B,): during warm-up the policy learns by the MMD alone."""
    return tf.zeros_like(batch.reward)

  def policy_penalty(self, batch: Transition, noise: Noise) -> Loss:
    """The multiplier times (MMD to the model's actions - threshold).

    The MMD is between pre-tanh actions.
    """
    latent = noise.normal(
      self.batch_size, self.mmd_samples, self.behavior.latent_size
    )
    latent = tf.clip_by_value(latent, -_MAX_LATENT, _MAX_LATENT)
    likely = self.behavior.decode_before_tanh(batch.state, latent)
    actions, _ = self.policy.sample_before_tanh(
      batch.state, self._normal(noise, self.mmd_samples)
    )
    mmd = tf.reduce_mean(
      actor_critic.mmd(actions, likely, self.kernel, self.bandwidth)
    )
    multiplier = self._multiplier.value
    return multiplier * (mmd - self.threshold), {
      'mmd': mmd,
      'multiplier': multiplier,
    }

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Moves the multiplier too."""
    super().after_step(scalars)
    if 'mmd' in scalars:
      self._multiplier.ascend(scalars['mmd'] - self.threshold)

  def _saved(self) -> dict[str, tf.Variable]:
    return {**super()._saved(), **self._multiplier.saved('multiplier')}
