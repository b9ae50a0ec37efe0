"""CQL: Kumar et al. (2020), on QR-DQN, DQN or C51."""

import gin
import tensorflow as tf

from cql_atari.agents import (
  c51_agent,
  dqn_agent,
  fixed_replay_agent,
  penalty_weight,
  qrdqn_agent,
)
from cql_atari.core.errors import UserError, check_number
from cql_atari.losses import conservative
from cql_atari.replay.sampler import Transition

PENALTIES = ('H', 'rho', 'mu', 'eq1', 'var')


@gin.configurable
class CQLMixin(fixed_replay_agent.FixedReplayAgent):
  """Adds alpha times a conservative penalty to the loss of any agent."""

  def __init__(
    self,
    *args,
    alpha: float = 1.0,
    penalty: str = 'H',
    target_gap: float | None = None,
    alpha_learning_rate: float = 1e-3,
    chi2_radius: float = 1.0,
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
      target_gap: tau, in units of return: alpha then rises while the penalty
        is above it and falls while it is below, by dual gradient descent on
        alpha (penalty - tau), up to 10^6. H can't go below the entropy of the
        behavior policy. None for a fixed alpha.
      alpha_learning_rate: Adam's, on log alpha.
      chi2_radius: of 'var'.
      **kwargs: see the agent this is mixed into.
    """
    name = type(self).__name__
    check_number(f'{name}.chi2_radius', chi2_radius, 0)
    if penalty not in PENALTIES:
      raise UserError(
        f'{name}.penalty is {penalty!r}: give one of {", ".join(PENALTIES)}.'
      )
    self.penalty, self.chi2_radius = penalty, chi2_radius
    self.weight = penalty_weight.PenaltyWeight(
      name, alpha, target_gap, alpha_learning_rate
    )
    self.needs_target_outputs = penalty == 'rho'
    self.SCALARS = (*self.SCALARS, 'cql_penalty', 'alpha')
    super().__init__(*args, **kwargs)

  def _build(self) -> None:
    super()._build()
    self.weight.build()

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Eq. 4: alpha E[logsumexp_a Q(s, a) - Q(s, a_data)] + the agent's loss."""
    td_loss, scalars = super().loss(outputs, transition)
    penalty = tf.reduce_mean(self.conservative_penalty(outputs, transition))
    alpha = tf.cast(self.weight.value, penalty.dtype)
    scalars = {**scalars, 'cql_penalty': penalty, 'alpha': alpha}
    return alpha * penalty + td_loss, scalars

  def conservative_penalty(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tf.Tensor:
    """(B,): the factor of alpha in the chosen equation."""
    q_values, actions = self.q_values(outputs.online), transition.action
    if self.penalty == 'H':
      return conservative.cql_h_penalty(q_values, actions)
    if self.penalty == 'var':
      return conservative.cql_var_penalty(q_values, actions, self.chi2_radius)
    if self.penalty == 'rho':
      prior = tf.nn.softmax(self.q_values(outputs.target))
      return conservative.cql_rho_penalty(q_values, actions, prior)
    policy = tf.one_hot(
      tf.argmax(q_values, axis=1), self.num_actions, dtype=q_values.dtype
    )
    if self.penalty == 'mu':
      return conservative.cql_mu_penalty(q_values, actions, policy)
    return conservative.eq1_penalty(q_values, policy)

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Moves alpha, where it is tuned."""
    self.weight.ascend(scalars['cql_penalty'])

  def _saved(self) -> dict[str, tf.Variable]:
    return {**super()._saved(), **self.weight.saved()}


@gin.configurable
class CQLAgent(CQLMixin, qrdqn_agent.QRDQNAgent):
  """CQL on QR-DQN, the paper's choice."""


@gin.configurable
class CQLDQNAgent(CQLMixin, dqn_agent.FixedReplayDQNAgent):
  """CQL on DQN."""


@gin.configurable
class CQLC51Agent(CQLMixin, c51_agent.C51Agent):
  """CQL on C51."""
