"""Collector: an online agent that logs its replay in the published format."""

import json
import math
import pathlib
import time
from collections.abc import Callable

import gin
import numpy as np
import tensorflow as tf
import tqdm

from cql_atari.agents import fixed_replay_agent
from cql_atari.core.errors import UserError, check_number
from cql_atari.core.files import write_csv, write_text, writing
from cql_atari.environments.atari import AtariEnvironments
from cql_atari.replay import memory, recorder
from cql_atari.runs import checkpoints
from cql_atari.training import signals

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


@gin.configurable
class Collector:
  """Plays games side by side, learns from them and logs every transition.

  An episode is logged when it ends. All else of the state is in checkpoints;
  games that were under way when the process ended are played anew.
  """

  def __init__(
    self,
    run_dir: pathlib.Path,
    rows: int,
    num_actions: int,
    create_agent_fn: Callable[..., fixed_replay_agent.FixedReplayAgent],
    create_environment_fn: Callable[..., AtariEnvironments] = AtariEnvironments,
    num_shards: int = 50,
    replay_capacity: int = 1_000_000,
    min_replay_history: int = 20_000,
    update_period: int = 4,
    epsilon_train: float = 0.01,
    epsilon_decay_period: int = 250_000,
    checkpoint_minutes: float = 5.0,
    seed: int = 0,
  ):
    """Builds the agent and goes back to the newest checkpoint, if any.

    Args:
      run_dir: gets `replay_logs/`, `metrics.csv` and `episodes.json`.
      rows: rows to log, padding included; a multiple of num_shards.
      num_actions: of the game.
      create_agent_fn: makes the agent that learns and plays.
      create_environment_fn: makes the games.
      num_shards: shards that the rows fill.
      replay_capacity: rows that the agent learns from, the newest, in memory.
      min_replay_history: rows in memory before it learns.
      update_period: agent steps for a gradient step.
      epsilon_train: probability of a random action in the end,
      epsilon_decay_period: reached linearly, from 1 at min_replay_history,
        after so many agent steps.
      checkpoint_minutes: minutes between checkpoints.
      seed: of everything random.
    """
    for name, value, least in (
      ('num_shards', num_shards, 1),
      ('min_replay_history', min_replay_history, 1000),
      ('update_period', update_period, 1),
      ('epsilon_decay_period', epsilon_decay_period, 1),
      ('seed', seed, 0),
    ):
      check_number(f'Collector.{name}', value, least, whole=True)
    check_number('Collector.epsilon_train', epsilon_train, 0, most=1)
    check_number('Collector.checkpoint_minutes', checkpoint_minutes, 0)
    if rows % num_shards or rows < 100 * num_shards:
      raise UserError(
        f'--steps={rows} do not fill {num_shards} shards: give a multiple of '
        f'{num_shards}, and at least {100 * num_shards}.'
      )
    self._dir, self._seed = pathlib.Path(run_dir), seed
    self._min_replay_history = min_replay_history
    self._update_period = update_period
    self._epsilon_train = epsilon_train
    self._epsilon_decay_period = epsilon_decay_period
    self._checkpoint_seconds = 60 * checkpoint_minutes
    self._rows_per_shard = rows // num_shards
    self._memory = memory.ReplayMemory(replay_capacity)
    if min_replay_history > replay_capacity:
      raise UserError(
        f'Collector.min_replay_history {min_replay_history} is more than '
        f'replay_capacity {replay_capacity} holds: lower it.'
      )
    self._agent = create_agent_fn(
      num_actions,
      self._memory,
      seed=seed,
      sampler=memory.OnlineSampler,
      summary_writer=None,
    )
    self._environment = create_environment_fn()
    self._recorder = recorder.Recorder(
      self._dir / 'replay_logs', self._rows_per_shard, num_shards
    )
    self._rows, self._episodes = [], []
    self._agent_steps, self._wall_seconds = 0, 0.0
    self._new_returns = []
    self._stop_signal = signals.StopSignal()
    self._resume()

  @property
  def rom(self) -> pathlib.Path:
    """The ROM that is played."""
    return self._environment.rom

  @property
  def is_finished(self) -> bool:
    """Whether all rows are logged."""
    return self._recorder.is_full

  @property
  def epsilon(self) -> float:
    """Probability of a random action now."""
    decayed = self._agent_steps - self._min_replay_history
    share = min(max(decayed / self._epsilon_decay_period, 0.0), 1.0)
    return 1.0 - share * (1.0 - self._epsilon_train)

  def run(self) -> None:
    """Plays, learns and logs until all rows are there.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; progress is saved.
      UserError: the disk is full.
    """
    if self.is_finished:
      print(f'all {self._recorder.total_rows} rows are logged already.')
      return
    tf.config.experimental.set_synchronous_execution(False)
    bar = tqdm.tqdm(
      total=self._recorder.total_rows,
      initial=self._recorder.add_count,
      unit=' rows',
      disable=None,
      dynamic_ncols=True,
    )
    with writing(self._dir), bar, self._stop_signal.watch():
      self._play(bar)

  def _play(self, bar: tqdm.tqdm) -> None:
    environment, count = self._environment, self._environment.num_environments
    # Every part of a run plays other games.
    seeds = np.random.SeedSequence([self._seed, self._agent_steps])
    rng = np.random.default_rng(seeds)
    states = environment.reset(int(seeds.generate_state(1)[0]))
    # Of each game under way: (frame, action, raw reward, over) of its steps.
    games = [[] for _ in range(count)]
    self._save()  # So that what is logged from here on can be gone back to.
    owed, saved = 0.0, time.monotonic()
    while not self._recorder.is_full:
      began = time.monotonic()
      actions = self._agent.select_actions(states, rng, self.epsilon)
      frames = np.ascontiguousarray(states[..., -1])
      states, rewards, over = environment.step(actions)
      self._agent_steps += count
      for game, *row in zip(games, frames, actions, rewards, over):
        game.append(row)
      for index in np.flatnonzero(over):
        self._log(games[index], bar)
        games[index] = []
      if len(self._memory) >= self._min_replay_history:
        owed += count / self._update_period
        while owed >= 1.0:
          self._agent.train_step()
          owed -= 1.0
      self._wall_seconds += time.monotonic() - began
      if self._stop_signal:
        self._save()
        self._stop_signal.stop(f'row {self._recorder.add_count}')
      if time.monotonic() - saved > self._checkpoint_seconds:
        self._save()
        saved = time.monotonic()
    self._save()

  def _log(self, game: list[tuple], bar: tqdm.tqdm) -> None:
    """Gives a finished episode to the recorder and the memory."""
    frames, actions, rewards, terminals = map(np.stack, zip(*game))
    episode = frames, actions, np.clip(rewards, -1.0, 1.0), terminals
    before = self._recorder.add_count
    self._recorder.append(*episode)
    self._memory.append(*episode)
    after, size = self._recorder.add_count, self._rows_per_shard
    length = recorder.PADDING_ROWS + len(frames)
    self._episodes.append(
      {
        'return': float(rewards.sum()),
        'length': len(frames),
        'first_shard': before // size,
        'complete': after - before == length,
      }
    )
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
      'wall_seconds': round(self._wall_seconds, 1),
      **scalars,
    }
    self._rows.append([values.get(name, '') for name in METRICS])
    tqdm.tqdm.write(
      f'shard {values["shard"]}: {values["gradient_steps"]} gradient steps, '
      f'mean return {values["return_mean"]:.1f} over {len(returns)} games, '
      f'epsilon {values["epsilon"]}'
    )
    self._write_records()

  def _write_records(self) -> None:
    write_csv(self._dir / 'metrics.csv', METRICS, self._rows)
    episodes = json.dumps({'episodes': self._episodes})
    write_text(self._dir / 'episodes.json', episodes)

  # --- Saving. ---

  def _save(self) -> None:
    self._write_records()
    arrays, log = self._recorder.bundle()
    step = self._agent.gradient_steps
    agent = self._agent.bundle_and_checkpoint('', step)
    checkpoints.save(
      self._dir / 'checkpoints',
      self._agent_steps,
      {f'recorder.{name}': array for name, array in arrays.items()} | agent,
      {
        'log': log,
        'seed': self._seed,
        'rows': self._rows,
        'episodes': self._episodes,
        'new_returns': self._new_returns,
        'wall_seconds': self._wall_seconds,
      },
      keep=1,
    )

  def _resume(self) -> None:
    newest = checkpoints.load_newest(self._dir / 'checkpoints')
    if newest is None:
      return
    self._agent_steps, arrays, data = newest
    _, log = self._recorder.bundle()
    began, now = (
      {
        'Collector.num_shards': sizes['num_shards'],
        '--steps': sizes['rows_per_shard'] * sizes['num_shards'],
      }
      for sizes in (data['log'], log)
    )
    checkpoints.check_same(self._dir, began, now, 'another --run')
    checkpoints.check_same(
      self._dir, data, {'seed': self._seed}, 'another --run'
    )
    mine = {n: v for n, v in arrays.items() if n.startswith('recorder.')}
    agent = {n: v for n, v in arrays.items() if n not in mine}
    self._agent.unbundle(str(self._dir / 'checkpoints'), 0, agent)
    self._recorder.unbundle(
      {name.removeprefix('recorder.'): v for name, v in mine.items()},
      data['log'],
    )
    self._rows, self._episodes = data['rows'], data['episodes']
    self._new_returns = data['new_returns']
    self._wall_seconds = data['wall_seconds']
    for episode in self._recorder.newest_episodes(self._memory.capacity):
      self._memory.append(*episode)
