"""Section 3.1's theorems: what Eq. 1 and 2 learn lower-bounds the truth.

A function takes problems and returns checks. What a theorem says of the learned
values is computed through the package's own penalties (`fixed_points`); what
it compares them with, by linear solves that know of no penalty.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cql_atari.tabular import checks, fixed_points, improvement
from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems


def least_alphas(problems: Problems) -> tuple[np.ndarray, np.ndarray]:
  """The least alphas of Theorems 3.1 and 3.2 for these very datasets.

  Q^ - Q is E - alpha U, with E = (I - gamma P^)^-1 (B^ - B) Q and U the same of
  what the penalty pushes down, both solved in the empirical MDP.

  Args:
    problems: the problems.

  Returns:
    (n,) for Eq. 1: max E / U over pairs, with mu / beta; (n,) for Eq. 2 with mu
    = pi: max E_pi[E] / E_pi[U] over states, with pi / beta - 1. A negative one
    says that no penalty is needed.
  """
  policy, behavior = problems.policy, problems.behavior
  empirical = problems.dataset.empirical
  q_values = mdp_lib.action_values(problems.mdp, policy)
  error = mdp_lib.backup(empirical, policy, q_values) - q_values
  pointwise = mdp_lib.action_values(
    empirical, policy, error
  ) / mdp_lib.action_values(empirical, policy, problems.mu / behavior)
  by_state = mdp_lib.state_values(
    empirical, policy, error
  ) / mdp_lib.state_values(empirical, policy, policy / behavior - 1)
  return pointwise.max(axis=(-2, -1)), by_state.max(axis=-1)


def stated_alphas(
  problems: Problems, delta: float
) -> tuple[np.ndarray, np.ndarray]:
  """The alphas above which Theorems 3.1 and 3.2 hold, by counts alone.

  Args:
    problems: the problems.
    delta: probability that they fail.

  Returns:
    (n,) for Eq. 1: max error beta / mu over pairs; (n,) for Eq. 2 with mu = pi:
    max E_pi[error] / D_CQL(pi, beta) over states; `error` being `error_bound`.
  """
  error = dataset_lib.error_bound(problems.dataset, delta)
  policy, behavior = problems.policy, problems.behavior
  pointwise = np.max(error * behavior / problems.mu, axis=(-2, -1))
  distance = improvement.divergence(policy, behavior)
  by_state = checks.expectation(policy, error) / distance
  return pointwise, np.max(by_state, axis=-1)


def theorem_3_1(
  problems: Problems, delta: float, alphas: Sequence[float] = checks.ALPHAS
) -> list[checks.Check]:
  """Eq. 1 lower-bounds Q at every state and action."""
  return _bound('3.1', 'Q', problems, delta, alphas)


def theorem_3_2(
  problems: Problems, delta: float, alphas: Sequence[float] = checks.ALPHAS
) -> list[checks.Check]:
  """Eq. 2 with mu = pi lower-bounds V, more tightly, and not Q."""
  mdp, policy, behavior = problems.mdp, problems.policy, problems.behavior

  def learned_values(penalty, alpha):
    learned = fixed_points.fixed_point(
      problems.dataset.empirical, policy, penalty, alpha, behavior, policy
    )
    return checks.expectation(policy, learned)

  def tighter(alpha):
    gain = learned_values('mu', alpha) - learned_values('eq1', alpha)
    claim = 'V^ of Eq. 2 is above that of Eq. 1, by alpha / (1 - gamma)'
    expected = np.full_like(gain, alpha / (1 - mdp.gamma))
    return checks.check_equal('3.2', claim, gain, expected, mdp.v_max)

  # Near beta the penalty's mean is of second order, its spread of the first.
  near = behavior + 0.1 * (policy - behavior)
  learned = fixed_points.fixed_point(mdp, near, 'mu', 1.0, behavior, near)
  over = np.max(learned - mdp_lib.action_values(mdp, near), axis=(-2, -1))
  return [
    *_bound('3.2', 'V', problems, delta, alphas),
    checks.over_alphas(tighter, alphas),
    checks.counter_example(
      '3.2',
      'Q^ > Q somewhere, so the bound is not pointwise',
      over,
      mdp.v_max,
      required=checks.ONCE,
    ),
  ]


def _bound(
  theorem: str,
  bounded: str,
  problems: Problems,
  delta: float,
  alphas: Sequence[float],
) -> list[checks.Check]:
  """What Theorems 3.1 and 3.2 say alike, of Q by Eq. 1 or of V by Eq. 2."""
  mdp, policy, behavior = problems.mdp, problems.policy, problems.behavior
  empirical, unit = problems.dataset.empirical, mdp.v_max
  if bounded == 'Q':
    penalty, given, index = 'eq1', problems.mu, 0
    pushed = given / behavior
  else:
    penalty, given, index = 'mu', policy, 1
    pushed = given / behavior - 1

  def view(q_values):
    return q_values if index == 0 else checks.expectation(policy, q_values)

  def learn(backed_up, alpha):
    return fixed_points.fixed_point(
      backed_up, policy, penalty, alpha, behavior, given
    )

  def check(claim, greater, lesser, *args, **settings):
    claim = claim.replace('X', bounded)
    return checks.check(
      theorem, claim, greater, lesser, unit, *args, **settings
    )

  true = view(mdp_lib.action_values(mdp, policy))

  def exact(alpha):
    claim = 'X^ <= X by the true backup, for any alpha > 0'
    return check(claim, true, view(learn(mdp, alpha)))

  def by_error(alpha):
    learned = learn(empirical, alpha)
    error = np.abs(
      mdp_lib.backup(empirical, policy, learned)
      - mdp_lib.backup(mdp, policy, learned)
    )
    bound = mdp_lib.action_values(
      mdp, policy, mdp.rewards - alpha * pushed + error
    )
    claim = "X^ <= the theorem's bound, by the sampling error measured"
    return check(claim, view(bound), view(learned))

  stated = stated_alphas(problems, delta)[index]
  least = least_alphas(problems)[index]
  above = view(learn(empirical, least * (1 + checks.NEAR)))
  below = view(learn(empirical, least * (1 - checks.NEAR)))
  over = np.max((below - true).reshape(len(true), -1), axis=1)
  is_needed, share = least > checks.LEAST, 1 - delta
  often = f'with probability {share:g}'
  return [
    checks.over_alphas(exact, alphas),
    checks.over_alphas(by_error, alphas),
    check(
      f'X^ <= X above the stated alpha, {often}',
      true,
      view(learn(empirical, stated)),
      share,
    ),
    check(
      f'the stated alpha is no less than the least that does, {often}',
      stated,
      least,
      share,
    ),
    check('X^ <= X just above the least alpha', true, above, tried=is_needed),
    checks.counter_example(
      theorem,
      f'{bounded}^ > {bounded} somewhere just below it',
      over,
      unit,
      tried=is_needed,
    ),
  ]


def theorem_d_1(
  problems: Problems, features: np.ndarray, iterations: int = 10
) -> list[checks.Check]:
  """Eq. 2 with linear Q-functions lower-bounds the tabular value on average.

  Args:
    problems: the problems.
    features: (n, S, A, D) of every pair, one of them constant.
    iterations: of the update, each with the alpha of its threshold.
  """
  learned, tried = np.zeros_like(problems.policy), []
  for _ in range(iterations):
    true, step, average, alpha, _ = linear_step(problems, features, learned)
    learned = step(np.maximum(alpha, 0) * (1 + checks.NEAR))
    below = average(step(alpha * (1 - checks.NEAR)))
    tried.append((true, average(learned), below, alpha))
  true, above, below, alpha = map(np.concatenate, zip(*tried))
  unit = problems.mdp.v_max
  return [
    checks.check(
      'D.1',
      'E[V^] <= E[V] of the tabular update just above the threshold',
      true,
      above,
      unit,
    ),
    checks.counter_example(
      'D.1',
      'E[V^] is above it just below the threshold',
      below - true,
      unit,
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
