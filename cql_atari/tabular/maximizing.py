"""Appendix D.2: Eq. 2 with another distribution than the data's pushed up.

The paper's Eq. 2 pushes up the values of the data's actions. With a
distribution nu in their place, its value is V minus the discounted sum of
alpha E_pi[(pi - nu) / beta], which can have either sign; with the Bellman error
weighed by nu as well, it is alpha E_pi[pi / nu - 1], which cannot be negative.
"""

import numpy as np

from cql_atari.tabular import checks, fixed_points
from cql_atari.tabular import mdp as mdp_lib
from cql_atari.tabular.problems import Problems


def appendix_d_2(problems: Problems) -> list[checks.Check]:
  """Pushing nu up bounds V only if the Bellman error is of nu's actions."""
  mdp, policy, behavior = problems.mdp, problems.policy, problems.behavior
  true = mdp_lib.state_values(mdp, policy)
  random, worst = problems.mu, favored(policy, behavior)
  appendix = checks.Theorem('app. D.2', mdp.v_max)

  def values(alpha, weight, maximized):
    learned = fixed_points.fixed_point(
      mdp, policy, 'mu', alpha, weight, policy, maximized
    )
    return checks.expectation(policy, learned)

  def reweighted(alpha):
    claim = (
      'V^ <= V by the true backup, for any alpha > 0, where the Bellman error '
      'is weighed by what is pushed up'
    )
    near_worst = 0.9 * worst + 0.1 * behavior  # Nowhere zero.
    learned = [values(alpha, nu, nu) for nu in (random, near_worst)]
    return appendix.check(claim, true, np.maximum(*learned))

  def never_below(alpha):
    claim = (
      'V^ >= V everywhere, where only the action of the greatest pi / beta is '
      'pushed up: no alpha gives a bound'
    )
    learned = values(alpha, behavior, worst)
    return appendix.check(claim, learned, true)

  def as_worked(alpha):
    pushed = (policy - random) / behavior
    expected = mdp_lib.state_values(mdp, policy, mdp.rewards - alpha * pushed)
    return appendix.check_equal(
      'V^ is V minus the discounted sum of alpha E_pi[(pi - nu) / beta]',
      values(alpha, behavior, random),
      expected,
    )

  claims = (reweighted, never_below, as_worked)
  return [checks.over_alphas(claim) for claim in claims]


def favored(policy: np.ndarray, behavior: np.ndarray) -> np.ndarray:
  """All of it on the action of the greatest pi / beta, (..., S, A).

  As nu, it makes E_pi[nu / beta] the greatest that it can be, which is no less
  than E_pi[pi / beta].
  """
  best = np.argmax(policy / behavior, axis=-1)
  return np.eye(policy.shape[-1])[best]
