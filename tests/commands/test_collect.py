"""Collecting as a user does it: real games, real kills."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import training_runs
from training_runs import call, without_progress

import cql_atari
from cql_atari.replay import episodes as episodes_lib
from cql_atari.replay import opening, shard_folder, split
from cql_atari.replay import shard as shard_lib
from cql_atari.runs import trained

SMALL = (
  'nature_trunk.filters=(4, 8, 8)',
  'nature_trunk.hidden_units=32',
  'Collector.num_shards=5',
  'Collector.min_replay_history=1000',
  'Collector.replay_capacity=30000',
  'Collector.checkpoint_minutes=0.02',
)


def command(out, *flags, steps=6000):
  return [
    sys.executable, '-m', 'cql_atari.collect', '--game=Breakout',
    f'--steps={steps}', f'--out={out}', '--gin_files=collect_small.gin',
    *(f'--gin_bindings={binding}' for binding in SMALL), *flags,
  ]  # fmt: skip


@pytest.fixture(scope='module')
def collected(tmp_path_factory):
  """A run that was killed three times, once politely."""
  out = tmp_path_factory.mktemp('out')
  logs = out / 'Breakout' / '1' / 'replay_logs'
  for number, shards, status in (
    (signal.SIGKILL, 0, -9),  # Before there is a shard.
    (signal.SIGTERM, 1, 143),
    (signal.SIGKILL, 3, -9),
  ):
    process = subprocess.Popen(
      command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    sign = f'add_count_ckpt.{shards}.gz' if shards else '.observation.0.partial'
    while not (logs / sign).exists():
      assert process.poll() is None, process.communicate()
      time.sleep(0.02)
    process.send_signal(number)
    output = process.communicate()
    assert process.returncode == status, output
    if number == signal.SIGTERM:
      assert 'give the same command again' in output[0]
  done = call(command(out))
  assert done.returncode == 0, done.stderr
  assert without_progress(done.stderr) == ''
  return out / 'Breakout' / '1'


def test_a_run_that_was_killed_is_whole(collected):
  shards = shard_folder.list_shards(collected)
  assert [shard.index for shard in shards] == [0, 1, 2, 3, 4]
  terminals = 0
  for shard in shards:
    list(shard.checked_frames(4))
    assert shard.capacity == 1200
    assert shard.add_count == 1200 * (shard.index + 1) - 1
    terminals += int(shard.read('terminal').sum())
  assert not list((collected / 'replay_logs').glob('.*'))
  with open(collected / 'metrics.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [int(row['shard']) for row in rows] == [0, 1, 2, 3, 4]
  assert float(rows[-1]['gradient_steps']) > 300
  assert all(float(row['return_mean']) >= 0 for row in rows)
  recorded = json.loads((collected / 'episodes.json').read_text())
  assert recorded['game'] == 'Breakout'
  episodes = recorded['episodes']
  # A game may end on a row that is in a shard only as the next one's stale row.
  whole = [episode for episode in episodes if episode['complete']]
  assert 0 <= len(whole) - terminals <= 4
  lengths = sum(episode['length'] + 3 for episode in whole)
  assert 6000 - 1200 < lengths <= 5999
  store = opening.open_store(
    str(collected), 'Breakout', 4, split.Split(shards=(0, 5)),
    cache_dir=str(collected / 'cache'),
  )  # fmt: skip
  assert store.manifest['behavior_return']['mean'] == pytest.approx(
    np.mean([episode['return'] for episode in whole])
  )
  # Stitched, every step of every whole game is there to be learned from, but
  # one on the run's very last row: Dopamine never samples the newest.
  steps = sum(episode['length'] for episode in whole)
  assert len(store.valid_transitions()) >= steps - (lengths == 5999)


def test_dopamine_loads_what_was_collected(collected, dopamine_buffer):
  buffer = dopamine_buffer(1200)
  for index in range(5):
    buffer.load(str(collected / 'replay_logs'), index)
    shard = shard_lib.Shard(collected / 'replay_logs', index)
    np.testing.assert_array_equal(
      shard.valid_transitions(), buffer.valid_indices()
    )
    batch = buffer.sample_transition_batch()
    assert batch[0].shape == (32, 84, 84, 4) and batch[0].any()


def test_a_finished_run_says_so_and_changes_nothing(collected):
  def contents():
    return {
      path: path.read_bytes() for path in collected.rglob('*') if path.is_file()
    }

  before = contents()
  assert any(path.name == 'collect.json' for path in before)
  done = call(command(collected.parents[1]))
  assert done.returncode == 0 and 'logged already' in done.stdout
  following = 'python -m cql_atari.train --base_dir=runs/first --replay_dir='
  assert following in done.stdout.splitlines()[-1]
  assert contents() == before
  other = '--gin_bindings=Collector.epsilon_train=0.5'
  done = call(command(collected.parents[1], other))
  assert done.returncode == 2
  assert 'is finished, and Collector.epsilon_train was' in done.stderr
  assert contents() == before


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    ([], 'no --game given, nor a --task'),
    (['--game=Pong', '--steps=3000'], 'at least 5000'),
    (['--game=Pong', '--steps=6001'], 'give a multiple of 50'),
    (['--task=hopper', '--steps=7000'], 'SACCollector.snapshot_period, 5000'),
  ],
)
def test_wrong_numbers_of_steps_are_told_before_tensorflow_starts(
  tmp_path, flags, sentence
):
  (tmp_path / 'tensorflow.py').write_text('raise RuntimeError')
  path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
  done = subprocess.run(
    [sys.executable, '-m', 'cql_atari.collect', f'--out={tmp_path}', *flags],
    env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 2
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr


@pytest.mark.parametrize(
  ('flags', 'steps', 'sentence'),
  [
    (['--game=Brakeout'], 6000, 'did you mean Breakout?'),
    ([], 6001, 'give a multiple of 5'),
    (['--seed=-1'], 6000, 'seed'),
    (['--gin_bindings=Collector.num_shard=3'], 6000, 'mean num_shards?'),
    (['--gin_bindings=Collector.replay_capacity=10'], 6000, 'at least 30000'),
    (['--gin_bindings=SEED=3'], 6000, 'by a flag here: --seed'),
  ],
)
def test_mistakes_end_in_one_sentence(tmp_path, flags, steps, sentence):
  done = call(command(tmp_path, *flags, steps=steps))
  assert done.returncode in (1, 2)
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('flags', 'steps', 'sentence'),
  [
    ([], 3000, 'began with --steps 6000, not 3000'),
    (['--seed=1'], 6000, 'began with seed 0'),
  ],
)
def test_other_settings_of_a_run_are_refused(collected, flags, steps, sentence):
  done = call(command(collected.parents[1], *flags, steps=steps))
  assert done.returncode == 2
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr


def test_data_of_others_is_not_overwritten(tmp_path, demo_dir):
  logs = tmp_path / 'Breakout' / '1' / 'replay_logs'
  logs.mkdir(parents=True)
  os.link(
    shard_lib.Shard(demo_dir / 'replay_logs', 10).path('reward'), logs / 'x.gz'
  )
  done = call(command(tmp_path))
  assert done.returncode == 2 and 'give another --run' in done.stderr
  assert [path.name for path in logs.iterdir()] == ['x.gz']
  (tmp_path / 'Breakout' / '1' / 'checkpoints').mkdir()  # Emptied by hand.
  done = call(command(tmp_path))
  assert done.returncode == 2 and 'no checkpoint to go on' in done.stderr


@pytest.fixture(scope='module')
def offline(tmp_path_factory):
  """A run of the built-in data with its agent."""
  folder = tmp_path_factory.mktemp('offline') / 'run'
  done = call(training_runs.command(folder, *training_runs.SMALL))
  assert done.returncode == 0, done.stderr
  return folder


def online_command(offline, out, *flags):
  return [
    sys.executable, '-m', 'cql_atari.collect', f'--init_from={offline}',
    '--steps=2000', f'--out={out}',
    '--gin_bindings=Collector.num_shards=5',
    '--gin_bindings=Collector.replay_capacity=30000',
    '--gin_bindings=Collector.min_replay_history=200',
    '--gin_bindings=Collector.checkpoint_minutes=0.02',
    '--gin_bindings=AtariEnvironments.max_steps_per_episode=200', *flags,
  ]  # fmt: skip


def test_an_offline_agent_goes_on_online(offline, tmp_path):
  online = tmp_path / 'Breakout' / '1'
  process = subprocess.Popen(online_command(offline, tmp_path))
  while not (online / 'replay_logs' / 'add_count_ckpt.0.gz').exists():
    assert process.poll() is None
    time.sleep(0.02)
  process.kill()
  process.wait()
  done = call(online_command(offline, tmp_path))
  assert done.returncode == 0, done.stderr
  assert f'{online}/agent.npz' in done.stdout
  with open(online / 'metrics.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  # 300 offline steps came before, and a step for 4 of its own after.
  taken = float(rows[-1]['gradient_steps']) - 300
  assert 0 < taken <= (float(rows[-1]['agent_steps']) - 200) / 4
  with np.load(online / 'agent.npz') as agent:
    assert agent['gradient_steps_0'] >= 300 + taken
  config = (online / 'config.gin').read_text()
  assert 'Collector.create_agent_fn = @CQLAgent' in config
  assert 'CQLMixin.alpha = 2.0' in config


@pytest.mark.slow
def test_going_on_without_the_run_is_noticed(offline, tmp_path):
  assert call(online_command(offline, tmp_path)).returncode == 0
  (tmp_path / 'Breakout' / '1' / 'agent.npz').unlink()
  again = call(online_command(offline, tmp_path))
  assert again.returncode == 0, again.stderr
  assert (tmp_path / 'Breakout' / '1' / 'agent.npz').is_file()
  flags = [f for f in online_command('', tmp_path)[3:] if 'init_from' not in f]
  without = call(
    [
      sys.executable, '-m', 'cql_atari.collect', '--game=Breakout',
      '--gin_files=cql_demo.gin', '--gin_files=collect_finetune.gin',
      '--gin_bindings=Collector.create_agent_fn=@CQLAgent', *flags,
    ]
  )  # fmt: skip
  assert without.returncode == 2
  assert f'began with --init_from {offline}, not None' in without.stderr


def test_an_agent_without_values_is_refused(tmp_path):
  run = tmp_path / 'bc'
  cql_atari.fit(run, 'bc_demo.gin', parameters=training_runs.TINY)
  done = call(online_command(run, tmp_path))
  assert done.returncode == 2 and 'learns no values' in done.stderr
  assert done.stderr.count('\n') == 1, done.stderr


def test_an_agent_begins_online_with_its_offline_weights(offline, tmp_path):
  # No row is enough to learn from, so that its weights are still the first.
  done = call(
    online_command(
      offline, tmp_path, '--gin_bindings=Collector.min_replay_history=9000'
    )
  )
  assert done.returncode == 0, done.stderr
  # Games end after 200 steps there, most of them without being over.
  endings = [
    shard.endings()
    for shard in shard_folder.list_shards(tmp_path / 'Breakout' / '1')
  ]
  assert any((part == episodes_lib.CUT_OFF).any() for part in endings)
  before = trained.TrainedRun(offline, with_data=False).agent.state()
  with np.load(tmp_path / 'Breakout' / '1' / 'agent.npz') as after:
    names = [n for n in before if n.startswith(('online', 'target', 'adam'))]
    assert names
    for name in names:
      np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--game=Pong'], 'is of Breakout, not Pong'),
    (['--task=hopper'], 'is of Breakout, not hopper'),
    (['--init_from=nowhere'], 'nowhere is no run folder'),
    (['--init_from='], 'is no run folder'),
    (['--gin_bindings=Collector.offline_share=2'], 'offline_share'),
    (['--gin_files=collect.gin'], 'is that of the run in --init_from'),
    (['--gin_bindings=GAME="Pong"'], 'by a flag here: --init_from'),
    (['--replay_dir=nowhere'], 'there is no replay folder'),
  ],
)
def test_mistakes_of_going_on_end_in_one_sentence(
  offline, tmp_path, flags, sentence
):
  done = call(online_command(offline, tmp_path, *flags))
  assert done.returncode in (1, 2)
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr
