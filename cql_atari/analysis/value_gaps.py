"""Tables and figures of predicted and true values: the paper's Table 4."""

import collections
from collections.abc import Sequence

import numpy as np

from cql_atari.analysis import curves, document, values
from cql_atari.analysis.curves import plt
from cql_atari.analysis.loading import Run
from cql_atari.runs.trained import TrainedRun

COLUMNS = {
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


def measure(
  run: Run, label: str, episodes: int, states: int, seed: int
) -> dict | None:
  """A row of the table: a run at its newest checkpoint.

  Args:
    run: the run.
    label: what it is called among the others.
    episodes: least number of episodes to play.
    states: how many states of the data.
    seed: seeds the play and the states drawn.

  Returns:
    A value of each of COLUMNS; None for an agent that learns no values.
  """
  opened = TrainedRun(run.directory)
  if not opened.agent.has_values:
    return None
  gap = values.measure(opened, episodes, states, seed)
  names = list(COLUMNS)[_FIRST_NUMBER:]
  return {
    'run': str(run.directory),
    'game': run.game,
    'data': run.data,
    'agent': label,
    'seed': run.seed,
    'gradient_steps': opened.gradient_steps,
    **{name: getattr(gap, name) for name in names},
  }


def sentence(row: dict) -> str:
  """A row in words."""
  return (
    f'{row["game"]} {row["data"]} {row["agent"]}, seed {row["seed"]}: '
    f'predicted {row["on_visited"]:.4g}, true {row["visited_return"]:.4g}, '
    f'difference {row["difference"]:.4g} (95 %: {row["low"]:.4g} to '
    f'{row["high"]:.4g}); {row["paper_difference"]:.4g} as in Table 4.'
  )


def table(rows: Sequence[dict]) -> str:
  """The rows as a Markdown table."""
  names = list(COLUMNS)[1:]
  body = [
    [f'{r[n]:.4g}' if isinstance(r[n], float) else str(r[n]) for n in names]
    for r in rows
  ]
  return document.table([COLUMNS[name] for name in names], body) + '\n'


def figure(rows: Sequence[dict]) -> plt.Figure:
  """Differences with their intervals, one panel a game."""
  rows_of = collections.Counter(row['game'] for row in rows)
  games, most = sorted(rows_of), max(rows_of.values())
  canvas, panels = plt.subplots(
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
    curves.plain(panel)
  handles, labels = panels[0, 0].get_legend_handles_labels()
  canvas.legend(
    handles,
    labels,
    frameon=False,
    loc='upper left',
    ncols=2,
    bbox_to_anchor=(0.0, 0.0),
  )
  return canvas
