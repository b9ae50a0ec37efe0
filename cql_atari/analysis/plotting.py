"""The style of every figure: panels, bands, legends, one look a method."""

import itertools
import pathlib
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt  # Draws to files: core.command sees to that.
import numpy as np

from cql_atari.analysis.grouping import (
  GroupsByGame,
  natural_sort_key,
  standard_error,
)
from cql_atari.core.files import atomic_path

# Okabe and Ito's palette, told apart by colour-blind readers too.
_COLORS = (
  '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000',
)  # fmt: skip
_MARKERS = 'osD^vPX*'
# A method's index fixes its colour and line in every figure. A column has one
# colour: what stands below BC is not often drawn beside it.
_METHODS = (
  'CQL', 'QR-DQN', 'REM', 'BC', 'DQN', 'C51', 'CQL-DQN',
  'CQL(H)', 'SAC', 'CQL(rho)', 'BRAC-p', 'BRAC-v', 'BEAR', 'CQL(rho-code)',
  'CQL-C51',
)  # fmt: skip
_LINES = ('-', '--', ':')
_PANEL_WIDTH = 5.6  # Inches.


def draw_band(
  panel: plt.Axes,
  steps: np.ndarray,
  values: np.ndarray,
  label: str,
  style: dict,
) -> None:
  """A line, the mean over runs, in a band of its standard error.

  Args:
    panel: where.
    steps: (T,).
    values: (runs, T).
    label: for the legend.
    style: of `styles`.
  """
  mean = values.mean(axis=0)
  panel.plot(steps, mean, label=label, **style)
  if len(values) > 1:
    width = standard_error(values)
    panel.fill_between(
      steps, mean - width, mean + width, color=style['color'], alpha=0.2,
      linewidth=0,
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
      with atomic_path(file) as partial:
        figure.savefig(partial, dpi=150, bbox_inches='tight')
  finally:
    plt.close(figure)


def game_panels(
  games: GroupsByGame, rows: int = 1
) -> tuple[plt.Figure, np.ndarray]:
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


def styles(games: GroupsByGame) -> dict[str, dict]:
  """Each label's colour, marker and line; a method's the same in every figure.

  A further label of a method takes a colour that no method in this figure has,
  while there is one.

  Returns:
    Label to arguments of `plot`.
  """
  labels = sorted(set().union(*games.values()), key=natural_sort_key)
  indices = _style_indices(labels)
  return {
    label: {
      'color': _COLORS[indices[label] % len(_COLORS)],
      'marker': _MARKERS[indices[label] % len(_MARKERS)],
      'ls': _LINES[indices[label] // len(_COLORS) % len(_LINES)],
      'lw': 2,
      'ms': 4,
    }
    for label in labels
  }


def _style_indices(labels: Sequence[str]) -> dict[str, int]:
  """Numbers that fix the looks: a method's own, if free, else one of none's."""
  indices: dict[str, int] = {}
  for label in sorted(labels, key=lambda label: label not in _METHODS):
    known = [method for method in _METHODS if label.startswith(method)]
    own = _METHODS.index(max(known, key=len)) if known else None
    if known and own not in indices.values():
      indices[label] = own
  for label in labels:
    used = {index % len(_COLORS) for index in indices.values()}
    further = range(len(_METHODS), len(_METHODS) + len(_COLORS))
    free = itertools.chain(
      (index for index in further if index % len(_COLORS) not in used),
      itertools.count(len(_METHODS)),
    )
    if label not in indices:
      indices[label] = next(i for i in free if i not in indices.values())
  return indices


def legend_of_figure(figure: plt.Figure, panel: plt.Axes) -> None:
  """Puts a panel's legend, an entry a label, under the whole figure."""
  handles, labels = panel.get_legend_handles_labels()
  one_each = dict(zip(labels, handles))
  figure.legend(
    one_each.values(),
    one_each.keys(),
    frameon=False,
    loc='upper left',
    ncols=3,
    bbox_to_anchor=(0.0, 0.0),
  )


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
