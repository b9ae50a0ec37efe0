"""Says game by game whether CQL is ahead of others, as docs/results.md plans.

  python scripts/verdicts.py --runs=runs/figure1_small --steps=50000 \\
    --ours='CQL, alpha 4' --out=docs/figure1

A run's score is its mean over the last three evaluations that all runs on a
game have. Where CQL's mean over seeds is above another's by more than the sum
of the standard errors, it is reproduced; where it is below by as much, not
reproduced; otherwise, and with fewer than three such evaluations or than three
seeds of either, undecided.
"""

import functools

import numpy as np

from cql_atari.analysis import document, grouping, loading
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import make_folder, write_csv, write_text
from cql_atari.runs import folder

_COMMAND = command.Command(__doc__)
_RUNS = _COMMAND.run_folders('runs')
_OUT = _COMMAND.string(
  'out', None, 'A folder for verdicts.md and verdicts.csv.'
)
_OURS = _COMMAND.string('ours', 'CQL', 'The method that is to be ahead.')
_STEPS = _COMMAND.integer(
  'steps', None, 'Leaves runs out that have not come so far.', least=1
)
_EVALUATIONS, _FEWEST_SEEDS = 3, 3
_HEADER = (
  'data', 'game', "data's mean", 'gradient steps', 'method', 'seeds', 'score',
  'verdict',
)  # fmt: skip


def verdict(ours: np.ndarray, other: np.ndarray) -> str:
  """Compares scores (seeds,) of two methods."""
  if min(len(ours), len(other)) < _FEWEST_SEEDS:
    return 'undecided: too few seeds'
  difference = ours.mean() - other.mean()
  errors = grouping.standard_error(ours) + grouping.standard_error(other)
  if abs(difference) <= errors:
    return 'undecided'
  return 'reproduced' if difference > 0 else 'not reproduced'


def main() -> None:
  """Compares by the flags."""
  if not _RUNS.value:
    raise UserError('give the runs: --runs=runs/figure1_small.')
  runs = loading.load_runs(folder.find(_RUNS.value))
  steps = _STEPS.value or 0
  runs = [run for run in runs if run.metrics['gradient_steps'][-1] >= steps]
  if not runs:
    raise UserError(f'no run has come as far as --steps={steps}.')
  groups_by_data = grouping.group_by_data(runs)
  every = grouping.checked_groups(groups_by_data)
  labels = sorted({group.label for group in every})
  if _OURS.value not in labels:
    raise UserError(
      f'no run is called {_OURS.value!r}: give one of these, such as '
      f'--ours="{labels[0]}": {", ".join(labels)}.'
    )
  rows = []
  for data, games in groups_by_data.items():
    for game, groups in games.items():
      steps = functools.reduce(
        np.intersect1d, [group.steps for group in groups.values()]
      )[-_EVALUATIONS:]
      if not len(steps):
        raise UserError(f'{game} has no evaluation that all its runs share.')
      scores = {
        label: group.returns[:, np.isin(group.steps, steps)].mean(axis=1)
        for label, group in groups.items()
      }
      for label, values in scores.items():
        if label == _OURS.value:
          said = ''
        elif _OURS.value not in scores:
          said = f'undecided: no {_OURS.value} here'
        elif len(steps) < _EVALUATIONS:
          said = 'undecided: too few evaluations'
        else:
          said = verdict(scores[_OURS.value], values)
        rows.append(
          (
            data,
            game,
            groups[label].data_mean,
            f'{steps[-1]:,.0f}',
            label,
            str(len(values)),
            grouping.with_error(values),
            said,
          )
        )
  table = document.table(_HEADER, rows)
  print(table)
  if _OUT.value:
    out = make_folder('--out', _OUT.value)
    write_csv(out / 'verdicts.csv', _HEADER, rows)
    write_text(out / 'verdicts.md', table + '\n')


if __name__ == '__main__':
  _COMMAND.run(main)
