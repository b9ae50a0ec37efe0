"""Playing a policy step by step, with weights that may be earlier ones."""

import copy
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cql_atari.continuous import networks

# A policy's `layers` as plain arrays, in that order.
Weights = list[np.ndarray]

# (weights, a state (S,), standard normal noise (A,) or None for the mode)
# -> an action (A,).
Player = Callable[[Weights, np.ndarray, np.ndarray | None], np.ndarray]


def player(policy: networks.TanhGaussianPolicy) -> Player:
  """What plays a policy: by a short way for the usual one, else as it says."""
  if type(policy) is networks.TanhGaussianPolicy:
    return functools.partial(act, log_std_range=policy.log_std_range)
  return _OfOwnPolicy(policy)


class _OfOwnPolicy:
  """Plays a policy of a user's own by its `mode` and `sample`."""

  def __init__(self, policy):
    self._policy = copy.deepcopy(policy)
    self._weights = None
    self._mode = tf.function(self._policy.mode)
    self._sample = tf.function(lambda *args: self._policy.sample(*args)[0])

  def __call__(self, weights, state, noise=None):
    if weights is not self._weights:
      for variable, array in zip(self._policy.layers, weights):
        variable.assign(array)
      self._weights = weights
    states = tf.constant(state[None], tf.float32)
    if noise is None:
      return self._mode(states).numpy()[0]
    return self._sample(states, tf.constant(noise[None], tf.float32)).numpy()[0]


def act(
  weights: Sequence[np.ndarray],
  state: np.ndarray,
  noise: np.ndarray | None,
  log_std_range: tuple[float, float],
) -> np.ndarray:
  """One action (A,) of a tanh-Gaussian policy, without TensorFlow's overhead.

  Args:
    weights: kernel and bias of every layer.
    state: (S,).
    noise: standard normal (A,), or None for the mode.
    log_std_range: what log deviations are cut off to.
  """
  *hidden, last = zip(weights[::2], weights[1::2])
  for kernel, bias in hidden:
    state = np.maximum(state @ kernel + bias, 0.0)
  mean, log_std = np.split(state @ last[0] + last[1], 2)
  if noise is not None:
    mean = mean + np.exp(np.clip(log_std, *log_std_range)) * noise
  return np.tanh(mean)
