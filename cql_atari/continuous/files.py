"""D4RL's HDF5 files: recorded play, step by step.

A D4RL file has, for N steps one after another: `observations` (N, S), `actions`
(N, A) and `rewards` (N,) as float32, `terminals` (N,), 1 where the episode came
to its own end, and mostly `timeouts` (N,), 1 where it was cut off. A transition
is a row and the row after it, as in D4RL's `qlearning_dataset`: the row of a
timeout, and the last, have no row after them and are left out; a terminal row
stays, its next state never being looked at.
"""

import dataclasses
import pathlib

import h5py
import numpy as np

from cql_atari.continuous import environments, tasks
from cql_atari.core.errors import UserError
from cql_atari.core.files import atomic_path

# Where files say what they were recorded in: ours, and others'.
_ENVIRONMENT_NAMES = ('environment', 'env_id', 'env_name')


@dataclasses.dataclass(frozen=True)
class Steps:
  """Recorded play, episode after episode.

  Attributes:
    observations: float32 (N, S).
    actions: float32 (N, A), in [-1, 1].
    rewards: float32 (N,).
    terminals: bool (N,), where the episode came to its own end.
    timeouts: bool (N,), where it was cut off after this step.
    next_observations: float32 (N, S), what each step led to; None where it
      isn't kept.
  """

  observations: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  terminals: np.ndarray
  timeouts: np.ndarray
  next_observations: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.rewards)

  @property
  def episode_ends(self) -> np.ndarray:
    """The step (E,) after the last one of every episode that ends here."""
    return np.flatnonzero(self.terminals | self.timeouts) + 1

  def episode_returns(self, ends: np.ndarray | None = None) -> np.ndarray:
    """Returns (E,) of the episodes with these ends, or `episode_ends`."""
    ends = self.episode_ends if ends is None else ends
    sums = np.concatenate([[0.0], np.cumsum(self.rewards, dtype=np.float64)])
    return np.diff(sums[np.concatenate([[0], ends])])


def transition_rows(steps: Steps) -> np.ndarray:
  """Rows (T,) that are transitions, as in D4RL's `qlearning_dataset`."""
  return np.flatnonzero(~steps.timeouts[:-1])


def check(steps: Steps, task: tasks.Task, source: str) -> None:
  """Checks that recorded play is sound and of this task.

  Raises:
    UserError: it isn't; says what is wrong.
  """
  domain, count = task.settings, len(steps)
  for name, shape in (
    ('observations', (count, domain.state_size)),
    ('actions', (count, domain.action_size)),
    ('rewards', (count,)),
    ('terminals', (count,)),
    ('timeouts', (count,)),
  ):
    values = getattr(steps, name)
    if values.shape != shape:
      raise UserError(
        f'{source} has {name} of shape {values.shape}, but {task.name} has '
        f'{shape}: it belongs to another task, or is damaged.'
      )
    axes = tuple(range(1, values.ndim))
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=axes))
    if len(wrong):
      raise UserError(
        f'{source} has {name} that are no numbers (NaN or infinite) in '
        f'{len(wrong)} rows, such as {wrong[0]}: fetch or make it anew.'
      )
  wrong = np.flatnonzero((np.abs(steps.actions) > 1 + 1e-5).any(axis=1))
  if len(wrong):
    raise UserError(
      f'{source} has actions outside [-1, 1] in {len(wrong)} rows, such as '
      f'{wrong[0]}: scale them first.'
    )


def read_hdf5(path: pathlib.Path, task: tasks.Task) -> Steps:
  """Reads a file in D4RL's layout.

  Where it has no `timeouts` (the kitchen's), an episode is cut off after the
  task's number of steps. D4RL's own count of these is one too high after a
  terminal row; this one isn't.

  Args:
    path: the file.
    task: whose it is.

  Raises:
    UserError: it can't be read, lacks something, or says that it is of
      another environment.
  """
  try:
    with h5py.File(path, 'r') as file:
      return _steps_of(file, path, task)
  except OSError as error:
    text = ' '.join(str(error).split())
    raise UserError(
      f'{path} cannot be read ({text}): fetch or make it anew.'
    ) from None


def _steps_of(file: h5py.File, path: pathlib.Path, task: tasks.Task) -> Steps:
  if (recorded := _recorded_environment(file)) is not None:
    environments.check_recorded(recorded, task, str(path))
  arrays = {}
  for name in ('observations', 'actions', 'rewards', 'terminals', 'timeouts'):
    if isinstance(file.get(name), h5py.Dataset):
      arrays[name] = file[name][()]
      if arrays[name].dtype.kind not in 'fiub' or (
        np.isnan(arrays[name]).any() and name in ('terminals', 'timeouts')
      ):
        raise UserError(f'{path} has {name} that are no numbers.')
    elif name != 'timeouts':
      raise UserError(
        f'{path} has no {name}: it is no D4RL file, or is damaged.'
      )
  terminals = arrays['terminals'].reshape(-1) > 0
  if 'timeouts' in arrays:
    timeouts = arrays['timeouts'].reshape(-1) > 0
  else:
    timeouts = _count_timeouts(terminals, task.settings.max_episode_steps)
  return Steps(
    arrays['observations'].astype(np.float32),
    arrays['actions'].astype(np.float32),
    arrays['rewards'].reshape(-1).astype(np.float32),
    terminals,
    timeouts,
  )


def write_hdf5(path: pathlib.Path, steps: Steps, **metadata) -> None:
  """Writes a file in D4RL's layout that appears only when it is whole.

  Args:
    path: the file.
    steps: what was played.
    **metadata: numbers and texts, kept under `metadata/`.

  Raises:
    OSError: the disk is full or can't be written.
  """
  with atomic_path(path) as partial, h5py.File(partial, 'w') as file:
    for name, values in vars(steps).items():
      if values is not None:
        file.create_dataset(name, data=values, compression='gzip')
    for name, value in metadata.items():
      file[f'metadata/{name}'] = value


def concatenate(*parts: Steps) -> Steps:
  """Play of several files one after another; every part's end is an end."""
  columns = {
    name: np.concatenate([getattr(part, name) for part in parts])
    for name in vars(parts[0])
    if all(getattr(part, name) is not None for part in parts)
  }
  ends = np.cumsum([len(part) for part in parts]) - 1
  columns['timeouts'][ends] |= ~columns['terminals'][ends]
  return Steps(**columns)


def _recorded_environment(file: h5py.File) -> str | None:
  """The environment that a file's metadata name; D4RL's own name none."""
  for holder in (file.get('metadata', {}), file.attrs):
    if isinstance(holder, h5py.Dataset):  # Metadata of another kind.
      continue
    for name in _ENVIRONMENT_NAMES:
      if name in holder:
        value = holder[name]
        value = value[()] if isinstance(value, h5py.Dataset) else value
        value = value.decode() if isinstance(value, bytes) else value
        if isinstance(value, str):
          return value
  return None


def _count_timeouts(terminals: np.ndarray, limit: int) -> np.ndarray:
  timeouts = np.zeros(len(terminals), bool)
  starts = np.concatenate([[0], np.flatnonzero(terminals) + 1])
  for start, stop in zip(starts, [*starts[1:], len(terminals)]):
    timeouts[start + limit - 1 : stop : limit] = True
  return timeouts & ~terminals
