"""REM, the random ensemble mixture: Agarwal et al. (2020)."""

import tensorflow as tf

from cql_atari.agents import fixed_replay_agent, networks
from cql_atari.core.constraints import configurable
from cql_atari.losses import temporal_difference
from cql_atari.replay.sampler import Transition


@configurable
class REMAgent(fixed_replay_agent.FixedReplayAgent):
  """Q-learning on a random convex combination of many heads.

  Each gradient step draws one combination and uses it for the online and the
  target network alike. Q, as acted on, is the plain mean of the heads.
  """

  LABEL = 'REM'
  NETWORK = networks.multi_head_network  # (B, A, K), K heads.
  SCALARS = ('td_loss',)

  def q_values(self, outputs: tf.Tensor) -> tf.Tensor:
    """(B, A, K) heads -> (B, A)."""
    return tf.reduce_mean(outputs, axis=2)

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The batch mean of the Huber loss of the mixed TD error (Eq. 5)."""
    mixture = temporal_difference.random_mixture(
      outputs.online.shape[2], self.seed, outputs.step, outputs.online.dtype
    )
    mixed, next_mixed, next_selector = (
      tf.linalg.matvec(heads, mixture)
      for heads in (outputs.online, outputs.next_target, outputs.next_selector)
    )
    td_loss = tf.reduce_mean(
      temporal_difference.q_learning_loss(
        tf.gather(mixed, transition.action, batch_dims=1),
        temporal_difference.bellman_target(
          next_mixed,
          tf.argmax(next_selector, axis=1),
          transition.reward,
          transition.terminal,
          self.cumulative_gamma,
        ),
      )
    )
    return td_loss, {'td_loss': td_loss}
