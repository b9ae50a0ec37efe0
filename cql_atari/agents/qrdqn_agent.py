"""QR-DQN: Dabney et al. (2017), learning from a fixed replay."""

import tensorflow as tf

from cql_atari.agents import fixed_replay_agent, networks
from cql_atari.core.constraints import Positive, configurable
from cql_atari.losses import temporal_difference
from cql_atari.replay.sampler import Transition


@configurable
class QRDQNAgent(fixed_replay_agent.FixedReplayAgent):
  """Quantile regression DQN. Q is the mean of the quantiles."""

  LABEL = 'QR-DQN'
  NETWORK = networks.quantile_network  # (B, A, N).
  SCALARS = ('td_loss',)

  def __init__(self, *args, kappa: Positive = 1.0, **kwargs):
    """Initializes the agent.

    Args:
      *args: see FixedReplayAgent.
      kappa: Huber threshold, in units of return; above 0.
      **kwargs: see FixedReplayAgent.
    """
    self.kappa = kappa
    super().__init__(*args, **kwargs)

  def q_values(self, outputs: tf.Tensor) -> tf.Tensor:
    """(B, A, N) quantiles -> (B, A)."""
    return tf.reduce_mean(outputs, axis=2)

  def return_distribution(
    self, outputs: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """The quantiles and their probabilities 1 / N, (B, A, N) each."""
    return outputs, tf.ones_like(outputs) / outputs.shape[2]

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The batch mean of the quantile Huber loss (its paper's Eq. 10)."""
    quantiles = tf.gather(outputs.online, transition.action, batch_dims=1)
    td_loss = tf.reduce_mean(
      temporal_difference.quantile_huber_loss(
        quantiles, self.bellman_target(outputs, transition), self.kappa
      )
    )
    return td_loss, {'td_loss': td_loss}
