"""BEAR: Kumar et al. (2019), on the same actor and critic."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from cql_atari.agents import optimizers
from cql_atari.continuous import networks
from cql_atari.continuous.agents.base import Loss
from cql_atari.continuous.agents.sac_agent import SACAgent
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.core.constraints import Count, NonNegative, Share
from cql_atari.core.settings import configurable
from cql_atari.losses import actor_critic

_MOST_LATENT = 0.5  # Of what likely actions are decoded from.
_MOST_MULTIPLIER = 2.0e4


@configurable
class BEARAgent(SACAgent):
  """Keeps the policy within the support of the data's, by MMD."""

  LABEL = 'BEAR'
  SCALARS = ('behavior_loss', 'mmd', 'multiplier')

  def __init__(
    self,
    *args,
    behavior: Callable[..., networks.ConditionalVAE] = networks.ConditionalVAE,
    behavior_learning_rate: NonNegative = 3e-4,
    kernel: Literal['laplacian', 'gaussian'] = 'laplacian',
    bandwidth: NonNegative = 20.0,
    threshold: NonNegative = 0.05,
    multiplier_learning_rate: NonNegative = 1e-3,
    num_samples: Count = 10,
    least_weight: Share = 0.75,
    temperature: NonNegative = 0.0,
    entropy_backup: bool = False,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      *args: see SACAgent.
      behavior: makes the model of the data's actions, called with (S, A, seed).
      behavior_learning_rate: Adam's.
      kernel: kernel of the MMD, 'laplacian' or 'gaussian'.
      bandwidth: sigma of the kernel.
      threshold: what the MMD is kept below.
      multiplier_learning_rate: Adam's, on the log of its Lagrange multiplier.
      num_samples: actions of each distribution in every state.
      least_weight: share of the least Q-function in the value of the next
        state; the greatest has the rest.
      temperature: see SACAgent; BEAR has no entropy term.
      entropy_backup: see SACAgent.
      **kwargs: see SACAgent.
    """
    self._behavior = behavior
    self._behavior_learning_rate = behavior_learning_rate
    self.kernel, self.bandwidth, self.threshold = kernel, bandwidth, threshold
    self._multiplier_learning_rate = multiplier_learning_rate
    self.num_samples, self.least_weight = num_samples, least_weight
    self.value_samples = num_samples
    super().__init__(
      *args, temperature=temperature, entropy_backup=entropy_backup, **kwargs
    )

  def _build(self) -> None:
    super()._build()
    self.behavior = self._behavior(
      self.state_size, self.action_size, self._seed_sequence(2)
    )
    self._add_part(
      'behavior_loss',
      self.behavior_loss,
      self._behavior_learning_rate,
      self.behavior,
    )
    self._multiplier = optimizers.DualVariable(
      1.0, self._multiplier_learning_rate, _MOST_MULTIPLIER
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
    """The best of several actions of the policy, as the values are of it.

    Args:
      states: float32 (E, S), as observed.
      rng: draws the actions; a fresh one of seed 0 by default.

    Returns:
      (E, A).
    """
    rng = rng or np.random.default_rng(0)
    shape = (len(states), self.num_samples, self.action_size)
    noise = rng.standard_normal(shape, np.float32)
    return self._best_actions(tf.constant(states), tf.constant(noise)).numpy()

  sample_actions = select_actions

  @tf.function(reduce_retracing=True)
  def _best_actions(self, states: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    states = self._normalized(states)
    actions, _ = self.policy.sample(states, noise)
    best = tf.argmax(self._mixed(self.critic(states, actions)), axis=1)
    return tf.gather(actions, best, batch_dims=1)

  def policy_penalty(self, batch: Transition, noise: Noise) -> Loss:
    """The multiplier times (MMD to the model's actions - threshold)."""
    latent = noise.normal(
      self.batch_size, self.num_samples, self.behavior.latent_size
    )
    latent = tf.clip_by_value(latent, -_MOST_LATENT, _MOST_LATENT)
    likely = self.behavior.decode(batch.state, latent)
    own, _ = self.policy.sample(
      batch.state, self._normal(noise, self.num_samples)
    )
    mmd = tf.reduce_mean(
      actor_critic.mmd(own, likely, self.kernel, self.bandwidth)
    )
    multiplier = self._multiplier.value
    return multiplier * (mmd - self.threshold), {
      'mmd': mmd,
      'multiplier': multiplier,
    }

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Moves the multiplier too."""
    super().after_step(scalars)
    self._multiplier.ascend(scalars['mmd'] - self.threshold)

  def _saved(self) -> dict[str, tf.Variable]:
    return {**super()._saved(), **self._multiplier.saved('multiplier')}
