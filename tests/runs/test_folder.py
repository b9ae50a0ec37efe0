"""The run folder's one owner."""

import functools
import json
import types

import gin
import numpy as np
import pytest

from cql_atari.agents import cql_agent, networks, optimizers
from cql_atari.continuous.agents import bc_agent
from cql_atari.core.errors import UserError
from cql_atari.runs import folder as folder_lib


def make(path, **fields):
  path.mkdir(parents=True)
  record = {'format': folder_lib.FORMAT, **fields}
  for name in ('run', 'manifest'):
    (path / f'{name}.json').write_text(json.dumps(record))
  (path / 'config.gin').touch()
  return folder_lib.RunFolder(path)


def test_a_folder_of_another_version_is_told_so(tmp_path):
  older = make(tmp_path / 'older', format=1)
  with pytest.raises(UserError, match=r'has format 1, and this .* format 3'):
    _ = older.record
  assert not older.has_records  # So that the next start writes them anew.
  unnamed = make(tmp_path / 'unnamed')
  (unnamed.path / 'run.json').write_text('{"agent": "CQLAgent"}')
  with pytest.raises(UserError, match='has format 1'):
    unnamed.check()
  assert make(tmp_path / 'new').has_records


def test_a_folder_above_runs_names_one(tmp_path):
  run = make(tmp_path / 'runs' / 'first')
  with pytest.raises(UserError, match=f'such as {run.path}'):
    folder_lib.RunFolder(tmp_path / 'runs').check()


def test_folders_are_found_by_path_or_pattern(tmp_path):
  for name in ('a', 'b', 'x [1]'):
    make(tmp_path / name)
  (tmp_path / 'empty').mkdir()

  def found(*patterns):
    runs = folder_lib.find([str(tmp_path / pattern) for pattern in patterns])
    return [run.path.name for run in runs]

  assert found('*') == ['a', 'b', 'x [1]']
  assert found('x [1]') == ['x [1]']  # A path before it is a pattern.
  assert found('b', 'a', 'b') == ['a', 'b']
  with pytest.raises(UserError, match=r'there is no run folder in .*empty'):
    found('a', 'empty')
  assert found('') == found('*')  # Runs below a folder.


def test_settings_are_values_under_one_name():
  gin.clear_config()
  with gin.unlock_config():
    gin.parse_config('RATE = 0.25\nAdam.learning_rate = %RATE\nSEED = 7')
  optimizers.Adam()
  settings = folder_lib.operative_settings()
  assert settings == {
    'Adam.beta_1': 0.9, 'Adam.beta_2': 0.999, 'Adam.epsilon': 3.125e-4,
    'Adam.learning_rate': 0.25,
  }  # fmt: skip
  gin.clear_config()


def test_metrics_are_columns(tmp_path):
  run = make(tmp_path / 'run')
  assert run.metrics() == {}
  run.write_metrics(('a', 'b'), [(1, ''), (2, 0.5)])
  columns = run.metrics()
  assert columns['a'].tolist() == [1, 2]
  assert columns['b'][1] == 0.5 and columns['b'][0] != columns['b'][0]
  (run.path / 'metrics.csv').write_text('a\nx\n')
  with pytest.raises(UserError, match='is damaged'):
    run.metrics()


def test_a_config_has_no_defaults_of_classes_without_a_constructor():
  """They would override what was bound of their bases, when read again."""
  gin.clear_config()
  with gin.unlock_config():
    gin.parse_config('CQLMixin.alpha = 3.0\nContinuousAgent.batch_size = 128')
  network = functools.partial(
    networks.quantile_network,
    num_quantiles=2,
    trunk=functools.partial(
      networks.nature_trunk, filters=(2, 2, 2), hidden_units=4
    ),
  )
  assert cql_agent.CQLAgent(None, 3, network=network).alpha == 3.0
  data = types.SimpleNamespace(
    state=np.zeros((9, 2), np.float32),
    state_mean=0.0,
    state_std=1.0,
    action=np.zeros((9, 1), np.float32),
  )
  bc = bc_agent.ContinuousBCAgent(data, sampler=lambda data: data)
  assert bc.batch_size == 128
  settings = folder_lib.operative_settings()
  assert settings['CQLMixin.alpha'] == 3.0
  assert settings['ContinuousAgent.batch_size'] == 128
  assert 'ContinuousBCAgent.batch_size' not in settings
  assert 'CQLAgent.alpha' not in gin.operative_config_str()
  gin.clear_config()


def test_a_run_keeps_the_name_it_was_given(tmp_path, monkeypatch):
  """Reports name runs so that the folder can be handed on."""
  (tmp_path / 'runs' / 'a').mkdir(parents=True)
  (tmp_path / 'runs' / 'a' / 'run.json').write_text('{}')
  (tmp_path / 'link').symlink_to(tmp_path / 'runs')
  monkeypatch.chdir(tmp_path)
  for patterns in (['runs'], ['runs/*'], ['runs', 'link', str(tmp_path)]):
    (run,) = folder_lib.find(patterns)
    assert (tmp_path / run.path).resolve() == tmp_path / 'runs' / 'a'
  assert [str(run.path) for run in folder_lib.find(['runs'])] == ['runs/a']
