"""Learning curves of finished or running runs, and their table."""

import itertools
import os
import pathlib
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from cql_atari.analysis import document
from cql_atari.analysis.grouping import (
  Games,
  Group,
  by_game,
  by_size,
  standard_error,
  with_error,
)
from cql_atari.analysis.loading import load_runs
from cql_atari.core.errors import UserError
from cql_atari.core.files import whole_path
from cql_atari.runs import folder

# Okabe and Ito's palette, told apart by colour-blind readers too.
_COLORS = (
  '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000',
)  # fmt: skip
_MARKERS = 'osD^vPX*'
# Of each the look is fixed: colors in turn, then dashed ones.
_METHODS = (
  'CQL', 'QR-DQN', 'REM', 'BC', 'DQN', 'C51', 'CQL-DQN',
  'CQL(H)', 'SAC', 'CQL(rho)', 'BEAR', 'BRAC-v', 'BRAC-p', 'CQL-C51',
)  # fmt: skip
_LINES = ('-', '--', ':')
_PANEL_WIDTH = 5.6  # Inches.


def plot(games: Games, out: str | os.PathLike) -> pathlib.Path:
  """Draws evaluation return against gradient steps, one panel a game.

  A line is the mean over a group's runs (seeds), its band the standard error of
  the mean; the dashed line is the mean return of the data's games.

  Args:
    games: what to draw.
    out: the picture's file; its ending names the format, .png by default.

  Returns:
    The file.

  Raises:
    UserError: the file can't be written.
  """
  out = pathlib.Path(out).expanduser()
  if not out.suffix:
    out = out.with_suffix('.png')
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    save(learning_curves(games), out)
  except (OSError, ValueError) as error:
    raise UserError(f'the picture {out} cannot be written ({error}).') from None
  return out


def plot_runs(
  runs: str | os.PathLike | Sequence[str | os.PathLike],
) -> plt.Figure:
  """The learning curves of run folders, as `python -m cql_atari.plot` draws.

  Args:
    runs: folders, or patterns such as 'runs/*'.

  Raises:
    UserError: there is no such run, or none with an evaluation.
  """
  if isinstance(runs, (str, os.PathLike)):
    runs = [runs]
  folders = folder.find([str(run) for run in runs])
  return learning_curves(by_game(load_runs(folders)))


def learning_curves(games: Games) -> plt.Figure:
  """The figure that `plot` writes: the paper's Figure 1."""
  figure, panels = game_panels(games)
  looks = styles(games)
  for panel, groups in zip(panels[0], games.values()):
    for label, group in groups.items():
      _draw(panel, group, looks[label])
    _draw_data(panel, groups)
    benchmark = next(iter(groups.values())).runs[0].benchmark
    panel.set(ylabel=benchmark.return_label)
    legend_below(panel, *panel.get_legend_handles_labels())
  return figure


def _draw(panel: plt.Axes, group: Group, look: dict) -> None:
  label = f'{group.label} ({group.count})'
  draw_band(panel, group.steps, group.returns, label, look)


def draw_band(
  panel: plt.Axes,
  steps: np.ndarray,
  values: np.ndarray,
  label: str,
  look: dict,
) -> None:
  """A line, the mean over runs, in a band of its standard error.

  Args:
    panel: where.
    steps: (T,).
    values: (runs, T).
    label: for the legend.
    look: of `styles`.
  """
  mean = values.mean(axis=0)
  panel.plot(steps, mean, label=label, **look)
  if len(values) > 1:
    width = standard_error(values)
    panel.fill_between(
      steps, mean - width, mean + width, color=look['color'], alpha=0.2,
      linewidth=0,
    )  # fmt: skip


def _draw_data(panel: plt.Axes, groups: dict[str, Group]) -> None:
  """A dashed line at the mean game of the data."""
  runs = [run for group in groups.values() for run in group.runs]
  means = {run.mean_game: run for run in runs if run.mean_game is not None}
  for mean, run in means.items():
    clipped = ' (clipped rewards)' if run.mean_game_is_clipped else ''
    panel.axhline(
      mean, color='0.35', linestyle='--', linewidth=1,
      label=f'data, mean game{clipped}',
    )  # fmt: skip


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
      with whole_path(file) as partial:
        figure.savefig(partial, dpi=150, bbox_inches='tight')
  finally:
    plt.close(figure)


def game_panels(games: Games, rows: int = 1) -> tuple[plt.Figure, np.ndarray]:
  """A figure with a column a game.

  Args:
    games: what it will show.
    rows: panels of each game.

  Returns:
    The figure and its panels, (rows, games).
  """
  figure, panels = plt.subplots(
    rows,
    len(games),
    figsize=(_PANEL_WIDTH * len(games), 3.6 * rows),
    squeeze=False,
  )
  for column, game in zip(panels.T, games):
    column[0].set(title=game)
    column[-1].set(xlabel='gradient steps')
    for panel in column:
      panel.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=''))
      plain(panel)
  return figure, panels


def plain(panel: plt.Axes) -> None:
  """A panel with a faint grid and no box."""
  panel.grid(alpha=0.25)
  panel.spines[['top', 'right']].set_visible(False)


def styles(games: Games) -> dict[str, dict]:
  """One look for each label, a method's the same in every figure."""
  labels = sorted(set().union(*games.values()), key=by_size)
  looks: dict[str, int] = {}
  for is_its_name in (str.__eq__, str.startswith):
    for label in labels:
      for look, method in enumerate(_METHODS):
        free = label not in looks and look not in looks.values()
        if free and is_its_name(label, method):
          looks[label] = look
  others = (look for look in itertools.count() if look not in looks.values())
  for label in labels:
    if label not in looks:
      looks[label] = next(others)
  return {
    label: {
      'color': _COLORS[look % len(_COLORS)],
      'marker': _MARKERS[look % len(_MARKERS)],
      'ls': _LINES[look // len(_COLORS) % len(_LINES)],
      # The first line is often covered by the others.
      'lw': 2 if index else 4,
      'ms': 4 if index else 6,
    }
    for index, (label, look) in enumerate(
      (label, looks[label]) for label in labels
    )
  }


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


def table(games: Games) -> str:
  """A Markdown table: final and best evaluation return of every group.

  Means over runs ± the standard error of the mean. Best is the highest point of
  each run's own curve, so it is optimistic; final is the last point.
  """
  header = (
    'game', 'agent', 'seeds', 'gradient steps', 'final return', 'best return',
    'mean game of the data',
  )  # fmt: skip
  rows = [
    (
      game,
      label,
      group.count.removesuffix(' seeds').removesuffix(' seed'),
      f'{group.gradient_steps:,}',
      with_error(group.final),
      with_error(group.peak),
      data_cell(group),
    )
    for game, groups in games.items()
    for label, group in groups.items()
  ]
  return document.table(header, rows)


def data_cell(group: Group) -> str:
  """The mean game of the data, with a word where rewards are clipped."""
  run = group.runs[0]
  if run.mean_game is None:
    return ''
  clipped = ' (clipped)' if run.mean_game_is_clipped else ''
  return f'{run.mean_game:.1f}{clipped}'
