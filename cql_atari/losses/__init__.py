"""The losses, as pure functions of tensors, numbered by equation.

`actor_critic.bellman_target` and `policy_loss` are for continuous actions;
`bellman_target` here is the one for sampled values of discrete actions.
"""

from cql_atari.losses.actor_critic import (
  bellman_error,
  gaussian_kl,
  mmd,
  policy_loss,
)
from cql_atari.losses.conservative import (
  cql_h_penalty,
  cql_mu_penalty,
  cql_rho_penalty,
  cql_var_penalty,
  eq1_penalty,
  sampled_cql_h_penalty,
  sampled_cql_mu_penalty,
  sampled_cql_rho_code_penalty,
  sampled_cql_rho_penalty,
  sampled_cql_var_penalty,
  sampled_eq1_penalty,
)
from cql_atari.losses.temporal_difference import (
  bellman_target,
  categorical_loss,
  categorical_target,
  huber_loss,
  q_learning_loss,
  quantile_huber_loss,
  random_mixture,
)

__all__ = [
  'bellman_error',
  'bellman_target',
  'categorical_loss',
  'categorical_target',
  'cql_h_penalty',
  'cql_mu_penalty',
  'cql_rho_penalty',
  'cql_var_penalty',
  'eq1_penalty',
  'gaussian_kl',
  'huber_loss',
  'mmd',
  'policy_loss',
  'q_learning_loss',
  'quantile_huber_loss',
  'random_mixture',
  'sampled_cql_h_penalty',
  'sampled_cql_mu_penalty',
  'sampled_cql_rho_code_penalty',
  'sampled_cql_rho_penalty',
  'sampled_cql_var_penalty',
  'sampled_eq1_penalty',
]
