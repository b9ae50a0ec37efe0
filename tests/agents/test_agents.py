"""The learners, against re-derivations that share none of their code."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from cql_atari.agents import cql_agent, networks, qrdqn_agent
from cql_atari.core.errors import UserError

TRUNK = functools.partial(
  networks.nature_trunk, filters=(4, 8, 8), hidden_units=32
)
SMALL = functools.partial(
  networks.quantile_network, num_quantiles=20, trunk=TRUNK
)


def make(cls, store, **settings):
  return cls(store, network=SMALL, **{'seed': 1, **settings})


def weights(agent):
  return {k: v.numpy() for k, v in agent._saved().items() if k[0] in 'otfs'}


def assert_same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_the_paper_network_has_its_shapes():
  network = networks.quantile_network(6)
  assert [tuple(v.shape) for v in network.trainable_variables] == [
    (8, 8, 4, 32), (32,), (4, 4, 32, 64), (64,), (3, 3, 64, 64), (64,),
    (11 * 11 * 64, 512), (512,), (512, 1200), (1200,),
  ]  # fmt: skip
  assert network(np.zeros((2, 84, 84, 4), np.uint8)).shape == (2, 6, 200)


def test_initial_weights_are_uniform_variance_scaling():
  """scale / fan_in is the variance, so the bound is sqrt(3 scale / fan_in)."""
  network = networks.quantile_network(6, seed=5)
  for kernel in network.trainable_variables[::2]:
    values = kernel.numpy()
    bound = np.sqrt(np.sqrt(3.0) / np.prod(values.shape[:-1]))
    assert 0.99 * bound < np.abs(values).max() <= bound
    assert np.std(values) == pytest.approx(bound / np.sqrt(3), rel=0.05)
  again = networks.quantile_network(6, seed=5).trainable_variables[0]
  np.testing.assert_array_equal(again, network.trainable_variables[0])


def test_initial_weights_of_dqn_and_cloning_are_dopamines():
  """Keras's default, Glorot uniform: within sqrt(6 / (fan_in + fan_out))."""
  ours = networks.q_network(6, seed=5)
  atari_lib = pytest.importorskip('dopamine.discrete_domains.atari_lib')
  theirs = atari_lib.NatureDQNNetwork(6)
  theirs(np.zeros((1, 84, 84, 4), np.uint8))
  pairs = zip(ours.trainable_variables, theirs.trainable_variables)
  for mine, dopamines in list(pairs)[::2]:
    assert mine.shape == dopamines.shape
    bound = np.sqrt(6.0 / sum(fans(mine.shape)))
    for kernel in (mine, dopamines):
      assert 0.99 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6)
    assert np.std(mine) == pytest.approx(bound / np.sqrt(3), rel=0.05)


def fans(shape):
  field = np.prod(shape[:-2], dtype=int)
  return field * shape[-2], field * shape[-1]


def test_cql_with_alpha_0_is_qrdqn_bit_for_bit(demo_store):
  agents = [
    make(cql_agent.CQLAgent, demo_store, alpha=0.0, target_update_period=30),
    make(qrdqn_agent.QRDQNAgent, demo_store, target_update_period=30),
  ]
  before = weights(agents[1])['online_0']
  for agent in agents:
    for _ in range(100):
      agent.train_steps(1)
  ours, theirs = (
    {
      name: value
      for name, value in weights(agent).items()
      if not name.startswith('scalar_totals')
    }
    for agent in agents
  )
  assert len(ours) == 4 * 10  # Two networks, two moments.
  assert_same(ours, theirs)
  assert (ours['online_0'] != before).any()


@pytest.mark.parametrize('update_horizon', [1, 3])
def test_one_cql_step_equals_eq_4_written_out(demo_store, update_horizon):
  """Plain TF for Eq. 4 on the same network; NumPy for Adam."""
  agent = make(
    cql_agent.CQLAgent, demo_store, alpha=4.0, update_horizon=update_horizon
  )
  network = SMALL(4, seed=1)
  batch = agent.sampler.transitions(agent.sampler.sample_rows(0)[0])
  next_theta = network(batch.next_state).numpy()
  with tf.GradientTape() as tape:
    theta = network(batch.state)
    q = tf.reduce_mean(theta, axis=2)
    td = 0.0
    for b in range(32):
      best = next_theta[b].mean(axis=1).argmax()
      for i in range(20):
        tau = (i + 0.5) / 20
        u = (
          batch.reward[b]
          + 0.99**update_horizon * (1 - batch.terminal[b]) * next_theta[b, best]
          - theta[b, batch.action[b], i]
        )
        huber = tf.where(tf.abs(u) <= 1, u**2 / 2, tf.abs(u) - 0.5)
        weight = tf.where(u < 0, 1 - tau, tau)
        td += tf.reduce_sum(weight * huber) / 20 / 32
    log_pi_data = tf.nn.log_softmax(q).numpy()[np.arange(32), batch.action]
    penalty = tf.reduce_mean(
      tf.nn.sparse_softmax_cross_entropy_with_logits(batch.action, q)
    )
    loss = td + 4.0 * penalty
  gradients = tape.gradient(loss, network.trainable_variables)
  agent.train_steps(1)
  scalars = agent.mean_scalars()
  assert scalars['td_loss'] == pytest.approx(float(td), rel=1e-5)
  assert scalars['cql_penalty'] == pytest.approx(-log_pi_data.mean(), rel=1e-5)
  assert scalars['loss'] == pytest.approx(float(loss), rel=1e-5)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
  assert scalars['gradient_norm'] == pytest.approx(norm, rel=1e-4)
  q_data = q.numpy()[np.arange(32), batch.action].mean()
  assert scalars['q_data'] == pytest.approx(q_data, abs=1e-6)
  q_max = q.numpy().max(axis=1).mean()
  assert scalars['q_max'] == pytest.approx(q_max, abs=1e-6)
  for old, gradient, new in zip(
    network.trainable_variables, gradients, agent._variables
  ):
    gradient = gradient.numpy().astype(np.float64)
    m, v = 0.1 * gradient, 0.001 * gradient**2
    rate = 5e-5 * np.sqrt(1 - 0.999) / (1 - 0.9)
    expected = old.numpy() - rate * m / (np.sqrt(v) + 3.125e-4)
    np.testing.assert_allclose(new.numpy(), expected, atol=2e-8)


def test_adam_equals_its_formula_over_steps():
  from cql_atari.agents import optimizers

  rng = np.random.default_rng(0)
  x = tf.Variable(rng.normal(size=7).astype(np.float32))
  adam = optimizers.Adam(learning_rate=0.01, epsilon=1e-3)
  adam.build([x])
  expected, m, v = x.numpy().astype(np.float64), 0.0, 0.0
  for step in range(1, 20):
    g = rng.normal(size=7)
    adam.apply([tf.constant(g, tf.float32)])
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    rate = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    expected -= rate * m / (np.sqrt(v) + 1e-3)
  np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5)


def test_the_target_network_is_copied_every_period(demo_store):
  agent = make(cql_agent.CQLAgent, demo_store, target_update_period=3)
  for step in range(1, 8):
    agent.train_steps(1)
    saved = weights(agent)
    same = (saved['online_0'] == saved['target_0']).all()
    assert same == (step % 3 == 0), step


def test_training_lowers_the_loss_on_real_play(demo_store):
  agent = make(
    cql_agent.CQLAgent, demo_store, alpha=4.0, target_update_period=10_000
  )
  losses = []
  for _ in range(3):
    for _ in range(60):
      agent.train_steps(1)
    losses.append(agent.mean_scalars(reset=True)['cql_penalty'])
  assert losses[0] > losses[1] > losses[2]


def test_restored_agents_go_on_bit_for_bit(demo_store):
  whole = make(cql_agent.CQLAgent, demo_store, target_update_period=7)
  for _ in range(20):
    whole.train_steps(1)
  first = make(cql_agent.CQLAgent, demo_store, target_update_period=7)
  for _ in range(11):
    first.train_steps(1)
  bundle = first.state()
  second = make(cql_agent.CQLAgent, demo_store, target_update_period=7)
  second.train_steps(1)  # Whatever it did before is forgotten.
  second.load_state(bundle)
  for _ in range(9):
    second.train_steps(1)
  assert second.gradient_steps == 20
  assert_same(weights(second), weights(whole))
  assert second.mean_scalars() == whole.mean_scalars()


def test_checkpoints_of_other_networks_are_refused(demo_store):
  bundle = make(cql_agent.CQLAgent, demo_store).state()
  smaller = functools.partial(TRUNK, hidden_units=16)
  other = cql_agent.CQLAgent(
    demo_store, network=functools.partial(SMALL, trunk=smaller)
  )
  with pytest.raises(
    UserError,
    match=r'first_moment_6 is of shape \(968, 32\), not of shape \(968, 1',
  ):
    other.load_state(bundle)
  assert not other.unbundle('somewhere', 0, None)


def test_actions_are_epsilon_greedy_over_mean_quantiles(demo_store):
  agent = make(cql_agent.CQLAgent, demo_store, epsilon_eval=0.0)
  for _ in range(30):
    agent.train_steps(1)
  states = agent.sampler.transitions(agent.sampler.valid[:40]).state
  q_values = agent.online_network(states).numpy().mean(axis=2)
  np.testing.assert_array_equal(
    agent.select_actions(states), q_values.argmax(axis=1)
  )
  agent.epsilon_eval = 1.0
  rng = np.random.default_rng(0)
  draws = np.concatenate([agent.select_actions(states, rng) for _ in range(50)])
  assert np.bincount(draws, minlength=4).min() > 440


def test_acting_frame_by_frame_stacks_like_the_batch(demo_store):
  """Dopamine's protocol on single frames equals stacked states."""
  agent = make(cql_agent.CQLAgent, demo_store, epsilon_eval=0.0)
  for _ in range(30):
    agent.train_steps(1)
  frames = demo_store.read_frames(np.array([100]), 8)[0, ..., None]
  actions = [agent.begin_episode(frames[0])]
  actions += [agent.step(0.0, frame) for frame in frames[1:]]
  agent.end_episode(0.0)
  padded = np.concatenate([np.zeros_like(frames[:3]), frames])
  states = np.stack(
    [np.concatenate(list(padded[i : i + 4]), axis=-1) for i in range(8)]
  )
  np.testing.assert_array_equal(actions, agent.select_actions(states))
