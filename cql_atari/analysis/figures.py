"""The figures of a report, each as PNG and PDF."""

import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np

from cql_atari.analysis import ablations, curves, loading

matplotlib.use('Agg')
import matplotlib.pyplot as plt

_NO_VALUES = ('BC',)  # Its q_data are log-probabilities.
_OF_VALUES = ('q_data', 'gap_policy', 'gap_random')


def learning_curves(
  runs: Sequence[loading.Run], out: pathlib.Path
) -> pathlib.Path:
  """Figure 1: evaluation return, one panel a game, bands of standard errors."""
  figure, panels = curves.game_panels(runs)
  looks = curves.styles(runs)
  for panel, (_, agents) in panels:
    curves.draw(panel, agents, looks)
    panel.set(ylabel='D4RL score' if runs[0].task else 'evaluation return')
  return _save(figure, out)


def diagnostics(runs: Sequence[loading.Run], out: pathlib.Path) -> pathlib.Path:
  """Q of data actions, penalty and gradient norm, one column a game."""
  figure, columns = _metric_panels(
    runs,
    {
      'q_data': 'Q of data actions',
      'cql_penalty': 'conservative penalty',
      'gradient_norm': 'gradient norm',
    },
  )
  for panels, (_, agents) in columns:
    returns = {
      run.discounted_return for members in agents.values() for run in members
    }
    for value in returns - {None}:
      panels[0].axhline(value, color='0.35', ls='--', lw=1, label='data')
    panels[2].set_yscale('log')
    for panel in panels[:2]:
      _tame(panel, 10_000)
  return _save_with_legends(figure, columns, out)


def gaps(runs: Sequence[loading.Run], out: pathlib.Path) -> pathlib.Path | None:
  """After appendix B: how far Q of data actions is above that of others.

  Returns:
    The picture; None where no run tells of it.
  """
  labels = {
    'gap_policy': "Q of data actions\nless Q of the policy's",
    'gap_random': 'Q of data actions\nless Q of random ones',
  }
  labels = {
    name: label
    for name, label in labels.items()
    if any(_has(run, name) for run in runs)
  }
  if not labels:
    return None
  figure, columns = _metric_panels(runs, labels)
  for panels, _ in columns:
    for panel in panels:
      panel.axhline(0, color='k', lw=0.8)
      _tame(panel, 100)
  return _save_with_legends(figure, columns, out)


def _tame(panel: plt.Axes, most: float) -> None:
  """A logarithmic axis where some agent's Q has diverged."""
  if np.abs(panel.get_ylim()).max() > most:
    panel.set_yscale('symlog', linthresh=1.0)


def _metric_panels(
  runs: Sequence[loading.Run], labels: dict[str, str]
) -> tuple[plt.Figure, list[tuple]]:
  """A row of panels for every metric, a column for every game."""
  figure, columns = curves.game_panels(runs, rows=len(labels))
  columns = [(np.atleast_1d(panels), rest) for panels, rest in columns]
  looks = curves.styles(runs)
  for panels, (_, agents) in columns:
    for panel, (name, label) in zip(panels, labels.items()):
      panel.set(ylabel=label)
      for agent, members in curves.in_order(agents):
        if all(_has(run, name) for run in members):
          steps = curves.mean_curve(members)[0]
          values = [
            run.metric(name)[np.isin(run.metrics['gradient_steps'], steps)]
            for run in members
          ]
          mean = np.mean(values, axis=0)
          panel.plot(steps, mean, label=agent, **looks[agent])
  return figure, columns


def _has(run: loading.Run, name: str) -> bool:
  if name in _OF_VALUES and run.agent in _NO_VALUES:
    return False
  return not np.isnan(run.metric(name)).all()


def _save_with_legends(figure, columns, out: pathlib.Path) -> pathlib.Path:
  """One legend a column, of all that its panels show."""
  for panels, _ in columns:
    shown = {}
    for panel in panels:
      for handle, label in zip(*panel.get_legend_handles_labels()):
        shown.setdefault(label, handle)
    if shown:
      curves.legend_below(panels[-1], list(shown.values()), list(shown))
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
    panel.grid(alpha=0.25)
    panel.spines[['top', 'right']].set_visible(False)
  return _save(figure, out)


def ablation(found: ablations.Ablation, out: pathlib.Path) -> pathlib.Path:
  """Final and peak score by the value of each setting, a panel a setting."""
  figure, panels = plt.subplots(
    1, len(found.factors), figsize=(2.9 * len(found.factors), 3.2),
    sharey=True, squeeze=False,
  )  # fmt: skip
  for panel, factor in zip(panels[0], found.factors):
    returns = [curves.mean_curve(runs)[1] for runs in factor.runs.values()]
    for place, of_value in enumerate(returns):
      for values, marker, color, label in (
        (of_value.max(axis=1), 'o', '#D55E00', 'peak'),
        (of_value[:, -1], 's', '#0072B2', 'final'),
      ):
        panel.errorbar(
          place,
          values.mean(),
          yerr=curves.standard_error(values),
          fmt=marker,
          color=color,
          capsize=3,
          label=label,
        )
    values = list(factor.runs)
    common = values.index(factor.common)
    panel.axvspan(common - 0.4, common + 0.4, color='0.93', zorder=0)
    panel.set_xticks(range(len(values)), [v.strip("'") for v in values])
    panel.set(xlabel=factor.name, xlim=(-0.6, len(values) - 0.4))
    behavior = factor.runs[factor.common][0].behavior_return
    if behavior:
      panel.axhline(
        behavior['mean'], color='0.35', ls='--', lw=1, label='data, mean game'
      )
    panel.grid(alpha=0.25)
    panel.spines[['top', 'right']].set_visible(False)
  is_d4rl = factor.runs[factor.common][0].task is not None
  panels[0, 0].set_ylabel('D4RL score' if is_d4rl else 'evaluation return')
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
