"""A trained run, back from its folder."""

import logging
import os
from typing import Any

from cql_atari.core import benchmarks, gin_state, gin_text, settings
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path
from cql_atari.core.protocols import Agent, Benchmark, Data, Environments
from cql_atari.replay import opening
from cql_atari.runs import checkpoints
from cql_atari.runs.folder import RunFolder

_RUNNER = 'FixedReplayRunner'


def settings_of(
  folder: RunFolder, replay_dir: str | os.PathLike | None = None
) -> tuple[list[str], list[str]]:
  """The gin files and lines that build a run's agent on this machine.

  They unset the run's strategy, whose devices may not be present, and its
  loggers.

  Args:
    folder: the run.
    replay_dir: where its data are now; None where they were.
  """
  bound = folder.bindings()
  elsewhere = [f'{n} = None' for n in bound if n.endswith('.strategy')]
  elsewhere += [f'{n} = ()' for n in bound if n.endswith('.loggers')]
  if replay_dir:
    names = {'open_store.replay_dir', 'open_task_data.path'} & bound.keys()
    elsewhere += [gin_text.binding(name, replay_dir) for name in names]
  return [str(folder.config)], elsewhere


def offline_run(
  init_from: str | os.PathLike,
  with_data: bool,
  replay_dir: str | os.PathLike | None,
) -> 'TrainedRun':
  """A run whose agent is to go on learning online.

  Args:
    init_from: its folder.
    with_data: whether to open its data.
    replay_dir: where these are now; None where they were.

  Raises:
    UserError: as of TrainedRun; or its agent learns no values.
  """
  offline = TrainedRun(init_from, with_data, replay_dir)
  if not offline.agent.has_values:
    raise UserError(
      f'the agent of {init_from} learns no values, by which it could go on: '
      'give a run of another.'
    )
  return offline


class TrainedRun:
  """A run at any of its checkpoints, with or without its data.

  Attributes:
    folder: the run folder, with `record` (run.json) and `metrics()`.
    benchmark: what it was trained on.
    data: what it learned from; None if it was opened without.
    agent: as its newest checkpoint has it, until `load` is called.
    gradient_steps: gradient steps of the loaded checkpoint.
  """

  data: Data | None
  agent: Agent

  def __init__(
    self,
    run_dir: str | os.PathLike,
    with_data: bool | None = True,
    replay_dir: str | os.PathLike | None = None,
  ):
    """Builds the agent of the run's `config.gin`, loads the newest checkpoint.

    Args:
      run_dir: the run folder.
      with_data: whether to open what it learned from; None to open it only
        if the agent can't be built without, which is so on D4RL.
      replay_dir: where these are now, if they were moved.

    Raises:
      UserError: it is no run folder, has no whole checkpoint, or its data are
        gone or others now.
    """
    self.folder = RunFolder(user_path(run_dir))
    self._replay_dir = replay_dir
    self.folder.check()
    self.benchmark: Benchmark = benchmarks.load(self.folder.record['benchmark'])
    if with_data is None:
      with_data = self.benchmark.needs_data_to_act
    # Every run has graphs of its own, which TensorFlow counts as retracing.
    logging.getLogger('tensorflow').setLevel(logging.ERROR)
    with gin_state.isolated():
      self._build(with_data)
    self.load()

  def _build(self, with_data: bool) -> None:
    """Opens the data, if they are asked for, and makes the agent."""
    self.data = self._configure(with_data)
    if self.data and self.data.digest != self.folder.record['manifest_digest']:
      raise UserError(
        f'the data of the run in {self.folder.path} have changed since it was '
        'trained: put those it learned from back, or, from Python, give '
        'TrainedRun(..., replay_dir=) where they are, or with_data=False.'
      )
    create = gin_state.value(settings.AGENT)
    known = {'seed': self.folder.record['seed']}
    if not self.data:
      known['num_actions'] = self.folder.manifest['num_actions']
    self.agent = create(self.data, **known)

  def _configure(self, with_data: bool) -> Data | None:
    """Gives gin the run's settings; opens its data, if they are asked for."""
    config = settings_of(self.folder, self._replay_dir)
    settings.parse(*config, lock=False)
    try:
      data = opening.open_data() if with_data else None
    except UserError as error:
      raise UserError(
        f'the data of the run in {self.folder.path} cannot be opened: {error} '
        'Where they are elsewhere now, put them back (`collect` has '
        '--replay_dir; from Python, TrainedRun(..., replay_dir=)).'
      ) from None
    settings.import_all()
    settings.parse(*config, lock=True)
    return data

  @property
  def name(self) -> str:
    """The game or domain, such as 'Pong' or 'hopper'."""
    return self.folder.record['game']

  @property
  def steps(self) -> list[int]:
    """Gradient steps of every checkpoint there is, from the first on."""
    return checkpoints.steps(self.folder.checkpoints)

  def load(self, step: int | None = None) -> None:
    """Gives the agent a checkpoint's weights; by default the newest one's.

    Raises:
      UserError: it is damaged, or there is none.
    """
    if step is None:
      newest = checkpoints.load_newest(self.folder.checkpoints)
      if newest is None:
        if len(self.folder.metrics().get('gradient_steps', ())):
          raise UserError(f'the checkpoints of {self.folder.path} are gone.')
        raise UserError(
          f'{self.folder.path} has no checkpoint yet: train it a little first.'
        )
      step, arrays, _ = newest
    elif step in self.steps:
      arrays, _ = checkpoints.load(self.folder.checkpoints, step)
    else:
      raise UserError(
        f'{self.folder.path} has no checkpoint of step {step}: give one of '
        f'{", ".join(map(str, self.steps))}.'
      )
    self.gradient_steps = step
    self.agent.load_weights(arrays)

  def environments(self, num_environments: int) -> Environments:
    """Environments by the run's settings."""
    with gin_state.isolated():
      self._configure(with_data=False)
      create = gin_state.value(
        f'{_RUNNER}.create_environment_fn', self.benchmark.create_environments
      )
      limit = gin_state.value(f'{_RUNNER}.max_steps_per_episode')
      limits = {} if limit is None else {'max_steps_per_episode': limit}
      return create(num_environments=num_environments, **limits)

  def fitted_q(self, seed: int, **penalty: Any) -> Agent:
    """Fitted Q evaluation of the agent's policy, by the run's settings.

    Args:
      seed: seeds the weights and the batches.
      **penalty: `penalty` and `alpha`, for conservative values.
    """
    with gin_state.isolated():
      self._configure(with_data=False)
      return self.benchmark.fitted_q(self.agent, self.data, seed, **penalty)
