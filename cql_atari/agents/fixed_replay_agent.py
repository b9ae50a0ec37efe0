"""The base of Atari agents: networks, batches and the gradient step."""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from cql_atari.agents import acting, base, distribution, networks, optimizers
from cql_atari.core import devices
from cql_atari.core.constraints import (
  NonNegativeInt,
  PositiveInt,
  UnitInterval,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.core.protocols import Arrays
from cql_atari.losses import temporal_difference
from cql_atari.replay.sampler import Transition, TransitionSampler
from cql_atari.replay.store import Store

_STEPS_PER_NORM = 10  # Reading all gradients once more costs 3 % of a step.


class Outputs(NamedTuple):
  """The networks' outputs on a batch, and the number of the step.

  Attributes:
    online: the online network's output at the states, (B, A) or (B, A, N).
    next_target: the target network's output at the next states, of the same
      shape; None if the agent does not bootstrap.
    next_selector: the output, or scores, whose best action is the next one:
      `next_target`, or with double Q-learning the online network's output.
    reference: the output of `FixedReplayAgent.reference`; None for most agents.
    step: the number of the gradient step, an int64 scalar.
  """

  online: tf.Tensor
  next_target: tf.Tensor | None
  next_selector: tf.Tensor | None
  reference: tf.Tensor | None
  step: tf.Tensor


@configurable(denylist=['store', 'num_actions', 'seed'])
class FixedReplayAgent(acting.Acting, base.OfflineAgent):
  """A value-based agent that learns from batches of a replay, offline or not.

  A subclass gives `loss`, a pure function of the online and target networks'
  outputs, `q_values`, which maps the network's output to Q-values, and NETWORK
  with its OUTPUT_RANK.

  `train_steps` takes chunks of consecutive batches; a compiled loop over a
  chunk, `_train_on_chunk`, calls `_train_step` for each: loss, gradient, Adam.
  """

  SCALARS = ('loss', 'q_data', 'q_max', 'q_random', 'gradient_norm')
  BOOTSTRAPS = True  # Whether the loss looks at the next states.
  NETWORK: Callable[..., tf.keras.Model] | None = None  # The usual one;
  OUTPUT_RANK = 3  # the rank of its output, (B, A, N).

  def __init__(
    self,
    store: Store | None,
    num_actions: PositiveInt | None = None,
    *,
    network: Callable[..., tf.keras.Model] | None = None,
    optimizer: Callable[[], optimizers.Optimizer] = optimizers.Adam,
    gamma: UnitInterval = 0.99,
    update_horizon: PositiveInt = 1,
    batch_size: PositiveInt = 32,
    target_update_period: PositiveInt = 2000,
    double_q: bool = False,
    epsilon_eval: UnitInterval = 0.001,
    compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
    compile_step: bool | None = None,
    strategy: tf.distribute.Strategy | None = None,
    seed: NonNegativeInt = 0,
    sampler: Callable[..., TransitionSampler] = TransitionSampler,
  ):
    """Builds the networks, the optimizer and the compiled step.

    Args:
      store: the replay to learn from, a `Store` or a `ReplayMemory`; None for
        an agent that only acts.
      num_actions: actions in every state, A; by default the store's.
      network: called with (num_actions, seed=...), twice; NETWORK by default.
      optimizer: makes the optimizer.
      gamma: discount per agent step.
      update_horizon: n of the n-step return.
      batch_size: transitions in a gradient step.
      target_update_period: gradient steps between copies of the online
        network into the target network.
      double_q: whether the online network chooses the next action that the
        target network values (van Hasselt et al., 2016).
      epsilon_eval: probability of a uniformly random action.
      compute_dtype: what the networks compute in below their heads; weights,
        outputs, losses, targets and the optimizer stay in float32.
      compile_step: whether XLA compiles the whole step, or nothing, as an own
        loss with tf.print needs it; by default the whole step on a single GPU
        and else the loss alone, as XLA slows CPU convolutions.
      strategy: how a gradient step is spread over devices, such as
        @mirrored_strategy(); batch_size stays the size of the whole batch.
      seed: seeds the initial weights, the sampled batches and the actions.
      sampler: makes the batches, called with (store, batch_size,
        update_horizon, gamma, seed).

    Raises:
      UserError: the store has other actions, the batch does not divide among
        the devices, or the network is of another kind of agent.
    """
    super().__init__()
    self.data = store
    self.num_actions = acting.checked_num_actions(store, num_actions)
    self.gamma = gamma
    self.cumulative_gamma = gamma**update_horizon
    self.target_update_period = target_update_period
    self.double_q = double_q
    self.epsilon_eval = epsilon_eval
    self.seed = seed
    self.sampler = sampler(store, batch_size, update_horizon, gamma, seed)
    self._chunks, self._chunk, self._index_in_chunk = None, None, 0
    # Between copies, the target network's outputs for a chunk take one call.
    self._chunk_size = max(
      size
      for size in range(1, self.sampler.max_chunk_size + 1)
      if target_update_period % size == 0
    )
    self._rng = np.random.default_rng(seed)
    self._strategy = strategy or tf.distribute.get_strategy()
    self._replicas = self._strategy.num_replicas_in_sync
    distribution.check(
      self._replicas, batch_size, compile_step, self.sampler.is_on_device
    )
    self._network_fn = network or type(self).NETWORK
    self._optimizer_fn = optimizer
    self._compute_dtype = compute_dtype
    with self._strategy.scope():
      self._build()
    self._compile(compile_step)

  def _compile(self, compile_step: bool | None) -> None:
    """Makes the compiled functions; see the argument of the same name."""
    compile_loss = compile_step is not False
    if compile_step is None:
      compile_step = self._replicas == 1 and devices.has_gpu()
    self._compiles_step = compile_step
    # A user's loss may branch on tensors; ours doesn't: AutoGraph takes 1 s.
    self._compiled_loss_and_gradient = tf.function(
      self._loss_and_gradient,
      autograph=not type(self).__module__.startswith('cql_atari.'),
      jit_compile=compile_loss,
    )
    self._compiled_next_target_outputs = tf.function(
      lambda chunk: self._strategy.run(self._next_target_outputs, (chunk,)),
      autograph=False,
      jit_compile=compile_step,
    )
    self._compiled_train_on_chunk = tf.function(
      self._train_on_chunk, autograph=False, jit_compile=compile_step
    )

  def _build(self) -> None:
    """Makes all variables."""
    self.online_network, self.target_network = networks.make_two(
      self._network_fn, self.num_actions, self.seed, self._compute_dtype
    )
    shape, actions = self.online_network.output_shape, self.num_actions
    if len(shape) != self.OUTPUT_RANK or shape[1] not in (None, actions):
      raise UserError(
        f'the network of {type(self).__name__} has outputs {shape}, not of '
        f'{self.OUTPUT_RANK} axes with {actions} actions in the second: bind '
        'another to its `network`, or none.'
      )
    self._variables, self._target_variables = (
      [variable.value for variable in model.trainable_variables]
      for model in (self.online_network, self.target_network)
    )
    self._frozen, self._target_frozen = (  # Of layers that are not trained.
      [variable.value for variable in model.non_trainable_weights]
      for model in (self.online_network, self.target_network)
    )
    self.optimizer = optimizers.make(self._optimizer_fn, self._variables)
    self._make_totals(self._declared_scalars())
    self.sync_target_network()

  @abc.abstractmethod
  def loss(
    self, outputs: Outputs, transition: Transition
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The loss of a batch.

    Args:
      outputs: what the networks say of it.
      transition: the batch, without its frames (`state` and `next_state` None).

    Returns:
      The scalar loss, and the scalars that the class names in SCALARS.
    """

  def bellman_target(
    self, outputs: Outputs, transition: Transition
  ) -> tf.Tensor:
    """r + gamma^n of the target network's output at a', (B,) or (B, N)."""
    return temporal_difference.bellman_target(
      outputs.next_target,
      self.greedy_actions(outputs.next_selector),
      transition.reward,
      transition.terminal,
      self.cumulative_gamma,
    )

  def next_selector(
    self, transition: Transition, next_target: tf.Tensor
  ) -> tf.Tensor:
    """The output that chooses the next action; see `Outputs`."""
    if self.double_q:
      return self.online_network(transition.next_state, training=False)
    return next_target

  def reference(self, transition: Transition) -> tf.Tensor | None:
    """A further network's output, (B, ...); None by default.

    It is `Outputs.reference` for the loss, which itself has no states.
    """
    del transition

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Runs at the end of a gradient step, such as for a dual update of alpha.

    It must not move the target network, whose outputs are computed for many
    steps at once: `sync_target_network` may, every target_update_period steps.

    Args:
      scalars: the scalars of the step, by name.
    """

  @property
  def gradient_steps(self) -> int:
    """Gradient steps taken so far."""
    return int(self.optimizer.iterations.numpy())

  def train_steps(
    self, count: int, show_progress: bool = False, title: str = 'training'
  ) -> None:
    """See `OfflineAgent`; many steps are one graph."""
    for left in self._parts(count, show_progress, title):
      while left > 0:
        if self._chunks is None or self._chunk is None:
          self._fetch_chunk()
        last = min(self._index_in_chunk + left, self._chunk_size)
        chunks, self._chunks = self._chunks, None  # Ctrl-C leaves none.
        self._compiled_train_on_chunk(
          *self._chunk, tf.constant(self._index_in_chunk), tf.constant(last)
        )
        left -= last - self._index_in_chunk
        self._index_in_chunk = last
        if last == self._chunk_size:
          self._chunk = None
        self._chunks = chunks

  def _fetch_chunk(self) -> None:
    """Fetches the chunk of the next gradient step."""
    if self.sampler.store is None:
      raise UserError('this agent has no data: make it with a store.')
    (chunks, self._chunks), index = (self._chunks, None), 0
    if chunks is None:
      number, index = divmod(self.gradient_steps, self._chunk_size)
      chunks = self.sampler.chunks(number, self._chunk_size)
    chunk = distribution.spread(self._strategy, next(chunks))
    self._chunk = chunk, self._compiled_next_target_outputs(chunk)
    self._index_in_chunk, self._chunks = index, chunks

  def _next_target_outputs(self, chunk: Transition) -> tf.Tensor | None:
    """The target network's outputs at the next states of a chunk."""
    if not self.BOOTSTRAPS:
      return None
    states = self.sampler.with_states(chunk).next_state
    outputs = self.target_network(
      tf.reshape(states, (-1, *states.shape[2:])), training=False
    )
    return tf.reshape(outputs, (*states.shape[:2], *outputs.shape[1:]))

  def _train_on_chunk(self, chunk, next_targets, first, last) -> None:
    """Gradient steps on the batches `first`, ..., `last` - 1 of a chunk.

    Each field of the chunk is (K, B, ...), the target network's outputs at the
    next states (K, B, A) or (K, B, A, N), or None without bootstrapping.
    """

    def step(index):
      self._strategy.run(self._train_step, (chunk, next_targets, index))
      return (index + 1,)

    tf.while_loop(
      lambda index: index < last, step, (first,), parallel_iterations=1
    )
    tf.cond(  # A period is a number of chunks; in the loop, a GPU would wait.
      self.optimizer.iterations % self.target_update_period == 0,
      lambda: self._strategy.run(self.sync_target_network),
      lambda: None,
    )

  def _train_step(self, chunk, next_targets, index) -> None:
    """One gradient step: loss, optimizer update, scalars, target network."""
    transition = self.sampler.with_states(
      Transition(*(stacked[index] for stacked in chunk))
    )
    next_target = next_selector = None
    if self.BOOTSTRAPS:
      next_target = next_targets[index]
      next_selector = self.next_selector(transition, next_target)
    # In two parts: of the outputs, compiled, and from there to the weights.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(self._variables)
      online = self.online_network(transition.state, training=False)
    output_gradient, direct, scalars = self._compiled_loss_and_gradient(
      Outputs(
        online,
        next_target,
        next_selector,
        self.reference(transition),
        self.optimizer.iterations.read_value(),
      ),
      transition._replace(state=None, next_state=None),
    )
    if output_gradient is None:
      raise UserError(f'the loss of {type(self).__name__} {self._fault}.')
    gradients = tape.gradient(online, self._variables, output_gradient)
    if any(gradient is None for gradient in gradients):
      raise UserError(f'{type(self).__name__} has weights without any effect.')
    for index, gradient in direct.items():
      gradients[index] += gradient
    if self._replicas > 1:  # Losses are means over a device's part.
      gradients, scalars = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.MEAN, (gradients, scalars)
      )
    measured = self.optimizer.iterations % _STEPS_PER_NORM == 0
    norm = functools.partial(tf.linalg.global_norm, gradients)
    if self._compiles_step:  # A GPU would wait for a branch.
      scalars['gradient_norm'] = tf.where(measured, norm(), 0.0)
    else:
      scalars['gradient_norm'] = tf.cond(measured, norm, lambda: 0.0)
    # Adam, bound by memory, slows the gradients down when it runs beside them.
    with tf.control_dependencies(gradients):
      self.optimizer.apply(gradients)
    self.after_step(scalars)
    self._add_scalars(scalars, {'gradient_norm': measured})

  def _loss_and_gradient(
    self, outputs: Outputs, transition: Transition
  ) -> tuple[tf.Tensor | None, dict[int, tf.Tensor], dict[str, tf.Tensor]]:
    """The gradient of the loss with respect to the online outputs, and scalars.

    Compiled together they take half the time of the loss alone, whose separate
    gradient would need the pairwise TD errors (B, N, N) kept. Between them, the
    gradients of terms that read weights themselves, by the weights' indices.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch([outputs.online, *self._variables])
      given = self.loss(outputs, transition)
    fault = base.fault_of_loss(given)
    self._fault = fault or 'does not depend on outputs.online'
    if fault:
      return None, {}, {}
    loss, scalars = given
    q_values = self.q_values(outputs.online)
    q_data = tf.gather(q_values, transition.action, batch_dims=1)
    scalars |= {'loss': loss, 'q_data': tf.reduce_mean(q_data)}
    scalars['q_max'] = tf.reduce_mean(tf.reduce_max(q_values, axis=1))
    scalars['q_random'] = tf.reduce_mean(q_values)
    of_outputs, *of_weights = tape.gradient(
      loss, [outputs.online, *self._variables]
    )
    direct = {i: g for i, g in enumerate(of_weights) if g is not None}
    return of_outputs, direct, scalars

  def sync_target_network(self) -> None:
    """Copies the online network into the target network."""
    if tf.executing_eagerly():
      self._chunks = self._chunk = None  # With the old one's outputs.
    for target, online in zip(
      self._target_variables + self._target_frozen,
      self._variables + self._frozen,
    ):
      target.assign(online)

  def _variables_by_name(self) -> dict[str, Sequence[tf.Variable]]:
    return {
      'online': self._variables,
      'target': self._target_variables,
      'frozen': self._frozen,
      'target_frozen': self._target_frozen,
      **self.optimizer.slots,
      'gradient_steps': [self.optimizer.iterations],
    }

  def load_state(self, arrays: Arrays) -> None:
    """As `OfflineAgent`'s; the next batch follows the last one restored."""
    self._chunks = self._chunk = None
    super().load_state(arrays)
