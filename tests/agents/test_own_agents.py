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
  assert 'the layer lost changes nothing' in caplog.text


def test_a_loss_without_xla_may_print_and_assert(demo_store, capfd):
  class Guarded(cql_atari.CQLAgent):
    def loss(self, outputs, transition):
      loss, scalars = super().loss(outputs, transition)
      tf.print('the loss of step', outputs.step)
      tf.debugging.assert_less(outputs.step, tf.constant(2, tf.int64), 'over')
      return loss, scalars

  agent = Guarded(demo_store, network=NETWORK, compile_step=False)
  agent.train_steps(2)
  agent.mean_scalars()  # Waits for them.
  assert 'the loss of step 1' in capfd.readouterr().err
  with pytest.raises(tf.errors.InvalidArgumentError, match='over'):
    agent.train_steps(1)
    agent.mean_scalars()


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


STATES = np.random.default_rng(0).integers(256, size=(2, 84, 84, 4), dtype='u1')


def test_layers_of_chance_are_off(demo_store, caplog):
  def network(num_actions, seed):
    inner = NETWORK(num_actions, seed=seed)
    states = tf.keras.layers.Input((84, 84, 4))
    moved = tf.keras.layers.RandomTranslation(0.3, 0.3, name='moved')(states)
    return tf.keras.Model(states, inner(moved))

  agent = qrdqn_agent.QRDQNAgent(demo_store, network=network)
  assert 'the layer moved changes nothing at random' in caplog.text
  first, second = (agent.predict_q_values(STATES) for _ in range(2))
  np.testing.assert_array_equal(first, second)


class Called(tf.keras.Model):
  """A model of a user's own class, which has never been called."""

  def __init__(self, num_actions, seed):
    super().__init__()
    self.inner = NETWORK(num_actions, seed=seed)

  def call(self, inputs):
    return self.inner(inputs)


def test_models_of_ones_own_class_are_networks(demo_store):
  agent = qrdqn_agent.QRDQNAgent(demo_store, network=Called, seed=3)
  usual = qrdqn_agent.QRDQNAgent(demo_store, network=NETWORK, seed=3)
  for one in (agent, usual):
    one.train_steps(3)
  np.testing.assert_allclose(
    agent.predict_q_values(STATES), usual.predict_q_values(STATES), rtol=1e-5
  )


def changed(change):
  """Our network with something done to its output."""

  def network(num_actions, seed):
    model = NETWORK(num_actions, seed=seed)
    return tf.keras.Model(model.inputs, change(model.output))

  return network


@pytest.mark.parametrize(
  ('network', 'sentence'),
  [
    (changed(lambda x: [x, x]), 'several outputs'),
    (
      changed(tf.keras.layers.Dense(51, dtype='float64')),
      'has weights of float64',
    ),
    (
      changed(tf.keras.layers.ActivityRegularization(l2=1.0)),
      'has losses of its own',
    ),
    (
      lambda n, seed: changed(
        tf.keras.layers.Dense(51, kernel_regularizer='l2')
      )(n, seed),
      'has losses of its own',
    ),
  ],
)
def test_networks_that_cannot_be_trained_are_refused(
  demo_store, network, sentence
):
  with pytest.raises(UserError, match=sentence):
    qrdqn_agent.QRDQNAgent(demo_store, network=network)


def test_variables_of_ones_own_are_saved(demo_store, tmp_path):
  class Dual(qrdqn_agent.QRDQNAgent):
    def __init__(self, *args, **kwargs):
      self.weight = tf.Variable(1.0)
      super().__init__(*args, **kwargs)

    def after_step(self, scalars):
      self.weight.assign_add(1.0)

  agent, other = (Dual(demo_store, network=NETWORK) for _ in range(2))
  agent.train_steps(2)
  assert other.load(agent.save(tmp_path / 'dual.npz')).weight.numpy() == 3.0


def test_what_two_agents_cannot_share_is_refused(demo_store):
  adam = cql_atari.Adam()
  settings = {'network': NETWORK, 'optimizer': lambda: adam}
  agent = qrdqn_agent.QRDQNAgent(demo_store, **settings)
  with pytest.raises(UserError, match='the one that another agent has'):
    qrdqn_agent.QRDQNAgent(demo_store, **settings)
  with pytest.raises(UserError, match=r'inside a tf\.function'):
    tf.function(lambda: agent.train_steps(2))()


def test_numbers_of_numpy_are_numbers(demo_store):
  agent = qrdqn_agent.QRDQNAgent(
    None, num_actions=np.int64(4), network=NETWORK, gamma=np.float32(0.5)
  )
  assert (agent.num_actions, type(agent.gamma)) == (4, float)


def test_a_forgotten_comma_is_told(demo_store):
  class Forgotten(qrdqn_agent.QRDQNAgent):
    SCALARS = 'extra'

  with pytest.raises(UserError, match=r"give \('extra',\)"):
    Forgotten(demo_store, network=NETWORK)


def test_an_episode_begins_and_shows_unscaled_frames(demo_store):
  agent = qrdqn_agent.QRDQNAgent(demo_store, network=NETWORK)
  with pytest.raises(UserError, match='call begin_episode first'):
    agent.step(0.0, STATES[0, ..., :1])
  first = agent.begin_episode(STATES[0, ..., 0])  # As gymnasium gives it.
  assert first == agent.begin_episode(STATES[0, ..., :1])
  with pytest.raises(UserError, match='not scaled'):
    agent.step(0.0, STATES[0, ..., :1] / 255)
