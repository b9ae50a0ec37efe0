"""Trains an agent on recorded play: iterations, evaluations, logs, checkpoints.

An iteration is `training_steps` gradient steps on the data, then an evaluation
of at least `evaluation_steps` agent steps. All of the run's state is in its
checkpoints, so a run killed at any moment goes on from the newest and ends with
the same weights as one that was never killed.
"""

import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm
from absl import logging
from dopamine.discrete_domains import iteration_statistics
from dopamine.discrete_domains import logger as dopamine_logger

from cql_atari.core import benchmarks, devices, gin_state, progress
from cql_atari.core.constraints import (
  NonNegative,
  NonNegativeInt,
  PositiveInt,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.core.files import tensorflow_errors_as_os_errors, writing
from cql_atari.core.protocols import Agent, Arrays, Data, Environments, Logger
from cql_atari.environments import evaluation
from cql_atari.environments.atari import AtariEnvironments
from cql_atari.runs.folder import RunFolder
from cql_atari.training import job
from cql_atari.training import loggers as loggers_lib

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
_STEPS_PER_REPORT = 50  # At first: reports are to come once a second or so.
_STEPS_PER_PRETRAINING_REPORT = 500
_KEPT_LOGS = 4  # Dopamine's default, given so that no config.gin binds it.


@configurable(denylist=['base_dir', 'data'])
class FixedReplayRunner(job.Job):
  """Trains an agent on data and evaluates it, iteration by iteration.

  It keeps Dopamine's log files and statistics, and its names of settings. The
  gin file names the agent: `create_agent_fn = @CQLAgent`. `Job` resumes runs.
  The folder's lock and records are `fit`'s: made by hand it has neither.

  Attributes:
    agent: what learns.
    environments: where evaluations are played.
  """

  agent: Agent
  environments: Environments

  def __init__(
    self,
    base_dir: str | pathlib.Path,
    data: Data,
    create_agent_fn: Callable[..., Agent],
    create_environment_fn: Callable[..., Environments] = AtariEnvironments,
    num_iterations: PositiveInt = 200,
    training_steps: PositiveInt = 62_500,
    evaluation_steps: NonNegativeInt = 125_000,
    max_steps_per_episode: PositiveInt = 27_000,
    checkpoint_minutes: NonNegative = 5.0,
    checkpoint_duration: PositiveInt = 4,
    loggers: Sequence[Callable[..., Logger]] = (),
    seed: NonNegativeInt = 0,
  ):
    """Builds the agent and restores the newest checkpoint, if there is one.

    Args:
      base_dir: the run's folder.
      data: what to learn from.
      create_agent_fn: makes the agent, called with (data, seed=...).
      create_environment_fn: makes the evaluation environments.
      num_iterations: iterations of the whole run.
      training_steps: gradient steps an iteration.
      evaluation_steps: least number of agent steps an evaluation; 0 for none.
      max_steps_per_episode: agent steps after which a game is cut off.
      checkpoint_minutes: minutes between checkpoints inside an iteration.
      checkpoint_duration: number of end-of-iteration checkpoints to keep, in
        addition to the newest two from within iterations.
      loggers: make further logs, called with (folder, record); see `loggers`.
      seed: seeds the weights, the batches, and the play of evaluations.

    Raises:
      UserError: the folder's checkpoints are of other data or settings, or the
        data of another game than is played.
    """
    super().__init__(
      pathlib.Path(base_dir),
      checkpoint_minutes,
      fixed_settings={'training_steps': training_steps, 'seed': seed},
      alternative='a new --base_dir',
      keep=checkpoint_duration,
      keep_every=training_steps,
    )
    _warn_of_another_limit(max_steps_per_episode)
    self._run_folder = RunFolder(self.folder)
    self._data, self._seed = data, seed
    self._num_iterations = num_iterations
    self._training_steps = training_steps
    self._evaluation_steps = evaluation_steps
    self._iteration, self._train_seconds = 0, 0.0
    self._loggers = loggers_lib.Loggers(loggers)
    self._begun_at = 0, 0.0  # Step and wall seconds of this session.
    self._rows: list[list[Any]] = []
    self.environments = create_environment_fn(
      max_steps_per_episode=max_steps_per_episode
    )
    benchmarks.load(self.environments.benchmark).check(data, self.environments)
    self._logger = dopamine_logger.Logger(
      str(self.folder / 'logs'), logs_duration=_KEPT_LOGS
    )
    self.agent = create_agent_fn(data, seed=seed)
    names = *METRICS, *self.agent.scalar_names, *self.agent.held_out_names
    self._columns = tuple(dict.fromkeys(names))
    self.resume()

  @property
  def record(self) -> dict[str, Any]:
    """The fields of run.json: all that a reader needs to know of the run."""
    manifest = self._data.manifest
    return {
      'benchmark': self.environments.benchmark,
      'agent': self.agent.label,
      'agent_class': type(self.agent).__name__,
      'has_values': self.agent.has_values,
      'data': self._data.label,
      'data_is_published': self._data.is_published,
      'seed': self._seed,
      **self.environments.record,
      **self._data.record,
      'game': manifest['game'],
      'dataset_run': manifest.get('run'),
      'split': manifest['split'],
      'behavior_return': manifest['behavior_return'],
      'discounted_return': self._data.discounted_return(self.agent.gamma),
      'manifest_digest': self._data.digest,
    }

  @property
  def is_finished(self) -> bool:
    """Whether all iterations are done."""
    return self._iteration >= self._num_iterations

  # --- Saving. ---

  @property
  def step(self) -> int:
    """Gradient steps taken."""
    return self.agent.gradient_steps

  def place(self) -> str:
    """Where it is, in words."""
    return f'gradient step {self.step}'

  def state(self) -> tuple[Arrays, dict[str, Any]]:
    """The agent's state, and what was measured so far."""
    return self.agent.state(), {
      'iteration': self._iteration,
      'columns': self._columns,
      'rows': self._rows,
      'logs': self._logger.data,
      'train_seconds': self._train_seconds,
      'manifest_digest': self._data.digest,
      'data_in_words': self._data_in_words,
      'agent_class': type(self.agent).__name__,
    }

  @property
  def _data_in_words(self) -> str:
    data = self._data
    return f'{data.manifest["game"]}, {data.label} (digest {data.digest[:7]})'

  def load_state(self, arrays: Arrays, data: dict[str, Any]) -> None:
    """Goes back to what `state` gave.

    Raises:
      UserError: it was trained on other data, or is another agent's.
    """
    if data['manifest_digest'] != self._data.digest:
      was = data.get('data_in_words', data['manifest_digest'][:7])
      raise UserError(
        f'the run in {self.folder} was trained on other data, {was}, not '
        f'{self._data_in_words}: give those it began with, or a new --base_dir.'
      )
    agent_class = type(self.agent).__name__
    if (was := data.get('agent_class', agent_class)) != agent_class:
      raise UserError(
        f'the run in {self.folder} trains another agent, {was}, not '
        f'{agent_class}: give the gin file it began with, or a new --base_dir.'
      )
    self.agent.load_state(arrays)
    self._iteration = data['iteration']
    columns = data.get('columns', self._columns)
    self._rows = [
      [dict(zip(columns, row)).get(name, '') for name in self._columns]
      for row in data['rows']
    ]
    self._logger.data = data['logs']
    self._train_seconds = data['train_seconds']
    logging.info('Resumed at gradient step %d.', self.step)

  # --- Running. ---

  def run_experiment(self) -> None:
    """Runs all iterations that remain.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; progress is saved.
      UserError: the loss is no longer finite, or the disk is full.
    """
    if self._rows:  # A kill may have come before they were written.
      self._run_folder.write_metrics(self._columns, self._rows)
    if self.is_finished:
      print(f'all {self._num_iterations} iterations are done already.')
      return
    loggers = self._loggers.opened(self._run_folder)
    with self.working(), loggers, devices.asynchronous():
      with writing(self.folder), tensorflow_errors_as_os_errors():
        self._summaries = tf.summary.create_file_writer(str(self.folder))
      self._pretrain()
      self._begun_at = self.step, self.wall_seconds
      while not self.is_finished:
        statistics = iteration_statistics.IterationStatistics()
        self._train(statistics)
        episodes = self._evaluate(statistics)
        self._report(episodes, statistics)
        self._iteration += 1
        self.save()
        self._run_folder.write_metrics(self._columns, self._rows)

  def _pretrain(self) -> None:
    """Learns what the agent needs before its first gradient step."""
    if not (left := self.agent.pretraining_left):
      return
    with progress.bar(left, ' steps', 'learning before') as bar:
      while left:
        with self.timed():
          self.agent.pretrain_steps(_STEPS_PER_PRETRAINING_REPORT)
          before, left = left, self.agent.pretraining_left  # Waits for them.
        bar.update(before - left)
        self.pause()
    self.save()

  def _train(self, statistics) -> None:
    """Takes the gradient steps that the iteration still lacks."""
    end = (self._iteration + 1) * self._training_steps
    first = step = self.step
    if step == end - self._training_steps:
      self._train_seconds = 0.0
    done = self._training_steps - (end - first)
    steps_per_call = _STEPS_PER_REPORT
    with self._bar(self._training_steps, 'training', done) as bar:
      while step < end:
        count, clock = min(steps_per_call, end - step), time.monotonic()
        with self.timed():
          self.agent.train_steps(count)
          loss = self.agent.finite_loss()  # Waits for the steps.
        seconds = time.monotonic() - clock
        self._train_seconds += seconds
        step += count
        steps_per_call *= 2 if seconds < 0.5 else 1
        self._update_bar(bar, loss, step, count)
        self.pause()
    speed = self._training_steps / self._train_seconds
    statistics.append({'train_average_steps_per_second': speed})
    if first < end and self._evaluation_steps:
      self.save()  # An evaluation may take long.

  def _update_bar(
    self, bar: tqdm.tqdm, loss: float, step: int, count: int
  ) -> None:
    """Shows the loss, the last evaluation, and the time left for the run."""
    last = [row[METRICS.index('eval_return_mean')] for row in self._rows[-1:]]
    told = [f', last return {r:.1f}' for r in last if math.isfinite(r)]
    text = f'loss {loss:.4f}' + ''.join(told)
    steps, seconds = step - self._begun_at[0], self.wall_seconds
    if self._num_iterations > 1:
      left = self._num_iterations * self._training_steps - step
      left *= (seconds - self._begun_at[1]) / steps
      text += f', the run {tqdm.tqdm.format_interval(left)}'
    bar.set_postfix_str(text, refresh=False)
    bar.update(count)

  def _evaluate(self, statistics) -> evaluation.Episodes:
    """Evaluates the agent by the protocol of `evaluation`."""
    if not self._evaluation_steps:
      return evaluation.Episodes(np.zeros(0), np.zeros(0, np.int64))
    seeds = np.random.SeedSequence([self._seed, self._iteration])
    with self.timed(), self._bar(self._evaluation_steps, 'evaluating') as bar:

      def on_step(steps: int, last_return: float) -> None:
        if math.isfinite(last_return):
          bar.set_postfix_str(f'last return {last_return:.0f}', refresh=False)
        bar.update(steps)
        self.pause(save=False)  # What was learned is saved.

      episodes = evaluation.play(
        self.environments,
        self.agent.select_actions,
        self._evaluation_steps,
        seed=int(seeds.generate_state(1)[0]),
        on_step=on_step,
      )
    statistics.data_lists['eval_episode_lengths'] = episodes.lengths.tolist()
    statistics.data_lists['eval_episode_returns'] = episodes.returns.tolist()
    statistics.append({'eval_average_return': _mean(episodes.returns)})
    return episodes

  # --- Reporting. ---

  def _bar(self, total: int, phase: str, initial: int = 0) -> tqdm.tqdm:
    title = f'iteration {self._iteration} of {self._num_iterations}, {phase}'
    return progress.bar(total, ' steps', title, initial)

  def _report(self, episodes: evaluation.Episodes, statistics) -> None:
    """Prints and logs what an iteration came to."""
    scalars = self.agent.mean_scalars(reset=True)
    scalars |= self.agent.held_out_scalars()
    speeds = statistics.data_lists['train_average_steps_per_second']
    values = {
      'iteration': self._iteration,
      'gradient_steps': self.step,
      'eval_return_mean': _mean(episodes.returns),
      'eval_return_std': _mean(episodes.returns, np.std),
      'eval_episodes': len(episodes.returns),
      'steps_per_second': speeds[0],
      'wall_seconds': round(self.wall_seconds, 1),
      **scalars,
    }
    self._rows.append([values.get(name, '') for name in self._columns])
    evaluated = (
      f'evaluation return {values["eval_return_mean"]:.1f} over '
      f'{progress.count(values["eval_episodes"], "game")}, '
    )
    progress.write(
      f'iteration {self._iteration}: {self.step} gradient steps, '
      f'{evaluated if len(episodes.returns) else ""}'
      f'loss {values["loss"]:.4f}, {values["steps_per_second"]:.1f} steps/s'
    )
    statistics.append(scalars)
    self._logger[f'iteration_{self._iteration}'] = statistics.data_lists
    with writing(self.folder), tensorflow_errors_as_os_errors():
      self._logger.log_to_file('log', self._iteration)
      self._write_summaries(values, scalars)
    self._loggers.log(self.step, values)

  def _write_summaries(
    self, values: dict[str, Any], scalars: dict[str, float]
  ) -> None:
    """TensorBoard's events, under Dopamine's names."""
    with self._summaries.as_default(step=self.step):
      for name in scalars:
        tf.summary.scalar(f'Train/{name}', values[name])
      tf.summary.scalar('Train/StepsPerSecond', values['steps_per_second'])
      tf.summary.scalar('Eval/AverageReturns', values['eval_return_mean'])
      tf.summary.scalar('Eval/NumEpisodes', values['eval_episodes'])
    self._summaries.flush()


def _warn_of_another_limit(max_steps_per_episode: int) -> None:
  name = 'AtariEnvironments.max_steps_per_episode'
  if gin_state.value(name, max_steps_per_episode) != max_steps_per_episode:
    logging.warning(
      '%s is of other commands: games of evaluations are cut off by '
      'FixedReplayRunner.max_steps_per_episode, which is %d.',
      name,
      max_steps_per_episode,
    )


def _mean(values: np.ndarray, of: Callable = np.mean) -> float:
  return float(of(values)) if len(values) else math.nan
