"""Trained agents back from their run folders."""

import contextlib
import dataclasses
import logging
import pathlib
import re

import gin

from cql_atari.core import quiet, settings
from cql_atari.core.errors import UserError
from cql_atari.replay import open_store
from cql_atari.runs import checkpoints, provenance


@dataclasses.dataclass(frozen=True)
class Restored:
  """A trained agent.

  Attributes:
    agent: an agent of Atari without data, for acting.
    game: such as 'Pong'.
    gradient_steps: taken when it was saved.
  """

  agent: object
  game: str
  gradient_steps: int

  def environments(self, num_environments: int):
    """Games by the run's settings."""
    return _environments(num_environments)


def restore(run_dir: str | pathlib.Path) -> Restored:
  """Builds the agent of a run's `config.gin` with its newest checkpoint.

  Args:
    run_dir: the run folder.

  Raises:
    UserError: it is no run folder, or has no whole checkpoint.
  """
  folder = pathlib.Path(run_dir).expanduser()
  if 'task' in _record(folder):
    raise UserError(
      f'{folder} is a run on D4RL: only agents of Atari are filmed and '
      'exported.'
    )
  _configure(folder)
  step, arrays = _load(folder, None)
  manifest = provenance.read(folder / 'manifest.json')
  agent = _create_agent(manifest['num_actions'], None)
  agent.restore(str(folder / 'checkpoints'), arrays)
  return Restored(agent, manifest['game'], step)


class TrainedRun:
  """A run opened with its data, at any of its checkpoints.

  Attributes:
    folder: the run folder.
    record: its run.json.
    data: what it learned from.
    agent: as its newest checkpoint has it, until `load` is called.
    gradient_steps: of the checkpoint that the agent has.
  """

  def __init__(self, run_dir: str | pathlib.Path):
    """Opens the data, builds the agent, loads the newest checkpoint.

    Raises:
      UserError: it is no run folder, has no whole checkpoint, or its data are
        gone or others now.
    """
    self.folder = pathlib.Path(run_dir).expanduser()
    self.record = _record(self.folder)
    # Every run has graphs of its own, which TensorFlow counts as retracing.
    logging.getLogger('tensorflow').setLevel(logging.ERROR)
    self.data = _configure(self.folder, with_data=True)
    if self.data.digest != self.record['manifest_digest']:
      raise UserError(
        f'the data of the run in {self.folder} have changed since it was '
        'trained: put those it learned from back.'
      )
    self.agent = _create_agent(self.data.action_size, self.data)
    self.load()

  @property
  def steps(self) -> list[int]:
    """Gradient steps of every checkpoint there is, from the first on."""
    return checkpoints.steps(self.folder / 'checkpoints')

  def load(self, step: int | None = None) -> None:
    """Gives the agent a checkpoint's weights; by default the newest one's.

    Raises:
      UserError: it is damaged, or there is none.
    """
    self.gradient_steps, arrays = _load(self.folder, step)
    self.agent.restore(str(self.folder / 'checkpoints'), arrays)

  def environments(self, num_environments: int):
    """Environments by the run's settings; before another run is opened."""
    return _environments(num_environments)


def _record(folder: pathlib.Path) -> dict:
  for name in ('config.gin', 'run.json', 'manifest.json'):
    if not (folder / name).is_file():
      raise UserError(
        f'{folder} is no run folder: it has no {name}. Give the --base_dir of '
        'a training run.'
      )
  return provenance.read(folder / 'run.json')


def _configure(folder: pathlib.Path, with_data: bool = False):
  """Parses the run's config; opens its data, if they are asked for."""
  gin.clear_config()
  path = folder / 'config.gin'
  # It may have been trained on devices that are not here.
  devices = re.findall(r'^(\w+\.strategy) = ', path.read_text(), re.MULTILINE)
  config = [str(path)], [f'{name} = None' for name in devices]
  settings.parse(*config, final=False)
  data = open_store.open_data() if with_data else None
  with quiet.quiet():
    settings.import_all()
  settings.parse(*config, final=True)
  return data


def _load(folder: pathlib.Path, step: int | None) -> tuple[int, dict]:
  if step is None:
    newest = checkpoints.load_newest(folder / 'checkpoints')
    if newest is None:
      raise UserError(
        f'{folder} has no checkpoint yet: train it a little first.'
      )
    return newest[:2]
  return step, checkpoints.load(folder / 'checkpoints', step)[0]


def _create_agent(action_size: int, data):
  create = gin.query_parameter('FixedReplayRunner.create_agent_fn')
  return create.scoped_configurable_fn(
    action_size, data, summary_writer=None, seed=0
  )


def _environments(num_environments: int):
  from cql_atari.environments.atari import AtariEnvironments

  create, settings = AtariEnvironments, {'num_environments': num_environments}
  with contextlib.suppress(ValueError):  # Not bound.
    name = 'FixedReplayRunner.create_environment_fn'
    create = gin.query_parameter(name).scoped_configurable_fn
  with contextlib.suppress(ValueError):
    name = 'max_steps_per_episode'
    settings[name] = gin.query_parameter(f'FixedReplayRunner.{name}')
  return create(**settings)
