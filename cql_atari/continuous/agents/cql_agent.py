"""CQL on soft actor-critic: Kumar et al. (2020), Algorithm 1 and appendix F."""

import math
from typing import Literal

import tensorflow as tf

from cql_atari.agents.penalty_weight import PenaltyWeight
from cql_atari.continuous.agents.base import Loss
from cql_atari.continuous.agents.sac_agent import SACAgent
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.core.constraints import (
  NonNegative,
  Positive,
  PositiveInt,
  configurable,
)
from cql_atari.losses import conservative


@configurable
class CQLSACAgent(PenaltyWeight, SACAgent):
  """Adds alpha times a conservative penalty to every Q-function's loss."""

  LABEL = 'CQL({penalty})'
  SCALARS = ('cql_penalty', 'alpha')
  WARMUP_STEPS, ENTROPY_BACKUP = 40_000, False  # As in the authors' code.

  def __init__(
    self,
    *args,
    alpha: NonNegative = 2.5,
    penalty: Literal['H', 'rho', 'rho-code', 'mu', 'eq1', 'var'] = 'H',
    num_samples: PositiveInt = 10,
    cql_temperature: Positive = 1.0,
    target_gap: float | None = None,
    alpha_learning_rate: NonNegative = 3e-4,
    chi2_radius: NonNegative = 1.0,
    max_backup: bool = False,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      *args: see SACAgent.
      alpha: weight of the penalty beside half the squared Bellman error, as in
        Eq. 4. The authors' code leaves that half out: its 5 is 2.5 here. Where
        alpha is tuned, what it begins with.
      penalty: which member of the family CQL(R): 'H' (Eq. 4), over the whole
        range of actions by importance sampling; 'rho', whose prior is the
        policy, as the paper has it, and 'rho-code', as the authors' code has;
        'mu' (Eq. 2) and 'eq1' (Eq. 1), with mu the policy; 'var', the
        distributionally robust form, around the uniform distribution.
      num_samples: actions of each kind in every state, N: N uniform ones, N of
        the policy and N of its next state's for 'H' and 'rho-code', N uniform
        ones for 'var', N of the policy otherwise.
      cql_temperature: temperature of the logsumexp of 'H' and 'rho-code'.
      target_gap: tau, in units of return: alpha is then tuned so that the
        penalty comes to it (see `PenaltyWeight`). None for a fixed alpha.
        docs/d4rl.md says how the authors' thresholds differ.
      alpha_learning_rate: Adam's, on log alpha.
      chi2_radius: radius of the chi^2 ball of 'var'.
      max_backup: whether the next state is worth the best of num_samples
        actions of the policy, instead of one of them; without entropy,
        whatever `entropy_backup` says.
      **kwargs: see SACAgent.
    """
    self.penalty = penalty
    self.num_samples, self.cql_temperature = num_samples, cql_temperature
    self.max_backup, self.chi2_radius = max_backup, chi2_radius
    self.target_gap, self._initial_alpha = target_gap, alpha
    self._alpha_learning_rate = alpha_learning_rate
    super().__init__(*args, **kwargs)

  def critic_loss(self, batch: Transition, noise: Noise) -> Loss:
    """SAC's loss plus alpha times each critic's penalty (Eq. 4 for 'H')."""
    q_data = self.critic(batch.state, batch.action)
    td_loss, scalars = self.td_loss(q_data, batch, noise)
    penalty = self.conservative_penalty(q_data, batch, noise)
    penalties = tf.reduce_mean(penalty, axis=1)
    alpha = self._alpha.value
    return td_loss + alpha * tf.reduce_sum(penalties), {
      **scalars,
      'cql_penalty': tf.reduce_mean(penalties),
      'alpha': alpha,
    }

  def conservative_penalty(
    self, q_data: tf.Tensor, batch: Transition, noise: Noise
  ) -> tf.Tensor:
    """(K, B): the factor of alpha in the chosen equation, for every critic."""
    state, count = batch.state, self.num_samples
    if self.penalty == 'var':
      uniform = noise.uniform(self.batch_size, count, self.action_size)
      return conservative.sampled_cql_var_penalty(
        self.critic(state, uniform), q_data, self.chi2_radius
      )
    actions, density = self.policy.sample(state, self._normal(noise, count))
    if self.penalty in ('rho', 'mu', 'eq1'):
      q_policy = self.critic(state, actions)
      if self.penalty == 'rho':
        return conservative.sampled_cql_rho_penalty(q_policy, q_data)
      if self.penalty == 'mu':
        return conservative.sampled_cql_mu_penalty(q_policy, q_data)
      return conservative.sampled_eq1_penalty(q_policy)
    next_actions, next_density = self.policy.sample(
      batch.next_state, self._normal(noise, count)
    )
    uniform = noise.uniform(self.batch_size, count, self.action_size)
    # One kind at a time: the results of smaller products fit in the cache.
    kinds = (uniform, actions, next_actions)
    q_samples = tf.concat([self.critic(state, kind) for kind in kinds], axis=-1)
    if self.penalty == 'rho-code':
      return conservative.sampled_cql_rho_code_penalty(
        q_samples, q_data, self.cql_temperature
      )
    uniform_density = tf.fill(
      (self.batch_size, count), -self.action_size * math.log(2.0)
    )
    return conservative.sampled_cql_h_penalty(
      q_samples,
      tf.concat([uniform_density, density, next_density], axis=1),
      q_data,
      self.cql_temperature,
    )

  def next_value(self, batch: Transition, noise: Noise) -> tf.Tensor:
    """V(s') (B,); with max_backup, of the best of several actions."""
    if not self.max_backup:
      return super().next_value(batch, noise)
    actions, _ = self.policy.sample(
      batch.next_state, self._normal(noise, self.num_samples)
    )
    values = self.target_critic(batch.next_state, actions)
    return tf.reduce_min(tf.reduce_max(values, axis=2), axis=0)
