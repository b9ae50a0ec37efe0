"""From offline to online on a task, as a user does it."""

import csv
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from d4rl_files import HOPPER, columns, write

import cql_atari
from cql_atari.continuous import sampling
from cql_atari.runs import trained

SMALL = {
  'TASK': 'hopper-medium',
  'Critic.hidden_units': (8, 8),
  'TanhGaussianPolicy.hidden_units': (8, 8),
  'ContinuousAgent.batch_size': 8,
  'open_task_data.normalize_states': True,
  'open_task_data.reward_scale': 2.0,
  'FixedReplayRunner.num_iterations': 1,
  'FixedReplayRunner.training_steps': 20,
  'FixedReplayRunner.evaluation_steps': 0,
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Data, in D4RL's layout."""
  folder = tmp_path_factory.mktemp('offline')
  write(folder / 'hopper-medium.hdf5', columns(300, HOPPER))
  return folder


def fit(folder, config, **parameters):
  run = folder / config.removesuffix('.gin').replace('/', '_')
  cql_atari.fit(
    run, config, replay_dir=folder, parameters={**SMALL, **parameters}
  )
  return run


@pytest.fixture(scope='module')
def offline(folder):
  return fit(folder, 'd4rl/cql.gin')


def command(offline, out, *flags):
  return [
    sys.executable, '-m', 'cql_atari.collect', f'--init_from={offline}',
    '--steps=600', f'--out={out}',
    '--gin_bindings=FineTuner.snapshot_period=100',
    '--gin_bindings=FineTuner.snapshot_episodes=2',
    '--gin_bindings=FineTuner.learning_starts=200',
    '--gin_bindings=FineTuner.checkpoint_minutes=0.0', *flags,
  ]  # fmt: skip


def call(arguments):
  return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_offline_agent_goes_on_online(offline, tmp_path):
  online = tmp_path / 'hopper' / '1'
  process = subprocess.Popen(command(offline, tmp_path))
  while not any((online / 'checkpoints').glob('*.npz')):
    assert process.poll() is None
    time.sleep(0.02)
  process.kill()
  process.wait()
  done = call(command(offline, tmp_path))
  assert done.returncode == 0, done.stderr
  assert f'{online}/agent.npz' in done.stdout and 'train' not in done.stdout
  with open(online / 'metrics.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [int(row['steps']) for row in rows] == list(range(0, 601, 100))
  # Nothing is learned before 250 steps are played; then a step for each.
  returns = [float(row['return_mean']) for row in rows]
  assert returns[0] == returns[1] == returns[2]
  with np.load(online / 'agent.npz') as agent:
    steps = agent['loss_steps_0']
  assert steps == 20 + 600 - 200
  again = call(command(offline, tmp_path))
  assert 'all 600 steps are played already' in again.stdout
  other = call(command(offline, tmp_path, '--steps=700'))
  assert other.returncode == 2
  assert 'began with steps 600, not 700' in other.stderr


def test_an_agent_begins_online_with_its_offline_weights(offline, tmp_path):
  flags = '--steps=100', '--gin_bindings=FineTuner.learning_starts=9000'
  done = call(command(offline, tmp_path, *flags))
  assert done.returncode == 0, done.stderr
  before = trained.TrainedRun(offline).agent.state()
  with np.load(tmp_path / 'hopper' / '1' / 'agent.npz') as after:
    names = [name for name in before if not name.startswith('scalar_')]
    for name in names:
      np.testing.assert_array_equal(after[name], before[name])
  # What was played is in the memory as the data are: normalized and scaled.
  data = trained.TrainedRun(offline).data
  checkpoint = max((tmp_path / 'hopper' / '1' / 'checkpoints').glob('*.npz'))
  with np.load(checkpoint) as memory:
    states, rewards = memory['memory.state'], memory['memory.reward']
  observed = states * data.state_std + data.state_mean
  assert 1.2 < observed[0, 0] < 1.3  # Hopper's height where it begins.
  assert 0 < rewards[0] < 6  # Twice some 1 to 3.


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'parameters'),
  [
    ('sac', {}),
    ('bear_small', {}),
    ('brac_v', {'BRACAgent.behavior_steps': 20}),
  ],
)
def test_other_agents_with_values_go_on_too(folder, tmp_path, name, parameters):
  run = fit(folder, f'd4rl/{name}.gin', **parameters)
  done = call(command(run, tmp_path, '--steps=300'))
  assert done.returncode == 0, done.stderr
  before = trained.TrainedRun(run).agent.state()
  with np.load(tmp_path / 'hopper' / '1' / 'agent.npz') as after:
    assert after['loss_steps_0'] > before['loss_steps_0']
    assert not np.array_equal(after['loss_0'], before['loss_0'])


def test_data_that_moved_are_found(offline, folder, tmp_path):
  moved = tmp_path / 'moved'
  moved.mkdir()
  (folder / 'hopper-medium.hdf5').rename(moved / 'hopper-medium.hdf5')
  try:
    lost = call(command(offline, tmp_path))
    found = call(command(offline, tmp_path, f'--replay_dir={moved}'))
  finally:
    (moved / 'hopper-medium.hdf5').rename(folder / 'hopper-medium.hdf5')
  assert lost.returncode == 2 and '--replay_dir' in lost.stderr
  assert lost.stderr.count('\n') == 1, lost.stderr
  assert found.returncode == 0, found.stderr


def test_an_agent_without_values_is_refused(folder, tmp_path):
  done = call(command(fit(folder, 'd4rl/bc.gin'), tmp_path))
  assert done.returncode == 2 and 'learns no values' in done.stderr
  assert done.stderr.count('\n') == 1, done.stderr


@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_a_mixed_batch_holds_its_share_of_the_data(folder, share):
  data = cql_atari.open_task_data('hopper-medium', str(folder))
  memory = sampling.ReplayMemory(10, 11, 3)
  played = [np.full((4, *size), 1e6) for size in ((11,), (3,), (), (11,), ())]
  memory.extend(*played)
  mixed = sampling.MixedSampler(data, memory, share)
  batch = mixed.sample(sampling.Noise(0, tf.constant(0, tf.int64)), 8)
  for column in batch:
    rows = column.numpy().reshape(8, -1).max(axis=1)
    assert np.sum(rows < 1e5) == 8 * share
  assert len(mixed) == len(data)
