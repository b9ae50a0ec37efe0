"""Optimizers on TensorFlow's fused kernels.

Keras 3 writes Adam as a dozen memory-bound operations a variable; the fused
kernel makes one pass, which is a third of the time on the networks used here.
"""

from collections.abc import Sequence

import gin
import tensorflow as tf

from cql_atari.errors import check_number


@gin.configurable
class Adam(tf.Module):
  """Adam (Kingma and Ba, 2015), in TensorFlow 1's formulation of epsilon.

  The update is lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) +
  epsilon), the one behind the published Atari settings.
  """

  def __init__(
    self,
    learning_rate: float = 5e-5,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 3.125e-4,
  ):
    """Initializes the hyperparameters.

    Args:
      learning_rate: step size.
      beta_1: decay of the first moment.
      beta_2: decay of the second moment.
      epsilon: added to sqrt(v).
    """
    super().__init__()
    check_number('Adam.learning_rate', learning_rate, 0)
    self._hyperparameters = {
      'lr': learning_rate,
      'beta1': beta_1,
      'beta2': beta_2,
      'epsilon': epsilon,
    }
    self.iterations = tf.Variable(
      0,
      dtype=tf.int64,
      trainable=False,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

  def build(self, variables: Sequence[tf.Variable]) -> None:
    """Makes the moments of the variables to be trained."""
    self._trained = list(variables)
    self.first_moments = [tf.Variable(tf.zeros_like(v)) for v in variables]
    self.second_moments = [tf.Variable(tf.zeros_like(v)) for v in variables]

  def apply(self, gradients: Sequence[tf.Tensor]) -> None:
    """Takes one step along gradients in the order `build` got variables."""
    step = tf.cast(self.iterations.assign_add(1), tf.float32)
    for variable, first, second, gradient in zip(
      self._trained, self.first_moments, self.second_moments, gradients
    ):
      tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=first.handle,
        v=second.handle,
        beta1_power=self._hyperparameters['beta1'] ** step,
        beta2_power=self._hyperparameters['beta2'] ** step,
        grad=gradient,
        **self._hyperparameters,
      )
