"""The base of agents for continuous actions: the gradient step, and acting.

A gradient step is one graph: batch, losses, gradients, optimizers. Any number
of steps run inside one call.
"""

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cql_atari.agents import base, optimizers
from cql_atari.continuous import networks
from cql_atari.continuous.datasets import Dataset
from cql_atari.continuous.sampling import FixedSampler, Noise, Transition
from cql_atari.core import devices
from cql_atari.core.constraints import (
  NonNegative,
  NonNegativeInt,
  PositiveInt,
  UnitInterval,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.core.protocols import Arrays, Exported

_STEPS_PER_MEASURE = 100
_HELD_OUT = (
  'held_out_action_difference',
  'held_out_td_error',
  'held_out_value',
)

# A loss is a scalar, and the scalars to record.
Loss = tuple[tf.Tensor, dict[str, tf.Tensor]]


class Part(NamedTuple):
  """A loss with the variables that it trains.

  Attributes:
    name: the name of the loss among the scalars.
    loss: maps a batch and noise to the loss.
    optimizer: updates the variables.
    variables: the trained variables.
    repeats: how often it is updated in a gradient step of the agent.
  """

  name: str
  loss: Callable[[Transition, Noise], Loss]
  optimizer: optimizers.Optimizer
  variables: Sequence[tf.Variable]
  repeats: int = 1


@configurable(denylist=['data', 'seed'])
class ContinuousAgent(base.OfflineAgent):
  """An agent with a policy, which learns from a fixed dataset.

  A subclass adds parts, each with its loss.
  """

  SCALARS = ('gradient_norm',)
  MEASURED: tuple[str, ...] = ()  # The scalars of `measure`.
  POLICY_LOSS = 'policy_loss'  # The metrics want one that is named `loss`.
  NEEDS_DATA = False  # Whether it can't learn from play alone.
  policy_steps = 1  # Updates of the policy in a gradient step.

  def __init__(
    self,
    data: Dataset,
    policy: Callable[
      ..., networks.TanhGaussianPolicy
    ] = networks.TanhGaussianPolicy,
    policy_learning_rate: NonNegative = 1e-4,
    gamma: UnitInterval = 0.99,
    batch_size: PositiveInt = 256,
    sampler: Callable[..., FixedSampler] = FixedSampler,
    seed: NonNegativeInt = 0,
  ):
    """Builds the networks, the optimizers and the compiled step.

    Args:
      data: what to learn from.
      policy: makes the policy, called with (S, A, seed).
      policy_learning_rate: Adam's.
      gamma: discount per step.
      batch_size: transitions in a gradient step, B.
      sampler: makes the batches, called with the data.
      seed: seeds the initial weights, the batches and all noise.

    Raises:
      UserError: there are no data that it has to stay near to.
    """
    super().__init__()
    self._check_data(data)
    self.data = data
    self.state_size = data.state.shape[1]
    self.action_size = data.action.shape[1]
    self.gamma, self.batch_size, self.seed = gamma, batch_size, seed
    self._state_mean, self._state_std = data.state_mean, data.state_std
    self._sampler = sampler(data)
    self._policy_fn, self._policy_learning_rate = policy, policy_learning_rate
    self.parts: list[Part] = []
    self._build()
    self.loss_names = tuple(part.name for part in self.parts)
    scalars = [*self._declared_scalars(), *self.MEASURED]
    self._make_totals([*self.loss_names, *scalars])
    self._compiled_train = tf.function(
      self._train_in_graph,
      autograph=False,
      # A CPU gains nothing by it.
      jit_compile=devices.has_gpu() or None,
    )

  def _check_data(self, data: Dataset) -> None:
    """Refuses an online run from nothing, if there has to be some data."""
    if not hasattr(data, 'state_mean'):
      raise UserError(
        f'{type(self).__name__} learns continuous actions: give it what '
        f'cql_atari.open_task_data opens, not a {type(data).__name__}.'
      )
    if hasattr(self, 'loss'):
      raise UserError(
        f'{type(self).__name__} has a `loss` that nothing calls: agents of '
        'continuous actions have a policy_loss, and most a critic_loss.'
      )
    if self.NEEDS_DATA and not hasattr(data, 'task'):
      raise UserError(
        f'{type(self).__name__} stays near to its data, and an online run from '
        'nothing has none: train it first, then collect with --init_from=RUN.'
      )

  def _build(self) -> None:
    """Makes all variables."""
    self.policy = self._make_network(self._policy_fn, 0)
    self._add_part(
      self.POLICY_LOSS,
      self.policy_loss,
      self._policy_learning_rate,
      self.policy,
      self.policy_steps,
    )

  def _make_network(self, make: Callable, number: int):
    """Makes a network; every kind has its number, which seeds the weights."""
    seed = np.random.SeedSequence([self.seed, number])
    return make(self.state_size, self.action_size, seed)

  def _add_part(self, name, loss, learning_rate, module, repeats=1) -> None:
    layers = getattr(module, 'layers', None)
    if not layers or not all(isinstance(v, tf.Variable) for v in layers):
      raise UserError(
        f'the {type(module).__name__} that trains on {name} has no `layers` '
        'that are the tf.Variables to train: see '
        'cql_atari/continuous/networks.py.'
      )
    adam = optimizers.Adam(learning_rate, epsilon=1e-8)
    adam.build(module.layers)
    self.parts.append(Part(name, loss, adam, module.layers, repeats))

  @abc.abstractmethod
  def policy_loss(self, batch: Transition, noise: Noise) -> Loss:
    """The policy's loss."""

  def measure(self, batch: Transition, noise: Noise) -> dict[str, tf.Tensor]:
    """The scalars MEASURED, which cost too much to compute in every step.

    It comes last in a step, so that its noise leaves that of learning alone.
    """
    del batch, noise
    return {}

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Updates what has no gradient, such as target networks and multipliers.

    Args:
      scalars: of the parts that have just been updated; 'loss' is the critic's.
    """

  def _normal(self, noise: Noise, *samples: int) -> tf.Tensor:
    """Noise (B, A) for an action in every state, or (B, N, A) for N."""
    return noise.normal(self.batch_size, *samples, self.action_size)

  # --- The gradient step. ---

  @property
  def gradient_steps(self) -> int:
    """Gradient steps taken so far."""
    return int(self.step_number().numpy())

  def train_steps(
    self, count: int, show_progress: bool = False, title: str = 'training'
  ) -> None:
    """See `OfflineAgent`; all steps are one graph.

    What has to be learned before is learned first, if it isn't yet.
    """
    for steps in self._parts(count, show_progress, title):
      if left := self.pretraining_left:
        self.pretrain_steps(left)
      self._compiled_train(tf.constant(steps))

  def _train_in_graph(self, count: tf.Tensor) -> None:
    def step(index):
      self._train_step()
      return (index + 1,)

    tf.while_loop(
      lambda index: index < count, step, (0,), parallel_iterations=1
    )

  def _train_step(self) -> None:
    number = self.step_number()
    noise, scalars = Noise(self.seed, number), {}
    is_measured = number % _STEPS_PER_MEASURE == 0
    most = max(part.repeats for part in self.parts)
    for left in range(most, 0, -1):  # One update, but for a part that repeats.
      batch = self._sampler.sample(noise, self.batch_size)
      parts = [part for part in self.parts if part.repeats >= left]
      updated, gradients = self._gradients(parts, batch, noise)
      scalars |= updated
      if self.MEASURED and left == 1:
        scalars |= tf.cond(
          is_measured,
          lambda batch=batch: self.measure(batch, noise),
          lambda: dict.fromkeys(self.MEASURED, 0.0),
        )
      # All gradients are taken before anything moves.
      for part, gradient in zip(parts, gradients):
        part.optimizer.apply(gradient)
      self.after_step(updated)
    self._add_scalars(scalars, dict.fromkeys(self.MEASURED, is_measured))

  def _gradients(self, parts: Sequence[Part], batch: Transition, noise: Noise):
    """The scalars of some parts, and the gradients of each."""
    scalars, gradients = {}, []
    for part in parts:
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(part.variables)
        given = part.loss(batch, noise)
      who = f'{part.loss.__name__} of {type(self).__name__}'
      if fault := base.fault_of_loss(given):
        raise UserError(f'the {who} {fault}.')
      value, recorded = given
      gradients.append(tape.gradient(value, part.variables))
      if any(gradient is None for gradient in gradients[-1]):
        raise UserError(
          f'the {who} does not depend on all weights of its network.'
        )
      scalars |= {part.name: value, **recorded}
      if part.name == 'loss':
        scalars['gradient_norm'] = tf.linalg.global_norm(gradients[-1])
    return scalars, gradients

  def step_number(self) -> tf.Tensor:
    """The number of this gradient step, an int64 scalar of the graph."""
    first = self.parts[0]
    return first.optimizer.iterations.read_value() // first.repeats

  # --- Episodes held out. ---

  @property
  def held_out_names(self) -> tuple[str, ...]:
    """Names of `held_out_scalars`; none where nothing is held out."""
    if getattr(self._sampler, 'held_out', None) is None:
      return ()
    return _HELD_OUT if self.has_values else _HELD_OUT[:1]

  def held_out_scalars(self) -> dict[str, float]:
    """Scalars of the agent on held-out episodes, as d3rlpy's evaluators.

    Returns:
      By _HELD_OUT: the mean squared distance of its actions from the data's,
      the mean squared TD error, and the mean Q-value of its actions; {} if
      nothing is held out.
    """
    if not self.held_out_names:
      return {}
    batch, rng = self._sampler.held_out, np.random.default_rng(0)
    states, next_states = (
      part * self._state_std + self._state_mean  # As observed.
      for part in (batch.state, batch.next_state)
    )
    actions = self.select_actions(states, rng)
    measured = [np.sum((actions - batch.action) ** 2, axis=1)]
    if self.has_values:
      following = self.predict_q_values(
        next_states, self.select_actions(next_states, rng)
      )
      target = batch.reward + self.gamma * (1 - batch.terminal) * following
      errors = self.predict_q_values(states, batch.action) - target
      measured += [errors**2, self.predict_q_values(states, actions)]
    return {name: float(np.mean(x)) for name, x in zip(_HELD_OUT, measured)}

  # --- Acting. ---

  @tf.function(reduce_retracing=True)
  def _modes(self, states: tf.Tensor) -> tf.Tensor:
    return self.policy.mode(self._normalized(states))

  def _normalized(self, states: tf.Tensor) -> tf.Tensor:
    return (states - self._state_mean) / self._state_std

  def select_actions(
    self, states: np.ndarray, rng: np.random.Generator | None = None
  ) -> np.ndarray:
    """The policy's modes: (E, S), as observed -> float32 (E, A).

    Actions are in [-1, 1]; `D4RLEnvironments` spread them over the range of
    the environment's, where that is another.
    """
    del rng
    return self._modes(self._checked_states(states)).numpy()

  def _checked_states(self, states: np.ndarray) -> tf.Tensor:
    states = np.asarray(states, np.float32)
    if states.ndim != 2 or states.shape[1] != self.state_size:
      raise UserError(
        f'states of shape {states.shape}: give (B, {self.state_size}), one as '
        'observation[None].'
      )
    return tf.constant(states)

  def sample_actions(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Actions of the policy with its noise: as observed (B, S) -> (B, A)."""
    noise = rng.standard_normal((len(states), self.action_size), np.float32)
    states = self._checked_states(states)
    return self._samples(states, tf.constant(noise)).numpy()

  @tf.function(reduce_retracing=True)
  def _samples(self, states: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    return self.policy.sample(self._normalized(states), noise)[0]

  def act(self, observation: np.ndarray, begins: bool) -> np.ndarray:
    """The action (A,) on an observation (S,)."""
    del begins
    return self.select_actions(np.asarray(observation, np.float32)[None])[0]

  def exported(self) -> Exported:
    """The policy's mode, 'action' (B, A), of states (B, S) as observed."""
    spec = tf.TensorSpec((None, self.state_size), tf.float32, 'states')
    return Exported(spec, self._exported, self.policy.layers)

  def _exported(self, states: tf.Tensor) -> dict[str, tf.Tensor]:
    return {'action': self.policy.mode(self._normalized(states))}

  # --- Saving. ---

  def load_state(self, arrays: Arrays) -> None:
    """As `OfflineAgent`'s; parts have to be updated as often as they were."""
    super().load_state(arrays)
    steps = {int(p.optimizer.iterations) / p.repeats for p in self.parts}
    if len(steps) > 1:
      raise UserError(
        'the checkpoint is of an agent with more or fewer updates in a '
        'gradient step: give the critic_steps and policy_steps it was trained '
        'with, or another folder.'
      )

  def _variables_by_name(self) -> dict[str, Sequence[tf.Variable]]:
    named = {}
    for part in self.parts:
      named[part.name] = part.variables
      named[f'{part.name}_steps'] = [part.optimizer.iterations]
      for name, slot in part.optimizer.slots.items():
        named[f'{part.name}_{name}'] = slot
    return named
