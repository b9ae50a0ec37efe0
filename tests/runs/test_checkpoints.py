import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from cql_atari.core import errors, files
from cql_atari.runs import checkpoints


def save(directory, step, keep=3):
  arrays = {'weights': np.full(1000, step, np.float32)}
  checkpoints.save(
    directory, step, arrays, {'rows': [step, float('nan')]}, keep
  )


def test_the_newest_comes_back_whole(tmp_path):
  assert checkpoints.load_newest(tmp_path / 'none') is None
  for step in (5, 20, 100):
    save(tmp_path, step)
  step, arrays, data = checkpoints.load_newest(tmp_path)
  assert step == 100 and data['rows'][0] == 100
  assert arrays['weights'].dtype == np.float32
  np.testing.assert_array_equal(arrays['weights'], np.full(1000, 100))


def test_tensorflow_that_cannot_write_ends_in_one_sentence(tmp_path):
  with (
    pytest.raises(errors.UserError, match='run cannot be written'),
    files.writing('run'),
    files.tensorflow_errors_as_os_errors(),
    tf.io.gfile.GFile(str(tmp_path / 'nowhere' / 'log'), 'w') as file,
  ):
    file.write('x')


def test_ends_of_iterations_outlive_what_is_saved_between(tmp_path):
  for step in (10, 13, 17, 20, 24, 30, 33):
    checkpoints.save(tmp_path, step, {}, {}, keep=2, every=10)
  assert checkpoints.steps(tmp_path) == [20, 24, 30, 33]
  checkpoints.save(tmp_path, 36, {}, {}, keep=2, every=10)
  assert checkpoints.steps(tmp_path) == [20, 30, 33, 36]


def test_the_last_few_are_kept(tmp_path):
  for step in range(9, 13):
    save(tmp_path, step, keep=2)
  assert sorted(os.listdir(tmp_path)) == ['ckpt.11.npz', 'ckpt.12.npz']


@pytest.mark.parametrize('damage', ['cut', 'flip', 'empty'])
def test_damage_falls_back_to_the_one_before(tmp_path, caplog, damage):
  save(tmp_path, 1)
  save(tmp_path, 2)
  path = tmp_path / 'ckpt.2.npz'
  content = bytearray(path.read_bytes())
  if damage == 'cut':
    path.write_bytes(content[:-100])
  elif damage == 'empty':
    path.write_bytes(b'')
  else:
    content[1500] ^= 1
    path.write_bytes(content)
  step, arrays, _ = checkpoints.load_newest(tmp_path)
  assert step == 1 and (arrays['weights'] == 1).all()
  assert (tmp_path / 'ckpt.2.damaged').is_file()


def test_a_folder_that_is_only_read_is_no_damage(tmp_path, monkeypatch):
  save(tmp_path, 1)
  (tmp_path / 'ckpt.2.npz').write_bytes(b'')

  def read_only(path, target):
    raise OSError(30, 'Read-only file system')

  monkeypatch.setattr(pathlib.Path, 'rename', read_only)
  assert checkpoints.load_newest(tmp_path)[0] == 1


def test_a_disk_that_fails_for_a_moment_costs_no_checkpoint(
  tmp_path, monkeypatch
):
  save(tmp_path, 1)
  save(tmp_path, 2)

  def stale(*args, **kwargs):
    raise OSError(116, 'Stale file handle')

  with (
    monkeypatch.context() as patch,
    pytest.raises(errors.UserError, match='Stale'),
  ):
    patch.setattr(np, 'load', stale)
    checkpoints.load_newest(tmp_path)
  assert checkpoints.load_newest(tmp_path)[0] == 2


def test_an_unfinished_write_is_never_read(tmp_path):
  save(tmp_path, 1)
  with files.atomic_path(tmp_path / 'ckpt.2.npz') as partial:
    partial.write_bytes(b'half')
    assert checkpoints.load_newest(tmp_path)[0] == 1
  partial.write_bytes(b'half')  # As a kill leaves it.
  save(tmp_path, 3)
  assert not partial.exists() and checkpoints.load_newest(tmp_path)[0] == 3


def test_a_failed_write_keeps_the_older_ones(tmp_path, monkeypatch):
  save(tmp_path, 1)

  def full(descriptor):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError):
    save(tmp_path, 2)
  assert os.listdir(tmp_path) == ['ckpt.1.npz']
