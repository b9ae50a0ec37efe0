"""Further logs, against what their own libraries read back."""

import functools
import pathlib
import struct
import sys
import textwrap
import time

import gin
import pytest
from training_runs import TINY

import cql_atari
from cql_atari.core.errors import UserError
from cql_atari.runs.folder import RunFolder
from cql_atari.training import loggers


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

  def close(self, failed):
    self._write('fails' if failed else 'ends')


def fit(tmp_path, logger, iterations, **settings):
  return cql_atari.fit(
    tmp_path / 'run',
    'cql_demo.gin',
    parameters={
      **TINY,
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
  assert 'Lines.name' not in folder.config.read_text()
  again = fit(tmp_path, 'Lines', 3, **{'Lines.name': 'other.txt'})
  # The config has the logger's own settings too, though it is made later.
  assert "Lines.name = 'other.txt'" in again.config.read_text()


def test_a_log_ends_with_a_run_that_fails(tmp_path):
  with pytest.raises(UserError, match='the loss is'):
    fit(tmp_path, 'Lines', 1, **{'CQLMixin.alpha': 1e39})
  lines = (tmp_path / 'run' / 'own.txt').read_text().splitlines()
  assert lines[-1] == 'fails'


@gin.configurable(denylist=['folder', 'record'])
class Broken:
  """Fails at every turn."""

  def __init__(self, folder, record, begins=True):
    if not begins:
      raise RuntimeError('no key')

  def log(self, step, metrics):
    raise ConnectionError('the server is away')

  close = None


def test_a_log_that_fails_is_a_warning(tmp_path, caplog):
  folder = fit(tmp_path, 'Broken', 2)
  assert len(losses(folder)) == 2
  assert 'Broken failed: the server is away' in caplog.text
  assert cql_atari.TrainedRun(folder.path).gradient_steps == 40


def test_a_log_that_cannot_begin_is_a_sentence(tmp_path):
  """And one that has begun before it is closed."""
  with pytest.raises(UserError, match='Broken cannot begin: no key'):
    fit(tmp_path, 'Lines,@Broken', 1, **{'Broken.begins': False})
  lines = (tmp_path / 'run' / 'own.txt').read_text().splitlines()
  assert lines[-1] == 'fails'
  assert not list((tmp_path / 'run').glob('*.json'))  # No run that never ran.
  assert not list((tmp_path / 'run').glob('*.gin'))


@pytest.mark.parametrize(
  ('given', 'sentence'),
  [
    (['MLflowLogger'], r'give \[@MLflowLogger\], no text'),
    ('MLflowLogger', r'loggers.*@MLflowLogger'),
    ([functools.partial(Lines, name='x')], 'cannot be told to gin: give a cl'),
    ([type('Undecorated', (), {})], 'needs @gin.configurable'),
  ],
)
def test_what_is_no_list_of_loggers_is_told(tmp_path, given, sentence):
  with pytest.raises(UserError, match=sentence):
    cql_atari.fit(
      tmp_path / 'run',
      'cql_demo.gin',
      parameters={'FixedReplayRunner.loggers': given},
    )
  assert not (tmp_path / 'run').exists()


def test_modes_of_weights_and_biases_are_checked_at_once(tmp_path):
  pytest.importorskip('wandb')
  with pytest.raises(UserError, match=r'WandbLogger\.mode'):
    fit(tmp_path, 'WandbLogger', 1, **{'WandbLogger.mode': 'ofline'})


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
  places = [-1]
  while min(places) < 0:  # A process of its own may still be writing.
    time.sleep(0.1)
    content = payload(file.read_bytes())
    places = [content.find(str(loss).encode()) for loss in losses(folder)]
  assert 0 < places[0] < places[1]
  assert b'CQLMixin.alpha' in content


def test_a_folder_without_records_is_no_damaged_one(tmp_path):
  """Of a FixedReplayRunner made by hand."""
  made = loggers.Loggers([lambda folder, record: None])
  with (
    pytest.raises(UserError, match=r'which cql_atari.fit writes: train by'),
    made.opened(RunFolder(tmp_path)),
  ):
    pass


def test_what_is_not_installed_is_told_before_the_data_are_opened(
  tmp_path, monkeypatch
):
  for module in ('wandb', 'mlflow'):
    monkeypatch.setitem(sys.modules, module, None)
  for logger, extra in (('WandbLogger', 'wandb'), ('MLflowLogger', 'mlflow')):
    line = f'FixedReplayRunner.loggers = [@{logger}]'
    with pytest.raises(UserError, match=rf'cql_atari\[{extra}\]'):
      cql_atari.fit(
        tmp_path / 'run', 'cql_1pct.gin', [line], replay_dir='nowhere',
        game='Pong',
      )  # fmt: skip
  assert not (tmp_path / 'run').exists()


def payload(log):
  """What is in a log of LevelDB's format: protobuf, with numbers as JSON."""
  parts, place = [], 7  # After the file's own header.
  while place + 7 <= len(log):
    length, kind = struct.unpack('<HB', log[place + 4 : place + 7])
    if not kind or place % 32768 > 32768 - 7:  # The rest of a block is empty.
      place += 32768 - place % 32768
      continue
    parts.append(log[place + 7 : place + 7 + length])
    place += 7 + length
  return b''.join(parts)


def test_a_name_that_is_no_logger_is_told(tmp_path):
  with pytest.raises(UserError, match='did you mean WandbLogger'):
    fit(tmp_path, 'WandbLoger', 1)
