"""The tanh-Gaussian against TensorFlow Probability, and other oracles."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate

from cql_atari.continuous import networks, playing

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
    [playing.act(weights, s, n, limits) for s, n in zip(STATES, noise)],
    policy.sample(STATES, noise)[0],
    rtol=1e-5,
    atol=1e-6,
  )
  np.testing.assert_allclose(
    [playing.act(weights, s, None, limits) for s in STATES],
    policy.mode(STATES),
    rtol=1e-5,
    atol=1e-6,
  )


class Squashed(networks.TanhGaussianPolicy):
  """A policy of a user's own, with another range of deviations."""

  def __call__(self, states):
    mean, log_std = tf.split(self._mlp(states), 2, axis=-1)
    return mean, -2.0 + tf.tanh(log_std)


@pytest.mark.parametrize('kind', [networks.TanhGaussianPolicy, Squashed])
def test_play_is_the_policys_own_with_earlier_weights_too(kind):
  policy = kind(3, 2, SEED, hidden_units=(8,))
  play, noise = playing.player(policy), np.float32([0.3, -1.0])
  earlier = [variable.numpy() for variable in policy.layers]
  before = policy.sample(STATES, np.tile(noise, (5, 1)))[0].numpy()
  for variable in policy.layers:
    variable.assign_add(0.1 * tf.ones_like(variable))
  for weights, expected in (
    (earlier, before),
    ([v.numpy() for v in policy.layers], policy.sample(STATES, noise[None])[0]),
  ):
    played = [play(weights, state, noise) for state in STATES]
    np.testing.assert_allclose(played, expected, rtol=1e-5, atol=1e-6)
  played = [play(earlier, state, None) for state in STATES]
  assert np.abs(played - policy.mode(STATES)).max() > 1e-3
  policy_of_then = kind(3, 2, SEED, hidden_units=(8,))
  np.testing.assert_allclose(
    played, policy_of_then.mode(STATES), rtol=1e-5, atol=1e-6
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
