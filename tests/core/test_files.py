"""Files that are whole or not there, and locks."""

import errno
import subprocess
import sys

import filelock
import pytest

from cql_atari.core import files
from cql_atari.core.errors import BusyError, UserError


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
  path = tmp_path / 'file'
  files.write_text(path, 'old')
  with pytest.raises(ZeroDivisionError), files.atomic_file(path, 'w') as file:
    file.write('new')
    _ = 1 / 0
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def test_a_folder_goes_again_where_nothing_was_written(tmp_path):
  parts = (tmp_path / 'data', 'Pong', '1')
  with (
    pytest.raises(UserError),
    files.output_folder('--out', *parts) as folder,
    files.exclusive_lock(folder, 'collecting'),
  ):
    raise UserError('a mistake.')
  assert not any(tmp_path.iterdir())
  with files.output_folder('--out', *parts) as folder:
    (folder / 'file').touch()
  assert (tmp_path / 'data' / 'Pong' / '1' / 'file').exists()
  with pytest.raises(UserError), files.output_folder('--out', *parts):
    raise UserError('later.')
  (folder / 'file').unlink()
  with files.output_folder('--out', *parts):  # It was there before.
    pass
  assert folder.exists()


def test_a_folder_that_another_process_holds_stays(tmp_path):
  """As of two commands that begin together in a folder that is not there."""
  path = tmp_path / 'run'
  with (
    pytest.raises(BusyError),
    files.output_folder('--base_dir', path),
    files.exclusive_lock(path, 'training'),
  ):
    raise BusyError('another process is training there.')
  assert (path / '.lock').exists()


def test_a_closed_pipe_is_no_full_disk():
  with pytest.raises(BrokenPipeError), files.writing('a file'):
    raise BrokenPipeError


def test_another_process_holds_the_folder(tmp_path):
  program = (
    'import pathlib, sys\n'
    'from cql_atari.core import files\n'
    "with files.exclusive_lock(pathlib.Path(sys.argv[1]), 'training'):\n"
    "  print('held', flush=True)\n"
    '  sys.stdin.read()\n'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', program, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'held\n'
  with (
    pytest.raises(BusyError, match='another process is training'),
    files.exclusive_lock(tmp_path, 'training'),
  ):
    pass
  process.kill()  # The system lets go.
  process.wait()
  with files.exclusive_lock(tmp_path, 'training'):
    pass


@pytest.mark.parametrize(
  'error',
  [NotImplementedError('no flock'), OSError(errno.ENOLCK, 'No locks')],
)
def test_without_locks_work_goes_on_with_a_warning(
  tmp_path, monkeypatch, caplog, error
):
  def acquire(*args, **kwargs):
    raise error

  monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
  with files.exclusive_lock(tmp_path, 'training'):
    (tmp_path / 'file').touch()
  assert 'has no locks' in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').touch()
  with (
    pytest.raises(UserError, match='cannot be written'),
    files.exclusive_lock(tmp_path / 'file', 'training'),
  ):
    pass


def test_what_has_a_scheme_stays_as_it_is(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert files.absolute('minari:own/hopper-v0') == 'minari:own/hopper-v0'
  assert files.absolute('gs://bucket/x') == 'gs://bucket/x'
  assert files.absolute('data/1:2') == str(tmp_path / 'data' / '1:2')


def test_a_home_that_is_nobodys_is_told(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert files.user_path('~', 'runs') == tmp_path / 'runs'
  with pytest.raises(UserError, match='~nobody-here/x: nobody here has'):
    files.user_path('~nobody-here/x')
