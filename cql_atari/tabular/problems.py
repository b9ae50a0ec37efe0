"""Many MDPs, each with policies and a dataset, for theorems to be tried on."""

import dataclasses

import numpy as np

from cql_atari.tabular import dataset as dataset_lib
from cql_atari.tabular import mdp as mdp_lib

FAMILIES = {
  'garnet': mdp_lib.garnet,
  'gridworld': mdp_lib.gridworld,
  'bandit_chain': mdp_lib.bandit_chain,
}
_LEAST = 0.2  # Share of the behavior policy that is uniform.


@dataclasses.dataclass(frozen=True)
class Problems:
  """MDPs of one size, and what a theorem is stated of.

  Attributes:
    mdp: the true MDPs.
    policy: (n, S, A) target policies pi.
    mu: (n, S, A) distributions mu of Eq. 1.
    dataset: drawn from a behavior policy.
  """

  mdp: mdp_lib.MDP
  policy: np.ndarray
  mu: np.ndarray
  dataset: dataset_lib.Dataset

  @property
  def behavior(self) -> np.ndarray:
    """(n, S, A): the datasets' empirical behavior policies."""
    return self.dataset.behavior


def sample(
  family: str, count: int, size: int, rng: np.random.Generator, repeats: int = 1
) -> Problems:
  """Draws MDPs, policies and datasets.

  Args:
    family: one of FAMILIES.
    count: number of MDPs.
    size: transitions in a dataset, beside one of every pair.
    rng: random numbers.
    repeats: datasets of every MDP; each is then a problem of its own.
  """
  mdp = FAMILIES[family](rng, count)
  states, actions = mdp.rewards.shape[-2:]
  policy, mu, behavior = rng.dirichlet(np.ones(actions), (3, count, states))
  behavior = _LEAST / actions + (1 - _LEAST) * behavior
  again = np.repeat(np.arange(count), repeats)
  mdp = dataclasses.replace(
    mdp,
    transitions=mdp.transitions[again],
    rewards=mdp.rewards[again],
    initial=mdp.initial[again],
  )
  dataset = dataset_lib.draw(mdp, behavior[again], size, rng)
  return Problems(mdp, policy[again], mu[again], dataset)
