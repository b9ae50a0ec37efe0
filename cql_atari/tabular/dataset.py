"""Datasets drawn from a behavior policy, and the error that comes of them."""

import dataclasses

import numpy as np

from cql_atari.tabular import mdp as mdp_lib


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A dataset's counts and the empirical MDP, or those of many.

  Attributes:
    counts: (..., S, A) |D(s, a)|, all positive.
    empirical: the empirical MDP, whose transitions and rewards are the
      dataset's averages; its backup is the empirical Bellman operator.
  """

  counts: np.ndarray
  empirical: mdp_lib.MDP

  @property
  def behavior(self) -> np.ndarray:
    """(..., S, A): the empirical behavior policy."""
    return self.counts / self.counts.sum(axis=-1, keepdims=True)


def draw(
  mdp: mdp_lib.MDP, behavior: np.ndarray, size: int, rng: np.random.Generator
) -> Dataset:
  """Draws transitions as section 2 of the paper has it.

  Pairs come from d^beta(s) beta(a|s); besides, each comes once, for the paper
  assumes that the empirical behavior policy is nowhere zero. A reward is
  R_max or -R_max, with the MDP's mean.

  Args:
    mdp: the MDP.
    behavior: (..., S, A) the behavior policy beta.
    size: transitions drawn of each MDP.
    rng: random numbers.
  """
  pairs = mdp_lib.occupancy(mdp, behavior)[..., None] * behavior
  flat = np.maximum(pairs.reshape(*pairs.shape[:-2], -1), 0)
  flat = flat / flat.sum(axis=-1, keepdims=True)
  counts = 1 + rng.multinomial(size, flat).reshape(pairs.shape)
  following = rng.multinomial(counts, mdp.transitions)
  wins = rng.binomial(counts, np.clip(1 + mdp.rewards / mdp.r_max, 0, 2) / 2)
  empirical = dataclasses.replace(
    mdp,
    transitions=following / counts[..., None],
    rewards=mdp.r_max * (2 * wins / counts - 1),
  )
  return Dataset(counts, empirical)


def error_bound(dataset: Dataset, delta: float) -> np.ndarray:
  """Bounds the error of the empirical Bellman operator.

  With probability 1 - delta, for all pairs and all V of size R_max / (1 -
  gamma) at most at once, chosen after the data as well,

    |r^ - r + gamma (T^ - T) V| <= C R_max / ((1 - gamma) sqrt|D(s, a)|),

  the paper's assumption of section 3.1. C comes of Hoeffding's inequality for
  the reward and Weissman et al.'s (2003) for the L1 distance of T^ and T, each
  holding for all S A pairs with probability 1 - delta / 2.

  Args:
    dataset: the dataset.
    delta: probability that it fails.

  Returns:
    (..., S, A): the right-hand side.
  """
  mdp, (states, actions) = dataset.empirical, dataset.counts.shape[-2:]
  each = delta / (2 * states * actions)
  rewards = np.sqrt(2 * np.log(2 / each))
  # A union over the 2^S - 2 sets of states that are neither empty nor all; one
  # state leads to itself alone, and nothing is to be estimated.
  transitions = 0.0
  if states > 1:
    transitions = np.sqrt(2 * (np.log(2.0**states - 2) - np.log(each)))
  constant = (1 - mdp.gamma) * rewards + mdp.gamma * transitions
  return constant * mdp.v_max / np.sqrt(dataset.counts)
