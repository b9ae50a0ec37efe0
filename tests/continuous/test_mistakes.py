"""Mistakes with agents of continuous actions, each told in a sentence."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from continuous_by_hand import dataset

import cql_atari
from cql_atari.continuous import d4rl_benchmark, networks, tasks
from cql_atari.core.errors import UserError

SMALL = {
  'policy': functools.partial(networks.TanhGaussianPolicy, hidden_units=(4,)),
  'critic': functools.partial(networks.Critic, hidden_units=(4,)),
  'batch_size': 4,
}


def test_an_agent_plays_its_own_task():
  data = dataclasses.replace(dataset(), manifest={'game': 'halfcheetah'})
  agent = cql_atari.SACAgent(data, **SMALL)
  games = cql_atari.D4RLEnvironments('walker2d-medium-v2', 1)
  with pytest.raises(UserError, match='learned halfcheetah, and walker2d is'):
    cql_atari.evaluate(agent, games, steps=10)


def test_steps_of_other_updates_are_refused():
  one, two = (
    cql_atari.SACAgent(dataset(), policy_steps=n, **SMALL) for n in (1, 2)
  )
  two.train_steps(2)
  with pytest.raises(UserError, match='give the critic_steps and policy_steps'):
    one.load_state(two.state())
  again = cql_atari.SACAgent(dataset(), policy_steps=2, **SMALL)
  again.load_state(two.state())
  assert again.gradient_steps == 2


def test_agents_of_another_kitchen_are_refused():
  """Mixed data have other goals than partial ones; hopper's are all alike."""
  benchmark = d4rl_benchmark.D4RLBenchmark()

  def check(learned, played):
    data = dataclasses.replace(dataset(), task=tasks.task(learned))
    benchmark.check(data, cql_atari.D4RLEnvironments(played, 1))

  with pytest.raises(UserError, match='the data are of kitchen-mixed'):
    check('kitchen-mixed', 'kitchen-partial')
  check('hopper-medium', 'hopper-expert')


def test_networks_of_keras_are_refused():
  def critic(state_size, action_size, seed):
    return tf.keras.Sequential([tf.keras.layers.Dense(1)])

  with pytest.raises(UserError, match='the Sequential that trains on loss has'):
    cql_atari.SACAgent(dataset(), **{**SMALL, 'critic': critic})


def test_data_that_are_too_large_are_named():
  data = dataset()
  data.reward[:] = 1e30
  agent = cql_atari.SACAgent(data, **SMALL)
  with pytest.raises(UserError, match=r'rewards of size 1e\+30, so scale'):
    agent.train_steps(100)


@pytest.mark.parametrize(
  'make',
  [
    cql_atari.SACAgent,
    cql_atari.BEARAgent,
    functools.partial(
      cql_atari.BRACAgent, penalize_value=False, behavior_steps=0
    ),
    *(
      functools.partial(cql_atari.CQLSACAgent, penalty=penalty)
      for penalty in ('H', 'rho', 'rho-code', 'mu', 'eq1', 'var')
    ),
  ],
)
def test_a_policy_that_is_no_longer_finite_is_noticed(make):
  agent = make(dataset(), warmup_steps=0, **SMALL)
  agent.train_steps(1)
  for variable in agent.policy.trainable_variables:
    variable.assign(tf.fill(variable.shape, np.nan))
  with pytest.raises(UserError, match='loss is nan by gradient step'):
    agent.train_steps(100)


@pytest.mark.parametrize('name', ['critic_loss', 'policy_loss'])
@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (lambda loss, scalars: (tf.stop_gradient(loss), scalars), 'not depend on'),
    (lambda loss, scalars: (loss * tf.ones(5), scalars), 'the loss of shape'),
    (lambda loss, scalars: loss, 'returns no pair'),
    (lambda loss, scalars: (loss, {**scalars, 'new': loss}), 'needs SCALARS'),
  ],
)
def test_what_a_loss_has_to_give(name, change, sentence):
  def loss(self, batch, noise):
    return change(*getattr(cql_atari.SACAgent, name)(self, batch, noise))

  agent = type('Own', (cql_atari.SACAgent,), {name: loss})(dataset(), **SMALL)
  with pytest.raises(UserError, match=sentence) as error:
    agent.train_steps(1)
  assert 'Own' in str(error.value) and '\n' not in str(error.value)
  assert agent.gradient_steps == 0


def test_a_loss_that_nothing_calls_is_told():
  own = type('Own', (cql_atari.SACAgent,), {'loss': lambda self: 0.0})
  with pytest.raises(UserError, match='Own has a `loss` that nothing calls'):
    own(dataset(), **SMALL)


def test_data_of_atari_are_refused(demo_store):
  with pytest.raises(UserError, match='open_task_data opens, not a Store'):
    cql_atari.CQLSACAgent(demo_store)


def test_states_are_rows_of_numbers():
  agent = cql_atari.SACAgent(dataset(), **SMALL)
  states = np.zeros((3, 2))  # Float64, as gymnasium's are.
  actions = agent.select_actions(states)
  assert actions.shape == (3, 2) and np.abs(actions).max() <= 1
  assert agent.predict_q_values(states, actions.astype(float)).shape == (3,)
  rng = np.random.default_rng(0)
  assert agent.predict_values(states, rng).shape == (3,)
  for wrong in (states[0], states[:, :1]):
    with pytest.raises(UserError, match=r'give \(B, 2\)'):
      agent.select_actions(wrong)
    with pytest.raises(UserError, match=r'give \(B, 2\)'):
      agent.predict_values(wrong, rng)
