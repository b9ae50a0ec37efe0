"""Learning curves of finished or running runs, and their table."""

import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import matplotlib
import numpy as np
from absl import logging

from cql_atari.analysis.loading import Run
from cql_atari.core.errors import UserError

matplotlib.use('Agg')
import matplotlib.pyplot as plt

# Okabe and Ito's palette, told apart by colour-blind readers too.
_COLORS = (
  '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000',
)  # fmt: skip
_MARKERS = 'osD^vPX*'
_LINES = ('-', '--', ':')
_PANEL_WIDTH = 5.6  # Inches.


def group(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
  """Runs by game, then by what they ran.

  Returns:
    Game to label to runs. The label is the agent's name; where an agent ran
    with several settings, those that differ are part of it, but for values that
    most of its settings have in common.
  """
  games = defaultdict(lambda: defaultdict(list))
  for run in runs:
    games[run.game][run.agent].append(run)
  labelled = defaultdict(dict)
  for game, agents in games.items():
    for agent, members in agents.items():
      for run in members:
        label = ', '.join([agent, *_differences(run, members)])
        labelled[game].setdefault(label, []).append(run)
  return labelled


def in_order(agents: dict[str, list[Run]]) -> list[tuple[str, list[Run]]]:
  """Labels and their runs, numbers in labels by their size."""
  return sorted(agents.items(), key=lambda item: by_size(item[0]))


def by_size(label: str) -> list:
  """A key to sort by: words and numbers in turn."""
  parts = re.split(r'(\d+(?:\.\d+)?)', label)
  return [float(p) if index % 2 else p for index, p in enumerate(parts)]


def _differences(run: Run, members: Sequence[Run]) -> list[str]:
  """The settings of a run that most others of the same agent do not share."""
  kinds = {frozenset(other.settings.items()) for other in members}
  different = []
  for name in sorted({name for other in members for name in other.settings}):
    value = run.settings.get(name)
    counts = Counter(dict(kind).get(name) for kind in kinds)
    if len(counts) > 1 and 2 * counts[value] <= len(kinds):
      shown = 'unset' if value is None else value
      different.append(f'{name.split(".")[-1]} {shown}')
  return different


def mean_curve(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
  """Evaluation returns of runs of one kind, on the steps that all have.

  Returns:
    Gradient steps (T,) and returns (runs, T).

  Raises:
    UserError: the runs have no evaluation at the same step.
  """
  steps = runs[0].metrics['gradient_steps']
  for run in runs[1:]:
    steps = np.intersect1d(steps, run.metrics['gradient_steps'])
  if not len(steps):
    raise UserError(
      f'{", ".join(str(run.directory) for run in runs)} were never evaluated '
      'at the same gradient step: plot them apart.'
    )
  last = max(run.metrics['gradient_steps'][-1] for run in runs)
  if steps[-1] < last:
    logging.warning(
      '%s has runs of different lengths: all are shown up to step %d only.',
      runs[0].agent,
      steps[-1],
    )
  returns = [
    run.metrics['eval_return_mean'][
      np.isin(run.metrics['gradient_steps'], steps)
    ]
    for run in runs
  ]
  return steps, np.stack(returns)


def _count(runs: Sequence[Run]) -> str:
  seeds = len({run.seed for run in runs})
  if seeds < len(runs):
    return f'{len(runs)} runs of {seeds} seed{"s" * (seeds > 1)}'
  return f'{seeds} seed{"s" * (seeds > 1)}'


def plot(runs: Sequence[Run], out: str | os.PathLike) -> pathlib.Path:
  """Draws evaluation return against gradient steps, one panel a game.

  A line is the mean over an agent's runs (seeds), its band the standard error
  of the mean; the dashed line is the mean return of the data's games.

  Args:
    runs: the runs.
    out: the picture's file; its ending names the format, .png by default.

  Returns:
    The file.

  Raises:
    UserError: the file can't be written.
  """
  figure, panels = game_panels(runs)
  for panel, (_, agents) in panels:
    draw(panel, agents, styles(runs))
    panel.set(ylabel='evaluation return')
  out = pathlib.Path(out).expanduser()
  if not out.suffix:
    out = out.with_suffix('.png')
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    save(figure, out)
  except (OSError, ValueError) as error:
    raise UserError(f'the picture {out} cannot be written ({error}).') from None
  return out


def save(figure: plt.Figure, *files: pathlib.Path) -> None:
  """Writes a figure to each file, and closes it."""
  legends = [panel.get_legend() for panel in figure.axes if panel.get_legend()]
  try:
    for legend in legends:  # Below the panels, which keep their size.
      legend.set_in_layout(False)
    figure.tight_layout()
    for legend in legends:
      legend.set_in_layout(True)
    for file in files:
      figure.savefig(file, dpi=150, bbox_inches='tight')
  finally:
    plt.close(figure)


def game_panels(
  runs: Sequence[Run], rows: int = 1
) -> tuple[plt.Figure, list[tuple]]:
  """A figure with a column a game.

  Args:
    runs: the runs.
    rows: panels of each game.

  Returns:
    The figure, and for each game its panel (an array of them where there are
    several rows) and (game, label to runs), ordered by name.
  """
  games = sorted(group(runs).items())
  figure, panels = plt.subplots(
    rows,
    len(games),
    figsize=(_PANEL_WIDTH * len(games), 3.6 * rows),
    squeeze=False,
  )
  for number, row in enumerate(panels, 1):
    for panel, (game, _) in zip(row, games):
      if number == 1:
        panel.set(title=game)
      if number == rows:
        panel.set(xlabel='gradient steps')
      panel.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=''))
      panel.grid(alpha=0.25)
      panel.spines[['top', 'right']].set_visible(False)
  columns = panels[0] if rows == 1 else panels.T
  return figure, list(zip(columns, games))


def styles(runs: Sequence[Run]) -> dict[str, dict]:
  """One look for each label, the same in every panel."""
  labels = sorted(set().union(*group(runs).values()), key=by_size)
  return {
    label: {
      'color': _COLORS[index % len(_COLORS)],
      'marker': _MARKERS[index % len(_MARKERS)],
      'ls': _LINES[index // len(_COLORS) % len(_LINES)],
      # The first line is often covered by the others.
      'lw': 2 if index else 4,
      'ms': 4 if index else 6,
    }
    for index, label in enumerate(labels)
  }


def draw(
  panel: plt.Axes,
  agents: dict[str, list[Run]],
  styles: dict[str, dict],
) -> None:
  """Draws the curves of a game's agents, and the mean game of the data.

  Args:
    panel: where.
    agents: label to runs.
    styles: label to look.
  """
  for agent, members in in_order(agents):
    steps, returns = mean_curve(members)
    mean, style = returns.mean(axis=0), styles[agent]
    panel.plot(steps, mean, label=f'{agent} ({_count(members)})', **style)
    if len(members) > 1:
      width = standard_error(returns)
      panel.fill_between(
        steps,
        mean - width,
        mean + width,
        color=style['color'],
        alpha=0.2,
        linewidth=0,
      )
  behaviors = {
    run.behavior_return['mean']: run.behavior_return
    for members in agents.values()
    for run in members
    if run.behavior_return
  }
  for behavior in behaviors.values():
    panel.axhline(
      behavior['mean'],
      color='0.35',
      linestyle='--',
      linewidth=1,
      label='data, mean game'
      + (' (clipped rewards)' if 'clipped' in behavior['source'] else ''),
    )
  legend_below(panel, *panel.get_legend_handles_labels())


def legend_below(panel: plt.Axes, handles: Sequence, labels: list[str]) -> None:
  """Puts a legend under a panel, no wider than that."""
  longest = max(map(len, labels))
  panel.legend(
    handles,
    labels,
    frameon=False,
    loc='upper center',
    bbox_to_anchor=(0.5, -0.18),
    ncols=max(1, min(3, int(_PANEL_WIDTH / (0.4 + 0.07 * longest)))),
    fontsize='small',
  )


def table(runs: Sequence[Run]) -> str:
  """A Markdown table: final and best evaluation return of every agent.

  Means over runs ± the standard error of the mean. Best is the highest point of
  each run's own curve, so it is optimistic; final is the last point.
  """
  lines = [
    '| game | agent | seeds | gradient steps | final return | best return '
    '| mean game of the data |',
    '|---|---|---|---|---|---|---|',
  ]
  for game, agents in sorted(group(runs).items()):
    for agent, members in in_order(agents):
      steps, returns = mean_curve(members)
      behavior = members[0].behavior_return
      cells = (
        game,
        agent,
        _count(members).removesuffix(' seeds').removesuffix(' seed'),
        f'{int(steps[-1]):,}',
        with_error(returns[:, -1]),
        with_error(np.max(returns, axis=1)),
        f'{behavior["mean"]:.1f}' if behavior else '',
      )
      lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def standard_error(values: np.ndarray) -> np.ndarray:
  """Of the mean over runs, (runs, ...) -> (...); NaN for a single run."""
  if len(values) < 2:
    return np.full(values.shape[1:], np.nan)
  return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))


def with_error(values: np.ndarray, digits: int = 1) -> str:
  """A mean over runs (runs,) and its standard error, such as '4.5 ± 1.5'."""
  text = f'{np.mean(values):.{digits}f}'
  if len(values) < 2:
    return text
  return f'{text} ± {standard_error(values):.{digits}f}'
