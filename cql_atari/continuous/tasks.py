"""D4RL's tasks by name: data, environment, episode length and score range.

Any other task of continuous control is `gymnasium:` and its name there, such as
'gymnasium:Pusher-v5', with data of one's own.

A name is DOMAIN-DATA-VERSION, such as 'hopper-medium-v2' or
'antmaze-large-play-v0'. Sizes and score ranges are D4RL's own (Fu et al., 2020,
and its infos.py); a score of 0 is random play, 100 an expert's.
"""

import dataclasses
import difflib
import functools

import numpy as np

from cql_atari.core.errors import UserError

URL = 'https://rail.eecs.berkeley.edu/datasets/offline_rl'

GYMNASIUM = 'gymnasium:'
SNAPSHOT_PERIOD = 5000  # Steps of online play.
_LONGEST = 1000  # Steps of an episode where gymnasium has no limit.

GYM_DATA = (
  'random',
  'medium',
  'expert',
  'medium-expert',
  'random-expert',
  'medium-replay',
)
_MAZE_DATA = ('play', 'diverse')
_HAND_DATA = ('human', 'cloned')
_KITCHEN_DATA = ('complete', 'partial', 'mixed')


@dataclasses.dataclass(frozen=True)
class Domain:
  """Properties that all tasks of a domain share.

  Attributes:
    state_size: numbers in an observation of the data.
    action_size: numbers in an action, each in [-1, 1].
    max_episode_steps: steps after which an episode is cut off.
    score_range: mean returns of random play and of an expert; None where
      scores are returns.
    version: the data's version where a name has none.
    data: of each of its tasks, such as 'medium'.
    action_range: least and greatest of every number in an action, (A,) each,
      as the environment itself and its data have them.
  """

  state_size: int
  action_size: int
  max_episode_steps: int
  score_range: tuple[float, float] | None
  version: str
  data: tuple[str, ...] = ()
  action_range: tuple | None = None


# Whose data `collect` makes as well.
GYM = ('halfcheetah', 'hopper', 'walker2d')
DOMAINS = {
  'halfcheetah': Domain(17, 6, 1000, (-280.178953, 12135.0), 'v2', GYM_DATA),
  'hopper': Domain(11, 3, 1000, (-20.272305, 3234.3), 'v2', GYM_DATA),
  'walker2d': Domain(17, 6, 1000, (1.629008, 4592.3), 'v2', GYM_DATA),
  'antmaze-umaze': Domain(29, 8, 700, (0.0, 1.0), 'v0', ('', 'diverse')),
  'antmaze-medium': Domain(29, 8, 1000, (0.0, 1.0), 'v0', _MAZE_DATA),
  'antmaze-large': Domain(29, 8, 1000, (0.0, 1.0), 'v0', _MAZE_DATA),
  'pen': Domain(45, 24, 100, (96.262799, 3076.833102), 'v0', _HAND_DATA),
  'hammer': Domain(46, 26, 200, (-274.856578, 12794.134825), 'v0', _HAND_DATA),
  'door': Domain(39, 28, 200, (-56.512833, 2880.569309), 'v0', _HAND_DATA),
  'relocate': Domain(39, 30, 200, (-6.425911, 4233.877798), 'v0', _HAND_DATA),
  'kitchen': Domain(60, 9, 280, (0.0, 4.0), 'v0', _KITCHEN_DATA),
}


@dataclasses.dataclass(frozen=True)
class Task:
  """One of D4RL's tasks.

  Attributes:
    domain: such as 'hopper' or 'antmaze-umaze'.
    data: such as 'medium'; '' for 'antmaze-umaze', whose data has no name.
    version: such as 'v2'.
    is_gymnasium: whether `domain` is an environment of gymnasium's instead.
  """

  domain: str
  data: str
  version: str
  is_gymnasium: bool = False

  @property
  def name(self) -> str:
    """Such as 'hopper-medium-v2'."""
    if self.is_gymnasium:
      return f'{GYMNASIUM}{self.domain}'
    return '-'.join(filter(None, (self.domain, self.data, self.version)))

  @property
  def is_maze(self) -> bool:
    """Whether it is one of AntMaze's."""
    return self.domain.startswith('antmaze')

  @property
  def settings(self) -> Domain:
    """The properties of its domain."""
    return _own(self.domain) if self.is_gymnasium else DOMAINS[self.domain]

  @property
  def path(self) -> str | None:
    """The path of D4RL's file below URL; None where D4RL has none."""
    return None if self.is_gymnasium else _published(self)

  @property
  def file_names(self) -> list[str]:
    """Possible names of its data file: D4RL's, or SACCollector's."""
    stem = '-'.join(filter(None, (self.domain, self.data)))
    return [*self.published_names, f'{stem}.hdf5']

  @property
  def published_names(self) -> list[str]:
    """Names D4RL's own data of it may have: its file's, or by task."""
    if self.is_gymnasium:
      return []
    names = [f'{self.name}.hdf5']
    return [self.path.rpartition('/')[2], *names] if self.path else names

  def normalized_score(self, value):
    """D4RL's score: 0 for the return of random play, 100 for an expert's."""
    if self.settings.score_range is None:
      return value
    low, high = self.settings.score_range
    return 100.0 * (value - low) / (high - low)


def task(name: str) -> Task:
  """Finds a task.

  Args:
    name: as D4RL has it; the version may be left out. 'mixed' is another name
      of 'medium-replay', and 'undirected' of the kitchen's 'mixed', as in the
      paper's tables. Or 'gymnasium:' and a name there.

  Raises:
    UserError: there is no such task.
  """
  if str(name).startswith(GYMNASIUM):
    result = Task(str(name).removeprefix(GYMNASIUM), '', '', is_gymnasium=True)
    result.settings  # noqa: B018
    return result
  known = names()
  stem, _, version = str(name).rpartition('-')
  if not (version[:1] == 'v' and version[1:].isdigit()):
    stem, version = str(name), ''
  if stem.split('-')[0] in GYM:
    stem = stem.replace('-mixed', '-medium-replay')
  stem = stem.replace('kitchen-undirected', 'kitchen-mixed')
  if stem not in known:
    close = difflib.get_close_matches(stem, known, 1, 0.5)
    if ':' in str(name) or '/' in str(name):
      raise UserError(
        f'{name!r} is no task of D4RL: the task comes first, then its data, as '
        "in ('hopper-medium-v2', 'minari:mujoco/hopper/medium-v0')."
      )
    hint = (
      f'did you mean {close[0]}?'
      if close
      else 'try hopper-medium-v2, or gymnasium:Pusher-v5 for one of gymnasium.'
    )
    raise UserError(f'there is no D4RL task {name!r}: {hint}')
  if version not in ('', 'v0', 'v1', 'v2'):
    raise UserError(
      f'there is no D4RL task {name!r}: its versions are v0, v1 and v2.'
    )
  domain, data = known[stem]
  return Task(domain, data, version or DOMAINS[domain].version)


@functools.cache
def _own(name: str) -> Domain:
  """The properties of a gymnasium task, from its environment."""
  import gymnasium

  try:
    environment = gymnasium.make(name, disable_env_checker=True)
  except Exception as error:  # Of gymnasium's, or of the task's own package.
    text = ' '.join(str(error).split())
    raise UserError(
      f'gymnasium cannot make {name!r} ({text}): give a name as in '
      'gymnasium:Pusher-v5, or package:Name-v0 after the colon.'
    ) from None
  states, actions = environment.observation_space, environment.action_space
  environment.close()
  boxes = all(isinstance(s, gymnasium.spaces.Box) for s in (states, actions))
  if not boxes or len(states.shape) != 1 or len(actions.shape) != 1:
    raise UserError(
      f'{name} has observations {states} and actions {actions}: give a task '
      'where both are vectors.'
    )
  if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
    raise UserError(f'{name} has actions without bounds: give another task.')
  return Domain(
    states.shape[0],
    actions.shape[0],
    environment.spec.max_episode_steps or _LONGEST,
    None,
    '',
    action_range=(actions.low, actions.high),
  )


def check_steps(steps: int, parameter: str, period: int) -> None:
  """Raises a UserError where steps to play are no multiple of a period."""
  if steps % period:
    raise UserError(
      f'--steps={steps}: give a multiple of {parameter}, {period}.'
    )


def names() -> dict[str, tuple[str, str]]:
  """Every task of the paper's Tables 1 and 2, without versions.

  Returns:
    Its domain and its data, by name.
  """
  pairs = (
    (name, data) for name, domain in DOMAINS.items() for data in domain.data
  )
  return {'-'.join(filter(None, pair)): pair for pair in pairs}


_MAZE_VERSIONS = {
  'v0': ('ant_maze_new', 'sparse'),
  'v2': ('ant_maze_v2', 'sparse_fixed'),
}
_MAZES = {'umaze': 'u-maze', 'medium': 'big-maze', 'large': 'hardest-maze'}
_KITCHENS = {
  'complete': 'mini_kitchen_microwave_kettle_light_slider-v0',
  'partial': 'kitchen_microwave_kettle_light_slider-v0',
  'mixed': 'kitchen_microwave_kettle_bottomburner_light-v0',
}


def _published(task: Task) -> str | None:
  """The path below URL, of the versions that are known here."""
  domain, data, version = task.domain, task.data, task.version
  if domain in GYM:
    if data == 'random-expert':
      return None
    data = data.replace('-', '_')
    if version == 'v2':
      return f'gym_mujoco_v2/{domain}_{data}-v2.hdf5'
    if version == 'v0':
      data = data.replace('medium_replay', 'mixed')
      name = 'walker' if (domain, data) == ('walker2d', 'mixed') else domain
      return f'gym_mujoco/{name}_{data}.hdf5'
    return None
  if domain.startswith('antmaze') and version in _MAZE_VERSIONS:
    maze = _MAZES[domain.removeprefix('antmaze-')]
    multistart, multigoal = bool(data), data == 'diverse'
    folder, end = _MAZE_VERSIONS[version]
    return (
      f'{folder}/Ant_maze_{maze}_noisy_multistart_{multistart}'
      f'_multigoal_{multigoal}_{end}.hdf5'
    )
  if version != 'v0' or domain.startswith('antmaze'):
    return None
  if domain == 'kitchen':
    return f'kitchen/{_KITCHENS[data]}.hdf5'
  if data == 'human':
    return f'hand_dapg/{domain}-v0_demos_clipped.hdf5'
  return f'hand_dapg/{domain}-demos-v0-bc-combined.hdf5'
