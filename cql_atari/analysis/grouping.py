"""Groups runs once: by data, game, and what was run.

Tables and curves are made of these groups.
"""

import dataclasses
import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from absl import logging

from cql_atari.analysis import wording
from cql_atari.analysis.loading import LoadedRun
from cql_atari.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs of one kind, which differ in their seeds alone.

  Attributes:
    game: such as 'Pong'.
    label: the agent's, with the settings that tell it from others.
    runs: one a seed.
    steps: (T,) gradient steps at which all of them were evaluated.
  """

  game: str
  label: str
  runs: Sequence[LoadedRun]
  steps: np.ndarray

  @property
  def data(self) -> str:
    """The label of the data they learned from."""
    return self.runs[0].data

  @property
  def data_mean(self) -> str:
    """The mean game of the data in words; '' where it is not known."""
    run = self.runs[0]
    clipped = ' (clipped)' if run.behavior_return_is_clipped else ''
    known = run.behavior_return is not None
    return f'{run.behavior_return:.1f}{clipped}' if known else ''

  @functools.cached_property
  def returns(self) -> np.ndarray:
    """(runs, T) evaluation returns at these steps."""
    return self.metric('eval_return_mean')

  @property
  def final(self) -> np.ndarray:
    """(runs,) the last of these evaluations."""
    return self.returns[:, -1]

  @property
  def peak(self) -> np.ndarray:
    """(runs,) the highest point of each curve: optimistic, being chosen."""
    return self.returns.max(axis=1)

  @property
  def gradient_steps(self) -> int:
    """Gradient steps at the last evaluation."""
    return int(self.steps[-1])

  @property
  def seeds(self) -> str:
    """How many, such as '3', or '4 runs of 3'."""
    seeds = len({run.seed for run in self.runs})
    if seeds < len(self.runs):
      return f'{len(self.runs)} runs of {seeds}'
    return f'{seeds}'

  def metric(self, name: str) -> np.ndarray:
    """(runs, T): a column of the metrics of every run."""
    return np.stack(
      [
        run.metric(name)[np.isin(run.metrics['gradient_steps'], self.steps)]
        for run in self.runs
      ]
    )


# By game, then by label, both in order.
GroupsByGame = dict[str, dict[str, Group]]


def group_by_data(runs: Sequence[LoadedRun]) -> dict[str, GroupsByGame]:
  """Runs by what they learned from, the smallest share first."""
  of_data = defaultdict(list)
  for run in runs:
    of_data[run.data].append(run)
  return {
    data: group_by_game(of_data[data])
    for data in sorted(of_data, key=natural_sort_key)
  }


def runs_with_labels(
  runs: Sequence[LoadedRun],
) -> Iterator[tuple[str, LoadedRun]]:
  """Every run with its label, which does not name the data, game by game."""
  for of_label in _labelled(runs, names_data=False).values():
    for label, members in of_label.items():
      for run in members:
        yield label, run


def group_by_game(runs: Sequence[LoadedRun]) -> GroupsByGame:
  """Runs by game, then by what was run.

  A label is the agent's name, the same in all games. Where an agent ran with
  several settings on a game, the label also names the values of a run that the
  majority does not share, and where there are several data sets of a task, the
  run's; where those of one name differ, the first digits of its digest.
  """
  return {
    game: {label: make_group(members, label) for label, members in of.items()}
    for game, of in _labelled(runs).items()
  }


def _labelled(
  runs: Sequence[LoadedRun], names_data: bool = True
) -> dict[str, dict[str, list[LoadedRun]]]:
  """Runs by game and label, in order."""
  games = defaultdict(lambda: defaultdict(list))
  for run in runs:
    games[run.game][run.agent].append(run)
  grouped, replaced = {}, replaced_data(runs)
  varied = _varied(games.values())
  for game in sorted(games):
    runs_by_label = defaultdict(list)
    data = {run.data for run in itertools.chain(*games[game].values())}
    for agent, members in games[game].items():
      for run in members:
        parts = [agent, *_differences(run, varied[agent])]
        is_setting = run.benchmark.data_share_is_hyperparameter
        if names_data and len(data) > 1 and not is_setting:
          parts.insert(1, run.data)
        if run.data_asked_for in replaced:
          parts.append(f'data {run.digest[:7]}')
        runs_by_label[', '.join(parts)].append(run)
    grouped[game] = {
      label: runs_by_label[label]
      for label in sorted(runs_by_label, key=natural_sort_key)
    }
  return grouped


def replaced_data(runs: Sequence[LoadedRun]) -> set[tuple]:
  """What several runs `data_asked_for`, of which they got unlike digests."""
  digests = defaultdict(set)
  for run in runs:
    digests[run.data_asked_for].add(run.digest)
  return {asked for asked, found in digests.items() if len(found) > 1}


def make_group(runs: Sequence[LoadedRun], label: str) -> Group:
  """One group, of the evaluations that all runs have.

  Raises:
    UserError: the runs have no evaluation at the same step.
  """
  evaluated = [
    run.metrics['gradient_steps'][~np.isnan(run.metrics['eval_return_mean'])]
    for run in runs
  ]
  steps = functools.reduce(np.intersect1d, evaluated)
  if not len(steps):
    raise UserError(
      f'{", ".join(str(run.directory) for run in runs)} were never evaluated '
      'at the same gradient step: plot them apart.'
    )
  last = max(own[-1] for own in evaluated)
  if steps[-1] < last:
    logging.warning(
      '%s has runs of different lengths: all are shown up to step %d only.',
      label,
      steps[-1],
    )
  return Group(runs[0].game, label, runs, steps)


def checked_groups(groups_by_data: Mapping[str, GroupsByGame]) -> list[Group]:
  """All groups, in order.

  Raises:
    UserError: two runs of one experiment have the same seed.
  """
  groups = [
    group
    for games in groups_by_data.values()
    for of_game in games.values()
    for group in of_game.values()
  ]
  for members in groups:
    folders = {}
    for run in members.runs:
      if run.seed in folders:
        raise UserError(
          f'{folders[run.seed]} and {run.directory} are the same experiment '
          'with the same seed: move one of them elsewhere.'
        )
      folders[run.seed] = run.directory
  return groups


def natural_sort_key(label: str) -> list:
  """Words and numbers in turn, so that '2 %' comes before '10 %'."""
  parts = re.split(r'(\d+(?:\.\d+)?)', label)
  return [float(p) if index % 2 else p for index, p in enumerate(parts)]


def _varied(
  games: Iterable[Mapping[str, Sequence[LoadedRun]]],
) -> dict[str, dict[str, Counter]]:
  """Of each agent, the settings that vary within a game.

  A setting that only differs from game to game is the games' own: it tells no
  runs apart.

  Returns:
    Agent to setting to its values, each with the number of kinds of runs, over
    all games, that have it.
  """
  kinds, names = defaultdict(set), defaultdict(set)
  for agent, members in itertools.chain(*(of.items() for of in games)):
    of_game = {frozenset(run.settings.items()) for run in members}
    kinds[agent] |= of_game
    everywhere = frozenset.intersection(*of_game)
    names[agent] |= {name for kind in of_game for name, _ in kind - everywhere}
  return {
    agent: {
      name: Counter(dict(kind).get(name) for kind in kinds[agent])
      for name in sorted(names[agent])
    }
    for agent in kinds
  }


def _differences(run: LoadedRun, varied: Mapping[str, Counter]) -> list[str]:
  """The settings of a run that most others of the same agent do not share."""
  short = Counter(name.split('.')[-1] for name in varied)
  different = []
  for name, counts in varied.items():
    value = run.settings.get(name)
    if 2 * counts[value] <= counts.total():
      is_ambiguous = short[name.split('.')[-1]] > 1
      different.append(wording.label(name, value, is_ambiguous))
  return different


def standard_error(values: np.ndarray) -> np.ndarray:
  """Standard error of the mean, (runs, ...) -> (...); NaN for one run."""
  if len(values) < 2:
    return np.full(values.shape[1:], np.nan)
  return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))


def with_error(values: np.ndarray, digits: int = 1) -> str:
  """A mean over runs (runs,) and its standard error, such as '4.5 ± 1.5'."""
  text = f'{np.mean(values):.{digits}f}'
  if len(values) < 2:
    return text
  return f'{text} ± {standard_error(values):.{digits}f}'
