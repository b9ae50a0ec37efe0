"""Every penalty on three states and four actions, worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats

from cql_atari.losses import conservative

LOG2, LOG3, LOG4 = np.log([2.0, 3.0, 4.0])
# exp(Q) is ((1, 2, 3, 2), (4, 1, 1, 2), (1, 1, 1, 1)).
Q_VALUES = np.array([[0, LOG2, LOG3, LOG2], [LOG4, 0, 0, LOG2], [0, 0, 0, 0]])
ACTIONS = np.array([2, 3, 0])
PRIOR = np.array(
  [[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]]
)
GREEDY = np.eye(4)[[2, 0, 0]]


def penalty(name, q_values):
  q_values = tf.convert_to_tensor(q_values)
  return {
    'H': lambda q: conservative.cql_h_penalty(q, ACTIONS),
    'rho': lambda q: conservative.cql_rho_penalty(q, ACTIONS, PRIOR),
    'mu': lambda q: conservative.cql_mu_penalty(q, ACTIONS, GREEDY),
    'eq1': lambda q: conservative.eq1_penalty(q, GREEDY),
    'var': lambda q: conservative.cql_var_penalty(q, ACTIONS, 1 / 3),
  }[name](q_values)


BY_HAND = {
  'H': [np.log(8) - LOG3, np.log(8) - LOG2, LOG4],
  # rho exp(Q): (1/2, 1/2, 3/8, 1/4), whose sum is 13/8; (1, 1/4, 1/4, 1/2).
  'rho': [
    (0.5 * LOG2 + 0.375 * LOG3 + 0.25 * LOG2) / 1.625 - LOG3,
    (1.0 * LOG4 + 0.5 * LOG2) / 2.0 - LOG2,
    0.0,
  ],
  'mu': [0.0, LOG4 - LOG2, 0.0],
  'eq1': [LOG3, LOG4, 0.0],
  # Means (2 log 2 + log 3) / 4 and 3 log 2 / 4; in the second state, in units
  # of log 2, Q is (2, 0, 0, 1), whose variance is 5/4 - 9/16 = 11/16.
  'var': [
    (2 * LOG2 + LOG3) / 4
    + np.sqrt(((2 * LOG2**2 + LOG3**2) / 4 - ((2 * LOG2 + LOG3) / 4) ** 2) / 3)
    - LOG3,
    LOG2 * (0.75 + np.sqrt(11 / 48) - 1),
    0.0,
  ],
}


@pytest.mark.parametrize('name', BY_HAND)
def test_penalties_by_hand(name):
  np.testing.assert_allclose(penalty(name, Q_VALUES), BY_HAND[name], atol=1e-14)


@pytest.mark.parametrize('name', ['H', 'mu', 'eq1', 'var'])
def test_gradients_equal_finite_differences(name):
  q_values = Q_VALUES + 0.01 * np.arange(12).reshape(3, 4)  # No ties.
  with tf.GradientTape() as tape:
    variable = tf.constant(q_values)
    tape.watch(variable)
    total = tf.reduce_sum(penalty(name, variable))
  gradient = tape.gradient(total, variable).numpy()
  for index in np.ndindex(q_values.shape):
    step = np.zeros_like(q_values)
    step[index] = 1e-6
    difference = np.sum(
      penalty(name, q_values + step) - penalty(name, q_values - step)
    )
    assert gradient[index] == pytest.approx(difference / 2e-6, abs=1e-8)


@pytest.mark.parametrize('name', ['H', 'rho'])
def test_gradient_is_the_maximizing_mu_less_the_data_action(name):
  """Of max_mu E_mu[Q] + R(mu) (Eq. 3), by the envelope theorem."""
  with tf.GradientTape() as tape:
    variable = tf.constant(Q_VALUES)
    tape.watch(variable)
    total = tf.reduce_sum(penalty(name, variable))
  weight = np.exp(Q_VALUES) * (PRIOR if name == 'rho' else 1)
  mu = weight / weight.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(
    tape.gradient(total, variable), mu - np.eye(4)[ACTIONS], atol=1e-14
  )


def test_var_is_the_worst_case_of_its_ball():
  """No mu in the ball exceeds it, and the one that should reaches it."""
  rng = np.random.default_rng(0)
  q, uniform, radius = Q_VALUES[1], np.full(4, 0.25), 1 / 3
  bound = float(penalty('var', Q_VALUES)[1]) + q[ACTIONS[1]]
  highest = -np.inf
  for mu in rng.dirichlet(np.full(4, 2.0), 20_000):
    if np.sum((mu - uniform) ** 2 / uniform) <= radius:
      highest = max(highest, mu @ q)
  assert bound - 0.02 < highest <= bound
  best = uniform * (1 + np.sqrt(radius / q.var()) * (q - q.mean()))
  assert best.min() >= 0
  assert np.sum((best - uniform) ** 2 / uniform) == pytest.approx(radius)
  assert best @ q == pytest.approx(bound)


def test_rho_with_a_uniform_prior_has_the_gradient_of_h():
  gradients = []
  for cql in (
    lambda q: conservative.cql_h_penalty(q, ACTIONS),
    lambda q: conservative.cql_rho_penalty(q, ACTIONS, np.full((3, 4), 0.25)),
  ):
    with tf.GradientTape() as tape:
      variable = tf.constant(Q_VALUES)
      tape.watch(variable)
      total = tf.reduce_sum(cql(variable))
    gradients.append(tape.gradient(total, variable))
  np.testing.assert_allclose(*gradients, atol=1e-14)


def test_var_has_no_gradient_of_its_root_where_actions_are_alike():
  with tf.GradientTape() as tape:
    variable = tf.zeros((3, 4), tf.float64)
    tape.watch(variable)
    total = tf.reduce_sum(penalty('var', variable))
  expected = 0.25 - np.eye(4)[ACTIONS]
  np.testing.assert_array_equal(tape.gradient(total, variable), expected)
  q_values = tf.constant(Q_VALUES)
  with tf.GradientTape() as tape:  # Nor in a ball of radius 0.
    tape.watch(q_values)
    total = tf.reduce_sum(conservative.cql_var_penalty(q_values, ACTIONS, 0.0))
  np.testing.assert_allclose(tape.gradient(total, q_values), expected)


def test_large_values_do_not_overflow():
  q_values = tf.constant([[1e4, -1e4]])
  np.testing.assert_allclose(conservative.cql_h_penalty(q_values, [1]), [2e4])
  rho = conservative.cql_rho_penalty(q_values, [1], [[0.0, 1.0]])
  np.testing.assert_allclose(rho, [0.0])


def test_wrong_ranks_are_refused():
  with pytest.raises(ValueError, match='rank'):
    conservative.cql_h_penalty(tf.zeros(3), tf.zeros(3, tf.int32))
  with pytest.raises(ValueError, match='rank'):
    conservative.eq1_penalty(tf.zeros((2, 3)), tf.zeros(3))


def test_sampled_logsumexp_comes_to_the_integral_as_samples_grow():
  def q_value(a):
    return 3.0 * np.sin(3.0 * a) + a**2

  exact = np.log(integrate.quad(lambda a: np.exp(q_value(a)), -1, 1)[0])
  rng, errors = np.random.default_rng(0), []
  for count in (10, 100, 10_000):
    uniform = rng.uniform(-1, 1, (200, count))
    skewed = 2 * rng.beta(2, 3, (200, count)) - 1
    densities = [
      np.full((200, count), np.log(0.5)),
      stats.beta(2, 3).logpdf((skewed + 1) / 2) - np.log(2),
    ]
    actions = np.concatenate([uniform, skewed], axis=1)
    penalty = conservative.sampled_cql_h_penalty(
      tf.constant(q_value(actions)),
      tf.constant(np.concatenate(densities, axis=1)),
      tf.zeros(200, tf.float64),
    )
    errors.append(np.sqrt(np.mean((penalty.numpy() - exact) ** 2)))
  assert errors[0] > 3 * errors[1] > 9 * errors[2]
  assert errors[2] < 0.02


def test_sampled_h_has_the_temperature_of_the_logsumexp():
  q_samples = tf.constant([[1.0, 2.0]], tf.float64)
  found = conservative.sampled_cql_h_penalty(
    q_samples, tf.zeros((1, 2), tf.float64), tf.constant([0.5], tf.float64), 2.0
  )
  expected = 2 * np.log((np.exp(0.5) + np.exp(1.0)) / 2) - 0.5
  np.testing.assert_allclose(found, [expected], rtol=1e-12)


def test_sampled_penalties_of_several_critics_by_hand():
  q_samples = tf.constant([[[1.0, 3.0]], [[0.0, 0.0]]], tf.float64)
  q_data = tf.constant([[0.5], [1.0]], tf.float64)
  weight = np.exp(3) / (np.exp(1) + np.exp(3))
  with tf.GradientTape() as tape:
    tape.watch(q_samples)
    rho = conservative.sampled_cql_rho_penalty(q_samples, q_data)
  np.testing.assert_allclose(
    rho, [[(1 - weight) * 1 + weight * 3 - 0.5], [-1.0]], rtol=1e-12
  )
  np.testing.assert_allclose(  # The weights are held fixed.
    tape.gradient(rho, q_samples),
    [[[1 - weight, weight]], [[0.5, 0.5]]],
    rtol=1e-12,
  )
  np.testing.assert_allclose(
    conservative.sampled_cql_mu_penalty(q_samples, q_data), [[1.5], [-1.0]]
  )
  np.testing.assert_allclose(
    conservative.sampled_eq1_penalty(q_samples), [[2.0], [0.0]]
  )
