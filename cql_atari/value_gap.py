"""Predicted and true values: python -m cql_atari.value_gap --run=DIR.

The paper's Table 4 for any runs, of Atari or D4RL: what an agent predicts its
policy to be worth, and what it is worth in play. A pattern names many runs, as
in --run='runs/small/Pong/*/0'. `--out=DIR` writes the table and a figure.
"""

import collections
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from absl import flags

from cql_atari.analysis import curves, document, loading, true_values
from cql_atari.core import errors
from cql_atari.core.files import make_folder, write_csv, write_text, writing
from cql_atari.runs import checkpoints, trained

matplotlib.use('Agg')
import matplotlib.pyplot as plt

_RUN = flags.DEFINE_multi_string(
  'run', [], "A run folder, or a pattern such as 'runs/*'; repeatable."
)
_OUT = flags.DEFINE_string('out', None, 'A folder for the table and a figure.')
_EPISODES = flags.DEFINE_integer(
  'episodes', 10, 'Least number of episodes of each run.', lower_bound=1
)
_STATES = flags.DEFINE_integer(
  'states', 2000, 'Of the data, for the mean over them.', lower_bound=1
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of play and states.', lower_bound=0)
_COLUMNS = {
  'run': 'run folder',
  'game': 'game',
  'data': 'data',
  'agent': 'agent',
  'seed': 'seed',
  'gradient_steps': 'gradient steps',
  'on_data': 'predicted, data',
  'at_start': 'predicted, start',
  'start_return': 'true, start',
  'on_visited': 'predicted, visited',
  'visited_return': 'true, visited',
  'difference': 'difference, visited',
  'low': '95 % from',
  'high': 'to',
  'paper_difference': "difference, paper's",
  'paper_low': '95 % from',
  'paper_high': 'to',
  'episodes': 'episodes',
}
_FIRST_NUMBER = 6  # Columns before it are texts.
_WIDE = 30  # Beyond it, differences are drawn on a logarithmic axis.


def main() -> None:
  """Measures by the flags."""
  if not _RUN.value:
    raise errors.UserError('give a run: --run=runs/demo/cql-0.')
  out = make_folder('out', _OUT.value) if _OUT.value else None
  runs = loading.load_runs(_RUN.value, need_evaluation=False)
  for run in runs:
    if not checkpoints.steps(run.directory / 'checkpoints'):
      raise errors.UserError(
        f'{run.directory} has no checkpoint: leave it out.'
      )
    if run.task and run.task.domain == 'kitchen':
      raise errors.UserError(
        f'{run.directory} is of the kitchen, whose data pay for finished tasks '
        'at every step, play only once: leave it out.'
      )
  rows = []
  for game, agents in curves.group(runs).items():
    for label, members in curves.in_order(agents):
      for run in members:
        row = _measure(run, game, label)
        if row is None:
          print(f'{run.directory}: {label} learns no values.', flush=True)
          continue
        print(_sentence(row), flush=True)
        rows.append(row)
        if out:  # After each run, for a later one may fail.
          _write(rows, out)
  if not rows:
    raise errors.UserError('none of the runs learns values: give others.')
  if out:
    print(f'The table and the figure are in {out}.')


def _write(rows: Sequence[dict], out: pathlib.Path) -> None:
  columns = list(_COLUMNS)
  with writing(f'--out={out}'):
    write_csv(
      out / 'value_gap.csv', columns, [[r[c] for c in columns] for r in rows]
    )
    write_text(out / 'value_gap.md', _table(rows))
    curves.save(_figure(rows), out / 'value_gap.png')


def _measure(run: loading.Run, game: str, label: str) -> dict | None:
  opened = trained.TrainedRun(run.directory)
  if not opened.agent.HAS_VALUES:
    return None
  gap = true_values.measure(opened, _EPISODES.value, _STATES.value, _SEED.value)
  names = list(_COLUMNS)[_FIRST_NUMBER:]
  return {
    'run': str(run.directory),
    'game': game,
    'data': run.data,
    'agent': label,
    'seed': run.seed,
    'gradient_steps': opened.gradient_steps,
    **{name: getattr(gap, name) for name in names},
  }


def _sentence(row: dict) -> str:
  return (
    f'{row["game"]} {row["data"]} {row["agent"]}, seed {row["seed"]}: '
    f'predicted {row["on_visited"]:.4g}, true {row["visited_return"]:.4g}, '
    f'difference {row["difference"]:.4g} (95 %: {row["low"]:.4g} to '
    f'{row["high"]:.4g}); {row["paper_difference"]:.4g} as in Table 4.'
  )


def _table(rows: Sequence[dict]) -> str:
  names = list(_COLUMNS)[1:]
  body = [
    [f'{r[n]:.4g}' if isinstance(r[n], float) else str(r[n]) for n in names]
    for r in rows
  ]
  table = document.Table([_COLUMNS[name] for name in names], body)
  return table.markdown() + '\n'


def _figure(rows: Sequence[dict]) -> plt.Figure:
  """Differences with their intervals, one panel a game."""
  rows_of = collections.Counter(row['game'] for row in rows)
  games, most = sorted(rows_of), max(rows_of.values())
  figure, panels = plt.subplots(
    1, len(games), figsize=(5.6 * len(games), 1.2 + 0.25 * most),
    squeeze=False,
  )  # fmt: skip
  for panel, game in zip(panels[0], games):
    shown = [row for row in rows if row['game'] == game][::-1]
    places = np.arange(len(shown))
    for prefix, marker, color, label in (
      ('', 'o', '#0072B2', 'states the policy reaches'),
      ('paper_', 'x', '#D55E00', "as in Table 4: the data's states"),
    ):
      middle = np.array([row[f'{prefix}difference'] for row in shown])
      reach = [
        middle - [row[f'{prefix}low'] for row in shown],
        [row[f'{prefix}high'] for row in shown] - middle,
      ]
      panel.errorbar(
        middle, places, xerr=np.maximum(reach, 0), fmt=marker, capsize=3,
        color=color, label=label,
      )  # fmt: skip
    datas, labels = {row['data'] for row in shown}, []
    for row in shown:
      of_data = f'{row["data"]}, ' if len(datas) > 1 else ''
      labels.append(f'{of_data}{row["agent"]}, seed {row["seed"]}')
    panel.set_yticks(places, labels)
    panel.axvline(0, color='k', lw=0.8)
    title = game if len(datas) > 1 else f'{game}, {datas.pop()}'
    panel.set(title=title, xlabel='predicted less true value')
    widest = max(
      abs(row[name])
      for row in shown
      for name in ('difference', 'paper_difference')
    )
    if widest > _WIDE:
      panel.set_xscale('symlog', linthresh=_WIDE)
      panel.xaxis.get_major_locator().set_params(numticks=6)
    panel.margins(x=0.1)
    panel.grid(alpha=0.25)
    panel.spines[['top', 'right']].set_visible(False)
  handles, labels = panels[0, 0].get_legend_handles_labels()
  figure.legend(
    handles,
    labels,
    frameon=False,
    loc='upper left',
    ncols=2,
    bbox_to_anchor=(0.0, 0.0),
  )
  return figure


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
