"""Chooses a checkpoint: python -m cql_atari.select_checkpoint --run=DIR.

Which checkpoint each rule of `analysis.selection` keeps, and what that one
scores beside the best and the last. A pattern names many runs; `--out=DIR`
writes the tables.
"""

import functools

import numpy as np

from cql_atari.analysis import grouping, loading, selection
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import make_folder, write_csv, write_text, writing
from cql_atari.runs import checkpoints, folder, trained

_COMMAND = command.Command(__doc__)
_RUN = _COMMAND.run_folders()
_OUT = _COMMAND.string('out', None, 'A folder for the tables.')
_FQE_STEPS = _COMMAND.integer(
  'fqe_steps',
  5000,
  'Gradient steps of fitted Q evaluation for each checkpoint; 0 for none.',
  least=0,
)
_SEED = _COMMAND.seed('fitted Q evaluation')
_COLUMNS = (
  'run', 'game', 'data', 'agent', 'seed', 'rule', 'gradient_steps', 'score',
  'best', 'last', 'worst', 'mean', 'regret', 'points_lost',
)  # fmt: skip


def main() -> None:
  """Selects by the flags."""
  if not _RUN.value:
    raise UserError('give a run: --run=runs/demo/cql-0.')
  out = make_folder('out', _OUT.value) if _OUT.value else None
  runs = loading.load_runs(folder.find(_RUN.value))
  for run in runs:
    _check(run)
  candidates, rows = [], []
  for game, groups in grouping.by_game(runs).items():
    for label, group in groups.items():
      for run in group.runs:
        opened = trained.TrainedRun(run.directory)
        of_run = selection.candidates(
          opened, run.metrics, _FQE_STEPS.value, _SEED.value
        )
        named = (str(run.directory), game, run.data, label, run.seed)
        candidates.append(of_run)
        rows += [(*named, *row) for row in selection.rows(of_run)]
        print(f'{game} {run.data} {label}, seed {run.seed}:')
        print(selection.choices(of_run), '\n')
        if out:  # After each run, for a later one may fail.
          with writing(f'--out={out}'):
            write_csv(out / 'select.csv', _COLUMNS, rows)
            write_text(out / 'select.md', selection.summary(candidates) + '\n')
  print(selection.summary(candidates))
  if out:
    print(f'The tables are in {out}.')


def _check(run: loading.Run) -> None:
  """Refuses a run that leaves nothing to choose."""
  saved = checkpoints.steps(folder.RunFolder(run.directory).checkpoints)
  kept = len(selection.evaluated_steps(saved, run.metrics))
  if kept < 2:
    raise UserError(
      f'{run.directory} has no two checkpoints that were evaluated: train with '
      'FixedReplayRunner.checkpoint_duration bound to num_iterations, to keep '
      'them all.'
    )
  evaluated = np.count_nonzero(~np.isnan(run.metrics['eval_return_mean']))
  if kept < evaluated:
    print(
      f'{run.directory} kept {kept} of the {evaluated} checkpoints that were '
      'evaluated: rules choose among these.'
    )


run = functools.partial(_COMMAND.run, main)

if __name__ == '__main__':
  run()
