"""Draws what scripts/online.sh has run, and prints it as a table.

  python scripts/plot_online.py --runs=runs/online --out=docs/online.png

Returns of the games that ended while 20,000 rows were logged, against rows; the
mean over seeds and its standard error.
"""

import pathlib

import numpy as np
from matplotlib import ticker

from cql_atari.analysis import document, grouping, plotting
from cql_atari.analysis.plotting import plt
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.runs.folder import RunFolder

_COMMAND = command.Command(__doc__)
_RUNS = _COMMAND.string('runs', 'runs/online', "The script's folder.")
_OUT = _COMMAND.string('out', 'online.png', 'The picture.')
_SHARDS = 5  # To a point.
_ARMS = {
  'cql': 'offline, then online with alpha 4',
  'qrdqn': 'offline, then online with alpha 0',
  'nothing': 'online from nothing, alpha 0',
}


def _curve(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Rows and mean returns, (T,) each, of a collecting run."""
  metrics = RunFolder(folder).metrics()
  rows, games, means = (
    column[: len(column) // _SHARDS * _SHARDS].reshape(-1, _SHARDS)
    for column in map(metrics.get, ('rows', 'episodes', 'return_mean'))
  )
  return rows[:, -1].astype(int) + 1, np.nansum(games * means, 1) / games.sum(1)


def _play(root: pathlib.Path, arm: str, offline: str | pathlib.Path):
  seed = pathlib.Path(offline).name.removeprefix('offline-')
  return root / f'{arm}-{seed}' / 'Breakout' / '1'


def main() -> None:
  """Draws and prints by the flags."""
  root = pathlib.Path(_RUNS.value)
  # The seeds of which everything has run; the agent is written at the end.
  seeds = [
    folder.name.removeprefix('offline-')
    for folder in sorted(root.glob('offline-*'))
    if all(
      _play(root, arm, folder).joinpath('agent.npz').is_file() for arm in _ARMS
    )
  ]
  if not seeds:
    raise UserError(f'no seed in {root} has run to its end: scripts/online.sh.')
  count = f'{len(seeds)} seed{"s" * (len(seeds) > 1)}'
  figure, panel = plt.subplots(figsize=(5.6, 3.6))
  styles = plotting.styles({'Breakout': dict.fromkeys(_ARMS.values())})
  table = []
  for arm, label in _ARMS.items():
    curves = [_curve(_play(root, arm, f'offline-{seed}')) for seed in seeds]
    rows, returns = curves[0][0], np.stack([values for _, values in curves])
    name = f'{label} ({count})'
    plotting.draw_band(panel, rows, returns, name, styles[label])
    table.append((label, *map(grouping.with_error, returns.T)))
  offline = [
    RunFolder(root / f'offline-{seed}').metrics()['eval_return_mean'][-1]
    for seed in seeds
  ]
  panel.axhline(
    np.mean(offline),
    color='0.35',
    ls='--',
    lw=1,
    label='after offline training',
  )
  panel.set(xlabel='rows played online', ylabel='return of a game')
  panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  plotting.plain(panel)
  plotting.legend_below(panel, *panel.get_legend_handles_labels())
  plotting.save(figure, pathlib.Path(_OUT.value))
  print(document.table(('', *(f'{r:,}' for r in rows)), table))
  after = grouping.with_error(np.array(offline))
  print(f'After offline training: {after}; {count}.')


if __name__ == '__main__':
  _COMMAND.run(main)
