"""Collector: an online agent that logs its replay in the published format."""

import functools
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm

from cql_atari.agents import fixed_replay_agent
from cql_atari.core import devices, progress
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
from cql_atari.environments.atari import AtariEnvironments
from cql_atari.replay import episodes, memory, recorder
from cql_atari.runs import trained
from cql_atari.training import job

METRICS = (
  'shard',
  'rows',
  'agent_steps',
  'gradient_steps',
  'episodes',
  'return_mean',
  'return_std',
  'epsilon',
  'loss',
  'q_data',
  'q_max',
  'gradient_norm',
  'wall_seconds',
)
_RECORDER = 'recorder.'  # Of the recorder's arrays in a checkpoint.


@configurable(denylist=['run_dir', 'rows', 'num_actions'])
class Collector(job.Job):
  """Plays games side by side, learns from them and logs every transition.

  An episode is logged when it ends. All else of the state is in checkpoints;
  games that were under way when the process ended are played anew.

  Attributes:
    environment: the games.
  """

  def __init__(
    self,
    run_dir: pathlib.Path,
    rows: int,
    num_actions: int,
    create_agent_fn: Callable[..., fixed_replay_agent.FixedReplayAgent],
    create_environment_fn: Callable[..., AtariEnvironments] = AtariEnvironments,
    num_shards: PositiveInt = recorder.NUM_SHARDS,
    replay_capacity: PositiveInt = 1_000_000,
    min_replay_history: PositiveInt = 20_000,
    update_period: PositiveInt = 4,
    epsilon_start: UnitInterval = 1.0,
    epsilon_train: UnitInterval = 0.01,
    epsilon_decay_period: PositiveInt = 250_000,
    init_from: str | os.PathLike | None = None,
    replay_dir: str | os.PathLike | None = None,
    offline_share: UnitInterval = 0.5,
    checkpoint_minutes: NonNegative = 5.0,
    seed: NonNegativeInt = 0,
  ):
    """Builds the agent and goes back to the newest checkpoint, if any.

    Args:
      run_dir: gets `replay_logs/`, `metrics.csv` and `episodes.json`, and in
        the end `agent.npz`, the agent.
      rows: rows to log, padding included; a multiple of num_shards.
      num_actions: actions of the game.
      create_agent_fn: makes the agent that learns and plays.
      create_environment_fn: makes the games.
      num_shards: shards that the rows fill.
      replay_capacity: rows that the agent learns from, the newest, in memory.
      min_replay_history: rows logged before it learns, as in Dopamine.
      update_period: agent steps per gradient step.
      epsilon_start: probability of a random action until min_replay_history.
      epsilon_train: probability of a random action after the decay.
      epsilon_decay_period: agent steps of the linear decay between the two.
      init_from: the folder of an offline run whose agent is fine-tuned;
        `create_agent_fn` and its settings are that run's.
      replay_dir: where that run's data are now; None where they were.
      offline_share: share of every batch that is sampled from that run's data.
      checkpoint_minutes: minutes between checkpoints.
      seed: seeds the weights, the batches, the games and the exploration.

    Raises:
      UserError: the numbers of rows do not fit one another, or the offline run
        or its data are not there.
    """
    recorder.check_steps(rows, num_shards)
    super().__init__(
      run_dir,
      checkpoint_minutes,
      {
        'Collector.num_shards': num_shards,
        '--steps': rows,
        'seed': seed,
        '--init_from': init_from and str(init_from),
      },
      'another --run',
    )
    self._seed, self._rows_per_shard = seed, rows // num_shards
    self._min_replay_history = min_replay_history
    self._update_period = update_period
    self._epsilon_start, self._epsilon_train = epsilon_start, epsilon_train
    self._epsilon_decay_period = epsilon_decay_period
    self._memory = memory.ReplayMemory(replay_capacity)
    offline, sampler = None, memory.OnlineSampler
    if init_from:
      offline = trained.offline_run(init_from, offline_share > 0, replay_dir)
      if offline.data:
        sampler = functools.partial(
          memory.MixedSampler, store=offline.data, share=offline_share
        )
    self._agent = create_agent_fn(
      self._memory, num_actions, seed=seed, sampler=sampler
    )
    if offline:
      self._agent.load_weights(offline.agent.state())
    self.environment = create_environment_fn()
    if (
      replay_capacity < self.environment.longest_episode + recorder.PADDING_ROWS
    ):
      raise UserError(
        f'Collector.replay_capacity is {replay_capacity}, and a game may take '
        f'{self.environment.longest_episode} steps: give more, or a smaller '
        'AtariEnvironments.max_steps_per_episode.'
      )
    self._recorder = recorder.Recorder(
      self.folder / 'replay_logs',
      self._rows_per_shard,
      num_shards,
      self.environment.name,
    )
    self._rows, self._new_returns = [], []
    self._agent_steps = 0
    self.resume()

  @property
  def is_finished(self) -> bool:
    """Whether all rows are logged."""
    return self._recorder.is_full

  @property
  def epsilon(self) -> float:
    """Probability of a random action now."""
    decayed = self._agent_steps - self._min_replay_history
    share = min(max(decayed / self._epsilon_decay_period, 0.0), 1.0)
    fallen = self._epsilon_start - self._epsilon_train
    return self._epsilon_start - share * fallen

  def run(self) -> None:
    """Plays, learns and logs until all rows are there.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; progress is saved.
      UserError: the disk is full.
    """
    if self.is_finished:
      self._save_agent()
      print(f'all {self._recorder.total_rows} rows are logged already.')
      return
    bar = progress.bar(
      self._recorder.total_rows,
      ' rows',
      'collecting',
      self._recorder.add_count,
      leave=True,
    )
    with bar, writing(self.folder), self.working(), devices.asynchronous():
      self._play(bar)

  def _play(self, bar: tqdm.tqdm) -> None:
    environment, count = self.environment, self.environment.num_environments
    # Every part of a run plays other games.
    seeds = np.random.SeedSequence([self._seed, self._agent_steps])
    rng = np.random.default_rng(seeds)
    states = environment.reset(int(seeds.generate_state(1)[0]))
    # Of each game under way: (frame, action, raw reward, over) of its steps.
    games = [[] for _ in range(count)]
    self.save()  # So that what is logged from here on can be gone back to.
    owed = 0.0
    while not self._recorder.is_full:
      with self.timed():
        actions = self._agent.select_actions(states, rng, self.epsilon)
        frames = np.ascontiguousarray(states[..., -1])
        states, rewards, over = environment.step(actions)
        self._agent_steps += count
        for game, *row in zip(games, frames, actions, rewards, over):
          game.append(row)
        cut_off = getattr(environment, 'cut_off', np.zeros(count, bool))
        for index in np.flatnonzero(over):
          self._log(games[index], bool(cut_off[index]), bar)
          games[index] = []
        # A resumed run begins without the games that were under way.
        enough = self._recorder.add_count >= self._min_replay_history
        if enough and not self._memory.is_empty:
          owed += count / self._update_period
          self._agent.train_steps(int(owed))
          owed %= 1.0
      self.pause()
    self.save()
    self._save_agent()

  def _save_agent(self) -> None:
    """Writes `agent.npz`, unless it is there."""
    if not (self.folder / 'agent.npz').is_file():
      self._agent.save(self.folder / 'agent.npz')

  def _log(self, game: list[tuple], is_cut_off: bool, bar: tqdm.tqdm) -> None:
    """Gives a finished episode to the recorder and the memory."""
    frames, actions, rewards, ends = map(np.stack, zip(*game))
    before = self._recorder.add_count
    self._recorder.append(frames, actions, rewards, not is_cut_off)
    endings = ends * (episodes.CUT_OFF if is_cut_off else 1)
    self._memory.append(frames, actions, np.clip(rewards, -1.0, 1.0), endings)
    after, size = self._recorder.add_count, self._rows_per_shard
    self._new_returns.append(float(rewards.sum()))
    bar.update(after - before)
    bar.set_postfix_str(f'last return {rewards.sum():.0f}', refresh=False)
    for shard in range((before + 1) // size, (after + 1) // size):
      self._report(shard)

  def _report(self, shard: int) -> None:
    """Adds a row to metrics.csv for a shard that was just filled."""
    scalars = self._agent.mean_scalars(reset=True)
    returns, self._new_returns = np.array(self._new_returns), []
    values = {
      'shard': shard,
      'rows': (shard + 1) * self._rows_per_shard - 1,
      'agent_steps': self._agent_steps,
      'gradient_steps': self._agent.gradient_steps,
      'episodes': len(returns),
      'return_mean': returns.mean() if len(returns) else math.nan,
      'return_std': returns.std() if len(returns) else math.nan,
      'epsilon': round(self.epsilon, 4),
      'wall_seconds': round(self.wall_seconds, 1),
      **scalars,
    }
    self._rows.append([values.get(name, '') for name in METRICS])
    played = ''
    if len(returns):
      games = progress.count(len(returns), 'game')
      played = f'mean return {returns.mean():.1f} over {games}, '
    progress.write(
      f'shard {shard}: {values["gradient_steps"]} gradient steps, {played}'
      f'epsilon {values["epsilon"]}'
    )
    self._write_records()

  def _write_records(self) -> None:
    write_csv(self.folder / 'metrics.csv', METRICS, self._rows)
    self._recorder.write_episodes()

  # --- Saving. ---

  @property
  def step(self) -> int:
    """Agent steps taken."""
    return self._agent_steps

  def place(self) -> str:
    """Where it is, in words."""
    return f'row {self._recorder.add_count}'

  def state(self) -> tuple[Arrays, dict[str, Any]]:
    """The agent's, the recorder's, and what was measured so far."""
    self._write_records()
    arrays, log = self._recorder.state()
    named = {f'{_RECORDER}{name}': array for name, array in arrays.items()}
    return named | self._agent.state(), {
      'log': log,
      'agent_steps': self._agent_steps,
      'rows': self._rows,
      'new_returns': self._new_returns,
    }

  def load_state(self, arrays: Arrays, data: dict[str, Any]) -> None:
    """Goes back to what `state` gave, and fills the memory from the files."""
    of_agent = {n: v for n, v in arrays.items() if not n.startswith(_RECORDER)}
    self._agent.load_state(of_agent)
    self._recorder.load_state(
      {n.removeprefix(_RECORDER): arrays[n] for n in arrays.keys() - of_agent},
      data['log'],
    )
    self._agent_steps = data['agent_steps']
    self._rows, self._new_returns = data['rows'], data['new_returns']
    for episode in self._recorder.newest_episodes(self._memory.capacity):
      self._memory.append(*episode)
