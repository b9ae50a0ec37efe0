"""Every loss and its gradient against NumPy in float64, on two states."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from cql_atari.continuous import datasets, networks, tasks
from cql_atari.continuous.agents import (
  bc_agent,
  bear_agent,
  brac_agent,
  cql_agent,
  fqe_agent,
  sac_agent,
)
from cql_atari.continuous.sampling import FixedSampler, Noise, Transition
from cql_atari.core.errors import UserError

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
    none,
    none.astype(int),
    {},
  )


def make(agent_class, **settings):
  agent = agent_class(
    SIZE,
    dataset(),
    policy=lambda *sizes: networks.TanhGaussianPolicy(*sizes, (4,)),
    gamma=GAMMA,
    batch_size=2,
    **settings,
  )
  rng = np.random.default_rng(11)
  for (
    part
  ) in agent.parts:  # Biases and targets that are not what they began as.
    for variable in part.variables:
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
    latent = np.clip(draws.normal(2, SAMPLES, 2 * SIZE), -0.5, 0.5)
    latent = latent.astype(np.float64)
    states = np.repeat(BATCH.state[:, None], SAMPLES, axis=1)
    decoder = self.behavior[len(self.behavior) // 2 :]
    likely = np.tanh(mlp(decoder, np.concatenate([states, latent], axis=-1)))
    own, _ = sample(self.policy, BATCH.state, self.normal(draws, SAMPLES))
    mmds = []
    for x, y in zip(own, likely):

      def mean(a, b):
        return np.mean(
          [np.exp(-np.abs(p - q).sum() / 40) for p in a for q in b]
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

  def behavior_cloning(self, draws):
    del draws
    return -log_density(self.behavior, BATCH.state, BATCH.action).mean()

  def brac_critic(self, draws):
    action, _ = sample(self.policy, BATCH.next_state, self.normal(draws))
    value = q_values(self.target, BATCH.next_state, action).min(axis=0)
    if self.agent.penalize_value:
      value -= 0.3 * self.divergence(BATCH.next_state)
    return self.td(value)

  def brac_policy(self, draws):
    action, _ = sample(self.policy, BATCH.state, self.normal(draws))
    value = q_values(self.critic, BATCH.state, action).min(axis=0)
    return -value.mean() + 0.3 * self.divergence(BATCH.state).mean()


CQL = {'alpha': 1.5, 'num_samples': SAMPLES}
BRAC = {'alpha': 0.3}


def small_vae(*sizes):
  return networks.ConditionalVAE(*sizes, (6,))


BEAR = {'num_samples': SAMPLES, 'behavior': small_vae}
ALL_AGENTS = {
  'BC': (bc_agent.ContinuousBCAgent, {}),
  'SAC': (sac_agent.SACAgent, {}),
  'CQL': (cql_agent.CQLSACAgent, {'target_gap': 1.0}),
  'BEAR': (bear_agent.BEARAgent, BEAR),
  'BRAC': (brac_agent.BRACAgent, {}),
}
CASES = {
  'SAC critic': (sac_agent.SACAgent, {}, 'critic', Hand.sac_critic),
  'SAC policy': (sac_agent.SACAgent, {}, 'policy', Hand.sac_policy),
  **{
    f'CQL({name})': (
      cql_agent.CQLSACAgent,
      {**CQL, 'penalty': name},
      'critic',
      Hand.cql_critic,
    )
    for name in cql_agent.PENALTIES
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
  'BEAR policy': (bear_agent.BEARAgent, BEAR, 'policy', Hand.bear_policy),
  'BRAC-v critic': (brac_agent.BRACAgent, BRAC, 'critic', Hand.brac_critic),
  'BRAC-p critic': (
    brac_agent.BRACAgent,
    {**BRAC, 'penalize_value': False},
    'critic',
    Hand.brac_critic,
  ),
  'BRAC behavior': (
    brac_agent.BRACAgent,
    BRAC,
    'behavior',
    Hand.behavior_cloning,
  ),
  'BRAC policy': (brac_agent.BRACAgent, BRAC, 'policy', Hand.brac_policy),
}


@pytest.mark.parametrize('name', CASES)
def test_loss_and_gradient_are_those_worked_by_hand(name):
  agent_class, settings, module, by_hand = CASES[name]
  is_bc = agent_class is bc_agent.ContinuousBCAgent
  agent = (make if is_bc else make_critic)(agent_class, **settings)
  loss_function = getattr(agent, f'{module}_loss')
  variables = getattr(agent, module).layers
  with tf.GradientTape() as tape:
    loss, _ = loss_function(
      Transition(*(tf.constant(x, tf.float32) for x in BATCH)), Draws()
    )
  hand = Hand(agent)
  assert float(loss) == pytest.approx(by_hand(hand, Draws()), rel=1e-5)
  step, largest = 1e-6, 0.0
  weights = getattr(hand, module)
  for weight, gradient in zip(weights, tape.gradient(loss, variables)):
    for index in np.ndindex(weight.shape):
      weight[index] += step
      above = by_hand(hand, Draws())
      weight[index] -= 2 * step
      below = by_hand(hand, Draws())
      weight[index] += step
      expected = (above - below) / (2 * step)
      largest = max(largest, abs(expected))
      assert float(gradient[index]) == pytest.approx(
        expected, rel=1e-3, abs=2e-5
      )
  assert largest > 0.01


def test_vae_loss_is_the_one_worked_by_hand():
  vae = networks.ConditionalVAE(2, SIZE, np.random.SeedSequence(1), (6,))
  noise = Draws().normal(2, 2 * SIZE)
  found = vae.loss(
    tf.constant(BATCH.state, tf.float32),
    tf.constant(BATCH.action, tf.float32),
    noise,
  )
  weights = doubles(vae.layers)
  encoder, decoder = weights[: len(weights) // 2], weights[len(weights) // 2 :]
  inputs = np.concatenate([BATCH.state, BATCH.action], axis=-1)
  mean, log_std = np.split(mlp(encoder, inputs), 2, axis=-1)
  latent = mean + np.exp(log_std) * noise
  decoded = np.tanh(mlp(decoder, np.concatenate([BATCH.state, latent], -1)))
  divergence = -0.5 * (1 + 2 * log_std - mean**2 - np.exp(2 * log_std)).mean()
  expected = ((decoded - BATCH.action) ** 2).mean() + 0.5 * divergence
  assert float(found) == pytest.approx(expected, rel=1e-5)


def test_temperature_moves_along_its_gradient():
  agent = make_critic(sac_agent.SACAgent, temperature_learning_rate=0.01)
  before = float(agent.temperature)
  agent.after_step({'entropy': tf.constant(-1.0)})  # Above the target, -2.
  assert float(agent.temperature) == pytest.approx(before * np.exp(-0.01))
  agent = make_critic(sac_agent.SACAgent, temperature_learning_rate=0.01)
  agent.after_step({'entropy': tf.constant(-3.0)})
  assert float(agent.temperature) == pytest.approx(before * np.exp(0.01))


def test_tuned_alpha_comes_to_its_target_gap():
  """A bandit: reward 2 a_1, actions uniform in the data.

  With alpha 0, Q = 2 a_1, and the gap is log of the integral of exp(2 a_1) =
  log(e^2 - e^-2) = 1.98 nats; with a great alpha Q is flat, and it is log 4.
  """
  rng, count = np.random.default_rng(0), 2000
  actions = rng.uniform(-1, 1, (count, SIZE))
  states, ones = np.tile(STATES[:1], (count, 1)), np.ones(count)
  data = dataset(Transition(states, actions, 2 * actions[:, 0], states, ones))
  agent = cql_agent.CQLSACAgent(
    SIZE,
    data,
    policy=lambda *sizes: networks.TanhGaussianPolicy(*sizes, (4,)),
    critic=lambda *sizes: networks.Critic(*sizes, (32,)),
    alpha=0.1,
    target_gap=1.7,
    alpha_learning_rate=0.01,
    critic_learning_rate=0.003,
  )
  agent.train_steps(1000)
  agent.mean_scalars(reset=True)
  agent.train_steps(200)
  told = agent.mean_scalars()
  assert told['cql_penalty'] == pytest.approx(1.7, abs=0.02)
  assert told['alpha'] > 0.2


def first_moment(dual):
  """Adam's, after one step: a tenth of the gradient."""
  return float(dual.saved('x')['x_first_moment']) / 0.1


def test_dual_variables_climb_value_times_gap_by_log_value():
  agent = make_critic(
    cql_agent.CQLSACAgent, alpha=3.0, target_gap=0.5, num_samples=2
  )
  agent.after_step(
    {'entropy': tf.constant(-3.25), 'cql_penalty': tf.constant(2.0)}
  )
  found = first_moment(agent._temperature)  # d/dlog T of -T (log pi + target).
  assert found == pytest.approx(-1.0 * (-2 + 3.25), rel=1e-5)
  alpha = float(agent.weight.saved()['alpha_first_moment']) / 0.1
  assert alpha == pytest.approx(-3.0 * (2.0 - 0.5), rel=1e-5)
  bear = make_critic(bear_agent.BEARAgent, **BEAR)
  bear.after_step({'entropy': tf.constant(0.0), 'mmd': tf.constant(0.3)})
  assert first_moment(bear._multiplier) == pytest.approx(-0.25, rel=1e-5)


def test_warming_up_ends():
  batch = Transition(*(tf.constant(x, tf.float32) for x in BATCH))
  losses = []
  for warmup_steps in (2, 0):
    agent = make_critic(
      sac_agent.SACAgent, warmup_steps=warmup_steps, policy_learning_rate=0.0
    )
    for _ in range(3):
      losses.append(float(agent.policy_loss(batch, Draws())[0]))
      agent.parts[0].optimizer.iterations.assign_add(1)
  assert losses[0] == losses[1] != losses[2] == losses[5]


def test_batches_come_from_all_of_the_data():
  count = 50
  numbers = np.arange(count, dtype=np.float32)
  columns = [np.stack([numbers] * SIZE, axis=1)] * 2
  data = dataset(Transition(*columns, numbers, columns[0], numbers))
  batch = FixedSampler(data).sample(Noise(0, tf.constant(0, tf.int64)), 1000)
  counts = np.bincount(batch.reward.numpy().astype(int), minlength=count)
  assert counts.min() > 5 and counts.max() < 45
  for column in (batch.state[:, 1], batch.action[:, 0], batch.terminal):
    np.testing.assert_array_equal(column, batch.reward)  # Rows stay whole.


@pytest.mark.parametrize('name', ALL_AGENTS)
def test_everything_that_is_to_learn_learns(name):
  agent_class, settings = ALL_AGENTS[name]
  maker = make if name == 'BC' else make_critic
  agent = maker(agent_class, **settings)
  before = agent.bundle_and_checkpoint('', 0)
  agent.train_steps(3)
  after = agent.bundle_and_checkpoint('', 0)
  still = [
    key
    for key in before
    if np.array_equal(before[key], after[key]) and 'scalar' not in key
  ]
  assert not still


def test_targets_follow_at_their_rate():
  agent = make_critic(sac_agent.SACAgent, target_rate=0.25)
  online, target = (
    doubles(agent.critic.layers),
    doubles(agent.target_critic.layers),
  )
  agent.after_step({'entropy': tf.constant(0.0)})
  for x, before, after in zip(
    online, target, doubles(agent.target_critic.layers)
  ):
    np.testing.assert_allclose(after, 0.75 * before + 0.25 * x, rtol=1e-5)


def test_value_of_an_ensemble_is_its_least():
  agent = make(
    sac_agent.SACAgent,
    critic=lambda *sizes: networks.Critic(*sizes, (5,), num_critics=4),
    temperature=0.0,
  )
  batch = Transition(*(tf.constant(x, tf.float32) for x in BATCH))
  action, _ = agent.policy.sample(batch.next_state, Draws().normal(2, SIZE))
  values = agent.target_critic(batch.next_state, action)
  assert values.shape == (4, 2)
  np.testing.assert_allclose(
    agent.next_value(batch, Draws()), values.numpy().min(axis=0)
  )


ALL = {
  'SAC': (sac_agent.SACAgent, {}),
  'CQL': (cql_agent.CQLSACAgent, {'target_gap': 1.0, 'warmup_steps': 3}),
  'BEAR': (bear_agent.BEARAgent, {'behavior': small_vae}),
  'BRAC': (brac_agent.BRACAgent, {}),
}


@pytest.mark.parametrize('name', ALL)
def test_a_restored_agent_goes_on_to_the_bit(name):
  agent_class, settings = ALL[name]
  whole = make_critic(agent_class, **settings)
  halves = make_critic(agent_class, **settings)
  whole.train_steps(6)
  halves.train_steps(2)
  saved = halves.bundle_and_checkpoint('', 0)
  restored = make_critic(agent_class, **settings)
  assert restored.unbundle('', 0, saved)
  restored.train_steps(1)
  restored.train_steps(3)
  assert restored.gradient_steps == whole.gradient_steps == 6
  ends = [agent.bundle_and_checkpoint('', 0) for agent in (whole, restored)]
  assert ends[0].keys() == ends[1].keys()
  for key in ends[0]:
    np.testing.assert_array_equal(ends[0][key], ends[1][key], err_msg=key)
  assert np.isfinite(list(whole.mean_scalars().values())).all()


def test_gaps_are_measured_now_and_then_and_teach_nothing():
  class Unmeasured(cql_agent.CQLSACAgent):
    MEASURED = ()

  measured, unmeasured = map(make_critic, (cql_agent.CQLSACAgent, Unmeasured))
  for agent in (measured, unmeasured):
    agent.train_steps(60)
    for part in agent.parts:
      assert part.optimizer.iterations == 60
  for ours, theirs in zip(measured.parts, unmeasured.parts):
    for left, right in zip(ours.variables, theirs.variables):
      np.testing.assert_array_equal(left, right)
  scalars = measured.mean_scalars(reset=True)
  assert np.isfinite([scalars['q_policy'], scalars['q_random']]).all()
  measured.train_steps(40)  # Steps 60 to 99: none is the hundredth.
  assert np.isnan(measured.mean_scalars()['q_policy'])


def test_predicted_values_are_means_over_the_policy_of_the_least_q():
  agent = make_critic(sac_agent.SACAgent)
  rng = np.random.default_rng(0)
  states = np.float32(STATES)
  found = np.mean(
    [agent.predict_values(states, rng) for _ in range(2000)], axis=0
  )
  actions = [agent.sample_actions(states, rng) for _ in range(4000)]
  q_values = [tf.reduce_min(agent.critic(states, a), axis=0) for a in actions]
  error = np.std(q_values, axis=0) / np.sqrt(2000)
  assert (abs(found - np.mean(q_values, axis=0)) < 4 * error).all()


def test_fitted_q_evaluation_finds_values_by_hand():
  """Any action leads from one state to the other, and there to the end."""
  actions = np.random.default_rng(0).uniform(-1, 1, (400, SIZE))
  both = Transition(
    np.repeat(STATES, 200, axis=0),
    actions,
    np.repeat([1.0, -0.5], 200),
    np.repeat(STATES[::-1], 200, axis=0),
    np.repeat([0.0, 1.0], 200),
  )
  evaluated = make(bc_agent.ContinuousBCAgent)
  with gin.unlock_config():
    gin.bind_parameter('Critic.hidden_units', (32, 32))
  fitted = fqe_agent.ContinuousFQEAgent(evaluated, dataset(both))
  gin.clear_config()
  before = [variable.numpy() for variable in evaluated.policy.layers]
  fitted.train_steps(1500)
  values = fitted.predict_values(np.float32(STATES), np.random.default_rng(0))
  np.testing.assert_allclose(values, [1 - 0.5 * GAMMA, -0.5], atol=0.03)
  for variable, value in zip(evaluated.policy.layers, before):
    np.testing.assert_array_equal(variable, value)


def test_agents_act_by_dopamines_protocol():
  agent = make_critic(sac_agent.SACAgent)
  agent._state_mean, agent._state_std = np.float32([1, 2]), np.float32([2, 4])
  states = np.float32([[3, 6], [1, 2]])
  modes = agent.policy.mode((states - np.float32([1, 2])) / np.float32([2, 4]))
  np.testing.assert_allclose(agent.select_actions(states), modes, rtol=1e-6)
  first = agent.begin_episode(states[0])
  np.testing.assert_allclose(first, modes[0], rtol=1e-6)
  np.testing.assert_allclose(agent.step(1.0, states[1]), modes[1], rtol=1e-6)
  agent.end_episode(0.0)
  agent.train_step()
  assert agent.gradient_steps == 1


def test_noise_is_of_its_seed_step_and_call():
  def draw(seed, step, calls):
    noise = Noise(seed, tf.constant(step, tf.int64))
    return [noise.normal(3).numpy().tolist() for _ in range(calls)]

  first, second = draw(0, 5, 2)
  assert draw(0, 5, 1) == [first]
  everything = [first, second, *draw(0, 6, 1), *draw(1, 5, 1)]
  assert len({tuple(values) for values in everything}) == 4


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'alpha': -1.0}, 'alpha is -1.0'),
    ({'penalty': 'Z'}, "penalty is 'Z': give one of H"),
    ({'alpha': 0.0, 'target_gap': 1.0}, 'cannot be tuned'),
    ({'num_samples': 0}, 'num_samples is 0'),
    ({'batch_size': 0.5}, 'batch_size'),
    ({'gamma': 1.5}, 'at least 0 and at most 1'),
    ({'cql_temperature': 0.0}, 'cql_temperature is 0.0'),
  ],
)
def test_wrong_settings_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    cql_agent.CQLSACAgent(SIZE, dataset(), **settings)


def test_bear_plays_the_best_of_its_policys_actions():
  """Its values are of that choice: with one sample it is the policy's own."""
  agent = make_critic(bear_agent.BEARAgent, **{**BEAR, 'num_samples': 64})
  states = np.repeat(BATCH.state.astype(np.float32), 2, axis=0)
  chosen = agent.select_actions(states, np.random.default_rng(0))
  noise = np.random.default_rng(0).standard_normal(
    (len(states), 64, SIZE), np.float32
  )
  actions, _ = sample(doubles(agent.policy.layers), states, noise)
  values = q_values(doubles(agent.critic.layers), states, actions)
  mixed = 0.75 * values.min(axis=0) + 0.25 * values.max(axis=0)
  best = actions[np.arange(len(states)), mixed.argmax(axis=1)]
  np.testing.assert_allclose(chosen, best, rtol=1e-4, atol=1e-5)
  predicted = agent.predict_values(states, np.random.default_rng(0))
  np.testing.assert_allclose(predicted, mixed.max(axis=1), rtol=1e-4, atol=1e-5)
