"""Every task of Tables 1 and 2, in D4RL's layout, without a screen."""

import sys
import warnings
from unittest import mock

import numpy as np
import pytest
from gymnasium.utils import env_checker

from cql_atari.continuous import d4rl_benchmark, environments, tasks
from cql_atari.core.errors import UserError
from cql_atari.environments import evaluation

pytest.importorskip('gymnasium_robotics')


@pytest.mark.parametrize('name', tasks.names())
def test_every_task_steps_in_its_datas_layout(name):
  task = tasks.task(name)
  environment = environments.make(task)
  domain = task.settings
  assert environment.spec.max_episode_steps == domain.max_episode_steps
  state, _ = environment.reset(seed=0)
  assert state.shape == (domain.state_size,)
  space = environment.action_space
  assert space.shape == (domain.action_size,)
  assert (space.low == -1).all() and (space.high == 1).all()
  space.seed(0)
  for _ in range(5):
    state, reward, terminal, cut_off, _ = environment.step(space.sample())
    assert state.shape == (domain.state_size,) and np.isfinite(state).all()
    assert np.isfinite(reward) and not cut_off
    if terminal:
      environment.reset()
  environment.close()


@pytest.mark.parametrize('name', ['hopper-medium', 'door-human', 'pen-human'])
def test_gymnasiums_checker_has_nothing_to_say(name):
  environment = environments.make(tasks.task(name))
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    # Unbounded observations are what the data has.
    warnings.filterwarnings('ignore', message='.*(in|m)finity.*')
    warnings.filterwarnings(
      'ignore', message='.*different from the unwrapped.*'
    )
    env_checker.check_env(environment, skip_render_check=True)


def mean_return(name, episodes):
  environment = environments.make(tasks.task(name))
  environment.action_space.seed(0)
  returns = []
  for episode in range(episodes):
    environment.reset(seed=episode)
    returns.append(0.0)
    over = False
    while not over:
      _, reward, terminal, cut_off, _ = environment.step(
        environment.action_space.sample()
      )
      returns[-1] += reward
      over = terminal or cut_off
  return np.mean(returns)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'episodes', 'tolerance'),
  [
    ('halfcheetah-medium', 10, 60),
    ('door-human', 10, 2),
    ('hammer-human', 10, 3),
    ('relocate-human', 10, 5),
    ('pen-human', 150, 60),
  ],
)
def test_random_play_scores_d4rls_least(name, episodes, tolerance):
  """The reference minima are D4RL's own measurements of random play."""
  low, _ = tasks.task(name).settings.score_range
  assert mean_return(name, episodes) == pytest.approx(low, abs=tolerance)


def test_mazes_are_those_of_the_data():
  """The same walls as gymnasium-robotics has, and D4RL's coordinates."""
  from gymnasium_robotics.envs.maze import maps

  oracle = {
    'umaze': maps.U_MAZE, 'medium': maps.MEDIUM_MAZE, 'large': maps.LARGE_MAZE,
  }  # fmt: skip
  for size, walls in oracle.items():
    found = environments.maze(f'antmaze-{size}')
    found = [[1 if cell == 1 else 0 for cell in row] for row in found]
    assert found[::-1] == walls
  environment = environments.make(tasks.task('antmaze-umaze'))
  goals = []
  for seed in range(20):
    state, _ = environment.reset(seed=seed)
    assert 0 < np.abs(state[:2]).max() <= 0.1  # The start is the origin,
    inner = environment.unwrapped
    goals.append(inner.goal - environment.get_wrapper_attr('start'))
  # and the goal of D4RL's umaze two cells of 4 further along y.
  assert np.all(np.array(goals) >= [0, 8]) and np.ptp(goals, axis=0).min() > 0.5
  assert np.all(np.array(goals) <= [1.5, 9.5])
  # D4RL's ant: half the time step's rate, a fifth of the torque.
  assert inner.ant_env.dt == pytest.approx(0.1)
  np.testing.assert_array_equal(inner.ant_env.model.actuator_gear[:, 0], 30)


def test_kitchen_observations_have_the_goal():
  environment = environments.make(tasks.task('kitchen-complete'))
  state, _ = environment.reset(seed=0)
  goal = state[30:]
  # Microwave, light switch and slide cabinet, as D4RL's observations have them.
  assert goal[22] == -0.75 and goal[17] == -0.69 and goal[19] == 0.37
  assert goal[11] == 0  # The burner is not asked for here.
  mixed = environments.make(tasks.task('kitchen-mixed')).reset(seed=0)[0]
  assert mixed[30 + 11] == -0.88 and mixed[30 + 19] == 0


def test_evaluations_count_whole_episodes():
  games = environments.D4RLEnvironments('hopper-medium', num_environments=3)
  rng = np.random.default_rng(0)

  def act(states, _):
    return rng.uniform(-1, 1, (len(states), 3))

  found = evaluation.play(games, act, 3, seed=0)
  assert len(found.returns) == 3 and (found.lengths < 1000).all()
  states = games.reset(5)
  assert states.dtype == np.float32
  np.testing.assert_array_equal(states, games.reset(5))
  capped = environments.D4RLEnvironments('halfcheetah-medium', 2, 7)
  found = evaluation.play(capped, lambda states, _: np.zeros((2, 6)), 2, seed=0)
  assert found.lengths.tolist() == [7, 7]


def test_what_is_missing_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'mujoco', None)
  with pytest.raises(UserError, match=r"needs mujoco: pip install 'cql_atari"):
    environments.make(tasks.task('hopper-medium'))
  games = environments.D4RLEnvironments('hopper-medium')
  with pytest.raises(UserError, match='needs mujoco'):  # Before any training.
    d4rl_benchmark.BENCHMARK.check(
      mock.Mock(task=tasks.task('hopper-medium')), games
    )
  monkeypatch.undo()
  monkeypatch.setitem(sys.modules, 'gymnasium_robotics', None)
  with pytest.raises(UserError, match='needs gymnasium_robotics'):
    environments.make(tasks.task('pen-human'))
