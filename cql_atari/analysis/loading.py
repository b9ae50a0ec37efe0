"""Runs as their folders record them: settings, data and metrics."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from cql_atari.core import benchmarks
from cql_atari.core.errors import UserError
from cql_atari.core.protocols import Benchmark
from cql_atari.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class LoadedRun:
  """One run.

  Attributes:
    directory: its folder.
    benchmark: what it was trained on.
    record: the fields of run.json.
    metrics: columns of metrics.csv as float64 (iterations,), NaN where empty.
      Evaluation returns are the benchmark's scores.
  """

  directory: pathlib.Path
  benchmark: Benchmark
  record: dict[str, Any]
  metrics: dict[str, np.ndarray]

  @property
  def agent(self) -> str:
    """Such as 'CQL', or 'CQL(H)' on D4RL."""
    return self.record['agent']

  @property
  def game(self) -> str:
    """Such as 'Pong', or D4RL's domain, such as 'hopper'."""
    return self.record['game']

  @property
  def data(self) -> str:
    """The data's label, such as '1 %' or 'medium-v2'."""
    return self.record['data']

  @property
  def digest(self) -> str:
    """SHA-256 of the data and of what was done to them."""
    return self.record.get('manifest_digest', '')

  @property
  def seed(self) -> int:
    """The run's seed."""
    return self.record['seed']

  @functools.cached_property
  def settings(self) -> dict[str, str]:
    """Its settings as texts, a number in one way of writing it.

    What is None is as if it were not there: it may be a setting that this
    version has, and the one that wrote another run did not have yet.
    """
    settings = dict(self.record['settings'])
    settings['dataset_run'] = self.record['dataset_run']
    return {
      name: _plain(value)
      for name, value in settings.items()
      if value is not None
    }

  @property
  def data_asked_for(self) -> tuple:
    """The game, and the settings that say which part of its data it is, and
    what was done to it: the same data in all runs, unless digests differ."""
    owners = ('dataset_run', 'Split', 'open_store', 'open_task_data')
    settings = frozenset(
      item for item in self.settings.items() if item[0].split('.')[0] in owners
    )
    return self.game, self.data, settings

  @property
  def last_evaluation(self) -> float:
    """Gradient steps when it was last evaluated."""
    evaluated = ~np.isnan(self.metrics['eval_return_mean'])
    return self.metrics['gradient_steps'][evaluated][-1]

  @property
  def behavior_return(self) -> float | None:
    """The mean score of the data's games, where it is known."""
    behavior = self.record['behavior_return']
    return behavior and self.benchmark.score(self.record, behavior['mean'])

  @property
  def behavior_return_is_clipped(self) -> bool:
    """Whether that is of clipped rewards, so that no score compares."""
    behavior = self.record['behavior_return']
    return bool(behavior and behavior['is_clipped'])

  def metric(self, name: str) -> np.ndarray:
    """A column, (iterations,); NaN where the run lacks it.

    Args:
      name: a column, or 'gap_policy', 'gap_random' or 'gap_uniform': Q of
        data actions minus that of the policy's, of random ones (the mean), or
        of the best of ten uniform ones (appendix B, on D4RL).
    """
    if name == 'gap_policy':
      return self.metric('q_data') - self.metric(self.benchmark.policy_metric)
    if name in ('gap_random', 'gap_uniform'):
      return self.metric('q_data') - self.metric(name.replace('gap', 'q'))
    unknown = np.full_like(self.metrics['gradient_steps'], np.nan)
    return self.metrics.get(name, unknown)


def load_runs(
  folders: Sequence[RunFolder], need_evaluation: bool = True
) -> list[LoadedRun]:
  """Reads run folders.

  Args:
    folders: from `runs.folder.find` or `below`. Runs without a finished
      iteration are left out, with a warning.
    need_evaluation: whether those that were never evaluated are left out too.

  Raises:
    UserError: a damaged folder, or no run is left.
  """
  kept = []
  for folder in folders:
    run = _load_run(folder)
    if not len(run.metrics['gradient_steps']):
      logging.warning(
        '%s has no finished iteration yet: left out.', folder.path
      )
    elif need_evaluation and np.isnan(run.metrics['eval_return_mean']).all():
      logging.warning(
        '%s was never evaluated (evaluation_steps=0): it is left out.',
        folder.path,
      )
    else:
      kept.append(run)
  if not kept:
    what = 'an evaluated' if need_evaluation else 'a finished'
    raise UserError(
      f'no run with {what} iteration was found: a run folder holds run.json '
      'and metrics.csv.'
    )
  return kept


def _load_run(folder: RunFolder) -> LoadedRun:
  record = folder.record
  benchmark = benchmarks.load(record['benchmark'])
  empty = {name: np.zeros(0) for name in ('gradient_steps', 'eval_return_mean')}
  metrics = {**empty, **folder.metrics()}
  metrics['eval_return_mean'] = benchmark.score(
    record, metrics['eval_return_mean']
  )
  return LoadedRun(folder.path, benchmark, record, metrics)


def _plain(value: Any) -> str:
  """A setting as a text: 4 and 4.0 are the same."""
  if isinstance(value, list):
    return f'[{", ".join(map(_plain, value))}]'
  if isinstance(value, float):
    return f'{value!r}'.removesuffix('.0')
  return str(value)
