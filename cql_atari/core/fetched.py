"""The record a fetch leaves in a folder: `fetched.json`.

A fetch may bring only the first rows of a shard: then its files are the first
bytes of the published ones, and this record says how many rows they hold.
"""

import json
import os
import pathlib
import threading

from cql_atari.core.errors import UserError
from cql_atari.core.files import sha256, write_json

FILE = 'fetched.json'
_LOCK = threading.Lock()


def read(folder: str | os.PathLike) -> dict | None:
  """The record of a folder: file names to what was fetched.

  Returns:
    {name: {'bytes', 'sha256', 'rows'}}, rows being None for a whole file; None
    for a folder that was not fetched by this package.

  Raises:
    UserError: the record is damaged.
  """
  path = pathlib.Path(folder) / FILE
  if not path.is_file():
    return None
  try:
    record = json.loads(path.read_text())
    files = record['files']
    _ = record['source']
    for entry in files.values():
      _ = entry['bytes'], entry['sha256'], entry['rows']
    return files
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path} is damaged ({error!r}): delete that folder and fetch again.'
    ) from None


def source(folder: str | os.PathLike) -> str | None:
  """Where the files of a folder were fetched from; None if nothing was.

  Raises:
    UserError: the record is damaged.
  """
  path = pathlib.Path(folder) / FILE
  return json.loads(path.read_text())['source'] if read(folder) else None


def add(folder: pathlib.Path, source: str, name: str, entry: dict) -> None:
  """Notes a file that has been fetched. Safe to call from threads."""
  with _LOCK:
    files = {**(read(folder) or {}), name: entry}
    record = {'source': source, 'files': dict(sorted(files.items()))}
    write_json(folder / FILE, record)


def check(path: pathlib.Path, record: dict) -> None:
  """Compares a file with its record.

  Raises:
    UserError: it is missing or is not what was fetched.
  """
  entry = record.get(path.name)
  if entry is None:
    raise UserError(f'{path.name} was not fetched: fetch again.')
  if not path.is_file() or path.stat().st_size != entry['bytes']:
    raise UserError(f'{path} is not the file that was fetched: fetch again.')
  if sha256(path) != entry['sha256']:
    raise UserError(f'{path} has changed since it was fetched: fetch again.')
