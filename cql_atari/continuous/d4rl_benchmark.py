"""The D4RL benchmark: what differs from others, in one place."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cql_atari.continuous import environments as environments_lib
from cql_atari.continuous import published_scores, tasks
from cql_atari.core.errors import UserError
from cql_atari.core.protocols import (
  Agent,
  Collecting,
  Column,
  Data,
  Panel,
  ScoreTable,
)

# Published numbers stand beside runs of the published methods alone: what these
# settings may be. On gym alpha is the paper's or CORL's, elsewhere tuned.
_PUBLISHED_SETTINGS = {
  'Critic.num_critics': (2,),
  'CQLSACAgent.num_samples': (10,),
  'BEARAgent.threshold': (0.05,),
  'BRACAgent.alpha': (1.0,),
}
_LEAST_PUBLISHED_WIDTH = 200  # BRAC's policy.


def _published(table: dict[str, dict[str, float]]):
  """Looks a run up in a table of {task: {agent: score}}."""

  def look_up(record: dict[str, Any], final: float):
    del final
    task = tasks.task(record['task'])
    name = task.name.removesuffix(f'-{task.version}')
    is_published = record['data_is_published'] and _is_published_method(
      task, record['settings']
    )
    return table.get(name, {}).get(record['agent']) if is_published else None

  return look_up


def _is_published_method(task: tasks.Task, settings: Mapping[str, Any]) -> bool:
  allowed = dict(_PUBLISHED_SETTINGS)
  if task.domain in tasks.GYM:
    allowed['CQLSACAgent.alpha'] = (2.5, 5.0)
    allowed['CQLSACAgent.target_gap'] = (None,)
  elif 'CQLSACAgent.alpha' in settings and not settings.get(
    'CQLSACAgent.target_gap'
  ):
    return False
  is_wide = all(
    units >= _LEAST_PUBLISHED_WIDTH
    for name in ('Critic.hidden_units', 'TanhGaussianPolicy.hidden_units')
    for units in settings.get(name, ())
  )
  return is_wide and all(settings.get(n, v[0]) in v for n, v in allowed.items())


def _make_collector(run_dir: pathlib.Path, name: str, steps: int | None):
  from cql_atari.continuous import collector

  task = tasks.task(f'{name}-medium')
  return collector.SACCollector(run_dir, task, steps or 150_000)


def _make_fine_tuner(run_dir: pathlib.Path, name: str, steps: int | None):
  from cql_atari.continuous import online

  del name  # The run knows it.
  return online.FineTuner(run_dir, steps or 100_000)


def _check_steps(collector: str):
  """What `Collecting.check_steps` is, for a collector by its name."""

  def check(steps: int, bound: Mapping[str, Any]) -> None:
    period = f'{collector}.snapshot_period'
    tasks.check_steps(steps, period, bound.get(period, tasks.SNAPSHOT_PERIOD))

  return check


class D4RLBenchmark:
  """See `core.protocols.Benchmark`."""

  name = 'd4rl'
  macro = 'TASK'
  needs_data_to_act = True
  steps_per_second = 30
  usual_episode = 1000
  data_share_is_hyperparameter = False
  return_label = 'D4RL score'
  policy_metric = 'q_policy'
  checkpoint_bytes = 60e6  # Six of 10 MB.
  table = ScoreTable(
    'tables1and2',
    'Scores (Tables 1 and 2)',
    "D4RL's normalized scores: 0 is random play, 100 an expert's. Numbers of "
    'the paper (first version of the data) and of CORL (v2; Adroit v1) are of '
    "D4RL's own data at a million gradient steps: compare with them only what "
    'was trained on that.',
  )
  columns = (
    Column('paper', _published(published_scores.PAPER), 1),
    Column('CORL', _published(published_scores.CORL), 1),
  )
  create_environments = environments_lib.D4RLEnvironments
  collecting = Collecting(
    gin_file='d4rl/collect.gin',
    required='SACCollector.create_agent_fn',
    bindings=lambda name: [],
    check_steps=_check_steps('SACCollector'),
    make=_make_collector,
    record=lambda collector, name: {'task': name},
  )
  fine_tuning = collecting._replace(
    gin_file='d4rl/collect_finetune.gin',
    required='FineTuner.create_agent_fn',
    check_steps=_check_steps('FineTuner'),
    make=_make_fine_tuner,
  )

  def check_name(self, name: str) -> None:
    """Raises a UserError where there is no such task."""
    tasks.task(name)

  def path_fields(self, name: str) -> dict[str, str]:
    """The fields that a sweep's paths can have in braces."""
    return {'task': name, 'domain': tasks.task(name).domain}

  def check(
    self, data: Data, environments: environments_lib.D4RLEnvironments
  ) -> None:
    """Checks that the data are of the task that is played, and that it can be.

    Raises:
      UserError: they aren't, or MuJoCo is missing.
    """
    task = environments.task
    if not environments_lib.are_same(data.task, task):
      raise UserError(
        f'the data are of {data.task.name}, but {task.name} is played: give '
        'one task, with --gin_bindings="TASK=\'...\'".'
      )
    environments_lib.make(task).close()  # Raises one where MuJoCo is missing.

  def score(self, record: dict[str, Any], returns: np.ndarray) -> np.ndarray:
    """D4RL's normalized scores of returns."""
    return tasks.task(record['task']).normalized_score(returns)

  def normalized(self, game: str, scores: np.ndarray) -> np.ndarray | None:
    """These, from 0, random play, to 1, an expert."""
    del game
    return scores / 100

  def panel(
    self,
    agent: Agent,
    environments: environments_lib.D4RLEnvironments,
    states: np.ndarray,
    actions: np.ndarray,
  ) -> Panel:
    """The numbers of the action, and its Q-value."""
    del environments
    rows = [
      (f'action {index}', (float(value) + 1) / 2, f'{value:.2f}', False)
      for index, value in enumerate(actions[0], start=1)
    ]
    value = None
    if agent.has_values:
      value = float(agent.predict_q_values(states, actions)[0])
    return Panel(rows, 'actions; bars from -1 to 1', value)

  def fitted_q(
    self, agent: Agent, data: Data, seed: int, **penalty: Any
  ) -> Agent:
    """Fitted Q evaluation of an agent's policy."""
    from cql_atari.continuous.agents import fqe_agent

    return fqe_agent.ContinuousFQEAgent(agent, data, seed=seed, **penalty)


BENCHMARK = D4RLBenchmark()
