"""Collector: online SAC whose play becomes datasets as D4RL defines them.

It learns a task online and keeps a snapshot of its policy every few thousand
steps. `expert` is the snapshot that plays best, `medium` the first that is a
third of the way to it from random play; what these and the policy before any
step play become datasets, and so does all that was played until `medium` was
reached.
"""

import pathlib
from collections.abc import Callable

import numpy as np
from absl import logging

from cql_atari.continuous import (
  environments,
  files,
  minari_files,
  online,
  playing,
  tasks,
)
from cql_atari.continuous.agents import sac_agent
from cql_atari.continuous.sampling import ReplayMemory
from cql_atari.core import progress
from cql_atari.core.constraints import (
  NonNegative,
  NonNegativeInt,
  PositiveInt,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.core.files import write_json

_MEDIUM = 1 / 3  # Of the way from random play's return to the expert's.


@configurable(denylist=['run_dir', 'task', 'steps'])
class SACCollector(online.OnlineLearner):
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
    snapshot_period: PositiveInt = tasks.SNAPSHOT_PERIOD,
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
        cql_atari/TASK/medium-v0 and others, TASK-2/... of run 2, and so on.
      seed: seeds the weights, the batches, the episodes and the exploration.

    Raises:
      UserError: the numbers of steps do not fit one another.
    """
    self._rows, self._write_minari = rows, write_minari
    domain = task.settings
    memory = ReplayMemory(steps, domain.state_size, domain.action_size)
    super().__init__(
      run_dir,
      task,
      steps,
      memory,
      create_agent_fn(memory, sampler=lambda memory: memory, seed=seed),
      random_steps=random_steps,
      learning_starts=random_steps,
      steps_per_call=steps_per_call,
      snapshot_period=snapshot_period,
      snapshot_episodes=snapshot_episodes,
      checkpoint_minutes=checkpoint_minutes,
      seed=seed,
      fixed_settings={'--init_from': None},
    )

  @property
  def is_finished(self) -> bool:
    """Whether all datasets are there."""
    return (self.folder / 'datasets.json').is_file()

  # --- Datasets. ---

  def _finish(self) -> None:
    """Chooses the snapshots, plays them and writes everything."""
    played, returns, *_ = zip(*self._metrics)  # By online.METRICS.
    chosen = choose(np.array(returns), self._task.domain)
    made = {
      name: self._roll_out(self._snapshots[index], name)
      for name, index in chosen.items()
    }
    made['medium-replay'] = self._replay(played[chosen['medium']])
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
        run = '' if self.folder.name == '1' else f'-{self.folder.name}'
        minari_files.write(
          f'cql_atari/{self._task.domain}{run}/{name}-v0',
          steps,
          self._task,
          algorithm_name='SAC',
        )
      episodes = steps.episode_returns()
      about[name] = {
        'rows': len(steps),
        'episodes': len(episodes),
        'return_mean': float(episodes.mean()) if len(episodes) else None,
        'snapshot_step': played[chosen[name]] if name in chosen else None,
      }
      said = (
        f'mean return {episodes.mean():.1f} over {len(episodes)} episodes'
        if len(episodes)
        else 'no whole episode'
      )
      print(f'{path.name}: {len(steps)} rows, {said}')
    write_json(self.folder / 'datasets.json', about)

  def _roll_out(self, weights: playing.Weights, name: str) -> files.Steps:
    """Plays a policy with its noise; the last episode is cut off."""
    rng = np.random.default_rng([self._seed, len(name), *name.encode()])
    environment = environments.make(self._task)
    size = self._task.settings.action_size
    rows = []
    state, _ = environment.reset(seed=int(rng.integers(1 << 31)))
    with progress.bar(self._rows, ' rows', f'playing {name}') as bar:
      for _ in range(self._rows):
        self.pause(save=False)  # What was learned is saved.
        action = self._act(weights, state, rng.normal(size=size))
        following, reward, terminal, cut_off, _ = environment.step(action)
        is_timeout = cut_off and not terminal
        rows.append((state, action, reward, following, terminal, is_timeout))
        state = environment.reset()[0] if terminal or cut_off else following
        bar.update()
    return _steps(*map(np.array, zip(*rows)))

  def _replay(self, count: int) -> files.Steps:
    """The first steps that were played."""
    columns = (*self._memory.columns(), self._timeouts)
    return _steps(*(column[:count] for column in columns))


def choose(returns: np.ndarray, domain: str) -> dict[str, int]:
  """Which snapshots are random, medium and expert.

  Args:
    returns: (N,) mean returns of the snapshots; the first is random play.
    domain: the task's, for what is told.

  Raises:
    UserError: none plays better than at random.
  """
  expert = int(np.argmax(returns))
  low, high = returns[0], returns[expert]
  if not high > max(low, 0.0):
    raise UserError(
      f'{domain} was not learned (its best snapshot plays {high:.1f}): give '
      'more --steps and another --run.'
    )
  medium = int(np.argmax(returns >= low + _MEDIUM * (high - low)))
  if medium == expert:
    logging.warning(
      'The same snapshot is medium and expert, for none is between it and '
      'random play: give more --steps and another --run, or a shorter '
      'SACCollector.snapshot_period.'
    )
  return {'random': 0, 'medium': medium, 'expert': expert}


def _steps(observations, actions, rewards, following, terminals, timeouts):
  """The columns of transitions, and where episodes are cut off, as a file's."""
  return files.Steps(
    observations.astype(np.float32),
    np.clip(actions, -1.0, 1.0).astype(np.float32),
    rewards.astype(np.float32),
    terminals > 0,
    timeouts > 0,
    following.astype(np.float32),
  )
