import numpy as np
import pytest
import tensorflow as tf

from cql_atari.losses import conservative

Q_VALUES = np.array([[0.0, np.log(3.0)], [2.0, 2.0], [-1.0, 5.0]])
ACTIONS = np.array([0, 1, 1])


def test_cql_h_penalty_by_hand():
  """log(1 + 3) - 0; log(2 e^2) - 2 = log 2; log(e^-1 + e^5) - 5."""
  penalty = conservative.cql_h_penalty(tf.constant(Q_VALUES), ACTIONS)
  expected = [np.log(4.0), np.log(2.0), np.log1p(np.exp(-6.0))]
  np.testing.assert_allclose(penalty, expected, atol=1e-14)


def test_gradient_is_softmax_less_data_action_and_finite_differences():
  with tf.GradientTape() as tape:
    q_values = tf.constant(Q_VALUES)
    tape.watch(q_values)
    total = tf.reduce_sum(conservative.cql_h_penalty(q_values, ACTIONS))
  gradient = tape.gradient(total, q_values).numpy()
  exp = np.exp(Q_VALUES)
  softmax = exp / exp.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(gradient, softmax - np.eye(2)[ACTIONS], rtol=1e-12)
  for index in np.ndindex(Q_VALUES.shape):
    step = np.zeros_like(Q_VALUES)
    step[index] = 1e-6
    difference = np.sum(
      conservative.cql_h_penalty(tf.constant(Q_VALUES + step), ACTIONS)
      - conservative.cql_h_penalty(tf.constant(Q_VALUES - step), ACTIONS)
    )
    assert gradient[index] == pytest.approx(difference / 2e-6, abs=1e-8)


def test_large_values_do_not_overflow():
  penalty = conservative.cql_h_penalty(tf.constant([[1e4, -1e4]]), [1])
  np.testing.assert_allclose(penalty, [2e4])


def test_wrong_ranks_are_refused():
  with pytest.raises(ValueError, match='rank'):
    conservative.cql_h_penalty(tf.zeros(3), tf.zeros(3, tf.int32))
