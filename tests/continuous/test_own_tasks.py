"""Films and models of continuous agents, and tasks that are not D4RL's."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import gymnasium
import numpy as np
import pytest
from training_runs import python

import cql_atari
from cql_atari.continuous import (
  datasets,
  environments,
  files,
  gymnasium_tasks,
  tasks,
)
from cql_atari.core.errors import UserError
from cql_atari.runs import checkpoints, trained

SMALL = (
  'Critic.hidden_units=(16, 16)',
  'TanhGaussianPolicy.hidden_units=(16, 16)',
  'ConditionalVAE.hidden_units=(16, 16)',
  'ContinuousAgent.batch_size=16',
  'FixedReplayRunner.num_iterations=1',
  'FixedReplayRunner.training_steps=60',
  'D4RLEnvironments.num_environments=2',
)


def random_play(name, path, rows=400):
  """Writes random play with the environment's own actions, D4RL's layout."""
  environment = gymnasium.make(name, disable_env_checker=True)
  environment.action_space.seed(0)
  state, _ = environment.reset(seed=0)
  columns = [[] for _ in range(5)]
  for _ in range(rows):
    action = environment.action_space.sample()
    following, reward, terminal, cut_off, _ = environment.step(action)
    for column, value in zip(
      columns, (state, action, reward, terminal, cut_off)
    ):
      column.append(value)
    state = environment.reset()[0] if terminal or cut_off else following
  floats = [np.array(column, np.float32) for column in columns[:3]]
  files.write_hdf5(path, files.Steps(*floats, *map(np.array, columns[3:])))


def train(folder, config, task, data):
  bindings = [f'--gin_bindings={binding}' for binding in SMALL]
  done = python(
    '-m', 'cql_atari.train', f'--base_dir={folder}', f'--gin_files={config}',
    f'--gin_bindings=TASK={task!r}', f'--replay_dir={data}', *bindings,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return folder


@pytest.fixture(scope='module')
def hopper(tmp_path_factory):
  data = tmp_path_factory.mktemp('data') / 'hopper-medium.hdf5'
  random_play('Hopper-v4', data)
  return data


@pytest.mark.parametrize(
  'method',
  ['cql', *(pytest.param(m, marks=pytest.mark.slow) for m in ('bear', 'bc'))],
)
def test_exports_act_without_the_package(hopper, tmp_path, method):
  """SavedModel and ONNX, in processes of their own, against the agent."""
  run = train(tmp_path / 'run', f'd4rl/{method}.gin', 'hopper-medium', hopper)
  model = tmp_path / 'model'
  done = python(
    '-m', 'cql_atari.export', f'--run={run}', f'--out={model}', '--onnx'
  )
  assert done.returncode == 0, done.stderr
  states = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
  np.save(tmp_path / 'states.npy', states)
  (tmp_path / 'act.py').write_text("""
import sys
import numpy as np
import onnxruntime
import tensorflow as tf

states = np.load('states.npy')
model = tf.saved_model.load('model').signatures['serving_default']
found = {k: v.numpy() for k, v in model(states=tf.constant(states)).items()}
session = onnxruntime.InferenceSession('model/model.onnx')
names = [output.name for output in session.get_outputs()]
again = dict(zip(names, session.run(None, {'states': states})))
assert found.keys() == again.keys()
for name in found:
  np.testing.assert_allclose(found[name], again[name], rtol=1e-3, atol=1e-5)
assert 'cql_atari' not in sys.modules
np.savez('found.npz', **found)
""")
  done = python('act.py', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  found = np.load(tmp_path / 'found.npz')
  agent = trained.TrainedRun(run, with_data=None).agent
  # BEAR draws anew for every state in play; alone, a state has the first draws.
  actions = np.concatenate([agent.select_actions(s[None]) for s in states])
  np.testing.assert_allclose(found['action'], actions, rtol=1e-4, atol=1e-5)
  assert set(found.keys()) == {'action', 'q_value'} - (
    {'q_value'} if method == 'bc' else set()
  )
  if method != 'bc':
    values = agent.predict_q_values(states, actions)
    np.testing.assert_allclose(found['q_value'], values, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_clones_goes_on_to_the_bit(
  hopper, tmp_path
):
  """By SIGTERM, twice at most, which saves; and by SIGKILL, which does not."""
  ends = []
  for name in ('whole', 'killed'):
    command = [
      sys.executable, '-m', 'cql_atari.train', f'--base_dir={tmp_path / name}',
      '--gin_files=d4rl/brac_v.gin', "--gin_bindings=TASK='hopper-medium'",
      f'--replay_dir={hopper}',
      *(f'--gin_bindings={b}' for b in (*SMALL, *CLONING)),
    ]  # fmt: skip
    if name == 'killed':
      saved = tmp_path / name / 'checkpoints' / 'ckpt.0.npz'
      for stop in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(FileNotFoundError):
          saved.touch()
          os.utime(saved, (0, 0))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not saved.exists() or saved.stat().st_mtime < 1:
          assert process.poll() is None
          time.sleep(0.005)
        process.send_signal(stop)
        assert process.wait() in (143, -9)
        steps = np.load(saved)['behavior_steps_0']
        assert 0 < steps < 20_000
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ends.append(checkpoints.load_newest(tmp_path / name / 'checkpoints'))
  assert ends[0][0] == ends[1][0] == 60
  assert ends[0][1]['behavior_steps_0'] == 20_000
  for key, array in ends[0][1].items():
    np.testing.assert_array_equal(array, ends[1][1][key], err_msg=key)


CLONING = (
  'BRACAgent.behavior_steps=20000',
  'BRACAgent.behavior_patience=100',
  'FixedReplayRunner.checkpoint_minutes=0.0',
)


def can_draw():
  done = python(
    '-c',
    "import gymnasium; e = gymnasium.make('Hopper-v4', render_mode='rgb_array')"
    "; e.reset(); print('drawn', e.render().shape)",
    env={'MUJOCO_GL': 'egl', 'PATH': ''},
  )
  return 'drawn' in done.stdout


@pytest.mark.slow
def test_a_film_shows_the_robot_and_its_action(hopper, tmp_path):
  run = train(tmp_path / 'run', 'd4rl/cql.gin', 'hopper-medium', hopper)
  out = tmp_path / 'play.mp4'
  done = python(
    '-m', 'cql_atari.watch', f'--run={run}', f'--out={out}', '--max_steps=12'
  )
  if not can_draw():
    assert done.returncode == 2 and 'set MUJOCO_GL to egl' in done.stderr
    assert not out.exists()
    pytest.skip('nothing here draws')
  assert done.returncode == 0, done.stderr
  assert 'hopper after 60 gradient steps. Returns: ' in done.stdout
  video = cv2.VideoCapture(str(out))
  pictures = []
  while (read := video.read())[0]:
    pictures.append(read[1])
  assert len(pictures) == 12 and pictures[0].shape == (420, 740, 3)
  moved = np.abs(pictures[11].astype(int) - pictures[0])
  assert moved[:, :420].max() > 50 and moved[:, 420:].max() > 50


def test_any_continuous_task_of_gymnasium_trains_on_data_of_its_own(tmp_path):
  """Pendulum's actions are in [-2, 2]; agents know [-1, 1] alone."""
  path, name = tmp_path / 'swing.hdf5', 'gymnasium:Pendulum-v1'
  random_play('Pendulum-v1', path)
  data = datasets.open_task_data(name, str(path))
  raw = files.read_hdf5(path, tasks.task(name))
  rows = files.transition_rows(raw)
  np.testing.assert_allclose(2 * data.action, raw.actions[rows], atol=1e-6)
  assert not data.is_published and data.label == 'plain (own)'
  # The same actions, by gymnasium itself and by ours.
  played = environments.D4RLEnvironments(name, 1)
  theirs = gymnasium.make('Pendulum-v1')
  played.reset(3)
  seed = int(np.random.SeedSequence(3).generate_state(1)[0])
  theirs.reset(seed=seed)
  for action in (-1.0, 0.25, 0.75):
    states, rewards, _ = played.step(np.array([[action]]))
    expected, reward, *_ = theirs.step(np.float32([2 * action]))
    np.testing.assert_allclose(states[0], expected, rtol=1e-5)
    assert rewards[0] == pytest.approx(reward)
  assert played.longest_episode == 200
  run = train(tmp_path / 'run', 'd4rl/cql.gin', name, path)
  record = json.loads((run / 'run.json').read_text())
  assert record['benchmark'] == 'gymnasium' and record['task'] == name
  done = python(
    '-m', 'cql_atari.plot', f'--runs={run}', f'--out={tmp_path}/a.png'
  )
  assert done.returncode == 0, done.stderr


def test_own_data_may_be_named_after_a_domain_of_d4rls(tmp_path):
  path = tmp_path / 'hopper-own.hdf5'
  random_play('Hopper-v5', path, rows=50)
  assert len(datasets.open_task_data('gymnasium:Hopper-v5', str(path)))
  walker = tasks.task('gymnasium:Walker2d-v5')
  for name in ('Walker2d-v4', 'walker2d-own', 'package:Walker2d-v9'):
    environments.check_recorded(name, walker, 'x')
  with pytest.raises(UserError, match='x is of Hopper-v5'):
    environments.check_recorded('Hopper-v5', walker, 'x')


def test_a_gymnasium_task_learns_from_a_minari_dataset(tmp_path, monkeypatch):
  minari = pytest.importorskip('minari')
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
  collector = minari.DataCollector(gymnasium.make('Pendulum-v1'))
  collector.reset(seed=0)
  collector.action_space.seed(0)
  actions, over = [], False
  while not over:
    actions.append(collector.action_space.sample())
    over = any(collector.step(actions[-1])[2:4])
  collector.create_dataset('own/pendulum-v0')
  data = datasets.open_task_data(
    'gymnasium:Pendulum-v1', 'minari:own/pendulum-v0'
  )
  np.testing.assert_allclose(2 * data.action, actions[: len(data)], atol=1e-6)
  agent = cql_atari.SACAgent(data, batch_size=8)
  agent.train_steps(2)
  assert agent.gradient_steps == 2


def test_another_version_of_the_environment_is_told(caplog):
  hopper = tasks.task('hopper-medium')
  for name, count in (
    ('Hopper-v4', 0),
    ('hopper-medium-v2', 0),
    ('Hopper-v5', 1),
  ):
    caplog.clear()
    environments.check_recorded(name, hopper, 'x')
    assert len(caplog.records) == count
  assert "bind TASK='gymnasium:Hopper-v5'" in caplog.text


@pytest.mark.parametrize(
  ('name', 'sentence'),
  [
    ('gymnasium:Nowhere-v0', "gymnasium cannot make 'Nowhere-v0'"),
    ('gymnasium:CartPole-v1', 'give a task where both are vectors'),
    ('xyz', 'gymnasium:Pusher-v5'),
  ],
)
def test_what_is_no_continuous_task_is_refused(name, sentence):
  with pytest.raises(UserError, match=sentence):
    tasks.task(name)


def test_returns_are_told_where_the_task_cannot_be_made():
  """As of runs that were copied to a machine without its package."""
  record = {'task': 'gymnasium:gone:Gone-v0'}
  score = gymnasium_tasks.BENCHMARK.score(record, np.array([3.0]))
  assert score.tolist() == [3.0]


def test_own_data_that_are_missing_say_what_to_give(tmp_path):
  with pytest.raises(UserError, match='--replay_dir=minari:NAME'):
    datasets.open_task_data('gymnasium:Pendulum-v1', str(tmp_path))


def test_all_of_it_from_python(tmp_path):
  """As on Atari: data, an agent, learning, play, a file and back, a run."""
  path, name = tmp_path / 'swing.hdf5', 'gymnasium:Pendulum-v1'
  random_play('Pendulum-v1', path)
  data = cql_atari.open_task_data(name, str(path))
  first, second = (cql_atari.CQLSACAgent(data, seed=1) for _ in range(2))
  first.train_steps(3, show_progress=True)
  second.load(first.save(tmp_path / 'cql.npz'))
  for agent in (first, second):
    agent.train_steps(2)
  for field, value in first.state().items():
    np.testing.assert_array_equal(value, second.state()[field], field)
  games = cql_atari.D4RLEnvironments(
    name, num_environments=2, max_steps_per_episode=20
  )
  played = cql_atari.evaluate(first, games, steps=40, show_progress=False)
  assert played.lengths.tolist() == [20, 20] and (played.returns < 0).all()
  assert first.select_actions(games.reset(0)).shape == (2, 1)
  folder = cql_atari.fit(
    tmp_path / 'run',
    'd4rl/cql.gin',
    replay_dir=path,
    parameters={
      'TASK': name,
      'Critic.hidden_units': (16, 16),
      'TanhGaussianPolicy.hidden_units': (16, 16),
      'FixedReplayRunner.num_iterations': 1,
      'FixedReplayRunner.training_steps': 20,
      'FixedReplayRunner.max_steps_per_episode': 20,
      'D4RLEnvironments.num_environments': 2,
    },
  )
  run = cql_atari.TrainedRun(folder.path)
  run.agent.train_steps(1)
  assert run.agent.gradient_steps == 21
