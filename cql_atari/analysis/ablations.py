"""Ablations: runs that differ in one setting from common ones."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from cql_atari.analysis.grouping import Group, group
from cql_atari.analysis.loading import Run

_FEWEST = 2  # Variants of the common settings, for an ablation to be one.


class Factor(NamedTuple):
  """A setting that was varied while all others were the common ones.

  Attributes:
    name: gin's, such as 'CQLMixin.alpha'.
    groups: its values, least first, to the runs that had them.
    common: the value that runs have in which another setting was varied.
  """

  name: str
  groups: dict[str, Group]
  common: str


class Ablation(NamedTuple):
  """The settings that were varied of one agent on one game.

  Attributes:
    game: such as 'Pong', or D4RL's domain.
    agent: such as 'CQL'.
    data: D4RL's kind of data; on Atari, that of the common settings, for the
      share of the data may be what was varied.
    factors: by name.
  """

  game: str
  agent: str
  data: str
  factors: list[Factor]


def find(runs: Sequence[Run]) -> list[Ablation]:
  """The ablations among runs, ordered by game.

  Of an agent's settings on a game, the common ones are those that the most
  others differ from in one setting; two have to, for it to be an ablation.
  """
  families = defaultdict(lambda: defaultdict(list))
  for run in runs:
    data = '' if run.benchmark.share_is_a_setting else run.data
    family = families[run.game, run.record['agent_class'], data]
    family[frozenset(run.settings.items())].append(run)
  ablations = []
  for (game, _, _), kinds in sorted(families.items()):
    common = max(kinds, key=lambda kind: len(_variants(kinds, kind)))
    variants = _variants(kinds, common)
    if len(variants) < _FEWEST:
      continue
    values = defaultdict(dict)
    for kind, name in variants.items():
      values[name][dict(kind).get(name, 'unset')] = kinds[kind]
    factors = []
    for name, of_value in sorted(values.items()):
      usual = dict(common).get(name, 'unset')
      of_value[usual] = kinds[common]
      ordered = dict(sorted(of_value.items(), key=lambda i: _order(i[0])))
      groups = {value: group(ran, value) for value, ran in ordered.items()}
      factors.append(Factor(name, groups, usual))
    run = kinds[common][0]
    ablations.append(Ablation(game, run.agent, run.data, factors))
  return ablations


def _variants(kinds, common) -> dict:
  """The kinds that differ from one in a single setting, to that setting."""
  names = {kind: {name for name, _ in kind ^ common} for kind in kinds}
  return {
    kind: next(iter(differing))
    for kind, differing in names.items()
    if len(differing) == 1
  }


def _order(value: str) -> tuple:
  """Words before numbers, and these by size."""
  try:
    return 1, float(value), value
  except ValueError:
    return 0, 0.0, value
