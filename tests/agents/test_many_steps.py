"""Many gradient steps in one call, and how the step is computed."""

import dataclasses
import functools

import gin
import numpy as np
import pytest

from cql_atari.agents import (
  bc_agent,
  c51_agent,
  cql_agent,
  dqn_agent,
  networks,
  qrdqn_agent,
  rem_agent,
)
from cql_atari.core.errors import UserError

TRUNK = functools.partial(
  networks.nature_trunk, filters=(4, 8, 8), hidden_units=32
)
AGENTS = {
  'CQL': (cql_agent.CQLAgent, networks.quantile_network, {'alpha': 4.0}),
  'CQL, tuned': (
    cql_agent.CQLAgent,
    networks.quantile_network,
    {'alpha': 1.0, 'target_gap': 1.0},
  ),
  'CQL, double': (
    cql_agent.CQLAgent,
    networks.quantile_network,
    {'double_q': True},
  ),
  'QR-DQN': (qrdqn_agent.QRDQNAgent, networks.quantile_network, {}),
  'REM': (rem_agent.REMAgent, networks.multi_head_network, {}),
  'C51': (c51_agent.C51Agent, networks.categorical_network, {}),
  'DQN': (dqn_agent.FixedReplayDQNAgent, networks.q_network, {}),
  'BC': (bc_agent.BCAgent, networks.q_network, {}),
}


def make(store, name='CQL', period=8, **settings):
  agent_class, network, own = AGENTS[name]
  return agent_class(
    store,
    network=functools.partial(network, trunk=TRUNK),
    target_update_period=period,
    **own | settings,
  )


def assert_same(first, second):
  assert first.gradient_steps == second.gradient_steps
  states = first.state(), second.state()
  assert states[0].keys() == states[1].keys()
  for key in states[0]:
    np.testing.assert_array_equal(states[0][key], states[1][key], err_msg=key)


# Periods of one chunk, of two chunks, and shorter than a chunk.
@pytest.mark.parametrize(
  'name, period', [*((name, 8) for name in AGENTS), ('CQL', 10), ('CQL', 3)]
)
def test_steps_in_one_call_are_those_one_by_one(name, period, demo_store):
  together, one_by_one = (make(demo_store, name, period) for _ in range(2))
  together.train_steps(23)
  for _ in range(23):
    one_by_one.train_steps(1)
  assert_same(together, one_by_one)


def test_a_run_resumed_inside_a_block_goes_on_bit_for_bit(demo_store):
  whole, first, second = (make(demo_store) for _ in range(3))
  whole.train_steps(29)
  first.train_steps(13)
  second.load_state(first.state())
  second.train_steps(16)
  assert_same(whole, second)


def test_frames_on_the_device_teach_the_same(demo_store):
  on_device = dataclasses.replace(demo_store, record={'residence': 'device'})
  agents = make(demo_store), make(on_device)
  for agent in agents:
    agent.train_steps(11)
  assert_same(*agents)


def test_a_step_that_xla_compiles_whole_is_the_same_to_rounding(demo_store):
  plain, compiled = (
    make(demo_store, compile_step=compiled) for compiled in (False, True)
  )
  scalars = []
  for agent in (plain, compiled):
    agent.train_steps(10)
    scalars.append(list(agent.mean_scalars().values()))
  np.testing.assert_allclose(*scalars, rtol=1e-3)


def test_bfloat16_computes_nearly_the_same_with_float32_weights(demo_store):
  exact, rough = (
    make(demo_store, compute_dtype=dtype) for dtype in ('float32', 'bfloat16')
  )
  for array in rough.state().values():
    assert array.dtype in (np.float32, np.float64, np.int64)
  states = demo_store.sample_states(16, np.random.default_rng(0))
  values = [agent.predict_q_values(states) for agent in (exact, rough)]
  assert values[1].dtype == np.float32
  assert (values[0] != values[1]).any()
  np.testing.assert_allclose(*values, atol=0.02 * np.abs(values[0]).max())
  losses = []
  for agent in (exact, rough):
    agent.train_steps(16)
    losses.append(agent.mean_scalars()['loss'])
  np.testing.assert_allclose(*losses, rtol=0.02)


def test_bfloat16_tells_values_apart_as_float32_does(demo_store):
  """However large they are: the heads add in float32."""
  states = demo_store.sample_states(64, np.random.default_rng(0))
  chosen = []
  for dtype in ('float32', 'bfloat16'):
    agent = make(demo_store, compute_dtype=dtype)
    agent.online_network.trainable_variables[-1].assign_add(
      np.full(agent.online_network.trainable_variables[-1].shape, 10.0)
    )
    q_values = agent.predict_q_values(states)
    chosen.append(q_values.argmax(axis=1))
    assert len(np.unique(q_values)) > 200
  assert np.mean(chosen[0] == chosen[1]) > 0.9


def test_a_network_of_ones_own_computes_in_bfloat16_too(demo_store):
  import tensorflow as tf

  def network(num_actions, seed):
    del seed
    states = tf.keras.layers.Input((84, 84, 4), dtype='uint8')
    x = tf.keras.layers.Rescaling(1 / 255)(states)
    x = tf.keras.layers.Flatten()(x)
    x = tf.keras.layers.Dense(num_actions * 5)(x)
    return tf.keras.Model(states, tf.keras.layers.Reshape((-1, 5))(x))

  agent = cql_agent.CQLAgent(
    demo_store, network=network, compute_dtype='bfloat16'
  )
  # Its layers draw other weights each time.
  for online, target in zip(agent._variables, agent._target_variables):
    np.testing.assert_array_equal(online.numpy(), target.numpy())
  agent.train_steps(2)
  assert np.isfinite(agent.mean_scalars()['loss'])


@pytest.fixture(scope='module')
def whole(demo_store):
  agent = make(demo_store)
  agent.train_steps(29)
  return agent


def test_training_goes_on_after_an_interruption(demo_store, whole, monkeypatch):
  interrupted = make(demo_store)
  train = interrupted._compiled_train_on_chunk

  def stopped(*args):
    train(*args)
    raise KeyboardInterrupt  # As Ctrl-C comes, at the end of what took long.

  with monkeypatch.context() as patch:
    patch.setattr(interrupted, '_compiled_train_on_chunk', stopped)
    with pytest.raises(KeyboardInterrupt):
      interrupted.train_steps(13)
  interrupted.train_steps(29 - interrupted.gradient_steps)
  assert_same(interrupted, whole)


@pytest.mark.parametrize('before', [0, 3, 8])
@pytest.mark.parametrize('part', ['next_target_outputs', 'chunks'])
def test_an_interruption_while_batches_are_fetched_loses_none(
  demo_store, whole, monkeypatch, part, before
):
  """At the beginning, within a chunk, and where one begins."""
  interrupted = make(demo_store)
  interrupted.train_steps(before)
  resumed = make(demo_store)
  resumed.load_state(interrupted.state())

  def stopped(*args):
    raise KeyboardInterrupt

  for agent in (interrupted, resumed):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
      if part == 'chunks':
        patch.setattr(type(agent.sampler), 'chunks', stopped)
        agent._chunks = agent._chunk = None
      else:
        patch.setattr(agent, '_compiled_next_target_outputs', stopped)
      agent.train_steps(29 - before)
    agent.train_steps(29 - agent.gradient_steps)
    assert_same(agent, whole)


def test_other_dtypes_are_refused(demo_store):
  with pytest.raises(UserError, match='compute_dtype'):
    make(demo_store, compute_dtype='float16')


def test_a_loss_of_ones_own_may_branch_on_tensors(demo_store):
  class Branching(cql_agent.CQLAgent):
    def loss(self, outputs, transition):
      loss, scalars = super().loss(outputs, transition)
      if loss > 1e6:
        loss = loss / 2.0
      return loss, scalars

  agent = Branching(
    demo_store, network=functools.partial(AGENTS['CQL'][1], trunk=TRUNK)
  )
  agent.train_steps(1)
  assert np.isfinite(agent.mean_scalars()['loss'])


def test_the_number_of_threads_is_a_setting(demo_store):
  gin.clear_config()
  with gin.unlock_config():
    gin.parse_config('TransitionSampler.num_threads = 2')
  assert make(demo_store).sampler.num_threads == 2
  gin.clear_config()
