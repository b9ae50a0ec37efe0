"""Conservative penalties (Kumar et al., 2020), numbered by equation.

Each function returns the term that alpha multiplies in its equation: the value
that is pushed down minus, except in Eq. 1, the value of the data action. The
first part is for finite action sets; the second, for continuous actions, takes
Q-values of sampled actions.
"""

import math

import tensorflow as tf


def cql_h_penalty(q_values: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
  """The CQL(H) penalty (Eq. 4), the regularizer of Eq. 3 being the entropy.

  Args:
    q_values: (B, A) Q(s, a).
    actions: (B,) integer data actions.

  Returns:
    (B,): logsumexp_a Q(s, a) - Q(s, a_data), never negative. Its gradient with
    respect to Q(s, .) is softmax(Q) minus the one-hot data action.
  """
  tf.debugging.assert_rank(q_values, 2)
  return tf.reduce_logsumexp(q_values, axis=1) - _data_action_values(
    q_values, actions
  )


def cql_rho_penalty(
  q_values: tf.Tensor, actions: tf.Tensor, prior: tf.Tensor
) -> tf.Tensor:
  """The CQL(rho) penalty (section 3.2), the regularizer being -KL(mu, rho).

  The mu that maximizes Eq. 3 is proportional to rho(a|s) exp(Q(s, a)). As the
  paper has it, the first term of Eq. 4 becomes the average of Q under it; the
  weights are held fixed, as mu is in Eq. 3 once it is chosen, which is also the
  gradient of the maximum itself.

  Args:
    q_values: (B, A) Q(s, a).
    actions: (B,) integer data actions.
    prior: (B, A) probabilities rho(a|s), such as the previous policy's.

  Returns:
    (B,): sum_a mu(a|s) Q(s, a) - Q(s, a_data).
  """
  tf.debugging.assert_shapes([(q_values, 'BA'), (prior, 'BA')])
  mu = tf.nn.softmax(tf.math.log(prior) + q_values, axis=1)
  return cql_mu_penalty(q_values, actions, mu)


def cql_mu_penalty(
  q_values: tf.Tensor, actions: tf.Tensor, mu: tf.Tensor
) -> tf.Tensor:
  """The penalty of Eq. 2, for any mu.

  Args:
    q_values: (B, A) Q(s, a).
    actions: (B,) integer data actions.
    mu: (B, A) probabilities mu(a|s). No gradient flows into them.

  Returns:
    (B,): E_mu[Q(s, a)] - Q(s, a_data).
  """
  return eq1_penalty(q_values, mu) - _data_action_values(q_values, actions)


def eq1_penalty(q_values: tf.Tensor, mu: tf.Tensor) -> tf.Tensor:
  """The penalty of Eq. 1: nothing is pushed up.

  Args:
    q_values: (B, A) Q(s, a).
    mu: (B, A) probabilities mu(a|s). No gradient flows into them.

  Returns:
    (B,): E_mu[Q(s, a)].
  """
  tf.debugging.assert_shapes([(q_values, 'BA'), (mu, 'BA')])
  return tf.reduce_sum(tf.stop_gradient(mu) * q_values, axis=1)


def cql_var_penalty(
  q_values: tf.Tensor, actions: tf.Tensor, radius: float = 1.0
) -> tf.Tensor:
  """The CQL(var) penalty: mu is the worst case of a chi-squared ball.

  Over all mu with sum_a (mu - u)^2 / u <= radius around the uniform u, E_mu[Q]
  is at most mean Q + sqrt(radius Var Q) (Namkoong and Duchi, 2017, on whom the
  paper's robust variant rests), and reaches it where that mu has no negative
  entry, as for any Q while radius <= 1 / (A - 1).

  Args:
    q_values: (B, A) Q(s, a).
    actions: (B,) integer data actions.
    radius: radius of the ball.

  Returns:
    (B,): mean_a Q + sqrt(radius Var_a Q) - Q(s, a_data).
  """
  tf.debugging.assert_rank(q_values, 2)
  return _worst_mean(q_values, radius) - _data_action_values(q_values, actions)


# --- Continuous actions: Q-values of S sampled actions of every state, for one
# Q-function or, along more axes in front, several. ---


def sampled_cql_h_penalty(
  q_samples: tf.Tensor,
  log_densities: tf.Tensor,
  q_data: tf.Tensor,
  temperature: float = 1.0,
) -> tf.Tensor:
  """The CQL(H) penalty (Eq. 4) by importance sampling (appendix F).

  log of the integral of exp Q(s, a) over all a is estimated as the log of the
  mean of exp Q(s, a_i) / p(a_i). That mean is unbiased for any mixture of
  proposals, each sample being weighted by its own; its logarithm comes near the
  integral's as S grows.

  Args:
    q_samples: (..., B, S) Q(s, a_i).
    log_densities: (B, S) log p(a_i) under the proposal that a_i came from. No
      gradient flows into them.
    q_data: (..., B) Q(s, a_data).
    temperature: T of T log-integral exp(Q / T); the paper has 1.

  Returns:
    (..., B): the log-integral's estimate - Q(s, a_data).
  """
  tf.debugging.assert_rank(log_densities, 2)
  weighted = q_samples / temperature - tf.stop_gradient(log_densities)
  count = tf.cast(tf.shape(q_samples)[-1], q_samples.dtype)
  log_mean = tf.reduce_logsumexp(weighted, axis=-1) - tf.math.log(count)
  return temperature * log_mean - q_data


def sampled_cql_rho_penalty(
  q_samples: tf.Tensor, q_data: tf.Tensor
) -> tf.Tensor:
  """The CQL(rho) penalty (section 3.2) by samples of rho.

  As `cql_rho_penalty`: mu is proportional to rho(a|s) exp(Q(s, a)), so that
  over samples of rho it is softmax(Q).

  Args:
    q_samples: (..., B, S) Q(s, a_i), a_i drawn from rho(.|s).
    q_data: (..., B) Q(s, a_data).

  Returns:
    (..., B): sum_i softmax_i(Q) Q(s, a_i) - Q(s, a_data). The weights are held
    fixed.
  """
  mu = tf.stop_gradient(tf.nn.softmax(q_samples, axis=-1))
  return tf.reduce_sum(mu * q_samples, axis=-1) - q_data


def sampled_cql_rho_code_penalty(
  q_samples: tf.Tensor, q_data: tf.Tensor, temperature: float = 1.0
) -> tf.Tensor:
  """The CQL(rho) penalty of the authors' code (its `min_q_version` 2).

  A log-sum-exp over all sampled actions, whatever they were drawn from, and
  the data's own; no densities weigh them, and nothing divides by their number.

  Args:
    q_samples: (..., B, S) Q(s, a_i), of uniform actions and of the policy's.
    q_data: (..., B) Q(s, a_data).
    temperature: T of T logsumexp(Q / T).

  Returns:
    (..., B): T logsumexp of the S + 1 values - Q(s, a_data), never negative.
  """
  values = tf.concat([q_samples, q_data[..., None]], axis=-1) / temperature
  return temperature * tf.reduce_logsumexp(values, axis=-1) - q_data


def sampled_cql_var_penalty(
  q_samples: tf.Tensor, q_data: tf.Tensor, radius: float = 1.0
) -> tf.Tensor:
  """The CQL(var) penalty by uniform actions: see `cql_var_penalty`.

  Args:
    q_samples: (..., B, S) Q(s, a_i), a_i uniform.
    q_data: (..., B) Q(s, a_data).
    radius: radius of the chi-squared ball.

  Returns:
    (..., B): mean_i Q + sqrt(radius Var_i Q) - Q(s, a_data).
  """
  return _worst_mean(q_samples, radius) - q_data


def sampled_cql_mu_penalty(
  q_samples: tf.Tensor, q_data: tf.Tensor
) -> tf.Tensor:
  """The penalty of Eq. 2 by samples of mu.

  Args:
    q_samples: (..., B, S) Q(s, a_i), a_i drawn from mu(.|s).
    q_data: (..., B) Q(s, a_data).

  Returns:
    (..., B): mean_i Q(s, a_i) - Q(s, a_data).
  """
  return sampled_eq1_penalty(q_samples) - q_data


def sampled_eq1_penalty(q_samples: tf.Tensor) -> tf.Tensor:
  """The penalty of Eq. 1 by samples of mu.

  Args:
    q_samples: (..., B, S) Q(s, a_i), a_i drawn from mu(.|s).

  Returns:
    (..., B): mean_i Q(s, a_i).
  """
  return tf.reduce_mean(q_samples, axis=-1)


def _worst_mean(q_values: tf.Tensor, radius: float) -> tf.Tensor:
  """(..., A) -> (...,): mean + sqrt(radius variance)."""
  variance = tf.math.reduce_variance(q_values, axis=-1)
  # The root has no gradient where all actions are alike: none is taken there.
  spread = tf.where(variance > 0, variance, tf.ones_like(variance))
  root = tf.where(variance > 0, math.sqrt(radius) * tf.sqrt(spread), 0.0)
  return tf.reduce_mean(q_values, axis=-1) + root


def _data_action_values(q_values: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
  """(B, A), (B,) -> (B,): Q of the data's actions."""
  tf.debugging.assert_rank(actions, 1)
  return tf.gather(q_values, actions, batch_dims=1)
