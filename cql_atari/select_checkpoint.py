"""Chooses checkpoints offline: python -m cql_atari.select_checkpoint --run=DIR.

Which checkpoint each rule of `selection` keeps, and what that one scores beside
the best and the last. A pattern names many runs; `--out=DIR` writes the tables.
"""

import numpy as np
from absl import flags

from cql_atari.analysis import curves, document, loading, selection
from cql_atari.core import errors
from cql_atari.core.files import make_folder, write_csv, write_text, writing
from cql_atari.runs import checkpoints, trained

_RUN = flags.DEFINE_multi_string(
  'run', [], "A run folder, or a pattern such as 'runs/*'; repeatable."
)
_OUT = flags.DEFINE_string('out', None, 'A folder for the tables.')
_FQE_STEPS = flags.DEFINE_integer(
  'fqe_steps',
  5000,
  'Gradient steps of fitted Q evaluation for each checkpoint; 0 for none.',
  lower_bound=0,
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of fitted Q evaluation.', lower_bound=0
)
_COLUMNS = (
  'run', 'game', 'data', 'agent', 'seed', 'rule', 'gradient_steps', 'score',
  'best', 'last', 'worst', 'mean', 'regret', 'points_lost',
)  # fmt: skip


def main() -> None:
  """Selects by the flags."""
  if not _RUN.value:
    raise errors.UserError('give a run: --run=runs/demo/cql-0.')
  out = make_folder('out', _OUT.value) if _OUT.value else None
  runs = loading.load_runs(_RUN.value)
  for run in runs:
    saved = checkpoints.steps(run.directory / 'checkpoints')
    kept = len(selection.evaluated_steps(saved, run.metrics))
    if kept < 2:
      raise errors.UserError(
        f'{run.directory} has no two checkpoints that were evaluated: train '
        'with FixedReplayRunner.checkpoint_duration bound to num_iterations, '
        'to keep them all.'
      )
    evaluated = np.count_nonzero(~np.isnan(run.metrics['eval_return_mean']))
    if kept < evaluated:
      print(
        f'{run.directory} kept {kept} of the {evaluated} checkpoints that were '
        'evaluated: rules choose among these.'
      )
  found, rows = [], []
  for game, agents in curves.group(runs).items():
    for label, members in curves.in_order(agents):
      for run in members:
        opened = trained.TrainedRun(run.directory)
        of_run = selection.candidates(
          opened, run.metrics, _FQE_STEPS.value, _SEED.value
        )
        named = (str(run.directory), game, run.data, label, run.seed)
        found.append(of_run)
        rows += [(*named, *row) for row in _rows(of_run)]
        print(f'{game} {run.data} {label}, seed {run.seed}:')
        print(_choices(of_run), '\n')
        if out:  # After each run, for a later one may fail.
          with writing(f'--out={out}'):
            write_csv(out / 'select.csv', _COLUMNS, rows)
            write_text(out / 'select.md', _summary(found) + '\n')
  print(_summary(found))
  if out:
    print(f'The tables are in {out}.')


def _rows(of_run: selection.Candidates) -> list[tuple]:
  rows = []
  for rule in selection.RULES:
    index = of_run.chosen(rule)
    if index is not None:
      rows.append(
        (
          rule,
          int(of_run.steps[index]),
          of_run.scores[index],
          of_run.scores.max(),
          of_run.scores[-1],
          of_run.scores.min(),
          of_run.scores.mean(),
          of_run.regret(rule),
          of_run.points_lost(rule),
        )
      )
  return rows


def _choices(of_run: selection.Candidates) -> str:
  best = int(np.argmax(of_run.scores))
  lines = [('best', of_run.steps[best], of_run.scores[best])]
  lines += [(rule, steps, score) for rule, steps, score, *_ in _rows(of_run)]
  return '\n'.join(
    f'  {rule:<14}{steps:>10,}  score {score:.2f}'
    for rule, steps, score in lines
  )


def _summary(found: list[selection.Candidates]) -> str:
  """The rules by their mean regret, as a Markdown table."""
  judged = selection.judge(found)
  ranked = sorted(
    (rule for rule in judged if len(judged[rule].regrets)),
    key=lambda rule: judged[rule].regrets.mean(),
  )
  rows = []
  for rule in ranked:
    of_rule = judged[rule]
    lost = of_rule.points_lost
    rows.append(
      (
        rule,
        selection.RULES[rule],
        curves.with_error(of_rule.regrets, 2),
        curves.with_error(of_rule.regrets - of_rule.of_last, 2),
        f'{of_rule.of_any.mean():.2f}',
        curves.with_error(lost) if len(lost) else '',
        str(len(of_rule.regrets)),
      )
    )
  header = (
    'rule', 'what it goes by', 'mean regret', "more than the last's", 'of any',
    'points lost', 'runs',
  )  # fmt: skip
  return document.Table(header, rows).markdown()


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
