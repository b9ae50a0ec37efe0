"""Exact evaluation against a chain worked out by hand, and by simulation."""

import dataclasses

import numpy as np
import pytest

from cql_atari.tabular import mdp as mdp_lib

# Action 0 stays and pays nothing; action 1 goes to the other state; it pays 1
# from the first and -1 from the second.
TWO_STATES = mdp_lib.MDP(
  transitions=np.array([[[1.0, 0], [0, 1]], [[0, 1], [1, 0]]]),
  rewards=np.array([[0.0, 1], [0, -1]]),
  initial=np.array([1.0, 0]),
  gamma=0.5,
)
GO = np.array([[0.0, 1], [0, 1]])


def test_values_by_hand():
  # V(0) = 1 + V(1) / 2 and V(1) = -1 + V(0) / 2, so 2/3 and -2/3.
  np.testing.assert_allclose(
    mdp_lib.state_values(TWO_STATES, GO), [2 / 3, -2 / 3]
  )
  q_values = [[1 / 3, 2 / 3], [-1 / 3, -2 / 3]]
  np.testing.assert_allclose(mdp_lib.action_values(TWO_STATES, GO), q_values)
  np.testing.assert_allclose(mdp_lib.backup(TWO_STATES, GO, q_values), q_values)
  # Half of the time at the first state at once, then at the other by turns.
  np.testing.assert_allclose(mdp_lib.occupancy(TWO_STATES, GO), [2 / 3, 1 / 3])
  assert mdp_lib.expected_return(TWO_STATES, GO) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
  'make', [mdp_lib.garnet, mdp_lib.gridworld, mdp_lib.bandit_chain]
)
def test_families_are_mdps_whose_values_simulation_finds(make):
  rng = np.random.default_rng(0)
  mdp = make(rng, 2, gamma=0.5)
  np.testing.assert_allclose(mdp.transitions.sum(-1), 1)
  assert (mdp.transitions >= 0).all() and (abs(mdp.rewards) <= 1).all()
  states, actions = mdp.rewards.shape[1:]
  policy = rng.dirichlet(np.ones(actions), (2, states))
  games, total = 20_000, 0.0
  one = dataclasses.replace(
    mdp, transitions=mdp.transitions[0], rewards=mdp.rewards[0]
  )
  state = rng.choice(states, games, p=mdp.initial[0])
  for step in range(30):
    action = _draw(rng, policy[0][state])
    total = total + 0.5**step * one.rewards[state, action]
    state = _draw(rng, one.transitions[state, action])
  error = 4 * total.std() / np.sqrt(games)
  expected = mdp_lib.expected_return(mdp, policy)[0]
  assert abs(total.mean() - expected) < error + 1e-6


def _draw(rng, probabilities):
  edges = np.cumsum(probabilities, axis=-1)
  return np.argmax(rng.random((len(edges), 1)) < edges / edges[:, -1:], axis=1)


def test_grid_goal_and_pit_lead_back():
  mdp = mdp_lib.gridworld(np.random.default_rng(1), 20)
  for reward in (1, -1):
    places = np.argwhere((mdp.rewards == reward).all(-1))
    assert len(places) == 20
    for index, place in places:
      assert (mdp.transitions[index, place, :, 0] == 1).all()
