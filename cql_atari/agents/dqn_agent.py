"""DQN: Mnih et al. (2015), learning from a fixed replay."""

from collections.abc import Callable

import tensorflow as tf

from cql_atari.agents import fixed_replay_agent, networks, optimizers
from cql_atari.core.constraints import configurable
from cql_atari.losses import temporal_difference
from cql_atari.replay.sampler import Transition


@configurable
class FixedReplayDQNAgent(fixed_replay_agent.FixedReplayAgent):
  """Deep Q-learning."""

  LABEL = 'DQN'
  NETWORK, OUTPUT_RANK = networks.q_network, 2  # (B, A).
  SCALARS = ('td_loss',)

  def __init__(
    self,
    *args,
    optimizer: Callable[[], optimizers.Optimizer] = optimizers.RMSProp,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      *args: see FixedReplayAgent.
      optimizer: makes the optimizer.
      **kwargs: see FixedReplayAgent.
    """
    super().__init__(*args, optimizer=optimizer, **kwargs)

  def q_values(self, outputs: tf.Tensor) -> tf.Tensor:
    """The outputs themselves, (B, A)."""
    return outputs

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The batch mean of the Huber loss of the TD error."""
    q_data = tf.gather(outputs.online, transition.action, batch_dims=1)
    td_loss = tf.reduce_mean(
      temporal_difference.q_learning_loss(
        q_data, self.bellman_target(outputs, transition)
      )
    )
    return td_loss, {'td_loss': td_loss}
