"""Ablations: runs that differ from a baseline in one setting."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from cql_atari.analysis.grouping import Group, make_group, replaced_data
from cql_atari.analysis.loading import LoadedRun

_FEWEST = 2  # Variants of the baseline, for an ablation to be one.


class Factor(NamedTuple):
  """A setting that was varied while all others were at the baseline.

  Attributes:
    name: gin's, such as 'CQLMixin.alpha'.
    groups: its values, least first, to the runs that had them.
    baseline: its value while other settings were varied.
  """

  name: str
  groups: dict[str, Group]
  baseline: str


class Ablation(NamedTuple):
  """The settings that were varied of one agent on one game.

  Attributes:
    game: such as 'Pong', or D4RL's domain.
    agent: such as 'CQL'.
    data: D4RL's kind of data; on Atari, the baseline's, for the
      share of the data may be what was varied.
    factors: by name.
  """

  game: str
  agent: str
  data: str
  factors: list[Factor]


def find(runs: Sequence[LoadedRun]) -> list[Ablation]:
  """The ablations among runs, ordered by game.

  The baseline of an agent on a game is the configuration with the most variants
  that differ from it in one setting; an ablation has two or more of them.
  """
  runs_by_agent = defaultdict(lambda: defaultdict(list))
  replaced = replaced_data(runs)
  for run in runs:
    data = '' if run.benchmark.data_share_is_hyperparameter else run.data
    of_agent = runs_by_agent[run.game, run.record['agent_class'], data]
    settings = set(run.settings.items())
    if run.data_asked_for in replaced:
      settings.add(('data', run.digest[:7]))
    of_agent[frozenset(settings)].append(run)
  ablations = []
  for (game, _, _), runs_by_settings in sorted(runs_by_agent.items()):
    baseline = max(
      runs_by_settings, key=lambda s: len(_variants(runs_by_settings, s))
    )
    factors = _factors(runs_by_settings, baseline)
    if factors:
      run = runs_by_settings[baseline][0]
      ablations.append(Ablation(game, run.agent, run.data, factors))
  return ablations


def _factors(runs_by_settings, baseline) -> list[Factor]:
  """The settings that were varied; none where too few variants were run."""
  variants = _variants(runs_by_settings, baseline)
  if len(variants) < _FEWEST:
    return []
  runs_by_value = defaultdict(dict)
  for settings, name in variants.items():
    value = dict(settings).get(name, 'unset')
    runs_by_value[name][value] = runs_by_settings[settings]
  factors = []
  for name, of_value in sorted(runs_by_value.items()):
    value = dict(baseline).get(name, 'unset')
    of_value[value] = runs_by_settings[baseline]
    groups = [make_group(of_value[v], v) for v in sorted(of_value, key=_order)]
    steps = functools.reduce(np.intersect1d, [group.steps for group in groups])
    if not len(steps):
      logging.warning('Of %s no value was evaluated when others were.', name)
      continue
    if steps[-1] < max(group.gradient_steps for group in groups):
      logging.warning('%s is compared up to step %d only.', name, steps[-1])
    groups = {g.label: dataclasses.replace(g, steps=steps) for g in groups}
    factors.append(Factor(name, groups, value))
  return factors


def _variants(runs_by_settings, baseline) -> dict:
  """The settings that differ from the baseline in one name, to that name."""
  names = {s: {name for name, _ in s ^ baseline} for s in runs_by_settings}
  return {
    settings: next(iter(differing))
    for settings, differing in names.items()
    if len(differing) == 1
  }


def _order(value: str) -> tuple:
  """Words before numbers, and these by size."""
  try:
    return 1, float(value), value
  except ValueError:
    return 0, 0.0, value
