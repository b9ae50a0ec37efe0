"""Fitted Q evaluation (Le et al., 2019) of an Atari agent's policy.

With a penalty it is the paper's conservative evaluation (section 3.1).
"""

from typing import Literal

import numpy as np
import tensorflow as tf

from cql_atari.agents import dqn_agent, fixed_replay_agent, optimizers
from cql_atari.losses import conservative
from cql_atari.replay import store as store_lib
from cql_atari.replay.sampler import Transition

_RATE = 1e-4
# Gradient steps between copies to the target network: each copy carries rewards
# one step further back, and 5,000 steps cover 200 of them.
_TARGET_UPDATE_PERIOD = 25


class FQEAgent(dqn_agent.FixedReplayDQNAgent):
  """Learns Q^pi of another agent's greedy policy, from the data alone.

  It is DQN with the evaluated policy's next action. With a penalty, the loss is
  that of Eq. 1 or 2 with mu = pi, with half the squared Bellman error in place
  of the Huber loss, whose bounded gradient would let the penalty diverge.
  """

  def __init__(
    self,
    evaluated: fixed_replay_agent.FixedReplayAgent,
    store: store_lib.Store,
    seed: int = 0,
    penalty: Literal['eq1', 'mu'] | None = None,
    alpha: float = 0.0,
  ):
    """Builds the network with the run's gin settings.

    Args:
      evaluated: the agent whose greedy policy is evaluated.
      store: the data.
      seed: seeds the weights and the batches.
      penalty: 'eq1' (Eq. 1) or 'mu' (Eq. 2) for conservative values.
      alpha: weight of the penalty.
    """
    self._evaluated, self._penalty, self._alpha = evaluated, penalty, alpha
    super().__init__(
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
    """The evaluated policy's actions at the next states, one-hot (B, A)."""
    del next_target
    return self._policy(transition.next_state)

  def reference(self, transition: Transition) -> tf.Tensor | None:
    """The policy's actions at the states, one-hot (B, A), for a penalty."""
    return None if self._penalty is None else self._policy(transition.state)

  def _policy(self, states: tf.Tensor) -> tf.Tensor:
    outputs = self._evaluated.online_network(states, training=False)
    return tf.one_hot(self._evaluated.greedy_actions(outputs), self.num_actions)

  def loss(
    self, outputs: fixed_replay_agent.Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """DQN's loss; with a penalty, alpha penalty + half the squared TD error."""
    if self._penalty is None:
      return super().loss(outputs, transition)
    q_values, actions = outputs.online, transition.action
    if self._penalty == 'eq1':
      penalty = conservative.eq1_penalty(q_values, outputs.reference)
    else:
      penalty = conservative.cql_mu_penalty(
        q_values, actions, outputs.reference
      )
    q_data = tf.gather(q_values, actions, batch_dims=1)
    target = self.bellman_target(outputs, transition)
    td_loss = 0.5 * tf.reduce_mean(tf.square(q_data - target))
    loss = self._alpha * tf.reduce_mean(penalty) + td_loss
    return loss, {'td_loss': td_loss}

  def sample_actions(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """The policy's: uint8 states (B, 84, 84, 4) -> (B,)."""
    return self._evaluated.sample_actions(states, rng)

  def predict_values(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Q(s, pi(s)): uint8 states (B, 84, 84, 4) -> (B,)."""
    del rng
    actions = self._evaluated.select_actions(states, epsilon=0.0)
    return self.predict_q_values(states)[np.arange(len(states)), actions]
