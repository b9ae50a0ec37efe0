"""Finite MDPs and exact policy evaluation.

Every array may hold many MDPs at once: '...' stands for axes of MDPs, S for
states, A for actions. All is float64.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class MDP:
  """A finite MDP, or many of the same size.

  Attributes:
    transitions: (..., S, A, S) T(s'|s, a).
    rewards: (..., S, A) mean rewards, of size r_max at most.
    initial: (..., S) distribution of the first state.
    gamma: discount.
    r_max: R_max, bound on the size of a reward.
  """

  transitions: np.ndarray
  rewards: np.ndarray
  initial: np.ndarray
  gamma: float
  r_max: float = 1.0

  @property
  def v_max(self) -> float:
    """Bound on the size of a value: R_max / (1 - gamma)."""
    return self.r_max / (1 - self.gamma)


def garnet(
  rng: np.random.Generator,
  count: int,
  states: int = 8,
  actions: int = 4,
  branching: int = 3,
  gamma: float = 0.9,
) -> MDP:
  """Random MDPs (Archibald et al., 1995): each pair leads to few states.

  Args:
    rng: random numbers.
    count: number of MDPs, the arrays' first axis.
    states: S.
    actions: A.
    branching: states that a pair can lead to, with Dirichlet probabilities.
    gamma: discount.
  """
  shape = (count, states, actions)
  reached = np.argsort(rng.random((*shape, states)), axis=-1)[..., :branching]
  transitions = np.zeros((*shape, states))
  probabilities = rng.dirichlet(np.ones(branching), shape)
  np.put_along_axis(transitions, reached, probabilities, axis=-1)
  return MDP(
    transitions,
    rng.uniform(-1, 1, shape),
    rng.dirichlet(np.ones(states), count),
    gamma,
  )


def gridworld(
  rng: np.random.Generator, count: int, side: int = 4, gamma: float = 0.9
) -> MDP:
  """Gridworlds with a goal and a pit; a step is random with probability 0.2.

  Actions are up, down, left and right; a move into a wall changes nothing. The
  goal pays 1, the pit -1, and both lead back to the first corner, the start.

  Args:
    rng: random numbers, for where the goal and the pit are.
    count: number of MDPs, the arrays' first axis.
    side: squares along an edge.
    gamma: discount.
  """
  states, wind = side * side, 0.2
  rows, columns = np.divmod(np.arange(states), side)
  moves = np.zeros((states, 4, states))
  for action, (down, right) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
    row = np.clip(rows + down, 0, side - 1)
    column = np.clip(columns + right, 0, side - 1)
    moves[np.arange(states), action, row * side + column] = 1
  moves = (1 - wind) * moves + wind * moves.mean(axis=1, keepdims=True)
  transitions = np.repeat(moves[None], count, axis=0)
  rewards = np.zeros((count, states, 4))
  index = np.arange(count)
  order = 1 + np.argsort(rng.random((count, states - 1)), axis=1)
  for place, reward in ((order[:, 0], 1), (order[:, 1], -1)):
    rewards[index, place] = reward
    transitions[index, place] = np.eye(states)[0]
  initial = np.repeat(np.eye(states)[:1], count, axis=0)
  return MDP(transitions, rewards, initial, gamma)


def bandit_chain(
  rng: np.random.Generator,
  count: int,
  states: int = 6,
  actions: int = 4,
  gamma: float = 0.9,
) -> MDP:
  """Chains of bandits: one arm of each leads on, the others back to the first.

  Every arm has its own mean reward; the last bandit leads on to itself.

  Args:
    rng: random numbers, for the arms' rewards and which of them leads on.
    count: number of MDPs, the arrays' first axis.
    states: bandits in a chain.
    actions: arms of a bandit.
    gamma: discount.
  """
  onward = rng.integers(actions, size=(count, states, 1)) == np.arange(actions)
  following = np.eye(states)[np.minimum(np.arange(states) + 1, states - 1)]
  transitions = np.where(
    onward[..., None], following[:, None], np.eye(states)[0]
  )
  rewards = rng.uniform(-1, 1, (count, states, actions))
  initial = np.repeat(np.eye(states)[:1], count, axis=0)
  return MDP(transitions, rewards, initial, gamma)


def state_values(
  mdp: MDP, policy: np.ndarray, rewards: np.ndarray | None = None
) -> np.ndarray:
  """V^pi, by a linear solve.

  Args:
    mdp: the MDP.
    policy: (..., S, A) pi(a|s).
    rewards: (..., S, A) in place of the MDP's.

  Returns:
    (..., S): (I - gamma P^pi)^-1 E_pi[r].
  """
  rewards = mdp.rewards if rewards is None else rewards
  mean = np.sum(policy * rewards, axis=-1)
  system = np.eye(mean.shape[-1]) - mdp.gamma * state_transitions(mdp, policy)
  return np.linalg.solve(system, mean[..., None])[..., 0]


def action_values(
  mdp: MDP, policy: np.ndarray, rewards: np.ndarray | None = None
) -> np.ndarray:
  """Q^pi, by a linear solve.

  Args:
    mdp: the MDP.
    policy: (..., S, A) pi(a|s).
    rewards: (..., S, A) in place of the MDP's.

  Returns:
    (..., S, A): (I - gamma P^pi)^-1 r, with P^pi on pairs of state and action.
  """
  rewards = mdp.rewards if rewards is None else rewards
  values = state_values(mdp, policy, rewards)
  return rewards + mdp.gamma * expected_next(mdp, values)


def backup(mdp: MDP, policy: np.ndarray, q_values: np.ndarray) -> np.ndarray:
  """B^pi Q = r + gamma P^pi Q, (..., S, A)."""
  values = np.sum(policy * q_values, axis=-1)
  return mdp.rewards + mdp.gamma * expected_next(mdp, values)


def expected_next(mdp: MDP, values: np.ndarray) -> np.ndarray:
  """E[V(s')|s, a], (..., S, A), of V (..., S)."""
  return np.einsum('...ijk,...k->...ij', mdp.transitions, values)


def state_transitions(mdp: MDP, policy: np.ndarray) -> np.ndarray:
  """P^pi(s'|s), (..., S, S)."""
  return np.einsum('...ijk,...ij->...ik', mdp.transitions, policy)


def occupancy(mdp: MDP, policy: np.ndarray) -> np.ndarray:
  """The discounted distribution of states d^pi, (..., S), which sums to 1."""
  transitions = np.swapaxes(state_transitions(mdp, policy), -1, -2)
  system = np.eye(transitions.shape[-1]) - mdp.gamma * transitions
  visits = np.linalg.solve(system, mdp.initial[..., None])[..., 0]
  return (1 - mdp.gamma) * visits


def expected_return(mdp: MDP, policy: np.ndarray) -> np.ndarray:
  """J(pi, M), the expected discounted return, (...)."""
  return np.sum(mdp.initial * state_values(mdp, policy), axis=-1)
