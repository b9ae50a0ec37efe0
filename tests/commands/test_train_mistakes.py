"""Mistakes of those who train: one sentence, before any work."""

import gzip
import io
import shutil

import h5py
import numpy as np
import pytest
from training_runs import SMALL, call, command

from cql_atari.replay import shard as shard_lib
from cql_atari.replay import shard_folder


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs a command from an empty folder, as an installed user would."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return lambda arguments, cwd=tmp_path: call(arguments, cwd=cwd)


def break_shard(directory, name, content):
  """A demo copy with one file replaced."""
  copy = directory / 'Breakout' / '1'
  shutil.copytree(shard_folder.demo_replay_dir(), copy)
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
    case('no_home', 'nobody here has', flags=['--replay_dir=~nobody-here/x']),
    case('no_folder', 'fetch --game=Breakout', flags=['--replay_dir=nowhere']),
    case('no_shards', 'holds no shards', flags=['--replay_dir=empty']),
    case('no_data', 'cql_atari.fetch --game=Pong', gin_file='cql_1pct.gin'),
    case('truncated', 'truncated', 'Split.shards=(10, 11)',
         flags=['--replay_dir=cut/Breakout/1']),
    case('lengths', 'different lengths', flags=['--replay_dir=len/Breakout/1']),
    case('shape', '(84, 84)', flags=['--replay_dir=shape/Breakout/1']),
    case('action', 'action set', 'Split.shards=(10, 11)',
         flags=['--replay_dir=action/Breakout/1']),
    case('other_game', "GAME='Breakout'", "GAME='Pong'"),
    case('no_game', 'did you mean Breakout', "GAME='Breakot'"),
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
    case('path', 'open_store.cache_dir is 3: give a text or a path',
         'open_store.cache_dir=3'),
    case('included', 'includes itself', gin_file='self.gin'),
    case('collect', 'binds FixedReplayRunner.create_agent_fn',
         gin_file='collect.gin'),
    case('named', 'write @mirrored_strategy().',
         'FixedReplayAgent.strategy=@mirrored_strategy'),
    case('loggers', 'write [@WandbLogger].',
         'FixedReplayRunner.loggers=@WandbLogger'),
    case('no_quotes', 'text needs quotes, as in "TASK=', 'TASK=hopper-medium'),
    case('gin_files', 'the flag for each one', gin_file='cql_demo.gin,x.gin'),
    case('syntax', 'CQLAgent.alpha', 'CQLAgent.alpha=1]'),
    case('no_value', 'as in "CQLMixin.alpha=VALUE"', 'CQLMixin.alpha'),
    case('gin_file', 'cql_1pct.gin', gin_file='cql_2pct.gin'),
    case('gin_folder', 'there is no gin file', gin_file='empty'),
    case('gin_bytes', 'cannot be read', gin_file='bytes.gin'),
    case('base_dir', 'cannot be written', flags=['--base_dir=file/run']),
    case('no_base_dir', 'no --base_dir', flags=['--base_dir=']),
    case('flag', "Unknown command line flag 'gin_fil'", flags=['--gin_fil=a']),
    case('number', '--seed=one: it is no whole number', flags=['--seed=one']),
    case('argument', 'unexpected argument', flags=['cql.gin']),
    case('fraction', 'above 0 and at most 1', 'Split.fraction=2'),
    case('shards', 'give a list in brackets', 'Split.shards=5'),
    case('split_seed', 'whole number', 'Split.seed=-1'),
    case('quotes', 'text needs quotes', 'GAME=Breakout'),
    case('no_agent', 'such as --gin_files=cql_1pct.gin', gin_file='bare.gin'),
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
  assert not (bad_data / 'run').exists()


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
  actions = np.full(2000, 4, np.int32)
  break_shard(tmp_path / 'action', 'action', gzipped(actions))
  return tmp_path


@pytest.mark.parametrize(
  ('sentence', 'binding'),
  [
    ('CQLAgent.alpha is -1', 'CQLAgent.alpha=-1'),
    ("num_iterations is '2'", "FixedReplayRunner.num_iterations='2'"),
    ('data are of Breakout', "AtariEnvironments.game='Pong'"),
  ],
)
def test_settings_out_of_range_end_in_one_sentence(
  run, tmp_path, sentence, binding
):
  done = run(command(tmp_path / 'run', *SMALL, binding))
  assert done.returncode == 2
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr


def test_data_too_large_to_learn_from_are_named(run, tmp_path):
  """Not the learning rate, where rewards are the cause."""
  rng, count = np.random.default_rng(0), 400
  path = tmp_path / 'hopper-medium.hdf5'
  with h5py.File(path, 'w') as file:
    file['observations'] = rng.normal(size=(count, 11)).astype(np.float32)
    file['actions'] = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
    file['rewards'] = np.full(count, 1e30, np.float32)
    file['terminals'] = np.zeros(count, bool)
    file['timeouts'] = np.arange(count) % 100 == 99
  bindings = (
    "TASK='hopper-medium'",
    'Critic.hidden_units=(8,)',
    'TanhGaussianPolicy.hidden_units=(8,)',
    'FixedReplayRunner.evaluation_steps=0',
  )
  done = run(
    command(
      tmp_path / 'run', *bindings, gin_file='d4rl/sac.gin',
      flags=[f'--replay_dir={path}'],
    )
  )  # fmt: skip
  assert done.returncode == 2, done.stderr
  assert 'the data have rewards of size 1e+30, so scale them' in done.stderr
