"""Theorem D.1: Eq. 2 with Q linear in features.

A function takes problems and returns checks, as in `lower_bounds`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cql_atari.tabular import checks, fixed_points
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems

_ITERATIONS = 10  # Updates, each with the alpha of its threshold.


def theorem_d_1(problems: Problems, features: np.ndarray) -> list[checks.Check]:
  """Eq. 2 with linear Q-functions lower-bounds the tabular value on average.

  Args:
    problems: the problems.
    features: (n, S, A, D) of every pair, one of them constant.
  """
  learned, tried = np.zeros_like(problems.policy), []
  for _ in range(_ITERATIONS):
    true, step, average, alpha, _ = linear_step(problems, features, learned)
    learned = step(np.maximum(alpha, 0) * (1 + checks.NEAR))
    below = average(step(alpha * (1 - checks.NEAR)))
    tried.append((true, average(learned), below, alpha))
  true, above, below, alpha = map(np.concatenate, zip(*tried))
  theorem = checks.Theorem('D.1', problems.mdp.v_max)
  return [
    theorem.check(
      'E[V^] <= E[V] of the tabular update just above the threshold',
      true,
      above,
    ),
    theorem.counter_example(
      'E[V^] is above it just below the threshold',
      below - true,
      tried=alpha > checks.LEAST,
    ),
  ]


class LinearStep(NamedTuple):
  """One update of Eq. 2 with linear Q-functions.

  Attributes:
    true: (n,) E[V] of the tabular update with the true backup.
    step: the update, of alpha to Q^k+1.
    average: E[V] of Q-values (n, S, A), (n,).
    alpha: (n,) the threshold.
    lowered: (n,) ||Pi x||^2.
  """

  true: np.ndarray
  step: Callable[..., np.ndarray]
  average: Callable[[np.ndarray], np.ndarray]
  alpha: np.ndarray
  lowered: np.ndarray


def linear_step(
  problems: Problems, features: np.ndarray, learned: np.ndarray
) -> LinearStep:
  """One update of Eq. 2 with mu = pi and linear Q-functions, and its threshold.

  With x = pi / beta - 1, Pi the projection onto the features by the data's
  distribution of pairs, and a constant among the features, the penalty lowers
  E_{s ~ data}[V^] by alpha ||Pi x||^2. What the projection of the targets adds
  to E[V], alpha has to make up for.

  Args:
    problems: the problems.
    features: (n, S, A, D) of every pair, one of them constant.
    learned: (n, S, A) Q^k.
  """
  policy, behavior = problems.policy, problems.behavior
  counts = problems.dataset.counts.sum(axis=-1)
  states = counts / counts.sum(axis=-1, keepdims=True)
  targets = mdp_lib.backup(problems.dataset.empirical, policy, learned)

  def average(q_values):
    return np.sum(states * checks.expectation(policy, q_values), axis=-1)

  def step(alpha, targets=targets):
    return fixed_points.linear_update(
      targets, features, 'mu', alpha, behavior, states, policy
    )

  true = average(mdp_lib.backup(problems.mdp, policy, learned))
  projected = step(0.0, policy / behavior - 1)
  lowered = np.sum(states * checks.expectation(behavior, projected**2), axis=-1)
  alpha = (average(step(0.0)) - true) / lowered
  return LinearStep(true, step, average, alpha, lowered)


def random_features(
  rng: np.random.Generator, problems: Problems, width: int
) -> np.ndarray:
  """(n, S, A, 1 + width): a constant, and normal ones."""
  shape = problems.policy.shape
  normal = rng.normal(size=(*shape, width))
  return np.concatenate([np.ones((*shape, 1)), normal], axis=-1)
