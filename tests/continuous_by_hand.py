"""Every loss of the continuous agents in NumPy, float64, on two states."""

import numpy as np

from cql_atari.continuous import datasets, networks, tasks
from cql_atari.continuous.agents import (
  bc_agent,
  bear_agent,
  brac_agent,
  cql_agent,
  sac_agent,
)
from cql_atari.continuous.sampling import Transition

GAMMA, SAMPLES, SIZE = 0.9, 3, 2  # SIZE of an action.
STATES = np.eye(2)
BATCH = Transition(
  STATES,
  np.array([[0.3, -0.4], [-0.8, 0.1]]),
  np.array([1.0, -0.5]),
  STATES[::-1].copy(),
  np.array([0.0, 1.0]),
)


class Draws:
  """Noise that is known beforehand, the same every time it is begun anew."""

  def __init__(self):
    self._rng = np.random.default_rng(7)

  def normal(self, *shape):
    return self._rng.standard_normal(shape).astype(np.float32)

  def uniform(self, *shape):
    return self._rng.uniform(-1, 1, shape).astype(np.float32)


def dataset(transitions=BATCH) -> datasets.Dataset:
  none = np.zeros(0)
  return datasets.Dataset(
    tasks.task('hopper-medium'),
    *(column.astype(np.float32) for column in transitions),
    np.zeros(2, np.float32),
    np.ones(2, np.float32),
    none.astype(int),
    none.astype(int),
    {},
  )


def make(agent_class, **settings):
  agent = agent_class(
    dataset(),
    policy=lambda *sizes: networks.TanhGaussianPolicy(*sizes, (4,)),
    gamma=GAMMA,
    batch_size=2,
    **settings,
  )
  rng = np.random.default_rng(11)
  learned = [part.variables for part in agent.parts]
  if isinstance(agent, brac_agent.BRACAgent):
    learned.append(agent.behavior.layers)
  for variables in learned:  # Biases and targets other than they began as.
    for variable in variables:
      variable.assign_add(rng.normal(0, 0.1, variable.shape).astype(np.float32))
  return agent


def make_critic(*args, **settings):
  return make(
    *args, critic=lambda *sizes: networks.Critic(*sizes, (5,)), **settings
  )


# --- The same in NumPy. ---


def doubles(variables):
  return [variable.numpy().astype(np.float64) for variable in variables]


def mlp(weights, x):
  *hidden, last = zip(weights[::2], weights[1::2])
  for kernel, bias in hidden:
    x = np.maximum(x @ kernel + bias, 0)
  return x @ last[0] + last[1]


def density(noise, log_std, before):
  normal = -0.5 * noise**2 - 0.5 * np.log(2 * np.pi) - log_std
  return (normal - np.log(1 - np.tanh(before) ** 2)).sum(axis=-1)


def moments(weights, states, many):
  mean, log_std = np.split(mlp(weights, states), 2, axis=-1)
  log_std = np.clip(log_std, -5, 2)
  return (mean[:, None], log_std[:, None]) if many else (mean, log_std)


def sample(weights, states, noise):
  mean, log_std = moments(weights, states, noise.ndim == 3)
  before = mean + np.exp(log_std) * noise
  return np.tanh(before), density(noise, log_std, before)


def log_density(weights, states, actions):
  mean, log_std = moments(weights, states, actions.ndim == 3)
  before = np.arctanh(actions)
  return density((before - mean) / np.exp(log_std), log_std, before)


def q_values(weights, states, actions):
  """Two critics, with as many variables each."""
  if actions.ndim == 3:
    states = np.repeat(states[:, None], actions.shape[1], axis=1)
  inputs = np.concatenate([states, actions], axis=-1)
  half = len(weights) // 2
  return np.stack(
    [mlp(w, inputs)[..., 0] for w in (weights[:half], weights[half:])]
  )


class Hand:
  """The losses worked out from the equations."""

  def __init__(self, agent):
    self.policy = doubles(agent.policy.layers)
    self.agent = agent
    if hasattr(agent, 'critic'):
      self.critic = doubles(agent.critic.layers)
      self.target = doubles(agent.target_critic.layers)
      self.temperature = float(agent.temperature)
    if hasattr(agent, 'behavior'):
      self.behavior = doubles(agent.behavior.layers)

  def normal(self, draws, *many):
    return draws.normal(2, *many, SIZE).astype(np.float64)

  def sac_critic(self, draws):
    action, density = sample(self.policy, BATCH.next_state, self.normal(draws))
    value = q_values(self.target, BATCH.next_state, action).min(axis=0)
    return self.td(value - self.temperature * density)

  def td(self, value):
    target = BATCH.reward + GAMMA * (1 - BATCH.terminal) * value
    q_data = q_values(self.critic, BATCH.state, BATCH.action)
    return (0.5 * (q_data - target) ** 2).sum(axis=0).mean()

  def sac_policy(self, draws):
    action, density = sample(self.policy, BATCH.state, self.normal(draws))
    value = q_values(self.critic, BATCH.state, action).min(axis=0)
    return (self.temperature * density - value).mean()

  def cql_critic(self, draws):
    td_loss = self.sac_critic(draws)
    q_data = q_values(self.critic, BATCH.state, BATCH.action)
    # What is drawn, and how likely it was, is no variable here.
    fixed = doubles(self.agent.policy.layers)
    if self.agent.penalty == 'var':
      uniform = draws.uniform(2, SAMPLES, SIZE).astype(np.float64)
      values = q_values(self.critic, BATCH.state, uniform)
      worst = values.mean(axis=-1) + np.sqrt(0.5) * values.std(axis=-1)
      return td_loss + 1.5 * (worst - q_data).mean(axis=1).sum()
    own, own_density = sample(fixed, BATCH.state, self.normal(draws, SAMPLES))
    q_own = q_values(self.critic, BATCH.state, own)
    if self.agent.penalty == 'H':
      following, following_density = sample(
        fixed, BATCH.next_state, self.normal(draws, SAMPLES)
      )
      uniform = draws.uniform(2, SAMPLES, SIZE).astype(np.float64)
      total = np.exp(q_own - own_density).sum(axis=-1)
      q_next = q_values(self.critic, BATCH.state, following)
      total += np.exp(q_next - following_density).sum(axis=-1)
      q_uniform = q_values(self.critic, BATCH.state, uniform)
      total += (np.exp(q_uniform) * 2.0**SIZE).sum(axis=-1)
      penalty = np.log(total / (3 * SAMPLES)) - q_data
    elif self.agent.penalty == 'rho':
      first = q_values(doubles(self.agent.critic.layers), BATCH.state, own)
      weights = np.exp(first) / np.exp(first).sum(axis=-1, keepdims=True)
      penalty = (weights * q_own).sum(axis=-1) - q_data
    elif self.agent.penalty == 'rho-code':
      following, _ = sample(
        fixed, BATCH.next_state, self.normal(draws, SAMPLES)
      )
      uniform = draws.uniform(2, SAMPLES, SIZE).astype(np.float64)
      everything = [uniform, own, following, BATCH.action[:, None]]
      values = [q_values(self.critic, BATCH.state, a) for a in everything]
      total = np.exp(np.concatenate(values, axis=-1)).sum(axis=-1)
      penalty = np.log(total) - q_data
    elif self.agent.penalty == 'mu':
      penalty = q_own.mean(axis=-1) - q_data
    else:
      penalty = q_own.mean(axis=-1)
    return td_loss + 1.5 * penalty.mean(axis=1).sum()

  def max_critic(self, draws):
    actions, _ = sample(
      self.policy, BATCH.next_state, self.normal(draws, SAMPLES)
    )
    values = q_values(self.target, BATCH.next_state, actions)
    td_loss = self.td(values.max(axis=-1).min(axis=0))
    q_data = q_values(self.critic, BATCH.state, BATCH.action)
    own, _ = sample(self.policy, BATCH.state, self.normal(draws, SAMPLES))
    penalty = q_values(self.critic, BATCH.state, own).mean(axis=-1) - q_data
    return td_loss + 1.5 * penalty.mean(axis=1).sum()

  def warm_policy(self, draws):
    _, density = sample(self.policy, BATCH.state, self.normal(draws))
    likelihood = log_density(self.policy, BATCH.state, BATCH.action)
    return (self.temperature * density - likelihood).mean()

  def cloning(self, draws):
    del draws
    return -log_density(self.policy, BATCH.state, BATCH.action).mean()

  def bear_critic(self, draws):
    actions, _ = sample(
      self.policy, BATCH.next_state, self.normal(draws, SAMPLES)
    )
    values = q_values(self.target, BATCH.next_state, actions)
    mixed = 0.75 * values.min(axis=0) + 0.25 * values.max(axis=0)
    return self.td(mixed.max(axis=1))

  def bear_policy(self, draws):
    loss = self.sac_policy(draws)
    if self.agent.warmup_steps:
      loss = 0.0  # The MMD alone.
    latent = np.clip(draws.normal(2, SAMPLES, 2 * SIZE), -0.5, 0.5)
    latent = latent.astype(np.float64)
    states = np.repeat(BATCH.state[:, None], SAMPLES, axis=1)
    decoder = self.behavior[len(self.behavior) // 2 :]
    # Both before tanh.
    likely = mlp(decoder, np.concatenate([states, latent], axis=-1))
    mean, log_std = moments(self.policy, BATCH.state, True)
    own = mean + np.exp(log_std) * self.normal(draws, SAMPLES)
    distance = {'laplacian': np.abs, 'gaussian': np.square}[self.agent.kernel]
    mmds = []
    for x, y in zip(own, likely):

      def mean(a, b):
        return np.mean(
          [np.exp(-distance(p - q).sum() / 40) for p in a for q in b]
        )

      mmds.append(np.sqrt(mean(x, x) - 2 * mean(x, y) + mean(y, y) + 1e-6))
    return loss + np.mean(mmds) - 0.05

  def divergence(self, states):
    mean, log_std = moments(self.policy, states, False)
    other, other_log_std = moments(self.behavior, states, False)
    ratio = np.exp(2 * (log_std - other_log_std))
    far = ((mean - other) / np.exp(other_log_std)) ** 2
    each = 0.5 * (ratio + far - 1) - (log_std - other_log_std)
    return each.sum(axis=-1)

  def brac_critic(self, draws):
    action, _ = sample(self.policy, BATCH.next_state, self.normal(draws))
    value = q_values(self.target, BATCH.next_state, action).min(axis=0)
    if self.agent.penalize_value:
      value -= 0.3 * self.divergence(BATCH.next_state)
    return self.td(value)

  def brac_policy(self, draws):
    action, _ = sample(self.policy, BATCH.state, self.normal(draws))
    value = q_values(self.critic, BATCH.state, action).min(axis=0).mean()
    if self.agent.warmup_steps:
      value = 0.0  # The divergence alone.
    return -value + 0.3 * self.divergence(BATCH.state).mean()


CQL = {'alpha': 1.5, 'num_samples': SAMPLES, 'entropy_backup': True}


def small_behavior(*sizes):
  return networks.TanhGaussianPolicy(*sizes, (16,))


BRAC = {
  'alpha': 0.3,
  'behavior': small_behavior,
  'warmup_steps': 0,
  'behavior_steps': 3,
  'behavior_check_period': 2,
}


def small_vae(*sizes):
  return networks.ConditionalVAE(*sizes, (6,))


BEAR = {
  'num_samples': SAMPLES,
  'mmd_samples': SAMPLES,
  'warmup_steps': 0,
  'behavior': small_vae,
}
ALL_AGENTS = {
  'BC': (bc_agent.ContinuousBCAgent, {}),
  'SAC': (sac_agent.SACAgent, {}),
  'CQL': (cql_agent.CQLSACAgent, {'target_gap': 1.0, 'warmup_steps': 0}),
  'BEAR': (bear_agent.BEARAgent, BEAR),
  'BRAC': (brac_agent.BRACAgent, BRAC),
}
CASES = {
  'SAC critic': (sac_agent.SACAgent, {}, 'critic', Hand.sac_critic),
  'SAC policy': (sac_agent.SACAgent, {}, 'policy', Hand.sac_policy),
  **{
    f'CQL({name})': (
      cql_agent.CQLSACAgent,
      {**CQL, 'penalty': name, 'chi2_radius': 0.5},
      'critic',
      Hand.cql_critic,
    )
    for name in ('H', 'rho', 'rho-code', 'mu', 'eq1', 'var')
  },
  'max backup': (
    cql_agent.CQLSACAgent,
    {**CQL, 'penalty': 'mu', 'max_backup': True},
    'critic',
    Hand.max_critic,
  ),
  'warm-up': (
    sac_agent.SACAgent,
    {'warmup_steps': 1},
    'policy',
    Hand.warm_policy,
  ),
  'BC': (bc_agent.ContinuousBCAgent, {}, 'policy', Hand.cloning),
  'BEAR critic': (bear_agent.BEARAgent, BEAR, 'critic', Hand.bear_critic),
  **{
    f'BEAR policy, {name}': (
      bear_agent.BEARAgent,
      {**BEAR, **settings},
      'policy',
      Hand.bear_policy,
    )
    for name, settings in {
      'laplacian': {},
      'gaussian': {'kernel': 'gaussian'},
      'warm-up': {'warmup_steps': 1},
    }.items()
  },
  'BRAC-v critic': (brac_agent.BRACAgent, BRAC, 'critic', Hand.brac_critic),
  'BRAC-p critic': (
    brac_agent.BRACAgent,
    {**BRAC, 'penalize_value': False},
    'critic',
    Hand.brac_critic,
  ),
  'BRAC policy': (brac_agent.BRACAgent, BRAC, 'policy', Hand.brac_policy),
  'BRAC policy, warm-up': (
    brac_agent.BRACAgent,
    {**BRAC, 'warmup_steps': 1},
    'policy',
    Hand.brac_policy,
  ),
}
