"""Final and peak scores of runs, and what they amount to over games."""

import contextlib
import dataclasses
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from cql_atari.analysis import curves, loading, reference
from cql_atari.core.errors import UserError

_BOOTSTRAP_REPETITIONS = 2000


@dataclasses.dataclass(frozen=True)
class Score:
  """What runs of one kind scored: an agent, a game, a share of the data.

  Attributes:
    game: such as 'Pong'.
    data: such as '1 %'.
    agent: such as 'CQL', with the settings that tell it from others.
    runs: one a seed.
    gradient_steps: of the last evaluation that all of them have.
    final: (runs,) evaluation return there.
    peak: (runs,) the highest point of each run's own curve up to there: being
      chosen by the score itself, it is optimistic.
  """

  game: str
  data: str
  agent: str
  runs: Sequence[loading.Run]
  gradient_steps: int
  final: np.ndarray
  peak: np.ndarray


def by_data(
  runs: Sequence[loading.Run],
) -> dict[str, list[loading.Run]]:
  """Runs by the share of the data they learned from, least first."""
  groups = defaultdict(list)
  for run in runs:
    groups[run.data].append(run)
  return dict(sorted(groups.items(), key=lambda item: curves.by_size(item[0])))


def scores(runs: Sequence[loading.Run]) -> list[Score]:
  """The scores of every agent on every game and share of the data.

  Raises:
    UserError: two runs of one experiment have the same seed.
  """
  found = []
  for data, members in by_data(runs).items():
    for game, agents in sorted(curves.group(members).items()):
      for agent, seeds in curves.in_order(agents):
        _check_seeds(seeds)
        steps, returns = curves.mean_curve(seeds)
        found.append(
          Score(
            game, data, agent, seeds, int(steps[-1]), returns[:, -1],
            returns.max(axis=1),
          )
        )  # fmt: skip
  return found


def _check_seeds(runs: Sequence[loading.Run]) -> None:
  folders = {}
  for run in runs:
    if run.seed in folders:
      raise UserError(
        f'{folders[run.seed]} and {run.directory} are the same experiment with '
        'the same seed: move one of them elsewhere.'
      )
    folders[run.seed] = run.directory


def matrices(found: Sequence[Score], kind: str) -> dict[str, np.ndarray]:
  """Human-normalised scores of agents that ran the same games as long.

  Args:
    found: scores on one share of the data.
    kind: 'final' or 'peak'.

  Returns:
    Agent to (seeds, games). Games without a known human score are left out,
    scores of fewer gradient steps than the longest, agents that then lack a
    game that another has, and seeds that not all games have.
  """
  longest = max(score.gradient_steps for score in found)
  rows = defaultdict(dict)
  for score in found:
    values = reference.human_normalized(score.game, getattr(score, kind))
    if values is not None and score.gradient_steps == longest:
      seeds = [run.seed for run in score.runs]
      rows[score.agent][score.game] = dict(zip(seeds, values))
  games = {game for of_agent in rows.values() for game in of_agent}
  made = {}
  for agent, of_agent in rows.items():
    seeds = set.intersection(*(set(values) for values in of_agent.values()))
    if set(of_agent) == games and seeds:
      made[agent] = np.array(
        [[of_agent[game][s] for game in sorted(games)] for s in sorted(seeds)]
      )
  return made


def interquartile_means(
  normalized: dict[str, np.ndarray],
) -> dict[str, tuple[float, float, float]]:
  """Interquartile means with 95 % stratified bootstrap intervals (rliable).

  Args:
    normalized: agent to (seeds, games).

  Returns:
    Agent to (mean, low, high).
  """
  with _rliable() as (library, metrics):
    points, intervals = library.get_interval_estimates(
      normalized,
      lambda values: np.array([metrics.aggregate_iqm(values)]),
      reps=_BOOTSTRAP_REPETITIONS,
    )
  return {
    agent: (float(points[agent][0]), *map(float, intervals[agent][:, 0]))
    for agent in normalized
  }


def performance_profiles(
  normalized: dict[str, np.ndarray], thresholds: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """The share of runs above each threshold (rliable).

  Args:
    normalized: agent to (seeds, games).
    thresholds: (T,) scores.

  Returns:
    Agent to shares (T,) and their 95 % bootstrap interval (2, T).
  """
  with _rliable() as (library, _):
    shares, intervals = library.create_performance_profile(
      normalized, thresholds, reps=_BOOTSTRAP_REPETITIONS
    )
  return {agent: (shares[agent], intervals[agent]) for agent in normalized}


@contextlib.contextmanager
def _rliable() -> Iterator[tuple]:
  """rliable's modules: quiet about deprecations, and with the same draws.

  Its bootstrap draws from NumPy's global generator.
  """
  state = np.random.get_state()  # noqa: NPY002
  np.random.seed(0)  # noqa: NPY002
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', FutureWarning)
      from rliable import library, metrics

      yield library, metrics
  except ImportError:
    raise UserError(
      "the report needs rliable: pip install 'cql_atari[report]'."
    ) from None
  finally:
    np.random.set_state(state)  # noqa: NPY002
