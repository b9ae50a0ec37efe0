"""The theorems of sections 3.2 and 3.3: CQL as it learns a policy.

A function takes problems and returns checks, as in `lower_bounds`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cql_atari.tabular import checks, fixed_points, improvement
from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems

# D_CQL of distributions that are the same but for rounding, and of those that
# are far enough apart for the gap's widening to show.
_SAME, _DIFFERENT = 1e-12, 1e-4
ROUNDS = 16  # Of a slow policy: with alpha 10 it takes ten to become one.


def theorem_3_3(
  problems: Problems,
  alphas: Sequence[float] = (0.1, 1.0, 10.0),
  rounds: int = ROUNDS,
) -> list[checks.Check]:
  """CQL(H) and CQL(rho) lower-bound V while the policy moves slowly."""
  return [
    *_worst_policies(problems),
    *_slow_policy(problems, 'H', alphas, rounds),
    *_slow_policy(problems, 'rho', alphas, rounds),
  ]


class Round(NamedTuple):
  """One round of `slow_policy`.

  Attributes:
    values: (n, S) V of its policy.
    learned: (n, S) V^.
    condition: (n, S) of Theorem 3.3, the left side less the right.
    by_mu: (n, S) what V^ is by Eq. 2 with the mu that the penalty chose.
    policy: (n, S, A) the policy.
    conservatism: (n, S, A) mu / beta - 1.
    q_values: (n, S, A) Q^.
  """

  values: np.ndarray
  learned: np.ndarray
  condition: np.ndarray
  by_mu: np.ndarray
  policy: np.ndarray
  conservatism: np.ndarray
  q_values: np.ndarray


def slow_policy(
  problems: Problems,
  penalty: str,
  alpha: float,
  rounds: int = ROUNDS,
  backed_up: mdp_lib.MDP | None = None,
) -> list[Round]:
  """CQL's alternation of evaluation and a slow step of the policy.

  In every round the Q-function is evaluated to its fixed point, and the policy
  then goes half-way to the mu that the penalty chose.

  Args:
    problems: the problems.
    penalty: 'H', or 'rho' with the round's policy as the prior.
    alpha: its weight.
    rounds: how many.
    backed_up: whose backup is used; the true MDP's by default.
  """
  policy, behavior = problems.policy, problems.behavior
  backed_up = backed_up or problems.mdp
  history = []
  for _ in range(rounds):
    learned = fixed_points.fixed_point(
      backed_up, policy, penalty, alpha, behavior, policy
    )
    prior = np.log(policy) if penalty == 'rho' else 0.0
    mu = softmax(learned + prior)
    conservatism = mu / behavior - 1
    by_mu = mdp_lib.state_values(
      backed_up, policy, backed_up.rewards - alpha * conservatism
    )
    history.append(
      Round(
        mdp_lib.state_values(problems.mdp, policy),
        checks.expectation(policy, learned),
        slowness(policy, mu, behavior),
        by_mu,
        policy,
        conservatism,
        learned,
      )
    )
    policy = (policy + mu) / 2
  return history


def slowness(
  policy: np.ndarray, mu: np.ndarray, behavior: np.ndarray
) -> np.ndarray:
  """Theorem 3.3's condition, the left side less the right, (..., S).

  It is the least that E_pi[mu / beta - 1], the conservatism that pi meets, can
  be at this total variation distance of pi from mu, if some mu(a|s) is 0.
  """
  distance = np.abs(policy - mu).sum(axis=-1) / 2
  most = np.max(mu / behavior, axis=-1)
  return improvement.divergence(mu, behavior) - most * distance


def _worst_policies(problems: Problems) -> list[checks.Check]:
  """The condition is exact for the policy that meets the least conservatism.

  That one takes a share from the action that mu favors most over beta, and
  gives it to one that mu never takes.
  """
  behavior, mu = problems.behavior, problems.mu.copy()
  mu[..., 0] = 0.0
  mu = mu / mu.sum(axis=-1, keepdims=True)
  most = np.argmax(mu / behavior, axis=-1)[..., None]
  policy = mu.copy()
  share = 0.5 * np.take_along_axis(mu, most, axis=-1)
  policy[..., :1] += share
  np.put_along_axis(
    policy, most, np.take_along_axis(policy, most, axis=-1) - share, axis=-1
  )
  met = checks.expectation(policy, mu / behavior - 1)
  anyone = checks.expectation(problems.policy, mu / behavior - 1)
  unit = problems.mdp.v_max
  return [
    checks.check(
      '3.3',
      'the conservatism that a policy meets is no less than the condition says',
      anyone,
      slowness(problems.policy, mu, behavior),
      unit,
    ),
    checks.check_equal(
      '3.3',
      'and no more for the policy that meets the least',
      met,
      slowness(policy, mu, behavior),
      unit,
    ),
  ]


def _slow_policy(problems, penalty, alphas, rounds) -> list[checks.Check]:
  unit = problems.mdp.v_max
  history = [
    one
    for alpha in alphas
    for one in slow_policy(problems, penalty, alpha, rounds)
  ]
  values, learned, condition, by_mu, *_ = map(np.concatenate, zip(*history))
  slow = np.all(condition >= 0, axis=-1)
  over = np.max(learned - values, axis=-1)
  return [
    checks.check(
      '3.3',
      f'V^ <= V of CQL({penalty}) where the policy is slow',
      values,
      learned,
      unit,
      tried=slow,
    ),
    checks.counter_example(
      '3.3',
      f'V^ > V of CQL({penalty}) where it is not',
      over,
      unit,
      required=checks.ONCE,
      tried=~slow,
    ),
    checks.check_equal(
      '3.3',
      f'V^ of CQL({penalty}) is V less the conservatism of its mu',
      learned,
      by_mu,
      unit,
    ),
  ]


def sampled_theorem_3_3(
  problems: Problems,
  delta: float,
  alphas: Sequence[float] = (10.0,),
  rounds: int = ROUNDS,
) -> list[checks.Check]:
  """Theorem 3.3 with sampling error, as the paper says it can be had.

  The backup is the empirical MDP's. As in Theorem 3.2, V^ is then at most V
  less the discounted conservatism that the policy meets, of which the condition
  is the least, plus the discounted sampling error.

  Args:
    problems: the problems.
    delta: probability that the bound by counts may fail.
    alphas: weights of the penalty.
    rounds: of the slow policy.
  """
  checked = [
    _sampled_rounds(problems, penalty, delta, alphas, rounds)
    for penalty in ('H', 'rho')
  ]
  return [check for checks_of_one in checked for check in checks_of_one]


def _sampled_rounds(
  problems, penalty, delta, alphas, rounds
) -> list[checks.Check]:
  mdp, empirical = problems.mdp, problems.dataset.empirical
  by_counts = dataset_lib.error_bound(problems.dataset, delta)
  rows = []
  for alpha in alphas:
    for one in slow_policy(problems, penalty, alpha, rounds, empirical):
      met = alpha * one.conservatism
      error = np.abs(
        mdp_lib.backup(empirical, one.policy, one.q_values)
        - mdp_lib.backup(mdp, one.policy, one.q_values)
      )

      def bound(mdp, error, one=one, met=met):
        return one.values + mdp_lib.state_values(mdp, one.policy, error - met)

      margin = alpha * one.condition - checks.expectation(one.policy, error)
      rows.append(
        (
          one.values,
          one.learned,
          margin,
          bound(mdp, error),
          bound(empirical, by_counts),
        )
      )
  values, learned, margin, measured, counted = map(np.concatenate, zip(*rows))
  makes_up = np.all(margin >= 0, axis=-1)
  unit, often = mdp.v_max, f'with probability {1 - delta:g}'
  return [
    checks.check(
      '3.3',
      f'V^ of CQL({penalty}) <= V less the conservatism it meets, plus the '
      'sampling error measured',
      measured,
      learned,
      unit,
    ),
    checks.check(
      '3.3',
      f"the same by counts, with M^'s transitions, of CQL({penalty}), {often}",
      counted,
      learned,
      unit,
      1 - delta,
    ),
    checks.check(
      '3.3',
      f'V^ <= V of CQL({penalty}) where alpha times the condition makes up for '
      'the sampling error measured',
      values,
      learned,
      unit,
      tried=makes_up,
    ),
    checks.counter_example(
      '3.3',
      f'V^ > V of CQL({penalty}) where it does not',
      np.max(learned - values, axis=-1),
      unit,
      required=checks.ONCE,
      tried=~makes_up,
    ),
  ]


def theorem_3_4(problems: Problems, iterations: int = 10) -> list[checks.Check]:
  """The update widens the gap between behavior and mu for a large alpha."""
  mdp, behavior = problems.mdp, problems.behavior
  empirical, unit = problems.dataset.empirical, problems.mdp.v_max
  learned = np.zeros_like(mdp.rewards)
  wider, narrower, different = [], [], []
  for _ in range(iterations):
    mu = softmax(learned)
    true = mdp_lib.action_values(mdp, mu)
    target = mdp_lib.backup(empirical, mu, learned)
    alpha = gap_threshold(true, target, mu, behavior)

    def update(alpha, target=target, mu=mu):
      return fixed_points.update(target, 'mu', alpha, behavior, mu)

    below = update(alpha * (1 - checks.NEAR))
    learned = update(np.maximum(alpha, 0) * (1 + checks.NEAR) + 1e-3)
    wider.append(checks.expectation(behavior - mu, learned - true))
    different.append(improvement.divergence(mu, behavior) > _DIFFERENT)
    narrower.append(
      (alpha, checks.expectation(behavior - mu, below - true).min(axis=-1))
    )
  alphas, least = map(np.concatenate, zip(*narrower))
  expansion, differs = np.concatenate(wider), np.concatenate(different)
  return [
    checks.check(
      '3.4',
      'the gap is no narrower than the true one above the threshold',
      expansion,
      np.zeros_like(expansion),
      unit,
    ),
    checks.check(
      '3.4',
      'and wider wherever mu is not beta',
      np.where(differs, expansion, unit),
      np.full_like(expansion, 2e-9 * unit),
      unit,
    ),
    checks.counter_example(
      '3.4',
      'it is narrower somewhere just below it',
      -least,
      unit,
      tried=alphas > checks.LEAST,
    ),
  ]


def gap_threshold(
  true: np.ndarray, target: np.ndarray, mu: np.ndarray, behavior: np.ndarray
) -> np.ndarray:
  """The alpha_k of Theorem 3.4, (n,).

  The update adds alpha D_CQL(mu, beta) to the gap E_beta[Q] - E_mu[Q] of its
  target, so it has to make up for what that lacks to the gap of the true Q.

  Args:
    true: (n, S, A) Q.
    target: (n, S, A) B^pi Q^k.
    mu: (n, S, A).
    behavior: (n, S, A) beta(a|s).
  """
  lacking = checks.expectation(behavior - mu, true - target)
  distance = improvement.divergence(mu, behavior)
  # Where mu is beta there is no gap to widen.
  ratio = lacking / np.where(distance > _SAME, distance, np.inf)
  return np.max(ratio, axis=-1)


def softmax(q_values: np.ndarray) -> np.ndarray:
  """The policy proportional to exp(Q(s, .)), (n, S, A)."""
  weights = np.exp(q_values - q_values.max(axis=-1, keepdims=True))
  return weights / weights.sum(axis=-1, keepdims=True)


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


def theorem_3_5(
  problems: Problems, alphas: Sequence[float] = checks.ALPHAS
) -> list[checks.Check]:
  """Eq. 2's value is the penalized return in the empirical MDP."""
  empirical, behavior = problems.dataset.empirical, problems.behavior
  unit, policy = problems.mdp.v_max, problems.policy

  def equal(alpha):
    learned = learned_return(empirical, policy, behavior, alpha)
    closed = improvement.penalized_return(empirical, policy, behavior, alpha)
    claim = 'E[V^] equals the penalized return'
    return checks.check_equal('3.5', claim, learned, closed, unit)

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
    return checks.check(
      '3.5', claim, most[:, None], np.stack(values, axis=-1), unit
    )

  return [checks.over_alphas(equal, alphas), checks.over_alphas(best, alphas)]


def theorem_3_6(
  problems: Problems, delta: float, alphas: Sequence[float] = checks.ALPHAS
) -> list[checks.Check]:
  """The policy of Theorem 3.5 is a zeta-safe improvement."""
  mdp, dataset = problems.mdp, problems.dataset
  empirical, behavior, unit = dataset.empirical, problems.behavior, mdp.v_max
  behavior_return = mdp_lib.expected_return(empirical, behavior)
  improved = functools.cache(
    lambda alpha: improvement.improved_policy(empirical, behavior, alpha)
  )

  def safe(alpha):
    policy = improved(alpha)
    zeta = improvement.improvement_bound(dataset, policy, delta)
    regret = improvement.regret(mdp, policy, behavior)
    claim = f'the regret is at most zeta, with probability {1 - delta:g}'
    return checks.check('3.6', claim, zeta, regret, unit, 1 - delta)

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
    return checks.check('3.6', claim, bound, off, unit)

  def gains(alpha):
    promised = learned_return(empirical, improved(alpha), behavior, alpha)
    claim = 'J(pi*, M^) is above J(beta, M^) by the penalty at least'
    return checks.check('3.6', claim, promised, behavior_return, unit)

  return [checks.over_alphas(one, alphas) for one in (safe, simulated, gains)]
