"""Files that are whole or not there, folders that can be written, and locks."""

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import filelock
import numpy as np
from absl import logging

from cql_atari.core.errors import BusyError, UserError


def user_path(*parts: str | os.PathLike) -> pathlib.Path:
  """A path as somebody typed it, where `~` is a home folder.

  Raises:
    UserError: there is no such home.
  """
  try:
    return pathlib.Path(*parts).expanduser()
  except RuntimeError:
    raise UserError(
      f'{parts[0]}: nobody here has such a home folder: write the path in full.'
    ) from None


def sync(path: pathlib.Path) -> None:
  """Waits until a file is on the disk."""
  with open(path, 'rb') as file:
    os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_path(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Writes atomically: yields a partial path that replaces `path` on success.

  Raises:
    OSError: the disk is full or can't be written; an old file remains.
  """
  partial = path.with_name(f'.{os.getpid()}.partial.{path.name}')
  try:
    yield partial
    sync(partial)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: pathlib.Path, mode: str = 'wb') -> Iterator[IO]:
  """An open file that appears, or replaces the old one, only when whole.

  Raises:
    OSError: the disk is full or can't be written; an old file remains.
  """
  with atomic_path(path) as partial, open(partial, mode) as file:
    yield file


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text as an `atomic_file`."""
  with atomic_file(path, 'w') as file:
    file.write(text)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes plain JSON as an `atomic_file`, one item a line."""
  write_text(path, json.dumps(content, indent=1) + '\n')


def write_csv(
  path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence]
) -> None:
  """Writes a table as an `atomic_file`."""
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows([header, *rows])
  write_text(path, text.getvalue())


def sha256(path: pathlib.Path) -> str:
  """A file's checksum, in hexadecimal."""
  with open(path, 'rb') as file:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
      digest.update(chunk)
  return digest.hexdigest()


def read_npy_header(file: IO) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Reads the head of a `.npy` file: shape, columns first or not, type.

  Raises:
    ValueError: it is none, or of an unknown version.
  """
  version = np.lib.format.read_magic(file)
  if version == (1, 0):
    return np.lib.format.read_array_header_1_0(file)
  if version == (2, 0):
    return np.lib.format.read_array_header_2_0(file)
  raise ValueError(f'unknown npy version {version}')


@contextlib.contextmanager
def writing(
  what: str | os.PathLike,
  remedy: str = 'make room and give the same command again',
) -> Iterator[None]:
  """Turns a full or broken disk into one sentence.

  Args:
    what: is being written.
    remedy: what to do.

  Raises:
    UserError: it can't be written.
  """
  try:
    yield
  except BrokenPipeError:  # Of what is printed meanwhile.
    raise
  except OSError as error:
    raise UserError(
      f'{what} cannot be written ({error.strerror or error}): {remedy}.'
    ) from None


@contextlib.contextmanager
def tensorflow_errors_as_os_errors() -> Iterator[None]:
  """Turns errors of TensorFlow's own file system into OSErrors."""
  import tensorflow as tf

  try:
    yield
  except tf.errors.OpError as error:  # A full disk, for one.
    raise OSError(None, error.message.split(';')[0]) from None


def make_folder(name: str, *parts: str | os.PathLike) -> pathlib.Path:
  """Makes a folder, and finds it writable.

  Args:
    name: what gives it, such as '--out', for the error's text.
    *parts: its value, and what is below it.

  Raises:
    UserError: it can't be made or written.
  """
  folder = user_path(*parts)
  with writing(f'{name}={parts[0]}', 'choose another folder'):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      return folder


@contextlib.contextmanager
def output_folder(
  name: str, *parts: str | os.PathLike
) -> Iterator[pathlib.Path]:
  """As `make_folder`, for a block that may write nothing after all.

  What was made is then taken away: an empty folder would look like data.
  """
  folder = user_path(*parts)
  made = [path for path in (folder, *folder.parents) if not path.exists()]
  try:
    yield make_folder(name, *parts)
  except BusyError:  # It is another process's by now.
    made = []
    raise
  finally:
    with contextlib.suppress(OSError):
      if made and [path.name for path in folder.iterdir()] == ['.lock']:
        (folder / '.lock').unlink()
      for path in made:
        path.rmdir()


def optional_output(name: str, value: str | None):
  """`output_folder`, or a context of None where no folder is given."""
  return output_folder(name, value) if value else contextlib.nullcontext()


def absolute(path: str) -> str:
  """A path that works from any folder; what has a scheme, such as
  'minari:NAME' or 'gs://...', stays as it is."""
  scheme = path.partition(':')[0]
  if scheme != path and scheme.isalpha():
    return path
  return str(user_path(path).absolute())


@contextlib.contextmanager
def exclusive_lock(folder: pathlib.Path, doing: str) -> Iterator[None]:
  """Locks a folder; the lock is released even if this process is killed.

  Args:
    folder: an existing folder.
    doing: what it is held for, such as 'training', for the error's text.

  Raises:
    BusyError: another process holds it.
    UserError: the folder can't be written.
  """
  with locked(
    folder / '.lock',
    f'another process is {doing} in {folder}: choose another folder, or wait '
    'for it.',
  ):
    yield


@contextlib.contextmanager
def locked(path: pathlib.Path, busy: str, wait: bool = False) -> Iterator[None]:
  """Holds a lock file.

  Where the file system knows no locks, as some of a network, it goes on
  without one after a warning.

  Args:
    path: the lock file, which stays.
    busy: a sentence for where another process holds it.
    wait: whether to wait for that process instead, after telling of it.

  Raises:
    BusyError: another process holds it.
    UserError: the file can't be written.
  """
  lock = filelock.FileLock(path)
  try:
    try:
      lock.acquire(timeout=0)
    except filelock.Timeout:
      if not wait:
        raise BusyError(busy) from None
      logging.warning('%s', busy)
      lock.acquire()
  except (NotImplementedError, OSError) as error:
    if isinstance(error, PermissionError) or not path.parent.is_dir():
      raise UserError(
        f'{path.parent} cannot be written ({error}): choose another folder.'
      ) from None
    logging.warning(
      'The file system of %s has no locks (%s): make sure that nothing else '
      'works there.',
      path.parent,
      error,
    )
  try:
    yield
  finally:
    lock.release()
