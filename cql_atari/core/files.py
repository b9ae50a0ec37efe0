"""Files that are whole or not there, and folders that can be written."""

import contextlib
import csv
import hashlib
import io
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence

from cql_atari.core.errors import UserError


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file that appears, or replaces the old one, only when whole.

  Raises:
    OSError: the disk is full or can't be written; the old file remains.
  """
  partial = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    with open(partial, 'w') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
  except OSError:
    partial.unlink(missing_ok=True)
    raise


def write_csv(
  path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence]
) -> None:
  """Writes a table as `write_text` does a text."""
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows([header, *rows])
  write_text(path, text.getvalue())


def sha256(path: pathlib.Path) -> str:
  """A file's checksum, in hexadecimal."""
  digest = hashlib.sha256()
  with open(path, 'rb') as file:
    while chunk := file.read(1 << 20):
      digest.update(chunk)
  return digest.hexdigest()


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
  except OSError as error:
    raise UserError(
      f'{what} cannot be written ({error.strerror or error}): {remedy}.'
    ) from None


@contextlib.contextmanager
def through_tensorflow() -> Iterator[None]:
  """Turns errors of TensorFlow's own file system into OSErrors."""
  import tensorflow as tf

  try:
    yield
  except tf.errors.OpError as error:  # A full disk, for one.
    raise OSError(None, error.message.split(';')[0]) from None


def make_folder(flag: str, *parts: str | os.PathLike) -> pathlib.Path:
  """Makes a folder that a flag names, and finds it writable.

  Args:
    flag: its name, such as 'out', for the error's text.
    *parts: its value, and what is below it.

  Raises:
    UserError: it can't be made or written.
  """
  folder = pathlib.Path(*parts).expanduser()
  with writing(f'--{flag}={parts[0]}', 'choose another folder'):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      return folder
