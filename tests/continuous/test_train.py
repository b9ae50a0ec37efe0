"""Training and collecting on a task as a user does it, kills included."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from cql_atari.analysis import selection
from cql_atari.continuous import (
  collector,
  datasets,
  files,
  minari_files,
  tasks,
)
from cql_atari.runs import checkpoints

SMALL = (
  'Critic.hidden_units=(16, 16)',
  'TanhGaussianPolicy.hidden_units=(16, 16)',
  'ContinuousAgent.batch_size=16',
)


def call(module, *arguments):
  return subprocess.run(
    [sys.executable, '-m', module, *map(str, arguments)],
    capture_output=True,
    text=True,
  )


COLLECT = (
  '--task=hopper',
  '--steps=2000',
  *(
    f'--gin_bindings={binding}'
    for binding in (
      *SMALL,
      'SACCollector.rows=600',
      'SACCollector.random_steps=500',
      'SACCollector.snapshot_period=500',
      'SACCollector.snapshot_episodes=2',
      'SACCollector.checkpoint_minutes=0.0',
    )
  ),
)


@pytest.fixture(scope='module')
def collected(tmp_path_factory):
  """A collection that was killed once."""
  out = tmp_path_factory.mktemp('data')
  folder = out / 'hopper' / '1'
  process = subprocess.Popen(
    [
      sys.executable, '-m', 'cql_atari.collect', *COLLECT, f'--out={out}',
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )  # fmt: skip
  while not (folder / 'checkpoints' / 'ckpt.1000.npz').exists():
    assert process.poll() is None, process.communicate()
    time.sleep(0.005)
  process.kill()
  process.communicate()
  assert not (folder / 'datasets.json').exists()
  done = call('cql_atari.collect', *COLLECT, f'--out={out}')
  assert done.returncode == 0, done.stderr
  return folder


def test_collected_datasets_are_as_d4rl_defines_them(collected):
  about = json.loads((collected / 'datasets.json').read_text())
  with open(collected / 'metrics.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [int(row['steps']) for row in rows] == [0, 500, 1000, 1500, 2000]
  returns = np.array([float(row['return_mean']) for row in rows])
  expert = int(np.argmax(returns))
  low, high = returns[0], returns[expert]
  medium = int(np.argmax(returns >= low + (high - low) / 3))
  assert about['expert']['snapshot_step'] == 500 * expert
  assert about['medium']['snapshot_step'] == 500 * medium
  assert about['random']['snapshot_step'] == 0
  read = {
    name: datasets.open_task_data(f'hopper-{name}', str(collected))
    for name in about
  }
  sizes = {name: data.manifest['rows'] for name, data in read.items()}
  assert sizes == {
    'random': 600,
    'medium': 600,
    'expert': 600,
    'medium-replay': 500 * medium,
    'medium-expert': 1200,
    'random-expert': 1200,
  }
  mixed, alone = read['medium-expert'], read['medium']
  np.testing.assert_array_equal(mixed.state[: len(alone)], alone.state)
  # A transition is a step of the environment: height and angle move a little.
  for data in read.values():
    moved = np.abs(data.next_state[:, :2] - data.state[:, :2]).max(axis=1)
    assert moved[data.terminal == 0].max() < 0.2


@pytest.mark.parametrize(
  ('returns', 'medium', 'warnings'),
  [([1.0, 3.0, 4.1, 10.0], 2, 0), ([1.0, 2.0, 10.0, 9.0], 2, 1)],
)
def test_a_medium_that_is_the_expert_is_told(returns, medium, warnings, caplog):
  chosen = collector.choose(np.array(returns), 'hopper')
  assert chosen['medium'] == medium
  assert (
    len([m for m in caplog.messages if 'medium and expert' in m]) == warnings
  )


def test_minari_has_the_same_play(collected, tmp_path, monkeypatch):
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
  task = tasks.task('hopper-medium')
  steps = files.read_hdf5(collected / 'hopper-medium.hdf5', task)
  with h5py.File(collected / 'hopper-medium.hdf5') as file:
    following = file['next_observations'][()]
  steps = dataclasses.replace(steps, next_observations=following)
  for _ in range(2):  # The second in the place of the first.
    minari_files.write('cql_atari/hopper/medium-v0', steps, task)
  plain = datasets.open_task_data('hopper-medium', str(collected))
  data = datasets.open_task_data(
    'hopper-medium', 'minari:cql_atari/hopper/medium-v0'
  )
  assert data.manifest['behavior_return']['mean'] == pytest.approx(
    plain.manifest['behavior_return']['mean'], rel=0.2
  )
  # Minari's has what timeouts led to as well; only its very last row may lack.
  expected = np.arange(len(steps))[: len(data)]
  np.testing.assert_array_equal(data.state, steps.observations[expected])
  alive = data.terminal == 0
  np.testing.assert_array_equal(
    data.next_state[alive], following[expected][alive]
  )
  assert len(data) >= len(steps) - 1


def test_a_finished_collection_is_left_alone(collected):
  out = collected.parents[1]
  done = call('cql_atari.collect', *COLLECT, f'--out={out}')
  assert done.returncode == 0 and 'steps are played already' in done.stdout
  other = call('cql_atari.collect', *COLLECT, f'--out={out}', '--seed=1')
  assert other.returncode == 2 and 'began with seed 0' in other.stderr


def train(base_dir, data, *bindings, task='hopper-medium'):
  settings = (
    f"TASK='{task}'",
    *SMALL,
    'CQLSACAgent.num_samples=2',
    'CQLSACAgent.target_gap=0.0',
    'FixedReplayRunner.num_iterations=2',
    'FixedReplayRunner.training_steps=400',
    'FixedReplayRunner.max_steps_per_episode=20',
    'D4RLEnvironments.num_environments=2',
    *bindings,
  )
  return [
    sys.executable, '-m', 'cql_atari.train', f'--base_dir={base_dir}',
    '--gin_files=d4rl/cql.gin', f'--replay_dir={data}',
    *(f'--gin_bindings={binding}' for binding in settings),
  ]  # fmt: skip


def test_a_killed_run_ends_with_the_same_weights(collected, tmp_path):
  ends = []
  for name in ('whole', 'killed'):
    base_dir = tmp_path / name
    extra = ()
    if name == 'killed':
      extra = ('FixedReplayRunner.checkpoint_minutes=0.0',)
      process = subprocess.Popen(
        train(base_dir, collected, *extra), stdout=subprocess.PIPE
      )
      while not any(
        0 < int(path.name.split('.')[1]) < 400
        for path in (base_dir / 'checkpoints').glob('ckpt.*.npz')
      ):
        assert process.poll() is None
        time.sleep(0.002)
      os.kill(process.pid, signal.SIGKILL)
      process.communicate()
    done = subprocess.run(
      train(base_dir, collected, *extra), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ends.append(checkpoints.load_newest(base_dir / 'checkpoints'))
    with open(base_dir / 'metrics.csv', newline='') as file:
      rows = list(csv.DictReader(file))
    assert [row['gradient_steps'] for row in rows] == ['400', '800']
    assert rows[0]['eval_episodes'] == '2' and float(rows[1]['alpha']) > 0
    assert {'entropy', 'temperature', 'policy_loss'} < rows[0].keys()
  assert ends[0][0] == ends[1][0] == 800
  for name, array in ends[0][1].items():
    np.testing.assert_array_equal(array, ends[1][1][name], err_msg=name)
  record = json.loads((tmp_path / 'whole' / 'run.json').read_text())
  assert (record['game'], record['task']) == ('hopper', 'hopper-medium-v2')
  assert record['split'] == {'data': 'medium', 'version': None}  # Our own.


@pytest.mark.slow
def test_values_and_checkpoints_of_a_run_are_judged(collected, tmp_path):
  done = subprocess.run(
    train(tmp_path / 'run', collected, 'FixedSampler.held_out=0.2'),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  out = tmp_path / 'out'
  done = call(
    'cql_atari.value_gap', f'--run={tmp_path / "run"}',
    '--episodes=3', '--states=300', f'--out={out}',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'hopper medium (own) CQL(H), seed 0: pre' in done.stdout
  assert 'Episodes are cut off after 20 steps' in done.stderr
  with open(out / 'value_gap.csv', newline='') as file:
    (row,) = csv.DictReader(file)
  assert row['gradient_steps'] == '800' and int(row['episodes']) >= 3
  difference = float(row['on_visited']) - float(row['visited_return'])
  assert float(row['difference']) == pytest.approx(difference)
  assert float(row['low']) <= difference <= float(row['high'])
  assert row['values'] == 'own'
  assert (out / 'value_gap.png').read_bytes()[:4] == b'\x89PNG'
  done = call(
    'cql_atari.value_gap', f'--run={tmp_path / "run"}', '--values=eq1',
    '--alpha=2', '--fqe_steps=120', '--episodes=3', f'--out={out}',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'CQL(H) by Eq. 1, alpha 2, seed 0: pre' in done.stdout
  with open(out / 'value_gap.csv', newline='') as file:
    (eq1,) = csv.DictReader(file)
  assert eq1['values'] == 'Eq. 1, alpha 2'
  assert float(eq1['on_data']) != float(row['on_data'])
  done = call(
    'cql_atari.select_checkpoint', f'--run={tmp_path / "run"}',
    '--fqe_steps=60', f'--out={out}',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  with open(out / 'select.csv', newline='') as file:
    chosen = {row['rule']: row for row in csv.DictReader(file)}
  assert chosen.keys() == selection.RULES.keys()
  assert chosen['last']['gradient_steps'] == '800'
  assert 'mean regret' in (out / 'select.md').read_text()
  record = json.loads((tmp_path / 'run' / 'run.json').read_text())
  record['manifest_digest'] = 'other'
  (tmp_path / 'run' / 'run.json').write_text(json.dumps(record))
  done = call('cql_atari.select_checkpoint', f'--run={tmp_path / "run"}')
  assert done.returncode == 2 and 'have changed since' in done.stderr


def test_going_on_with_another_network_is_refused(tmp_path):
  command = ['cql_atari.collect', *COLLECT, f'--out={tmp_path}']
  process = subprocess.Popen([sys.executable, '-m', *command])
  folder = tmp_path / 'hopper' / '1' / 'checkpoints'
  while not list(folder.glob('ckpt.*.npz')):
    assert process.poll() is None
    time.sleep(0.005)
  process.terminate()
  assert process.wait() == 128 + signal.SIGTERM
  wider = '--gin_bindings=TanhGaussianPolicy.hidden_units=(8, 8, 8)'
  done = call(*command, wider)
  assert done.returncode == 2 and 'another agent or network' in done.stderr


@pytest.mark.parametrize(
  ('bindings', 'arguments', 'message'),
  [
    ((), {'task': 'hopper-medum'}, 'did you mean hopper-medium'),
    (("D4RLEnvironments.task='walker2d-medium'",), {}, 'is played: give one'),
    ((), {'task': 'walker2d-medium', 'data': 'hopper-medium.hdf5'},
     'but the task is walker2d-medium-v2'),
    ((), {'data': 'nowhere'}, 'cql_atari.fetch --task=hopper-medium-v2'),
    (('CQLSACAgent.alhpa=1.0',), {}, 'did you mean alpha'),
  ],
)  # fmt: skip
def test_mistakes_end_in_one_sentence(
  collected, tmp_path, bindings, arguments, message
):
  data = collected / arguments.pop('data', '')
  done = subprocess.run(
    train(tmp_path, data, *bindings, **arguments),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert message in done.stderr
