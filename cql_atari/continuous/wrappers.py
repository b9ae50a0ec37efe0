"""Wrappers that turn today's robotics environments into D4RL's."""

from collections.abc import Callable

import gymnasium
import numpy as np
from gymnasium import utils

_KITCHEN_ROBOT = 9  # Joint positions, then as many velocities,
_KITCHEN_OBJECTS = slice(18, 39)  # then the objects' positions.
_RADIUS = 0.5  # Of AntMaze's goals; gymnasium-robotics has 0.45.
_PEN_HEIGHT, _PEN_DROPPED = 26, 0.075


def kitchen_observation(observation) -> np.ndarray:
  """(..., 60): joints, objects and the 30 numbers of the goal."""
  from gymnasium_robotics.envs.franka_kitchen import kitchen_env

  seen = np.asarray(observation['observation'])
  goal = np.zeros((*seen.shape[:-1], 30))
  for name, values in observation['desired_goal'].items():
    goal[..., kitchen_env.OBS_ELEMENT_INDICES[name]] = values
  return np.concatenate(
    [seen[..., :_KITCHEN_ROBOT], seen[..., _KITCHEN_OBJECTS], goal], axis=-1
  )


def unit_actions(env: gymnasium.Env) -> gymnasium.Env:
  """The same environment with actions in [-1, 1]."""
  space = env.action_space
  if (space.low == -1).all() and (space.high == 1).all():
    return env
  return gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))


class _Flat(gymnasium.ObservationWrapper, utils.RecordConstructorArgs):
  """An environment whose observations are arrays of the data's size."""

  SIZE: int

  def __init__(self, env: gymnasium.Env):
    utils.RecordConstructorArgs.__init__(self)
    super().__init__(env)
    self.observation_space = gymnasium.spaces.Box(
      -np.inf, np.inf, (self.SIZE,), np.float64
    )


class AntMaze(_Flat):
  """AntMaze with D4RL's coordinates, body, starts and goals.

  The origin is the middle of the cell of the start, where every episode begins
  but for a tenth; goals are up to 1.5 beyond the middle of their cell.
  """

  SIZE = 29

  def __init__(self, env: gymnasium.Env):
    super().__init__(env)
    inner = env.unwrapped
    self.start = inner.maze.unique_reset_locations[0].copy()
    inner.position_noise_range = 0.0
    inner.ant_env._reset_noise_scale = 0.1
    inner.ant_env.model.opt.timestep = 0.02
    inner.ant_env.model.actuator_gear[:, 0] = 30.0

  def reset(self, **kwargs):
    """Starts an episode with D4RL's goal."""
    observation, info = self.env.reset(**kwargs)
    inner = self.env.unwrapped
    beyond = inner.np_random.uniform(0.0, [[1.0], [0.5]], (2, 2)).sum(axis=0)
    inner.goal = inner.goal + beyond
    inner.update_target_site_pos()
    return self.observation(observation), info

  def step(self, action):
    """Steps; the goal is reached within 0.5, as in D4RL."""
    observation, _, terminal, cut_off, info = self.env.step(action)
    distance = observation['achieved_goal'] - observation['desired_goal']
    is_there = bool(np.linalg.norm(distance) <= _RADIUS)
    return (
      self.observation(observation),
      float(is_there),
      terminal or is_there,
      cut_off,
      info,
    )

  def observation(self, observation):
    """Float64 (29,): the ant's place from the start, then all else of it."""
    place = observation['achieved_goal'] - self.start
    return np.concatenate([place, observation['observation']])


class Kitchen(_Flat):
  """FrankaKitchen with the goal in its observations."""

  SIZE = 60

  def observation(self, observation):
    """A flat observation, float64 (60,)."""
    return kitchen_observation(observation)


class Reach(gymnasium.Wrapper, utils.RecordConstructorArgs):
  """Restores the sign of the reward's distance term.

  gymnasium-robotics 1.4 adds 0.1 |d| to the dense reward where the data's
  environment took it away, d being from the hand to what it has to take.
  """

  def __init__(
    self, env: gymnasium.Env, distance: Callable[[np.ndarray], np.ndarray]
  ):
    """Wraps an environment; `distance` gives d (3,) of an observation."""
    utils.RecordConstructorArgs.__init__(self, distance=distance)
    super().__init__(env)
    self._distance = distance

  def step(self, action):
    """Steps with D4RL's reward."""
    observation, reward, *rest = self.env.step(action)
    reward -= 0.2 * np.linalg.norm(self._distance(observation))
    return observation, reward, *rest


class Pen(gymnasium.Wrapper, utils.RecordConstructorArgs):
  """The pen, which ends the episode when it is dropped."""

  def __init__(self, env: gymnasium.Env):
    utils.RecordConstructorArgs.__init__(self)
    super().__init__(env)

  def step(self, action):
    """Steps; the end comes where the pen has fallen."""
    observation, reward, terminal, cut_off, info = self.env.step(action)
    terminal = terminal or observation[_PEN_HEIGHT] < _PEN_DROPPED
    return observation, reward, bool(terminal), cut_off, info
