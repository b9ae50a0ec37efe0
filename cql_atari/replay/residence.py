"""Where the frames of a store are while it is sampled.

| residence | frames | a row takes |
|---|---|---|
| 'device' | as they are, on the GPU | 7,056 bytes there |
| 'raw' | as they are, in memory | 7,056 bytes |
| 'compressed' | compressed, in memory | some 60 to 140 bytes |
| 'mapped' | compressed, on disk | no memory of this process |

A batch is the same in all of them.
"""

import dataclasses
import pathlib
import shutil
from typing import Literal

import psutil
from absl import logging

from cql_atari.core import quiet
from cql_atari.replay.frames import FRAME_BYTES
from cql_atari.replay.store import Store

Residence = Literal['auto', 'device', 'raw', 'compressed', 'mapped']
_SPARE = 0.5  # Share of what is free that 'auto' leaves free.


def reside(store: Store, residence: Residence) -> Store:
  """Brings a mapped store where it is to be.

  Args:
    store: as `Store.load` gives it.
    residence: one of the table above; 'auto' takes the first that fits into
      half of what is free.

  Returns:
    The same rows; its `record` says where they are, and why.
  """
  reason = 'as asked for'
  if residence == 'auto':
    residence, reason = _choice(store)
  logging.info('Frames are %s: %s.', _IN_WORDS[residence], reason)
  if residence == 'raw':
    store = store.in_memory().decompressed()
  elif residence in ('device', 'compressed'):
    store = store.in_memory()
  return dataclasses.replace(
    store, record={'residence': residence, 'residence_reason': reason}
  )


_IN_WORDS = {
  'device': 'held on the GPU',
  'raw': 'held decompressed in memory',
  'compressed': 'held compressed in memory',
  'mapped': 'read from disk as they are sampled',
}


def _choice(store: Store) -> tuple[Residence, str]:
  """The fastest residence that leaves room, and why."""
  raw, memory = len(store.actions) * FRAME_BYTES, _free_memory()
  offers = [('raw', raw, memory), ('compressed', store.nbytes, memory)]
  if (of_gpu := _gpu_memory()) is not None:
    offers.insert(0, ('device', raw, of_gpu))
  reasons = []
  for residence, needed, free in offers:
    reasons.append(
      f'{_IN_WORDS[residence]} they take {needed / 1e9:.1f} GB of '
      f'{free / 1e9:.1f} GB free'
    )
    if needed <= (1 - _SPARE) * free:
      return residence, reasons[-1]
  return 'mapped', '; '.join(reasons)


def _free_memory() -> float:
  """Bytes that this process may still take, its container's limit included."""
  free = psutil.virtual_memory().available
  group = pathlib.Path('/sys/fs/cgroup')
  try:
    limit = int((group / 'memory.max').read_text())
    used = int((group / 'memory.current').read_text())
  except (OSError, ValueError):  # No such group, or no limit.
    return free
  return max(min(free, limit - used), 0)


def _gpu_memory() -> float | None:
  """Bytes that TensorFlow may take of the first GPU; None without one."""
  if not shutil.which('nvidia-smi'):  # Importing TensorFlow takes seconds.
    return None
  with quiet.quiet():
    from tensorflow.python.client import device_lib

    devices = device_lib.list_local_devices()
  limits = [d.memory_limit for d in devices if d.device_type == 'GPU']
  return limits[0] if limits else None
