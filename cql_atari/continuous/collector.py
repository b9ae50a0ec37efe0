"""Collector: online SAC whose play becomes datasets as D4RL defines them.

It learns a task online and keeps a snapshot of its policy every few thousand
steps. `expert` is the snapshot that plays best, `medium` the first that is a
third of the way to it from random play; what these and the policy before any
step play become datasets, and so does all that was played until `medium` was
reached.
"""

import json
import pathlib
import time
from collections.abc import Callable, Sequence

import gin
import numpy as np
import tqdm

from cql_atari.continuous import environments, files, minari_files, tasks
from cql_atari.continuous.agents import sac_agent
from cql_atari.continuous.sampling import ReplayMemory
from cql_atari.core.errors import UserError, check_flag, check_number
from cql_atari.core.files import write_csv, write_text, writing
from cql_atari.runs import checkpoints
from cql_atari.training import signals

METRICS = ('steps', 'return_mean', 'return_std', 'episodes', 'wall_seconds')
_MEDIUM = 1 / 3  # Of the way from random play's return to the expert's.

# A policy as plain arrays: kernel, bias, kernel, bias, ...
Weights = list[np.ndarray]


@gin.configurable
class SACCollector:
  """Plays a task, learns from it and makes datasets of it."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    task: tasks.Task,
    steps: int,
    create_agent_fn: Callable[..., sac_agent.SACAgent] = sac_agent.SACAgent,
    rows: int = 100_000,
    random_steps: int = 5000,
    steps_per_call: int = 50,
    snapshot_period: int = 5000,
    snapshot_episodes: int = 10,
    checkpoint_minutes: float = 2.0,
    write_minari: bool = False,
    seed: int = 0,
  ):
    """Builds the agent and goes back to the newest checkpoint, if any.

    Args:
      run_dir: gets the datasets, `metrics.csv` and `datasets.json`.
      task: what to play.
      steps: to learn for.
      create_agent_fn: makes the agent.
      rows: of every dataset that a policy plays.
      random_steps: steps of uniformly random actions, before it learns.
      steps_per_call: steps played between the calls in which it learns, a
        gradient step for each.
      snapshot_period: steps between snapshots.
      snapshot_episodes: what a snapshot's return is the mean of.
      checkpoint_minutes: minutes between checkpoints.
      write_minari: whether to make Minari datasets too, in Minari's own folder:
        cql_atari/TASK/medium-v0 and others.
      seed: of everything random.
    """
    for name, value in (
      ('rows', rows),
      ('random_steps', random_steps),
      ('steps_per_call', steps_per_call),
      ('snapshot_period', snapshot_period),
      ('snapshot_episodes', snapshot_episodes),
    ):
      check_number(f'SACCollector.{name}', value, 1, whole=True)
    check_flag('SACCollector.write_minari', write_minari)
    if steps % snapshot_period or snapshot_period % steps_per_call:
      raise UserError(
        f'--steps={steps}: give a multiple of SACCollector.snapshot_period '
        f'{snapshot_period}, and that one of steps_per_call {steps_per_call}.'
      )
    self._dir, self._task, self._steps = pathlib.Path(run_dir), task, steps
    self._rows, self._random_steps = rows, random_steps
    self._steps_per_call = steps_per_call
    self._snapshot_period = snapshot_period
    self._snapshot_episodes = snapshot_episodes
    self._checkpoint_seconds = 60 * checkpoint_minutes
    self._write_minari = write_minari
    self._seed = seed
    # What a resumed run has to share with the one that began it.
    self._fixed = {'task': task.domain, 'steps': steps, 'seed': seed}
    domain = task.settings
    self._memory = ReplayMemory(steps, domain.state_size, domain.action_size)
    self._timeouts = np.zeros(steps, bool)
    self._agent = create_agent_fn(
      domain.action_size, self._memory, sampler=lambda memory: memory, seed=seed
    )
    self._environment = environments.make(task)
    self._snapshots: list[Weights] = []
    self._metrics: list[list] = []
    self._wall_seconds = 0.0
    self._stop_signal = signals.StopSignal()
    self._resume()

  @property
  def is_finished(self) -> bool:
    """Whether all datasets are there."""
    return (self._dir / 'datasets.json').is_file()

  def run(self) -> None:
    """Learns, then plays and writes the datasets.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; progress is saved.
      UserError: the disk is full.
    """
    if self.is_finished:
      print(f'{self._dir} has all datasets already.')
      return
    with writing(self._dir), self._stop_signal.watch():
      if not self._snapshots:
        self._take_snapshot()
      self._learn()
      self._write_datasets()

  # --- Learning. ---

  def _learn(self) -> None:
    bar = tqdm.tqdm(
      total=self._steps,
      initial=len(self._memory),
      unit=' steps',
      desc='learning',
      disable=None,
      dynamic_ncols=True,
    )
    # Every part of a run plays other episodes.
    rng = np.random.default_rng([self._seed, len(self._memory)])
    self._state = self._environment.reset(seed=int(rng.integers(1 << 31)))[0]
    if len(self._memory):
      last = len(self._memory) - 1
      self._timeouts[last] = not self._memory.columns().terminal[last]
    saved = time.monotonic()
    with bar:
      while len(self._memory) < self._steps:
        began = time.monotonic()
        self._play(rng)
        if len(self._memory) > self._random_steps:
          self._agent.train_steps(self._steps_per_call)
        self._wall_seconds += time.monotonic() - began
        bar.update(self._steps_per_call)
        if len(self._memory) % self._snapshot_period == 0:
          self._take_snapshot()
          bar.set_postfix_str(f'return {self._metrics[-1][1]:.0f}', False)
        if self._stop_signal:
          self._save()
          self._stop_signal.stop(f'step {len(self._memory)}')
        if time.monotonic() - saved > self._checkpoint_seconds:
          self._save()
          saved = time.monotonic()
    self._save()

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
        round(self._wall_seconds, 1),
      ]
    )
    write_csv(self._dir / 'metrics.csv', METRICS, self._metrics)

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
        f'{high:.1f}): give more --steps.'
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
      path = self._dir / f'{self._task.domain}-{name}.hdf5'
      files.write_hdf5(path, steps, algorithm='SAC', seed=self._seed)
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
      print(
        f'{path.name}: {len(steps)} rows, mean return '
        f'{about[name]["return_mean"]:.1f} over {len(episodes)} episodes'
      )
    text = json.dumps(about, indent=1) + '\n'
    write_text(self._dir / 'datasets.json', text)

  def _roll_out(self, weights: Weights, name: str) -> files.Steps:
    """Plays a policy with its noise; the last episode is cut off."""
    rng = np.random.default_rng([self._seed, len(name), *name.encode()])
    environment = environments.make(self._task)
    size = self._task.settings.action_size
    rows = []
    state, _ = environment.reset(seed=int(rng.integers(1 << 31)))
    for _ in tqdm.trange(
      self._rows, desc=name, unit=' rows', disable=None, leave=False
    ):
      if self._stop_signal:
        self._stop_signal.stop(f'step {len(self._memory)}')
      action = self._act(weights, state, rng.normal(size=size))
      following, reward, terminal, cut_off, _ = environment.step(action)
      is_timeout = cut_off and not terminal
      rows.append((state, action, reward, terminal, is_timeout, following))
      state = environment.reset()[0] if terminal or cut_off else following
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

  def _save(self) -> None:
    arrays = self._agent.bundle_and_checkpoint('', 0)
    arrays |= {
      f'memory.{name}': column
      for name, column in self._memory.columns()._asdict().items()
    }
    for index, weights in enumerate(self._snapshots):
      for layer, array in enumerate(weights):
        arrays[f'snapshot.{index}.{layer}'] = array
    arrays['timeouts'] = self._timeouts[: len(self._memory)]
    checkpoints.save(
      self._dir / 'checkpoints',
      len(self._memory),
      arrays,
      {
        **self._fixed,
        'metrics': self._metrics,
        'wall_seconds': self._wall_seconds,
      },
      keep=1,
    )

  def _resume(self) -> None:
    newest = checkpoints.load_newest(self._dir / 'checkpoints')
    if newest is None:
      return
    count, arrays, data = newest
    checkpoints.check_same(self._dir, data, self._fixed, 'another --run')
    mine = ('memory.', 'snapshot.', 'timeouts')
    agent = {n: v for n, v in arrays.items() if not n.startswith(mine)}
    self._agent.unbundle(str(self._dir / 'checkpoints'), 0, agent)
    self._memory.extend(
      *(arrays[f'memory.{name}'] for name in self._memory.columns()._fields)
    )
    self._timeouts[:count] = arrays['timeouts']
    self._metrics, self._wall_seconds = data['metrics'], data['wall_seconds']
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
