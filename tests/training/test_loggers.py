"""Further logs, against what their own libraries read back."""

import pathlib
import textwrap

import gin
import pytest

import cql_atari
from cql_atari.core.errors import UserError

RUN = {
  'nature_trunk.filters': (4, 4, 4),
  'nature_trunk.hidden_units': 16,
  'Split.shards': (10, 13),
  'FixedReplayRunner.training_steps': 20,
  'FixedReplayRunner.evaluation_steps': 0,
}


@gin.configurable(denylist=['folder', 'record'])
class Lines:
  """A logger of one's own, in ten lines."""

  def __init__(self, folder, record, name='own.txt'):
    self._path = pathlib.Path(folder) / name
    self._write(
      f'begins {record["agent"]} {record["settings"]["Adam.epsilon"]}'
    )

  def _write(self, line):
    with open(self._path, 'a') as file:
      file.write(f'{line}\n')

  def log(self, step, metrics):
    self._write(f'{step} {metrics["loss"]:.6f}')

  def close(self):
    self._write('ends')


def fit(tmp_path, logger, iterations, **settings):
  return cql_atari.fit(
    tmp_path / 'run',
    'cql_demo.gin',
    parameters={
      **RUN,
      'FixedReplayRunner.num_iterations': iterations,
      'open_store.cache_dir': str(tmp_path / 'cache'),
      **settings,
    },
    gin_bindings=[f'FixedReplayRunner.loggers=[@{logger}]'],
  )


def losses(folder):
  return folder.metrics()['loss'].tolist()


def test_a_logger_of_ones_own(tmp_path):
  folder = fit(tmp_path, 'Lines', 2)
  first, second = losses(folder)
  assert (folder.path / 'own.txt').read_text() == textwrap.dedent(f"""\
    begins CQL 0.0003125
    20 {first:.6f}
    40 {second:.6f}
    ends
    """)


def test_mlflow_has_one_run_that_resumes(tmp_path, monkeypatch):
  mlflow = pytest.importorskip('mlflow')
  monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
  uri = (tmp_path / 'mlruns').as_uri()
  client = mlflow.MlflowClient(uri)
  settings = {'MLflowLogger.tracking_uri': uri}
  for iterations in (1, 2):
    folder = fit(tmp_path, 'MLflowLogger', iterations, **settings)
  experiment = client.get_experiment_by_name('cql_atari')
  (run,) = client.search_runs([experiment.experiment_id])
  history = client.get_metric_history(run.info.run_id, 'loss')
  assert [(metric.step, metric.value) for metric in history] == list(
    zip((20, 40), losses(folder))
  )
  assert run.data.params['CQLMixin.alpha'] == '4.0'
  assert run.info.status == 'FINISHED'


def test_weights_and_biases_offline(tmp_path, monkeypatch):
  pytest.importorskip('wandb')
  monkeypatch.setenv('WANDB_SILENT', 'true')
  folder = fit(tmp_path, 'WandbLogger', 2, **{'WandbLogger.mode': 'offline'})
  (file,) = folder.path.glob('wandb/offline-run-*/*.wandb')
  # Records of protobuf, with numbers as JSON, one after another.
  content = file.read_bytes()
  places = [content.find(str(loss).encode()) for loss in losses(folder)]
  assert 0 < places[0] < places[1]
  assert b'CQLMixin.alpha' in content


def test_a_name_that_is_no_logger_is_told(tmp_path):
  with pytest.raises(UserError, match='did you mean WandbLogger'):
    fit(tmp_path, 'WandbLoger', 1)
