"""Checks: a claim, tried on many problems."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)
NEAR = 1e-2  # How far above and below a threshold is tried.
LEAST = 1e-3  # Alphas below this are not told from 0.
ONCE = 1e-9  # The share of a counter-example that has to be seen just once.
NOT_SEEN = 'not seen'  # The verdict on a rare counter-example.
_ENOUGH = 5000  # Tries for one of those to be among them.
_TOLERANCE = 1e-9  # Of float64, relative to the size of the values.


class Check(NamedTuple):
  """The outcome of trying a claim.

  Attributes:
    theorem: its number.
    claim: in words.
    tried: problems that it was tried on.
    held: those it held for.
    margin: the least slack of all, in units of R_max / (1 - gamma).
    required: the share that has to hold.
  """

  theorem: str
  claim: str
  tried: int
  held: int
  margin: float
  required: float = 1.0

  @property
  def passed(self) -> bool:
    """Whether it held as often as stated, having been tried at all.

    A counter-example to be seen just once may be missing from few problems.
    """
    if self.is_rare and 0 < self.tried < _ENOUGH:
      return True
    return self.tried > 0 and self.held >= self.required * self.tried

  @property
  def is_rare(self) -> bool:
    """Whether it is a counter-example that has to be seen just once."""
    return self.required == ONCE

  @property
  def verdict(self) -> str:
    """In words, for a table."""
    if not self.passed:
      return 'FAILS'
    return 'holds' if self.held >= self.required * self.tried else NOT_SEEN

  def merge(self, other: 'Check') -> 'Check':
    """The same claim's check on more problems."""
    return self._replace(
      tried=self.tried + other.tried,
      held=self.held + other.held,
      margin=float(np.fmin(self.margin, other.margin)),
    )


class Theorem(NamedTuple):
  """A theorem, whose claims are checked.

  Attributes:
    number: such as '3.1'.
    unit: R_max / (1 - gamma) of the problems that it is tried on.
  """

  number: str
  unit: float

  def check(
    self,
    claim: str,
    greater: np.ndarray,
    lesser: np.ndarray,
    required: float = 1.0,
    tried: np.ndarray | None = None,
  ) -> Check:
    """Whether `greater` >= `lesser` everywhere, problem by problem.

    Args:
      claim: in words.
      greater: (n, ...).
      lesser: (n, ...); where either is NaN, nothing holds.
      required: the share that has to hold.
      tried: (n,) which problems are meant, if not all.
    """
    n = len(greater)
    slack = (greater - lesser).reshape(n, -1)
    size = np.maximum(np.abs(greater), np.abs(lesser)).reshape(n, -1)
    held = np.all(slack >= -_TOLERANCE * (self.unit + size), axis=1)
    slack = np.where(np.isnan(slack), -np.inf, slack).min(axis=1) / self.unit
    tried = np.ones(n, bool) if tried is None else tried
    margin = float(slack[tried].min()) if tried.any() else np.nan
    counts = int(tried.sum()), int(held[tried].sum())
    return Check(self.number, claim, *counts, margin, required)

  def check_equal(
    self, claim: str, left: np.ndarray, right: np.ndarray
  ) -> Check:
    """Whether both are equal to float64's tolerance."""
    difference = np.abs(left - right)
    return self.check(claim, -difference, np.zeros_like(difference))

  def counter_example(
    self,
    claim: str,
    excess: np.ndarray,
    required: float = 1.0,
    tried: np.ndarray | None = None,
  ) -> Check:
    """Whether what a bound would forbid is there.

    Args:
      claim: in words.
      excess: (n, ...), positive somewhere in a problem.
      required: see `check`.
      tried: see `check`.
    """
    most = excess.reshape(len(excess), -1).max(axis=1)
    enough = np.full_like(most, 2 * _TOLERANCE * self.unit)
    claim = f'counter-example: {claim}'
    return self.check(claim, most, enough, required, tried)


def over_alphas(check_at: Callable[[float], Check]) -> Check:
  """One check of those for every alpha."""
  return functools.reduce(Check.merge, map(check_at, ALPHAS))


def expectation(distribution: np.ndarray, q_values: np.ndarray) -> np.ndarray:
  """E_{a ~ distribution}[Q(s, a)], (..., S), of two (..., S, A)."""
  return np.sum(distribution * q_values, axis=-1)
