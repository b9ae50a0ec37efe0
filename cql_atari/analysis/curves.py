"""Learning curves of finished or running runs, read from their run folders."""

import csv
import dataclasses
import glob
import json
import os
import pathlib
from collections import defaultdict
from collections.abc import Sequence

import matplotlib
import numpy as np

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
    behavior_return: {'mean', 'episodes', 'source'} of the data, or None.
    metrics: columns of metrics.csv as float64 (iterations,), NaN where empty.
  """

  directory: pathlib.Path
  agent: str
  game: str
  seed: int
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
      record['agent'].removesuffix('Agent'),
      record['game'],
      record['seed'],
      record['behavior_return'],
      metrics,
    )
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{folder} is not a whole run folder ({error!r}).'
    ) from None


def group(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
  """Runs by game, then by agent."""
  games = defaultdict(lambda: defaultdict(list))
  for run in runs:
    games[run.game][run.agent].append(run)
  return games


def mean_curve(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
  """Evaluation returns of runs of one agent, on the steps that all have.

  Returns:
    Gradient steps (T,) and returns (runs, T).
  """
  steps = runs[0].metrics['gradient_steps']
  for run in runs[1:]:
    steps = np.intersect1d(steps, run.metrics['gradient_steps'])
  returns = [
    run.metrics['eval_return_mean'][
      np.isin(run.metrics['gradient_steps'], steps)
    ]
    for run in runs
  ]
  return steps, np.stack(returns)


def plot(runs: Sequence[Run], out: str | os.PathLike) -> None:
  """Draws evaluation return against gradient steps, one panel a game.

  A line is the mean over an agent's runs (seeds), its band one standard
  deviation over them; the dashed line is the mean return of the data's games.

  Args:
    runs: the runs.
    out: the picture's file; its ending names the format.

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
      label = f'{agent} ({len(members)} seed{"s" * (len(members) > 1)})'
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
    behavior = next(iter(agents.values()))[0].behavior_return
    if behavior:
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
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
  except (OSError, ValueError) as error:
    raise UserError(f'the picture {out} cannot be written ({error}).') from None
  finally:
    plt.close(figure)


def table(runs: Sequence[Run]) -> str:
  """A Markdown table: final and best evaluation return of every agent.

  Means over runs with their standard deviation. Best is the highest point of
  each run's own curve, so it is optimistic; final is the last point.
  """
  lines = [
    '| game | agent | seeds | gradient steps | final return | best return '
    '| data |',
    '|---|---|---|---|---|---|---|',
  ]
  for game, agents in sorted(group(runs).items()):
    for agent, members in sorted(agents.items()):
      steps, returns = mean_curve(members)
      behavior = members[0].behavior_return
      cells = (
        game,
        agent,
        str(len(members)),
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
