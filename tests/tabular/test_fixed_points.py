"""Exact solutions are the minima of the losses that the package trains by."""

import numpy as np
import pytest
import tensorflow as tf

from cql_atari.losses import conservative
from cql_atari.tabular import fixed_points, problems
from cql_atari.tabular import mdp as mdp_lib


@pytest.fixture(scope='module')
def drawn():
  return problems.sample('garnet', 4, 500, np.random.default_rng(0))


@pytest.mark.parametrize('alpha', [0.05, 1.0, 50.0])
def test_linear_penalties_equal_the_closed_form(drawn, alpha):
  empirical, behavior = drawn.dataset.empirical, drawn.behavior
  for penalty, pushed in (
    ('eq1', drawn.mu / behavior),
    ('mu', drawn.mu / behavior - 1),
  ):
    np.testing.assert_allclose(
      fixed_points.fixed_point(
        empirical, drawn.policy, penalty, alpha, behavior, drawn.mu
      ),
      mdp_lib.action_values(
        empirical, drawn.policy, empirical.rewards - alpha * pushed
      ),
      atol=1e-9,
    )


def objective(penalty, q_values, targets, alpha, behavior):
  """Eq. 3 at every state, row by row."""
  total = np.zeros(q_values.shape[:-1])
  for action in range(q_values.shape[-1]):
    flat = q_values.reshape(-1, q_values.shape[-1])
    values = penalty(tf.constant(flat), tf.fill([len(flat)], action)).numpy()
    td_loss = (q_values - targets)[..., action] ** 2 / 2
    total += behavior[..., action] * (
      alpha * values.reshape(total.shape) + td_loss
    )
  return total


@pytest.mark.parametrize('alpha', [0.05, 1.0, 50.0])
def test_no_step_away_lowers_the_loss(drawn, alpha):
  penalty = conservative.cql_h_penalty
  empirical, behavior = drawn.dataset.empirical, drawn.behavior
  learned = fixed_points.fixed_point(
    empirical, drawn.policy, 'H', alpha, behavior
  )
  targets = mdp_lib.backup(empirical, drawn.policy, learned)
  least = objective(penalty, learned, targets, alpha, behavior)
  rng = np.random.default_rng(0)
  for size in (1e-3, 1e-1, 10):
    for _ in range(20):
      away = learned + size * rng.normal(size=learned.shape)
      higher = objective(penalty, away, targets, alpha, behavior)
      assert (higher > least).all()


@pytest.mark.parametrize('penalty', fixed_points.PENALTIES)
def test_fixed_points_are_where_iterated_updates_come_to(drawn, penalty):
  empirical, behavior = drawn.dataset.empirical, drawn.behavior
  found = fixed_points.fixed_point(
    empirical, drawn.policy, penalty, 0.5, behavior, drawn.policy
  )
  q_values = np.zeros_like(drawn.policy)
  for _ in range(60):
    targets = mdp_lib.backup(empirical, drawn.policy, q_values)
    q_values = fixed_points.update(
      targets, penalty, 0.5, behavior, drawn.policy
    )
  left = drawn.mdp.gamma**60 * abs(found).max(axis=(1, 2))
  assert (abs(found - q_values).max(axis=(1, 2)) <= left).all()


@pytest.mark.parametrize('penalty', ['H', 'rho'])
def test_the_update_contracts_by_gamma(drawn, penalty):
  behavior, gamma = drawn.behavior, drawn.mdp.gamma
  rng = np.random.default_rng(0)
  for scale in (0.01, 1, 100):
    pair = scale * rng.normal(size=(2, *drawn.policy.shape))
    after = [
      fixed_points.update(
        mdp_lib.backup(drawn.mdp, drawn.policy, q),
        penalty,
        5.0,
        behavior,
        drawn.policy,
      )
      for q in pair
    ]
    change = abs(after[0] - after[1]).max(axis=(1, 2))
    before = abs(pair[0] - pair[1]).max(axis=(1, 2))
    assert (change <= gamma * before + 1e-9).all()


def test_linear_updates_with_a_feature_for_every_pair_are_tabular(drawn):
  count, states, actions = drawn.policy.shape
  features = np.eye(states * actions).reshape(states, actions, -1)
  features = np.broadcast_to(features, (count, *features.shape))
  targets = drawn.mdp.rewards
  for penalty in ('eq1', 'mu'):
    args = penalty, 2.0, drawn.behavior
    np.testing.assert_allclose(
      fixed_points.linear_update(
        targets, features, *args, np.full((count, states), 0.3), drawn.mu
      ),
      fixed_points.update(targets, *args, drawn.mu),
      atol=1e-9,
    )


def test_where_there_is_no_minimum_nothing_is_said(drawn, monkeypatch):
  monkeypatch.setattr(
    conservative, 'cql_h_penalty', lambda q, a: -tf.reduce_sum(q**4, axis=1)
  )
  found = fixed_points.update(drawn.mdp.rewards, 'H', 9.0, drawn.behavior)
  assert np.isnan(found).any()
