"""Alpha, the weight of a conservative penalty: fixed, or tuned to a gap."""

import math

import tensorflow as tf

from cql_atari.agents import optimizers
from cql_atari.core.errors import UserError, check_number

_MOST = 1e6


class PenaltyWeight:
  """The weight of a penalty.

  With a target gap tau, it rises while the penalty is above tau and falls while
  it is below, by dual gradient ascent on alpha (penalty - tau), up to 10^6.
  """

  def __init__(
    self,
    agent: str,
    alpha: float,
    target_gap: float | None,
    learning_rate: float,
  ):
    """Checks the settings; `build` makes the variables.

    Args:
      agent: whose it is, for the errors' text.
      alpha: the weight, or what it begins with.
      target_gap: tau, in units of return; None for a fixed weight.
      learning_rate: Adam's, on log alpha.

    Raises:
      UserError: a setting that makes no sense.
    """
    check_number(f'{agent}.alpha', alpha, 0)
    if target_gap is not None:
      check_number(f'{agent}.target_gap', target_gap, -math.inf)
      if not alpha:
        raise UserError(
          f'{agent}.alpha is 0, from where it cannot be tuned to target_gap: '
          'begin with 1.0.'
        )
    self._alpha, self._target_gap = alpha, target_gap
    self._learning_rate = learning_rate
    self._dual = None

  def build(self) -> None:
    """Makes the variables, where there are any."""
    if self._target_gap is not None:
      self._dual = optimizers.DualVariable(
        self._alpha, self._learning_rate, _MOST
      )

  @property
  def value(self) -> float | tf.Tensor:
    """Alpha now."""
    return self._alpha if self._dual is None else self._dual.value

  def ascend(self, penalty: tf.Tensor) -> None:
    """Part of the gradient step: moves alpha by what the penalty was."""
    if self._dual is not None:
      self._dual.ascend(penalty - self._target_gap)

  def saved(self) -> dict[str, tf.Variable]:
    """Its variables, for a checkpoint."""
    return {} if self._dual is None else self._dual.saved('alpha')
