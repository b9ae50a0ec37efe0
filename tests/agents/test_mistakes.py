"""Mistakes of people who use agents from Python, each told in a sentence."""

import functools
import types

import numpy as np
import pytest
import tensorflow as tf
from atari_by_hand import HEADS, TRUNK, make

import cql_atari
from cql_atari.agents import fixed_replay_agent, networks, qrdqn_agent
from cql_atari.core.errors import UserError
from cql_atari.environments import atari, evaluation


def with_loss(change):
  class Own(qrdqn_agent.QRDQNAgent):
    SCALARS = ('declared',)

    def loss(self, outputs, transition):
      loss, scalars = super().loss(outputs, transition)
      return change(loss, {**scalars, 'declared': loss})

  return Own


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (lambda loss, scalars: (tf.stop_gradient(loss), scalars), 'not depend on'),
    (lambda loss, scalars: (tf.constant(1.0), scalars), 'not depend on'),
    (lambda loss, scalars: (loss * tf.ones(5), scalars), r'the loss of shape'),
    (lambda loss, scalars: (loss, {'declared': tf.ones(3)}), 'declared of'),
    (lambda loss, scalars: loss, 'returns no pair'),
    (lambda loss, scalars: None, 'returns no pair'),
    (
      lambda loss, scalars: (loss, {**scalars, 'new': loss}),
      r"needs SCALARS = \('declared', 'new'\)",
    ),
  ],
)  # fmt: skip
def test_what_a_loss_has_to_give(demo_store, change, sentence):
  network = HEADS['qrdqn']
  agent = with_loss(change)(
    demo_store, network=lambda *a, **k: network(*a, **k, trunk=TRUNK)
  )
  with pytest.raises(UserError, match=sentence) as error:
    agent.train_steps(1)
  assert 'Own' in str(error.value) and '\n' not in str(error.value)
  assert agent.gradient_steps == 0


def test_states_are_frames_as_they_were_recorded(demo_store):
  agent = make('qrdqn', demo_store)
  states = np.zeros((2, 84, 84, 4), np.uint8)
  assert agent.select_actions(states).shape == (2,)
  for wrong in (states / 255, states[0], states.transpose(0, 3, 1, 2)):
    for act in (
      agent.select_actions,
      agent.predict_q_values,
      agent.predict_distribution,
    ):
      with pytest.raises(UserError, match=r'give uint8 \(B, 84, 84, 4\)'):
        act(wrong)


def test_numbers_of_steps_are_whole_and_not_negative(demo_store):
  agent = make('qrdqn', demo_store)
  for count in (-1, 1.5):
    with pytest.raises(UserError, match='count is'):
      agent.train_steps(count)
  agent.train_steps(np.int64(1))
  assert agent.gradient_steps == 1
  for steps in (0, -5):
    with pytest.raises(UserError, match='steps is'):
      evaluation.evaluate(agent, 'Breakout', steps)


def test_a_loss_that_is_no_longer_finite_is_told(demo_store):
  class Diverging(cql_atari.CQLAgent):
    def loss(self, outputs, transition):
      loss, scalars = super().loss(outputs, transition)
      return loss / tf.cast(outputs.step < 2, tf.float32), scalars

  agent = Diverging(
    demo_store, network=functools.partial(HEADS['qrdqn'], trunk=TRUNK)
  )
  agent.train_steps(2, show_progress=True)
  agent.mean_scalars(reset=True)
  agent.train_steps(0, show_progress=True)
  with pytest.raises(
    UserError, match=r'nan by .* 102: look at the loss of .* alpha'
  ):
    for count in (40, 40, 20):
      agent.train_steps(count)


def test_an_agent_plays_its_own_game(demo_store):
  agent = make('qrdqn', demo_store)
  with pytest.raises(UserError, match='4 actions, and Pong 6'):
    evaluation.evaluate(agent, 'Pong', 10)
  games = atari.AtariEnvironments(
    'Breakout', num_environments=2, max_steps_per_episode=20
  )
  assert len(evaluation.evaluate(agent, games, 10).returns)
  still = types.SimpleNamespace(
    select_actions=lambda states, rng: states[:, 0, 0, 0]
  )
  assert len(evaluation.evaluate(still, games, 10).returns)


@pytest.mark.parametrize(
  ('settings', 'sentence'),
  [
    ({'alpha': -1}, r'CQLMixin.alpha is -1: give a number of at least 0\.'),
    ({'learning_rate': 1e-3}, r'one of Adam or RMSProp.*partial\(Adam, learn'),
    ({'num_quantiles': 51}, r'partial\(quantile_network, num_quantiles=\.'),
    ({'optimizer': cql_atari.Adam(1e-3)}, 'give what makes one of ours'),
    ({'optimizer': tf.keras.optimizers.Adam}, 'give what makes one of ours'),
    ({'network': tf.keras.Sequential()}, 'needs two: give what makes one'),
    ({'num_actions': -1}, 'num_actions is -1: give a whole number'),
    (
      {
        'network': lambda actions, seed: networks.quantile_network(3, seed=seed)
      },
      'not of 3 axes with 4 actions in the second',
    ),
  ],
)
def test_what_an_agent_cannot_be_made_of(demo_store, settings, sentence):
  with pytest.raises(UserError, match=sentence) as error:
    cql_atari.CQLAgent(demo_store, **settings)
  assert '\n' not in str(error.value)


def test_an_agent_of_ones_own_names_its_network(demo_store):
  class Own(fixed_replay_agent.FixedReplayAgent):
    def loss(self, outputs, transition):
      return tf.reduce_mean(outputs.online, axis=[1, 2]), {}

    def q_values(self, outputs):
      return outputs

  with pytest.raises(
    UserError, match='no network: give it one, or its class a'
  ):
    Own(demo_store)


def test_an_agent_without_data_only_acts():
  agent = make('qrdqn', None, num_actions=4)
  assert agent.select_actions(np.zeros((2, 84, 84, 4), np.uint8)).shape == (2,)
  with pytest.raises(UserError, match='this agent has no data'):
    agent.train_steps(1)


def test_games_begin_with_a_reset():
  games = atari.AtariEnvironments('Breakout', num_environments=2)
  with pytest.raises(ValueError, match='call reset first'):
    games.step([0, 0])
