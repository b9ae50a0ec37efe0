"""Theorem 3.3: CQL(H) and CQL(rho) with a policy that moves slowly.

A function takes problems and returns checks, as in `lower_bounds`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from cql_atari.tabular import checks, fixed_points, improvement, maximizing
from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems

_ALPHA = 10.0  # With sampling error.
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
    condition: (n, S) of Theorem 3.3, the left side minus the right.
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
    mu = special.softmax(learned + prior, axis=-1)
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
  """Theorem 3.3's condition, the left side minus the right, (..., S).

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
  share = 0.5 * mu * maximizing.favored(mu, behavior)
  policy = mu - share
  policy[..., 0] = share.sum(axis=-1)
  met = checks.expectation(policy, mu / behavior - 1)
  anyone = checks.expectation(problems.policy, mu / behavior - 1)
  theorem = checks.Theorem('3.3', problems.mdp.v_max)
  return [
    theorem.check(
      'the conservatism that a policy meets is no less than the condition says',
      anyone,
      slowness(problems.policy, mu, behavior),
    ),
    theorem.check_equal(
      'and no more for the policy that meets the least',
      met,
      slowness(policy, mu, behavior),
    ),
  ]


def _slow_policy(problems, penalty, alphas, rounds) -> list[checks.Check]:
  history = []
  for alpha in alphas:
    history += slow_policy(problems, penalty, alpha, rounds)
  values, learned, condition, by_mu, *_ = map(np.concatenate, zip(*history))
  slow = np.all(condition >= 0, axis=-1)
  theorem = checks.Theorem('3.3', problems.mdp.v_max)
  return [
    theorem.check(
      f'V^ <= V of CQL({penalty}) where the policy is slow',
      values,
      learned,
      tried=slow,
    ),
    theorem.counter_example(
      f'V^ > V of CQL({penalty}) where it is not',
      learned - values,
      required=checks.ONCE,
      tried=~slow,
    ),
    theorem.check_equal(
      f'V^ of CQL({penalty}) is V minus the conservatism of its mu',
      learned,
      by_mu,
    ),
  ]


def sampled_theorem_3_3(problems: Problems, delta: float) -> list[checks.Check]:
  """Theorem 3.3 with sampling error, as the paper says it can be had.

  The backup is the empirical MDP's. As in Theorem 3.2, V^ is then at most V
  minus the discounted conservatism that the policy meets, of which the
  condition is the least, plus the discounted sampling error.

  Args:
    problems: the problems.
    delta: probability that the bound by counts may fail.
  """
  return [
    *_sampled_rounds(problems, 'H', delta),
    *_sampled_rounds(problems, 'rho', delta),
  ]


def _sampled_rounds(problems, penalty, delta) -> list[checks.Check]:
  mdp, empirical = problems.mdp, problems.dataset.empirical
  by_counts = dataset_lib.error_bound(problems.dataset, delta)
  rows = []
  for one in slow_policy(problems, penalty, _ALPHA, backed_up=empirical):
    error = np.abs(
      mdp_lib.backup(empirical, one.policy, one.q_values)
      - mdp_lib.backup(mdp, one.policy, one.q_values)
    )
    conservatism = _ALPHA * one.conservatism
    # Upper bounds of V^, by this error and by its bound by counts.
    measured, counted = (
      one.values
      + mdp_lib.state_values(dynamics, one.policy, size - conservatism)
      for dynamics, size in ((mdp, error), (empirical, by_counts))
    )
    margin = _ALPHA * one.condition - checks.expectation(one.policy, error)
    rows.append((one.values, one.learned, margin, measured, counted))
  values, learned, margin, measured, counted = map(np.concatenate, zip(*rows))
  covers_error = np.all(margin >= 0, axis=-1)
  theorem = checks.Theorem('3.3', mdp.v_max)
  often = f'with probability {1 - delta:g}'
  return [
    theorem.check(
      f'V^ of CQL({penalty}) <= V minus the conservatism it meets, plus the '
      'sampling error measured',
      measured,
      learned,
    ),
    theorem.check(
      f"the same by counts, with M^'s transitions, of CQL({penalty}), {often}",
      counted,
      learned,
      1 - delta,
    ),
    theorem.check(
      f'V^ <= V of CQL({penalty}) where alpha times the condition makes up for '
      'the sampling error measured',
      values,
      learned,
      tried=covers_error,
    ),
    theorem.counter_example(
      f'V^ > V of CQL({penalty}) where it does not',
      learned - values,
      required=checks.ONCE,
      tried=~covers_error,
    ),
  ]
