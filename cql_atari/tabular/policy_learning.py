"""Theorems 3.4 to 3.6: CQL as it learns a policy.

A function takes problems and returns checks, as in `lower_bounds`.
"""

import functools
from collections.abc import Callable

import numpy as np
from scipy import special

from cql_atari.tabular import checks, fixed_points, improvement
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems

# D_CQL of distributions that are the same but for rounding, and of those that
# are far enough apart for the gap's widening to show.
_SAME, _DIFFERENT = 1e-12, 1e-4


_ITERATIONS = 10


def theorem_3_4(problems: Problems) -> list[checks.Check]:
  """The update widens the gap between behavior and mu for a large alpha."""
  behavior, unit = problems.behavior, problems.mdp.v_max
  learned, tried = np.zeros_like(problems.mdp.rewards), []
  for _ in range(_ITERATIONS):
    mu, true, alpha, update = gap_step(problems, learned)
    below = update(alpha * (1 - checks.NEAR))
    learned = update(np.maximum(alpha, 0) * (1 + checks.NEAR) + 1e-3)
    wider, narrower = (
      checks.expectation(behavior - mu, q_values - true)
      for q_values in (learned, below)
    )
    differs = improvement.divergence(mu, behavior) > _DIFFERENT
    tried.append((alpha, differs, wider, narrower))
  alphas, differs, wider, narrower = map(np.concatenate, zip(*tried))
  theorem = checks.Theorem('3.4', unit)
  return [
    theorem.check(
      'the gap is no narrower than the true one above the threshold',
      wider,
      np.zeros_like(wider),
    ),
    theorem.check(
      'and wider wherever mu is not beta',
      np.where(differs, wider, unit),
      np.full_like(wider, 2e-9 * unit),
    ),
    theorem.counter_example(
      'it is narrower somewhere just below it',
      -narrower,
      tried=alphas > checks.LEAST,
    ),
  ]


def gap_step(
  problems: Problems, learned: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Callable]:
  """What an iteration of Theorem 3.4 is made of.

  Args:
    problems: n of them.
    learned: (n, S, A), the Q-values before it.

  Returns:
    mu, the softmax of these, and its true Q-values (n, S, A); the theorem's
    alpha_k (n,); and the update, a function of alpha that gives Q-values.
  """
  mu = special.softmax(learned, axis=-1)
  true = mdp_lib.action_values(problems.mdp, mu)
  target = mdp_lib.backup(problems.dataset.empirical, mu, learned)
  behavior = problems.behavior
  # The update adds alpha D_CQL(mu, beta) to the gap E_beta[Q] - E_mu[Q] of its
  # target, so it has to make up for what that lacks to the gap of the true Q.
  lacking = checks.expectation(behavior - mu, true - target)
  distance = improvement.divergence(mu, behavior)
  # Where mu is beta there is no gap to widen.
  ratio = lacking / np.where(distance > _SAME, distance, np.inf)

  def update(alpha):
    return fixed_points.update(target, 'mu', alpha, behavior, mu)

  return mu, true, np.max(ratio, axis=-1), update


def learned_return(
  mdp: mdp_lib.MDP,
  policy: np.ndarray,
  behavior: np.ndarray,
  alpha: np.ndarray | float,
) -> np.ndarray:
  """E[V^] of Eq. 2 with mu = pi over the first states, (n,).

  Args:
    mdp: whose backup is used.
    policy: (n, S, A) pi(a|s).
    behavior: (n, S, A) beta(a|s).
    alpha: the penalty's weight, (n,) or one for all.
  """
  learned = fixed_points.fixed_point(mdp, policy, 'mu', alpha, behavior, policy)
  return np.sum(mdp.initial * checks.expectation(policy, learned), axis=-1)


def theorem_3_5(problems: Problems) -> list[checks.Check]:
  """Eq. 2's value is the penalized return in the empirical MDP."""
  empirical, behavior = problems.dataset.empirical, problems.behavior
  theorem = checks.Theorem('3.5', problems.mdp.v_max)
  policy = problems.policy

  def equal(alpha):
    learned = learned_return(empirical, policy, behavior, alpha)
    closed = improvement.penalized_return(empirical, policy, behavior, alpha)
    claim = 'E[V^] equals the penalized return'
    return theorem.check_equal(claim, learned, closed)

  def best(alpha):
    improved = improvement.improved_policy(empirical, behavior, alpha)
    # The last two are best for a little less and a little more of the penalty.
    others = [policy, behavior, problems.mu, (improved + policy) / 2] + [
      improvement.improved_policy(empirical, behavior, near * alpha)
      for near in (0.9, 1.1)
    ]
    most, *values = (
      learned_return(empirical, p, behavior, alpha) for p in (improved, *others)
    )
    claim = 'E[V^] is greatest for the policy that dynamic programming finds'
    return theorem.check(claim, most[:, None], np.stack(values, axis=-1))

  return [checks.over_alphas(equal), checks.over_alphas(best)]


def theorem_3_6(problems: Problems, delta: float) -> list[checks.Check]:
  """The policy of Theorem 3.5 is a zeta-safe improvement."""
  mdp, dataset = problems.mdp, problems.dataset
  empirical, behavior = dataset.empirical, problems.behavior
  theorem = checks.Theorem('3.6', mdp.v_max)
  behavior_return = mdp_lib.expected_return(empirical, behavior)
  improved = functools.cache(
    lambda alpha: improvement.improved_policy(empirical, behavior, alpha)
  )

  def safe(alpha):
    policy = improved(alpha)
    zeta = improvement.improvement_bound(dataset, policy, delta)
    regret = improvement.regret(mdp, policy, behavior)
    claim = f'the regret is at most zeta, with probability {1 - delta:g}'
    return theorem.check(claim, zeta, regret, 1 - delta)

  def simulated(alpha):
    policy = improved(alpha)
    q_values = mdp_lib.action_values(mdp, policy)
    error = np.abs(mdp_lib.backup(empirical, policy, q_values) - q_values)
    bound = improvement.over_visits(
      empirical, policy, checks.expectation(policy, error)
    )
    off = mdp_lib.expected_return(empirical, policy)
    off = np.abs(off - mdp_lib.expected_return(mdp, policy))
    claim = "the return in M^ is off by the backup's error at most"
    return theorem.check(claim, bound, off)

  def gains(alpha):
    promised = learned_return(empirical, improved(alpha), behavior, alpha)
    claim = 'J(pi*, M^) is above J(beta, M^) by the penalty at least'
    return theorem.check(claim, promised, behavior_return)

  return [checks.over_alphas(one) for one in (safe, simulated, gains)]
