"""Behaviour cloning: the data's actions, by classification."""

import tensorflow as tf

from cql_atari.agents import fixed_replay_agent, networks
from cql_atari.core.constraints import configurable
from cql_atari.replay.sampler import Transition


@configurable
class BCAgent(fixed_replay_agent.FixedReplayAgent):
  """Imitates the data; acts on the likeliest action.

  It has no values: `q_data` and `q_max` of its metrics are log-probabilities of
  the data's and of the likeliest actions.
  """

  LABEL = 'BC'
  NETWORK, OUTPUT_RANK = networks.q_network, 2  # (B, A), logits.
  SCALARS = ('accuracy',)
  BOOTSTRAPS = False
  has_values = False

  def q_values(self, outputs: tf.Tensor) -> tf.Tensor:
    """(B, A) logits -> log-probabilities (B, A)."""
    return tf.nn.log_softmax(outputs)

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The batch mean of -log pi(a_data | s)."""
    loss = tf.reduce_mean(
      tf.nn.sparse_softmax_cross_entropy_with_logits(
        transition.action, outputs.online
      )
    )
    hits = self.greedy_actions(outputs.online) == transition.action
    return loss, {'accuracy': tf.reduce_mean(tf.cast(hits, tf.float32))}
