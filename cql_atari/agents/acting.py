"""Epsilon-greedy acting by a network's Q-values, and what these are like."""

import abc
import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from cql_atari.core.errors import UserError
from cql_atari.core.protocols import Exported
from cql_atari.replay.frames import newest_frames
from cql_atari.replay.sampler import TransitionSampler

_STATES = tf.TensorSpec((None, 84, 84, 4), tf.uint8, 'states')
_graph = functools.partial(
  tf.function, input_signature=[_STATES], autograph=False
)
_HELD_OUT = ('held_out_match', 'held_out_td_error', 'held_out_value')


def _checked(states: np.ndarray) -> np.ndarray:
  """Refuses what is no batch of states, such as frames divided by 255."""
  states = np.asarray(states)
  if states.dtype != np.uint8 or states.shape[1:] != (84, 84, 4):
    raise UserError(
      f'states are {states.dtype} {states.shape}: give uint8 (B, 84, 84, 4), '
      'unscaled.'
    )
  return states


def checked_num_actions(store: Any, num_actions: int | None) -> int:
  """The number of actions, by the store or as it is given."""
  if isinstance(store, (str, os.PathLike)):
    raise UserError(
      f'{store!r} is a path: give cql_atari.open_store({store!r}).'
    )
  of_store = getattr(store, 'action_size', None)  # A memory doesn't know.
  if None not in (num_actions, of_store) and num_actions != of_store:
    raise UserError(
      f'num_actions is {num_actions}, but the data have {of_store} actions: '
      'leave it out.'
    )
  if num_actions is None and of_store is None:
    raise UserError('without data, an agent has to be told num_actions.')
  return num_actions or of_store


class Acting(abc.ABC):
  """Epsilon-greedy actions by a network's Q-values.

  Attributes:
    num_actions: A.
    online_network: states (B, 84, 84, 4) -> outputs.
    epsilon_eval: probability of a uniformly random action.
    sampler: has the held-out transitions.
    cumulative_gamma: discount of the next state's value.
    has_values: whether the outputs are values, and not those of a policy.
  """

  num_actions: int
  online_network: tf.keras.Model
  epsilon_eval: float
  sampler: TransitionSampler
  cumulative_gamma: float
  has_values: bool
  _rng: np.random.Generator
  _state: np.ndarray | None = None  # Of the episode that it plays by itself.

  @abc.abstractmethod
  def q_values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Maps the network's output, such as (B, A, N), to Q-values (B, A)."""

  def greedy_actions(self, outputs: tf.Tensor) -> tf.Tensor:
    """The best actions int32 (B,) by the network's output."""
    return tf.argmax(self.q_values(outputs), axis=1, output_type=tf.int32)

  @_graph
  def _best_actions(self, states: tf.Tensor) -> tf.Tensor:
    return self.greedy_actions(self.online_network(states, training=False))

  @_graph
  def _q_values_of(self, states: tf.Tensor) -> tf.Tensor:
    return self.q_values(self.online_network(states, training=False))

  @_graph
  def _distribution_of(self, states: tf.Tensor):
    return self.return_distribution(self.online_network(states, training=False))

  def predict_q_values(self, states: np.ndarray) -> np.ndarray:
    """Q-values: uint8 states (B, 84, 84, 4) -> float32 (B, A)."""
    return self._q_values_of(_checked(states)).numpy()

  def return_distribution(
    self, outputs: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor] | None:
    """The distribution of the return of every action, if the agent learns it.

    Args:
      outputs: the network's output for B states.

    Returns:
      Returns and their probabilities, (B, A, N) each; None by default.
    """
    del outputs

  def predict_distribution(
    self, states: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray] | None:
    """The distribution of the return of every action, if the agent learns it.

    Args:
      states: uint8 (B, 84, 84, 4).

    Returns:
      Returns and their probabilities, float32 (B, A, N) each; None for an agent
      that learns only expected values.
    """
    distribution = self._distribution_of(_checked(states))
    return distribution and tuple(part.numpy() for part in distribution)

  def predict_values(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """V^(s), the greatest Q-value: uint8 states (B, 84, 84, 4) -> (B,)."""
    del rng
    return self.predict_q_values(states).max(axis=1)

  def select_actions(
    self,
    states: np.ndarray,
    rng: np.random.Generator | None = None,
    epsilon: float | None = None,
  ) -> np.ndarray:
    """Epsilon-greedy actions.

    Args:
      states: uint8 (B, 84, 84, 4).
      rng: draws the random actions; the agent's own by default.
      epsilon: probability of a random action; epsilon_eval by default.

    Returns:
      int32 (B,).
    """
    states, rng = _checked(states), rng or self._rng
    epsilon = self.epsilon_eval if epsilon is None else epsilon
    explore = rng.random(len(states)) < epsilon
    random = rng.integers(self.num_actions, size=len(states), dtype=np.int32)
    return np.where(explore, random, self._best_actions(states).numpy())

  def exported(self) -> Exported:
    """The greedy policy: 'action' int32 (B,) and 'q_values' (B, A)."""

    def act(states):
      outputs = self.online_network(states, training=False)
      return {
        'action': self.greedy_actions(outputs),
        'q_values': self.q_values(outputs),
      }

    return Exported(_STATES, act, self.online_network.weights)

  def act(self, observation: np.ndarray, begins: bool) -> int:
    """The action on a frame, uint8 (84, 84, 1), which follows earlier ones.

    Raises:
      UserError: it is of another kind (see `newest_frames`), or none began.
    """
    if begins:
      self._state = np.zeros((1, 84, 84, 4), np.uint8)
    if self._state is None:
      raise UserError('an episode has not begun: call begin_episode first.')
    observation = np.asarray(observation)[None]
    self._state = np.roll(self._state, -1, axis=-1)
    self._state[..., -1] = newest_frames(observation, 'the environment')
    return int(self.select_actions(self._state)[0])

  # --- On episodes that it doesn't learn from, as d3rlpy's evaluators. ---

  @property
  def held_out_names(self) -> tuple[str, ...]:
    """Names of `held_out_scalars`; none where nothing is held out."""
    if not getattr(self.sampler, 'held_out', 0.0):
      return ()
    return _HELD_OUT if self.has_values else _HELD_OUT[:1]

  def held_out_scalars(self) -> dict[str, float]:
    """How the agent does on held-out transitions, by `held_out_names`.

    Returns:
      How often the greedy action is the data action, the mean squared TD
      error, and the mean of max_a Q(s, a).
    """
    if not self.held_out_names:
      return {}
    batch = self.sampler.transitions(self.sampler.held_out_rows)
    q_values = self.predict_q_values(batch.state)
    q_data = q_values[np.arange(len(q_values)), batch.action]
    best = self.predict_q_values(batch.next_state).max(axis=1)
    target = batch.reward + self.cumulative_gamma * (1 - batch.terminal) * best
    measured = (
      float(np.mean(q_values.argmax(axis=1) == batch.action)),
      float(np.mean((q_data - target) ** 2)),
      float(np.mean(q_values.max(axis=1))),
    )
    return dict(zip(self.held_out_names, measured))
