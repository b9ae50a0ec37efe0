"""How agents act: Dopamine's protocol, and batches of states."""

import abc

import numpy as np
import tensorflow as tf


class Acting(abc.ABC):
  """Epsilon-greedy actions by a network's Q-values.

  Attributes:
    num_actions: A.
    online_network: states (B, 84, 84, 4) -> outputs.
    epsilon_eval: probability of a uniformly random action.
  """

  num_actions: int
  online_network: tf.keras.Model
  epsilon_eval: float
  _rng: np.random.Generator

  @abc.abstractmethod
  def q_values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Q-values (B, A) of the network's output."""

  def greedy_actions(self, outputs: tf.Tensor) -> tf.Tensor:
    """The best actions int32 (B,) by the network's output."""
    return tf.argmax(self.q_values(outputs), axis=1, output_type=tf.int32)

  @tf.function(
    input_signature=[tf.TensorSpec((None, 84, 84, 4), tf.uint8)],
    autograph=False,
  )
  def _best_actions(self, states: tf.Tensor) -> tf.Tensor:
    return self.greedy_actions(self.online_network(states))

  @tf.function(
    input_signature=[tf.TensorSpec((None, 84, 84, 4), tf.uint8)],
    autograph=False,
  )
  def _q_values_of(self, states: tf.Tensor) -> tf.Tensor:
    return self.q_values(self.online_network(states))

  def predict_q_values(self, states: np.ndarray) -> np.ndarray:
    """Q-values: uint8 states (B, 84, 84, 4) -> float32 (B, A)."""
    return self._q_values_of(states).numpy()

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
      rng: source of randomness; the agent's own by default.
      epsilon: probability of a random action; epsilon_eval by default.

    Returns:
      int32 (B,).
    """
    rng = rng or self._rng
    epsilon = self.epsilon_eval if epsilon is None else epsilon
    explore = rng.random(len(states)) < epsilon
    random = rng.integers(self.num_actions, size=len(states), dtype=np.int32)
    return np.where(explore, random, self._best_actions(states).numpy())

  def begin_episode(self, observation: np.ndarray) -> int:
    """Starts an episode: frame (84, 84, 1) -> first action."""
    self._state = np.zeros((1, 84, 84, 4), np.uint8)
    return self.step(0.0, observation)

  def step(self, reward: float, observation: np.ndarray) -> int:
    """Acts on the next frame (84, 84, 1); the reward teaches nothing here."""
    del reward
    self._state = np.roll(self._state, -1, axis=-1)
    self._state[0, ..., -1:] = observation
    return int(self.select_actions(self._state)[0])

  def end_episode(  # noqa: B027
    self, reward: float, terminal: bool = True
  ) -> None:
    """Ends an episode; nothing is recorded offline."""
