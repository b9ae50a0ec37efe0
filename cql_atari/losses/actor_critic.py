"""Losses of soft actor-critic and of the baselines that constrain a policy."""

from collections.abc import Callable

import tensorflow as tf


def bellman_target(
  reward: tf.Tensor, terminal: tf.Tensor, next_value: tf.Tensor, gamma: float
) -> tf.Tensor:
  """The Bellman target; no gradient flows into it.

  Args:
    reward: (B,).
    terminal: (B,) 0/1, 1 where the episode ended.
    next_value: (B,) V(s').
    gamma: discount per step.

  Returns:
    (B,): r + gamma V(s'); r where terminal is 1.
  """
  return tf.stop_gradient(reward + gamma * (1.0 - terminal) * next_value)


def bellman_error(q_values: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  """Half the squared error of an ensemble, as in Eq. 4.

  Args:
    q_values: (K, B) Q_k(s, a_data).
    target: (B,).

  Returns:
    (B,): sum_k (Q_k - target)^2 / 2.
  """
  tf.debugging.assert_shapes([(q_values, 'KB'), (target, 'B')])
  return 0.5 * tf.reduce_sum(tf.square(q_values - target), axis=0)


def policy_loss(
  log_density: tf.Tensor, q_value: tf.Tensor, temperature: tf.Tensor
) -> tf.Tensor:
  """SAC's policy loss (Haarnoja et al., 2018, Eq. 7).

  Args:
    log_density: (B,) log pi(a|s) in nats, a drawn from the policy.
    q_value: (B,) Q(s, a).
    temperature: T, a scalar.

  Returns:
    (B,): T log pi(a|s) - Q(s, a).
  """
  return temperature * log_density - q_value


def mmd(
  x: tf.Tensor, y: tf.Tensor, kernel: str = 'laplacian', bandwidth: float = 20.0
) -> tf.Tensor:
  """Maximum mean discrepancy of two samples (Kumar et al., 2019, Eq. 3).

  Args:
    x: (B, N, A) actions of one distribution in every state.
    y: (B, M, A) of the other.
    kernel: 'laplacian', exp(-|x - y|_1 / (2 sigma)), or 'gaussian',
      exp(-|x - y|^2 / (2 sigma)), as BEAR's authors have them.
    bandwidth: sigma.

  Returns:
    (B,): the square root of mean k(x, x') - 2 mean k(x, y) + mean k(y, y').
  """
  tf.debugging.assert_shapes([(x, 'BNA'), (y, 'BMA')])

  def mean_kernel(a, b):
    difference = a[:, :, None] - b[:, None]
    distance = KERNELS[kernel](difference)
    kernels = tf.exp(-tf.reduce_sum(distance, axis=-1) / (2.0 * bandwidth))
    return tf.reduce_mean(kernels, axis=(1, 2))

  squared = mean_kernel(x, x) - 2.0 * mean_kernel(x, y) + mean_kernel(y, y)
  return tf.sqrt(tf.maximum(squared, 0.0) + 1e-6)


KERNELS: dict[str, Callable] = {'laplacian': tf.abs, 'gaussian': tf.square}


def gaussian_kl(
  mean: tf.Tensor, log_std: tf.Tensor, other_mean: tf.Tensor,
  other_log_std: tf.Tensor,
) -> tf.Tensor:  # fmt: skip
  """KL divergence of a diagonal Gaussian from another, in closed form.

  It is that of their tanh as well: a bijection changes no divergence.

  Args:
    mean: (B, A).
    log_std: (B, A).
    other_mean: (B, A).
    other_log_std: (B, A).

  Returns:
    (B,): nats, the sum over A.
  """
  difference = tf.square((mean - other_mean) * tf.exp(-other_log_std))
  log_ratio = log_std - other_log_std
  each = 0.5 * (tf.exp(2.0 * log_ratio) + difference - 1.0) - log_ratio
  return tf.reduce_sum(each, axis=-1)
