"""The policy that CQL's values make best, and its worth (section 3.3)."""

import numpy as np

from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib

_ROUNDS = 200  # Of policy iteration, which takes a handful.


def divergence(policy: np.ndarray, behavior: np.ndarray) -> np.ndarray:
  """D_CQL(pi, beta)(s) = sum_a pi(a|s) (pi(a|s) / beta(a|s) - 1), (..., S).

  It is Pearson's chi-squared divergence: never negative, 0 where both agree.
  """
  return np.sum(policy * (policy / behavior - 1), axis=-1)


def penalized_return(
  mdp: mdp_lib.MDP,
  policy: np.ndarray,
  behavior: np.ndarray,
  alpha: np.ndarray | float,
) -> np.ndarray:
  """J(pi, M) - alpha E_{s ~ d^pi}[D_CQL(s)] / (1 - gamma), (...)."""
  distance = over_visits(mdp, policy, divergence(policy, behavior))
  return mdp_lib.expected_return(mdp, policy) - alpha * distance


def improved_policy(
  mdp: mdp_lib.MDP, behavior: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
  """The policy of the greatest penalized return, by policy iteration.

  The penalty is one of every state's own, so the best policy is so from every
  first state, and each round is an exact evaluation, then at every state the
  greatest E_pi[Q] - alpha D_CQL.

  Args:
    mdp: the MDP: the empirical one in the paper.
    behavior: (..., S, A) beta(a|s), nowhere zero.
    alpha: weight of the penalty, positive, (...) or one for all.

  Returns:
    (..., S, A), NaN for an MDP where the policy goes on to change.
  """
  alpha = np.asarray(alpha)[..., None, None]
  policy = behavior
  for _ in range(_ROUNDS):
    q_values = mdp_lib.action_values(
      mdp, policy, mdp.rewards - alpha * (policy / behavior - 1)
    )
    # A round improves the value minus the penalty of this step's action.
    q_values = q_values + alpha * (policy / behavior - 1)
    last, policy = policy, _greedy(q_values, behavior, alpha)
    # What rounding makes of the values, divided by alpha.
    noise = 1e-13 * (1 + np.abs(q_values) / alpha)
    settled = np.all(np.abs(policy - last) <= noise, axis=(-2, -1))
    if np.all(settled):
      break
  return np.where(settled[..., None, None], policy, np.nan)


def _greedy(
  q_values: np.ndarray, behavior: np.ndarray, alpha: np.ndarray
) -> np.ndarray:
  """The pi of the greatest E_pi[Q] - alpha D_CQL(pi, beta) at every state.

  It is beta max(0, Q - level) / (2 alpha), with the level that makes it sum to
  1; the actions above the level are the best ones.
  """
  order = np.argsort(-q_values, axis=-1)
  q = np.take_along_axis(q_values, order, axis=-1)
  beta = np.take_along_axis(behavior, order, axis=-1)
  levels = (np.cumsum(beta * q, axis=-1) - 2 * alpha) / np.cumsum(beta, axis=-1)
  last = np.sum(q > levels, axis=-1, keepdims=True) - 1
  level = np.take_along_axis(levels, last, axis=-1)
  return behavior * np.maximum(0, q_values - level) / (2 * alpha)


def regret(
  mdp: mdp_lib.MDP, policy: np.ndarray, behavior: np.ndarray
) -> np.ndarray:
  """J(beta, M) - J(pi, M), (...): what following pi loses."""
  return mdp_lib.expected_return(mdp, behavior) - mdp_lib.expected_return(
    mdp, policy
  )


def over_visits(
  mdp: mdp_lib.MDP, policy: np.ndarray, by_state: np.ndarray
) -> np.ndarray:
  """E_{s ~ d^pi}[x(s)] / (1 - gamma), (...), of x (..., S)."""
  visited = mdp_lib.occupancy(mdp, policy)
  return np.sum(visited * by_state, axis=-1) / (1 - mdp.gamma)


def improvement_bound(
  dataset: dataset_lib.Dataset, policy: np.ndarray, delta: float
) -> np.ndarray:
  """zeta of Theorem 3.6, with its constants.

  With probability 1 - delta, J(pi, M) >= J(beta, M) - zeta for all policies at
  once. By the simulation lemma, the returns of a policy in M and in the
  empirical M^ differ by the backup's error, which `error_bound` bounds, over
  what the policy visits in M^; and by Cauchy and Schwarz,

    sum_a pi(a|s) / sqrt|D(s, a)| <= sqrt(|A| (D_CQL(s) + 1) / |D(s)|).

  The paper takes pi's term for both policies; here beta has its own.

  Args:
    dataset: the dataset.
    policy: (..., S, A) pi.
    delta: probability that it fails.

  Returns:
    (...): the sampling errors of pi and beta minus J(pi, M^) - J(beta, M^).
  """
  empirical, behavior = dataset.empirical, dataset.behavior
  # `error_bound` is the same constant everywhere, over sqrt|D(s, a)|.
  scaled = dataset_lib.error_bound(dataset, delta) * np.sqrt(dataset.counts)
  constant, visits = scaled[..., 0], dataset.counts.sum(axis=-1)

  def sampling_error(followed):
    spread = divergence(followed, behavior) + 1
    by_state = constant * np.sqrt(behavior.shape[-1] * spread / visits)
    return over_visits(empirical, followed, by_state)

  gain = -regret(empirical, policy, behavior)
  return sampling_error(policy) + sampling_error(behavior) - gain
