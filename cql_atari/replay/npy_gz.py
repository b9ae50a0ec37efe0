"""Gzipped `.npy` files, read and written front to back."""

import contextlib
import io
import pathlib
import tokenize
from collections.abc import Iterator

import numpy as np
from isal import igzip, isal_zlib

from cql_atari.core.errors import UserError
from cql_atari.core.files import atomic_file, read_npy_header

_UNREADABLE = (
  EOFError,
  OSError,  # BadGzipFile too.
  ValueError,
  isal_zlib.error,
  tokenize.TokenError,  # Of a damaged header.
)


class ArrayReader:
  """Reads a gzipped `.npy` front to back and stops after any row."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    with _reading(path):
      self._file = igzip.open(path, 'rb')  # Twice as fast as zlib here.
      self.shape, fortran, self.dtype = read_npy_header(self._file)
    if fortran or self.dtype.hasobject:
      kind = 'columns first' if fortran else 'objects, not plain numbers'
      raise UserError(
        f'{path} holds {self.dtype} {kind}: fetch that shard again.'
      )

  def read(self, count: int) -> np.ndarray:
    """The next `count` entries along the first axis."""
    shape = (count, *self.shape[1:])
    size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
    with _reading(self.path):
      data = self._file.read(size)
      if len(data) != size:
        raise EOFError('it ends early')
    return np.frombuffer(data, self.dtype).reshape(shape)

  def finish(self) -> None:
    """Reads on to the end, where gzip's checksums are compared.

    A file that ends before, as the first rows of one that was fetched do, has
    none.

    Raises:
      UserError: they are of other bytes.
    """
    with _reading(self.path), contextlib.suppress(EOFError):
      while self._file.read(1 << 20):
        pass

  def read_integers(self) -> np.ndarray:
    """The whole array of integers, (K,), a single one too.

    Raises:
      UserError: it is damaged, or holds something else.
    """
    with _reading(self.path):
      if self.dtype.kind not in 'iu' or len(self.shape) > 1:
        raise ValueError(f'{self.dtype} of shape {self.shape}')
    values = self.read(self.shape[0] if self.shape else 1)
    self.finish()
    return values.reshape(-1).astype(np.int64)

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def missing(path: pathlib.Path) -> UserError:
  """The error for a file that is not there."""
  return UserError(
    f'{path} is missing: fetch that shard again, or leave it out with '
    'Split.shards.'
  )


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
  """Turns what is wrong with a file into one sentence."""
  try:
    yield
  except FileNotFoundError:
    raise missing(path) from None
  except PermissionError as error:
    raise UserError(f'{path} may not be read ({error.strerror}).') from None
  except _UNREADABLE as error:
    raise UserError(
      f'{path} is truncated or damaged ({error}): fetch that file again.'
    ) from None


@contextlib.contextmanager
def atomic_gzip(path: pathlib.Path) -> Iterator[io.BufferedIOBase]:
  """A gzip file that appears under its name only when it is whole."""
  with (
    atomic_file(path) as raw,
    igzip.IGzipFile('', 'wb', 2, raw, mtime=0) as file,
  ):
    yield file
