"""Our CQL(H) and d3rlpy's on D4RL, the contenders of `parity.py`."""

import numpy as np
import tensorflow as tf

from cql_atari.continuous import datasets, environments, networks
from cql_atari.continuous.agents import cql_agent
from cql_atari.environments import evaluation

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
MODE = 'ours, the mode in the target'  # As d3rlpy's.
CONTENDERS = ['d3rlpy', 'ours', MODE]
_STATES = 2000  # Of the data, for mean Q-values.


def contender(name, seed, data, task, sizes, make_peer):
  """One of CONTENDERS on a task's data: as `parity_atari.contender`."""
  settings, of_data = SIZES[sizes]
  data = datasets.open_task_data(task, data, **of_data)
  played = environments.D4RLEnvironments(task, 10)
  if name == 'd3rlpy':
    # The rows' own episodes; what was cut off is no terminal.
    ends = np.unique(np.append(data.starts[1:], len(data)))
    arrays = {
      'observations': data.state, 'actions': data.action,
      'rewards': data.reward, 'terminals': data.terminal, 'ends': ends,
    }  # fmt: skip
    own = {'action_size': data.action_size, 'seed': seed}
    model = make_peer({**settings, **own}, arrays)
    train = model.train

    def ask(what, states, width=None):
      normalized = (states - data.state_mean) / data.state_std
      return model.ask(what, normalized.astype(np.float32), width)

    act = lambda states: ask('act', states, data.action_size)  # noqa: E731
    values = lambda states: ask('q_values', states)  # noqa: E731
  else:
    model = _our_continuous(data, settings, seed, name == MODE)

    def train(steps):
      model.train_steps(steps)
      model.mean_scalars()

    act = model.select_actions
    values = lambda s: model.predict_q_values(s, act(s))  # noqa: E731
  states = data.sample_states(_STATES, np.random.default_rng(0))

  def measure(step):
    games = evaluation.play(
      played, lambda states, rng: np.array(act(states)), 1, seed=step
    )
    score = data.task.normalized_score(games.returns.mean())
    q_policy = float(values(states.astype(np.float32)).mean())
    return float(score), len(games.returns), q_policy, float('nan')

  return model, train, measure


def _our_continuous(data, settings, seed, takes_mode):
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
    warmup_steps=0,  # As d3rlpy has none.
    seed=seed,
  )
