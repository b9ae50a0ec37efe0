"""Figures of runs: learning curves, diagnostics, aggregates, ablations."""

import itertools
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from cql_atari.analysis import ablations, plotting, scores, wording
from cql_atari.analysis.grouping import (
  Group,
  GroupsByGame,
  group_by_game,
  standard_error,
)
from cql_atari.analysis.loading import load_runs
from cql_atari.analysis.plotting import plt
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path
from cql_atari.runs import folder

# After appendix B: how far Q of the data's actions is above that of others.
GAPS = {
  'gap_policy': "Q of data actions\nminus Q of the policy's",
  'gap_random': 'Q of data actions\nminus Q of random ones',
  'gap_uniform': 'Q of data actions\nminus the best of ten uniform',
}
# What the evaluators find.
HELD_OUT = {
  'held_out_td_error': 'TD error\non held-out episodes',
  'held_out_value': "Q of the policy's action\non held-out episodes",
  'held_out_match': "share of actions\nthat are the data's",
  'held_out_action_difference': "squared distance\nfrom the data's actions",
}


def plot(games: GroupsByGame, out: str | os.PathLike) -> pathlib.Path:
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
  out = user_path(out)
  if not out.suffix:
    out = out.with_suffix('.png')
  figure = learning_curves(games)
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    plotting.save(figure, out)
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
  folders = folder.find([os.fspath(run) for run in runs])
  figure = learning_curves(group_by_game(load_runs(folders)))
  plt.close(figure)  # Else a notebook shows it twice.
  return figure


def learning_curves(games: GroupsByGame) -> plt.Figure:
  """The figure that `plot` writes: the paper's Figure 1."""
  figure, panels = plotting.game_panels(games)
  styles = plotting.styles(games)
  for panel, groups in zip(panels[0], games.values()):
    for label, group in groups.items():
      _draw(panel, group, styles[label])
    _draw_data(panel, groups)
    benchmark = next(iter(groups.values())).runs[0].benchmark
    panel.set(ylabel=benchmark.return_label)
    plotting.legend_below(panel, *panel.get_legend_handles_labels())
  return figure


def _draw(panel: plt.Axes, group: Group, style: dict) -> None:
  plural = 's' * (group.seeds != '1')
  label = f'{group.label} ({group.seeds} seed{plural})'
  plotting.draw_band(panel, group.steps, group.returns, label, style)


def _draw_data(panel: plt.Axes, groups: dict[str, Group]) -> None:
  """A dashed line at the mean game of the data."""
  runs = [run for group in groups.values() for run in group.runs]
  means = {
    run.behavior_return: run for run in runs if run.behavior_return is not None
  }
  for (mean, run), style in zip(
    means.items(), itertools.cycle(('--', ':', '-.'))
  ):
    clipped = ' (clipped rewards)' if run.behavior_return_is_clipped else ''
    value = f' {mean:.4g}' if len(means) > 1 else ''
    panel.axhline(
      mean, color='0.35', linestyle=style, linewidth=1,
      label=f'data, mean game{value}{clipped}',
    )  # fmt: skip


def diagnostics(games: GroupsByGame, out: pathlib.Path) -> pathlib.Path:
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
      _symlog_beyond(panel, 10_000)
  return _save_with_legends(figure, panels, out)


def measured(
  games: GroupsByGame, labels: dict[str, str], out: pathlib.Path
) -> pathlib.Path | None:
  """A row of panels for every metric that some run has.

  Args:
    games: what to draw.
    labels: of metrics, such as GAPS or HELD_OUT.
    out: the picture.

  Returns:
    The picture; None where no run has any of them.
  """
  groups = [group for labelled in games.values() for group in labelled.values()]
  had = {
    name: label
    for name, label in labels.items()
    if any(_has_metric(group, name) for group in groups)
  }
  if not had:
    return None
  figure, panels = _metric_panels(games, had)
  for panel in panels.flat:
    if labels is GAPS:
      panel.axhline(0, color='k', lw=0.8)
    _symlog_beyond(panel, 100)
  return _save_with_legends(figure, panels, out)


def _symlog_beyond(panel: plt.Axes, limit: float) -> None:
  """A logarithmic axis where some agent's Q has diverged."""
  if np.abs(panel.get_ylim()).max() > limit:
    panel.set_yscale('symlog', linthresh=1.0)
    panel.autoscale(axis='y')  # The margins of before are decades now.


def _metric_panels(
  games: GroupsByGame, labels: dict[str, str]
) -> tuple[plt.Figure, np.ndarray]:
  """A row of panels for every metric, a column for every game."""
  figure, panels = plotting.game_panels(games, rows=len(labels))
  styles = plotting.styles(games)
  for column, groups in zip(panels.T, games.values()):
    for panel, (name, label) in zip(column, labels.items()):
      panel.set(ylabel=label)
      for agent, group in groups.items():
        if _has_metric(group, name):
          plotting.draw_band(
            panel, group.steps, group.metric(name), agent, styles[agent]
          )
  return figure, panels


def _has_metric(group: Group, name: str) -> bool:
  """Whether all of its runs have a metric; BC has no values."""
  if name in ('q_data', *GAPS) and not group.runs[0].record['has_values']:
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
      plotting.legend_below(column[-1], list(shown.values()), list(shown))
  return save(figure, out)


def aggregate(
  games: GroupsByGame,
  normalized: dict[str, np.ndarray],
  means: dict[str, tuple[float, float, float]],
  out: pathlib.Path,
) -> pathlib.Path:
  """Interquartile means with intervals, and performance profiles.

  Args:
    games: what `normalized` is of.
    normalized: of `scores.normalized_scores`.
    means: of `scores.interquartile_means`.
    out: the picture.
  """
  styles, thresholds = plotting.styles(games), scores.thresholds(normalized)
  profiles = scores.performance_profiles(normalized, thresholds)
  figure, (left, right) = plt.subplots(1, 2, figsize=(11.2, 3.6))
  agents = sorted(means)
  for row, agent in enumerate(agents):
    mean, low, high = means[agent]
    color, line = styles[agent]['color'], styles[agent]['ls']
    left.plot([low, high], [row, row], lw=6, alpha=0.4, color=color)
    left.plot(mean, row, 'o', color=color)
    shares, (lows, highs) = profiles[agent]
    right.plot(thresholds, shares, line, label=agent, color=color)
    right.fill_between(thresholds, lows, highs, alpha=0.2, color=color, lw=0)
  left.set_yticks(range(len(agents)), agents)
  left.set(xlabel='normalised score, interquartile mean')
  right.set(
    xlabel='normalised score', ylabel='share of runs above it', ylim=(0, 1)
  )
  plotting.legend_below(right, *right.get_legend_handles_labels())
  for panel in (left, right):
    plotting.plain(panel)
  return save(figure, out)


def ablation(varied: ablations.Ablation, out: pathlib.Path) -> pathlib.Path:
  """Final and peak score by the value of each setting, a panel a setting."""
  figure, panels = plt.subplots(
    1, len(varied.factors), figsize=(2.9 * len(varied.factors), 3.2),
    sharey=True, squeeze=False,
  )  # fmt: skip
  for panel, factor in zip(panels[0], varied.factors):
    _draw_factor(panel, factor)
  baseline = varied.factors[0].groups[varied.factors[0].baseline]
  panels[0, 0].set_ylabel(baseline.runs[0].benchmark.return_label)
  plotting.legend_of_figure(figure, panels[0, 0])
  return save(figure, out)


def _draw_factor(panel: plt.Axes, factor: ablations.Factor) -> None:
  for place, group in enumerate(factor.groups.values()):
    for reached, marker, color, label in (
      (group.peak, 'o', '#D55E00', 'peak'),
      (group.final, 's', '#0072B2', 'final'),
    ):
      panel.errorbar(
        place,
        reached.mean(),
        yerr=standard_error(reached),
        fmt=marker,
        color=color,
        capsize=3,
        label=label,
      )
  values = [wording.value(factor.name, value) for value in factor.groups]
  shaded = list(factor.groups).index(factor.baseline)
  panel.axvspan(shaded - 0.4, shaded + 0.4, color='0.93', zorder=0)
  panel.set_xticks(range(len(values)), values)
  panel.set(title=wording.axis(factor.name), xlim=(-0.6, len(values) - 0.4))
  _draw_data(panel, {factor.baseline: factor.groups[factor.baseline]})
  plotting.plain(panel)


def save(figure: plt.Figure, out: pathlib.Path) -> pathlib.Path:
  """Writes a figure as PNG and as PDF, and closes it; returns the PNG."""
  plotting.save(figure, out, out.with_suffix('.pdf'))
  return out
