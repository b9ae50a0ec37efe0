"""Whole episodes that are kept from learning, the same for every seed."""

import numpy as np

from cql_atari.core.errors import UserError


def choose(episode: np.ndarray, share: float, setting: str) -> np.ndarray:
  """Chooses episodes until a share of the rows is held out.

  Args:
    episode: integers (R,), the number of the episode that each row is of.
    share: of the rows.
    setting: its name, such as 'TransitionSampler.held_out', for an error.

  Returns:
    Whether each row is held out, bool (R,).

  Raises:
    UserError: nothing would be left to learn from.
  """
  numbers, sizes = np.unique(episode, return_counts=True)
  order = np.random.default_rng(0).permutation(len(numbers))
  before = np.cumsum(sizes[order]) - sizes[order]
  chosen = numbers[order[before < share * len(episode)]]
  if len(chosen) == len(numbers):
    raise UserError(
      f'{setting} is {share:g}, but the data have {len(numbers)} episodes: '
      'lower it, or take more data.'
    )
  return np.isin(episode, chosen)


def at_most(rows: np.ndarray, most: int = 1024) -> np.ndarray:
  """Some of sorted rows: all, or `most` drawn at random, sorted."""
  if len(rows) > most:
    rows = np.random.default_rng(0).choice(rows, most, replace=False)
  return np.sort(rows)
