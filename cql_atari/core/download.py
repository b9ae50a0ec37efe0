"""Fetches one published file, or as much of it as holds the rows wanted."""

import dataclasses
import errno
import io
import json
import math
import os
import pathlib
import threading
from collections.abc import Callable

import fsspec
import tenacity
from isal import isal_zlib

from cql_atari.core import fetched
from cql_atari.core.errors import UserError
from cql_atari.core.files import read_npy_header, sha256

ATTEMPTS = 6
_FIRST_WAIT = 0.5  # Seconds; its bound doubles with every attempt.
_WHOLE_CHUNK, _PREFIX_CHUNK = 4 << 20, 256 << 10
_REPLAYED_CHUNK = 1 << 20
_MAX_INFLATED = 8 << 20  # At once; frames compress a hundredfold.
_HEADER = 256  # Bytes that hold any npy header of the dataset.
_GZIP = 31  # zlib's window bits for a gzip header and trailer.


class Missing(Exception):
  """The source has no such file."""


class _Broken(Exception):
  """The bytes that came are not those the source announced."""


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
      extra = " (pip install 'cql_atari[gcs]')" if 'token' in options else ''
      raise UserError(f'{self.url} cannot be opened: {error}{extra}.') from None

  def path(self, name: str) -> str:
    """The address of a file."""
    return f'{self.url.rstrip("/")}/{name}'

  def signature(self, name: str) -> dict:
    """The marks of a file's version: size, ETag, time.

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


class _ArrayProgress:
  """The progress of a gzipped `.npy`, of one member or several."""

  def __init__(self):
    self._gzip = isal_zlib.decompressobj(_GZIP)
    self._head = io.BytesIO()  # What has come of the header.
    self._shape, self._first_row, self._row_bytes = None, 0, 0
    self._inflated = 0

  def feed(self, data: bytes) -> None:
    """Takes the compressed bytes that came next.

    Raises:
      _Broken: they are no gzipped array.
    """
    try:
      while data:
        if self._gzip.eof:
          self._gzip = isal_zlib.decompressobj(_GZIP)
        out = self._gzip.decompress(data, _MAX_INFLATED)
        data = self._gzip.unused_data or self._gzip.unconsumed_tail
        self._inflated += len(out)
        if self._shape is None:
          self._head.write(out)
          if self._inflated >= _HEADER or self._gzip.eof:
            self._read_header()
    except (isal_zlib.error, ValueError, KeyError, EOFError) as error:
      raise _Broken(f'it is no gzipped array: {error}') from None

  @property
  def may_end(self) -> bool:
    """Whether a member has just come to its end, checksum and all."""
    return self._gzip.eof

  def rows(self, fraction: float) -> int:
    """The number of rows in a share of the array; 1 for a scalar."""
    return round(fraction * self._shape[0]) if self._shape else 1

  def has(self, fraction: float) -> bool:
    """Whether the first rows have come, as many as that share is."""
    if self._shape is None:
      return False
    needed = self._first_row + self.rows(fraction) * self._row_bytes
    return self._inflated >= needed

  def _read_header(self) -> None:
    self._head.seek(0)
    self._shape, _, dtype = read_npy_header(self._head)
    self._first_row = self._head.tell()
    self._row_bytes = math.prod(self._shape[1:]) * dtype.itemsize


_BUGS = (AttributeError, NameError, TypeError)  # Which no patience mends.


def _patiently(what: str, attempt: Callable[[], object], stop: threading.Event):
  """Calls `attempt` up to ATTEMPTS times, with random exponential backoff.

  Raises:
    Missing: the source has no such file.
    UserError: it failed too often, or there is no room.
  """
  retrying = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_may_pass),
    stop=tenacity.stop_after_attempt(ATTEMPTS)
    | tenacity.stop_when_event_set(stop),
    wait=tenacity.wait_random_exponential(_FIRST_WAIT),
    sleep=tenacity.sleep_using_event(stop),
    reraise=True,
  )
  try:
    return retrying(attempt)
  except (Missing, UserError, *_BUGS):
    raise
  except Exception as error:  # Whatever a file system's client raises.
    if getattr(error, 'errno', None) == errno.ENOSPC:
      raise UserError(
        f'no room for {what}: free some and give the same command again.'
      ) from None
    reason = f'{type(error).__name__}: {error}'.rstrip(': ')
    raise UserError(
      f'{what} could not be fetched in '
      f'{retrying.statistics["attempt_number"]} attempts ({reason}): give the '
      'same command again to go on.'
    ) from None


def _may_pass(error: BaseException) -> bool:
  """Whether trying again may help."""
  is_final = isinstance(error, (Missing, UserError, *_BUGS))
  is_error = isinstance(error, Exception)  # And not Ctrl-C.
  return (
    is_error and not is_final and getattr(error, 'errno', 0) != errno.ENOSPC
  )


def fetch_file(
  source: Source,
  folder: pathlib.Path,
  name: str,
  fraction: float | None,
  on_bytes: Callable[[int], None],
  stop: threading.Event,
  is_array: bool = False,
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
    is_array: whether it is a gzipped array.

  Raises:
    Missing: the source has no such file.
    UserError: it could not be fetched; what came of it is kept for a resume
      unless it was wrong.
  """

  def attempt():
    try:
      _attempt(source, folder, name, fraction, on_bytes, stop, is_array)
    except _Broken:
      _partial(folder, name).unlink(missing_ok=True)
      raise

  _patiently(source.path(name), attempt, stop)


def _partial(folder: pathlib.Path, name: str) -> pathlib.Path:
  return folder / f'{name}.partial'


def _attempt(source, folder, name, fraction, on_bytes, stop, is_array) -> None:
  signature = source.signature(name)
  partial = _partial(folder, name)
  note = folder / f'{name}.partial.json'
  if not note.is_file() or note.read_text() != json.dumps(signature):
    partial.unlink(missing_ok=True)  # Of another version of the file.
    note.write_text(json.dumps(signature))
  array = _ArrayProgress() if is_array else None
  with open(partial, 'ab+') as file:
    file.seek(0)
    while piece := file.read(_REPLAYED_CHUNK):  # Of an earlier attempt.
      if array:
        array.feed(piece)
    if fraction is None or not array.has(fraction):
      chunk = _WHOLE_CHUNK if fraction is None else _PREFIX_CHUNK
      with source.open(name, file.tell(), chunk) as stream:
        _copy(stream, file, chunk, array, fraction, signature, on_bytes, stop)
    if stop.is_set():
      return
    file.flush()
    os.fsync(file.fileno())
  if source.signature(name) != signature:
    raise _Broken('it changed while it was being read')
  size = partial.stat().st_size
  is_whole = array is None or (
    array.may_end and size == signature.get('size', size)
  )
  entry = {
    'bytes': size,
    'sha256': sha256(partial),
    'rows': None if is_whole else array.rows(fraction),
    'fraction': 1.0 if is_whole else fraction,
  }
  # First: what lies there without a record counts as somebody else's.
  fetched.add(folder, source.url, name, entry)
  os.replace(partial, folder / name)
  note.unlink()


def _copy(
  stream, file, chunk_size, array, fraction, signature, on_bytes, stop
) -> None:
  """Reads on from where `file` ends, to the end or to the rows wanted."""
  while not stop.is_set():
    try:
      chunk = stream.read(chunk_size)
    except ValueError as error:  # fsspec: a server without ranges.
      raise _Broken(str(error)) from None
    if not chunk:
      break
    file.write(chunk)
    on_bytes(len(chunk))
    if array:
      array.feed(chunk)
      if fraction is not None and array.has(fraction):
        return
  if stop.is_set():
    return
  position, expected = file.tell(), signature.get('size')
  if expected is not None and position != expected:
    if position > expected:
      raise _Broken(f'{position} bytes came instead of {expected}')
    raise ConnectionError(f'only {position} of {expected} bytes came')
  if array and not array.may_end:
    raise _Broken('the file at the source is truncated')
