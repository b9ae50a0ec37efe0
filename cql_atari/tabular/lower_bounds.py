"""Section 3.1's theorems: what Eq. 1 and 2 learn lower-bounds the truth.

A function takes problems and returns checks. What a theorem says of the learned
values is computed through the package's own penalties (`fixed_points`); what
it compares them with, by linear solves that know of no penalty.
"""

from typing import NamedTuple

import numpy as np

from cql_atari.tabular import checks, fixed_points, improvement
from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems


class Alphas(NamedTuple):
  """Thresholds of alpha, (n,) each.

  Attributes:
    q_by_eq1: for Eq. 1 to bound Q (Theorem 3.1).
    v_by_eq2: for Eq. 2 with mu = pi to bound V (Theorem 3.2).
    v_by_eq1: for Eq. 1 with mu = pi to bound V, which the paper has not.
  """

  q_by_eq1: np.ndarray
  v_by_eq2: np.ndarray
  v_by_eq1: np.ndarray


def least_alphas(problems: Problems) -> Alphas:
  """The least alphas that do for these very datasets.

  Q^ - Q is E - alpha U, with E = (I - gamma P^)^-1 (B^ - B) Q and U the same of
  what the penalty pushes down, both solved in the empirical MDP.

  Args:
    problems: the problems.

  Returns:
    To bound Q, max E / U over pairs; to bound V, max E_pi[E] / E_pi[U] over
    states. What is pushed down is mu / beta by Eq. 1, pi / beta - 1 by Eq. 2. A
    negative one says that no penalty is needed.
  """
  policy, behavior = problems.policy, problems.behavior
  empirical = problems.dataset.empirical
  q_values = mdp_lib.action_values(problems.mdp, policy)
  error = mdp_lib.backup(empirical, policy, q_values) - q_values
  pointwise = mdp_lib.action_values(
    empirical, policy, error
  ) / mdp_lib.action_values(empirical, policy, problems.mu / behavior)
  by_state = mdp_lib.state_values(empirical, policy, error)
  pushed_down = policy / behavior
  by_eq2, by_eq1 = (
    np.max(by_state / mdp_lib.state_values(empirical, policy, pushed), axis=-1)
    for pushed in (pushed_down - 1, pushed_down)
  )
  return Alphas(pointwise.max(axis=(-2, -1)), by_eq2, by_eq1)


def stated_alphas(problems: Problems, delta: float) -> Alphas:
  """The alphas that do by counts alone, as Theorems 3.1 and 3.2 state them.

  For Eq. 2 the paper has the counts of states, 1 / sqrt|D(s)|, which is less
  than what its proof needs; here they are those of pairs.

  Args:
    problems: the problems; mu is nowhere zero.
    delta: probability that they fail.

  Returns:
    With `error_bound`: to bound Q, max error beta / mu over pairs; to bound V,
    max E_pi[error] / D_CQL(pi, beta) over states by Eq. 2, and the same with
    D_CQL + 1 by Eq. 1.
  """
  error = dataset_lib.error_bound(problems.dataset, delta)
  policy, behavior = problems.policy, problems.behavior
  pointwise = np.max(error * behavior / problems.mu, axis=(-2, -1))
  distance = improvement.divergence(policy, behavior)
  by_state = checks.expectation(policy, error)
  by_eq2, by_eq1 = (
    np.max(by_state / pushed, axis=-1) for pushed in (distance, distance + 1)
  )
  return Alphas(pointwise, by_eq2, by_eq1)


_LARGE_ALPHA = 1000.0


def theorem_3_1(problems: Problems, delta: float) -> list[checks.Check]:
  """Eq. 1 lower-bounds Q at every state and action."""
  # An action that pi always takes and mu never: nothing pushes it down.
  policy, mu = np.zeros((2, *problems.policy.shape))
  policy[..., 0] = mu[..., 1] = 1.0
  learned = fixed_points.fixed_point(
    problems.dataset.empirical, policy, 'eq1', 1e6, problems.behavior, mu
  )
  true = mdp_lib.action_values(problems.mdp, policy)
  theorem = checks.Theorem('3.1', problems.mdp.v_max)
  return [
    *_LowerBound(theorem, 'Q', problems).all_checks(delta),
    theorem.counter_example(
      'Q^ > Q somewhere with alpha 10^6, where mu lacks the actions of pi',
      (learned - true)[..., 0],
      required=checks.ONCE,
    ),
  ]


def theorem_3_2(problems: Problems, delta: float) -> list[checks.Check]:
  """Eq. 2 with mu = pi lower-bounds V, more tightly, and not Q."""
  mdp, policy, behavior = problems.mdp, problems.policy, problems.behavior
  theorem = checks.Theorem('3.2', mdp.v_max)

  def learned_values(penalty, alpha):
    learned = fixed_points.fixed_point(
      problems.dataset.empirical, policy, penalty, alpha, behavior, policy
    )
    return checks.expectation(policy, learned)

  def tighter(alpha):
    gain = learned_values('mu', alpha) - learned_values('eq1', alpha)
    claim = 'V^ of Eq. 2 is above that of Eq. 1, by alpha / (1 - gamma)'
    expected = np.full_like(gain, alpha / (1 - mdp.gamma))
    return theorem.check_equal(claim, gain, expected)

  # Near beta the penalty's mean is of second order, its spread of the first.
  near = behavior + 0.1 * (policy - behavior)
  learned = fixed_points.fixed_point(mdp, near, 'mu', 1.0, behavior, near)
  return [
    *_LowerBound(theorem, 'V', problems).all_checks(delta),
    checks.over_alphas(tighter),
    theorem.counter_example(
      'Q^ > Q somewhere, so the bound is not pointwise',
      learned - mdp_lib.action_values(mdp, near),
      required=checks.ONCE,
    ),
  ]


class _LowerBound:
  """A learned value is at most the true one: Theorems 3.1 and 3.2.

  Theorem 3.1 bounds Q at every state and action, learned by Eq. 1 with any mu;
  Theorem 3.2 bounds V at every state, learned by Eq. 2 with mu = pi.
  """

  def __init__(self, theorem: checks.Theorem, symbol: str, problems: Problems):
    """Chooses what is bounded: `symbol` is 'Q' or 'V'."""
    self._theorem, self._symbol, self._problems = theorem, symbol, problems
    self._is_pointwise = symbol == 'Q'
    self._index = 0 if self._is_pointwise else 1  # Of `Alphas`.
    self._claim = f'{symbol}^ <= {symbol}'
    if self._is_pointwise:
      self._penalty, self._mu = 'eq1', problems.mu
      self._pushed_down = self._mu / problems.behavior
    else:
      self._penalty, self._mu = 'mu', problems.policy
      self._pushed_down = self._mu / problems.behavior - 1
    self._true = self._view(
      mdp_lib.action_values(problems.mdp, problems.policy)
    )

  def all_checks(self, delta: float) -> list[checks.Check]:
    """Tries every form of the bound."""
    often = f'with probability {1 - delta:g}'
    return [
      checks.over_alphas(self._by_true_backup),
      checks.over_alphas(self._by_measured_error),
      checks.over_alphas(lambda alpha: self._by_counts(alpha, delta, often)),
      self._by_counts_as_printed(delta),
      self._above_the_stated_alpha(delta, often),
      *self._at_the_least_alpha(),
    ]

  def _by_true_backup(self, alpha: float) -> checks.Check:
    learned = self._learn(self._problems.mdp, alpha)
    claim = f'{self._claim} by the true backup, for any alpha > 0'
    return self._theorem.check(claim, self._true, learned)

  def _by_measured_error(self, alpha: float) -> checks.Check:
    """The theorem's inequality, with the sampling error that Q^ met."""
    mdp, policy = self._problems.mdp, self._problems.policy
    empirical = self._problems.dataset.empirical
    learned = self._learn_q(empirical, alpha)
    error = np.abs(
      mdp_lib.backup(empirical, policy, learned)
      - mdp_lib.backup(mdp, policy, learned)
    )
    claim = (
      f"{self._symbol}^ <= the theorem's bound, by the sampling error measured"
    )
    return self._theorem.check(
      claim, self._bound(mdp, alpha, error), self._view(learned)
    )

  def _by_counts(self, alpha: float, delta: float, often: str) -> checks.Check:
    """The theorem's inequality by counts, where it is sound.

    What counts bound is the error at values of size v_max at most, such as the
    true ones. From Q^ - Q = (I - gamma P^)^-1 ((B^ - B) Q - alpha ...) follows
    the theorem's bound with the transitions of the empirical MDP.
    """
    empirical = self._problems.dataset.empirical
    error = dataset_lib.error_bound(self._problems.dataset, delta)
    added = mdp_lib.action_values(
      empirical, self._problems.policy, error - alpha * self._pushed_down
    )
    return self._theorem.check(
      f"{self._symbol}^ <= the theorem's bound by counts, with M^'s "
      f'transitions, {often}',
      self._true + self._view(added),
      self._learn(empirical, alpha),
      1 - delta,
    )

  def _by_counts_as_printed(self, delta: float) -> checks.Check:
    """With the true transitions it fails more often than it may.

    A large alpha takes Q^ beyond v_max, where counts bound no error.
    """
    alpha = _LARGE_ALPHA
    error = dataset_lib.error_bound(self._problems.dataset, delta)
    learned = self._learn(self._problems.dataset.empirical, alpha)
    return self._theorem.counter_example(
      f'{self._symbol}^ above the bound by counts as printed, alpha {alpha:g}',
      learned - self._bound(self._problems.mdp, alpha, error),
      required=delta,
    )

  def _bound(self, mdp: mdp_lib.MDP, alpha: float, error) -> np.ndarray:
    """X - alpha (I - gamma P)^-1 pushed + (I - gamma P)^-1 error."""
    rewards = mdp.rewards - alpha * self._pushed_down + error
    return self._view(
      mdp_lib.action_values(mdp, self._problems.policy, rewards)
    )

  def _above_the_stated_alpha(self, delta: float, often: str) -> checks.Check:
    stated = stated_alphas(self._problems, delta)[self._index]
    learned = self._learn(self._problems.dataset.empirical, stated)
    claim = f'{self._claim} above the stated alpha, {often}'
    return self._theorem.check(claim, self._true, learned, 1 - delta)

  def _at_the_least_alpha(self) -> list[checks.Check]:
    """Just above it the bound holds, and just below it does not."""
    empirical = self._problems.dataset.empirical
    least = least_alphas(self._problems)[self._index]
    above = self._learn(empirical, least * (1 + checks.NEAR))
    below = self._learn(empirical, least * (1 - checks.NEAR))
    is_needed = least > checks.LEAST
    return [
      self._theorem.check(
        f'{self._claim} just above the least alpha',
        self._true,
        above,
        tried=is_needed,
      ),
      self._theorem.counter_example(
        f'{self._symbol}^ > {self._symbol} somewhere just below it',
        below - self._true,
        tried=is_needed,
      ),
    ]

  def _learn_q(self, backed_up: mdp_lib.MDP, alpha) -> np.ndarray:
    return fixed_points.fixed_point(
      backed_up,
      self._problems.policy,
      self._penalty,
      alpha,
      self._problems.behavior,
      self._mu,
    )

  def _learn(self, backed_up: mdp_lib.MDP, alpha) -> np.ndarray:
    return self._view(self._learn_q(backed_up, alpha))

  def _view(self, q_values: np.ndarray) -> np.ndarray:
    if self._is_pointwise:
      return q_values
    return checks.expectation(self._problems.policy, q_values)
