"""Runs as their folders record them: settings, data and metrics."""

import csv
import dataclasses
import glob
import json
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from absl import logging

from cql_atari.continuous import tasks
from cql_atari.core.errors import UserError

_QUOTES = '\'"'


@dataclasses.dataclass(frozen=True)
class Run:
  """One run folder.

  Attributes:
    directory: the folder.
    agent: such as 'CQL', or 'CQL(H)' on D4RL.
    game: such as 'Pong', or D4RL's domain, such as 'hopper'.
    seed: the run's seed.
    settings: the run's configuration, less what says nothing about the method
      (see _IGNORED).
    data: the share of the dataset it learned from, such as '1 %', or D4RL's
      kind of data, such as 'medium'.
    behavior_return: {'mean', 'episodes', 'source'} of the data, or None.
    discounted_return: mean discounted return that followed the data's actions
      in the data, clipped rewards; None where it isn't known.
    metrics: columns of metrics.csv as float64 (iterations,), NaN where empty.
      Evaluation returns on D4RL are its normalized scores, as is
      behavior_return.
    task: D4RL's, or None.
  """

  directory: pathlib.Path
  agent: str
  game: str
  seed: int
  settings: dict[str, str]
  data: str
  behavior_return: dict | None
  discounted_return: float | None
  metrics: dict[str, np.ndarray]
  task: tasks.Task | None = None

  def metric(self, name: str) -> np.ndarray:
    """A column, (iterations,); NaN where the run hasn't got it.

    Args:
      name: of the column, or 'gap_policy' or 'gap_random': Q of data actions
        less that of the policy's, or of random ones.
    """
    unknown = np.full_like(self.metrics['gradient_steps'], np.nan)
    if name.startswith('gap_'):
      kind = name.removeprefix('gap_')
      if kind == 'policy' and self.task is None:
        kind = 'max'  # On Atari the policy takes the best action.
      return self.metric('q_data') - self.metric(f'q_{kind}')
    return self.metrics.get(name, unknown)


def load_runs(
  patterns: Sequence[str], need_evaluation: bool = True
) -> list[Run]:
  """Reads the run folders that glob patterns name.

  Args:
    patterns: such as 'runs/*'.
    need_evaluation: see `load_folders`.

  Returns:
    The runs that finished at least one iteration, ordered by folder.

  Raises:
    UserError: a pattern names no run folder, or a damaged one, or there is no
      such run.
  """
  folders = set()
  for pattern in patterns:
    names = map(pathlib.Path, glob.glob(os.path.expanduser(pattern)))
    found = {name for name in names if (name / 'run.json').is_file()}
    if not found:
      raise UserError(
        f'no run folder matches {pattern}: give the --base_dir of a training '
        'run, which holds run.json.'
      )
    folders |= found
  return load_folders(
    sorted(folders), f'matches {", ".join(patterns)}', need_evaluation
  )


def load_folders(
  folders: Sequence[pathlib.Path], where: str, need_evaluation: bool = True
) -> list[Run]:
  """Reads run folders; as `load_runs`.

  Args:
    folders: those that are no run folder are passed over.
    where: they were looked for, for the error's text.
    need_evaluation: whether runs that were never evaluated are left out, as
      those without a finished iteration are, with a warning.
  """
  kept = []
  for folder in folders:
    if not (folder / 'run.json').is_file():
      continue
    run = _load_run(folder)
    evaluated = not np.isnan(run.metrics['eval_return_mean']).all()
    if not len(run.metrics['gradient_steps']):
      logging.warning('%s has no finished iteration yet: left out.', folder)
    elif need_evaluation and not evaluated:
      logging.warning(
        '%s was never evaluated (evaluation_steps=0): it is left out.', folder
      )
    else:
      kept.append(run)
  if not kept:
    what = 'an evaluated' if need_evaluation else 'a finished'
    raise UserError(
      f'no run with {what} iteration {where}: a run folder holds run.json and '
      'metrics.csv.'
    )
  return kept


def _load_run(folder: pathlib.Path) -> Run:
  try:
    record = json.loads((folder / 'run.json').read_text())
    path = folder / 'metrics.csv'
    rows = []
    if path.is_file():
      with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else ('gradient_steps', 'eval_return_mean')
    metrics = {
      name: np.array([float(row[name] or 'nan') for row in rows])
      for name in names
    }
    task = tasks.task(record['task']) if 'task' in record else None
    behavior, settings = (
      record['behavior_return'],
      _settings(folder / 'config.gin'),
    )
    if record.get('dataset_run') is not None:
      settings['dataset_run'] = str(record['dataset_run'])
    if task is not None:
      column = metrics['eval_return_mean']
      metrics['eval_return_mean'] = task.normalized_score(column)
      if behavior:
        behavior['mean'] = task.normalized_score(behavior['mean'])
    return Run(
      folder,
      _agent_name(record['agent'], settings),
      record['game'],
      record['seed'],
      settings,
      _data_name(record.get('split')),
      behavior,
      record.get('discounted_return'),
      metrics,
      task,
    )
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{folder} is not a whole run folder ({error!r}): move it elsewhere.'
    ) from None


def _agent_name(cls: str, settings: dict[str, str]) -> str:
  """'CQLDQNAgent' -> 'CQL-DQN'; on D4RL also 'CQL(rho)' and 'BRAC-p'."""
  name = cls.removeprefix('FixedReplay').removeprefix('Continuous')
  name = name.removesuffix('Agent')
  if name == 'CQLSAC':
    return f'CQL({settings.get("CQLSACAgent.penalty", "H").strip(_QUOTES)})'
  if name == 'BRAC':
    is_p = settings.get('BRACAgent.penalize_value') == 'False'
    return 'BRAC-p' if is_p else 'BRAC-v'
  name = name.replace('QRDQN', 'QR-DQN')
  return re.sub(r'^CQL(?=\w)', 'CQL-', name)


def _data_name(split: dict | None) -> str:
  """The share of a run of the dataset, such as '1 %' or 'first 20 %'."""
  if split is None:
    return 'all'
  if 'data' in split:  # D4RL's.
    kind, version = split['data'] or 'plain', split['version']
    return f'{kind}-{version}' if version else f'{kind} (own)'
  share, (first, stop) = split['fraction'], split['shards']
  if (first, stop) == (0, 50):
    name = f'{100 * share:g} %'
  elif share == 1 and first == 0:
    name = f'first {2 * stop} %'
  else:
    name = f'{100 * share:g} % of shards {first} to {stop - 1}'
  convention = split['convention']
  return name if convention == 'prefix' else f'{name} ({convention})'


# Bindings in which runs of one experiment may differ.
_IGNORED = re.compile(
  r'SEED|TASK|REPLAY_DIR|ROM_DIR|Logger\..*|Runner\..*|run_experiment\..*'
  r'|.*\.(seed|task|path|replay_dir|rom_dir|cache_dir|in_memory|num_iterations'
  r'|checkpoint_minutes|checkpoint_duration|num_environments|create_agent_fn)'
)


def _settings(config: pathlib.Path) -> dict[str, str]:
  """The bindings of a config.gin, those apart that say nothing here."""
  text = config.read_text() if config.is_file() else ''
  text = re.sub(r'\\\n\s*', '', text)  # Gin wraps long lines.
  bindings = re.findall(r'^([\w./]+) = (.*)$', text, re.MULTILINE)
  return {
    # Bound for CQL as a mixin or for one of its agents.
    re.sub(r'^CQL(DQN|C51)?Agent\.', 'CQLMixin.', name): _plain(value)
    for name, value in bindings
    if not _IGNORED.fullmatch(name)
  }


def _plain(value: str) -> str:
  """A number in one way of writing it, so that 4 and 4.0 are the same."""
  try:
    return repr(float(value)).removesuffix('.0')
  except ValueError:
    return value
