"""The figures of a report, each as PNG and PDF."""

import pathlib

import numpy as np

from cql_atari.analysis import ablations, curves
from cql_atari.analysis.curves import plt
from cql_atari.analysis.grouping import Games, Group, standard_error

_OF_VALUES = ('q_data', 'gap_policy', 'gap_random', 'gap_uniform')


def learning_curves(games: Games, out: pathlib.Path) -> pathlib.Path:
  """Figure 1: evaluation return, one panel a game, bands of standard errors."""
  return _save(curves.learning_curves(games), out)


def diagnostics(games: Games, out: pathlib.Path) -> pathlib.Path:
  """Q of data actions, penalty and gradient norm, one column a game."""
  figure, panels = _metric_panels(
    games,
    {
      'q_data': 'Q of data actions',
      'cql_penalty': 'conservative penalty',
      'gradient_norm': 'gradient norm',
    },
  )
  for column, groups in zip(panels.T, games.values()):
    returns = {
      run.record['discounted_return']
      for group in groups.values()
      for run in group.runs
    }
    for value in returns - {None}:
      column[0].axhline(value, color='0.35', ls='--', lw=1, label='data')
    column[2].set_yscale('log')
    for panel in column[:2]:
      _tame(panel, 10_000)
  return _save_with_legends(figure, panels, out)


def gaps(games: Games, out: pathlib.Path) -> pathlib.Path | None:
  """After appendix B: how far Q of data actions is above that of others.

  Returns:
    The picture; None where no run has the values.
  """
  labels = {
    'gap_policy': "Q of data actions\nless Q of the policy's",
    'gap_random': 'Q of data actions\nless Q of random ones',
    'gap_uniform': 'Q of data actions\nless the best of ten uniform',
  }
  groups = [group for labelled in games.values() for group in labelled.values()]
  labels = {
    name: label
    for name, label in labels.items()
    if any(_has(group, name) for group in groups)
  }
  if not labels:
    return None
  figure, panels = _metric_panels(games, labels)
  for panel in panels.flat:
    panel.axhline(0, color='k', lw=0.8)
    _tame(panel, 100)
  return _save_with_legends(figure, panels, out)


def _tame(panel: plt.Axes, most: float) -> None:
  """A logarithmic axis where some agent's Q has diverged."""
  if np.abs(panel.get_ylim()).max() > most:
    panel.set_yscale('symlog', linthresh=1.0)


def _metric_panels(
  games: Games, labels: dict[str, str]
) -> tuple[plt.Figure, np.ndarray]:
  """A row of panels for every metric, a column for every game."""
  figure, panels = curves.game_panels(games, rows=len(labels))
  looks = curves.styles(games)
  for column, groups in zip(panels.T, games.values()):
    for panel, (name, label) in zip(column, labels.items()):
      panel.set(ylabel=label)
      for agent, group in groups.items():
        if _has(group, name):
          curves.draw_band(
            panel, group.steps, group.metric(name), agent, looks[agent]
          )
  return figure, panels


def _has(group: Group, name: str) -> bool:
  """Whether all of its runs have a metric; BC has no values."""
  if name in _OF_VALUES and not group.runs[0].record['has_values']:
    return False
  return all(not np.isnan(run.metric(name)).all() for run in group.runs)


def _save_with_legends(figure, panels, out: pathlib.Path) -> pathlib.Path:
  """One legend a column, of all that its panels show."""
  for column in panels.T:
    shown = {}
    for panel in column:
      for handle, label in zip(*panel.get_legend_handles_labels()):
        shown.setdefault(label, handle)
    if shown:
      curves.legend_below(column[-1], list(shown.values()), list(shown))
  return _save(figure, out)


def aggregate(
  means: dict[str, tuple[float, float, float]],
  thresholds: np.ndarray,
  profiles: dict[str, tuple[np.ndarray, np.ndarray]],
  looks: dict[str, dict],
  out: pathlib.Path,
) -> pathlib.Path:
  """Interquartile means with intervals, and performance profiles."""
  figure, (left, right) = plt.subplots(1, 2, figsize=(11.2, 3.6))
  agents = sorted(means)
  for row, agent in enumerate(agents):
    mean, low, high = means[agent]
    color, line = looks[agent]['color'], looks[agent]['ls']
    left.plot([low, high], [row, row], lw=6, alpha=0.4, color=color)
    left.plot(mean, row, 'o', color=color)
    shares, (lows, highs) = profiles[agent]
    right.plot(thresholds, shares, line, label=agent, color=color)
    right.fill_between(thresholds, lows, highs, alpha=0.2, color=color, lw=0)
  left.set_yticks(range(len(agents)), agents)
  left.set(xlabel='normalised score, interquartile mean')
  right.set(
    xlabel='normalised score',
    ylabel='share of runs above it',
    ylim=(0, 1),
  )
  curves.legend_below(right, *right.get_legend_handles_labels())
  for panel in (left, right):
    curves.plain(panel)
  return _save(figure, out)


def ablation(varied: ablations.Ablation, out: pathlib.Path) -> pathlib.Path:
  """Final and peak score by the value of each setting, a panel a setting."""
  figure, panels = plt.subplots(
    1, len(varied.factors), figsize=(2.9 * len(varied.factors), 3.2),
    sharey=True, squeeze=False,
  )  # fmt: skip
  for panel, factor in zip(panels[0], varied.factors):
    for place, group in enumerate(factor.groups.values()):
      for values, marker, color, label in (
        (group.peak, 'o', '#D55E00', 'peak'),
        (group.final, 's', '#0072B2', 'final'),
      ):
        panel.errorbar(
          place,
          values.mean(),
          yerr=standard_error(values),
          fmt=marker,
          color=color,
          capsize=3,
          label=label,
        )
    values = list(factor.groups)
    common = values.index(factor.common)
    panel.axvspan(common - 0.4, common + 0.4, color='0.93', zorder=0)
    panel.set_xticks(range(len(values)), values)
    panel.set(xlabel=factor.name, xlim=(-0.6, len(values) - 0.4))
    run = factor.groups[factor.common].runs[0]
    if run.mean_game is not None:
      panel.axhline(
        run.mean_game, color='0.35', ls='--', lw=1, label='data, mean game'
      )
    curves.plain(panel)
  panels[0, 0].set_ylabel(run.benchmark.return_label)
  handles, labels = panels[0, 0].get_legend_handles_labels()
  one_each = dict(zip(labels, handles))
  figure.legend(
    one_each.values(),
    one_each.keys(),
    frameon=False,
    loc='upper left',
    ncols=3,
    bbox_to_anchor=(0.0, 0.0),
  )
  return _save(figure, out)


def _save(figure: plt.Figure, out: pathlib.Path) -> pathlib.Path:
  curves.save(figure, out, out.with_suffix('.pdf'))
  return out
