"""Optimizers on TensorFlow's fused kernels.

Keras 3 writes Adam as a dozen memory-bound operations a variable; the fused
kernel makes one pass, which is a third of the time on the networks used here.
"""

import abc
import math
from collections.abc import Sequence

import gin
import tensorflow as tf

from cql_atari.core.errors import check_number


class Optimizer(tf.Module, abc.ABC):
  """One step at a time along gradients.

  Attributes:
    iterations: steps taken, an int64 variable.
    slots: what is kept for each trained variable, by name.
  """

  SLOTS: tuple[str, ...] = ()

  def __init__(self, learning_rate: float, epsilon: float, **decays: float):
    """Checks the settings: decays are in [0, 1)."""
    super().__init__()
    name = type(self).__name__
    check_number(f'{name}.learning_rate', learning_rate, 0)
    check_number(f'{name}.epsilon', epsilon, 0)
    for decay, value in decays.items():
      check_number(f'{name}.{decay}', value, 0, most=1 - 1e-9)
    self.iterations = tf.Variable(
      0,
      dtype=tf.int64,
      trainable=False,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

  def build(self, variables: Sequence[tf.Variable]) -> None:
    """Makes the slots of the variables to be trained."""
    self._trained = list(variables)
    self.slots = {
      name: [tf.Variable(tf.zeros_like(v)) for v in variables]
      for name in self.SLOTS
    }

  def apply(self, gradients: Sequence[tf.Tensor]) -> None:
    """Takes one step along gradients in the order `build` got variables."""
    step = tf.cast(self.iterations.assign_add(1), tf.float32)
    for variable, gradient, *slots in zip(
      self._trained, gradients, *self.slots.values()
    ):
      self._update(
        variable.handle, gradient, step, *(slot.handle for slot in slots)
      )

  @abc.abstractmethod
  def _update(self, variable, gradient, step, *slots):
    """Updates a variable and its slots, all given by their handles."""


@gin.configurable
class Adam(Optimizer):
  """Adam (Kingma and Ba, 2015), in TensorFlow 1's formulation of epsilon.

  The update is lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) +
  epsilon), the one behind the published Atari settings.
  """

  SLOTS = ('first_moment', 'second_moment')

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
    super().__init__(learning_rate, epsilon, beta_1=beta_1, beta_2=beta_2)
    self._hyperparameters = {
      'lr': learning_rate,
      'beta1': beta_1,
      'beta2': beta_2,
      'epsilon': epsilon,
    }

  def _update(self, variable, gradient, step, first, second):
    tf.raw_ops.ResourceApplyAdam(
      var=variable,
      m=first,
      v=second,
      beta1_power=self._hyperparameters['beta1'] ** step,
      beta2_power=self._hyperparameters['beta2'] ** step,
      grad=gradient,
      **self._hyperparameters,
    )


@gin.configurable
class RMSProp(Optimizer):
  """Centred RMSProp (Graves, 2013), as TensorFlow 1 wrote it for DQN.

  With running means g of the gradient and s of its square, the update is
  lr * gradient / sqrt(s - g^2 + epsilon).
  """

  SLOTS = ('mean_gradient', 'mean_square', 'momentum')

  def __init__(
    self,
    learning_rate: float = 2.5e-4,
    decay: float = 0.95,
    epsilon: float = 1e-5,
  ):
    """Initializes the hyperparameters: DQN's by default.

    Args:
      learning_rate: step size.
      decay: of the running means.
      epsilon: added under the root.
    """
    super().__init__(learning_rate, epsilon, decay=decay)
    self._hyperparameters = {
      'lr': learning_rate,
      'rho': decay,
      'momentum': 0.0,
      'epsilon': epsilon,
    }

  def build(self, variables: Sequence[tf.Variable]) -> None:
    """Makes the slots; TensorFlow 1 begins with squares of 1."""
    super().build(variables)
    for square in self.slots['mean_square']:
      square.assign(tf.ones_like(square))

  def _update(self, variable, gradient, step, mean, square, momentum):
    del step
    tf.raw_ops.ResourceApplyCenteredRMSProp(
      var=variable,
      mg=mean,
      ms=square,
      mom=momentum,
      grad=gradient,
      **self._hyperparameters,
    )


class DualVariable(tf.Module):
  """A multiplier that is never negative, learned by dual gradient ascent.

  It rises while its constraint is broken and falls while it is kept, by steps
  of Adam along the gradient of value * gap by log value.
  """

  def __init__(
    self, value: float, learning_rate: float, most: float = float('inf')
  ):
    """Begins with a value.

    Args:
      value: greater than 0.
      learning_rate: Adam's, on log value.
      most: what the value never exceeds.
    """
    super().__init__()
    self._log = tf.Variable(math.log(value), dtype=tf.float32)
    self._most = math.log(most)
    self._adam = Adam(learning_rate, epsilon=1e-8)
    self._adam.build([self._log])

  @property
  def value(self) -> tf.Tensor:
    """The multiplier now, a scalar."""
    return tf.exp(self._log)

  def ascend(self, gap: tf.Tensor) -> None:
    """One step, by how much the constraint is broken (kept, where below 0)."""
    self._adam.apply([-self.value * gap])
    self._log.assign(tf.minimum(self._log, self._most))

  def saved(self, name: str) -> dict[str, tf.Variable]:
    """Its variables, for a checkpoint."""
    slots = {f'{name}_{key}': v[0] for key, v in self._adam.slots.items()}
    return {
      f'log_{name}': self._log,
      f'{name}_steps': self._adam.iterations,
      **slots,
    }
