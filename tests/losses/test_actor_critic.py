"""Actor-critic losses against plain loops and closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats

from cql_atari.losses import actor_critic


@pytest.mark.parametrize(
  ('kernel', 'distance'),
  [
    ('laplacian', lambda d: np.abs(d).sum()),
    ('gaussian', lambda d: (d**2).sum()),
  ],
)
def test_mmd_equals_a_double_loop(kernel, distance):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 5, 3)), rng.normal(0.7, 1.0, (2, 4, 3))

  def mean(a, b):
    kernels = [np.exp(-distance(p - q) / 6.0) for p in a for q in b]
    return np.mean(kernels)

  expected = [
    np.sqrt(mean(a, a) - 2 * mean(a, b) + mean(b, b) + 1e-6)
    for a, b in zip(x, y)
  ]
  found = actor_critic.mmd(tf.constant(x), tf.constant(y), kernel, 3.0)
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_mmd_of_one_sample_with_itself_is_nothing():
  x = tf.random.stateless_normal((3, 6, 2), (0, 0))
  np.testing.assert_allclose(actor_critic.mmd(x, x), 1e-3, atol=1e-3)


def test_kl_of_gaussians_is_the_integral():
  mean, std, other, other_std = 0.3, 0.5, -1.0, 2.0

  def inside(x):
    p, q = stats.norm(mean, std), stats.norm(other, other_std)
    return p.pdf(x) * (p.logpdf(x) - q.logpdf(x))

  expected = integrate.quad(inside, -10, 10)[0]
  columns = (mean, np.log(std), other, np.log(other_std))
  found = actor_critic.gaussian_kl(
    *(tf.constant([[x, x], [x, 0.0]], tf.float64) for x in columns)
  )
  np.testing.assert_allclose(found, [2 * expected, expected], rtol=1e-8)
  far = tf.constant([[30.0]])
  zero = tf.zeros((1, 1))
  np.testing.assert_array_equal(
    actor_critic.gaussian_kl(far, zero, far, zero), [0.0]
  )


def test_bellman_target_and_error_by_hand():
  target = actor_critic.bellman_target(
    tf.constant([1.0, 2.0]), tf.constant([0.0, 1.0]), tf.constant([10.0, 10.0]),
    0.5,
  )  # fmt: skip
  np.testing.assert_array_equal(target, [6.0, 2.0])
  q_values = tf.constant([[5.0, 2.0], [9.0, 0.0]])
  np.testing.assert_array_equal(
    actor_critic.bellman_error(q_values, target), [0.5 * (1 + 9), 0.5 * 4]
  )
