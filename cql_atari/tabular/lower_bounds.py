"""Section 3.1's theorems: what Eq. 1 and 2 learn lower-bounds the truth.

A function takes problems and returns checks. What a theorem says of the learned
values is computed through the package's own penalties (`fixed_points`); what
it compares them with, by linear solves that know of no penalty.
"""

from collections.abc import Sequence

import numpy as np

from cql_atari.tabular import checks, fixed_points, improvement
from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems


def pointwise_threshold(problems: Problems) -> np.ndarray:
  """The least alpha of Theorem 3.1 for these very datasets, (n,).

  Eq. 1's Q^ - Q is E - alpha U, with E = (I - gamma P^)^-1 (B^ - B) Q and
  U = (I - gamma P^)^-1 mu / beta, both solved in the empirical MDP.
  """
  mdp, policy = problems.mdp, problems.policy
  empirical = problems.dataset.empirical
  q_values = mdp_lib.action_values(mdp, policy)
  error = mdp_lib.backup(empirical, policy, q_values) - q_values
  pushed = problems.mu / problems.behavior
  ratio = mdp_lib.action_values(
    empirical, policy, error
  ) / mdp_lib.action_values(empirical, policy, pushed)
  return ratio.max(axis=(-2, -1))


def value_threshold(problems: Problems) -> np.ndarray:
  """The least alpha of Theorem 3.2 for these very datasets, (n,)."""
  mdp, policy = problems.mdp, problems.policy
  empirical = problems.dataset.empirical
  q_values = mdp_lib.action_values(mdp, policy)
  error = mdp_lib.backup(empirical, policy, q_values) - q_values
  pushed = policy / problems.behavior - 1
  ratio = mdp_lib.state_values(empirical, policy, error) / mdp_lib.state_values(
    empirical, policy, pushed
  )
  return ratio.max(axis=-1)


def stated_thresholds(
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
  by_state = checks.expectation(policy, error) / improvement.divergence(
    policy, behavior
  )
  return pointwise, np.max(by_state, axis=-1)


def theorem_3_1(
  problems: Problems, delta: float, alphas: Sequence[float] = checks.ALPHAS
) -> list[checks.Check]:
  """Eq. 1 lower-bounds Q at every state and action."""
  mdp, policy, mu = problems.mdp, problems.policy, problems.mu
  behavior, empirical = problems.behavior, problems.dataset.empirical
  q_values = mdp_lib.action_values(mdp, policy)
  unit = mdp.v_max

  def solve(backed_up, alpha):
    return fixed_points.fixed_point(
      backed_up, policy, 'eq1', alpha, behavior, mu
    )

  def exact(alpha):
    claim = 'Q^ <= Q by the true backup, for any alpha > 0'
    return checks.check('3.1', claim, q_values, solve(mdp, alpha), unit)

  def bounded(alpha):
    learned = solve(empirical, alpha)
    error = np.abs(
      mdp_lib.backup(empirical, policy, learned)
      - mdp_lib.backup(mdp, policy, learned)
    )
    bound = mdp_lib.action_values(
      mdp, policy, mdp.rewards - alpha * mu / behavior + error
    )
    claim = "Q^ <= the theorem's bound, by the sampling error measured"
    return checks.check('3.1', claim, bound, learned, unit)

  stated = stated_thresholds(problems, delta)[0]
  least = pointwise_threshold(problems)
  above, below = (
    solve(empirical, least * f) for f in (1 + checks.NEAR, 1 - checks.NEAR)
  )
  over = np.max(below - q_values, axis=(-2, -1))
  return [
    checks.over_alphas(exact, alphas),
    checks.over_alphas(bounded, alphas),
    checks.check(
      '3.1',
      f'Q^ <= Q above the stated alpha, with probability {1 - delta:g}',
      q_values,
      solve(empirical, stated),
      unit,
      1 - delta,
    ),
    checks.check(
      '3.1',
      'the stated alpha is no less than the least that does',
      stated,
      least,
      unit,
      1 - delta,
    ),
    checks.check(
      '3.1',
      'Q^ <= Q just above the least alpha',
      q_values,
      above,
      unit,
      tried=least > checks.LEAST,
    ),
    checks.counter_example(
      '3.1',
      'Q^ > Q somewhere just below it',
      over,
      unit,
      tried=least > checks.LEAST,
    ),
  ]


def theorem_3_2(
  problems: Problems, delta: float, alphas: Sequence[float] = checks.ALPHAS
) -> list[checks.Check]:
  """Eq. 2 with mu = pi lower-bounds V, more tightly, and not Q."""
  mdp, policy = problems.mdp, problems.policy
  behavior, empirical = problems.behavior, problems.dataset.empirical
  q_values = mdp_lib.action_values(mdp, policy)
  values, unit = checks.expectation(policy, q_values), mdp.v_max

  def solve(backed_up, alpha, penalty='mu'):
    return fixed_points.fixed_point(
      backed_up, policy, penalty, alpha, behavior, policy
    )

  def learned_values(*args):
    return checks.expectation(policy, solve(*args))

  def exact(alpha):
    claim = 'V^ <= V by the true backup, for any alpha > 0'
    return checks.check('3.2', claim, values, learned_values(mdp, alpha), unit)

  def bounded(alpha):
    learned = solve(empirical, alpha)
    error = np.abs(
      mdp_lib.backup(empirical, policy, learned)
      - mdp_lib.backup(mdp, policy, learned)
    )
    bound = mdp_lib.state_values(
      mdp, policy, mdp.rewards - alpha * (policy / behavior - 1) + error
    )
    claim = "V^ <= the theorem's bound, by the sampling error measured"
    return checks.check(
      '3.2', claim, bound, checks.expectation(policy, learned), unit
    )

  def tighter(alpha):
    gain = learned_values(empirical, alpha) - learned_values(
      empirical, alpha, 'eq1'
    )
    claim = 'V^ of Eq. 2 is above that of Eq. 1, by alpha / (1 - gamma)'
    expected = np.full_like(gain, alpha / (1 - mdp.gamma))
    return checks.check_equal('3.2', claim, gain, expected, unit)

  stated = stated_thresholds(problems, delta)[1]
  least = value_threshold(problems)
  above, below = (
    learned_values(empirical, least * f)
    for f in (1 + checks.NEAR, 1 - checks.NEAR)
  )
  over = np.max(below - values, axis=-1)
  # Near beta the penalty's mean is of second order, its spread of the first.
  near = behavior + 0.1 * (policy - behavior)
  not_pointwise = np.max(
    fixed_points.fixed_point(mdp, near, 'mu', 1.0, behavior, near)
    - mdp_lib.action_values(mdp, near),
    axis=(-2, -1),
  )
  return [
    checks.over_alphas(exact, alphas),
    checks.over_alphas(bounded, alphas),
    checks.check(
      '3.2',
      f'V^ <= V above the stated alpha, with probability {1 - delta:g}',
      values,
      learned_values(empirical, stated),
      unit,
      1 - delta,
    ),
    checks.check(
      '3.2',
      'V^ <= V just above the least alpha',
      values,
      above,
      unit,
      tried=least > checks.LEAST,
    ),
    checks.counter_example(
      '3.2',
      'V^ > V somewhere just below it',
      over,
      unit,
      tried=least > checks.LEAST,
    ),
    checks.over_alphas(tighter, alphas),
    checks.counter_example(
      '3.2',
      'Q^ > Q somewhere, so the bound is not pointwise',
      not_pointwise,
      unit,
      required=checks.ONCE,
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


def linear_step(
  problems: Problems, features: np.ndarray, learned: np.ndarray
) -> tuple:
  """One update of Eq. 2 with mu = pi and linear Q-functions, and its threshold.

  With x = pi / beta - 1, Pi the projection onto the features by the data's
  distribution of pairs, and a constant among the features, the penalty lowers
  E_{s ~ data}[V^] by alpha ||Pi x||^2. What the projection of the targets adds
  to E[V], alpha has to make up for.

  Args:
    problems: the problems.
    features: (n, S, A, D) of every pair, one of them constant.
    learned: (n, S, A) Q^k.

  Returns:
    E[V] of the tabular update with the true backup, (n,); the update, of alpha
    to Q^k+1; E[V] of Q-values; the threshold of alpha, (n,); ||Pi x||^2, (n,).
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
  return true, step, average, alpha, lowered


def random_features(
  rng: np.random.Generator, problems: Problems, width: int
) -> np.ndarray:
  """(n, S, A, 1 + width): a constant, and normal ones."""
  shape = problems.policy.shape
  normal = rng.normal(size=(*shape, width))
  return np.concatenate([np.ones((*shape, 1)), normal], axis=-1)
