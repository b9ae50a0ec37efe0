"""Collector: online SAC whose play becomes datasets as D4RL defines them.

It learns a task online and keeps a snapshot of its policy every few thousand
steps. `expert` is the snapshot that plays best, `medium` the first that is a
third of the way to it from random play; what these and the policy before any
step play become datasets, and so does all that was played until `medium` was
reached.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cql_atari.continuous import environments, files, minari_files, tasks
from cql_atari.continuous.agents import sac_agent
from cql_atari.continuous.sampling import ReplayMemory
from cql_atari.core import progress
from cql_atari.core.constraints import NonNegative, NonNegativeInt, PositiveInt
from cql_atari.core.errors import UserError
from cql_atari.core.files import write_csv, write_text
from cql_atari.core.protocols import Arrays
from cql_atari.core.settings import configurable
from cql_atari.training import job

METRICS = ('steps', 'return_mean', 'return_std', 'episodes', 'wall_seconds')
_MEDIUM = 1 / 3  # Of the way from random play's return to the expert's.

# A policy as plain arrays: kernel, bias, kernel, bias, ...
Weights = list[np.ndarray]


@configurable(denylist=['run_dir', 'task', 'steps'])
class SACCollector(job.Job):
  """Plays a task, learns from it and makes datasets of it."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    task: tasks.Task,
    steps: int,
    create_agent_fn: Callable[..., sac_agent.SACAgent] = sac_agent.SACAgent,
    rows: PositiveInt = 100_000,
    random_steps: PositiveInt = 5000,
    steps_per_call: PositiveInt = 50,
    snapshot_period: PositiveInt = 5000,
    snapshot_episodes: PositiveInt = 10,
    checkpoint_minutes: NonNegative = 2.0,
    write_minari: bool = False,
    seed: NonNegativeInt = 0,
  ):
    """Builds the agent and goes back to the newest checkpoint, if any.

    Args:
      run_dir: gets the datasets, `metrics.csv` and `datasets.json`.
      task: what to play.
      steps: steps to learn for.
      create_agent_fn: makes the agent.
      rows: rows of every dataset that a policy plays.
      random_steps: steps of uniformly random actions, before it learns.
      steps_per_call: steps played between the calls in which it learns, a
        gradient step for each.
      snapshot_period: steps between snapshots.
      snapshot_episodes: what a snapshot's return is the mean of.
      checkpoint_minutes: minutes between checkpoints.
      write_minari: whether to make Minari datasets too, in Minari's own folder:
        cql_atari/TASK/medium-v0 and others.
      seed: seeds the weights, the batches, the episodes and the exploration.

    Raises:
      UserError: the numbers of steps do not fit one another.
    """
    if steps % snapshot_period or snapshot_period % steps_per_call:
      raise UserError(
        f'--steps={steps}: give a multiple of SACCollector.snapshot_period '
        f'{snapshot_period}, and that one of steps_per_call {steps_per_call}.'
      )
    super().__init__(
      run_dir,
      checkpoint_minutes,
      {'task': task.domain, 'steps': steps, 'seed': seed},
      'another --run',
    )
    self._task, self._steps, self._seed = task, steps, seed
    self._rows, self._random_steps = rows, random_steps
    self._steps_per_call = steps_per_call
    self._snapshot_period = snapshot_period
    self._snapshot_episodes = snapshot_episodes
    self._write_minari = write_minari
    domain = task.settings
    self._memory = ReplayMemory(steps, domain.state_size, domain.action_size)
    self._timeouts = np.zeros(steps, bool)
    self._agent = create_agent_fn(
      self._memory, sampler=lambda memory: memory, seed=seed
    )
    self._environment = environments.make(task)
    self._snapshots: list[Weights] = []
    self._metrics: list[list] = []
    self.resume()

  @property
  def is_finished(self) -> bool:
    """Whether all datasets are there."""
    return (self.folder / 'datasets.json').is_file()

  def run(self) -> None:
    """Learns, then plays and writes the datasets.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; progress is saved.
      UserError: the disk is full.
    """
    if self.is_finished:
      print(f'{self.folder} has all datasets already.')
      return
    with self.working():
      if not self._snapshots:
        self._take_snapshot()
      self._learn()
      self._write_datasets()

  # --- Learning. ---

  def _learn(self) -> None:
    bar = progress.bar(
      self._steps, ' steps', 'learning', len(self._memory), leave=True
    )
    # Every part of a run plays other episodes.
    rng = np.random.default_rng([self._seed, len(self._memory)])
    self._state = self._environment.reset(seed=int(rng.integers(1 << 31)))[0]
    if len(self._memory):
      last = len(self._memory) - 1
      self._timeouts[last] = not self._memory.columns().terminal[last]
    with bar:
      while len(self._memory) < self._steps:
        with self.timed():
          self._play(rng)
          if len(self._memory) > self._random_steps:
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
    self._memory.extend(*map(np.array, zip(*rows)))

  def _act(self, weights: Weights, state, noise=0.0) -> np.ndarray:
    return act(weights, state, noise, self._agent.policy.log_std_range)

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
          self._act(weights, state)
        )
        returns[-1] += reward
        over = terminal or cut_off
    self._snapshots.append(weights)
    self._metrics.append(
      [
        len(self._memory),
        float(np.mean(returns)),
        float(np.std(returns)),
        len(returns),
        round(self.wall_seconds, 1),
      ]
    )
    write_csv(self.folder / 'metrics.csv', METRICS, self._metrics)

  # --- Datasets. ---

  def _write_datasets(self) -> None:
    """Chooses the snapshots, plays them and writes everything."""
    returns = np.array(
      [row[METRICS.index('return_mean')] for row in self._metrics]
    )
    expert = int(np.argmax(returns))
    low, high = returns[0], returns[expert]
    if not high > max(low, 0.0):
      raise UserError(
        f'{self._task.domain} was not learned (its best snapshot plays '
        f'{high:.1f}): give more --steps and another --run.'
      )
    medium = int(np.argmax(returns >= low + _MEDIUM * (high - low)))
    chosen = {'random': 0, 'medium': medium, 'expert': expert}
    made = {
      name: self._roll_out(self._snapshots[index], name)
      for name, index in chosen.items()
    }
    made['medium-replay'] = self._replay(self._metrics[medium][0])
    for name in ('medium', 'random'):
      made[f'{name}-expert'] = files.concatenate(made[name], made['expert'])
    about = {}
    for name, steps in made.items():
      path = self.folder / f'{self._task.domain}-{name}.hdf5'
      files.write_hdf5(
        path,
        steps,
        algorithm='SAC',
        seed=self._seed,
        environment=environments.gymnasium_name(self._task),
      )
      if self._write_minari:
        minari_files.write(
          f'cql_atari/{self._task.domain}/{name}-v0',
          steps,
          self._task,
          algorithm_name='SAC',
        )
      episodes = steps.episode_returns()
      about[name] = {
        'rows': len(steps),
        'episodes': len(episodes),
        'return_mean': float(episodes.mean()) if len(episodes) else None,
        'snapshot_step': self._metrics[chosen[name]][0]
        if name in chosen
        else None,
      }
      played = (
        f'mean return {episodes.mean():.1f} over {len(episodes)} episodes'
        if len(episodes)
        else 'no whole episode'
      )
      print(f'{path.name}: {len(steps)} rows, {played}')
    text = json.dumps(about, indent=1) + '\n'
    write_text(self.folder / 'datasets.json', text)

  def _roll_out(self, weights: Weights, name: str) -> files.Steps:
    """Plays a policy with its noise; the last episode is cut off."""
    rng = np.random.default_rng([self._seed, len(name), *name.encode()])
    environment = environments.make(self._task)
    size = self._task.settings.action_size
    rows = []
    state, _ = environment.reset(seed=int(rng.integers(1 << 31)))
    bar = progress.bar(self._rows, ' rows', f'playing {name}')
    for _ in range(self._rows):
      self.pause(save=False)  # What was learned is saved.
      action = self._act(weights, state, rng.normal(size=size))
      following, reward, terminal, cut_off, _ = environment.step(action)
      is_timeout = cut_off and not terminal
      rows.append((state, action, reward, terminal, is_timeout, following))
      state = environment.reset()[0] if terminal or cut_off else following
      bar.update()
    bar.close()
    return _steps(*map(np.array, zip(*rows)))

  def _replay(self, count: int) -> files.Steps:
    """The first steps that were played."""
    columns = self._memory.columns()
    return _steps(
      columns.state[:count],
      columns.action[:count],
      columns.reward[:count],
      columns.terminal[:count],
      self._timeouts[:count],
      columns.next_state[:count],
    )

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


def act(
  weights: Sequence[np.ndarray],
  state: np.ndarray,
  noise: np.ndarray | float,
  log_std_range: tuple[float, float],
) -> np.ndarray:
  """One action (A,) of a tanh-Gaussian policy, without TensorFlow's overhead.

  Args:
    weights: kernel and bias of every layer.
    state: (S,).
    noise: standard normal (A,), or 0 for the mode.
    log_std_range: what log deviations are cut off to.
  """
  *hidden, last = zip(weights[::2], weights[1::2])
  for kernel, bias in hidden:
    state = np.maximum(state @ kernel + bias, 0.0)
  mean, log_std = np.split(state @ last[0] + last[1], 2)
  return np.tanh(mean + np.exp(np.clip(log_std, *log_std_range)) * noise)


def _steps(observations, actions, rewards, terminals, timeouts, following):
  return files.Steps(
    observations.astype(np.float32),
    np.clip(actions, -1.0, 1.0).astype(np.float32),
    rewards.astype(np.float32),
    terminals > 0,
    timeouts > 0,
    following.astype(np.float32),
  )
