"""Checkpoints: one file each, written atomically, checked when read.

A checkpoint is `ckpt.<gradient steps>.npz`: plain arrays, and one string of
JSON for the rest. Every member of the archive carries a CRC, so damage is
found when it is read; nothing goes through pickle.
"""

import contextlib
import json
import pathlib
import re

import numpy as np
from absl import logging

from cql_atari.core.errors import UserError
from cql_atari.core.files import atomic_file
from cql_atari.core.protocols import Arrays

_JSON_KEY = 'json'


def save(
  directory: pathlib.Path,
  step: int,
  arrays: Arrays,
  data: dict,
  keep: int,
  every: int = 1,
) -> None:
  """Writes a checkpoint under its name once it is whole on disk.

  Args:
    directory: the folder of checkpoints.
    step: gradient steps taken.
    arrays: what to save.
    data: JSON-compatible rest.
    keep: number of newest checkpoints at multiples of `every` to keep, besides
      the newest two of the others; the rest are deleted.
    every: gradient steps.

  Raises:
    OSError: the disk is full or can't be written; older checkpoints remain.
  """
  directory.mkdir(parents=True, exist_ok=True)
  with atomic_file(directory / f'ckpt.{step}.npz') as file:
    np.savez(file, **arrays, **{_JSON_KEY: np.array(json.dumps(data))})
  saved = steps(directory)
  ends = [step for step in saved if step % every == 0]
  between = [step for step in saved if step % every]
  for old in (*ends[:-keep], *between[:-2]):
    (directory / f'ckpt.{old}.npz').unlink(missing_ok=True)
  for killed in directory.glob('.*.partial.*'):
    killed.unlink(missing_ok=True)


def load_newest(directory: pathlib.Path) -> tuple[int, Arrays, dict] | None:
  """Reads the newest checkpoint that is whole.

  A damaged one is passed over with a warning and kept under another name.

  Args:
    directory: the folder of checkpoints; it need not exist.

  Returns:
    Its step, arrays and data, or None when there is none.

  Raises:
    UserError: all there are are damaged, or may not be read.
  """
  damaged = []
  for step in sorted(steps(directory), reverse=True):
    path = directory / f'ckpt.{step}.npz'
    try:
      arrays, data = _read(path)
    except FileNotFoundError:  # A process that trains here has deleted it.
      continue
    except OSError as error:  # Of the disk or the network, not of the file.
      raise UserError(
        f'the checkpoint {path} cannot be read ({error.strerror or error}): '
        'mend that, such as its permissions, and give the same command again.'
      ) from None
    except MemoryError:
      raise
    except Exception as error:  # Damage shows in every way there is.
      logging.warning(
        'The checkpoint %s is damaged (%s); going back to the one before.',
        path,
        error,
      )
      damaged.append(path)
      continue
    for old in damaged:
      with contextlib.suppress(OSError):  # Of a folder that is only read.
        old.rename(old.with_suffix('.damaged'))
    return step, arrays, data
  if damaged:
    raise UserError(
      f'every checkpoint in {directory} is damaged: start anew in another '
      'folder.'
    )
  return None


def load(directory: pathlib.Path, step: int) -> tuple[Arrays, dict]:
  """Reads one checkpoint: its arrays and data.

  Raises:
    UserError: it is damaged, or not there.
  """
  path = directory / f'ckpt.{step}.npz'
  try:
    return _read(path)
  except Exception as error:  # Damage shows in every way there is.
    raise UserError(
      f'the checkpoint {path} cannot be read ({error}): delete it to go by '
      'the others.'
    ) from None


def _read(path: pathlib.Path) -> tuple[Arrays, dict]:
  with np.load(path, allow_pickle=False) as archive:
    arrays = {name: archive[name] for name in archive.files}
  return arrays, json.loads(str(arrays.pop(_JSON_KEY)))


def steps(directory: pathlib.Path) -> list[int]:
  """Gradient steps of the checkpoints in a folder, which need not exist."""
  if not directory.is_dir():
    return []
  names = [
    re.fullmatch(r'ckpt\.(\d+)\.npz', p.name) for p in directory.iterdir()
  ]
  return sorted(int(name[1]) for name in names if name)
