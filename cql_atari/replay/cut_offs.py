"""Games that were cut off: `episode_end_indices_ckpt.N.gz`, read without risk.

Newer versions of Dopamine save which rows end a game, cut off by a time limit
or over, as a gzipped pickle of a set of integers. A pickle can name any code to
run; this one is read with integers alone.
"""

import pathlib
import pickle

import numpy as np
from isal import igzip

from cql_atari.core.errors import UserError


class _IntegerType:
  """Stands for `numpy.dtype` in the pickle of a NumPy integer."""

  def __init__(self, code: str, *_):
    if code not in ('i4', 'i8'):
      raise pickle.UnpicklingError(f'it holds numbers of type {code!r}')

  def __setstate__(self, state: tuple):
    if state[1] != '<':
      raise pickle.UnpicklingError(f'its byte order is {state[1]!r}')


def _integer(_: _IntegerType, data: bytes) -> int:
  return int.from_bytes(data, 'little', signed=True)


_ALLOWED = {
  ('builtins', 'set'): set,  # By name until protocol 4.
  ('numpy', 'dtype'): _IntegerType,
  ('numpy.core.multiarray', 'scalar'): _integer,
  ('numpy._core.multiarray', 'scalar'): _integer,
}


class _IntegerUnpickler(pickle.Unpickler):
  """Knows sets and integers, and no other class or function by name."""

  def find_class(self, module: str, name: str):
    try:
      return _ALLOWED[module, name]
    except KeyError:
      raise pickle.UnpicklingError(f'it names {module}.{name}') from None


def read_ends(path: pathlib.Path, capacity: int) -> np.ndarray:
  """The rows that end a game, sorted int64 (E,).

  Args:
    path: an `episode_end_indices_ckpt.N.gz`.
    capacity: rows in the shard's files.

  Raises:
    UserError: it is damaged, or holds anything but row numbers.
  """
  try:
    with igzip.open(path, 'rb') as file:
      rows = _IntegerUnpickler(file).load()
    if not isinstance(rows, set) or not all(type(row) is int for row in rows):
      raise ValueError('it is no set of integers')
    if rows and not 0 <= min(rows) <= max(rows) < capacity:
      raise ValueError(f'a row is not among the {capacity:,} of the shard')
  except Exception as error:  # A broken pickle can raise anything.
    raise UserError(
      f'{path} does not tell where games were cut off ({error}): fetch or save '
      'it again. Without it, such games are taken to go on in the next one.'
    ) from None
  return np.array(sorted(rows), np.int64)
