"""Learning a task online: from nothing, or on from an offline agent."""

import abc
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from cql_atari.continuous import environments, playing, tasks
from cql_atari.continuous.agents import sac_agent
from cql_atari.continuous.playing import Weights
from cql_atari.continuous.sampling import MixedSampler, ReplayMemory
from cql_atari.core import progress
from cql_atari.core.constraints import (
  NonNegative,
  NonNegativeInt,
  PositiveInt,
  UnitInterval,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.core.files import write_csv, writing
from cql_atari.core.protocols import Arrays
from cql_atari.runs import trained
from cql_atari.training import job

METRICS = ('steps', 'return_mean', 'return_std', 'episodes', 'wall_seconds')


class OnlineLearner(job.Job):
  """Plays a task, step by step, and learns from what it played.

  A subclass has `is_finished`: whether everything is played and written.
  """

  def __init__(
    self,
    run_dir: pathlib.Path,
    task: tasks.Task,
    steps: int,
    memory: ReplayMemory,
    agent: sac_agent.SACAgent,
    random_steps: int,
    learning_starts: int,
    steps_per_call: int,
    snapshot_period: int,
    snapshot_episodes: int,
    checkpoint_minutes: float,
    seed: int,
    fixed_settings: dict[str, Any],
  ):
    """Goes back to the newest checkpoint, if any.

    Args:
      run_dir: gets `metrics.csv` and checkpoints.
      task: what to play.
      steps: steps to play.
      memory: gets every transition; the agent samples from it.
      agent: plays and learns.
      random_steps: steps of uniformly random actions at first.
      learning_starts: steps played before it learns.
      steps_per_call: steps played between the calls in which it learns, a
        gradient step for each.
      snapshot_period: steps between snapshots.
      snapshot_episodes: episodes that a snapshot plays without noise.
      checkpoint_minutes: minutes between checkpoints.
      seed: seeds the episodes and the exploration.
      fixed_settings: further settings that a resumed run must share.

    Raises:
      UserError: the numbers of steps do not fit one another.
    """
    parameter = f'{type(self).__name__}.snapshot_period'
    tasks.check_steps(steps, parameter, snapshot_period)
    if snapshot_period % steps_per_call:
      raise UserError(
        f'{parameter} is {snapshot_period}: give a multiple of steps_per_call, '
        f'{steps_per_call}.'
      )
    super().__init__(
      run_dir,
      checkpoint_minutes,
      {'task': task.domain, 'steps': steps, 'seed': seed, **fixed_settings},
      'another --run',
    )
    self._task, self._steps, self._seed = task, steps, seed
    self._memory, self._agent = memory, agent
    self._player = playing.player(agent.policy)
    self._random_steps, self._learning_starts = random_steps, learning_starts
    self._steps_per_call = steps_per_call
    self._snapshot_period = snapshot_period
    self._snapshot_episodes = snapshot_episodes
    self._timeouts = np.zeros(steps, bool)
    self._environment = environments.make(task)
    self._snapshots: list[Weights] = []
    self._metrics: list[list] = []
    self.resume()

  def _learned_rewards(self, rewards: np.ndarray) -> np.ndarray:
    """Rewards as the agent learns from them."""
    return rewards

  @abc.abstractmethod
  def _finish(self) -> None:
    """Writes what is wanted once all steps are played."""

  def run(self) -> None:
    """Plays and learns, and writes what came of it.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; progress is saved.
      UserError: the disk is full.
    """
    if self.is_finished:
      print(f'all {self._steps} steps are played already.')
      return
    with writing(self.folder), self.working():
      self._learn()
      self._finish()

  def _learn(self) -> None:
    """Plays and learns to the end."""
    if not self._snapshots:
      self._take_snapshot()
    # Every part of a run plays other episodes.
    rng = np.random.default_rng([self._seed, len(self._memory)])
    self._state = self._environment.reset(seed=int(rng.integers(1 << 31)))[0]
    if len(self._memory):
      last = len(self._memory) - 1
      self._timeouts[last] = not self._memory.columns().terminal[last]
    with progress.bar(
      self._steps, ' steps', 'learning', len(self._memory), leave=True
    ) as bar:
      while len(self._memory) < self._steps:
        with self.timed():
          self._play(rng)
          if len(self._memory) > self._learning_starts:
            self._agent.train_steps(self._steps_per_call)
        bar.update(self._steps_per_call)
        if len(self._memory) % self._snapshot_period == 0:
          self._take_snapshot()
          bar.set_postfix_str(f'return {self._metrics[-1][1]:.0f}', False)
        self.pause()
    self.save()

  def _play(self, rng: np.random.Generator) -> None:
    """Takes a few steps with the policy as it is, and remembers them."""
    weights = self._weights()
    rows, size = [], self._task.settings.action_size
    first = len(self._memory)
    for index in range(self._steps_per_call):
      if first < self._random_steps:
        action = rng.uniform(-1.0, 1.0, size)
      else:
        action = self._act(weights, self._state, rng.normal(size=size))
      following, reward, terminal, cut_off, _ = self._environment.step(action)
      rows.append((self._state, action, reward, following, terminal))
      self._timeouts[first + index] = cut_off and not terminal
      self._state = following
      if terminal or cut_off:
        self._state = self._environment.reset()[0]
    states, actions, rewards, next_states, terminals = map(np.array, zip(*rows))
    self._memory.extend(
      self._normalized(states),
      actions,
      self._learned_rewards(rewards),
      self._normalized(next_states),
      terminals,
    )

  def _normalized(self, states: np.ndarray) -> np.ndarray:
    return (states - self._memory.state_mean) / self._memory.state_std

  def _act(self, weights: Weights, state, noise=None) -> np.ndarray:
    return self._player(weights, self._normalized(state), noise)

  def _best_action(self, weights: Weights, state: np.ndarray) -> np.ndarray:
    """The action in snapshots: the policy's mode."""
    return self._act(weights, state)

  def _weights(self) -> Weights:
    return [variable.numpy() for variable in self._agent.policy.layers]

  def _take_snapshot(self) -> None:
    """Keeps the policy, and how it plays without noise."""
    weights = self._weights()
    environment = environments.make(self._task)
    returns = []
    for episode in range(self._snapshot_episodes):
      state, _ = environment.reset(seed=episode)
      returns.append(0.0)
      over = False
      while not over:
        state, reward, terminal, cut_off, _ = environment.step(
          self._best_action(weights, state)
        )
        returns[-1] += reward
        over = terminal or cut_off
    self._snapshots.append(weights)
    mean, deviation = float(np.mean(returns)), float(np.std(returns))
    seconds = round(self.wall_seconds, 1)
    self._metrics.append([self.step, mean, deviation, len(returns), seconds])
    write_csv(self.folder / 'metrics.csv', METRICS, self._metrics)

  # --- Saving. ---

  @property
  def step(self) -> int:
    """Steps played."""
    return len(self._memory)

  def place(self) -> str:
    """Where it is, in words."""
    return f'step {self.step}'

  def state(self) -> tuple[Arrays, dict[str, Any]]:
    """The agent, all that was played, the snapshots and their returns."""
    arrays = self._agent.state()
    for name, column in self._memory.columns()._asdict().items():
      arrays[f'memory.{name}'] = column
    for index, weights in enumerate(self._snapshots):
      for layer, array in enumerate(weights):
        arrays[f'snapshot.{index}.{layer}'] = array
    arrays['timeouts'] = self._timeouts[: self.step]
    return arrays, {'metrics': self._metrics}

  def load_state(self, arrays: Arrays, data: dict[str, Any]) -> None:
    """Goes back to what `state` gave."""
    others = ('memory.', 'snapshot.', 'timeouts')
    self._agent.load_state(
      {n: v for n, v in arrays.items() if not n.startswith(others)}
    )
    self._memory.extend(
      *(arrays[f'memory.{name}'] for name in self._memory.columns()._fields)
    )
    self._timeouts[: self.step] = arrays['timeouts']
    self._metrics = data['metrics']
    layers = range(len(self._agent.policy.layers))
    self._snapshots = [
      [arrays[f'snapshot.{index}.{layer}'] for layer in layers]
      for index in range(len(self._metrics))
    ]


@configurable(denylist=['run_dir', 'steps'])
class FineTuner(OnlineLearner):
  """Goes on learning online from an offline run on a task."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    steps: int,
    create_agent_fn: Callable[..., sac_agent.SACAgent],
    init_from: str | os.PathLike,
    replay_dir: str | os.PathLike | None = None,
    offline_share: UnitInterval = 0.5,
    learning_starts: PositiveInt = 1000,
    steps_per_call: PositiveInt = 50,
    snapshot_period: PositiveInt = tasks.SNAPSHOT_PERIOD,
    snapshot_episodes: PositiveInt = 10,
    checkpoint_minutes: NonNegative = 2.0,
    seed: NonNegativeInt = 0,
  ):
    """Builds the run's agent, or goes back to the newest checkpoint.

    Args:
      run_dir: gets `metrics.csv`, and in the end `agent.npz`, the agent.
      steps: steps to play.
      create_agent_fn: makes the agent; that run's, as its settings are.
      init_from: the offline run's folder.
      replay_dir: where that run's data are now; None where they were.
      offline_share: share of every batch that is sampled from that run's data.
      learning_starts: steps played before it learns.
      steps_per_call: steps played between the calls in which it learns, a
        gradient step for each.
      snapshot_period: steps between two rows of `metrics.csv`.
      snapshot_episodes: episodes whose mean return, played without noise, is in
        such a row.
      checkpoint_minutes: minutes between checkpoints.
      seed: seeds the batches, the episodes and the exploration.

    Raises:
      UserError: the numbers of steps do not fit one another, or the run or its
        data are not there, or its agent has no values.
    """
    offline = trained.offline_run(init_from, True, replay_dir)
    if offline.name == 'kitchen':
      raise UserError(
        'the data of the kitchen pay for finished tasks at every step, play '
        'only once: it cannot go on online with such data.'
      )
    self._data = offline.data
    memory = ReplayMemory(
      steps, *self._data.state.shape[1:], self._data.action_size
    )
    memory.state_mean = self._data.state_mean
    memory.state_std = self._data.state_std
    sampler = functools.partial(
      MixedSampler, memory=memory, share=offline_share
    )
    agent = create_agent_fn(self._data, sampler=sampler, seed=seed)
    agent.load_weights(offline.agent.state())
    if left := max(getattr(agent, 'warmup_steps', 0) - agent.gradient_steps, 0):
      logging.warning(
        'For the first %d steps, what is left of the warm-up, the policy does '
        'not look at Q: bind %s.warmup_steps=0 if it should.',
        left, type(agent).__name__,
      )  # fmt: skip
    super().__init__(
      run_dir,
      tasks.task(offline.folder.record['task']),
      steps,
      memory,
      agent,
      random_steps=0,
      learning_starts=learning_starts,
      steps_per_call=steps_per_call,
      snapshot_period=snapshot_period,
      snapshot_episodes=snapshot_episodes,
      checkpoint_minutes=checkpoint_minutes,
      seed=seed,
      fixed_settings={'--init_from': str(init_from)},
    )

  @property
  def _agent_file(self) -> pathlib.Path:
    return self.folder / 'agent.npz'

  @property
  def is_finished(self) -> bool:
    """Whether all steps are played."""
    return self._agent_file.is_file()

  def _finish(self) -> None:
    self._agent.save(self._agent_file)

  def _learned_rewards(self, rewards: np.ndarray) -> np.ndarray:
    return self._data.learned_rewards(rewards)

  def _best_action(self, weights: Weights, state: np.ndarray) -> np.ndarray:
    """As the offline run's evaluations choose it; BEAR's is no mode."""
    del weights
    return self._agent.select_actions(
      state[None].astype(np.float32), self._snapshot_rng
    )[0]

  def _take_snapshot(self) -> None:
    """As `OnlineLearner`'s, the same also after a kill."""
    seeds = [self._seed, self.step]
    self._snapshot_rng = np.random.default_rng(seeds)  # BEAR samples actions.
    super()._take_snapshot()
