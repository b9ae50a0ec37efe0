"""BRAC: Wu et al. (2019), with the KL divergence, as D4RL ran it."""

from collections.abc import Callable

import tensorflow as tf

from cql_atari.continuous import networks
from cql_atari.continuous.agents.base import Loss
from cql_atari.continuous.agents.cloning import BehaviorCloning
from cql_atari.continuous.agents.sac_agent import SACAgent
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.core.constraints import (
  NonNegative,
  NonNegativeInt,
  PositiveInt,
  configurable,
)
from cql_atari.losses import actor_critic


@configurable
class BRACAgent(SACAgent):
  """Regularizes the policy towards a cloned behavior policy, by KL divergence.

  The behavior policy is cloned before the first gradient step and then fixed.
  """

  LABEL = 'BRAC-{variant}'
  NEEDS_DATA = True
  SCALARS = ('behavior_loss', 'kl')
  WARMUP_STEPS, ENTROPY_BACKUP = 20_000, False

  def __init__(
    self,
    *args,
    alpha: NonNegative = 1.0,
    penalize_value: bool = True,
    behavior: Callable[..., networks.TanhGaussianPolicy] | None = None,
    behavior_learning_rate: NonNegative = 5e-4,
    behavior_steps: NonNegativeInt = 1_000_000,
    behavior_check_period: PositiveInt = 5_000,
    behavior_patience: PositiveInt = 4,
    temperature: NonNegative | None = 0.0,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      *args: see SACAgent.
      alpha: weight of the divergence.
      penalize_value: whether it counts in the value of the next state (BRAC-v)
        as well as in the policy's loss (BRAC-p).
      behavior: makes the clone, called with (S, A, seed); by default as the
        policy is made.
      behavior_learning_rate: Adam's, of the clone.
      behavior_steps: gradient steps of the cloning, which come before the
        agent's own and are not counted with them.
      behavior_check_period: gradient steps between validations, on 5 % of the
        data (at most 10,000 transitions).
      behavior_patience: validations without a gain of 0.01 nats in likelihood
        after which cloning stops early.
      temperature: see SACAgent; BRAC on D4RL has no entropy term.
      **kwargs: see SACAgent; for the `warmup_steps`, by default 20,000, the
        policy learns by the divergence alone.
    """
    self.alpha, self.penalize_value = alpha, penalize_value
    self.variant = 'v' if penalize_value else 'p'
    self._behavior_fn = behavior
    self._cloning_settings = {
      'learning_rate': behavior_learning_rate,
      'most_steps': behavior_steps,
      'check_period': behavior_check_period,
      'patience': behavior_patience,
    }
    super().__init__(*args, temperature=temperature, **kwargs)

  def _build(self) -> None:
    super()._build()
    make = self._behavior_fn or self._policy_fn
    self.behavior = self._make_network(make, 2)
    self.cloning = BehaviorCloning(
      self.behavior,
      self._sampler,
      self.batch_size,
      seed=self.seed,
      **self._cloning_settings,
    )

  @property
  def pretraining_left(self) -> int:
    """Gradient steps of the cloning that are left; it may end before."""
    return self.cloning.steps_left

  def pretrain_steps(self, count: int) -> None:
    """Clones the data's policy."""
    self.cloning.learn(count)

  def divergence(self, states: tf.Tensor) -> tf.Tensor:
    """KL(pi(.|s), b(.|s)) (B,), exact for tanh-Gaussians."""
    return actor_critic.gaussian_kl(
      *self.policy(states), *self.behavior(states)
    )

  def next_value(self, batch: Transition, noise: Noise) -> tf.Tensor:
    """V(s') (B,), minus alpha times the divergence there for BRAC-v."""
    value = super().next_value(batch, noise)
    if self.penalize_value:
      value -= self.alpha * self.divergence(batch.next_state)
    return value

  def warmup_value(self, batch: Transition) -> tf.Tensor:
    """Zeros (B,): during warm-up the policy learns by the divergence alone."""
    return tf.zeros_like(batch.reward)

  def policy_penalty(self, batch: Transition, noise: Noise) -> Loss:
    """Alpha times the divergence."""
    del noise
    kl = tf.reduce_mean(self.divergence(batch.state))
    behavior_loss = self.cloning.held_out_loss.read_value()
    return self.alpha * kl, {'kl': kl, 'behavior_loss': behavior_loss}

  def _saved(self) -> dict[str, tf.Variable]:
    return {**super()._saved(), **self.cloning.saved()}
