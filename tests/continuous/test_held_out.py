"""Episodes of a D4RL dataset that are kept from learning."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from d4rl_files import HOPPER, columns, write

import cql_atari
from cql_atari.continuous import datasets, networks
from cql_atari.continuous.sampling import FixedSampler, Noise
from cql_atari.core.errors import UserError

EPISODES, LENGTH, SHARE = 40, 15, 0.2


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """Episodes whose rewards are their numbers."""
  arrays = columns(EPISODES * LENGTH)
  arrays['terminals'][:] = arrays['timeouts'][:] = False
  arrays['terminals'][LENGTH - 1 :: LENGTH] = True
  arrays['rewards'] = np.repeat(np.arange(EPISODES), LENGTH).astype(float)
  path = tmp_path_factory.mktemp('d4rl') / f'{HOPPER.name}.hdf5'
  return datasets.open_task_data(HOPPER.name, str(write(path, arrays)))


def test_whole_episodes_are_held_out_and_never_sampled(data):
  sampler = FixedSampler(data, held_out=SHARE)
  held, counts = np.unique(sampler.held_out.reward, return_counts=True)
  assert len(held) == SHARE * EPISODES and set(counts) == {LENGTH}
  assert len(sampler) == len(data) - len(held) * LENGTH
  drawn = sampler.sample(Noise(0, tf.constant(0, tf.int64)), 5000).reward
  assert set(drawn.numpy()) == set(range(EPISODES)) - set(held)
  again = FixedSampler(data, held_out=SHARE).held_out
  np.testing.assert_array_equal(again.state, sampler.held_out.state)


def test_a_share_that_leaves_nothing_is_refused(data):
  with pytest.raises(UserError, match=r'FixedSampler\.held_out is 0\.999'):
    FixedSampler(data, held_out=0.999)


@pytest.mark.parametrize('name', ['CQLSACAgent', 'BEARAgent', 'BCAgent'])
def test_the_scalars_are_what_their_names_say(data, name):
  agent_class = {
    'CQLSACAgent': cql_atari.CQLSACAgent,
    'BEARAgent': cql_atari.BEARAgent,
    'BCAgent': cql_atari.ContinuousBCAgent,
  }[name]
  layers = {'hidden_units': (8,)}
  settings = {
    'policy': functools.partial(networks.TanhGaussianPolicy, **layers),
    'batch_size': 16,
    'sampler': functools.partial(FixedSampler, held_out=SHARE),
  }
  if name != 'BCAgent':
    settings['critic'] = functools.partial(networks.Critic, **layers)
  agent = agent_class(data, **settings)
  agent.train_steps(3)
  told, batch = agent.held_out_scalars(), agent._sampler.held_out
  assert tuple(told) == agent.held_out_names
  # BEAR's action is the best of several: the same ones once more.
  rng = np.random.default_rng(0)
  actions = agent.select_actions(batch.state, rng)
  distances = [np.sum((a - b) ** 2) for a, b in zip(actions, batch.action)]
  assert told['held_out_action_difference'] == pytest.approx(
    np.mean(distances), rel=1e-5
  )
  if name == 'BCAgent':
    assert len(told) == 1
    return
  following = agent.predict_q_values(
    batch.next_state, agent.select_actions(batch.next_state, rng)
  )
  q_values = agent.predict_q_values(batch.state, batch.action)
  errors = [
    (q - (reward + (0.0 if over else 0.99 * q_next))) ** 2
    for q, reward, over, q_next in zip(
      q_values, batch.reward, batch.terminal, following
    )
  ]
  assert batch.terminal.sum() == SHARE * EPISODES
  assert told['held_out_td_error'] == pytest.approx(np.mean(errors), rel=1e-5)
  assert told['held_out_value'] == pytest.approx(
    agent.predict_q_values(batch.state, actions).mean(), rel=1e-5
  )


def test_nothing_is_held_out_unless_asked(data):
  agent = cql_atari.ContinuousBCAgent(data)
  assert agent.held_out_names == () and agent.held_out_scalars() == {}
