"""Runs of which a file is gone or damaged: results are never written over."""

import shutil
import threading

import pytest
from training_runs import TINY

import cql_atari
from cql_atari.core import gin_state
from cql_atari.core.errors import BusyError, UserError

SETTINGS = {
  **TINY,
  'FixedReplayRunner.num_iterations': 2,
  'FixedReplayRunner.training_steps': 4,
  'FixedReplayRunner.evaluation_steps': 0,
}


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
  return str(tmp_path_factory.mktemp('cache'))


@pytest.fixture
def fit(cache):
  def call(folder, **parameters):
    return cql_atari.fit(
      folder,
      'cql_demo.gin',
      parameters={
        **SETTINGS, 'open_store.cache_dir': cache,
        **{name.replace('__', '.'): v for name, v in parameters.items()},
      },
    )  # fmt: skip

  return call


@pytest.fixture(scope='module')
def finished(tmp_path_factory, cache):
  folder = tmp_path_factory.mktemp('runs') / 'finished'
  cql_atari.fit(
    folder,
    'cql_demo.gin',
    parameters={**SETTINGS, 'open_store.cache_dir': cache},
  )
  return folder


@pytest.fixture
def run(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / 'run')


def test_steps_of_a_damaged_checkpoint_are_done_again(run, fit, finished):
  newest = run / 'checkpoints' / 'ckpt.8.npz'
  newest.write_bytes(newest.read_bytes()[:1000])
  assert cql_atari.TrainedRun(run).gradient_steps == 4
  fit(run)
  again, before = cql_atari.TrainedRun(run), cql_atari.TrainedRun(finished)
  assert again.gradient_steps == 8
  for name, value in before.agent.state().items():
    assert (again.agent.state()[name] == value).all(), name


def test_results_without_checkpoints_are_kept(run, fit, capsys):
  shutil.rmtree(run / 'checkpoints')
  before = (run / 'metrics.csv').read_text()
  with pytest.raises(UserError, match=r'the checkpoints of .* are gone'):
    cql_atari.TrainedRun(run)
  fit(run)
  assert 'done already, and its checkpoints gone' in capsys.readouterr().out
  for other in (
    {'CQLMixin__alpha': 1.0},
    {'FixedReplayRunner__num_iterations': 3},
  ):
    with pytest.raises(UserError, match='has results, but its checkpoints are'):
      fit(run, **other)
  assert (run / 'metrics.csv').read_text() == before
  (run / 'metrics.csv').unlink()
  fit(run, FixedReplayRunner__num_iterations=1)
  assert cql_atari.TrainedRun(run).gradient_steps == 4


@pytest.mark.parametrize('content', [b'', b'garbage = = (', b'\xff\xfe\x00'])
def test_a_damaged_config_is_named(run, fit, content):
  (run / 'config.gin').write_bytes(content)
  with pytest.raises(UserError, match=r'config.gin is damaged .*: delete it'):
    fit(run, CQLMixin__alpha=1.0)
  with pytest.raises(UserError, match=r'config.gin is damaged'):
    cql_atari.TrainedRun(run)


def test_two_threads_do_not_mix_their_settings(run, fit, tmp_path):
  held, done = threading.Event(), threading.Event()

  def hold():
    with gin_state.isolated(), gin_state.isolated():
      held.set()
      done.wait(60)

  thread = threading.Thread(target=hold)
  thread.start()
  held.wait(60)
  for call in (
    lambda: fit(tmp_path / 'new'),
    lambda: cql_atari.TrainedRun(run),
  ):
    with pytest.raises(BusyError, match='another thread of this process'):
      call()
  done.set()
  thread.join()
  assert cql_atari.TrainedRun(run).gradient_steps == 8
