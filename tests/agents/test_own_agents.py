"""Agents, losses and networks of a user's own, where they go beyond ours."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from atari_by_hand import HEADS, TRUNK

import cql_atari
from cql_atari.agents import qrdqn_agent
from cql_atari.core.errors import UserError

NETWORK = functools.partial(HEADS['qrdqn'], trunk=TRUNK)


class WithDecay(qrdqn_agent.QRDQNAgent):
  """The weights themselves in the loss."""

  DECAY = 100.0

  def loss(self, outputs, transition):
    loss, scalars = super().loss(outputs, transition)
    kernels = self.online_network.trainable_variables[::2]
    return loss + self.DECAY * sum(map(tf.nn.l2_loss, kernels)), scalars


@pytest.mark.parametrize('compile_step', [None, True, False])
def test_terms_of_the_weights_are_trained(demo_store, compile_step):
  agents = [
    kind(demo_store, network=NETWORK, compile_step=compile_step)
    for kind in (qrdqn_agent.QRDQNAgent, WithDecay)
  ]
  kernels = [v.numpy() for v in agents[1].online_network.trainable_variables]
  for agent in agents:
    agent.train_steps(1)
  # After one step Adam's mean of gradients is a tenth of the gradient.
  plain, decayed = (
    [10 * mean.numpy() for mean in agent.optimizer.slots['first_moment']]
    for agent in agents
  )
  for index, kernel in enumerate(kernels):
    term = WithDecay.DECAY * kernel if index % 2 == 0 else 0.0
    np.testing.assert_allclose(
      decayed[index], plain[index] + term, rtol=1e-4, atol=1e-5
    )


def with_layer(layer):
  """Our small network with a layer before its head."""

  def network(num_actions, seed):
    model = NETWORK(num_actions, seed=seed)
    made = layer() if isinstance(layer, type) else layer
    outputs = made(model.layers[-3].output)
    for tail in model.layers[-2:]:
      outputs = tail(outputs)
    return tf.keras.Model(model.inputs, outputs)

  return network


class Noise(tf.keras.layers.Layer):
  """Random features, other ones in each network, that are not trained."""

  def build(self, shape):
    self.scales = self.add_weight(
      shape=(shape[-1],), initializer='random_normal', trainable=False
    )

  def call(self, inputs):
    return inputs * self.scales


def test_layers_that_are_not_trained_are_copied_and_saved(demo_store, tmp_path):
  def make():
    return qrdqn_agent.QRDQNAgent(demo_store, network=with_layer(Noise))

  agent, other = make(), make()
  states = np.random.default_rng(0).integers(256, size=(2, 84, 84, 4))
  states = states.astype(np.uint8)
  np.testing.assert_array_equal(
    agent.online_network(states), agent.target_network(states)
  )
  assert not np.array_equal(
    agent.predict_q_values(states), other.predict_q_values(states)
  )
  agent.train_steps(3)
  other.load(agent.save(tmp_path / 'agent.npz'))
  for one in (agent, other):
    one.train_steps(3)
  for name, array in agent.state().items():
    np.testing.assert_array_equal(array, other.state()[name], name)


def test_networks_that_share_a_layer_are_refused(demo_store):
  with pytest.raises(UserError, match=r'share .* new layers in every'):
    qrdqn_agent.QRDQNAgent(demo_store, network=with_layer(Noise(name='one')))


def test_layers_that_do_nothing_are_told(demo_store, caplog):
  dropout = functools.partial(tf.keras.layers.Dropout, 0.5, name='lost')
  qrdqn_agent.QRDQNAgent(
    demo_store, network=lambda n, seed: with_layer(dropout())(n, seed)
  )
  assert 'the layer lost drops nothing' in caplog.text


def test_a_loss_without_xla_may_print_and_assert(demo_store, capfd):
  class Guarded(cql_atari.CQLAgent):
    def loss(self, outputs, transition):
      loss, scalars = super().loss(outputs, transition)
      tf.print('the loss of step', outputs.step)
      tf.debugging.assert_less(outputs.step, tf.constant(2, tf.int64), 'over')
      return loss, scalars

  agent = Guarded(demo_store, network=NETWORK, compile_step=False)
  agent.train_steps(2)
  assert 'the loss of step 1' in capfd.readouterr().err
  with pytest.raises(tf.errors.InvalidArgumentError, match='over'):
    agent.train_steps(1)


def test_a_target_copied_by_hand_is_used_at_once(demo_store):
  def make():
    return qrdqn_agent.QRDQNAgent(
      demo_store, network=NETWORK, target_update_period=1000
    )

  agent, resumed = make(), make()
  agent.train_steps(3)
  agent.sync_target_network()
  resumed.load_state(agent.state())
  for one in (agent, resumed):
    one.train_steps(3)
  for name, array in agent.state().items():
    np.testing.assert_array_equal(array, resumed.state()[name], name)


def test_a_label_names_attributes_of_class_and_agent(demo_store):
  class Mine(qrdqn_agent.QRDQNAgent):
    LABEL = 'Mine({margin}, {gradient_steps}, {gamma})'
    margin = 3

  agent = Mine(demo_store, network=NETWORK)
  assert agent.label == 'Mine(3, 0, 0.99)'
  Mine.LABEL = 'Mine({beta})'
  with pytest.raises(UserError, match="no attribute 'beta'"):
    assert agent.label
