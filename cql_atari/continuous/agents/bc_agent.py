"""Behavior cloning: the policy of greatest likelihood."""

import gin
import tensorflow as tf

from cql_atari.continuous.agents.base import ContinuousAgent, Loss
from cql_atari.continuous.sampling import Noise, Transition


@gin.configurable
class ContinuousBCAgent(ContinuousAgent):
  """A policy that imitates the data."""

  POLICY_LOSS = 'loss'
  HAS_VALUES = False

  def policy_loss(self, batch: Transition, noise: Noise) -> Loss:
    """-log pi(a_data|s)."""
    del noise
    loss = -tf.reduce_mean(self.policy.log_density(batch.state, batch.action))
    return loss, {}
