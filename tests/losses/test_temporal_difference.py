import collections
import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorflow as tf
from dopamine.jax.agents.quantile import quantile_agent

from cql_atari.losses import temporal_difference


def test_quantile_huber_loss_by_hand():
  """Two quantiles (tau 1/4, 3/4), two targets, kappa 1.

  theta = (0, 2), targets (0.5, 3): u = ((0.5, 3), (-1.5, 1)).
  Huber: ((0.125, 2.5), (1.0, 0.5)).
  |tau - 1{u<0}|: ((1/4, 1/4), (1/4, 3/4)).
  Products: ((0.03125, 0.625), (0.25, 0.375)); mean over targets, summed:
  0.328125 + 0.3125 = 0.640625.
  """
  loss = temporal_difference.quantile_huber_loss(
    tf.constant([[0.0, 2.0]], tf.float64), tf.constant([[0.5, 3.0]], tf.float64)
  )
  np.testing.assert_allclose(loss, [0.640625], rtol=1e-15)


def test_quantile_huber_loss_with_kappa_by_hand():
  """One quantile (tau 1/2): u = 3, kappa 2: 1/2 * 2 * (3 - 1) = 2.

  As in Dopamine's and the paper's code: the loss of IQN (Dabney et al., 2018)
  alone is divided by kappa.
  """
  loss = temporal_difference.quantile_huber_loss(
    tf.constant([[1.0]], tf.float64), tf.constant([[4.0]], tf.float64), 2.0
  )
  np.testing.assert_allclose(loss, [2.0], rtol=1e-15)


def test_quantile_huber_loss_takes_unequal_numbers_of_quantiles():
  loss = temporal_difference.quantile_huber_loss(
    tf.zeros((5, 3)), tf.ones((5, 7))
  )
  assert loss.shape == (5,)
  with pytest.raises(ValueError, match='rank'):
    temporal_difference.quantile_huber_loss(tf.zeros(3), tf.zeros((1, 3)))


def test_gradient_equals_finite_differences():
  rng = np.random.default_rng(0)
  quantiles, targets = rng.normal(size=(2, 3, 5)) * 2
  loss = temporal_difference.quantile_huber_loss

  with tf.GradientTape(persistent=True) as tape:
    x, y = tf.constant(quantiles), tf.constant(targets)
    tape.watch([x, y])
    total = tf.reduce_sum(loss(x, y))
  gradient = tape.gradient(total, x).numpy()
  assert tape.gradient(total, y) is None  # Targets are constants.
  for index in np.ndindex(quantiles.shape):
    step = np.zeros_like(quantiles)
    step[index] = 1e-6
    difference = np.sum(
      loss(tf.constant(quantiles + step), tf.constant(targets))
      - loss(tf.constant(quantiles - step), tf.constant(targets))
    )
    assert gradient[index] == pytest.approx(difference / 2e-6, abs=1e-7)


def test_the_minimum_is_at_the_quantiles_of_the_targets():
  """With a small kappa it is kappa times quantile regression (their Eq. 8)."""
  targets = np.sort(np.random.default_rng(1).normal(size=(1, 4001)))
  quantiles = tf.Variable(np.zeros((1, 4)))
  kappa = 1e-3

  @tf.function
  def descend():
    with tf.GradientTape() as tape:
      loss = temporal_difference.quantile_huber_loss(
        quantiles, tf.constant(targets), kappa
      )
    quantiles.assign_sub(0.02 / kappa * tape.gradient(loss, quantiles))

  for _ in range(3000):
    descend()
  expected = np.quantile(targets, [0.125, 0.375, 0.625, 0.875])
  np.testing.assert_allclose(quantiles.numpy()[0], expected, atol=0.01)


def test_bellman_target_of_quantiles_by_hand():
  """Action 1 has the greater mean; the second transition is terminal."""
  next_quantiles = tf.constant(
    [[[0.0, 1.0], [3.0, 5.0]], [[9.0, 9.0], [0.0, 0.0]]], tf.float64
  )
  target = temporal_difference.bellman_target(
    next_quantiles,
    [1, 0],
    tf.constant([1.0, -1.0]),
    tf.constant([0, 1]),
    0.5,
  )
  np.testing.assert_array_equal(target, [[2.5, 3.5], [-1.0, -1.0]])


def test_loss_equals_dopamines_jax_agent():
  """Dopamine's own `train`, on a table in place of a network."""
  rng = np.random.default_rng(2)
  batch, actions, quantiles = 6, 3, 10
  online, target = rng.normal(size=(2, batch, actions, quantiles)) * 2
  action = rng.integers(actions, size=batch)
  reward = rng.integers(-1, 2, batch).astype(np.float32)
  terminal = rng.integers(0, 2, batch)
  outputs = collections.namedtuple('outputs', ['q_values', 'logits'])

  class Table:
    def apply(self, params, state):
      return outputs(params[state].mean(axis=-1), params[state])

  states = np.arange(batch)
  optimizer = optax.sgd(0.0)
  params = jnp.array(online, jnp.float32)
  *_, theirs, _ = quantile_agent.train(
    Table(),
    params,
    jnp.array(target, jnp.float32),
    optimizer,
    optimizer.init(params),
    states,
    action,
    states,
    reward,
    terminal,
    1.0,
    quantiles,
    0.99,
  )
  as_tensor = functools.partial(tf.constant, dtype=tf.float32)
  ours = temporal_difference.quantile_huber_loss(
    tf.gather(as_tensor(online), action, batch_dims=1),
    temporal_difference.bellman_target(
      as_tensor(target), target.mean(axis=2).argmax(1), reward, terminal, 0.99
    ),
  )
  np.testing.assert_allclose(ours, theirs, rtol=2e-5)
