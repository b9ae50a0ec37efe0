"""The main job as a user runs it: real processes, real files, real kills."""

import csv
import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from training_runs import SMALL, call, command, without_progress

import cql_atari
from cql_atari.runs import checkpoints


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  cache = tmp_path_factory.mktemp('cache')
  return {**os.environ, 'XDG_CACHE_HOME': str(cache)}


@pytest.fixture
def run(environment, tmp_path):
  """Runs a command from an empty folder, as an installed user would."""
  return lambda arguments: call(arguments, cwd=tmp_path, env=environment)


def metrics(base_dir):
  with open(base_dir / 'metrics.csv', newline='') as file:
    return list(csv.DictReader(file))


def final_weights(base_dir):
  step, arrays, data = checkpoints.load_newest(base_dir / 'checkpoints')
  return step, arrays, data


@pytest.fixture(scope='module')
def whole_run(environment, tmp_path_factory):
  """A run that nothing interrupts."""
  base_dir = tmp_path_factory.mktemp('whole')
  done = call(command(base_dir, *SMALL), cwd=base_dir, env=environment)
  assert done.returncode == 0, done.stderr
  return base_dir, done


def test_a_run_leaves_its_folder_as_designed(whole_run):
  base_dir, done = whole_run
  assert without_progress(done.stderr) == ''  # A quiet terminal.
  frames, *iterations, what_next = done.stdout.splitlines()
  assert f'cql_atari.plot --runs={base_dir}' in what_next
  assert frames.startswith('frames are held decompressed in memory: ')
  assert [line.split(':')[0] for line in iterations] == [
    'iteration 0',
    'iteration 1',
  ]
  rows = metrics(base_dir)
  assert [row['gradient_steps'] for row in rows] == ['150', '300']
  assert list(rows[0])[:12] == [
    'iteration', 'gradient_steps', 'eval_return_mean', 'eval_return_std',
    'eval_episodes', 'loss', 'td_loss', 'cql_penalty', 'q_data', 'q_max',
    'steps_per_second', 'wall_seconds',
  ]  # fmt: skip
  *filled, accuracy = rows[0].values()
  assert all(np.isfinite(float(value)) for value in filled)
  assert accuracy == ''  # Only behaviour cloning has one.
  assert rows[0]['eval_episodes'] == '2'
  record = json.loads((base_dir / 'run.json').read_text())
  assert (record['agent'], record['game'], record['seed']) == (
    'CQL', 'Breakout', 0,
  )  # fmt: skip
  assert record['residence'] == 'raw' and record['residence_reason'] == frames
  # The checksum of Breakout in ALE's own list.
  assert record['rom_md5'] == 'f34f08e5eb96e500e851a80be3277a56'
  assert record['versions']['tensorflow'].startswith('2.')
  episodes = pathlib.Path(cql_atari.demo_replay_dir()) / 'episodes.json'
  begun = [
    episode['return']
    for episode in json.loads(episodes.read_text())['episodes']
    if episode['first_shard'] in (10, 11, 12)
  ]
  assert record['behavior_return']['mean'] == pytest.approx(np.mean(begun))
  manifest = json.loads((base_dir / 'manifest.json').read_text())
  assert [entry['shard'] for entry in manifest['shards']] == [10, 11, 12]
  assert 'CQLMixin.alpha = 2.0' in (base_dir / 'config.gin').read_text()
  assert list(base_dir.glob('events.out.tfevents.*'))
  # Our own file, in Dopamine's format: a pickled dictionary of lists.
  with open(base_dir / 'logs' / 'log_1', 'rb') as file:
    log = pickle.load(file)
  assert len(log['iteration_1']['eval_episode_returns']) == 2
  assert log['iteration_0']['gradient_norm'][0] > 0


def test_a_finished_run_is_not_run_again(run, whole_run):
  base_dir, _ = whole_run
  before = (base_dir / 'metrics.csv').read_bytes()
  done = run(command(base_dir, *SMALL))
  assert done.returncode == 0
  assert 'already' in done.stdout
  assert (base_dir / 'metrics.csv').read_bytes() == before


def test_the_written_config_repeats_the_run(run, whole_run, tmp_path):
  base_dir, _ = whole_run
  done = run(command(tmp_path / 'again', gin_file=str(base_dir / 'config.gin')))
  assert done.returncode == 0, done.stderr
  assert_same_end(tmp_path / 'again', base_dir)


def assert_same_end(base_dir, whole):
  """The same weights bit for bit, and the same metrics less the clock's."""
  ours, theirs = final_weights(base_dir), final_weights(whole)
  assert ours[0] == theirs[0] == 300
  assert ours[1].keys() == theirs[1].keys()
  for name in theirs[1]:
    np.testing.assert_array_equal(ours[1][name], theirs[1][name], err_msg=name)
  for a, b in zip(metrics(base_dir), metrics(whole), strict=True):
    for name in set(a) - {'steps_per_second', 'wall_seconds'}:
      assert a[name] == b[name], name


def test_sigkill_anywhere_then_resume_ends_with_the_same_weights(
  run, whole_run, environment, tmp_path
):
  """Checkpoints as often as can be; killed twice, in either iteration."""
  base_dir = tmp_path / 'killed'
  arguments = command(
    base_dir, *SMALL, 'FixedReplayRunner.checkpoint_minutes=0.002'
  )
  known = set()
  for pause in (0.0, 0.3):
    process = subprocess.Popen(
      arguments, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    folder = base_dir / 'checkpoints'
    while process.poll() is None and known >= set(folder.glob('ckpt.*.npz')):
      time.sleep(0.01)
    time.sleep(pause)
    assert process.poll() is None, 'it ended before it could be killed'
    process.kill()
    process.wait()
    known |= set(folder.glob('ckpt.*.npz'))
  assert known and not (folder / 'ckpt.300.npz').exists()
  # Half a checkpoint, as a kill in the middle of a write leaves it.
  (folder / '.1.partial.ckpt.299.npz').write_bytes(b'half')
  done = run(arguments)
  assert done.returncode == 0, done.stderr
  assert_same_end(base_dir, whole_run[0])


@pytest.mark.parametrize(
  'number',
  [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_signals_save_and_exit_cleanly(
  run, whole_run, environment, tmp_path, number
):
  base_dir = tmp_path / 'stopped'
  arguments = command(base_dir, *SMALL)
  process = subprocess.Popen(
    arguments,
    env=environment,
    cwd=tmp_path,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  while not (base_dir / 'config.gin').exists():  # About to train.
    assert process.poll() is None, process.communicate()
    time.sleep(0.02)
  time.sleep(1.0)
  process.send_signal(number)
  out, err = process.communicate()
  assert process.returncode == 128 + number
  assert without_progress(err) == '' and 'give the same command again' in out
  step, _, _ = final_weights(base_dir)
  assert 0 < step < 300
  done = run(arguments)
  assert done.returncode == 0, done.stderr
  assert_same_end(base_dir, whole_run[0])
  record = json.loads((base_dir / 'run.json').read_text())
  (earlier,) = record['earlier_starts']  # Who trained the first part.
  assert earlier['versions'] == record['versions'] and earlier['command']


def test_damaged_newest_checkpoint_and_changed_settings_warn(
  run, whole_run, tmp_path
):
  base_dir = tmp_path / 'damaged'
  shutil.copytree(whole_run[0], base_dir)
  newest = base_dir / 'checkpoints' / 'ckpt.300.npz'
  newest.write_bytes(newest.read_bytes()[:-1000])
  before = (base_dir / 'config.gin').read_text()
  # Evaluations are the same whatever the discount.
  done = run(command(base_dir, *SMALL, 'FixedReplayRunner.num_iterations=3'))
  assert done.returncode == 0, done.stderr
  assert 'ckpt.300.npz is damaged' in done.stderr
  assert 'other settings than before (kept in config.0.gin)' in done.stderr
  assert '+ FixedReplayRunner.num_iterations = 3' in done.stderr
  assert (base_dir / 'config.0.gin').read_text() == before
  assert metrics(base_dir)[1]['q_data'] == metrics(whole_run[0])[1]['q_data']
  assert len(metrics(base_dir)) == 3


def test_a_finished_run_keeps_its_records(run, whole_run, tmp_path):
  """A lost metrics.csv comes back; other settings need another folder."""
  base_dir = tmp_path / 'finished'
  shutil.copytree(whole_run[0], base_dir)
  (base_dir / 'metrics.csv').unlink()
  done = run(command(base_dir, *SMALL))
  assert done.returncode == 0 and 'already' in done.stdout
  with open(base_dir / 'metrics.csv', 'a') as file:
    file.write('xx')  # No row.
  done = run(command(base_dir, *SMALL))
  assert done.returncode == 0 and 'already' in done.stdout
  done = run(command(base_dir, *SMALL, 'CQLAgent.alpha=9.0'))
  assert done.returncode == 2 and 'give another --base_dir' in done.stderr
  assert 'is finished, and CQLMixin.alpha was 2.0 and became 9.0' in done.stderr
  for name in ('metrics.csv', 'run.json', 'config.gin'):
    ours, theirs = (d / name for d in (base_dir, whole_run[0]))
    assert ours.read_bytes() == theirs.read_bytes()
  for binding in ('SEED=7', 'FixedReplayRunner.training_steps=10'):
    done = run(command(base_dir, *SMALL, binding))
    assert done.returncode == 2
    assert 'or a new --base_dir' in done.stderr


def test_two_processes_do_not_share_a_folder(run, environment, tmp_path):
  base_dir = tmp_path / 'shared'
  first = subprocess.Popen(
    command(base_dir, *SMALL),
    env=environment,
    cwd=tmp_path,
    stdout=subprocess.DEVNULL,
  )
  while first.poll() is None and not (base_dir / 'config.gin').exists():
    time.sleep(0.02)
  done = run(command(base_dir, *SMALL))
  first.kill()
  first.wait()
  assert done.returncode == 75  # Trying again later helps.
  assert 'another process is training' in done.stderr


def test_a_users_own_agent_is_a_gin_import_away(run, tmp_path):
  (tmp_path / 'my_agents.py').write_text(
    'import gin\n'
    'from cql_atari.agents import cql_agent\n'
    '@gin.configurable\n'
    'class MyAgent(cql_agent.CQLAgent):\n'
    '  pass\n'
  )
  (tmp_path / 'mine.gin').write_text(
    "import my_agents\ninclude 'cql_demo.gin'\n"
    'FixedReplayRunner.create_agent_fn = @MyAgent\nMyAgent.alpha = 2.0\n'
  )
  arguments = command(
    tmp_path / 'mine', *SMALL, 'FixedReplayRunner.training_steps=2',
    'FixedReplayRunner.evaluation_steps=0', gin_file='mine.gin',
  )  # fmt: skip
  done = run(arguments)
  assert done.returncode == 0, done.stderr
  record = json.loads((tmp_path / 'mine' / 'run.json').read_text())
  assert record['agent'] == 'MyAgent'


def test_other_data_in_the_same_folder_is_refused(run, whole_run):
  bindings = [b for b in SMALL if 'Split' not in b]
  done = run(command(whole_run[0], *bindings, 'Split.shards=(10, 12)'))
  assert done.returncode == 2
  sentence = r'trained on other data, Breakout, .* \(digest [0-9a-f]{7}\), not '
  assert re.search(sentence + r'Breakout, .* \(digest', done.stderr)
  assert 'Traceback' not in done.stderr


def test_another_agent_in_the_same_folder_is_refused(run, whole_run):
  done = run(command(whole_run[0], *SMALL, gin_file='qrdqn_demo.gin'))
  assert done.returncode == 2
  assert 'trains another agent, CQLAgent, not QRDQNAgent: give' in done.stderr
  assert 'Traceback' not in done.stderr
