"""Networks for Atari: a convolutional trunk and a linear head."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import tensorflow as tf
from absl import logging

from cql_atari.core.constraints import (
  AtLeastTwo,
  NonNegativeInt,
  PositiveInt,
  PositiveInts,
  configurable,
)
from cql_atari.core.errors import UserError


class _SeededInitializers:
  """Hands every layer its own seed, in order, from the network's seed."""

  def __init__(self, seed: int, **scaling):
    self._seeds = iter(np.random.SeedSequence(seed).generate_state(4096))
    self._scaling = scaling

  def __call__(self) -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.VarianceScaling(
      distribution='uniform', seed=int(next(self._seeds)), **self._scaling
    )


# As in Dopamine: DQN's, which is Keras's default, and that of all others.
_GLOROT = {'scale': 1.0, 'mode': 'fan_avg'}
_FAN_IN = {'scale': 1.0 / np.sqrt(3.0), 'mode': 'fan_in'}


@tf.keras.utils.register_keras_serializable('cql_atari')
class Dense(tf.keras.layers.Dense):
  """Keras's layer; the gradient of its inputs is faster, and equal to the bit.

  On a CPU, multiplying by the transpose of a large kernel takes half as long
  again as transposing the small product of the kernel with a transpose.
  """

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """(B, I) -> (B, units)."""
    outputs = _product(inputs, self.kernel.value)
    return self.activation(tf.nn.bias_add(outputs, self.bias))


@tf.custom_gradient
def _product(inputs, kernel):
  def gradient(upstream):
    return (
      tf.transpose(tf.matmul(kernel, upstream, transpose_b=True)),
      tf.matmul(inputs, upstream, transpose_a=True),
    )

  return tf.matmul(inputs, kernel), gradient


@configurable(denylist=['states', 'initializer'])
def nature_trunk(
  states: tf.Tensor,
  initializer: _SeededInitializers,
  filters: PositiveInts = (32, 64, 64),
  hidden_units: PositiveInt = 512,
) -> tf.Tensor:
  """The layers of Mnih et al. (2015).

  Args:
    states: (B, 84, 84, 4) in [0, 1].
    initializer: makes each layer's kernel initializer.
    filters: channels of the three convolutions.
    hidden_units: width of the fully connected layer.

  Returns:
    Features (B, hidden_units).

  Raises:
    UserError: filters are not three.
  """
  if len(filters) != 3:
    raise UserError(f'nature_trunk.filters is {filters!r}: give 3 numbers.')
  x = states
  for channels, kernel, stride in zip(filters, (8, 4, 3), (4, 2, 1)):
    x = _convolution(channels, kernel, initializer, stride, 'relu')(x)
  return _features(x, initializer, hidden_units)


@configurable(denylist=['states', 'initializer'])
def impala_trunk(
  states: tf.Tensor,
  initializer: _SeededInitializers,
  filters: PositiveInts = (16, 32, 32),
  blocks: NonNegativeInt = 2,
  hidden_units: PositiveInt = 256,
) -> tf.Tensor:
  """The residual encoder of IMPALA (Espeholt et al., 2018, figure 3).

  Args:
    states: (B, 84, 84, 4) in [0, 1].
    initializer: makes each layer's kernel initializer.
    filters: channels of each section, which halves height and width.
    blocks: residual blocks in a section.
    hidden_units: width of the fully connected layer.

  Returns:
    Features (B, hidden_units).
  """
  x = states
  for channels in filters:
    x = _convolution(channels, 3, initializer)(x)
    x = tf.keras.layers.MaxPooling2D(3, 2, padding='same')(x)
    for _ in range(blocks):
      y = tf.keras.layers.ReLU()(x)
      y = _convolution(channels, 3, initializer, activation='relu')(y)
      x = tf.keras.layers.Add()([x, _convolution(channels, 3, initializer)(y)])
  return _features(tf.keras.layers.ReLU()(x), initializer, hidden_units)


def _convolution(channels, kernel, initializer, stride=1, activation=None):
  return tf.keras.layers.Conv2D(
    channels,
    kernel,
    stride,
    padding='same',
    activation=activation,
    kernel_initializer=initializer(),
  )


def _features(x, initializer, hidden_units):
  dense = Dense(
    hidden_units, activation='relu', kernel_initializer=initializer()
  )
  return dense(tf.keras.layers.Flatten()(x))


def make(
  network: Callable[..., tf.keras.Model] | None,
  num_actions: int,
  seed: int,
  dtype: Literal['float32', 'bfloat16'] = 'float32',
) -> tf.keras.Model:
  """Makes a network that computes in `dtype`; weights and outputs are float32.

  Args:
    network: makes it, of Keras's layers.
    num_actions: A.
    seed: seeds the initial weights.
    dtype: the type of activations and products.

  Raises:
    UserError: `network` is a network itself, or nothing, or makes one of
      several outputs or of float64.
  """
  if network is None:
    raise UserError(
      'the agent has no network: give it one, or its class a NETWORK, such as '
      'cql_atari.agents.networks.q_network (with OUTPUT_RANK = 2).'
    )
  if isinstance(network, tf.keras.Model):
    raise UserError(
      'network is a network, and an agent needs two: give what makes one, '
      'called with (num_actions, seed=...).'
    )
  policy = tf.keras.config.dtype_policy()
  tf.keras.config.set_dtype_policy(
    dtype if dtype == 'float32' else f'mixed_{dtype}'
  )
  try:
    model = network(num_actions, seed=seed)
  finally:
    tf.keras.config.set_dtype_policy(policy)
  try:
    output = model.output
  except (AttributeError, ValueError):  # It doesn't know its inputs yet.
    states = tf.keras.layers.Input((84, 84, 4), dtype='uint8')
    model = tf.keras.Model(states, model(states))
    output = model.output
  if not tf.keras.utils.is_keras_tensor(output):
    raise UserError('the network has several outputs: give one that has one.')
  if wrong := [v.path for v in model.weights if v.dtype == 'float64']:
    raise UserError(f'the network has weights of float64, such as {wrong[0]}.')
  if output.dtype == 'float32':
    return model
  exact = tf.keras.layers.Activation('linear', dtype='float32')
  return tf.keras.Model(model.inputs, exact(model.output))


def _layers(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
  """The layers of a model and of the models inside it."""
  for layer in model.layers:
    if hasattr(layer, 'layers'):
      yield from _layers(layer)
    else:
      yield layer


def make_two(
  network: Callable[..., tf.keras.Model] | None,
  num_actions: int,
  seed: int,
  dtype: Literal['float32', 'bfloat16'] = 'float32',
) -> tuple[tf.keras.Model, tf.keras.Model]:
  """An online and a target network, as `make` makes each.

  Raises:
    UserError: besides what `make` refuses, the two share a layer, or have
      losses of their own.
  """
  online, target = (make(network, num_actions, seed, dtype) for _ in range(2))
  ids = {id(variable) for variable in online.weights}
  shared = [v.path for v in target.weights if id(v) in ids]
  if shared:
    raise UserError(
      f'the online and the target network share {shared[0]}: `network` has to '
      'make new layers in every call.'
    )
  of_activity = [x for x in _layers(online) if x.activity_regularizer]
  if online.losses or of_activity:
    raise UserError(
      'the network has losses of its own, such as regularizers, which nothing '
      "trains: add such terms to the agent's loss."
    )
  for layer in _layers(online):
    if 'training' in inspect.signature(layer.call).parameters:
      logging.warning(
        'Networks always run as they are evaluated: the layer %s changes '
        'nothing at random and learns no statistics.', layer.name
      )  # fmt: skip
  return online, target


def _network(
  trunk: Callable[..., tf.Tensor],
  shape: tuple[int, ...],
  seed: int,
  scaling: dict = _FAN_IN,
) -> tf.keras.Model:
  """uint8 states (B, 84, 84, 4) -> outputs (B, *shape).

  The head computes in float32 at all times: of values near 10, bfloat16 would
  keep steps of 0.06, which is more than actions differ by.
  """
  initializer = _SeededInitializers(seed, **scaling)
  states = tf.keras.layers.Input((84, 84, 4), dtype='uint8')
  x = trunk(tf.keras.layers.Rescaling(1.0 / 255.0)(states), initializer)
  head = Dense(
    math.prod(shape), kernel_initializer=initializer(), dtype='float32'
  )
  outputs = tf.keras.layers.Reshape(shape, dtype='float32')(head(x))
  return tf.keras.Model(states, outputs)


@configurable(denylist=['num_actions', 'seed'])
def q_network(
  num_actions: int,
  seed: int = 0,
  trunk: Callable[..., tf.Tensor] = nature_trunk,
) -> tf.keras.Model:
  """The DQN network: uint8 states (B, 84, 84, 4) -> Q-values (B, A).

  Behaviour cloning reads the same outputs as logits. Its initial weights are
  Dopamine's for DQN (Glorot uniform), not QR-DQN's.

  Args:
    num_actions: A.
    seed: seeds the initial weights.
    trunk: maps scaled states (B, 84, 84, 4) and an initializer to features
      (B, F): the layers below the head.
  """
  return _network(trunk, (num_actions,), seed, _GLOROT)


@configurable(denylist=['num_actions', 'seed'])
def quantile_network(
  num_actions: int,
  num_quantiles: PositiveInt = 200,
  seed: int = 0,
  trunk: Callable[..., tf.Tensor] = nature_trunk,
) -> tf.keras.Model:
  """The QR-DQN network: uint8 states (B, 84, 84, 4) -> quantiles (B, A, N).

  Args:
    num_actions: A.
    num_quantiles: N.
    seed: seeds the initial weights.
    trunk: maps scaled states (B, 84, 84, 4) and an initializer to features
      (B, F): the layers below the head.
  """
  return _network(trunk, (num_actions, num_quantiles), seed)


@configurable(denylist=['num_actions', 'seed'])
def multi_head_network(
  num_actions: int,
  num_heads: PositiveInt = 200,
  seed: int = 0,
  trunk: Callable[..., tf.Tensor] = nature_trunk,
) -> tf.keras.Model:
  """The REM network: uint8 states (B, 84, 84, 4) -> Q-values (B, A, K).

  Args:
    num_actions: A.
    num_heads: K.
    seed: seeds the initial weights.
    trunk: maps scaled states (B, 84, 84, 4) and an initializer to features
      (B, F): the layers below the heads.
  """
  return _network(trunk, (num_actions, num_heads), seed)


@configurable(denylist=['num_actions', 'seed'])
def categorical_network(
  num_actions: int,
  num_atoms: AtLeastTwo = 51,
  seed: int = 0,
  trunk: Callable[..., tf.Tensor] = nature_trunk,
) -> tf.keras.Model:
  """The C51 network: uint8 states (B, 84, 84, 4) -> logits (B, A, N).

  Args:
    num_actions: A.
    num_atoms: N.
    seed: seeds the initial weights.
    trunk: maps scaled states (B, 84, 84, 4) and an initializer to features
      (B, F): the layers below the head.
  """
  return _network(trunk, (num_actions, num_atoms), seed)
