"""The main job as a user runs it: real processes, real files, real kills."""

import csv
import gzip
import io
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import gin
import numpy as np
import pytest

from cql_atari.core import settings
from cql_atari.replay import run as run_lib
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import split as split_lib
from cql_atari.runs import checkpoints

# The demo with a small network and few steps.
SMALL = (
  'nature_trunk.filters=(4, 8, 8)',
  'nature_trunk.hidden_units=32',
  'quantile_network.num_quantiles=20',
  'Split.shards=(10, 15)',
  'FixedReplayAgent.target_update_period=7',
  'FixedReplayRunner.num_iterations=2',
  'FixedReplayRunner.training_steps=150',
  'FixedReplayRunner.evaluation_steps=1',
  'AtariEnvironments.num_environments=2',
)


def command(base_dir, *bindings, gin_file='cql_demo.gin', flags=()):
  return [
    sys.executable,
    '-m',
    'cql_atari.train',
    f'--base_dir={base_dir}',
    f'--gin_files={gin_file}',
    *(f'--gin_bindings={binding}' for binding in bindings),
    *flags,
  ]


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  cache = tmp_path_factory.mktemp('cache')
  return {**os.environ, 'XDG_CACHE_HOME': str(cache)}


@pytest.fixture
def run(environment, tmp_path):
  """Runs a command from an empty folder, as an installed user would."""

  def call(arguments, cwd=None):
    return subprocess.run(
      arguments,
      cwd=cwd or tmp_path,
      env=environment,
      capture_output=True,
      text=True,
      timeout=300,
    )

  return call


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
  done = subprocess.run(
    command(base_dir, *SMALL),
    cwd=base_dir,
    env=environment,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return base_dir, done


def test_a_run_leaves_its_folder_as_designed(whole_run):
  base_dir, done = whole_run
  assert done.stderr == ''  # A quiet terminal.
  assert done.stdout.count('\n') == 2
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
    'CQLAgent', 'Freeway', 0,
  )  # fmt: skip
  # The checksum of Freeway in ALE's own list.
  assert record['rom_md5'] == '8e0ab801b1705a740b476b7f588c6d16'
  assert record['versions']['tensorflow'].startswith('2.')
  assert record['behavior_return']['mean'] == pytest.approx(19 / 3)
  manifest = json.loads((base_dir / 'manifest.json').read_text())
  assert [entry['shard'] for entry in manifest['shards']] == [10, 12, 14]
  assert 'CQLMixin.alpha = 1.0' in (base_dir / 'config.gin').read_text()
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


@pytest.mark.slow
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
  (folder / '.ckpt.299.npz.partial').write_bytes(b'half')
  done = run(arguments)
  assert done.returncode == 0, done.stderr
  assert_same_end(base_dir, whole_run[0])


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
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
  out, err = process.communicate(timeout=60)
  assert process.returncode == 128 + number
  assert err == '' and 'give the same command again' in out
  step, _, _ = final_weights(base_dir)
  assert 0 < step < 300
  done = run(arguments)
  assert done.returncode == 0, done.stderr
  assert_same_end(base_dir, whole_run[0])
  record = json.loads((base_dir / 'run.json').read_text())
  (earlier,) = record['earlier_starts']  # Who trained the first part.
  assert earlier['versions'] == record['versions'] and earlier['command']


@pytest.mark.slow
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
  """Whatever it is asked, and a lost metrics.csv comes back."""
  base_dir = tmp_path / 'finished'
  shutil.copytree(whole_run[0], base_dir)
  (base_dir / 'metrics.csv').unlink()
  done = run(command(base_dir, *SMALL, 'CQLAgent.alpha=9.0'))
  assert done.returncode == 0 and 'already' in done.stdout
  assert 'had other settings' in done.stderr
  assert '+ CQLAgent.alpha = 9.0' in done.stderr
  for name in ('metrics.csv', 'run.json', 'config.gin'):
    ours, theirs = (d / name for d in (base_dir, whole_run[0]))
    assert ours.read_bytes() == theirs.read_bytes()
  for binding in ('SEED=7', 'FixedReplayRunner.training_steps=10'):
    done = run(command(base_dir, *SMALL, binding))
    assert done.returncode == 1
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
  assert done.returncode == 1
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
  done = run(command(whole_run[0], *bindings, 'Split.shards=(10, 13)'))
  assert done.returncode == 1
  assert 'trained on other data' in done.stderr
  assert 'Traceback' not in done.stderr


def break_shard(directory, name, content):
  """A demo copy with one file replaced."""
  copy = directory / 'Freeway' / '1'
  shutil.copytree(run_lib.demo_replay_dir(), copy)
  path = shard_lib.Shard(copy / 'replay_logs', 10).path(name)
  path.write_bytes(content(path))
  return copy


def truncate(path):
  return path.read_bytes()[:1000]


def gzipped(array):
  buffer = io.BytesIO()
  np.save(buffer, array)
  return lambda path: gzip.compress(buffer.getvalue())


def case(name, sentence, *bindings, flags=(), gin_file='cql_demo.gin'):
  return pytest.param(sentence, bindings, flags, gin_file, id=name)


@pytest.mark.parametrize(
  'sentence, bindings, flags, gin_file',
  [
    case('no_folder', 'fetch --game=Freeway', flags=['--replay_dir=nowhere']),
    case('no_shards', 'holds no shards', flags=['--replay_dir=empty']),
    case('no_data', 'replay.fetch --game=Pong', gin_file='cql_1pct.gin'),
    case('truncated', 'truncated', 'Split.shards=(10, 11)',
         flags=['--replay_dir=cut/Freeway/1']),
    case('lengths', 'different lengths', flags=['--replay_dir=len/Freeway/1']),
    case('shape', '(84, 84)', flags=['--replay_dir=shape/Freeway/1']),
    case('action', 'action set', 'Split.shards=(10, 11)',
         flags=['--replay_dir=action/Freeway/1']),
    case('other_game', "GAME='Freeway'", "GAME='Pong'"),
    case('no_game', 'did you mean Freeway', "GAME='Freewy'"),
    case('macro', 'did you mean SEED', 'SED=1'),
    case('parameter', 'did you mean alpha', 'CQLAgent.alhpa=1'),
    case('inherited', 'did you mean gamma', 'CQLAgent.gama=1'),
    case('configurable', 'did you mean CQLAgent', 'CQLAgnt.alpha=1'),
    case('reference', 'no configurable DQN',
         'FixedReplayRunner.create_agent_fn=@DQN'),
    case('module', 'PYTHONPATH', 'import nosuchmodule'),
    case('called', 'write @CQLAgent.',
         'FixedReplayRunner.create_agent_fn=@CQLAgent()'),
    case('calls', 'write @num_actions().',
         'open_store.num_actions=@num_actions'),
    case('text', 'such as @CQLAgent, without quotes',
         "FixedReplayRunner.create_agent_fn='CQLAgent'"),
    case('given', 'bind SEED instead', 'CQLAgent.seed=7'),
    case('itself', 'given by the program itself',
         "FixedReplayRunner.base_dir='x'"),
    case('path', 'open_store.cache_dir is 3: give a path',
         'open_store.cache_dir=3'),
    case('included', 'includes itself', gin_file='self.gin'),
    case('collect', 'names the agent to train', gin_file='collect.gin'),
    case('named', 'write @mirrored_strategy().',
         'FixedReplayAgent.strategy=@mirrored_strategy'),
    case('syntax', 'CQLAgent.alpha', 'CQLAgent.alpha=1]'),
    case('gin_file', 'cql_1pct.gin', gin_file='cql_2pct.gin'),
    case('gin_folder', 'there is no gin file', gin_file='empty'),
    case('gin_bytes', 'cannot be read', gin_file='bytes.gin'),
    case('base_dir', 'cannot be written', flags=['--base_dir=file/run']),
    case('no_base_dir', 'no --base_dir', flags=['--base_dir=']),
    case('flag', "Unknown command line flag 'gin_fil'", flags=['--gin_fil=a']),
    case('argument', 'unexpected argument', flags=['cql.gin']),
    case('fraction', 'share in (0, 1]', 'Split.fraction=2'),
    case('shards', 'give (first, last + 1)', 'Split.shards=5'),
    case('split_seed', 'whole number', 'Split.seed=-1'),
    case('quotes', 'text needs quotes', 'GAME=Freeway'),
    case('no_agent', 'names the agent', gin_file='bare.gin'),
  ],
)  # fmt: skip
def test_mistakes_end_in_one_sentence_before_tensorflow_starts(
  run, bad_data, sentence, bindings, flags, gin_file
):
  arguments = command('run', *bindings, gin_file=gin_file, flags=flags)
  # `-X importtime` names every module imported, on stderr.
  done = run([arguments[0], '-X', 'importtime', *arguments[1:]], cwd=bad_data)
  lines = done.stderr.splitlines(keepends=True)
  imported = [line for line in lines if line.startswith('import time:')]
  assert len(imported) > 100
  assert not any(' tensorflow' in line for line in imported)
  done.stderr = ''.join(line for line in lines if line not in imported)
  assert done.returncode in (1, 2)
  assert 'Traceback' not in done.stderr
  assert sentence in done.stderr
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1, done.stderr
  assert not (bad_data / 'run' / 'run.json').exists()


@pytest.fixture(scope='module')
def bad_data(tmp_path_factory):
  """A folder with every broken input that the cases above name."""
  tmp_path = tmp_path_factory.mktemp('bad')
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'file').write_text('')
  (tmp_path / 'bare.gin').write_text('')
  (tmp_path / 'self.gin').write_text("include 'self.gin'")
  (tmp_path / 'bytes.gin').write_bytes(b'\xff\xfe\x00')
  break_shard(tmp_path / 'cut', 'observation', truncate)
  break_shard(tmp_path / 'len', 'reward', gzipped(np.zeros(7, np.float32)))
  frames = np.zeros((2000, 84, 80), np.uint8)
  break_shard(tmp_path / 'shape', 'observation', gzipped(frames))
  actions = np.full(2000, 3, np.int32)
  break_shard(tmp_path / 'action', 'action', gzipped(actions))
  return tmp_path


@pytest.mark.parametrize(
  ('sentence', 'binding'),
  [
    ('CQLAgent.alpha is -1', 'CQLAgent.alpha=-1'),
    ("num_iterations is '2'", "FixedReplayRunner.num_iterations='2'"),
    ('data are of Freeway', "AtariEnvironments.game='Pong'"),
  ],
)
def test_settings_out_of_range_end_in_one_sentence(
  run, tmp_path, sentence, binding
):
  done = run(command(tmp_path / 'run', *SMALL, binding))
  assert done.returncode == 1
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr


AGENTS = {
  'cql': 'CQLAgent',
  'qrdqn': 'QRDQNAgent',
  'dqn': 'FixedReplayDQNAgent',
  'c51': 'C51Agent',
  'rem': 'REMAgent',
  'bc': 'BCAgent',
}
SPLITS = {
  '1pct': (0.01, (0, 50), 4.0),
  '10pct': (0.1, (0, 50), 1.0),
  'first20pct': (1.0, (0, 10), 0.5),
  'demo': (1.0, (0, 50), 1.0),
}
CONFIGS = [
  (agent, split)
  for agent, split in itertools.product(AGENTS, SPLITS)
  if split != 'demo' or agent in ('cql', 'qrdqn')
]


@pytest.mark.parametrize(('agent', 'split'), CONFIGS)
def test_every_config_is_found_and_says_what_it_should(agent, split):
  """The bare name works from anywhere, and binds the published settings."""
  cls, (fraction, shards, alpha) = AGENTS[agent], SPLITS[split]
  gin.clear_config()
  settings.parse([f'{agent}_{split}.gin'], [], final=False)
  chosen = split_lib.Split()
  assert (chosen.fraction, chosen.shards) == (fraction, shards)
  assert chosen.convention == 'prefix'
  settings.import_all()
  settings.parse([f'{agent}_{split}.gin'], [], final=True)
  made = gin.query_parameter('FixedReplayRunner.create_agent_fn').selector
  assert made.split('.')[-1] == cls
  if agent == 'cql':
    assert gin.query_parameter('CQLMixin.alpha') == alpha
  expected = {
    'FixedReplayAgent.gamma': 0.99,
    'FixedReplayAgent.batch_size': 32,
    'quantile_network.num_quantiles': 200,
    'QRDQNAgent.kappa': 1.0,
    'Adam.epsilon': 3.125e-4,
  }
  if split != 'demo':
    expected |= {
      'Adam.learning_rate': 2.5e-4 if agent == 'c51' else 5e-5,
      'FixedReplayAgent.target_update_period': 2000,
      'FixedReplayRunner.training_steps': 62_500,
      'FixedReplayRunner.num_iterations': 200,
      'FixedReplayRunner.evaluation_steps': 125_000,
    }
  for name, value in expected.items():
    assert gin.query_parameter(name) == value, name
  gin.clear_config()
