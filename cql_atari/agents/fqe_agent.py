"""Fitted Q evaluation (Le et al., 2019) of an Atari agent's policy."""

import numpy as np
import tensorflow as tf

from cql_atari.agents import dqn_agent, fixed_replay_agent, optimizers
from cql_atari.replay import store as store_lib
from cql_atari.replay.sampler import Transition

_RATE = 1e-4
# Gradient steps between copies to the target network: each copy carries rewards
# one step further back, and 5,000 steps cover 200 of them.
_TARGET_UPDATE_PERIOD = 25


class FQEAgent(dqn_agent.FixedReplayDQNAgent):
  """Learns Q^pi of another agent's greedy policy, from the data alone.

  It is DQN but for the next action, which is the policy's.
  """

  def __init__(
    self,
    evaluated: fixed_replay_agent.FixedReplayAgent,
    store: store_lib.Store,
    seed: int = 0,
  ):
    """Builds the network, by the settings of the run that gin has.

    Args:
      evaluated: whose policy it is.
      store: the data.
      seed: seeds the weights and the batches.
    """
    self._evaluated = evaluated
    super().__init__(
      evaluated.num_actions,
      store,
      optimizer=lambda: optimizers.Adam(_RATE),
      gamma=evaluated.gamma,
      update_horizon=1,
      target_update_period=_TARGET_UPDATE_PERIOD,
      double_q=False,
      seed=seed,
    )

  def next_selector(
    self, transition: Transition, next_target: tf.Tensor
  ) -> tf.Tensor:
    """One for the policy's action in every next state, (B, A)."""
    del next_target
    outputs = self._evaluated.online_network(transition.next_state)
    return tf.one_hot(self._evaluated.greedy_actions(outputs), self.num_actions)

  def predict_values(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Q(s, pi(s)): uint8 states (B, 84, 84, 4) -> (B,)."""
    del rng
    actions = self._evaluated.select_actions(states, epsilon=0.0)
    return self.predict_q_values(states)[np.arange(len(states)), actions]
