"""Tries every claim of the theorems on random problems."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cql_atari.analysis import document
from cql_atari.core import progress
from cql_atari.tabular import (
  checks,
  linear,
  lower_bounds,
  maximizing,
  policy_learning,
  problems,
  slow_policies,
)

_SIZES = (100, 10_000)  # Transitions of a dataset.
_LARGE_SIZES = (10**6, 10**8)  # Where bounds by counts come near the values.
ABOUT = (
  'How often each claim was tried, and held. "Required" is the share that has '
  'to hold; a counter-example, "once", just has to exist. The margin is the '
  'least slack of all tries, in units of R_max / (1 - gamma); of two numbers '
  'that are to be equal, it is what rounding leaves, some -1e-12.'
)
_REPEATS = 5  # Datasets of an MDP, where a claim is of probability.


class Found(NamedTuple):
  """A claim on problems of one kind.

  Attributes:
    family: the family of MDPs.
    transitions: in a dataset.
    check: how it fared.
  """

  family: str
  transitions: int
  check: checks.Check


def check_all(mdps: int, seed: int, delta: float) -> list[Found]:
  """All checks of all theorems.

  Args:
    mdps: number of MDPs of each family.
    seed: seeds the MDPs and the datasets.
    delta: probability that a bound on sampling error may fail.

  Returns:
    Every claim on every family and size.
  """
  rng = np.random.default_rng(seed)
  results = []
  sizes = (*_SIZES, *_LARGE_SIZES)
  settings = list(itertools.product(problems.FAMILIES, sizes))
  with progress.bar(len(settings), ' settings', 'checking') as bar:
    for family, size in settings:
      often = problems.sample(family, mdps, size, rng, _REPEATS)
      once = problems.sample(family, mdps, size, rng)
      found = [
        *lower_bounds.theorem_3_1(often, delta),
        *lower_bounds.theorem_3_2(often, delta),
        *slow_policies.sampled_theorem_3_3(once, delta),
        *policy_learning.theorem_3_6(often, delta),
      ]
      if size in _SIZES:
        width = once.policy[0].size // 4
        features = linear.random_features(rng, once, width)
        found += [
          *linear.theorem_d_1(once, features),
          *maximizing.appendix_d_2(once),
          *slow_policies.theorem_3_3(once),
          *policy_learning.theorem_3_4(once),
          *policy_learning.theorem_3_5(once),
        ]
      results += [Found(family, size, check) for check in found]
      bar.update()
  return results


def merge(results: Sequence[Found]) -> list[checks.Check]:
  """One check of every claim, ordered by theorem."""
  merged = {}
  for _, _, check in results:
    key = check.theorem, check.claim
    merged[key] = merged[key].merge(check) if key in merged else check
  return [merged[key] for key in sorted(merged, key=lambda key: key[0])]


def table(claims: Sequence[checks.Check]) -> str:
  """The checks as a Markdown table."""
  header = ('theorem', 'claim', 'tried', 'held', 'required', 'margin', '')
  rows = [
    (
      check.theorem,
      check.claim,
      f'{check.tried:,}',
      f'{check.held:,}',
      'once' if check.is_rare else f'{check.required:.0%}',
      '' if check.is_rare else f'{check.margin:.1e}',
      check.verdict,
    )
    for check in claims
  ]
  return document.table(header, rows)
