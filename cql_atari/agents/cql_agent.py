"""CQL(H): Kumar et al. (2020), on QR-DQN."""

import gin
import tensorflow as tf

from cql_atari.agents import qrdqn_agent
from cql_atari.errors import check_number
from cql_atari.losses import conservative
from cql_atari.replay import dataset as dataset_lib


@gin.configurable
class CQLAgent(qrdqn_agent.QRDQNAgent):
  """QR-DQN whose loss also pushes down logsumexp Q and up Q of the data."""

  SCALARS = ('td_loss', 'cql_penalty')

  def __init__(self, *args, alpha: float = 1.0, **kwargs):
    """Initializes the agent.

    Args:
      *args: see QRDQNAgent.
      alpha: weight of the conservative penalty; 4.0 for 1 % of the data and
        1.0 for 10 % in the paper.
      **kwargs: see QRDQNAgent.
    """
    check_number('CQLAgent.alpha', alpha, 0)
    self.alpha = alpha
    super().__init__(*args, **kwargs)

  def loss(
    self,
    outputs: tf.Tensor,
    next_outputs: tf.Tensor,
    transition: dataset_lib.Transition,
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Eq. 4: alpha E[logsumexp_a Q(s, a) - Q(s, a_data)] + the QR-DQN loss."""
    td_loss, scalars = super().loss(outputs, next_outputs, transition)
    penalty = tf.reduce_mean(
      conservative.cql_h_penalty(self.q_values(outputs), transition.action)
    )
    return self.alpha * penalty + td_loss, {**scalars, 'cql_penalty': penalty}
