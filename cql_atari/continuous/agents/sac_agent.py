"""Soft actor-critic (Haarnoja et al., 2018)."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cql_atari.agents import optimizers
from cql_atari.continuous import networks
from cql_atari.continuous.agents.base import ContinuousAgent, Loss
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.core.constraints import (
  NonNegative,
  NonNegativeInt,
  PositiveInt,
  UnitInterval,
  configurable,
)
from cql_atari.core.protocols import Exported
from cql_atari.losses import actor_critic


@configurable
class SACAgent(ContinuousAgent):
  """Soft actor-critic: a stochastic policy and an ensemble of Q-functions."""

  LABEL = 'SAC'
  SCALARS = ('td_loss', 'q_data', 'entropy', 'temperature')
  MEASURED = ('q_policy', 'q_uniform')
  WARMUP_STEPS, ENTROPY_BACKUP = 0, True  # A class's usual ones.
  value_samples = 10  # Action samples that a predicted value is computed from.
  uniform_samples = 10  # Uniform actions that q_uniform is the maximum over.

  def __init__(
    self,
    *args,
    critic: Callable[..., networks.Critic] = networks.Critic,
    critic_learning_rate: NonNegative = 3e-4,
    target_rate: UnitInterval = 0.005,
    temperature: NonNegative | None = None,
    temperature_learning_rate: NonNegative = 1e-4,
    target_entropy: float | None = None,
    entropy_backup: bool | None = None,
    warmup_steps: NonNegativeInt | None = None,
    critic_steps: PositiveInt = 1,
    policy_steps: PositiveInt = 1,
    **kwargs,
  ):
    """Initializes the agent.

    Args:
      *args: see ContinuousAgent.
      critic: makes the Q-functions, called with (S, A, seed).
      critic_learning_rate: Adam's.
      target_rate: tau of the Polyak averaging of the target networks, per
        gradient step.
      temperature: weight of the policy's entropy; None to tune it so that the
        entropy is at least target_entropy.
      temperature_learning_rate: Adam's, on log temperature.
      target_entropy: nats; -A by default.
      entropy_backup: whether the entropy counts in the value of the next state;
        by default for SAC alone.
      warmup_steps: gradient steps in which the policy learns without the
        Q-functions: it imitates the data. By default 40,000 for CQL, 0 for SAC.
      critic_steps: updates of the Q-functions in a gradient step of the agent,
        each on a batch of its own: G_Q of Algorithm 1 (Kumar et al., 2020).
      policy_steps: updates of the policy, of which the last comes with the
        Q-functions' last: G_pi of Algorithm 1.
      **kwargs: see ContinuousAgent.
    """
    self._critic_fn = critic
    self._critic_learning_rate = critic_learning_rate
    is_tuned = temperature is None
    self._temperature = optimizers.DualVariable(
      1.0 if is_tuned else temperature,
      temperature_learning_rate if is_tuned else None,
    )
    self._target_entropy = target_entropy
    if entropy_backup is None:
      entropy_backup = self.ENTROPY_BACKUP
    self.target_rate, self.entropy_backup = target_rate, entropy_backup
    is_usual = warmup_steps is None
    self.warmup_steps = self.WARMUP_STEPS if is_usual else warmup_steps
    self.critic_steps, self.policy_steps = critic_steps, policy_steps
    super().__init__(*args, **kwargs)

  def _build(self) -> None:
    super()._build()
    self._build_critic()
    if self._target_entropy is None:
      self._target_entropy = -float(self.action_size)

  def _build_critic(self) -> None:
    # The target begins as the online networks do.
    self.critic, self.target_critic = (
      self._make_network(self._critic_fn, 1) for _ in range(2)
    )
    self._add_part(
      'loss',
      self.critic_loss,
      self._critic_learning_rate,
      self.critic,
      self.critic_steps,
    )

  @property
  def temperature(self) -> tf.Tensor | float:
    """Weight of the policy's entropy now."""
    return self._temperature.value

  def critic_loss(self, batch: Transition, noise: Noise) -> Loss:
    """Half the squared Bellman error, over all Q-functions."""
    return self.td_loss(self.critic(batch.state, batch.action), batch, noise)

  def td_loss(self, q_data: tf.Tensor, batch: Transition, noise: Noise) -> Loss:
    """The same, of Q-values (K, B) of the data's actions."""
    target = actor_critic.bellman_target(
      batch.reward, batch.terminal, self.next_value(batch, noise), self.gamma
    )
    td_loss = tf.reduce_mean(actor_critic.bellman_error(q_data, target))
    return td_loss, {'td_loss': td_loss, 'q_data': tf.reduce_mean(q_data)}

  def next_value(self, batch: Transition, noise: Noise) -> tf.Tensor:
    """V(s') (B,): the least target Q-function at an action of the policy."""
    action, log_density = self.policy.sample(
      batch.next_state, self._normal(noise)
    )
    value = tf.reduce_min(self.target_critic(batch.next_state, action), axis=0)
    if self.entropy_backup:
      value -= self.temperature * log_density
    return value

  def predict_values(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """V^(s) = E_pi[min_k Q_k(s, a)], by samples: as observed (B, S) -> (B,)."""
    shape = (len(states), self.value_samples, self.action_size)
    noise = rng.standard_normal(shape, np.float32)
    return self._values(self._checked_states(states), noise).numpy()

  @tf.function(reduce_retracing=True)
  def _values(self, states: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    states = self._normalized(states)
    actions, _ = self.policy.sample(states, noise)
    return self.value_of_samples(self.critic(states, actions))

  def value_of_samples(self, q_values: tf.Tensor) -> tf.Tensor:
    """E_pi[min_k Q_k] (B,) from Q-values (K, B, N) of the policy's actions."""
    return tf.reduce_mean(tf.reduce_min(q_values, axis=0), axis=1)

  def policy_loss(self, batch: Transition, noise: Noise) -> Loss:
    """T log pi(a|s) - min_k Q_k(s, a), a drawn from pi.

    While warming up, `warmup_value` stands for Q.
    """
    action, log_density = self.policy.sample(batch.state, self._normal(noise))
    value = tf.reduce_min(self.critic(batch.state, action), axis=0)
    if self.warmup_steps:
      is_warm = self.step_number() >= self.warmup_steps
      value = tf.where(is_warm, value, self.warmup_value(batch))
    loss = actor_critic.policy_loss(log_density, value, self.temperature)
    penalty, scalars = self.policy_penalty(batch, noise)
    return tf.reduce_mean(loss) + penalty, {
      'entropy': -tf.reduce_mean(log_density),
      'temperature': self.temperature,
      **scalars,
    }

  def exported(self) -> Exported:
    """The base's, and 'q_value' (B,), the least Q-function at the action."""
    variables = [*self.policy.layers, *self.critic.layers]
    return super().exported()._replace(variables=variables)

  def _exported(self, states: tf.Tensor) -> dict[str, tf.Tensor]:
    action = super()._exported(states)['action']
    values = self.critic(self._normalized(states), action)
    return {'action': action, 'q_value': tf.reduce_min(values, axis=0)}

  def predict_q_values(
    self, states: np.ndarray, actions: np.ndarray
  ) -> np.ndarray:
    """min_k Q_k(s, a): as observed (B, S), (B, A) -> (B,)."""
    states = self._normalized(self._checked_states(states))
    actions = np.asarray(actions, np.float32)
    return tf.reduce_min(self.critic(states, actions), axis=0).numpy()

  def warmup_value(self, batch: Transition) -> tf.Tensor:
    """log pi(a_data|s) (B,), by which the policy imitates."""
    return self.policy.log_density(batch.state, batch.action)

  def policy_penalty(self, batch: Transition, noise: Noise) -> Loss:
    """A term added to the policy's loss; none here."""
    del batch, noise
    return tf.constant(0.0), {}

  def measure(self, batch: Transition, noise: Noise) -> dict[str, tf.Tensor]:
    """Mean Q of the policy's actions, and of the best of several uniform ones.

    Q of the data's minus the latter is the gap of appendix B.
    """
    actions, _ = self.policy.sample(batch.state, self._normal(noise))
    uniform = noise.uniform(
      self.batch_size, self.uniform_samples, self.action_size
    )
    q_uniform = tf.reduce_max(self.critic(batch.state, uniform), axis=2)
    return {
      'q_policy': tf.reduce_mean(self.critic(batch.state, actions)),
      'q_uniform': tf.reduce_mean(q_uniform),
    }

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Moves the temperature and the target networks."""
    if 'entropy' in scalars:
      self._temperature.ascend(self._target_entropy - scalars['entropy'])
    if 'loss' in scalars:
      self._move_targets()

  def _move_targets(self) -> None:
    for target, online in zip(self.target_critic.layers, self.critic.layers):
      target.assign_add(self.target_rate * (online - target))

  def _variables_by_name(self) -> dict[str, Sequence[tf.Variable]]:
    return {
      **super()._variables_by_name(),
      'target_critic': self.target_critic.layers,
    }

  def _saved(self) -> dict[str, tf.Variable]:
    return {**super()._saved(), **self._temperature.saved('temperature')}
