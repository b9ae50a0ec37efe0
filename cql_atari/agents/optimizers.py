"""Optimizers on TensorFlow's fused kernels.

Keras 3 writes Adam as a dozen memory-bound operations a variable; the fused
kernel makes one pass, which is a third of the time on the networks used here.
"""

import abc
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from cql_atari.core.constraints import (
  HalfOpenUnitInterval,
  NonNegative,
  configurable,
)
from cql_atari.core.errors import UserError


class Optimizer(tf.Module, abc.ABC):
  """One step at a time along gradients.

  Attributes:
    iterations: steps taken, an int64 variable.
    slots: what is kept for each trained variable, by name.
  """

  SLOTS: tuple[str, ...] = ()

  def __init__(self):
    """Makes the counter; `build` makes the slots."""
    super().__init__()
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


@configurable
class Adam(Optimizer):
  """Adam (Kingma and Ba, 2015), in TensorFlow 1's formulation of epsilon.

  The update is lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) +
  epsilon), the one behind the published Atari settings.
  """

  SLOTS = ('first_moment', 'second_moment')

  def __init__(
    self,
    learning_rate: NonNegative = 5e-5,
    beta_1: HalfOpenUnitInterval = 0.9,
    beta_2: HalfOpenUnitInterval = 0.999,
    epsilon: NonNegative = 3.125e-4,
  ):
    """Initializes the hyperparameters.

    Args:
      learning_rate: step size.
      beta_1: decay of the first moment.
      beta_2: decay of the second moment.
      epsilon: added to sqrt(v).
    """
    super().__init__()
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


@configurable
class RMSProp(Optimizer):
  """Centred RMSProp (Graves, 2013), as TensorFlow 1 wrote it for DQN.

  With running means g of the gradient and s of its square, the update is
  lr * gradient / sqrt(s - g^2 + epsilon).
  """

  SLOTS = ('mean_gradient', 'mean_square', 'momentum')

  def __init__(
    self,
    learning_rate: NonNegative = 2.5e-4,
    decay: HalfOpenUnitInterval = 0.95,
    epsilon: NonNegative = 1e-5,
  ):
    """Initializes the hyperparameters: DQN's by default.

    Args:
      learning_rate: step size.
      decay: decay of the running means.
      epsilon: added under the root.
    """
    super().__init__()
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


def make(
  optimizer: Callable[[], Optimizer], variables: Sequence[tf.Variable]
) -> Optimizer:
  """Makes an optimizer of variables.

  Raises:
    UserError: what is given makes none of these, or no new one.
  """
  made = optimizer() if callable(optimizer) else optimizer
  if optimizer is made or not isinstance(made, Optimizer):
    raise UserError(
      f'optimizer is {optimizer!r}: give what makes one of ours, such as '
      'functools.partial(cql_atari.Adam, learning_rate=1e-4).'
    )
  if hasattr(made, '_trained'):
    raise UserError(
      'optimizer gives the one that another agent has: give what makes a new '
      'one in every call.'
    )
  made.build(variables)
  return made


class DualVariable(tf.Module):
  """A non-negative Lagrange multiplier: fixed, or learned by dual ascent.

  A learned multiplier rises while its constraint is violated and falls while it
  is satisfied: Adam ascends value * violation with respect to log value, as in
  Haarnoja et al. (2018), section 5, and in appendix F of the CQL paper.
  """

  def __init__(
    self,
    value: float,
    learning_rate: float | None,
    max_value: float = math.inf,
    min_value: float = 0.0,
  ):
    """Initializes the multiplier.

    Args:
      value: initial value.
      learning_rate: Adam's, on log value; None for a fixed value.
      max_value: upper bound of a learned value.
      min_value: lower bound of a learned value.

    Raises:
      UserError: it is to be learned from 0, which has no logarithm.
    """
    super().__init__()
    self._fixed = value if learning_rate is None else None
    if self._fixed is not None:
      return
    if value <= 0:
      raise UserError(
        f'a weight of {value} cannot be tuned: begin with 1.0, such as alpha '
        'beside target_gap.'
      )
    self._log = tf.Variable(math.log(value), dtype=tf.float32)
    self._log_max = math.log(max_value)
    self._log_min = math.log(min_value) if min_value else -math.inf
    self._adam = Adam(learning_rate, epsilon=1e-8)
    self._adam.build([self._log])

  @property
  def value(self) -> float | tf.Tensor:
    """The weight now, a scalar."""
    return tf.exp(self._log) if self._fixed is None else self._fixed

  def ascend(self, violation: tf.Tensor) -> None:
    """One step.

    Args:
      violation: scalar violation of the constraint; negative where it holds.
    """
    if self._fixed is None:
      self._adam.apply([-self.value * violation])
      self._log.assign(
        tf.clip_by_value(self._log, self._log_min, self._log_max)
      )

  def saved(self, name: str) -> dict[str, tf.Variable]:
    """Its variables by name, for a checkpoint."""
    if self._fixed is not None:
      return {}
    return {
      f'log_{name}': self._log,
      f'{name}_steps': self._adam.iterations,
      **{f'{name}_{key}': v[0] for key, v in self._adam.slots.items()},
    }
