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
import json
import pathlib
import subprocess
import tempfile

import numpy as np

from cql_atari.core import command, progress, quiet
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path, write_csv

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
DISCRETE = {
  'kind': 'discrete',
  'batch_size': 32,
  'learning_rate': 2.5e-4,
  'adam_epsilon': 3.125e-4,
  'alpha': 4.0,
  'target_update_period': 500,
  'filters': [16, 32, 32],
  'hidden_units': 256,
  'num_quantiles': 51,
}
CONTINUOUS = {
  'kind': 'continuous',
  'batch_size': 128,
  'policy_learning_rate': 3e-4,
  'critic_learning_rate': 3e-4,
  'adam_epsilon': 1e-8,
  'alpha': 2.5,
  'num_samples': 4,
  'hidden_units': [128, 128],
}
# As in d4rl/cql_corl.gin.
CORL = {
  **CONTINUOUS,
  'batch_size': 256,
  'policy_learning_rate': 3e-5,
  'alpha': 5.0,
  'num_samples': 10,
  'hidden_units': [256, 256, 256],
}
# Settings, and what is done to the data.
SIZES = {
  'small': (CONTINUOUS, {}),
  'corl': (CORL, {'normalize_states': True, 'return_spread': 1000.0}),
}
# Ours with one of d3rlpy's ways each.
DIFFERENCES = {
  'ours': {},
  'ours, double Q-learning': {'double_q': True},
  "ours, PyTorch's initial weights": {'initial': 'torch'},
  'ours, no padding': {'padding': 'valid'},
  'ours, all three': {'double_q': True, 'initial': 'torch', 'padding': 'valid'},
  'ours, Adam epsilon 1e-8': {'adam_epsilon': 1e-8},
}
# And d3rlpy as it comes: its default Adam; blank rows, which its loader keeps.
PEERS = {
  'd3rlpy': {},
  'd3rlpy, Adam epsilon 1e-8': {'adam_epsilon': 1e-8},
  'd3rlpy, blank rows kept': {'keeps_blank_rows': True},
}
_MODE = 'ours, the mode in the target'  # On D4RL, as d3rlpy's.
_STATES = 2000  # Of the data, for mean Q-values.
_EVALUATION_STEPS, _GAMES, _MAX_STEPS = 10_000, 16, 4_500
_EPSILON = 0.001


class Peer:
  """d3rlpy in its own environment."""

  def __init__(self, settings, arrays, folder: str):
    """Hands the data over and starts it."""
    path = pathlib.Path(folder) / 'data.npz'
    np.savez(path, **arrays)
    program = pathlib.Path(__file__).with_name('d3rlpy_peer.py')
    self._process = subprocess.Popen(
      [_D3RLPY.value, str(program)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=open(_out() / 'd3rlpy.log', 'ab'),  # noqa: SIM115
      cwd=folder,
    )
    self._size = settings['action_size']
    self._send({**settings, 'data': str(path)})

  def _send(self, message, data: bytes = b''):
    self._process.stdin.write(json.dumps(message).encode() + b'\n' + data)
    self._process.stdin.flush()

  def _receive(self, *shape: int) -> np.ndarray:
    data = self._process.stdout.read(4 * int(np.prod(shape)))
    if len(data) < 4 * np.prod(shape):
      raise UserError(f'd3rlpy ended early: see {_out() / "d3rlpy.log"}.')
    return np.frombuffer(data, np.float32).reshape(shape)

  def train(self, steps: int) -> None:
    """Takes gradient steps."""
    self._send({'train': steps})
    self._receive(1)

  def save(self, path: pathlib.Path) -> None:
    """Writes networks and optimizers into a file."""
    self._send({'save': str(path.resolve())})
    self._receive(1)

  def load(self, path: pathlib.Path) -> None:
    """Restores what `save` wrote."""
    self._send({'load': str(path.resolve())})
    self._receive(1)

  def ask(self, what: str, states: np.ndarray, width: int | None) -> np.ndarray:
    """Q-values or actions of states."""
    message = {'what': what, 'shape': states.shape}
    self._send(message, np.ascontiguousarray(states).tobytes())
    return self._receive(len(states), *(() if width is None else (width,)))


def _out() -> pathlib.Path:
  folder = user_path(_OUT.value)
  folder.mkdir(parents=True, exist_ok=True)
  return folder


# --- Atari. ---


def network(num_actions, seed, padding='same', initial='dopamine'):
  """Our small network, or with d3rlpy's padding or initial weights."""
  from tensorflow import keras

  from cql_atari.agents import networks

  seeds = iter(np.random.SeedSequence(seed).generate_state(64))
  # PyTorch's are within 1 / sqrt(fan_in), biases too.
  scale = 1 / 3 if initial == 'torch' else 1 / np.sqrt(3)

  def settings(fan_in):
    made = {
      'kernel_initializer': keras.initializers.VarianceScaling(
        scale, 'fan_in', 'uniform', seed=int(next(seeds))
      )
    }
    if initial == 'torch':
      bound = fan_in**-0.5
      made['bias_initializer'] = keras.initializers.RandomUniform(
        -bound, bound, seed=int(next(seeds))
      )
    return made

  states = keras.layers.Input((84, 84, 4), dtype='uint8')
  x = keras.layers.Rescaling(1 / 255)(states)
  for channels, size, stride in zip(DISCRETE['filters'], (8, 4, 3), (4, 2, 1)):
    fan_in = size * size * x.shape[-1]
    x = keras.layers.Conv2D(
      channels, size, stride, padding, activation='relu', **settings(fan_in)
    )(x)
  x = keras.layers.Flatten()(x)
  x = networks.Dense(
    DISCRETE['hidden_units'], activation='relu', **settings(x.shape[-1])
  )(x)
  shape = (num_actions, DISCRETE['num_quantiles'])
  x = networks.Dense(int(np.prod(shape)), **settings(x.shape[-1]))(x)
  return keras.Model(states, keras.layers.Reshape(shape)(x))


def atari_data(keeps_blank_rows: bool):
  """Whole games as d3rlpy has them; by default without the blank rows."""
  from cql_atari.replay import shard_folder

  columns = {'observations': [], 'actions': [], 'rewards': [], 'terminals': []}
  ends, rows = [], 0
  for shard in shard_folder.list_shards(_DATA.value):
    frames = np.concatenate(list(shard.frames(stop=shard.num_rows)))
    endings = shard.endings(shard.num_rows)
    start = 0
    for stop in np.flatnonzero(endings) + 1:
      game = slice(start, stop)
      start = stop
      blank = ~frames[game].any(axis=(1, 2))
      first = game.start
      if not keeps_blank_rows:
        first += int(np.argmin(blank))
      game = slice(first, stop)
      columns['observations'].append(frames[game])
      columns['actions'].append(shard.read('action')[game])
      columns['rewards'].append(np.clip(shard.read('reward')[game], -1, 1))
      columns['terminals'].append(endings[game] == 1)
      rows += stop - first
      ends.append(rows)
  return {
    **{name: np.concatenate(parts) for name, parts in columns.items()},
    'ends': np.array(ends),
  }


def atari_contender(name, seed, store, folder):
  """(what can be saved, train, q_values of states (B, 84, 84, 4))."""
  if name in PEERS:
    ways = dict(PEERS[name])
    arrays = atari_data(ways.pop('keeps_blank_rows', False))
    sizes = {'action_size': store.action_size, 'seed': seed}
    peer = Peer({**DISCRETE, **ways, **sizes}, arrays, folder)
    return (
      peer,
      peer.train,
      lambda states: peer.ask(
        'q_values', np.moveaxis(states, -1, 1), store.action_size
      ),
    )
  from cql_atari.agents import cql_agent, optimizers

  ways = dict(DIFFERENCES[name])
  double_q = ways.pop('double_q', False)
  epsilon = ways.pop('adam_epsilon', DISCRETE['adam_epsilon'])
  agent = cql_agent.CQLAgent(
    store,
    network=lambda actions, seed: network(actions, seed, **ways),
    optimizer=lambda: optimizers.Adam(
      DISCRETE['learning_rate'], epsilon=epsilon
    ),
    alpha=DISCRETE['alpha'],
    batch_size=DISCRETE['batch_size'],
    target_update_period=DISCRETE['target_update_period'],
    double_q=double_q,
    seed=seed,
  )

  def train(steps):
    agent.train_steps(steps)
    agent.mean_scalars()  # Waits for them.

  return agent, train, agent.predict_q_values


def run_atari(name, seed, folder):
  """A contender's curve."""
  from cql_atari.environments import atari, evaluation
  from cql_atari.replay import opening

  store = opening.open_store(_DATA.value, _GAME.value)
  model, train, q_values = atari_contender(name, seed, store, folder)
  sampler = store_states(store, seed=0)
  games = atari.AtariEnvironments(
    _GAME.value, _GAMES, max_steps_per_episode=_MAX_STEPS
  )

  def select(states, rng):
    actions = q_values(states).argmax(axis=1)
    is_random = rng.random(len(states)) < _EPSILON
    drawn = rng.integers(store.action_size, size=len(states))
    return np.where(is_random, drawn, actions)

  def measure(step):
    played = evaluation.play(games, select, _EVALUATION_STEPS, seed=step)
    states, actions = sampler
    values = np.concatenate([q_values(s) for s in np.split(states, 20)])
    of_data = values[np.arange(len(values)), actions]
    return (
      float(played.returns.mean()),
      len(played.returns),
      float(values.max(axis=1).mean()),
      float(of_data.mean()),
    )

  _follow(model, train, measure, name, seed)


def store_states(store, seed):
  """States and actions of the data, the same for all contenders."""
  from cql_atari.replay import sampler

  batch = next(
    sampler.TransitionSampler(store, _STATES, 1, 0.99, seed).batches(0)
  )
  return np.asarray(batch.state), np.asarray(batch.action)


# --- D4RL. ---


def run_d4rl(name, seed, folder):
  """A contender's curve."""
  from cql_atari.continuous import datasets, environments
  from cql_atari.environments import evaluation

  settings, of_data = SIZES[_SIZES.value]
  data = datasets.open_task_data(_TASK.value, _DATA.value, **of_data)
  played = environments.D4RLEnvironments(_TASK.value, 10)
  if name == 'd3rlpy':
    # The rows' own episodes; what was cut off is no terminal.
    ends = np.unique(np.append(data.starts[1:], len(data)))
    arrays = {
      'observations': data.state, 'actions': data.action,
      'rewards': data.reward, 'terminals': data.terminal, 'ends': ends,
    }  # fmt: skip
    sizes = {'action_size': data.action_size, 'seed': seed}
    model = Peer({**settings, **sizes}, arrays, folder)
    train = model.train

    def ask(what, states, width=None):
      normalized = (states - data.state_mean) / data.state_std
      return model.ask(what, normalized.astype(np.float32), width)

    act = lambda states: ask('act', states, data.action_size)  # noqa: E731
    values = lambda states: ask('q_values', states)  # noqa: E731
  else:
    model = _our_continuous(data, settings, seed, name == _MODE)

    def train(steps):
      model.train_steps(steps)
      model.mean_scalars()

    act = model.select_actions
    values = lambda s: model.predict_q_values(s, act(s))  # noqa: E731
  states = data.sample_states(_STATES, np.random.default_rng(0))
  task = data.task

  def measure(step):
    games = evaluation.play(
      played, lambda states, rng: np.array(act(states)), 1, seed=step
    )
    score = task.normalized_score(games.returns.mean())
    q_policy = float(values(states.astype(np.float32)).mean())
    return float(score), len(games.returns), q_policy, float('nan')

  _follow(model, train, measure, name, seed)


def _our_continuous(data, settings, seed, takes_mode):
  import tensorflow as tf

  from cql_atari.continuous import networks
  from cql_atari.continuous.agents import cql_agent

  class OfMode(cql_agent.CQLSACAgent):
    def next_value(self, batch, noise):
      self._normal(noise)  # The noise of what follows stays the same.
      values = self.target_critic(
        batch.next_state, self.policy.mode(batch.next_state)
      )
      return tf.reduce_min(values, axis=0)

  hidden = settings['hidden_units']
  return (OfMode if takes_mode else cql_agent.CQLSACAgent)(
    data,
    policy=lambda *sizes: networks.TanhGaussianPolicy(
      *sizes, hidden_units=hidden, log_std_range=(-20.0, 2.0)
    ),
    critic=lambda *sizes: networks.Critic(*sizes, hidden_units=hidden),
    policy_learning_rate=settings['policy_learning_rate'],
    critic_learning_rate=settings['critic_learning_rate'],
    temperature_learning_rate=settings['policy_learning_rate'],
    batch_size=settings['batch_size'],
    num_samples=settings['num_samples'],
    alpha=settings['alpha'],
    entropy_backup=False,
    seed=seed,
  )


# --- Both. ---


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
  known = [*PEERS, *DIFFERENCES] if _GAME.value else ['d3rlpy', 'ours', _MODE]
  names = _CONTENDERS.value or known
  if wrong := set(names) - set(known):
    raise UserError(f'there is no contender {wrong}: {", ".join(known)}.')
  seeds = [int(seed) for seed in _SEEDS.value or ('0', '1', '2')]
  with quiet.quiet():
    import tensorflow as tf
  tf.config.experimental.set_synchronous_execution(False)
  run = run_atari if _GAME.value else run_d4rl
  for seed in seeds:
    for name in names:
      rows = _read(_path(name, seed))
      if rows and rows[-1][0] + _PERIOD.value > _STEPS.value:
        continue
      with tempfile.TemporaryDirectory() as folder:
        run(name, seed, folder)
  summarize(known, range(10))


if __name__ == '__main__':
  _COMMAND.run(main)
