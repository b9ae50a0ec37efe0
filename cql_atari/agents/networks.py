"""Trunks, which see, and heads, which tell values."""

import math
from collections.abc import Callable, Sequence

import gin
import numpy as np
import tensorflow as tf

from cql_atari.core.errors import UserError, check_number


class _SeededInitializers:
  """Hands every layer its own seed, in order, from the network's seed."""

  def __init__(self, seed: int):
    self._seeds = iter(np.random.SeedSequence(seed).generate_state(64))

  def __call__(self) -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.VarianceScaling(
      scale=1.0 / np.sqrt(3.0),
      mode='fan_in',
      distribution='uniform',
      seed=int(next(self._seeds)),
    )


class Dense(tf.keras.layers.Dense):
  """Keras's layer with a faster gradient by its inputs, equal to the bit.

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


# A trunk turns scaled states (B, 84, 84, 4) into features (B, F).
Trunk = Callable[[tf.Tensor, _SeededInitializers], tf.Tensor]


@gin.configurable(denylist=['states', 'initializer'])
def nature_trunk(
  states: tf.Tensor,
  initializer: _SeededInitializers,
  filters: Sequence[int] = (32, 64, 64),
  hidden_units: int = 512,
) -> tf.Tensor:
  """The layers of Mnih et al. (2015).

  Args:
    states: (B, 84, 84, 4) in [0, 1].
    initializer: makes each layer's kernel initializer.
    filters: channels of the three convolutions.
    hidden_units: width of the fully connected layer.

  Returns:
    Features (B, hidden_units).
  """
  _check_sizes('nature_trunk.filters', filters, 3)
  check_number('nature_trunk.hidden_units', hidden_units, 1, whole=True)
  x = states
  for channels, kernel, stride in zip(filters, (8, 4, 3), (4, 2, 1)):
    x = _convolution(channels, kernel, initializer, stride, 'relu')(x)
  return _features(x, initializer, hidden_units)


@gin.configurable(denylist=['states', 'initializer'])
def impala_trunk(
  states: tf.Tensor,
  initializer: _SeededInitializers,
  filters: Sequence[int] = (16, 32, 32),
  blocks: int = 2,
  hidden_units: int = 256,
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
  _check_sizes('impala_trunk.filters', filters)
  check_number('impala_trunk.blocks', blocks, 0, whole=True)
  check_number('impala_trunk.hidden_units', hidden_units, 1, whole=True)
  x = states
  for channels in filters:
    x = _convolution(channels, 3, initializer)(x)
    x = tf.keras.layers.MaxPooling2D(3, 2, padding='same')(x)
    for _ in range(blocks):
      y = tf.keras.layers.ReLU()(x)
      y = _convolution(channels, 3, initializer, activation='relu')(y)
      x = tf.keras.layers.Add()([x, _convolution(channels, 3, initializer)(y)])
  return _features(tf.keras.layers.ReLU()(x), initializer, hidden_units)


def _check_sizes(
  name: str, sizes: Sequence[int], count: int | None = None
) -> None:
  """Checks the widths of layers: `count` of them, where it is given."""
  if not isinstance(sizes, (tuple, list)) or count not in (None, len(sizes)):
    number = 'numbers' if count is None else f'{count} numbers'
    raise UserError(f'{name} is {sizes!r}: give {number} in parentheses.')
  for size in sizes:
    check_number(name, size, 1, whole=True)


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


def _network(trunk: Trunk, shape: tuple[int, ...], seed: int) -> tf.keras.Model:
  """uint8 states (B, 84, 84, 4) -> outputs (B, *shape)."""
  initializer = _SeededInitializers(seed)
  states = tf.keras.layers.Input((84, 84, 4), dtype='uint8')
  x = trunk(tf.keras.layers.Rescaling(1.0 / 255.0)(states), initializer)
  x = Dense(math.prod(shape), kernel_initializer=initializer())(x)
  return tf.keras.Model(states, tf.keras.layers.Reshape(shape)(x))


@gin.configurable(denylist=['num_actions', 'seed'])
def q_network(
  num_actions: int, seed: int = 0, trunk: Trunk = nature_trunk
) -> tf.keras.Model:
  """The DQN network: uint8 states (B, 84, 84, 4) -> Q-values (B, A).

  Behaviour cloning reads the same outputs as logits.

  Args:
    num_actions: A.
    seed: of the initial weights.
    trunk: makes the layers below the head.
  """
  return _network(trunk, (num_actions,), seed)


@gin.configurable(denylist=['num_actions', 'seed'])
def quantile_network(
  num_actions: int,
  num_quantiles: int = 200,
  seed: int = 0,
  trunk: Trunk = nature_trunk,
) -> tf.keras.Model:
  """The QR-DQN network: uint8 states (B, 84, 84, 4) -> quantiles (B, A, N).

  Args:
    num_actions: A.
    num_quantiles: N.
    seed: of the initial weights.
    trunk: makes the layers below the head.
  """
  check_number('quantile_network.num_quantiles', num_quantiles, 1, whole=True)
  return _network(trunk, (num_actions, num_quantiles), seed)


@gin.configurable(denylist=['num_actions', 'seed'])
def multi_head_network(
  num_actions: int,
  num_heads: int = 200,
  seed: int = 0,
  trunk: Trunk = nature_trunk,
) -> tf.keras.Model:
  """The REM network: uint8 states (B, 84, 84, 4) -> Q-values (B, A, K).

  Args:
    num_actions: A.
    num_heads: K.
    seed: of the initial weights.
    trunk: makes the layers below the heads.
  """
  check_number('multi_head_network.num_heads', num_heads, 1, whole=True)
  return _network(trunk, (num_actions, num_heads), seed)


@gin.configurable(denylist=['num_actions', 'seed'])
def categorical_network(
  num_actions: int,
  num_atoms: int = 51,
  seed: int = 0,
  trunk: Trunk = nature_trunk,
) -> tf.keras.Model:
  """The C51 network: uint8 states (B, 84, 84, 4) -> logits (B, A, N).

  Args:
    num_actions: A.
    num_atoms: N.
    seed: of the initial weights.
    trunk: makes the layers below the head.
  """
  check_number('categorical_network.num_atoms', num_atoms, 2, whole=True)
  return _network(trunk, (num_actions, num_atoms), seed)
