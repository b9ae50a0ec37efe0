"""The theorems hold, and each check fails when what it checks is broken."""

import subprocess
import sys

import numpy as np
import pytest

from cql_atari.losses import conservative
from cql_atari.tabular import (
  checks,
  figures,
  fixed_points,
  improvement,
  linear,
  lower_bounds,
  maximizing,
  policy_learning,
  problems,
  slow_policies,
)
from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib

DELTA = 0.1


@pytest.fixture(scope='module')
def drawn():
  return problems.sample('garnet', 12, 200, np.random.default_rng(3), repeats=2)


@pytest.fixture(autouse=True)
def fresh_graphs():
  """A traced gradient would go on with the penalty that it was traced with."""
  fixed_points._gradient_fn.cache_clear()
  yield
  fixed_points._gradient_fn.cache_clear()


def failures(found):
  return {check.claim for check in found if not check.passed}


def verify(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'cql_atari.theorems', *flags],
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
def test_verify_finds_that_every_claim_holds(tmp_path):
  done = verify('--mdps=4', f'--out={tmp_path}')
  assert done.returncode == 0, done.stderr
  assert 'Traceback' not in done.stderr
  assert '46 of 46 claims hold' in done.stdout
  rows = (tmp_path / 'checks.csv').read_text().splitlines()
  # 28 claims on datasets of four sizes, 18 on two of them, three families.
  assert len(rows) == 1 + 3 * (28 * 4 + 18 * 2)
  assert 'FAILS' not in (tmp_path / 'checks.md').read_text()
  for name in figures.FIGURES:
    assert (tmp_path / f'{name}.png').stat().st_size > 10_000


@pytest.mark.parametrize('name', list(figures.FIGURES))
def test_a_figure_of_one_mdp(tmp_path, name):
  assert figures.draw(name, tmp_path, 1, 0).exists()


def test_verify_says_what_cannot_be_written(tmp_path):
  (tmp_path / 'file').touch()
  done = verify(f'--out={tmp_path / "file" / "folder"}')
  assert done.returncode == 2 and 'cannot be written' in done.stderr


def negate(monkeypatch, name):
  penalty = getattr(conservative, name)
  monkeypatch.setattr(conservative, name, lambda *args: -penalty(*args))


def test_eq1_with_its_sign_broken_is_reported(drawn, monkeypatch):
  negate(monkeypatch, 'eq1_penalty')
  found = failures(lower_bounds.theorem_3_1(drawn, DELTA))
  assert 'Q^ <= Q by the true backup, for any alpha > 0' in found
  assert "Q^ <= the theorem's bound, by the sampling error measured" in found


def drop_data_term(monkeypatch):
  monkeypatch.setattr(
    conservative,
    'cql_mu_penalty',
    lambda q, actions, mu: conservative.eq1_penalty(q, mu),
  )


def test_eq2_with_its_sign_broken_is_reported(drawn, monkeypatch):
  negate(monkeypatch, 'cql_mu_penalty')
  found = failures(lower_bounds.theorem_3_2(drawn, DELTA))
  assert 'V^ <= V by the true backup, for any alpha > 0' in found
  features = linear.random_features(np.random.default_rng(0), drawn, 8)
  assert failures(linear.theorem_d_1(drawn, features))
  assert failures(policy_learning.theorem_3_4(drawn))
  assert failures(policy_learning.theorem_3_5(drawn))


def test_eq2_without_the_data_is_reported(drawn, monkeypatch):
  drop_data_term(monkeypatch)
  found = failures(lower_bounds.theorem_3_2(drawn, DELTA))
  assert 'V^ of Eq. 2 is above that of Eq. 1, by alpha / (1 - gamma)' in found
  assert 'E[V^] equals the penalized return' in failures(
    policy_learning.theorem_3_5(drawn)
  )
  assert 'J(pi*, M^) is above J(beta, M^) by the penalty at least' in failures(
    policy_learning.theorem_3_6(drawn, DELTA)
  )


@pytest.mark.parametrize(
  ('penalty', 'name'), [('H', 'cql_h_penalty'), ('rho', 'cql_rho_penalty')]
)
def test_cql_broken_is_reported(drawn, monkeypatch, penalty, name):
  right = getattr(conservative, name)
  claim = f'V^ of CQL({penalty}) is V minus the conservatism of its mu'
  for broken in (
    lambda *args: -right(*args),
    lambda q, actions, *rest: (
      right(q, actions, *rest) + conservative._data_action_values(q, actions)
    ),
  ):
    monkeypatch.setattr(conservative, name, broken)
    assert claim in failures(slow_policies.theorem_3_3(drawn, (1.0,), rounds=2))


def test_appendix_d_2_fails_for_the_datas_own_actions(drawn, monkeypatch):
  """With these there is a bound, and none with other weights."""
  right = fixed_points.fixed_point

  def as_in_eq2(mdp, policy, penalty, alpha, behavior, given, maximized):
    del maximized
    return right(mdp, policy, penalty, alpha, behavior, given)

  def unweighted(mdp, policy, penalty, alpha, behavior, given, maximized):
    del behavior
    data = drawn.behavior
    return right(mdp, policy, penalty, alpha, data, given, maximized)

  assert not failures(maximizing.appendix_d_2(drawn))
  monkeypatch.setattr(fixed_points, 'fixed_point', as_in_eq2)
  claims = ' '.join(failures(maximizing.appendix_d_2(drawn)))
  assert 'no alpha gives a bound' in claims and '(pi - nu) / beta' in claims
  monkeypatch.setattr(fixed_points, 'fixed_point', unweighted)
  claims = ' '.join(failures(maximizing.appendix_d_2(drawn)))
  assert 'weighed by what is pushed up' in claims


@pytest.mark.parametrize('penalty', ['H', 'rho'])
def test_sampled_theorem_3_3_broken_is_reported(drawn, monkeypatch, penalty):
  many = problems.sample('garnet', 8, 10**6, np.random.default_rng(3))

  def found(problems=many):
    return ' '.join(
      failures(slow_policies.sampled_theorem_3_3(problems, DELTA))
    )

  assert not found()
  with monkeypatch.context() as patch:
    name = f'cql_{penalty.lower()}_penalty'
    right = getattr(conservative, name)
    patch.setattr(conservative, name, lambda *args: -right(*args))
    fixed_points._gradient_fn.cache_clear()
    claims = found()
    assert f'V^ of CQL({penalty}) <= V minus the conservatism' in claims
    assert f'of CQL({penalty}), with probability' in claims
  fixed_points._gradient_fn.cache_clear()
  with monkeypatch.context() as patch:  # The condition, as if always met.
    slow = slow_policies.slowness
    patch.setattr(slow_policies, 'slowness', lambda *args: slow(*args) + 9.0)
    assert f'CQL({penalty}) where alpha times the condition' in found(drawn)
  with monkeypatch.context() as patch:  # Sampling error, left out.
    patch.setattr(
      dataset_lib, 'error_bound', lambda dataset, delta: 0.0 * dataset.counts
    )
    assert f'of CQL({penalty}), with probability' in found()


@pytest.mark.parametrize('factor', [0.5, 2.0])
def test_a_wrong_distance_of_slow_policies_is_reported(
  drawn, monkeypatch, factor
):
  right = slow_policies.slowness

  def wrong(policy, mu, behavior):
    distance = np.abs(policy - mu).sum(axis=-1) / 2
    most = np.max(mu / behavior, axis=-1)
    return right(policy, mu, behavior) + (1 - factor) * most * distance

  monkeypatch.setattr(slow_policies, 'slowness', wrong)
  claim = 'and no more for the policy that meets the least'
  assert claim in failures(slow_policies.theorem_3_3(drawn, (1.0,), 1))


def test_slowness_by_hand():
  # D_CQL = 0.64 / 0.5 + 0.04 / 0.5 - 1 = 0.36; the ratio is 1.6, the distance
  # 0.3.
  slowness = slow_policies.slowness(
    np.array([0.5, 0.5]), np.array([0.8, 0.2]), np.array([0.5, 0.5])
  )
  np.testing.assert_allclose(slowness, 0.36 - 1.6 * 0.3)


@pytest.mark.parametrize('factor', [0.9, 1.1, 2.0])
def test_a_wrong_weight_in_dynamic_programming_is_reported(
  drawn, monkeypatch, factor
):
  right = improvement._greedy
  monkeypatch.setattr(
    improvement,
    '_greedy',
    lambda q_values, behavior, alpha: right(q_values, behavior, factor * alpha),
  )
  claim = 'E[V^] is greatest for the policy that dynamic programming finds'
  assert claim in failures(policy_learning.theorem_3_5(drawn))


def test_sampling_error_left_out_is_reported(drawn, monkeypatch):
  monkeypatch.setattr(
    dataset_lib, 'error_bound', lambda dataset, delta: 0.0 * dataset.counts
  )
  for theorem, x in (
    (lower_bounds.theorem_3_1, 'Q'),
    (lower_bounds.theorem_3_2, 'V'),
  ):
    found = failures(theorem(drawn, DELTA))
    assert f'{x}^ <= {x} above the stated alpha, with probability 0.9' in found
    assert (
      f"{x}^ <= the theorem's bound by counts, with M^'s transitions, with "
      'probability 0.9'
    ) in found
  claim = 'the regret is at most zeta, with probability 0.9'
  assert claim in failures(policy_learning.theorem_3_6(drawn, DELTA))


def test_a_check_counts_and_measures():
  greater = np.array([[1.0, 2.0], [3.0, 4.0], [np.nan, 9.0]])
  theorem = checks.Theorem('0', unit=0.5)
  check = theorem.check('x', greater, np.full((3, 2), 1.5))
  assert (check.tried, check.held, check.margin) == (3, 1, -np.inf)
  assert not check.passed
  some = np.array([False, True, False])
  check = theorem.check('x', greater, np.zeros((3, 2)), tried=some)
  assert (check.tried, check.held, check.margin) == (1, 1, 6.0)
  rare = check._replace(tried=5, held=0, required=checks.ONCE)
  assert rare.passed and rare.verdict == 'not seen'
  assert check.verdict == 'holds'
  none = theorem.check('x', greater, greater, tried=some & False)
  assert not none.passed  # What was never tried does not pass.
  assert check.merge(none).passed


def test_error_bound_by_hand():
  """Two states, one action, four and sixteen transitions, delta 0.4."""
  mdp = mdp_lib.MDP(np.full((2, 1, 2), 0.5), np.zeros((2, 1)), np.ones(2), 0.5)
  dataset = dataset_lib.Dataset(np.array([[4], [16]]), mdp)
  # Each of 2 S A = 4 bounds fails with 0.1; v_max is 2. The reward's error is
  # at most sqrt(2 ln 20 / n), the transitions' L1 error the same.
  one = (0.5 + 0.5) * 2 * np.sqrt(2 * np.log(20))
  np.testing.assert_allclose(
    dataset_lib.error_bound(dataset, 0.4), [[one / 2], [one / 4]]
  )


def one_state():
  """Two actions, 4 and 12 transitions; mu and pi uniform, delta 0.4."""
  mdp = mdp_lib.MDP(
    np.ones((1, 1, 2, 1)), np.array([[[0.5, -0.5]]]), np.ones((1, 1)), 0.5
  )
  uniform = np.full((1, 1, 2), 0.5)
  dataset = dataset_lib.Dataset(np.array([[[4, 12]]]), mdp)
  return problems.Problems(mdp, uniform, uniform, dataset)


def test_stated_alphas_by_hand():
  """The errors are c / 2 and c / sqrt(12), beta 1/4 and 3/4."""
  c = np.sqrt(2 * np.log(20))  # v_max is 2; each of 4 bounds fails with 0.1.
  first, second, third = lower_bounds.stated_alphas(one_state(), 0.4)
  # Of error beta / mu the second is greater: c / sqrt(12) 0.75 / 0.5.
  np.testing.assert_allclose(first, [c / np.sqrt(12) * 1.5])
  # D_CQL = 0.25 / 0.25 + 0.25 / 0.75 - 1 = 1 / 3.
  np.testing.assert_allclose(second, [3 * c * (1 / 4 + 1 / np.sqrt(48))])
  np.testing.assert_allclose(third, second / 4)  # 1 / 3 in place of 4 / 3.


def test_eq1_bounds_v_just_above_its_least_alpha(drawn):
  least = lower_bounds.least_alphas(drawn).v_by_eq1
  needed = least > checks.LEAST
  assert needed.any()
  true = mdp_lib.state_values(drawn.mdp, drawn.policy)

  def over(alpha):
    learned = fixed_points.fixed_point(
      drawn.dataset.empirical,
      drawn.policy,
      'eq1',
      alpha,
      drawn.behavior,
      drawn.policy,
    )
    values = checks.expectation(drawn.policy, learned)
    return np.max(values - true, axis=-1)[needed]

  assert (over(least * 1.01) < 0).all() and (over(least * 0.99) > 0).all()


def test_improvement_bound_by_hand():
  """Twice sqrt(2 (D + 1) / 16) c for both policies, less what pi gains."""
  drawn, c = one_state(), np.sqrt(2 * np.log(20))
  bound = improvement.improvement_bound(drawn.dataset, drawn.policy, 0.4)
  errors = 2 * c * (np.sqrt(2 * (4 / 3) / 16) + np.sqrt(2 / 16))
  gain = 2 * (0.0 - (0.25 * 0.5 - 0.75 * 0.5))
  np.testing.assert_allclose(bound, [errors - gain])


def test_error_bound_covers_the_worst_value_function():
  """Over datasets, |r^ - r| and every V of size v_max at once."""
  rng = np.random.default_rng(0)
  drawn = problems.sample('garnet', 2, 50, rng, repeats=200)
  mdp, empirical = drawn.mdp, drawn.dataset.empirical
  # The worst V has size v_max, and the sign of the transitions' error.
  worst = mdp.v_max * abs(empirical.transitions - mdp.transitions).sum(-1)
  error = abs(empirical.rewards - mdp.rewards) + mdp.gamma * worst
  bound = dataset_lib.error_bound(drawn.dataset, 0.1)
  within = (error <= bound).all(axis=(1, 2)).mean()
  assert within >= 0.9
  assert (error > bound / 10).any()  # Not so wide that nothing could fail.


def test_empirical_mdps_come_to_the_true_ones():
  rng = np.random.default_rng(0)
  for family in problems.FAMILIES:
    drawn = problems.sample(family, 3, 10**8, rng)
    mdp, empirical = drawn.mdp, drawn.dataset.empirical
    assert drawn.dataset.counts.min() >= 1
    counts = drawn.dataset.counts.sum(-1)
    states = counts / counts.sum(-1, keepdims=True)
    often = drawn.dataset.counts > 1e5
    assert abs(empirical.rewards - mdp.rewards)[often].max() < 0.02
    assert abs(empirical.transitions - mdp.transitions)[often].max() < 0.02
    # The states' shares are d^beta.
    np.testing.assert_allclose(
      states, mdp_lib.occupancy(mdp, drawn.behavior), atol=1e-2
    )


def test_improved_policy_is_best_in_a_bandit_by_hand():
  # One state, two arms of rewards 1 and 0, beta uniform, alpha 1: pi(0) is the
  # maximum of p - (2 p^2 + 2 (1 - p)^2 - 1), so 4 (2 p - 1) = 1 and p = 5/8.
  bandit = mdp_lib.MDP(
    np.ones((1, 2, 1)), np.array([[1.0, 0]]), np.ones(1), 0.9
  )
  policy = improvement.improved_policy(bandit, np.full((1, 2), 0.5), 1.0)
  np.testing.assert_allclose(policy, [[5 / 8, 3 / 8]])
  greedy = improvement.improved_policy(bandit, np.full((1, 2), 0.5), 0.1)
  np.testing.assert_allclose(greedy, [[1, 0]])
