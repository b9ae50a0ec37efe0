"""FixedReplayRunner: Dopamine's Runner for agents that learn from a replay.

An iteration is `training_steps` gradient steps on the store, then an
evaluation of at least `evaluation_steps` agent steps. All of the run's state
is in its checkpoints, so a run killed at any moment goes on from the newest
and ends with the same weights as one that was never killed.
"""

import contextlib
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable

import gin
import numpy as np
import tensorflow as tf
import tqdm
from absl import logging
from dopamine.discrete_domains import (
  iteration_statistics,
  run_experiment,
)
from dopamine.discrete_domains import logger as dopamine_logger

from cql_atari.agents import fixed_replay_agent
from cql_atari.core.errors import UserError, check_number
from cql_atari.core.files import through_tensorflow, write_csv, writing
from cql_atari.environments import evaluation
from cql_atari.environments.atari import AtariEnvironments
from cql_atari.replay import store as store_lib
from cql_atari.runs import checkpoints
from cql_atari.training import signals

METRICS = (
  'iteration',
  'gradient_steps',
  'eval_return_mean',
  'eval_return_std',
  'eval_episodes',
  'loss',
  'td_loss',
  'cql_penalty',
  'q_data',
  'q_max',
  'steps_per_second',
  'wall_seconds',
  'gradient_norm',
  'q_random',
  'alpha',
  'accuracy',
)
_STEPS_PER_REPORT = 50


@gin.configurable(denylist=['base_dir', 'store'])
class FixedReplayRunner(run_experiment.Runner):
  """Trains an agent on a store and evaluates it, iteration by iteration."""

  def __init__(
    self,
    base_dir: str,
    store: store_lib.Store,
    create_agent_fn: Callable[..., fixed_replay_agent.FixedReplayAgent],
    create_environment_fn: Callable[..., AtariEnvironments] = AtariEnvironments,
    num_iterations: int = 200,
    training_steps: int = 62_500,
    evaluation_steps: int = 125_000,
    max_steps_per_episode: int = 27_000,
    checkpoint_minutes: float = 5.0,
    checkpoint_duration: int = 4,
    seed: int = 0,
  ):
    """Builds the agent and restores the newest checkpoint, if there is one.

    Args:
      base_dir: the run's folder.
      store: the replay to learn from.
      create_agent_fn: makes the agent, called with (num_actions, store,
        summary_writer, seed).
      create_environment_fn: makes the evaluation environments.
      num_iterations: iterations of the whole run.
      training_steps: gradient steps an iteration.
      evaluation_steps: least number of agent steps an evaluation; 0 for none.
      max_steps_per_episode: agent steps after which a game is cut off.
      checkpoint_minutes: minutes between checkpoints inside an iteration.
      checkpoint_duration: how many checkpoints of ends of iterations to keep;
        the newest two from between are kept besides.
      seed: of everything random in the run.
    """
    for name, value, least in (
      ('num_iterations', num_iterations, 1),
      ('training_steps', training_steps, 1),
      ('evaluation_steps', evaluation_steps, 0),
      ('max_steps_per_episode', max_steps_per_episode, 1),
      ('checkpoint_duration', checkpoint_duration, 1),
      ('seed', seed, 0),
    ):
      check_number(f'FixedReplayRunner.{name}', value, least, whole=True)
    check_number('FixedReplayRunner.checkpoint_minutes', checkpoint_minutes, 0)
    of_environments = 'AtariEnvironments.max_steps_per_episode'
    with contextlib.suppress(ValueError):  # Not bound.
      if gin.query_parameter(of_environments) != max_steps_per_episode:
        logging.warning(
          '%s is of other commands: games of evaluations are cut off by '
          'FixedReplayRunner.max_steps_per_episode, which is %d.',
          of_environments,
          max_steps_per_episode,
        )
    self._store = store
    # What a resumed run has to share with the one that began it.
    self._fixed = {'training_steps': training_steps, 'seed': seed}
    self._seed = seed
    self._checkpoint_seconds = 60 * checkpoint_minutes
    self._checkpoint_duration = checkpoint_duration
    self._stop_signal = signals.StopSignal()
    self._rows = []
    self._wall_seconds = self._train_seconds = 0.0

    def create_agent(sess, environment, summary_writer):
      del sess, environment
      return create_agent_fn(
        store.action_size,
        store,
        summary_writer=summary_writer,
        seed=seed,
      )

    super().__init__(
      str(base_dir),
      create_agent,
      functools.partial(
        create_environment_fn, max_steps_per_episode=max_steps_per_episode
      ),
      num_iterations=num_iterations,
      training_steps=training_steps,
      evaluation_steps=evaluation_steps,
      max_steps_per_episode=max_steps_per_episode,
    )

  @property
  def _columns(self) -> tuple[str, ...]:
    """Of metrics.csv: METRICS, then what else the agent tells of."""
    return tuple(dict.fromkeys((*METRICS, *self._agent.scalar_names)))

  @property
  def record(self) -> dict:
    """The agent's name and the seed, for run.json."""
    return {'agent': type(self._agent).__name__, 'seed': self._seed}

  @property
  def gamma(self) -> float:
    """Discount per agent step."""
    return self._agent.gamma

  @property
  def environments(self) -> AtariEnvironments:
    """Where evaluations are played."""
    return self._environment

  @property
  def is_finished(self) -> bool:
    """Whether all iterations are done."""
    return self._start_iteration >= self._num_iterations

  # --- Resuming. ---

  def _create_directories(self) -> None:
    self._checkpoint_dir = os.path.join(self._base_dir, 'checkpoints')
    self._logger = dopamine_logger.Logger(os.path.join(self._base_dir, 'logs'))

  def _initialize_checkpointer_and_maybe_resume(
    self, checkpoint_file_prefix: str
  ) -> None:
    """Restores the newest whole checkpoint; otherwise starts at step 0."""
    del checkpoint_file_prefix
    self._start_iteration = 0
    newest = checkpoints.load_newest(self._checkpoint_dir)
    if newest is None:
      return
    step, arrays, data = newest
    if data['manifest_digest'] != self._store.digest:
      raise UserError(
        f'the run in {self._base_dir} was trained on other data: give the '
        'split it began with, or a new --base_dir.'
      )
    checkpoints.check_same(
      self._base_dir, data, self._fixed, 'a new --base_dir'
    )
    self._agent.unbundle(self._checkpoint_dir, step, arrays)
    self._start_iteration = data['iteration']
    self._rows, self._logger.data = data['rows'], data['logs']
    self._wall_seconds = data['wall_seconds']
    self._train_seconds = data['train_seconds']
    logging.info('Resumed at gradient step %d.', step)

  def _checkpoint_experiment(self, iteration: int) -> None:
    """Saves everything; `iteration` is the one that goes on after a resume."""
    step = self._agent.gradient_steps
    arrays = self._agent.bundle_and_checkpoint(self._checkpoint_dir, step)
    data = {
      'iteration': iteration,
      'rows': self._rows,
      'logs': self._logger.data,
      'wall_seconds': self._wall_seconds,
      'train_seconds': self._train_seconds,
      'manifest_digest': self._store.digest,
      **self._fixed,
    }
    with writing(
      f'the checkpoint in {self._checkpoint_dir}',
      'make room and give the same command again; older checkpoints are safe',
    ):
      checkpoints.save(
        self._checkpoint_dir,
        step,
        arrays,
        data,
        self._checkpoint_duration,
        every=self._training_steps,
      )

  # --- Running. ---

  def run_experiment(self) -> None:
    """Runs all iterations that remain.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; progress is saved.
      UserError: the loss is no longer finite, or the disk is full.
    """
    if self._rows:
      self._write_metrics()  # A kill may have come before it was written.
    if self.is_finished:
      print(f'all {self._num_iterations} iterations are done already.')
      return
    # Python queues the next step while this one computes; reading waits.
    tf.config.experimental.set_synchronous_execution(False)
    with self._stop_signal.watch():
      for iteration in range(self._start_iteration, self._num_iterations):
        statistics = self._run_one_iteration(iteration)
        with writing(self._base_dir), through_tensorflow():
          self._log_experiment(iteration, statistics)
          if self._summary_writer is not None:
            self._summary_writer.flush()
        self._checkpoint_experiment(iteration + 1)
        self._write_metrics()

  def _run_one_iteration(self, iteration: int) -> dict[str, list[float]]:
    """Trains, evaluates and records; returns Dopamine's statistics."""
    statistics = iteration_statistics.IterationStatistics()
    self._iteration = iteration
    self._run_train_phase(statistics)
    episodes = self._run_eval_phase(statistics)
    scalars = self._agent.mean_scalars(reset=True)
    values = {
      'iteration': iteration,
      'gradient_steps': self._agent.gradient_steps,
      'eval_return_mean': _mean(episodes.returns),
      'eval_return_std': float(np.std(episodes.returns))
      if len(episodes.returns)
      else math.nan,
      'eval_episodes': len(episodes.returns),
      'steps_per_second': statistics.data_lists[
        'train_average_steps_per_second'
      ][0],
      'wall_seconds': round(self._wall_seconds, 1),
      **scalars,
    }
    self._rows.append([values.get(name, '') for name in self._columns])
    statistics.append(scalars)
    self._write_summaries(scalars)
    evaluated = (
      f'evaluation return {values["eval_return_mean"]:.1f} over '
      f'{values["eval_episodes"]} games, '
    )
    tqdm.tqdm.write(
      f'iteration {iteration}: {values["gradient_steps"]} gradient steps, '
      f'{evaluated if len(episodes.returns) else ""}'
      f'loss {values["loss"]:.4f}, {values["steps_per_second"]:.1f} steps/s'
    )
    return statistics.data_lists

  def _run_train_phase(self, statistics) -> None:
    """Takes the gradient steps that the iteration still lacks."""
    agent, target = self._agent, (self._iteration + 1) * self._training_steps
    agent.eval_mode = False
    step = first = agent.gradient_steps
    if step == target - self._training_steps:
      self._train_seconds = 0.0
    checkpointed = clock = time.monotonic()
    with self._progress(self._training_steps, 'training') as bar:
      bar.update(self._training_steps - (target - first))
      while step < target:
        count = min(_STEPS_PER_REPORT, target - step)
        agent.train_steps(count)
        step += count
        self._report_progress(bar, step)
        clock, seconds = time.monotonic(), time.monotonic() - clock
        self._wall_seconds += seconds
        self._train_seconds += seconds
        if self._stop_signal:
          self._stop(step)
        if clock - checkpointed > self._checkpoint_seconds:
          self._checkpoint_experiment(self._iteration)
          checkpointed = time.monotonic()
    speed = self._training_steps / self._train_seconds
    statistics.append({'train_average_steps_per_second': speed})
    if first < target:
      self._checkpoint_experiment(self._iteration)

  def _run_eval_phase(self, statistics) -> evaluation.Episodes:
    """Evaluates the agent by the protocol of `evaluation`."""
    self._agent.eval_mode = True
    if not self._evaluation_steps:
      return evaluation.Episodes(np.zeros(0), np.zeros(0, np.int64))
    began = time.monotonic()
    with self._progress(self._evaluation_steps, 'evaluating') as bar:

      def on_step(steps: int, last_return: float) -> None:
        if math.isfinite(last_return):
          bar.set_postfix_str(f'last return {last_return:.0f}', refresh=False)
        bar.update(steps)
        if self._stop_signal:
          self._stop(self._agent.gradient_steps, saved=True)

      episodes = evaluation.evaluate(
        self._environment,
        self._agent.select_actions,
        self._evaluation_steps,
        seed=int(
          np.random.SeedSequence([self._seed, self._iteration]).generate_state(
            1
          )[0]
        ),
        on_step=on_step,
      )
    self._wall_seconds += time.monotonic() - began
    statistics.data_lists['eval_episode_lengths'] = episodes.lengths.tolist()
    statistics.data_lists['eval_episode_returns'] = episodes.returns.tolist()
    statistics.append({'eval_average_return': _mean(episodes.returns)})
    return episodes

  # --- Stopping. ---

  def _stop(self, step: int, saved: bool = False) -> None:
    if not saved:
      self._checkpoint_experiment(self._iteration)
    self._stop_signal.stop(f'gradient step {step}')

  # --- Reporting. ---

  def _progress(self, total: int, phase: str) -> tqdm.tqdm:
    return tqdm.tqdm(
      total=total,
      unit=' steps',
      desc=f'iteration {self._iteration} {phase}',
      leave=False,
      disable=None,
      dynamic_ncols=True,
    )

  def _report_progress(self, bar: tqdm.tqdm, step: int) -> None:
    loss = self._agent.mean_scalars()['loss']
    if not math.isfinite(loss):
      raise UserError(
        f'the loss is {loss} by gradient step {step}: lower the learning rate '
        'or alpha (or raise target_gap) and start in a new --base_dir.'
      )
    last = [row[METRICS.index('eval_return_mean')] for row in self._rows[-1:]]
    text = f'loss {loss:.4f}' + ''.join(f', last return {r:.1f}' for r in last)
    bar.set_postfix_str(text, refresh=False)
    bar.update(step - (self._iteration * self._training_steps) - bar.n)

  def _write_summaries(self, scalars: dict[str, float]) -> None:
    if self._summary_writer is None:
      return
    row = dict(zip(self._columns, self._rows[-1]))
    with self._summary_writer.as_default(step=row['gradient_steps']):
      for name, value in scalars.items():
        tf.summary.scalar(f'Train/{name}', value)
      tf.summary.scalar('Train/StepsPerSecond', row['steps_per_second'])
      tf.summary.scalar('Eval/AverageReturns', row['eval_return_mean'])
      tf.summary.scalar('Eval/NumEpisodes', row['eval_episodes'])

  def _write_metrics(self) -> None:
    """Rewrites metrics.csv whole, so that a resume leaves no row twice."""
    path = pathlib.Path(self._base_dir) / 'metrics.csv'
    with writing(path):
      write_csv(path, self._columns, self._rows)


def _mean(values: np.ndarray) -> float:
  return float(np.mean(values)) if len(values) else math.nan
