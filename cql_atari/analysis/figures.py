"""The figures of a report, each as PNG and PDF."""

import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np

from cql_atari.analysis import curves, run_folders

matplotlib.use('Agg')
import matplotlib.pyplot as plt

_NO_VALUES = ('BC',)  # Its q_data are log-probabilities.


def learning_curves(
  runs: Sequence[run_folders.Run], out: pathlib.Path
) -> pathlib.Path:
  """Figure 1: evaluation return, one panel a game, bands of standard errors."""
  figure, panels = curves.game_panels(runs)
  looks = curves.styles(runs)
  for panel, (_, agents) in panels:
    curves.draw(panel, agents, looks, _standard_error)
    panel.set(ylabel='D4RL score' if runs[0].task else 'evaluation return')
  return _save(figure, out)


def _standard_error(values: np.ndarray, axis: int) -> np.ndarray:
  return np.std(values, axis=axis, ddof=1) / np.sqrt(values.shape[axis])


def diagnostics(
  runs: Sequence[run_folders.Run], out: pathlib.Path
) -> pathlib.Path:
  """Q of data actions, penalty and gradient norm, one column a game."""
  figure, columns = curves.game_panels(runs, rows=3)
  looks = curves.styles(runs)
  names = {
    'q_data': 'Q of data actions',
    'cql_penalty': 'conservative penalty',
    'gradient_norm': 'gradient norm',
  }
  for panels, (_, agents) in columns:
    for panel, (name, label) in zip(panels, names.items()):
      for agent, members in sorted(agents.items()):
        if name == 'q_data' and members[0].agent in _NO_VALUES:
          continue
        _draw_metric(panel, name, members, agent, looks[agent])
      panel.set(ylabel=label)
    returns = {
      run.discounted_return for members in agents.values() for run in members
    }
    for value in returns - {None}:
      panels[0].axhline(value, color='0.35', ls='--', lw=1, label='data')
    panels[2].set_yscale('log')
    for panel in panels:
      if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, fontsize='small')
  return _save(figure, out)


def _draw_metric(panel, name, members, label, look) -> None:
  """The mean over runs of a metric that they have."""
  steps = curves.mean_curve(members)[0]
  values = [
    run.metrics[name][np.isin(run.metrics['gradient_steps'], steps)]
    for run in members
    if name in run.metrics
  ]
  if values and not np.isnan(values).all():
    panel.plot(steps, np.mean(values, axis=0), label=label, **look)


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
    color = looks[agent]['color']
    left.plot([low, high], [row, row], lw=6, alpha=0.4, color=color)
    left.plot(mean, row, 'o', color=color)
    shares, (lows, highs) = profiles[agent]
    right.plot(thresholds, shares, label=agent, color=color)
    right.fill_between(thresholds, lows, highs, alpha=0.2, color=color, lw=0)
  left.set_yticks(range(len(agents)), agents)
  left.set(xlabel='human-normalised interquartile mean')
  right.set(
    xlabel='human-normalised score',
    ylabel='share of runs above it',
    ylim=(0, 1),
  )
  right.legend(frameon=False)
  for panel in (left, right):
    panel.grid(alpha=0.25)
    panel.spines[['top', 'right']].set_visible(False)
  return _save(figure, out)


def _save(figure: plt.Figure, out: pathlib.Path) -> pathlib.Path:
  curves.save(figure, out, out.with_suffix('.pdf'))
  return out
