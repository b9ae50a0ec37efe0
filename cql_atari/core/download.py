"""Fetches one published file, or as much of it as holds the rows wanted."""

import dataclasses
import errno
import io
import json
import os
import pathlib
import random
import threading
from collections.abc import Callable

import fsspec
import numpy as np
from absl import logging
from isal import isal_zlib

from cql_atari.core import fetched
from cql_atari.core.errors import UserError
from cql_atari.core.files import sha256

ATTEMPTS = 6
_FIRST_WAIT = 0.5  # Seconds; doubles with every attempt.
_WHOLE_CHUNK, _PREFIX_CHUNK = 4 << 20, 256 << 10
_MOST_INFLATED = 8 << 20  # At once; frames compress a hundredfold.
_HEADER = 256  # Bytes that hold any npy header of the dataset.
_GZIP = 31  # zlib's window bits for a gzip header and trailer.


class Missing(Exception):
  """The source has no such file."""


class _Broken(Exception):
  """What came is not what the source said it would be."""


@dataclasses.dataclass(frozen=True)
class Source:
  """A folder of published shards, at any fsspec URL.

  Attributes:
    url: the folder, such as https://... or gs://....
    timeout: seconds without a byte after which a connection has stalled.
  """

  url: str
  timeout: float = 30.0

  def filesystem(self) -> fsspec.AbstractFileSystem:
    """The fsspec file system of the URL."""
    protocol = fsspec.utils.get_protocol(self.url)
    options = {}
    if protocol in ('http', 'https'):
      import aiohttp

      limits = aiohttp.ClientTimeout(
        total=None, sock_connect=self.timeout, sock_read=self.timeout
      )
      options = {'client_kwargs': {'timeout': limits}}
    elif protocol in ('gs', 'gcs'):
      options = {'token': 'anon'}
    try:
      return fsspec.filesystem(protocol, use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
      raise UserError(f'{self.url} cannot be opened: {error}.') from None

  def path(self, name: str) -> str:
    """The address of a file."""
    return f'{self.url.rstrip("/")}/{name}'

  def signature(self, name: str) -> dict:
    """What tells one version of a file from another: size, ETag, time.

    Raises:
      Missing: there is no such file.
    """
    try:
      info = self.filesystem().info(self.path(name))
    except FileNotFoundError as error:
      if _is_transient(error):
        raise ConnectionError(f'{error.__cause__}') from None
      raise Missing(name) from None
    marks = ('size', 'ETag', 'etag', 'md5Hash', 'Last-Modified', 'mtime')
    return {
      mark: info[mark]
      for mark in marks
      if isinstance(info.get(mark), (str, int, float))
    }

  def size(self, name: str) -> int:
    """Bytes of a file; 0 where the source does not say.

    Raises:
      Missing: there is no such file.
      UserError: the source cannot be reached.
    """
    signature = _patiently(
      self.path(name), lambda: self.signature(name), threading.Event()
    )
    return signature.get('size', 0)

  def open(self, name: str, position: int, chunk: int):
    """Opens a file for reading from `position` on, `chunk` bytes at a time."""
    filesystem, path = self.filesystem(), self.path(name)
    if position == 0 and path.startswith('http'):
      return filesystem.open(path, 'rb', block_size=0)  # One plain request.
    stream = filesystem.open(path, 'rb', block_size=chunk)
    try:
      stream.seek(position)
    except (OSError, ValueError):
      raise _Broken('the source cannot resume') from None
    return stream


def _is_transient(error: BaseException) -> bool:
  """Whether fsspec's `not found` hides a failure of another kind."""
  causes = []
  while error is not None:
    causes.append(error)
    error = error.__cause__
  statuses = [getattr(cause, 'status', None) for cause in causes]
  return len(causes) > 1 and not {403, 404, 410} & set(statuses)


class _RowCounter:
  """Follows a gzipped npy stream and knows when enough rows have come."""

  def __init__(self, wanted: float):
    self._wanted = wanted
    self._inflate = isal_zlib.decompressobj(_GZIP)
    self._head = b''
    self._size = 0
    self._row_bytes = None
    self.rows = None

  def feed(self, data: bytes) -> bool:
    """Takes compressed bytes; returns whether the rows are all there."""
    while data and not self._inflate.eof:
      out = self._inflate.decompress(data, _MOST_INFLATED)
      data = self._inflate.unconsumed_tail
      self._size += len(out)
      if self._row_bytes is None:
        self._head += out
        if len(self._head) >= _HEADER or self._inflate.eof:
          self._read_header()
    return self._row_bytes is not None and self._size >= self._needed

  @property
  def whole(self) -> bool:
    """Whether the gzip stream came to its end, checksum and all."""
    return self._inflate.eof

  def _read_header(self) -> None:
    stream = io.BytesIO(self._head)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
      read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    self.rows = round(self._wanted * shape[0]) if shape else 1
    row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    self._row_bytes, self._head = row, b''
    self._needed = stream.tell() + self.rows * row


class _Uncounted:
  """Follows a file that is no gzipped array: all of it is wanted."""

  rows, whole = None, True

  def feed(self, data: bytes) -> bool:
    """Takes bytes; never has enough."""
    del data
    return False


def _patiently(what: str, attempt: Callable[[], object], stop: threading.Event):
  """Calls `attempt` until it succeeds, waiting longer every time.

  Raises:
    Missing: the source has no such file.
    UserError: it failed too often, or there is no room.
  """
  for tried in range(ATTEMPTS):
    try:
      return attempt()
    except (Missing, UserError):
      raise
    except Exception as error:  # Whatever a file system's client raises.
      if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise UserError(
          f'no room for {what}: free some and give the same command again.'
        ) from None
      reason = f'{type(error).__name__}: {error}'.rstrip(': ')
    logging.info('%s: %s (attempt %d)', what, reason, tried + 1)
    if tried + 1 == ATTEMPTS or stop.wait(
      _FIRST_WAIT * 2**tried * random.uniform(0.5, 1.0)
    ):
      break
  raise UserError(
    f'{what} could not be fetched in {tried + 1} attempts ({reason}): give the '
    'same command again to go on.'
  )


def fetch_file(
  source: Source,
  folder: pathlib.Path,
  name: str,
  fraction: float | None,
  on_bytes: Callable[[int], None],
  stop: threading.Event,
) -> None:
  """Fetches one file, retrying and resuming, and records it.

  Args:
    source: where from.
    folder: where to.
    name: the file's name.
    fraction: share of the rows wanted of a gzipped array; None for the whole
      file.
    on_bytes: called with the number of bytes that came.
    stop: set to give up soon.

  Raises:
    Missing: the source has no such file.
    UserError: it could not be fetched; what came of it is kept for a resume
      unless it was wrong.
  """

  def attempt():
    try:
      _attempt(source, folder, name, fraction, on_bytes, stop)
    except _Broken:
      _partial(folder, name).unlink(missing_ok=True)
      raise

  _patiently(source.path(name), attempt, stop)


def _partial(folder: pathlib.Path, name: str) -> pathlib.Path:
  return folder / f'{name}.partial'


def _attempt(source, folder, name, fraction, on_bytes, stop) -> None:
  signature = source.signature(name)
  partial = _partial(folder, name)
  note = folder / f'{name}.partial.json'
  if not note.is_file() or note.read_text() != json.dumps(signature):
    partial.unlink(missing_ok=True)  # Of another version of the file.
    note.write_text(json.dumps(signature))
  counter = (
    _RowCounter(1.0 if fraction is None else fraction)
    if name.endswith('.gz')
    else _Uncounted()
  )
  with open(partial, 'ab+') as file:
    done = _replay(file, counter)
    if fraction is None or not done:
      chunk = _WHOLE_CHUNK if fraction is None else _PREFIX_CHUNK
      with source.open(name, file.tell(), chunk) as stream:
        _copy(stream, file, chunk, counter, fraction, signature, on_bytes, stop)
    if stop.is_set():
      return
    file.flush()
    os.fsync(file.fileno())
  if source.signature(name) != signature:
    raise _Broken('it changed while it was being read')
  size = partial.stat().st_size
  rows = None if counter.whole else counter.rows
  entry = {
    'bytes': size,
    'sha256': sha256(partial),
    'rows': rows,
    'fraction': 1.0 if counter.whole else fraction,
  }
  os.replace(partial, folder / name)
  fetched.add(folder, source.url, name, entry)
  note.unlink()


def _replay(file, counter: _RowCounter) -> bool:
  """Feeds what an earlier attempt left; returns whether it is enough."""
  file.seek(0)
  done = False
  while chunk := file.read(1 << 20):
    done = _feed(counter, chunk)
  return done


def _feed(counter: _RowCounter, chunk: bytes) -> bool:
  try:
    return counter.feed(chunk)
  except (isal_zlib.error, ValueError, EOFError) as error:
    raise _Broken(f'it is no gzipped array: {error}') from None


def _copy(
  stream, file, chunk_size, counter, fraction, signature, on_bytes, stop
) -> None:
  """Reads on from where `file` ends, to the end or to the rows wanted."""
  position = file.tell()
  while not stop.is_set():
    try:
      chunk = stream.read(chunk_size)
    except ValueError as error:  # fsspec: a server without ranges.
      raise _Broken(str(error)) from None
    if not chunk:
      break
    file.write(chunk)
    position += len(chunk)
    on_bytes(len(chunk))
    if _feed(counter, chunk) and fraction is not None:
      return
  if stop.is_set():
    return
  expected = signature.get('size')
  if expected is not None and position != expected:
    if position > expected:
      raise _Broken(f'{position} bytes came instead of {expected}')
    raise ConnectionError(f'only {position} of {expected} bytes came')
  if not counter.whole:
    raise _Broken('the file at the source is truncated')
