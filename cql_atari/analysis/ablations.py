"""What each setting does, told by runs that differ in one from common ones."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from cql_atari.analysis.loading import Run

_FEWEST = 2  # Variants of the common settings, for an ablation to be one.


class Factor(NamedTuple):
  """A setting that was varied while all others were the common ones.

  Attributes:
    name: gin's, such as 'CQLMixin.alpha'.
    runs: its values, least first, to the runs that had them.
    common: the value that runs have in which another setting was varied.
  """

  name: str
  runs: dict[str, list[Run]]
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
    # On D4RL the penalty, a setting, is also part of the agent's name.
    agent = run.agent.split('(')[0]
    family = families[run.game, agent, run.data if run.task else '']
    family[frozenset(run.settings.items())].append(run)
  found = []
  for (game, agent, _), kinds in sorted(families.items()):
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
      factors.append(Factor(name, ordered, usual))
    found.append(Ablation(game, agent, kinds[common][0].data, factors))
  return found


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
