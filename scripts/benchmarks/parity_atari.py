"""Our CQL and d3rlpy's on Atari, the contenders of `parity.py`."""

import numpy as np
from tensorflow import keras

from cql_atari.agents import cql_agent, networks, optimizers
from cql_atari.environments import atari, evaluation
from cql_atari.replay import opening, sampler, shard_folder

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
CONTENDERS = [*PEERS, *DIFFERENCES]
_STATES = 2000  # Of the data, for mean Q-values.
_EVALUATION_STEPS, _GAMES, _MAX_STEPS = 10_000, 16, 4_500
_EPSILON = 0.001


def _network(num_actions, seed, padding='same', initial='dopamine'):
  """Our small network, or with d3rlpy's padding or initial weights."""
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


def _rows(data: str, keeps_blank_rows: bool):
  """Whole games as d3rlpy has them; by default without the blank rows."""
  columns = {'observations': [], 'actions': [], 'rewards': [], 'terminals': []}
  ends, rows = [], 0
  for shard in shard_folder.list_shards(data):
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


def _contender(name, seed, data, store, make_peer):
  """(what can be saved, train, q_values of states (B, 84, 84, 4))."""
  if name in PEERS:
    ways = dict(PEERS[name])
    arrays = _rows(data, ways.pop('keeps_blank_rows', False))
    sizes = {'action_size': store.action_size, 'seed': seed}
    peer = make_peer({**DISCRETE, **ways, **sizes}, arrays)
    return (
      peer,
      peer.train,
      lambda states: peer.ask(
        'q_values', np.moveaxis(states, -1, 1), store.action_size
      ),
    )
  ways = dict(DIFFERENCES[name])
  double_q = ways.pop('double_q', False)
  epsilon = ways.pop('adam_epsilon', DISCRETE['adam_epsilon'])
  agent = cql_agent.CQLAgent(
    store,
    network=lambda actions, seed: _network(actions, seed, **ways),
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


def contender(name, seed, data, game, make_peer):
  """One of CONTENDERS on a run's data.

  Returns:
    The model, which `save` and `load` know; a function that takes gradient
    steps; and one that measures after a number of them: return, episodes, mean
    Q-values of the policy's and of the data's actions.
  """
  store = opening.open_store(data, game)
  model, train, q_values = _contender(name, seed, data, store, make_peer)
  batch = next(
    sampler.TransitionSampler(store, _STATES, 1, 0.99, seed=0).batches(0)
  )
  states, actions = np.asarray(batch.state), np.asarray(batch.action)
  games = atari.AtariEnvironments(
    game, _GAMES, max_steps_per_episode=_MAX_STEPS
  )

  def select(states, rng):
    actions = q_values(states).argmax(axis=1)
    is_random = rng.random(len(states)) < _EPSILON
    drawn = rng.integers(store.action_size, size=len(states))
    return np.where(is_random, drawn, actions)

  def measure(step):
    played = evaluation.play(games, select, _EVALUATION_STEPS, seed=step)
    values = np.concatenate([q_values(s) for s in np.split(states, 20)])
    of_data = values[np.arange(len(values)), actions]
    return (
      float(played.returns.mean()),
      len(played.returns),
      float(values.max(axis=1).mean()),
      float(of_data.mean()),
    )

  return model, train, measure
