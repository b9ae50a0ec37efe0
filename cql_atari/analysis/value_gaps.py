"""Tables and figures of predicted and true values: the paper's Table 4."""

import collections
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker

from cql_atari.analysis import document, grouping, loading, plotting, values
from cql_atari.analysis.loading import LoadedRun
from cql_atari.analysis.plotting import plt
from cql_atari.core.errors import UserError
from cql_atari.core.files import write_csv, write_text, writing
from cql_atari.core.protocols import Agent
from cql_atari.runs import checkpoints
from cql_atari.runs.folder import RunFolder
from cql_atari.runs.trained import TrainedRun

COLUMNS = {
  'run': 'run folder',
  'game': 'game',
  'data': 'data',
  'agent': 'agent',
  'seed': 'seed',
  'values': 'values',
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
_MEASURES = {  # Of a difference, by the column.
  'paper_difference': "as in Table 4, over the data's states",
  'difference': 'on the states that the policy reaches',
}
_WIDE = 30  # Beyond it, differences are drawn on a logarithmic axis.


class Evaluation(NamedTuple):
  """Which values of a policy are compared with the true ones.

  Attributes:
    values: 'own', those that the agent learned; 'fqe', fitted Q evaluation's
      of its policy; 'eq1' or 'eq2', those of the paper's conservative
      evaluation by that equation.
    alpha: the penalty's weight.
    steps: gradient steps of an evaluation.
  """

  values: str = 'own'
  alpha: float = 0.0
  steps: int = 0

  @property
  def label(self) -> str:
    """Such as 'own' or 'Eq. 2, alpha 1'."""
    if self.values not in _PENALTIES:
      return {'own': 'own', 'fqe': 'fitted Q'}[self.values]
    return f'Eq. {self.values[-1]}, alpha {self.alpha:g}'

  def fit(self, run: TrainedRun, seed: int) -> Agent:
    """Learns the values of a run's policy."""
    if self.values == 'own':
      return run.agent
    settings = {}
    if self.values in _PENALTIES:
      settings = {'penalty': _PENALTIES[self.values], 'alpha': self.alpha}
    fitted = run.fitted_q(seed, **settings)
    fitted.train_steps(self.steps, True, f'evaluating, {self.label}')
    return fitted


_PENALTIES = {'eq1': 'eq1', 'eq2': 'mu'}


def measure(
  run: LoadedRun,
  label: str,
  episodes: int,
  states: int,
  seed: int,
  evaluation: Evaluation,
) -> dict | None:
  """A row of the table: a run at its newest checkpoint.

  Args:
    run: the run.
    label: what it is called among the others.
    episodes: least number of episodes to play.
    states: how many states of the data.
    seed: seeds the play and the states drawn.
    evaluation: which values.

  Returns:
    A value of each of COLUMNS; None for an agent that learns no values, where
    its own are asked for.
  """
  opened = TrainedRun(run.directory)
  if evaluation.values == 'own' and not opened.agent.has_values:
    return None
  opened.data.learned_rewards(np.zeros(1))  # Refuses those that no play has.
  critic = evaluation.fit(opened, seed)
  gap = values.measure(opened, episodes, states, seed, critic)
  return {
    'run': str(run.directory),
    'game': run.game,
    'data': run.data,
    'agent': label,
    'seed': run.seed,
    'values': evaluation.label,
    'gradient_steps': opened.gradient_steps,
    **{name: getattr(gap, name) for name in COLUMNS if hasattr(gap, name)},
  }


def compare(
  folders: Sequence[RunFolder],
  episodes: int,
  states: int,
  seed: int,
  evaluation: Evaluation,
  out: pathlib.Path | None,
) -> None:
  """Measures runs and tells, game by game.

  Args:
    folders: the runs.
    episodes: see `measure`.
    states: see `measure`.
    seed: see `measure`.
    evaluation: see `measure`.
    out: where the table and the figure go, after each run, for a later one may
      fail; None for neither.

  Raises:
    UserError: a run without checkpoints, or none that learns values.
  """
  runs = loading.load_runs(folders, need_evaluation=False)
  for run in runs:
    if not checkpoints.steps(RunFolder(run.directory).checkpoints):
      raise UserError(f'{run.directory} has no checkpoint: leave it out.')
  rows = []
  for label, run in grouping.runs_with_labels(runs):
    row = measure(run, label, episodes, states, seed, evaluation)
    if row is None:
      print(
        f'{run.directory}: {label} learns no values; --values=fqe does.',
        flush=True,
      )
      continue
    print(sentence(row), flush=True)
    rows.append(row)
    if out:
      _write(rows, out)
  if not rows:
    raise UserError('none of the runs learns values: give others.')
  if out:
    print(f'The table and the figure are in {out}.')


def _write(rows: Sequence[dict], out: pathlib.Path) -> None:
  columns = list(COLUMNS)
  cells = [[row[name] for name in columns] for row in rows]
  with writing(f'--out={out}'):
    write_csv(out / 'value_gap.csv', columns, cells)
    text = '\n\n'.join([*over_seeds(rows), table(rows)])
    write_text(out / 'value_gap.md', text)
    plotting.save(figure(rows), out / 'value_gap.png')


def sentence(row: dict) -> str:
  """A row in words."""
  return (
    f'{row["game"]} {row["data"]} {_name(row)}, seed {row["seed"]}: '
    f'predicted {row["on_visited"]:.4g}, true {row["visited_return"]:.4g}, '
    f'difference {row["difference"]:.4g} (95 %: {row["low"]:.4g} to '
    f'{row["high"]:.4g}); {row["paper_difference"]:.4g} as in Table 4.'
  )


def _name(row: dict) -> str:
  """The agent's label, and the evaluation unless it is the agent's own."""
  if row['values'] == 'own':
    return row['agent']
  return f'{row["agent"]} by {row["values"]}'


def table(rows: Sequence[dict]) -> str:
  """The rows as a Markdown table."""
  names = list(COLUMNS)[1:]
  body = [
    [f'{r[n]:.4g}' if isinstance(r[n], float) else str(r[n]) for n in names]
    for r in rows
  ]
  return document.table([COLUMNS[name] for name in names], body) + '\n'


def over_seeds(rows: Sequence[dict]) -> Iterator[str]:
  """Tables like Table 4: agents by games, means over seeds."""
  games = sorted({(row['game'], row['data']) for row in rows})
  agents = list(dict.fromkeys(map(_name, rows)))  # 10 critics after 2.
  for column, title in _MEASURES.items():
    found = collections.defaultdict(list)
    for row in rows:
      found[_name(row), row['game'], row['data']].append(row[column])
    body = [
      [agent, *(_mean(found[agent, game, data]) for game, data in games)]
      for agent in agents
    ]
    yield f'Predicted minus true value {title}, ± standard errors over seeds:'
    yield document.table(['agent', *map(', '.join, games)], body)


def _mean(differences: Sequence[float]) -> str:
  if not differences:
    return ''
  large = np.abs(differences).max() >= 100
  return grouping.with_error(np.array(differences), 0 if large else 1)


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
    places, widest = np.arange(len(shown)), 0.0
    for prefix, marker, color, label in (
      ('', 'o', '#0072B2', 'states the policy reaches'),
      ('paper_', 'x', '#D55E00', "as in Table 4: the data's states"),
    ):
      middle = np.array([row[f'{prefix}difference'] for row in shown])
      widest = max(widest, np.abs(middle).max())
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
      labels.append(f'{of_data}{_name(row)}, seed {row["seed"]}')
    panel.set_yticks(places, labels)
    panel.axvline(0, color='k', lw=0.8)
    title = game if len(datas) > 1 else f'{game}, {datas.pop()}'
    panel.set(title=title, xlabel='predicted minus true value')
    panel.margins(x=0.1)
    if widest > _WIDE:
      _use_symlog_axis(panel)
    plotting.plain(panel)
  plotting.legend_of_figure(canvas, panels[0, 0])
  return canvas


def _use_symlog_axis(panel: plt.Axes) -> None:
  """A logarithmic axis beyond _WIDE, with few and readable ticks."""
  panel.set_xscale('symlog', linthresh=_WIDE)
  low, high = panel.get_xlim()
  first = int(np.ceil(np.log10(_WIDE)))
  last = int(np.log10(max(-low, high)))
  step = 1 + max(last - first, 0) // 4
  ticks = [10.0**k for k in range(last, first - 1, -step)] or [_WIDE]
  ticks = [-tick for tick in ticks] + [0.0] + ticks[::-1]
  panel.set_xticks([tick for tick in ticks if low <= tick <= high])
  panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  panel.xaxis.set_minor_locator(ticker.NullLocator())
