"""Each agent's loss, by NumPy in float64, and what makes each one itself."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from atari_by_hand import (
  AGENTS,
  DISCOUNT,
  A,
  B,
  N,
  huber,
  loss_by_hand,
  made_up,
  make,
  penalty_by_hand,
)
from dopamine.tf.agents.rainbow import rainbow_agent

from cql_atari.agents import (
  fixed_replay_agent,
  networks,
  optimizers,
)
from cql_atari.core import settings
from cql_atari.core.errors import UserError
from cql_atari.losses import temporal_difference
from cql_atari.replay import sampler


@pytest.mark.parametrize('name', AGENTS)
def test_loss_and_gradient_by_hand(name, demo_store):
  settings = {'alpha': 2.5} if name.startswith('cql') else {}
  agent = make(name, demo_store, gamma=DISCOUNT, **settings)
  outputs, batch = made_up(name)
  with tf.GradientTape() as tape:
    online = tf.constant(outputs.online)
    tape.watch(online)
    loss, scalars = agent.loss(
      outputs._replace(
        online=online,
        next_target=tf.constant(outputs.next_target),
        next_selector=tf.constant(outputs.next_selector),
      ),
      batch,
    )
  assert loss.dtype == tf.float64
  own = set(agent.scalar_names) - set(
    fixed_replay_agent.FixedReplayAgent.SCALARS
  )
  assert set(scalars) == own
  # The mixture is drawn in float32.
  tolerance = 1e-6 if name == 'rem' else 1e-12
  assert float(loss) == pytest.approx(
    loss_by_hand(name, outputs, batch), rel=tolerance
  )
  gradient = tape.gradient(loss, online).numpy()
  for index in np.ndindex(gradient.shape):
    step = np.zeros_like(outputs.online)
    step[index] = 1e-6
    up, down = (
      loss_by_hand(name, outputs._replace(online=outputs.online + s), batch)
      for s in (step, -step)
    )
    assert gradient[index] == pytest.approx((up - down) / 2e-6, abs=1e-7)


@pytest.mark.parametrize('penalty', ['H', 'rho', 'mu', 'eq1', 'var'])
def test_every_cql_penalty_reaches_the_loss(penalty, demo_store):
  agent = make('cql', demo_store, penalty=penalty, chi2_radius=0.3)
  outputs, batch = made_up('cql')
  outputs = outputs._replace(
    **{
      name: tf.constant(getattr(outputs, name))
      for name in ('online', 'next_target', 'next_selector', 'reference')
    }
  )
  _, scalars = agent.loss(outputs, batch)
  numbers, _ = made_up('cql')
  assert float(scalars['cql_penalty']) == pytest.approx(
    penalty_by_hand('cql', numbers, batch, penalty, 0.3), rel=1e-12
  )
  for _ in range(3):
    agent.train_steps(1)  # In the graph, all it needs is there.
  assert np.isfinite(agent.mean_scalars()['loss'])


def test_unknown_penalties_are_refused(demo_store):
  with pytest.raises(UserError, match="one of 'H', 'rho'"):
    make('cql', demo_store, penalty='Q')
  with pytest.raises(UserError, match='begin with 1'):
    make('cql', demo_store, alpha=0.0, target_gap=1.0)


@pytest.mark.parametrize('target_gap', [0.5, 0.8])
def test_alpha_is_tuned_to_its_gap_on_three_states(demo_store, target_gap):
  """A table learned by gradient descent.

  The gap begins at log 4 and can't go below the entropy of the data's actions,
  0.38, where softmax(Q) is the behaviour policy.
  """
  agent = make(
    'cql_dqn', demo_store, alpha=0.1, target_gap=target_gap,
    alpha_learning_rate=0.02, gamma=DISCOUNT,
  )  # fmt: skip
  table = tf.Variable(np.zeros((3, 4), np.float32))
  states = np.repeat([0, 1, 2], 8)
  actions = np.array([0] * 7 + [1] + [2] * 7 + [0] + [3] * 7 + [2], np.int32)
  # The data's actions are bad ones, so that values alone leave a gap.
  rewards = np.where(actions == [0] * 8 + [2] * 8 + [3] * 8, -1.0, 1.0)
  batch = sampler.Transition(
    None, actions, rewards.astype(np.float32), None, np.ones(24, np.uint8)
  )

  @tf.function
  def descend():
    with tf.GradientTape() as tape:
      online = tf.one_hot(states, 3) @ table
      outputs = fixed_replay_agent.Outputs(online, online, online, None, None)
      loss, scalars = agent.loss(outputs, batch)
    table.assign_sub(0.5 * tape.gradient(loss, table))
    agent.after_step(scalars)
    return scalars['cql_penalty']

  gaps = [float(descend()) for _ in range(4000)]
  assert gaps[0] == pytest.approx(np.log(4))
  assert np.mean(gaps[-200:]) == pytest.approx(target_gap, abs=0.01)
  assert float(agent._alpha.value) > 0.1
  saved = agent.state()
  other = make('cql_dqn', demo_store, alpha=0.1, target_gap=target_gap)
  other.load_state(saved)
  assert float(other._alpha.value) == float(agent._alpha.value)


def test_tuned_alpha_moves_in_training(demo_store):
  agent = make('cql', demo_store, target_gap=0.1, alpha_learning_rate=0.01)
  for _ in range(20):
    agent.train_steps(1)
  # The gap begins at log 3: Adam's first steps are its learning rate.
  assert float(agent._alpha.value) == pytest.approx(np.exp(0.01 * 20), rel=0.01)


def test_rem_draws_one_mixture_a_step():
  draws = [
    temporal_difference.random_mixture(200, 5, step).numpy()
    for step in (0, 1, 0)
  ]
  np.testing.assert_array_equal(draws[0], draws[2])
  assert (draws[0] != draws[1]).mean() > 0.99
  other_seed = temporal_difference.random_mixture(200, 6, 0).numpy()
  assert (draws[0] != other_seed).mean() > 0.99
  for draw in draws:
    assert draw.sum() == pytest.approx(1, rel=1e-5)
    assert draw.min() >= 0
  # U(0, 1) over its sum: the largest of 200 is nearly twice the mean.
  assert draws[0].max() == pytest.approx(2 / 200, rel=0.15)


def test_rem_uses_the_step_of_the_graph(demo_store):
  """The loss of each step, from the networks, by the mixture of that step."""
  agent = make('rem', demo_store, target_update_period=2)
  # XLA has random bits of its own.
  compiled = tf.function(temporal_difference.random_mixture, jit_compile=True)
  for step in range(4):
    batch = agent.sampler.transitions(agent.sampler.sample_rows(step)[0])
    outputs = fixed_replay_agent.Outputs(
      agent.online_network(batch.state).numpy().astype(np.float64),
      agent.target_network(batch.next_state).numpy().astype(np.float64),
      None, None, None,
    )  # fmt: skip
    mixture = compiled(N, 3, tf.constant(step, tf.int64)).numpy()
    online, target = outputs.online @ mixture, outputs.next_target @ mixture
    errors = (
      batch.reward
      + 0.99 * (1 - batch.terminal) * target.max(1)
      - online[np.arange(32), batch.action]
    )
    agent.train_steps(1)
    expected = np.mean([huber(error) for error in errors])
    got = agent.mean_scalars(reset=True)['td_loss']
    assert got == pytest.approx(expected, rel=1e-4), step


def test_double_q_lets_the_online_network_choose(demo_store):
  agent = make('dqn', demo_store, double_q=True)
  for variable, other in zip(
    agent._target_variables, make('dqn', demo_store, seed=4)._variables
  ):
    variable.assign(other)
  batch = agent.sampler.transitions(agent.sampler.sample_rows(0)[0])
  chosen = agent.online_network(batch.next_state).numpy().argmax(1)
  target = agent.target_network(batch.next_state).numpy()
  assert (chosen != target.argmax(1)).any()
  q_data = agent.online_network(batch.state).numpy()
  errors = (
    batch.reward
    + 0.99 * (1 - batch.terminal) * target[np.arange(32), chosen]
    - q_data[np.arange(32), batch.action]
  )
  agent.train_steps(1)
  expected = np.mean([huber(error) for error in errors])
  assert agent.mean_scalars()['td_loss'] == pytest.approx(expected, rel=1e-4)


def test_categorical_target_equals_dopamines_projection():
  rng = np.random.default_rng(6)
  logits = rng.normal(size=(B, A, 51)).astype(np.float32)
  rewards = np.array([-1, 0, 1, 0.3, 12], np.float32)
  terminal, support = np.array([0, 1, 0, 0, 0]), tf.linspace(-10.0, 10.0, 51)
  actions = rng.integers(A, size=B)
  ours = temporal_difference.categorical_target(
    tf.constant(logits), actions, rewards, terminal, 0.99, support
  )
  theirs = rainbow_agent.project_distribution(
    rewards[:, None] + 0.99 * (1 - terminal[:, None]) * support[None],
    tf.nn.softmax(logits[np.arange(B), actions]),
    support,
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-6)
  np.testing.assert_allclose(np.sum(ours, axis=1), 1, atol=1e-6)


def test_rmsprop_equals_tensorflow_1():
  rng = np.random.default_rng(7)
  first = rng.normal(size=9).astype(np.float32)
  ours, theirs = tf.Variable(first), tf.Variable(first)
  mine = optimizers.RMSProp()
  mine.build([ours])
  reference = tf.compat.v1.train.RMSPropOptimizer(
    2.5e-4, 0.95, 0.0, 1e-5, centered=True
  )
  for _ in range(20):
    gradient = tf.constant(rng.normal(size=9), tf.float32)
    mine.apply([gradient])
    reference.apply_gradients([(gradient, theirs)])
  np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
  assert int(mine.iterations) == 20


@pytest.mark.parametrize('name', AGENTS)
def test_every_agent_learns_and_resumes_bit_for_bit(name, demo_store):
  settings = {'target_gap': 0.5} if name == 'cql_c51' else {}

  def fresh():
    return make(name, demo_store, target_update_period=7, **settings)

  whole = fresh()
  for _ in range(12):
    whole.train_steps(1)
  half = fresh()
  for _ in range(5):
    half.train_steps(1)
  resumed = fresh()
  resumed.load_state(half.state())
  for _ in range(7):
    resumed.train_steps(1)
  ours = resumed.state()
  for key, value in whole.state().items():
    np.testing.assert_array_equal(ours[key], value, err_msg=key)
  assert (ours['online_0'] != fresh()._variables[0].numpy()).any()
  actions = resumed.select_actions(np.zeros((6, 84, 84, 4), np.uint8))
  assert actions.shape == (6,)


def test_bc_imitates_what_it_sees(demo_store):
  """Of few states it learns every action; a blind agent would, of a third."""
  agent = make('bc', demo_store, optimizer=lambda: optimizers.Adam(1e-3))
  few = agent.sampler.valid[:: len(agent.sampler.valid) // 64]
  vars(agent.sampler)['valid'] = few
  losses = []
  for _ in range(2):
    agent.train_steps(500)
    scalars = agent.mean_scalars(reset=True)
    losses.append(scalars['loss'])
  assert losses[1] < 0.5 * losses[0]
  assert scalars['accuracy'] > 0.9
  assert scalars['q_data'] == pytest.approx(-scalars['loss'], rel=1e-5)


def test_impala_trunk_has_its_shapes():
  """15 convolutions; 84, 42, 21 and 11 pixels wide."""
  network = networks.q_network(6, trunk=networks.impala_trunk)
  shapes = [tuple(v.shape) for v in network.trainable_variables[::2]]
  assert len(shapes) == 17
  assert shapes[0] == (3, 3, 4, 16)
  assert shapes[5] == (3, 3, 16, 32)
  assert shapes[-2:] == [(11 * 11 * 32, 256), (256, 6)]
  assert network(np.zeros((2, 84, 84, 4), np.uint8)).shape == (2, 6)


@pytest.mark.parametrize('name', ['CQLAgent', 'CQLDQNAgent', 'CQLC51Agent'])
def test_configs_set_alpha_of_every_cql(name, demo_store):
  """And a binding of the one agent overrides them."""
  for bindings, alpha in (([], 4.0), ([f'{name}.alpha=2.0'], 2.0)):
    gin.clear_config()
    bindings.append(f'FixedReplayRunner.create_agent_fn=@{name}')
    settings.import_all()
    settings.parse(['cql_1pct.gin', 'small.gin'], bindings, lock=True)
    create = gin.query_parameter('FixedReplayRunner.create_agent_fn')
    agent = create.scoped_configurable_fn(demo_store)
    gin.clear_config()
    assert type(agent).__name__ == name and agent._alpha.value == alpha


def test_tuned_alpha_stays_finite(demo_store):
  """Below the entropy of the data no alpha reaches the gap."""
  agent = make('cql', demo_store, target_gap=0.0, alpha_learning_rate=100.0)
  for _ in range(5):
    agent.train_steps(1)
  assert float(agent._alpha.value) == pytest.approx(1e6, rel=1e-3)
  assert np.isfinite(agent.mean_scalars()['loss'])


def test_deep_networks_do_not_run_out_of_seeds():
  """And those of the first layers are what they were with fewer."""
  initializer = networks._SeededInitializers(3, scale=1.0, mode='fan_in')
  seeds = [initializer().seed for _ in range(200)]
  assert len(set(seeds)) == 200
  first = np.random.SeedSequence(3).generate_state(64)
  assert seeds[:64] == first.tolist()
