"""Behavior cloning: the policy of greatest likelihood."""

import tensorflow as tf

from cql_atari.continuous.agents.base import ContinuousAgent, Loss
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.core.constraints import configurable


@configurable
class ContinuousBCAgent(ContinuousAgent):
  """A policy that imitates the data."""

  LABEL = 'BC'
  POLICY_LOSS = 'loss'
  has_values = False

  def policy_loss(self, batch: Transition, noise: Noise) -> Loss:
    """-log pi(a_data|s)."""
    del noise
    loss = -tf.reduce_mean(self.policy.log_density(batch.state, batch.action))
    return loss, {}
