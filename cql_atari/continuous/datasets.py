"""A task's data as transitions in memory, ready to learn from."""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from cql_atari.continuous import files, tasks
from cql_atari.core import fetched
from cql_atari.core.constraints import NonNegative, configurable
from cql_atari.core.errors import UserError
from cql_atari.core.files import sha256, user_path
from cql_atari.replay import episodes

MINARI = 'minari:'
_LEAST_DEVIATION = 1e-3  # Of a state's numbers, where states are normalized.


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
  """Transitions in memory, ready to learn from.

  Attributes:
    task: whose they are.
    state: float32 (N, S), normalized where asked for.
    action: float32 (N, A).
    reward: float32 (N,), scaled and shifted.
    next_state: float32 (N, S).
    terminal: float32 (N,), 0 or 1.
    state_mean: float32 (S,), what was subtracted from states.
    state_std: float32 (S,), what they were divided by.
    starts: integers (G,), the rows that episodes begin with.
    episode_ends: integers (E,), the row after the last one before each end, a
      terminal state or a cut-off.
    manifest: where they come from, as plain JSON.
  """

  task: tasks.Task
  state: np.ndarray
  action: np.ndarray
  reward: np.ndarray
  next_state: np.ndarray
  terminal: np.ndarray
  state_mean: np.ndarray
  state_std: np.ndarray
  starts: np.ndarray
  episode_ends: np.ndarray
  manifest: dict

  def __len__(self) -> int:
    return len(self.reward)

  def __repr__(self) -> str:
    return f'<Dataset: {self.task.name}, {len(self):,} transitions>'

  @property
  def action_size(self) -> int:
    """Numbers in an action."""
    return self.action.shape[1]

  @property
  def label(self) -> str:
    """Such as 'medium-v2'; without D4RL's version, 'medium (own)'."""
    split = self.manifest['split']
    kind = split['data'] or 'plain'
    version = f'-{split["version"]}' if self.is_published else ' (own)'
    return f'{kind}{version}'

  @property
  def is_published(self) -> bool:
    """Whether it is D4RL's own data."""
    return self.manifest['split']['version'] is not None

  @property
  def digest(self) -> str:
    """SHA-256 of the data and of what was done to them."""
    text = json.dumps(self.manifest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

  @property
  def record(self) -> dict:
    """Its further fields in run.json: none."""
    return {}

  @property
  def largest(self) -> dict[str, float]:
    """The greatest size of its numbers, by name."""
    columns = {'states': self.state, 'rewards': self.reward}
    return {name: float(np.abs(x).max()) for name, x in columns.items()}

  def sample_states(self, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random states as they were observed, (count, S)."""
    rows = rng.integers(len(self), size=count)
    return self.state[rows] * self.state_std + self.state_mean

  def initial_states(self, most: int) -> np.ndarray:
    """States that episodes begin in, as observed, (G, S): `most` at most."""
    return self.state[self.starts[:most]] * self.state_std + self.state_mean

  def learned_rewards(self, rewards: np.ndarray) -> np.ndarray:
    """An environment's rewards (E,), scaled and shifted as the data's are.

    Raises:
      UserError: the kitchen's, whose data pay otherwise than play does.
    """
    if self.task.domain == 'kitchen':
      raise UserError(
        'the data of the kitchen pay for finished tasks at every step, play '
        'only once: true values cannot be told from it. Give other runs.'
      )
    scaled = rewards * self.manifest['reward_scale']
    return scaled + self.manifest['reward_shift']

  def discounted_return(self, gamma: float) -> float | None:
    """The mean discounted return-to-go of the data's actions.

    Over the transitions whose return is known (`episodes.num_known` of an
    episode that was cut off); rewards scaled and shifted.

    Args:
      gamma: discount per step.

    Returns:
      The mean, or None where no return is known.
    """
    total, steps = 0.0, 0
    for part in np.split(np.arange(len(self)), self.episode_ends)[:-1]:
      known = len(part)
      if known and not self.terminal[part[-1]]:
        known = episodes.num_known(len(part), gamma)
      total += episodes.summed_returns(self.reward[part], gamma, known)
      steps += known
    return total / steps if steps else None


@configurable
def open_task_data(
  task: str,
  path: str | None,
  normalize_states: bool = False,
  reward_scale: float = 1.0,
  reward_shift: float = 0.0,
  return_spread: NonNegative | None = None,
) -> Dataset:
  """Reads the data of a task.

  Args:
    task: D4RL's name of it, such as 'hopper-medium-v2', or 'gymnasium:' and the
      name of an environment.
    path: the HDF5 file, a folder that has it under the task's name, or
      'minari:' and the name of a Minari dataset on this machine.
    normalize_states: whether states get mean 0 and deviation 1.
    reward_scale: factor of the rewards.
    reward_shift: added to the scaled rewards.
    return_spread: if given, rewards are first scaled so that the best and the
      worst return in the data differ by it.

  Returns:
    The dataset.

  Raises:
    UserError: no such task or file, or one that is broken or doesn't fit.
  """
  described = tasks.task(task)
  steps, source, digest = _read(described, path)
  rows = files.transition_rows(steps)
  if not len(rows):
    raise UserError(f'{source} holds no transition: fetch or make it anew.')
  mean, std = _moments(steps.observations[rows], normalize_states)
  states = (steps.observations - mean) / std
  ends = _episode_ends(described, steps)
  scores = steps.episode_returns(ends)
  if described.is_maze:  # One success, however long the ant stays.
    scores = np.minimum(scores, 1.0)
  if return_spread is not None:
    reward_scale *= return_spread / _spread(scores, source)
  # Without a version, it is no data of D4RL's.
  version = described.version if source in described.published_names else None
  manifest = {
    'game': described.domain,
    'split': {'data': described.data, 'version': version},
    'source': source,
    'sha256': digest,
    'rows': len(steps),
    'transitions': len(rows),
    'normalize_states': normalize_states,
    'reward_scale': reward_scale,
    'reward_shift': reward_shift,
    'behavior_return': _behavior_return(described, scores),
  }
  rewards = steps.rewards * np.float32(reward_scale) + np.float32(reward_shift)
  return Dataset(
    described,
    states[rows],
    steps.actions[rows],
    rewards[rows],
    states[rows + 1],
    steps.terminals[rows].astype(np.float32),
    mean,
    std,
    np.flatnonzero(np.isin(rows, np.append(0, ends))),
    np.flatnonzero(steps.terminals[rows] | steps.timeouts[rows + 1]) + 1,
    manifest,
  )


def _episode_ends(task: tasks.Task, steps: files.Steps) -> np.ndarray:
  """The step (E,) after the last one of every episode.

  AntMaze's trajectories go on when the goal is reached, so that their terminal
  rows are many; D4RL cuts them off by their timeouts.
  """
  if task.is_maze and steps.timeouts.any():
    return np.flatnonzero(steps.timeouts) + 1
  return steps.episode_ends


def _read(task: tasks.Task, path: str | None) -> tuple[files.Steps, str, str]:
  """A file's or a Minari dataset's steps, its name and its checksum."""
  if path is not None and str(path).startswith(MINARI):
    from cql_atari.continuous import minari_files

    source = str(path)
    steps, digest = minari_files.read(source.removeprefix(MINARI), task)
  else:
    file = _find(task, path)
    source = file.name
    steps, digest = files.read_hdf5(file, task), _checksum(file)
  steps = _with_unit_actions(steps, task)
  files.check(steps, task, source)
  return steps, source, digest


def _with_unit_actions(steps: files.Steps, task: tasks.Task) -> files.Steps:
  """Actions in [-1, 1], where the task's own have other bounds."""
  bounds = task.settings.action_range
  if bounds is None or steps.actions.shape[1:] != bounds[0].shape:
    return steps  # The check will say what is wrong with the shape.
  low, high = bounds
  actions = 2 * (steps.actions - low) / (high - low) - 1
  return dataclasses.replace(steps, actions=actions.astype(np.float32))


def _spread(episodes: np.ndarray, source: str) -> float:
  """From the worst return in the data to the best."""
  if not len(episodes) or not np.ptp(episodes):
    raise UserError(
      f'the returns in {source} are all alike: leave '
      'open_task_data.return_spread out.'
    )
  return float(np.ptp(episodes))


def _moments(
  states: np.ndarray, normalize: bool
) -> tuple[np.ndarray, np.ndarray]:
  """The mean and the deviation of states (N, S), float32 (S,)."""
  if not normalize:
    size = states.shape[1:]
    return np.zeros(size, np.float32), np.ones(size, np.float32)
  mean = states.mean(axis=0, dtype=np.float64)
  deviation = states.std(axis=0, dtype=np.float64)
  deviation = np.maximum(deviation, _LEAST_DEVIATION)
  return mean.astype(np.float32), deviation.astype(np.float32)


def _behavior_return(task: tasks.Task, scores: np.ndarray) -> dict | None:
  # The kitchen's pay for what is finished at every step, play only once.
  if task.domain == 'kitchen' or not len(scores):
    return None
  return {
    'mean': float(scores.mean()),
    'episodes': len(scores),
    'source': 'episodes that end in the data',
    'is_clipped': False,
  }


def _find(task: tasks.Task, path: str | None) -> pathlib.Path:
  where = f'no data of {task.name} was given'
  if path is not None:
    given = user_path(path)
    files = [given / name for name in task.file_names]
    for file in (given, *files):
      if file.is_file():
        _check_domain(file, task)
        return file
    where = f'there is no {files[0] if given.is_dir() else given}'
  alternative = ''
  if task.domain in tasks.GYM:
    alternative = (
      f', or make your own with "python -m cql_atari.collect --task='
      f'{task.domain}" and pass --replay_dir=data/{task.domain}/1'
    )
  if task.is_gymnasium:
    raise UserError(
      f'{where}: give --replay_dir=FILE.hdf5, in the layout of D4RL, or '
      '--replay_dir=minari:NAME.'
    )
  if task.path is None and task.data != 'random-expert':  # Which is mixed.
    raise UserError(
      f'{where}, and no address of that version is known here: leave the '
      'version out, or give its file as --replay_dir.'
    )
  raise UserError(
    f'{where}: fetch it with "python -m cql_atari.fetch '
    f'--task={task.name} --out=data/d4rl" and pass --replay_dir=data/d4rl'
    f'{alternative}.'
  )


def _check_domain(file: pathlib.Path, task: tasks.Task) -> None:
  """Refuses a file that is called after another task or domain."""
  if task.is_gymnasium:
    return
  if file.name not in task.file_names:
    for name in tasks.names():
      for version in ('v0', 'v1', 'v2'):
        if file.name in tasks.task(f'{name}-{version}').file_names:
          raise UserError(
            f'{file} is called after {name}, but the task is {task.name}: bind '
            f"TASK='{name}', or give the file another name."
          )
  for domain in tasks.GYM:  # Some of these have states of the same size.
    name = domain.removesuffix('2d')  # D4RL calls one walker_mixed.
    if file.name.startswith(name) and domain != task.domain:
      raise UserError(
        f'{file} is of {domain}, but the task is {task.name}: bind TASK to one '
        'of its tasks.'
      )


def _checksum(file: pathlib.Path) -> str:
  """SHA-256, the one that it had when it was fetched."""
  digest = sha256(file)
  entry = (fetched.read(file.parent) or {}).get(file.name)
  if entry and entry['sha256'] != digest:
    raise UserError(
      f'{file} has changed since it was fetched: delete it and fetch it again.'
    )
  return digest
