"""BRAC: Wu et al. (2019), with the KL divergence."""

import tensorflow as tf

from cql_atari.continuous.agents.base import Loss
from cql_atari.continuous.agents.sac_agent import SACAgent
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.core.constraints import NonNegative
from cql_atari.core.settings import configurable
from cql_atari.losses import actor_critic


@configurable
class BRACAgent(SACAgent):
  """Keeps the policy near a model of the data's, by KL divergence."""

  LABEL = 'BRAC-{variant}'
  SCALARS = ('behavior_loss', 'kl')

  def __init__(
    self,
    *args,
    alpha: NonNegative = 0.1,
    penalize_value: bool = True,
    behavior_learning_rate: NonNegative = 1e-3,
    temperature: NonNegative = 0.0,
    entropy_backup: bool = False,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      *args: see SACAgent.
      alpha: weight of the divergence.
      penalize_value: whether it counts in the value of the next state (BRAC-v)
        as well as in the policy's loss (BRAC-p).
      behavior_learning_rate: Adam's, of the model of the data's policy.
      temperature: see SACAgent; BRAC on D4RL has no entropy term.
      entropy_backup: see SACAgent.
      **kwargs: see SACAgent.
    """
    self.alpha, self.penalize_value = alpha, penalize_value
    self.variant = 'v' if penalize_value else 'p'
    self._behavior_learning_rate = behavior_learning_rate
    super().__init__(
      *args, temperature=temperature, entropy_backup=entropy_backup, **kwargs
    )

  def _build(self) -> None:
    super()._build()
    self.behavior = self._make_policy(2)
    self._add_part(
      'behavior_loss',
      self.behavior_loss,
      self._behavior_learning_rate,
      self.behavior,
    )

  def behavior_loss(self, batch: Transition, noise: Noise) -> Loss:
    """-log b(a_data|s), b being the model of the data's policy."""
    del noise
    return -tf.reduce_mean(
      self.behavior.log_density(batch.state, batch.action)
    ), {}

  def divergence(self, states: tf.Tensor) -> tf.Tensor:
    """KL(pi(.|s), b(.|s)) (B,), exact for tanh-Gaussians."""
    return actor_critic.gaussian_kl(
      *self.policy(states), *self.behavior(states)
    )

  def next_value(self, batch: Transition, noise: Noise) -> tf.Tensor:
    """V(s') (B,), less alpha times the divergence there for BRAC-v."""
    value = super().next_value(batch, noise)
    if self.penalize_value:
      value -= self.alpha * self.divergence(batch.next_state)
    return value

  def policy_penalty(self, batch: Transition, noise: Noise) -> Loss:
    """Alpha times the divergence."""
    del noise
    kl = tf.reduce_mean(self.divergence(batch.state))
    return self.alpha * kl, {'kl': kl}
