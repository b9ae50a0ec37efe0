"""Temporal-difference losses, numbered by equation."""

import tensorflow as tf


def quantile_huber_loss(
  quantiles: tf.Tensor, target_quantiles: tf.Tensor, kappa: float = 1.0
) -> tf.Tensor:
  """Quantile regression Huber loss (Dabney et al., 2017, Eqs. 9 and 10).

  Args:
    quantiles: (B, N) predicted quantiles theta_i of the data action's return,
      for the quantile midpoints (i + 0.5) / N (their Lemma 2).
    target_quantiles: (B, M) samples of the target r + gamma^n theta_j'. No
      gradient flows into them.
    kappa: where the Huber loss turns from quadratic to linear, in units of
      return; positive.

  Returns:
    (B,) losses: summed over the N quantiles, averaged over the M targets.
  """
  tf.debugging.assert_rank(quantiles, 2)
  tf.debugging.assert_rank(target_quantiles, 2)
  num_quantiles = quantiles.shape[1]
  dtype = quantiles.dtype
  # u_ij = target_j - theta_i, of shape (B, M, N).
  errors = (
    tf.stop_gradient(target_quantiles)[:, :, None] - quantiles[:, None, :]
  )
  # Eq. 9: L_kappa(u).
  size = tf.abs(errors)
  huber = tf.where(
    size <= kappa, 0.5 * tf.square(errors), kappa * (size - 0.5 * kappa)
  )
  # Eq. 10: rho_tau(u) = |tau - 1{u < 0}| L_kappa(u) / kappa.
  midpoints = (tf.range(num_quantiles, dtype=dtype) + 0.5) / num_quantiles
  weight = tf.abs(midpoints - tf.cast(errors < 0, dtype))
  return tf.reduce_sum(tf.reduce_mean(weight * huber / kappa, axis=1), axis=1)


def quantile_target(
  next_quantiles: tf.Tensor,
  reward: tf.Tensor,
  terminal: tf.Tensor,
  discount: float,
) -> tf.Tensor:
  """The distributional Bellman target of the greedy action.

  Args:
    next_quantiles: (B, A, N) target network's quantiles at the next states.
    reward: (B,) n-step discounted rewards.
    terminal: (B,) 0/1, where nothing follows.
    discount: gamma ** n.

  Returns:
    (B, N): r + gamma^n (1 - terminal) theta'(s', argmax_a' mean theta').
  """
  tf.debugging.assert_rank(next_quantiles, 3)
  dtype = next_quantiles.dtype
  greedy = tf.argmax(tf.reduce_mean(next_quantiles, axis=2), axis=1)
  values = tf.gather(next_quantiles, greedy, batch_dims=1)
  continues = discount * (1.0 - tf.cast(terminal, dtype))
  return tf.cast(reward, dtype)[:, None] + continues[:, None] * values
