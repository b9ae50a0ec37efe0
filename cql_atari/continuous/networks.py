"""Multilayer perceptrons, and the tanh-Gaussian policy on one of them."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cql_atari.core.constraints import PositiveInt, PositiveInts, configurable
from cql_atari.core.errors import UserError

_LARGEST = 1.0 - 1e-6  # The largest action whose density is finite.


class MLP(tf.Module):
  """Dense layers with ReLU between them."""

  def __init__(self, sizes: Sequence[int], seed: np.random.SeedSequence):
    """Makes the layers.

    Args:
      sizes: widths of the input, the hidden layers and the output.
      seed: seeds the weights, uniform within 1 / sqrt(inputs); biases are 0.
    """
    super().__init__()
    rng = np.random.default_rng(seed)
    self.kernels, self.biases = [], []
    for inputs, units in itertools.pairwise(sizes):
      bound = 1.0 / math.sqrt(inputs)
      kernel = rng.uniform(-bound, bound, (inputs, units))
      self.kernels.append(tf.Variable(kernel.astype(np.float32)))
      self.biases.append(tf.Variable(tf.zeros(units)))

  @property
  def layers(self) -> list[tf.Variable]:
    """All variables, in order."""
    return [v for layer in zip(self.kernels, self.biases) for v in layer]

  def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
    """(B, I) -> (B, O)."""
    *hidden, last = zip(self.kernels, self.biases)
    for kernel, bias in hidden:
      inputs = _dense(inputs, kernel.read_value(), bias.read_value())
    return tf.nn.bias_add(tf.matmul(inputs, last[0]), last[1])


@tf.custom_gradient
def _dense(inputs, kernel, bias):
  """A layer with ReLU; the gradient of its bias is a matrix product.

  TensorFlow's own sums thousands of rows on one thread.
  """
  outputs = tf.nn.relu(tf.nn.bias_add(tf.matmul(inputs, kernel), bias))

  def gradient(upstream):
    upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)
    ones = tf.ones((1, tf.shape(upstream)[0]), upstream.dtype)
    return (
      tf.matmul(upstream, kernel, transpose_b=True),
      tf.matmul(inputs, upstream, transpose_a=True),
      tf.matmul(ones, upstream)[0],
    )

  return outputs, gradient


@configurable(denylist=['state_size', 'action_size', 'seed'])
class Critic(tf.Module):
  """An ensemble of Q-functions."""

  def __init__(
    self,
    state_size: int,
    action_size: int,
    seed: np.random.SeedSequence,
    hidden_units: PositiveInts = (256, 256, 256),
    num_critics: PositiveInt = 2,
  ):
    """Makes the networks.

    Args:
      state_size: S.
      action_size: A.
      seed: seeds the weights; every network has its own.
      hidden_units: widths of the hidden layers.
      num_critics: Q-functions in the ensemble, K.
    """
    super().__init__()
    sizes = (state_size + action_size, *hidden_units, 1)
    self.members = [MLP(sizes, child) for child in seed.spawn(num_critics)]

  @property
  def layers(self) -> list[tf.Variable]:
    """All variables, in order."""
    return [v for member in self.members for v in member.layers]

  def __call__(self, states: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Values of actions, one or several a state.

    Args:
      states: (B, S).
      actions: (B, A), or (B, N, A).

    Returns:
      (K, B), or (K, B, N).
    """
    shape = tf.shape(actions)[:-1]
    if len(actions.shape) == 3:
      states = tf.repeat(states, shape[1], axis=0)
      actions = tf.reshape(actions, (-1, actions.shape[-1]))
    inputs = tf.concat([states, actions], axis=-1)
    values = tf.stack([member(inputs)[:, 0] for member in self.members])
    return tf.reshape(values, tf.concat([[len(self.members)], shape], axis=0))


@configurable(denylist=['state_size', 'action_size', 'seed'])
class TanhGaussianPolicy(tf.Module):
  """Actions tanh(u), u Gaussian with a mean and deviation for every state."""

  def __init__(
    self,
    state_size: int,
    action_size: int,
    seed: np.random.SeedSequence,
    hidden_units: PositiveInts = (256, 256, 256),
    log_std_range: Sequence[float] = (-5.0, 2.0),
  ):
    """Makes the network.

    Args:
      state_size: S.
      action_size: A.
      seed: seeds the weights.
      hidden_units: widths of the hidden layers.
      log_std_range: what log deviations are cut off to.
    """
    super().__init__()
    if len(log_std_range) != 2 or log_std_range[0] > log_std_range[1]:
      raise UserError(
        f'TanhGaussianPolicy.log_std_range is {log_std_range!r}: give two '
        'numbers, the lower first, such as (-5.0, 2.0).'
      )
    self.action_size = action_size
    self.hidden_units = tuple(hidden_units)
    self.log_std_range = log_std_range
    self._mlp = MLP((state_size, *hidden_units, 2 * action_size), seed)

  @property
  def layers(self) -> list[tf.Variable]:
    """All variables, in order."""
    return self._mlp.layers

  def __call__(self, states: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """States (B, S) -> mean and log deviation of u, (B, A) each."""
    mean, log_std = tf.split(self._mlp(states), 2, axis=-1)
    return mean, tf.clip_by_value(log_std, *self.log_std_range)

  def mode(self, states: tf.Tensor) -> tf.Tensor:
    """(B, A): tanh of the mean, which is what evaluations play."""
    return tf.tanh(self(states)[0])

  def sample(
    self, states: tf.Tensor, noise: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Actions and their log-densities, through which gradients flow.

    Args:
      states: (B, S).
      noise: standard normal, (B, A), or (B, N, A) for N actions a state.

    Returns:
      Actions of noise's shape, log-densities (B,) or (B, N).
    """
    before, log_std = self.sample_before_tanh(states, noise)
    density = gaussian_log_density(noise) - tf.reduce_sum(log_std, axis=-1)
    return tf.tanh(before), density - _log_slope(before)

  def sample_before_tanh(
    self, states: tf.Tensor, noise: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """u of the actions tanh(u) that `sample` gives, and log deviations."""
    mean, log_std = self(states)
    if len(noise.shape) == 3:
      mean, log_std = mean[:, None], log_std[:, None]
    return mean + tf.exp(log_std) * noise, log_std

  def log_density(self, states: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Log-densities of given actions, (B, A) -> (B,), or (B, N, A) -> (B, N).

    Actions at the very ends of their range count as just inside.
    """
    mean, log_std = self(states)
    if len(actions.shape) == 3:
      mean, log_std = mean[:, None], log_std[:, None]
    before = tf.atanh(tf.clip_by_value(actions, -_LARGEST, _LARGEST))
    noise = (before - mean) * tf.exp(-log_std)
    density = gaussian_log_density(noise) - tf.reduce_sum(log_std, axis=-1)
    return density - _log_slope(before)


@configurable(denylist=['state_size', 'action_size', 'seed'])
class ConditionalVAE(tf.Module):
  """A model of the data's actions (Sohn et al., 2015), as BEAR has it."""

  def __init__(
    self,
    state_size: int,
    action_size: int,
    seed: np.random.SeedSequence,
    hidden_units: PositiveInts = (750, 750),
  ):
    """Makes encoder and decoder; the latent has two numbers for each of A.

    Args:
      state_size: S.
      action_size: A.
      seed: seeds the weights.
      hidden_units: widths of the hidden layers of each.
    """
    super().__init__()
    self.latent_size = 2 * action_size
    encoder, decoder = seed.spawn(2)
    self._encoder = MLP(
      (state_size + action_size, *hidden_units, 2 * self.latent_size), encoder
    )
    self._decoder = MLP(
      (state_size + self.latent_size, *hidden_units, action_size), decoder
    )

  @property
  def layers(self) -> list[tf.Variable]:
    """All variables, in order."""
    return self._encoder.layers + self._decoder.layers

  def loss(
    self, states: tf.Tensor, actions: tf.Tensor, noise: tf.Tensor
  ) -> tf.Tensor:
    """Mean squared reconstruction error plus half the latent's KL divergence.

    Args:
      states: (B, S).
      actions: (B, A).
      noise: standard normal (B, 2 A).

    Returns:
      A scalar; both terms are means over all numbers.
    """
    encoded = self._encoder(tf.concat([states, actions], axis=-1))
    mean, log_std = tf.split(encoded, 2, axis=-1)
    log_std = tf.clip_by_value(log_std, -4.0, 15.0)
    decoded = self.decode(states, mean + tf.exp(log_std) * noise)
    divergence = -0.5 * tf.reduce_mean(
      1.0 + 2.0 * log_std - tf.square(mean) - tf.exp(2.0 * log_std)
    )
    error = tf.reduce_mean(tf.square(decoded - actions))
    return error + 0.5 * divergence

  def decode(self, states: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
    """(B, S) and (B, 2 A) -> (B, A), or (B, N, 2 A) -> (B, N, A)."""
    return tf.tanh(self.decode_before_tanh(states, latent))

  def decode_before_tanh(
    self, states: tf.Tensor, latent: tf.Tensor
  ) -> tf.Tensor:
    """u of the actions tanh(u) that `decode` gives."""
    if len(latent.shape) == 3:
      states = tf.repeat(states[:, None], tf.shape(latent)[1], axis=1)
    inputs = tf.concat([states, latent], axis=-1)
    flat = tf.reshape(inputs, (-1, inputs.shape[-1]))
    shape = tf.concat([tf.shape(inputs)[:-1], [-1]], axis=0)
    return tf.reshape(self._decoder(flat), shape)


def gaussian_log_density(noise: tf.Tensor) -> tf.Tensor:
  """Log-density (...,) of standard normal numbers (..., A)."""
  each = -0.5 * (tf.square(noise) + math.log(2.0 * math.pi))
  return tf.reduce_sum(each, axis=-1)


def _log_slope(before: tf.Tensor) -> tf.Tensor:
  """log |d tanh(u) / du| (...,) of (..., A), exact for large u too."""
  each = math.log(2.0) - before - tf.nn.softplus(-2.0 * before)
  return 2.0 * tf.reduce_sum(each, axis=-1)
