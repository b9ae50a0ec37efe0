"""Trained agents back from their run folders."""

import dataclasses
import json
import pathlib

import gin

from cql_atari import checkpoints, configuration, startup
from cql_atari.environments import AtariEnvironments
from cql_atari.errors import UserError


@dataclasses.dataclass(frozen=True)
class Restored:
  """A trained agent.

  Attributes:
    agent: a FixedReplayAgent without data, for acting.
    game: such as 'Pong'.
    gradient_steps: taken when it was saved.
  """

  agent: object
  game: str
  gradient_steps: int

  def environments(self, num_environments: int) -> AtariEnvironments:
    """Games by the run's settings."""
    return AtariEnvironments(num_environments=num_environments)


def restore(run_dir: str | pathlib.Path) -> Restored:
  """Builds the agent of a run's `config.gin` with its newest checkpoint.

  Args:
    run_dir: the run folder.

  Raises:
    UserError: it is no run folder, or has no whole checkpoint.
  """
  folder = pathlib.Path(run_dir).expanduser()
  for name in ('config.gin', 'run.json', 'manifest.json'):
    if not (folder / name).is_file():
      raise UserError(
        f'{folder} is no run folder: it has no {name}. Give the --base_dir of '
        'a training run.'
      )
  if 'task' in json.loads((folder / 'run.json').read_text()):
    raise UserError(
      f'{folder} is a run on D4RL: only agents of Atari are filmed and '
      'exported.'
    )
  config = [str(folder / 'config.gin')]
  configuration.parse(config, [], final=False)
  with startup.quiet():
    configuration.import_all()
  configuration.parse(config, [], final=True)
  newest = checkpoints.load_newest(folder / 'checkpoints')
  if newest is None:
    raise UserError(f'{folder} has no checkpoint yet: train it a little first.')
  step, arrays, _ = newest
  manifest = json.loads((folder / 'manifest.json').read_text())
  create = gin.query_parameter('FixedReplayRunner.create_agent_fn')
  agent = create.scoped_configurable_fn(
    manifest['num_actions'], None, summary_writer=None, seed=0
  )
  agent.unbundle(str(folder / 'checkpoints'), step, arrays)
  return Restored(agent, manifest['game'], step)
