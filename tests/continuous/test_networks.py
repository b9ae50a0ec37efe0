"""The tanh-Gaussian against TensorFlow Probability, and other oracles."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate

from cql_atari.continuous import networks, online

SEED = np.random.SeedSequence(0)


@pytest.fixture(scope='module')
def policy():
  return networks.TanhGaussianPolicy(3, 2, SEED, hidden_units=(8,))


STATES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_densities_are_tensorflow_probabilitys(policy):
  import tensorflow_probability as tfp

  mean, log_std = policy(STATES)
  tfd = tfp.distributions
  oracle = tfd.TransformedDistribution(
    tfd.MultivariateNormalDiag(mean, tf.exp(log_std)), tfp.bijectors.Tanh()
  )
  actions = np.random.default_rng(1).uniform(-0.99, 0.99, (5, 2))
  actions = tf.constant(actions, tf.float32)
  np.testing.assert_allclose(
    policy.log_density(STATES, actions), oracle.log_prob(actions), rtol=1e-4
  )
  drawn, log_density = policy.sample(STATES, tf.random.normal((5, 2)))
  np.testing.assert_allclose(
    log_density, oracle.log_prob(drawn), rtol=1e-4, atol=1e-4
  )


def test_densities_of_many_actions_are_those_of_each(policy):
  actions = np.random.default_rng(2).uniform(-1, 1, (5, 4, 2))
  actions = actions.astype(np.float32)
  together = policy.log_density(STATES, actions)
  for index in range(4):
    np.testing.assert_allclose(
      together[:, index],
      policy.log_density(STATES, actions[:, index]),
      rtol=1e-5,
    )


def test_density_integrates_to_one():
  policy = networks.TanhGaussianPolicy(3, 1, SEED, hidden_units=(8,))

  def density(action):
    action = tf.constant([[action]], tf.float32)
    return float(tf.exp(policy.log_density(STATES[:1], action))[0])

  total, _ = integrate.quad(density, -1, 1, limit=200, epsabs=1e-4)
  assert total == pytest.approx(1, abs=1e-3)


def test_actions_at_the_ends_have_a_finite_density(policy):
  ends = tf.constant([[1.0, -1.0]] * 5)
  with tf.GradientTape() as tape:
    density = tf.reduce_sum(policy.log_density(STATES, ends))
  assert np.isfinite(density)
  for gradient in tape.gradient(density, policy.layers):
    assert np.isfinite(gradient).all()


def test_numpy_acts_as_the_policy_does(policy):
  weights = [variable.numpy() for variable in policy.layers]
  noise = np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)
  limits = policy.log_std_range
  np.testing.assert_allclose(
    [online.act(weights, s, n, limits) for s, n in zip(STATES, noise)],
    policy.sample(STATES, noise)[0],
    rtol=1e-5,
    atol=1e-6,
  )
  np.testing.assert_allclose(
    [online.act(weights, s, 0.0, limits) for s in STATES],
    policy.mode(STATES),
    rtol=1e-5,
    atol=1e-6,
  )


def test_critics_value_many_actions_as_they_do_each():
  critic = networks.Critic(3, 2, SEED, hidden_units=(8, 8), num_critics=3)
  actions = np.random.default_rng(4).uniform(-1, 1, (5, 4, 2))
  actions = actions.astype(np.float32)
  together = critic(STATES, actions)
  assert together.shape == (3, 5, 4)
  for index in range(4):
    np.testing.assert_allclose(
      together[..., index], critic(STATES, actions[:, index]), rtol=1e-5
    )
  kernels = [member.kernels[0].numpy() for member in critic.members]
  assert not np.allclose(kernels[0], kernels[1])
