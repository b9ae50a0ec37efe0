"""Learning curves of finished or running runs, read from their run folders."""

import csv
import dataclasses
import glob
import json
import os
import pathlib
import re
from collections import defaultdict
from collections.abc import Sequence

import matplotlib
import numpy as np
from absl import logging

from cql_atari.errors import UserError

matplotlib.use('Agg')
import matplotlib.pyplot as plt

# Okabe and Ito's palette, told apart by colour-blind readers too.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')


@dataclasses.dataclass(frozen=True)
class Run:
  """One run folder.

  Attributes:
    directory: the folder.
    agent: such as 'CQL'.
    game: such as 'Pong'.
    seed: the run's seed.
    settings: the run's configuration, less what says nothing about the method
      (see _IGNORED).
    behavior_return: {'mean', 'episodes', 'source'} of the data, or None.
    metrics: columns of metrics.csv as float64 (iterations,), NaN where empty.
  """

  directory: pathlib.Path
  agent: str
  game: str
  seed: int
  settings: dict[str, str]
  behavior_return: dict | None
  metrics: dict[str, np.ndarray]


def load_runs(patterns: Sequence[str]) -> list[Run]:
  """Reads the run folders that glob patterns name.

  Args:
    patterns: such as 'runs/*'.

  Returns:
    The runs that finished at least one iteration, ordered by folder.

  Raises:
    UserError: no such run, or a damaged one.
  """
  folders = sorted(
    {
      pathlib.Path(name)
      for pattern in patterns
      for name in glob.glob(os.path.expanduser(pattern))
    }
  )
  runs = [
    _load_run(folder) for folder in folders if (folder / 'run.json').is_file()
  ]
  runs = [run for run in runs if len(run.metrics['gradient_steps'])]
  for run in runs:
    if np.isnan(run.metrics['eval_return_mean']).all():
      raise UserError(
        f'{run.directory} was never evaluated (evaluation_steps=0): leave it '
        'out.'
      )
  if not runs:
    raise UserError(
      f'no run with a finished iteration matches {", ".join(patterns)}: a run '
      'folder holds run.json and metrics.csv.'
    )
  return runs


def _load_run(folder: pathlib.Path) -> Run:
  try:
    record = json.loads((folder / 'run.json').read_text())
    path = folder / 'metrics.csv'
    rows = []
    if path.is_file():
      with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else ('gradient_steps', 'eval_return_mean')
    metrics = {
      name: np.array([float(row[name] or 'nan') for row in rows])
      for name in names
    }
    return Run(
      folder,
      record['agent'].removesuffix('Agent').replace('QRDQN', 'QR-DQN'),
      record['game'],
      record['seed'],
      _settings(folder / 'config.gin'),
      record['behavior_return'],
      metrics,
    )
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{folder} is not a whole run folder ({error!r}).'
    ) from None


# Bindings in which runs of one experiment may differ.
_IGNORED = re.compile(
  r'SEED|REPLAY_DIR|ROM_DIR|Logger\..*|Runner\..*|run_experiment\..*'
  r'|.*\.(seed|replay_dir|rom_dir|cache_dir|in_memory|num_iterations'
  r'|checkpoint_minutes|checkpoint_duration|num_environments|create_agent_fn)'
)


def _settings(config: pathlib.Path) -> dict[str, str]:
  """The bindings of a config.gin, those apart that say nothing here."""
  text = config.read_text() if config.is_file() else ''
  text = re.sub(r'\\\n\s*', '', text)  # Gin wraps long lines.
  bindings = re.findall(r'^([\w./]+) = (.*)$', text, re.MULTILINE)
  return {name: v for name, v in bindings if not _IGNORED.fullmatch(name)}


def group(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
  """Runs by game, then by what they ran.

  Returns:
    Game to label to runs. The label is the agent's name; where an agent ran
    with several settings, those that differ are part of it.
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


def _differences(run: Run, members: Sequence[Run]) -> list[str]:
  """The settings of a run that others of the same agent do not share."""
  names = sorted({name for other in members for name in other.settings})
  return [
    f'{name.split(".")[-1]} {run.settings.get(name, "unset")}'
    for name in names
    if len({other.settings.get(name) for other in members}) > 1
  ]


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

  A line is the mean over an agent's runs (seeds), its band one standard
  deviation over them; the dashed line is the mean return of the data's games.

  Args:
    runs: the runs.
    out: the picture's file; its ending names the format, .png by default.

  Returns:
    The file.

  Raises:
    UserError: the file can't be written.
  """
  games = group(runs)
  figure, panels = plt.subplots(
    1, len(games), figsize=(5.6 * len(games), 3.6), squeeze=False
  )
  for panel, (game, agents) in zip(panels[0], sorted(games.items())):
    styles = zip(_COLORS, 'osD^vP', (4, 2, 2, 2, 2, 2))
    for (color, marker, width), (agent, members) in zip(
      styles, sorted(agents.items())
    ):
      steps, returns = mean_curve(members)
      mean, deviation = returns.mean(axis=0), returns.std(axis=0)
      label = f'{agent} ({_count(members)})'
      panel.plot(
        steps,
        mean,
        marker + '-',
        lw=width,
        ms=width + 2,
        color=color,
        label=label,
      )
      if len(members) > 1:
        panel.fill_between(
          steps,
          mean - deviation,
          mean + deviation,
          color=color,
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
    panel.set(title=game, xlabel='gradient steps', ylabel='evaluation return')
    panel.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=''))
    panel.grid(alpha=0.25)
    panel.spines[['top', 'right']].set_visible(False)
    panel.legend(frameon=False)
  figure.tight_layout()
  out = pathlib.Path(out).expanduser()
  if not out.suffix:
    out = out.with_suffix('.png')
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
  except (OSError, ValueError) as error:
    raise UserError(f'the picture {out} cannot be written ({error}).') from None
  finally:
    plt.close(figure)
  return out


def table(runs: Sequence[Run]) -> str:
  """A Markdown table: final and best evaluation return of every agent.

  Means over runs with their standard deviation. Best is the highest point of
  each run's own curve, so it is optimistic; final is the last point.
  """
  lines = [
    '| game | agent | seeds | gradient steps | final return | best return '
    '| mean game of the data |',
    '|---|---|---|---|---|---|---|',
  ]
  for game, agents in sorted(group(runs).items()):
    for agent, members in sorted(agents.items()):
      steps, returns = mean_curve(members)
      behavior = members[0].behavior_return
      cells = (
        game,
        agent,
        _count(members).removesuffix(' seeds').removesuffix(' seed'),
        f'{int(steps[-1]):,}',
        _spread(returns[:, -1]),
        _spread(np.max(returns, axis=1)),
        f'{behavior["mean"]:.1f}' if behavior else '',
      )
      lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def _spread(values: np.ndarray) -> str:
  text = f'{np.mean(values):.1f}'
  return f'{text} ± {np.std(values):.1f}' if len(values) > 1 else text
