"""Every loss and its gradient against NumPy in float64, on two states."""

import numpy as np
import pytest
import tensorflow as tf
from continuous_by_hand import (
  ALL_AGENTS,
  BATCH,
  BEAR,
  BRAC,
  CASES,
  SIZE,
  STATES,
  Draws,
  Hand,
  dataset,
  doubles,
  make,
  make_critic,
  q_values,
  small_vae,
)

from cql_atari.continuous import networks
from cql_atari.continuous.agents import (
  bc_agent,
  bear_agent,
  brac_agent,
  cql_agent,
  sac_agent,
)
from cql_atari.continuous.sampling import FixedSampler, Noise, Transition
from cql_atari.core import devices, gin_state, settings
from cql_atari.core.errors import UserError


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
    {
      'entropy': tf.constant(-3.25),
      'cql_penalty': tf.constant(2.0),
      'loss': tf.constant(0.0),
    }
  )
  found = first_moment(agent._temperature)  # d/dlog T of -T (log pi + target).
  assert found == pytest.approx(-1.0 * (-2 + 3.25), rel=1e-5)
  alpha = float(agent._alpha.saved('alpha')['alpha_first_moment']) / 0.1
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


@pytest.mark.parametrize(
  'by_xla', [False, pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('name', ALL_AGENTS)
def test_everything_that_is_to_learn_learns(name, by_xla, monkeypatch):
  if by_xla:  # As on a GPU.
    monkeypatch.setattr(devices, 'has_gpu', lambda: True)
  agent_class, settings = ALL_AGENTS[name]
  maker = make if name == 'BC' else make_critic
  agent = maker(agent_class, **settings)
  before = agent.state()
  agent.train_steps(3)
  after = agent.state()
  still = [
    key
    for key in before
    if np.array_equal(before[key], after[key])
    and 'scalar' not in key
    and key != 'behavior_look_1'  # Counts what happens seldom.
  ]
  assert not still


def test_targets_follow_at_their_rate():
  agent = make_critic(sac_agent.SACAgent, target_rate=0.25)
  online, target = (
    doubles(agent.critic.layers),
    doubles(agent.target_critic.layers),
  )
  agent.after_step({'entropy': tf.constant(0.0), 'loss': tf.constant(0.0)})
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
  'BRAC': (brac_agent.BRACAgent, BRAC),
}


@pytest.mark.parametrize('name', ALL)
def test_a_restored_agent_goes_on_to_the_bit(name):
  agent_class, settings = ALL[name]
  whole = make_critic(agent_class, **settings)
  halves = make_critic(agent_class, **settings)
  whole.train_steps(6)
  halves.train_steps(2)
  saved = halves.state()
  restored = make_critic(agent_class, **settings)
  restored.load_state(saved)
  restored.train_steps(1)
  restored.train_steps(3)
  assert restored.gradient_steps == whole.gradient_steps == 6
  ends = [agent.state() for agent in (whole, restored)]
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
  assert np.isfinite([scalars['q_policy'], scalars['q_uniform']]).all()
  measured.train_steps(40)  # Steps 60 to 99: none is the hundredth.
  assert np.isnan(measured.mean_scalars()['q_policy'])


def test_predicted_values_are_means_over_the_policy_of_the_least_q():
  agent = make_critic(sac_agent.SACAgent)
  rng = np.random.default_rng(0)

  def many(function, count):
    states = np.tile(np.float32(STATES), (count, 1))
    return function(states).reshape(count, len(STATES))

  def q_values(states):
    actions = agent.sample_actions(states, rng)
    return tf.reduce_min(agent.critic(states, actions), axis=0).numpy()

  found = many(lambda states: agent.predict_values(states, rng), 2000)
  hoped = many(q_values, 4000)
  error = np.std(hoped, axis=0) / np.sqrt(2000)
  assert (abs(found.mean(axis=0) - hoped.mean(axis=0)) < 4 * error).all()


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
  agent.train_steps(1)
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
    ({'penalty': 'Z'}, "penalty is 'Z': give one of 'H'"),
    ({'alpha': 0.0, 'target_gap': 1.0}, 'cannot be tuned'),
    ({'num_samples': 0}, 'num_samples is 0'),
    ({'batch_size': 0.5}, 'batch_size'),
    ({'gamma': 1.5}, 'at least 0 and at most 1'),
    ({'cql_temperature': 0.0}, 'cql_temperature is 0.0'),
  ],
)
def test_wrong_settings_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    cql_agent.CQLSACAgent(dataset(), **settings)


@pytest.mark.parametrize(('critic_steps', 'policy_steps'), [(3, 1), (1, 2)])
def test_critic_and_policy_steps_of_algorithm_1(critic_steps, policy_steps):
  agent = make_critic(
    cql_agent.CQLSACAgent, critic_steps=critic_steps, policy_steps=policy_steps
  )
  agent.train_steps(4)
  taken = {p.name: int(p.optimizer.iterations) for p in agent.parts}
  assert taken == {'policy_loss': 4 * policy_steps, 'loss': 4 * critic_steps}
  assert agent.gradient_steps == 4
  assert np.isfinite(list(agent.mean_scalars().values())).all()


def test_every_critic_step_has_a_batch_of_its_own_and_moves_the_targets():
  agent = make_critic(sac_agent.SACAgent, critic_steps=3, target_rate=1.0)
  drawn, moved = [], []
  sample, move = agent._sampler.sample, agent._move_targets

  def sample_and_tell(noise, size):
    drawn.append(noise._calls)
    return sample(noise, size)

  def move_and_tell():
    moved.append(None)
    move()

  agent._sampler.sample, agent._move_targets = sample_and_tell, move_and_tell
  agent.train_steps(1)  # Traced once: each is called as often as in a step.
  assert len(set(drawn)) == len(drawn) == len(moved) == 3
  for online, target in zip(agent.critic.layers, agent.target_critic.layers):
    np.testing.assert_array_equal(online, target)


def test_the_gap_of_appendix_b_is_to_the_best_of_ten_uniform_actions():
  agent = make_critic(sac_agent.SACAgent)
  batch = Transition(*(tf.constant(x, tf.float32) for x in BATCH))
  told = agent.measure(batch, Draws())
  draws = Draws()
  draws.normal(2, SIZE)
  uniform = draws.uniform(2, 10, SIZE)
  values = q_values(doubles(agent.critic.layers), BATCH.state, uniform)
  assert float(told['q_uniform']) == pytest.approx(
    values.max(axis=-1).mean(), rel=1e-5
  )


@pytest.mark.parametrize(
  ('config', 'agent_class'),
  [
    ('d4rl/sac.gin', sac_agent.SACAgent),
    ('d4rl/cql.gin', cql_agent.CQLSACAgent),
  ],
)
def test_a_constructor_has_the_settings_of_its_config(config, agent_class):
  """From Python nothing has to be bound: the weights are the same."""
  states, shapes = [], []
  for files in ([], [config]):
    with gin_state.isolated():
      settings.import_all()
      settings.parse(files, [], lock=False)
      agent = agent_class(dataset())
    agent.train_steps(2)
    states.append(agent.state())
    shapes.append((agent.warmup_steps, agent.entropy_backup, agent.gamma))
  assert shapes[0] == shapes[1]
  for name, value in states[0].items():
    np.testing.assert_array_equal(value, states[1][name], name)
