"""CQL: Kumar et al. (2020), on QR-DQN, DQN or C51."""

from typing import Literal

import tensorflow as tf

from cql_atari.agents import (
  c51_agent,
  dqn_agent,
  fixed_replay_agent,
  penalty_weight,
  qrdqn_agent,
)
from cql_atari.core.constraints import NonNegative, configurable
from cql_atari.losses import conservative
from cql_atari.replay.sampler import Transition


@configurable
class CQLMixin(
  penalty_weight.PenaltyWeight, fixed_replay_agent.FixedReplayAgent
):
  """Adds alpha times a conservative penalty to the loss of any agent."""

  SCALARS = ('cql_penalty', 'alpha')

  def __init__(
    self,
    *args,
    alpha: NonNegative = 1.0,
    penalty: Literal['H', 'rho', 'mu', 'eq1', 'var'] = 'H',
    target_gap: float | None = None,
    alpha_learning_rate: NonNegative = 1e-3,
    chi2_radius: NonNegative = 1.0,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      *args: see the agent this is mixed into.
      alpha: weight of the penalty; 4.0 for 1 % of the data and 1.0 for 10 % in
        the paper. Where it is tuned, what it begins with.
      penalty: which member of the family CQL(R): 'H' (Eq. 4); 'rho', whose
        prior is the previous policy, softmax of the target network's Q; 'mu'
        (Eq. 2) and 'eq1' (Eq. 1), with mu the current policy, which takes the
        greedy action; 'var', the distributionally robust form.
      target_gap: tau, in units of return: alpha is then tuned so that the
        penalty comes to it (see `PenaltyWeight`). H can't go below the entropy
        of the behavior policy. None for a fixed alpha.
      alpha_learning_rate: Adam's, on log alpha.
      chi2_radius: radius of the chi^2 ball of 'var'.
      **kwargs: see the agent this is mixed into.
    """
    self.penalty, self.chi2_radius = penalty, chi2_radius
    self.target_gap, self._initial_alpha = target_gap, alpha
    self._alpha_learning_rate = alpha_learning_rate
    super().__init__(*args, **kwargs)

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The TD loss plus alpha times the mean penalty (Eq. 4 for 'H').

    The TD loss is that of the agent this is mixed into; for CQLAgent, QR-DQN's.
    """
    td_loss, scalars = super().loss(outputs, transition)
    penalty = tf.reduce_mean(self.conservative_penalty(outputs, transition))
    alpha = tf.cast(self._alpha.value, penalty.dtype)
    scalars = {**scalars, 'cql_penalty': penalty, 'alpha': alpha}
    return alpha * penalty + td_loss, scalars

  def conservative_penalty(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tf.Tensor:
    """The penalty of each transition, (B,), before the weight alpha."""
    q_values, actions = self.q_values(outputs.online), transition.action
    if self.penalty == 'H':
      return conservative.cql_h_penalty(q_values, actions)
    if self.penalty == 'var':
      return conservative.cql_var_penalty(q_values, actions, self.chi2_radius)
    if self.penalty == 'rho':
      prior = tf.nn.softmax(self.q_values(outputs.reference))
      return conservative.cql_rho_penalty(q_values, actions, prior)
    policy = tf.one_hot(
      tf.argmax(q_values, axis=1), self.num_actions, dtype=q_values.dtype
    )
    if self.penalty == 'mu':
      return conservative.cql_mu_penalty(q_values, actions, policy)
    return conservative.eq1_penalty(q_values, policy)

  def reference(self, transition: Transition) -> tf.Tensor | None:
    """The target network's output, where it is the prior's."""
    if self.penalty == 'rho':
      return self.target_network(transition.state, training=False)
    return super().reference(transition)


@configurable
class CQLAgent(CQLMixin, qrdqn_agent.QRDQNAgent):
  """CQL on QR-DQN, the paper's choice."""

  LABEL = 'CQL'


@configurable
class CQLDQNAgent(CQLMixin, dqn_agent.FixedReplayDQNAgent):
  """CQL on DQN."""

  LABEL = 'CQL-DQN'


@configurable
class CQLC51Agent(CQLMixin, c51_agent.C51Agent):
  """CQL on C51."""

  LABEL = 'CQL-C51'
