"""Returns of recorded episodes."""

import numpy as np


def summed_returns(rewards: np.ndarray, gamma: float) -> float:
  """The sum over all steps of an episode of its discounted return-to-go.

  A reward counts for its own step and all earlier ones, that is,
  (1 - gamma^(t+1)) / (1 - gamma) times at step t.

  Args:
    rewards: (T,) of a whole episode.
    gamma: discount per step.
  """
  counts = np.arange(1.0, len(rewards) + 1)
  if gamma != 1:
    counts = (1 - gamma**counts) / (1 - gamma)
  return float(rewards @ counts)
