"""C51, categorical DQN: Bellemare et al. (2017)."""

import tensorflow as tf

from cql_atari.agents import fixed_replay_agent, networks
from cql_atari.core.constraints import Positive, configurable
from cql_atari.losses import temporal_difference
from cql_atari.replay.sampler import Transition


@configurable
class C51Agent(fixed_replay_agent.FixedReplayAgent):
  """Learns the return's distribution over fixed atoms. Q is its mean."""

  LABEL = 'C51'
  NETWORK = networks.categorical_network  # (B, A, N).
  SCALARS = ('td_loss',)

  def __init__(self, *args, vmax: Positive = 10.0, **kwargs):
    """Initializes the agent.

    Args:
      *args: see FixedReplayAgent.
      vmax: the greatest atom, in units of return; the least is its negative.
      **kwargs: see FixedReplayAgent.
    """
    self.vmax = vmax
    super().__init__(*args, **kwargs)

  def support(self, logits: tf.Tensor) -> tf.Tensor:
    """The atoms (N,) of logits (B, A, N)."""
    vmax = tf.constant(self.vmax, logits.dtype)
    return tf.linspace(-vmax, vmax, logits.shape[2])

  def q_values(self, outputs: tf.Tensor) -> tf.Tensor:
    """(B, A, N) logits -> (B, A)."""
    return tf.linalg.matvec(tf.nn.softmax(outputs), self.support(outputs))

  def return_distribution(
    self, outputs: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """The atoms and their softmax probabilities, (B, A, N) each."""
    atoms = self.support(outputs) + tf.zeros_like(outputs)
    return atoms, tf.nn.softmax(outputs)

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The batch mean of the cross-entropy with the projected target."""
    td_loss = tf.reduce_mean(
      temporal_difference.categorical_loss(
        tf.gather(outputs.online, transition.action, batch_dims=1),
        temporal_difference.categorical_target(
          outputs.next_target,
          self.greedy_actions(outputs.next_selector),
          transition.reward,
          transition.terminal,
          self.cumulative_gamma,
          self.support(outputs.online),
        ),
      )
    )
    return td_loss, {'td_loss': td_loss}
