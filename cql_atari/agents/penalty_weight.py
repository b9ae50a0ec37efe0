"""Alpha, the weight of CQL's penalty: fixed, or tuned by its dual."""

import tensorflow as tf

from cql_atari.agents import base, optimizers

_MAX_ALPHA = 1e6


class PenaltyWeight(base.OfflineAgent):
  """An agent with `alpha`, mixed into the CQL agents of Atari and of D4RL.

  Their losses have a scalar 'cql_penalty'. With a `target_gap` tau, alpha rises
  while that is above tau and falls while it is below, by gradient ascent on
  alpha (penalty - tau), up to 10^6 (appendix F of the paper). Their
  constructors set what is declared here.
  """

  target_gap: float | None
  _initial_alpha: float
  _alpha_learning_rate: float

  def _build(self) -> None:
    super()._build()
    is_fixed = self.target_gap is None
    self._alpha = optimizers.DualVariable(
      self._initial_alpha,
      None if is_fixed else self._alpha_learning_rate,
      _MAX_ALPHA,
    )

  @property
  def alpha(self) -> float:
    """The penalty's weight as it is now."""
    return float(self._alpha.value)

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Moves alpha too, where it is tuned."""
    super().after_step(scalars)
    if self.target_gap is not None and 'cql_penalty' in scalars:
      self._alpha.ascend(scalars['cql_penalty'] - self.target_gap)

  def _saved(self) -> dict[str, tf.Variable]:
    return {**super()._saved(), **self._alpha.saved('alpha')}
