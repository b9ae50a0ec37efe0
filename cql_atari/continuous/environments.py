"""D4RL's environments as they exist today, in the layout of D4RL's data.

docs/d4rl.md says where today's environments differ from those that the data
came from, and what is done about it here.
"""

import functools
import os
import re
import warnings
from importlib import metadata
from typing import Any

import cv2
import numpy as np
from absl import logging

from cql_atari.continuous import drawing, tasks
from cql_atari.core.constraints import PositiveInt, configurable
from cql_atari.core.errors import UserError

_GYM = {
  'halfcheetah': 'HalfCheetah-v4',
  'hopper': 'Hopper-v4',
  'walker2d': 'Walker2d-v4',
}
# D4RL's mazes, with the start r and the goal g that evaluations have.
_MAZES = {
  'antmaze-umaze': ('11111', '1r001', '11101', '1g001', '11111'),
  'antmaze-medium': (
    '11111111',
    '1r011001',
    '10010001',
    '11000111',
    '10010001',
    '10100101',
    '100010g1',
    '11111111',
  ),
  'antmaze-large': (
    '111111111111',
    '1r0001000001',
    '101101010101',
    '100000010001',
    '101111011101',
    '100101000001',
    '110101010111',
    '100100010g01',
    '111111111111',
  ),
}
_KITCHEN = ('microwave', 'kettle', 'light switch', 'slide cabinet')
# As the data's; gymnasium-robotics has 0.01 for joints and 0.0005 for objects.
_KITCHEN_NOISE = 0.1
_HEIGHT = 420  # Of pictures.
_KITCHEN_MIXED = ('microwave', 'kettle', 'bottom burner', 'light switch')


def make(task: tasks.Task, renders: bool = False, most: int | None = None):
  """Makes the environment of a task.

  Args:
    task: the task.
    renders: whether it gives pictures.
    most: steps after which an episode is cut off; the task's own by default.

  Returns:
    A gymnasium environment: observations (S,) in the order of D4RL's data,
    actions (A,) in [-1, 1], D4RL's rewards and ends.

  Raises:
    UserError: MuJoCo or gymnasium-robotics is missing.
  """
  os.environ.setdefault('MUJOCO_GL', 'egl' if renders else 'disable')
  try:
    import gymnasium

    if not task.is_gymnasium:
      import mujoco  # noqa: F401
    if not task.is_gymnasium and task.domain not in _GYM:
      import gymnasium_robotics

      gymnasium.register_envs(gymnasium_robotics)
  except ImportError as error:
    raise UserError(
      f"{task.domain} needs {error.name}: pip install 'cql_atari[d4rl]'."
    ) from None
  name, settings, adapt = _description(task)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Of newer versions than the data's.
    environment = gymnasium.make(
      name,
      max_episode_steps=most or task.settings.max_episode_steps,
      disable_env_checker=True,
      render_mode='rgb_array' if renders else None,
      **settings,
    )
  return adapt(environment) if adapt else environment


def _description(task: tasks.Task):
  """Gymnasium's name, its settings, and what makes it D4RL's."""
  from cql_atari.continuous import wrappers

  if task.is_gymnasium:
    return task.domain, {}, wrappers.unit_actions
  if task.domain in _GYM:
    return _GYM[task.domain], {}, None
  if task.domain in _MAZES:
    settings = {'maze_map': maze(task.domain), 'continuing_task': False}
    return 'AntMaze_UMaze-v4', settings, wrappers.AntMaze
  if task.domain == 'kitchen':
    goals = _KITCHEN_MIXED if task.data == 'mixed' else _KITCHEN
    settings = {
      'tasks_to_complete': list(goals),
      'robot_noise_ratio': _KITCHEN_NOISE,
      'object_noise_ratio': _KITCHEN_NOISE,
    }
    return 'FrankaKitchen-v1', settings, wrappers.Kitchen
  distances = {
    'hammer': lambda seen: seen[33:36] - seen[36:39],
    'door': lambda seen: seen[35:38],
    'relocate': lambda seen: seen[30:33],
  }
  adapt = wrappers.Pen
  if task.domain in distances:
    adapt = functools.partial(wrappers.Reach, distance=distances[task.domain])
  return f'AdroitHand{task.domain.capitalize()}-v1', {}, adapt


def are_same(task: tasks.Task, other: tasks.Task) -> bool:
  """Whether two tasks are played in the same environment, with its rewards."""
  return _description(task)[:2] == _description(other)[:2]


def gymnasium_name(task: tasks.Task) -> str:
  """Gymnasium's name of a task's environment, such as 'Hopper-v4'."""
  return _description(task)[0]


def check_recorded(name: str, task: tasks.Task, source: str) -> None:
  """Refuses play that was recorded in another environment than the task's.

  Args:
    name: gymnasium's name of it, of any version, or D4RL's of a task.
    task: the task that it is taken for.
    source: the data, for the error's text.
  """
  expected = gymnasium_name(task)
  if _kind(name) not in (_kind(expected), _kind(task.domain)):
    raise UserError(
      f'{source} is of {name}, but {task.name} is played in {expected}: bind '
      'TASK to one of its tasks.'
    )
  version = re.search(r'-v\d+$', name)
  if version and name[0].isupper() and not expected.endswith(version[0]):
    logging.warning(
      '%s is of %s, and is taken for %s, which is played in %s, where rewards '
      "may differ: bind TASK='gymnasium:%s' to play where it was recorded.",
      source,
      name,
      task.name,
      expected,
      name,
    )


def _kind(name: str) -> str:
  """'hopper' of 'Hopper-v4', 'package:Hopper-v4' and 'hopper-medium-v2'.

  Of D4RL's mazes the size as well: 'antmaze-large'.
  """
  kind, *rest = name.rpartition(':')[2].lower().split('-')
  return '-'.join([kind, *rest[:1]]) if kind == 'antmaze' else kind


def maze(domain: str) -> list[list]:
  """The map for gymnasium-robotics, whose rows go the other way."""
  cells = {'0': 0, '1': 1, 'r': 'r', 'g': 'g'}
  return [[cells[cell] for cell in row] for row in reversed(_MAZES[domain])]


@configurable
class D4RLEnvironments:
  """Environments of a task side by side, each starting anew when it ends.

  Attributes:
    task: whose they are.
    num_environments: episodes played at once, E.
    renders: whether `picture` will be asked for; set before `reset`.
    draws: whether the environments themselves can be drawn, which has to be in
      a process without TensorFlow; see `drawing`.
  """

  renders = False
  draws = False

  def __init__(
    self,
    task: str,
    num_environments: PositiveInt = 10,
    max_steps_per_episode: PositiveInt = 1000,
  ):
    """Describes the environments; the first `reset` makes them.

    Args:
      task: D4RL's name of it, such as 'hopper-medium-v2'.
      num_environments: episodes played at once, E.
      max_steps_per_episode: steps after which an episode is cut off, where
        the task doesn't do so sooner.
    """
    self.task = tasks.task(task)
    self.num_environments = num_environments
    self.max_steps_per_episode = max_steps_per_episode
    self._environments = None
    self._mirror = None

  @property
  def benchmark(self) -> str:
    """The name of the benchmark that they belong to."""
    return 'gymnasium' if self.task.is_gymnasium else 'd4rl'

  @property
  def name(self) -> str:
    """The task's domain, such as 'hopper'."""
    return self.task.domain

  @property
  def longest_episode(self) -> int:
    """Steps after which an episode is cut off."""
    most = self.task.settings.max_episode_steps
    return min(most, self.max_steps_per_episode)

  def reset(self, seed: int) -> np.ndarray:
    """Starts new episodes.

    Args:
      seed: the same seed and actions play the same episodes.

    Returns:
      States float32 (E, S).
    """
    if self._environments is None:
      self._environments = [
        make(self.task, self.draws, self.longest_episode)
        for _ in range(self.num_environments)
      ]
    if self.renders:
      if self._mirror is None:
        self._mirror = drawing.Mirror(
          self.task.name, self.max_steps_per_episode
        )
      self._mirror.reset(seed)
    seeds = np.random.SeedSequence(seed).generate_state(self.num_environments)
    return np.array(
      [
        environment.reset(seed=int(s))[0]
        for environment, s in zip(self._environments, seeds)
      ],
      np.float32,
    )

  def step(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes one step in every environment.

    Args:
      actions: (E, A) in [-1, 1].

    Returns:
      States float32 (E, S), already of the new episode where one ended;
      rewards float64 (E,); whether the episode ended or was cut off, (E,).
    """
    if self._mirror is not None:
      self._mirror.step(np.asarray(actions[0]))
    states, rewards, over = [], [], []
    for environment, action in zip(
      self._environments, np.asarray(actions, np.float32)
    ):
      state, reward, terminal, cut_off, _ = environment.step(action)
      if terminal or cut_off:
        state, _ = environment.reset()
      states.append(state)
      rewards.append(reward)
      over.append(terminal or cut_off)
    return np.array(states, np.float32), np.array(rewards), np.array(over)

  def picture(self, states: np.ndarray) -> np.ndarray:
    """The first one as it looks now."""
    del states
    return self._mirror.picture()

  def drawn(self) -> np.ndarray:
    """The same, where `draws` is set: uint8 (420, W, 3)."""
    picture = np.asarray(self._environments[0].render())
    width = 4 * round(_HEIGHT * picture.shape[1] / picture.shape[0] / 4)
    return cv2.resize(picture, (width, _HEIGHT))

  @property
  def record(self) -> dict[str, Any]:
    """Their fields in run.json."""
    package = 'gymnasium' if self.task.is_gymnasium else 'mujoco'
    return {'task': self.task.name, package: metadata.version(package)}
