"""Each Atari agent's loss in NumPy, float64, and small agents to compare."""

import functools

import numpy as np
import tensorflow as tf

from cql_atari.agents import (
  bc_agent,
  c51_agent,
  cql_agent,
  dqn_agent,
  fixed_replay_agent,
  networks,
  qrdqn_agent,
  rem_agent,
)
from cql_atari.losses import temporal_difference
from cql_atari.replay import sampler

B, A, N, DISCOUNT, STEP = 5, 4, 6, 0.9, 7
TRUNK = functools.partial(
  networks.nature_trunk, filters=(4, 8, 8), hidden_units=32
)
AGENTS = {
  'dqn': dqn_agent.FixedReplayDQNAgent,
  'qrdqn': qrdqn_agent.QRDQNAgent,
  'c51': c51_agent.C51Agent,
  'rem': rem_agent.REMAgent,
  'bc': bc_agent.BCAgent,
  'cql': cql_agent.CQLAgent,
  'cql_dqn': cql_agent.CQLDQNAgent,
  'cql_c51': cql_agent.CQLC51Agent,
}
HEADS = {
  'qrdqn': functools.partial(networks.quantile_network, num_quantiles=N),
  'c51': functools.partial(networks.categorical_network, num_atoms=N),
  'rem': functools.partial(networks.multi_head_network, num_heads=N),
  'dqn': networks.q_network,
  'bc': networks.q_network,
}
HEADS['cql'] = HEADS['qrdqn']


def head_of(name):
  return HEADS[name.removeprefix('cql_')]


def make(name, store, **settings):
  network = functools.partial(head_of(name), trunk=TRUNK)
  return AGENTS[name](store, network=network, **{'seed': 3, **settings})


def made_up(name):
  """Outputs and a batch of numbers without ties."""
  rng = np.random.default_rng(4)
  shape = (B, A) if name in ('dqn', 'bc', 'cql_dqn') else (B, A, N)
  online, target, selector, here = 1.5 * rng.normal(size=(4, *shape))
  action, terminal = rng.integers(A, size=B), np.array([0, 1, 0, 0, 1])
  reward = rng.integers(-1, 2, B).astype(np.float32)
  outputs = fixed_replay_agent.Outputs(
    online, target, selector, here, tf.constant(STEP, tf.int64)
  )
  batch = sampler.Transition(
    None, action.astype(np.int32), reward, None, terminal
  )
  return outputs, batch


# --- NumPy, one sample at a time. ---


def huber(u):
  return u * u / 2 if abs(u) <= 1 else abs(u) - 0.5


def softmax(x):
  return np.exp(x - x.max(-1, keepdims=True)) / np.exp(
    x - x.max(-1, keepdims=True)
  ).sum(-1, keepdims=True)


def mixture_by_hand():
  return temporal_difference.random_mixture(N, 3, STEP, tf.float64).numpy()


def q_by_hand(name, x):
  if name in ('qrdqn', 'cql', 'rem'):
    return x.mean(-1)
  if name in ('c51', 'cql_c51'):
    return softmax(x) @ np.linspace(-10, 10, N)
  return x


def td_by_hand(name, outputs, batch):
  online, target, selector = outputs[:3]
  if name == 'rem':
    online, target, selector = (
      x @ mixture_by_hand() for x in (online, target, selector)
    )
    name = 'dqn'
  losses = []
  for b in range(B):
    best = q_by_hand(name, selector)[b].argmax()
    follows = DISCOUNT * (1 - batch.terminal[b])
    mine, theirs = online[b, batch.action[b]], target[b, best]
    if name in ('dqn', 'cql_dqn'):
      losses.append(huber(batch.reward[b] + follows * theirs - mine))
    elif name in ('qrdqn', 'cql'):
      losses.append(
        sum(
          abs((i + 0.5) / N - (u < 0)) * huber(u) / N
          for i in range(N)
          for j in range(N)
          for u in [batch.reward[b] + follows * theirs[j] - mine[i]]
        )
      )
    else:
      atoms, projected = np.linspace(-10, 10, N), np.zeros(N)
      for atom, mass in zip(atoms, softmax(theirs)):
        place = np.clip(batch.reward[b] + follows * atom, -10, 10)
        place = (place + 10) / (atoms[1] - atoms[0])
        low = min(int(place), N - 2)
        projected[low] += mass * (low + 1 - place)
        projected[low + 1] += mass * (place - low)
      losses.append(-projected @ np.log(softmax(mine)))
  return np.mean(losses)


def penalty_by_hand(name, outputs, batch, kind='H', radius=1.0):
  q = q_by_hand(name, outputs.online)
  data = q[np.arange(B), batch.action]
  if kind == 'rho':
    weight = softmax(q_by_hand(name, outputs.reference)) * np.exp(q)
    mu = weight / weight.sum(1, keepdims=True)
    return np.mean((mu * q).sum(1) - data)
  pushed_down = {
    'H': np.log(np.exp(q).sum(1)),
    'mu': q.max(1),
    'eq1': q.max(1) + data,
    'var': q.mean(1) + np.sqrt(radius * q.var(1)),
  }
  return np.mean(pushed_down[kind] - data)


def loss_by_hand(name, outputs, batch):
  if name == 'bc':
    log_pi = np.log(softmax(outputs.online))
    return -log_pi[np.arange(B), batch.action].mean()
  loss = td_by_hand(name, outputs, batch)
  if name.startswith('cql'):
    loss += 2.5 * penalty_by_hand(name, outputs, batch)
  return loss
