"""Where the frames of a store are while it is sampled.

| residence | frames | a row takes |
|---|---|---|
| 'device' | as they are, on the GPU | 7,056 bytes there |
| 'raw' | as they are, in memory | 7,056 bytes |
| 'compressed' | compressed, in memory | some 60 to 140 bytes |
| 'mapped' | compressed, on disk | no memory of this process |

A batch is the same in all of them.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import shutil
from typing import Literal

import psutil

from cql_atari.core import devices, quiet
from cql_atari.replay.frames import FRAME_BYTES
from cql_atari.replay.store import Store

Residence = Literal['auto', 'device', 'raw', 'compressed', 'mapped']
_GROUPS = pathlib.Path('/sys/fs/cgroup')
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
  if residence == 'raw':
    store = store.in_memory().decompressed()
  elif residence in ('device', 'compressed'):
    store = store.in_memory()
  return dataclasses.replace(
    store,
    record={
      'residence': residence,
      'residence_reason': f'frames are {_IN_WORDS[residence]}: {reason}',
    },
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
  too_large = []
  for residence, needed, free in offers:
    reason = f'{needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free'
    if needed <= (1 - _SPARE) * free:
      return residence, '; '.join([*too_large, reason])
    too_large.append(f'{residence} would be {reason}')
  return 'mapped', '; '.join(too_large)


def _free_memory() -> float:
  """Bytes of memory that this process may use.

  Its share of what is free, on the machine and in its cgroups, is its share of
  their cores, which sweeps limit.
  """
  of_machine, of_groups = psutil.cpu_count() or 1, devices.cores()
  limit = int(os.environ.get('TF_NUM_INTRAOP_THREADS') or 0)  # 0 is none.
  own = min(limit or of_groups, of_groups)
  free = min(
    own / max(of_machine, own) * psutil.virtual_memory().available,
    own / of_groups * _free_in_groups(),
  )
  return max(free, 0)


def _free_in_groups() -> float:
  """Bytes left under the memory limits of cgroups, as in jobs and containers.

  Each line of /proc/self/cgroup is NUMBER:CONTROLLERS:PATH; without controllers
  it is of cgroup v2. The limits of parent groups apply as well.
  """
  left = math.inf
  try:
    lines = pathlib.Path('/proc/self/cgroup').read_text().splitlines()
  except OSError:  # Not Linux.
    return left
  for line in lines:
    _, controllers, path = line.split(':', 2)
    if not controllers:
      root, names = _GROUPS, ('memory.max', 'memory.current')
    elif 'memory' in controllers.split(','):
      root = _GROUPS / 'memory'
      names = 'memory.limit_in_bytes', 'memory.usage_in_bytes'
    else:
      continue
    group = root / path.lstrip('/')
    for folder in (group, *group.parents):
      with contextlib.suppress(OSError, ValueError):  # No limit here.
        limit, used = (int((folder / name).read_text()) for name in names)
        stat = dict(entry.split() for entry in (folder / 'memory.stat').open())
        left = min(left, limit - used + int(stat.get('inactive_file', 0)))
  return left


def _gpu_memory() -> float | None:
  """Bytes that TensorFlow may still take of the GPU.

  None where there is no GPU, or one that is shared with other runs, or several,
  for which batches are spread from memory.
  """
  if not shutil.which('nvidia-smi'):  # Importing TensorFlow takes seconds.
    return None
  if os.environ.get('TF_FORCE_GPU_ALLOW_GROWTH') == 'true':  # As sweeps set it.
    return None
  with quiet.quiet():
    quiet.import_tensorflow()
    import tensorflow as tf
    from tensorflow.python.client import device_lib

    found = device_lib.list_local_devices()
  limits = [d.memory_limit for d in found if d.device_type == 'GPU']
  if len(limits) != 1:
    return None
  taken = tf.config.experimental.get_memory_info('GPU:0')['current']
  return limits[0] - taken
