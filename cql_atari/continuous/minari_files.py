"""Minari datasets, read and written."""

import hashlib

import numpy as np

from cql_atari.continuous import environments, tasks, wrappers
from cql_atari.continuous.files import Steps, concatenate
from cql_atari.core.errors import UserError
from cql_atari.replay import sources


def read(name: str, task: tasks.Task) -> tuple[Steps, str]:
  """Reads a Minari dataset that is on this machine.

  Minari's episodes hold one observation more than actions. Here that last one
  becomes a row of its own, marked as a timeout so that nothing follows it,
  where the episode didn't come to its own end.

  Args:
    name: such as 'mujoco/hopper/medium-v0'.
    task: whose it is.

  Returns:
    The play, and its checksum.

  Raises:
    UserError: there is no such dataset, or no Minari; or it is of a task
      whose coordinates (AntMaze) or rewards (door, hammer, relocate: see
      `wrappers.Reach`) are others there than D4RL's.
  """
  if task.is_maze or task.domain in ('door', 'hammer', 'relocate'):
    raise UserError(
      f"Minari's {task.domain} has other coordinates or rewards than D4RL's: "
      f'fetch its file with "python -m cql_atari.fetch --task={task.name}".'
    )
  dataset = sources.load_minari(name)
  if dataset.env_spec:
    environments.check_recorded(
      dataset.env_spec.id, task, f'the Minari dataset {name}'
    )
  parts, digest = [], hashlib.sha256()
  for episode in dataset.iterate_episodes():
    observations = episode.observations
    try:
      if task.domain == 'kitchen':
        observations = wrappers.kitchen_observation(observations)
      observations = observations.astype(np.float32)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
      raise UserError(
        f'the Minari dataset {name} has observations of another kind than '
        f'{task.name}: arrays, or for the kitchen its own dictionaries.'
      ) from None
    steps = len(episode.rewards)
    terminal = bool(episode.terminations[-1])
    rows = steps + (not terminal)
    ends = np.zeros(rows, bool)
    ends[-1] = True
    padded = [
      np.zeros((rows, *values.shape[1:]), np.float32)
      for values in (episode.actions, episode.rewards)
    ]
    padded[0][:steps], padded[1][:steps] = episode.actions, episode.rewards
    padded[0][steps:] = padded[0][steps - 1]  # Nobody's, but a possible one.
    parts.append(
      Steps(
        observations[:rows], *padded, ends & terminal, ends & (not terminal)
      )
    )
    for values in (observations, *padded):
      digest.update(np.ascontiguousarray(values).tobytes())
  if not parts:
    raise UserError(f'the Minari dataset {name} has no episodes.')
  return concatenate(*parts), digest.hexdigest()


def write(name: str, steps: Steps, task: tasks.Task, **about: str) -> None:
  """Writes play as a Minari dataset, in the place of one of the same name.

  Args:
    name: such as 'cql_atari/hopper/medium-v0'.
    steps: what was played, with `next_observations`. A last episode that
      doesn't end is cut off.
    task: whose it is.
    **about: texts for its metadata, such as algorithm_name.
  """
  minari = sources.import_minari()
  from minari.data_collector import EpisodeBuffer

  ends = np.union1d(steps.episode_ends, [len(steps)])
  buffers = []
  for index, (first, stop) in enumerate(zip([0, *ends], ends)):
    rows, last = slice(first, stop), stop - 1
    terminations = steps.terminals[rows]
    buffers.append(
      EpisodeBuffer(
        id=index,
        observations=np.concatenate(
          [steps.observations[rows], steps.next_observations[last : last + 1]]
        ),
        actions=steps.actions[rows],
        rewards=steps.rewards[rows],
        terminations=terminations,
        truncations=(np.arange(first, stop) == last) & ~terminations,
      )
    )
  if name in minari.list_local_datasets():
    minari.delete_dataset(name)
  minari.create_dataset_from_buffers(
    name, buffers, env=environments.make(task), **about
  )
