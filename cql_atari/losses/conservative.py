"""Conservative penalties (Kumar et al., 2020), numbered by equation."""

import tensorflow as tf


def cql_h_penalty(q_values: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
  """The CQL(H) penalty for discrete actions (Eq. 4).

  Args:
    q_values: (B, A) Q(s, a).
    actions: (B,) integer data actions.

  Returns:
    (B,): logsumexp_a Q(s, a) - Q(s, a_data), never negative. Its gradient by
    Q(s, .) is softmax(Q) less the one-hot data action.
  """
  tf.debugging.assert_rank(q_values, 2)
  tf.debugging.assert_rank(actions, 1)
  q_data = tf.gather(q_values, actions, batch_dims=1)
  return tf.reduce_logsumexp(q_values, axis=1) - q_data
