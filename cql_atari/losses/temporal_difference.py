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
  huber = huber_loss(errors, kappa)  # Eq. 9: L_kappa(u).
  # Eq. 10: rho_tau(u) = |tau - 1{u < 0}| L_kappa(u); only IQN's has / kappa.
  midpoints = (tf.range(num_quantiles, dtype=dtype) + 0.5) / num_quantiles
  weight = tf.abs(midpoints - tf.cast(errors < 0, dtype))
  return tf.reduce_sum(tf.reduce_mean(weight * huber, axis=1), axis=1)


def huber_loss(errors: tf.Tensor, kappa: float = 1.0) -> tf.Tensor:
  """Huber's loss (Huber, 1964), of the errors' shape: quadratic up to kappa."""
  size = tf.abs(errors)
  return tf.where(
    size <= kappa, 0.5 * tf.square(errors), kappa * (size - 0.5 * kappa)
  )


def q_learning_loss(
  q_data: tf.Tensor, target: tf.Tensor, kappa: float = 1.0
) -> tf.Tensor:
  """The DQN loss (Mnih et al., 2015): Huber loss of the TD error.

  Args:
    q_data: (B,) Q(s, a_data).
    target: (B,) r + gamma^n max_a' Q'(s', a'). No gradient flows into it.
    kappa: where the loss turns from quadratic to linear, in units of return.

  Returns:
    (B,) losses.
  """
  tf.debugging.assert_rank(q_data, 1)
  tf.debugging.assert_rank(target, 1)
  return huber_loss(tf.stop_gradient(target) - q_data, kappa)


def bellman_target(
  next_values: tf.Tensor,
  next_actions: tf.Tensor,
  reward: tf.Tensor,
  terminal: tf.Tensor,
  discount: float,
) -> tf.Tensor:
  """The Bellman target r + gamma^n (1 - terminal) X'(s', a').

  No gradient flows into it.

  Args:
    next_values: (B, A) values or (B, A, N) quantiles X' of the target network
      at the next states.
    next_actions: (B,) a', the greedy actions there.
    reward: (B,) n-step discounted rewards.
    terminal: (B,) 0/1, where nothing follows.
    discount: gamma ** n.

  Returns:
    (B,) or (B, N).
  """
  dtype = next_values.dtype
  values = tf.gather(next_values, next_actions, batch_dims=1)
  reward = tf.cast(reward, dtype)
  continues = discount * (1.0 - tf.cast(terminal, dtype))
  if values.shape.rank == 2:
    reward, continues = reward[:, None], continues[:, None]
  return tf.stop_gradient(reward + continues * values)


def categorical_target(
  next_logits: tf.Tensor,
  next_actions: tf.Tensor,
  reward: tf.Tensor,
  terminal: tf.Tensor,
  discount: float,
  support: tf.Tensor,
) -> tf.Tensor:
  """C51's projected target distribution (Bellemare et al., 2017, Eq. 7).

  Args:
    next_logits: (B, A, N) the target network's logits at the next states.
    next_actions: (B,) the greedy actions there.
    reward: (B,) n-step discounted rewards.
    terminal: (B,) 0/1, where nothing follows.
    discount: gamma ** n.
    support: (N,) evenly spaced atoms z.

  Returns:
    (B, N) probabilities of the atoms nearest to r + gamma^n z, shared between
    neighbours by distance, mass beyond the ends put on the ends.
  """
  tf.debugging.assert_rank(next_logits, 3)
  dtype = next_logits.dtype
  support = tf.cast(support, dtype)
  probabilities = tf.nn.softmax(
    tf.gather(next_logits, next_actions, batch_dims=1)
  )
  continues = discount * (1.0 - tf.cast(terminal, dtype))
  atoms = tf.cast(reward, dtype)[:, None] + continues[:, None] * support
  atoms = tf.clip_by_value(atoms, support[0], support[-1])
  spacing = support[1] - support[0]
  # (B, N, N): the share of source atom j that target atom i gets.
  distance = tf.abs(atoms[:, None, :] - support[None, :, None]) / spacing
  share = tf.maximum(1.0 - distance, 0.0)
  return tf.reduce_sum(share * probabilities[:, None, :], axis=2)


def categorical_loss(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  """Cross-entropy of a target distribution (Bellemare et al., 2017, Alg. 1).

  Args:
    logits: (B, N) of the data action.
    target: (B, N) probabilities. No gradient flows into them.

  Returns:
    (B,) losses in nats.
  """
  tf.debugging.assert_shapes([(logits, 'BN'), (target, 'BN')])
  return tf.nn.softmax_cross_entropy_with_logits(
    tf.stop_gradient(target), logits
  )


def random_mixture(
  num_heads: int, seed: int, step: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
  """REM's random convex combination of heads (Agarwal et al., 2020, Eq. 5).

  Args:
    num_heads: K.
    seed: the run's seed.
    step: the gradient step, an integer scalar: the same step draws the same
      mixture, so that resumed runs go on as they would have. (Compiled by XLA,
      the function draws others than without.)
    dtype: the result's type.

  Returns:
    (K,): U(0, 1) draws divided by their sum.
  """
  draws = tf.random.stateless_uniform(
    (num_heads,),
    tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)]),
    alg='philox',
  )
  return tf.cast(draws / tf.reduce_sum(draws), dtype)
