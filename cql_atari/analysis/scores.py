"""Aggregate scores over games, by rliable."""

import contextlib
import types
import warnings
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from cql_atari.analysis.grouping import GroupsByGame
from cql_atari.core.errors import UserError

_BOOTSTRAP_REPETITIONS = 2000


def normalized_scores(games: GroupsByGame, kind: str) -> dict[str, np.ndarray]:
  """Normalised scores of agents that ran the same games as long.

  Args:
    games: groups on one share of the data.
    kind: 'final' or 'peak'.

  Returns:
    Agent to (seeds, games). Games without a known scale are left out, groups of
    fewer gradient steps than the longest, agents that then lack a game that
    another has, and seeds that not all games have.
  """
  groups = [g for labelled in games.values() for g in labelled.values()]
  values = {}
  for group in groups:
    benchmark = group.runs[0].benchmark
    of_group = benchmark.normalized(group.game, getattr(group, kind))
    if of_group is not None:
      seeds = [run.seed for run in group.runs]
      values[group.label, group.game] = group, dict(zip(seeds, of_group))
  longest = max((g.gradient_steps for g, _ in values.values()), default=0)
  rows = defaultdict(dict)
  for (label, game), (group, of_group) in values.items():
    if group.gradient_steps == longest:
      rows[label][game] = of_group
  known = sorted({game for of_agent in rows.values() for game in of_agent})
  made = {}
  for agent, of_agent in rows.items():
    seeds = set.intersection(*(set(values) for values in of_agent.values()))
    if sorted(of_agent) == known and seeds:
      made[agent] = np.array(
        [[of_agent[game][s] for game in known] for s in sorted(seeds)]
      )
  return made


def interquartile_means(
  normalized: dict[str, np.ndarray],
) -> dict[str, tuple[float, float, float]]:
  """Interquartile means with 95 % stratified bootstrap intervals.

  Args:
    normalized: agent to (seeds, games).

  Returns:
    Agent to (mean, low, high).
  """
  with _rliable() as library:
    points, intervals = library.get_interval_estimates(
      normalized,
      lambda values: np.array([interquartile_mean(values)]),
      reps=_BOOTSTRAP_REPETITIONS,
    )
  return {
    agent: (float(points[agent][0]), *map(float, intervals[agent][:, 0]))
    for agent in normalized
  }


def interquartile_mean(values: np.ndarray) -> float:
  """The mean of the middle half; rliable's takes ten times as long."""
  ordered = np.sort(values, axis=None)
  cut = len(ordered) // 4
  return ordered[cut : len(ordered) - cut].mean()


def thresholds(normalized: dict[str, np.ndarray]) -> np.ndarray:
  """(101,) scores from below the least to above the greatest."""
  values = np.concatenate([m.ravel() for m in normalized.values()])
  margin = 0.05 * (np.ptp(values) or 1.0)
  return np.linspace(values.min() - margin, values.max() + margin, 101)


def performance_profiles(
  normalized: dict[str, np.ndarray], thresholds: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """The share of runs above each threshold.

  Args:
    normalized: agent to (seeds, games).
    thresholds: (T,) scores.

  Returns:
    Agent to shares (T,) and their 95 % bootstrap interval (2, T).
  """

  def shares_above(values, limits):  # rliable's asks for one at a time.
    return (values > limits[:, None, None]).mean(axis=(1, 2))

  with _rliable() as library:
    shares, intervals = library.create_performance_profile(
      normalized,
      thresholds,
      custom_profile_func=shares_above,
      reps=_BOOTSTRAP_REPETITIONS,
    )
  return {agent: (shares[agent], intervals[agent]) for agent in normalized}


@contextlib.contextmanager
def _rliable() -> Iterator[types.ModuleType]:
  """rliable's library: quiet about deprecations, and with the same draws.

  Its bootstrap draws from NumPy's global generator.
  """
  state = np.random.get_state()  # noqa: NPY002
  np.random.seed(0)  # noqa: NPY002
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', FutureWarning)
      from rliable import library

      yield library
  except ImportError:
    raise UserError(
      "the report needs rliable: pip install 'cql_atari[report]'."
    ) from None
  finally:
    np.random.set_state(state)  # noqa: NPY002
