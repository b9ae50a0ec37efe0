"""Our CQL and d3rlpy's on the same data, with the same settings: do they agree?

  python scripts/benchmarks/parity.py --d3rlpy_python=PEER_ENV/bin/python \\
    --data=data/Breakout/1 --game=Breakout --out=parity/breakout
  python scripts/benchmarks/parity.py --d3rlpy_python=PEER_ENV/bin/python \\
    --data=data/hopper/1 --task=hopper-medium-expert --out=parity/hopper

Sizes, learning rates, alpha, target period and evaluation are the same. On
Atari, other differences are put into ours, one at a time, each a contender of
its own. Every contender and seed has a CSV file in --out, a row an evaluation;
what is there already is not run again, and what was cut off goes on from its
last row. Give the command anew to go on, with --contenders and --seeds to share
the work out; each draws the curves and writes the table of what is there.
"""

import csv
import functools
import json
import pathlib
import tempfile

import d3rlpy_client
import numpy as np

from cql_atari.core import command, progress, quiet
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path, write_csv, write_text

_COMMAND = command.Command(__doc__)
_D3RLPY = _COMMAND.string('d3rlpy_python', None, 'Python that has d3rlpy.')
_DATA = _COMMAND.string('data', None, "A run's folder, or a task's data.")
_GAME = _COMMAND.string('game', None, 'The Atari game of the data.')
_TASK = _COMMAND.string('task', None, 'The D4RL task of the data.')
_OUT = _COMMAND.string('out', None, 'Where results go.')
_STEPS = _COMMAND.integer('steps', 25_000, 'Gradient steps.', least=1)
_PERIOD = _COMMAND.integer('period', 5_000, 'Of evaluations.', least=1)
_SEEDS = _COMMAND.strings('seeds', 'A seed. Repeatable; 0, 1 and 2 by default.')
_SIZES = _COMMAND.choice(
  'sizes',
  'small',
  ['small', 'corl'],
  "On D4RL: 'small' networks, or the paper's with the settings of CORL.",
)
_CONTENDERS = _COMMAND.strings('contenders', 'One of them. Repeatable.')

COLUMNS = ('gradient_steps', 'return', 'episodes', 'q_policy', 'q_data')


def _out() -> pathlib.Path:
  folder = user_path(_OUT.value)
  folder.mkdir(parents=True, exist_ok=True)
  return folder


def _follow(model, train, measure, name, seed):
  path = _path(name, seed)
  rows = _read(path)
  saved = lambda row: path.with_suffix(f'.{row[0]:.0f}')  # noqa: E731
  if rows and saved(rows[-1]).is_file():
    model.load(saved(rows[-1]))
  else:
    rows = []
  last = int(rows[-1][0]) if rows else 0
  with progress.bar(_STEPS.value, ' steps', f'{name}, seed {seed}') as bar:
    bar.update(last)
    first = last + _PERIOD.value
    for step in range(first, _STEPS.value + 1, _PERIOD.value):
      for done in range(0, _PERIOD.value, 100):
        count = min(100, _PERIOD.value - done)
        train(count)
        bar.update(count)
      rows.append((step, *measure(step)))
      bar.set_postfix_str(f'return {rows[-1][1]:.1f}', refresh=False)
      model.save(saved(rows[-1]))
      write_csv(path, COLUMNS, rows)
      if len(rows) > 1:
        saved(rows[-2]).unlink(missing_ok=True)


def _read(path: pathlib.Path) -> list[list[float]]:
  if not path.is_file():
    return []
  with open(path, newline='') as file:
    return [[float(row[c]) for c in COLUMNS] for row in csv.DictReader(file)]


def _path(name: str, seed: int) -> pathlib.Path:
  stem = name.replace(',', '').replace("'", '').replace(' ', '_').lower()
  return _out() / f'{stem}-{seed}.csv'


def summarize(names, seeds) -> None:
  """The curves and the table of what is there."""
  from cql_atari.analysis import document, grouping, plotting
  from cql_atari.analysis.plotting import plt

  figure, panels = plt.subplots(1, 2, figsize=(10, 3.6))
  lines = []
  for index, name in enumerate(names):
    tables = []
    for seed in seeds:
      if rows := _read(_path(name, seed)):
        tables.append(np.array(rows))
    if not tables:
      continue
    shared = min(map(len, tables))  # Evaluations.
    table = np.stack([table[:shared] for table in tables])
    for panel, column in zip(panels, (1, 3)):
      style = {'color': f'C{index}'}
      plotting.draw_band(panel, table[0, :, 0], table[..., column], name, style)
    final = grouping.with_error(table[:, -1, 1])
    lines.append([name, len(tables), final, f'{table[:, -1, 3].mean():.2f}'])
  what = _GAME.value or _TASK.value
  panels[0].set(xlabel='gradient steps', ylabel=f'{what}: return')
  panels[1].set(xlabel='gradient steps', ylabel='mean Q of the policy')
  panels[1].legend(frameon=False, fontsize=8)
  for panel in panels:
    panel.locator_params(axis='x', nbins=6)  # Long numbers.
  figure.tight_layout()
  figure.savefig(_out() / 'parity.png', dpi=120)
  header = ['', 'seeds', 'final return', 'mean Q']
  text = document.table(header, lines)
  (_out() / 'parity.md').write_text(f'{text}\n')
  print(text)


def main() -> None:
  """Runs by the flags."""
  if not (_D3RLPY.value and _DATA.value and _OUT.value):
    raise UserError('give --d3rlpy_python, --data and --out.')
  if bool(_GAME.value) == bool(_TASK.value):
    raise UserError('give --game or --task.')
  with quiet.quiet():
    import tensorflow as tf
  import parity_atari
  import parity_d4rl

  tf.config.experimental.set_synchronous_execution(False)
  known = (parity_atari if _GAME.value else parity_d4rl).CONTENDERS
  names = _CONTENDERS.value or known
  if wrong := set(names) - set(known):
    raise UserError(f'there is no contender {wrong}: {", ".join(known)}.')
  seeds = [int(seed) for seed in _SEEDS.value or ('0', '1', '2')]
  _keep_apart()
  for seed in seeds:
    for name in names:
      rows = _read(_path(name, seed))
      if rows and rows[-1][0] + _PERIOD.value > _STEPS.value:
        continue
      with tempfile.TemporaryDirectory() as folder:
        peer = functools.partial(
          d3rlpy_client.Peer,
          _D3RLPY.value,
          _out() / 'd3rlpy.log',
          folder=folder,
        )
        if _GAME.value:
          of = parity_atari.contender(
            name, seed, _DATA.value, _GAME.value, peer
          )
        else:
          of = parity_d4rl.contender(
            name, seed, _DATA.value, _TASK.value, _SIZES.value, peer
          )
        _follow(*of, name, seed)
  summarize(known, range(10))


def _keep_apart() -> None:
  """Refuses an --out that has curves of other data or sizes."""
  path = _out() / 'parity.json'
  own = {'of': _GAME.value or _TASK.value, 'sizes': _SIZES.value}
  if path.exists() and (there := json.loads(path.read_text())) != own:
    raise UserError(f'{_out()} has curves of {there}: give another --out.')
  write_text(path, json.dumps(own))


if __name__ == '__main__':
  _COMMAND.run(main)
