"""Batches of 32 a second, against Dopamine's in-RAM sampler.

  python scripts/benchmarks/sampling.py [--replay_dir=DIR/Pong/1]
  python scripts/benchmarks/sampling.py --residence=compressed --rows=50000000

All hold the same rows in the same process and take turns: ours in every
residence that a CPU has, from one thread and from several, as a learner gets
them; ours from several processes that map one store, each with its part of
every batch; and Dopamine's from one thread, which is all that it has.
"""

import concurrent.futures
import copy
import dataclasses
import os
import statistics
import sys
import time

import numpy as np
import turns as turns_lib

from cql_atari.core import command, quiet
from cql_atari.replay import opening, shard_folder, split

_COMMAND = command.Command(__doc__)
_REPLAY_DIR = _COMMAND.string('replay_dir', None, 'A run; demo by default.')
_SHARDS = _COMMAND.integer('shards', 50, 'How many shards of it.')
_RESIDENCES = _COMMAND.strings(
  'residence', 'raw, compressed or mapped; all of them by default. Repeatable.'
)
_ROWS = _COMMAND.integer(
  'rows', None, 'Lay copies of the data end to end until it has so many rows.'
)
_THREADS = _COMMAND.strings(
  'threads', 'How many prepare batches; one, and a core each. Repeatable.'
)
_ROUNDS = _COMMAND.integer('rounds', 6, 'Turns of each.')
_BATCHES = _COMMAND.integer('batches', 1600, 'Batches a turn.')
_CHUNK = 8


def tiled(store, rows):
  """The store with copies of it behind it, as memory that is not shared."""
  from cql_atari.replay.store import FRAMES_PER_BLOCK

  manifest = copy.deepcopy(store.manifest)
  whole = manifest['num_rows'] // FRAMES_PER_BLOCK * FRAMES_PER_BLOCK
  manifest['shards'][-1]['rows'][-1][1] -= manifest['num_rows'] - whole
  copies = -(-rows // whole)
  manifest['shards'] *= copies
  manifest['num_rows'] = copies * whole
  starts = store.frame_offsets[: whole // FRAMES_PER_BLOCK + 1].astype(int)
  blocks = np.asarray(store.blocks)[: starts[-1]]
  offsets = np.arange(copies)[:, None] * starts[-1] + starts[:-1]
  columns = {
    name: np.tile(getattr(store, name)[:whole], copies)
    for name in ('actions', 'rewards', 'terminals', 'drawn')
  }
  if store.frames is not None:
    columns['frames'] = np.tile(store.frames[:whole], (copies, 1, 1))
  return dataclasses.replace(
    store,
    manifest=manifest,
    blocks=np.tile(blocks, copies),
    frame_offsets=np.append(offsets, copies * starts[-1]).astype(np.uint64),
    **columns,
  )


def dopamine(store):
  """Dopamine's sampler of the first 100,000 rows, as a turn."""
  from dopamine.tf.replay_memory import circular_replay_buffer

  rows = min(store.manifest['num_rows'], 100_000)
  buffer = circular_replay_buffer.OutOfGraphReplayBuffer(
    (84, 84), 4, rows + 1, 32
  )
  frames = store.read_frames(np.array([0]), rows)[0]
  buffer._store['observation'][:rows] = frames
  for ours, theirs in (
    ('actions', 'action'), ('rewards', 'reward'), ('terminals', 'terminal')
  ):  # fmt: skip
    buffer._store[theirs][:rows] = getattr(store, ours)[:rows]
  buffer.add_count = np.array(rows)

  def turn(batches):
    for _ in range(batches):
      buffer.sample_transition_batch()

  return turn


def ours(store, num_threads):
  """Our sampler, as a turn."""
  from cql_atari.replay import sampler

  chunks = sampler.TransitionSampler(store, num_threads=num_threads).chunks(
    0, _CHUNK
  )

  def turn(batches):
    for _ in range(batches // _CHUNK):
      next(chunks)

  return turn


_WORKER = f"""
import sys, time
from cql_atari.replay import opening, sampler, split
replay_dir, shards, worker, count = sys.argv[1:]
store = opening.open_store(
  replay_dir, split=split.Split(shards=(0, int(shards))), residence='mapped'
)
parts = sampler.TransitionSampler(
  store, worker=int(worker), num_workers=int(count)
).chunks(0, {_CHUNK})
for line in sys.stdin:
  began = time.perf_counter()
  for _ in range(int(line) // {_CHUNK}):
    next(parts)
  print(time.perf_counter() - began, flush=True)
"""


def processes(replay_dir, count):
  """Several processes that map one store, as a turn."""
  peers = [
    turns_lib.peer(
      sys.executable, _WORKER, replay_dir, _SHARDS.value, worker, count
    )
    for worker in range(count)
  ]
  together = concurrent.futures.ThreadPoolExecutor(count)

  def turn(batches):
    list(together.map(lambda peer: peer(batches), peers))

  return turn


def main():
  """Times all by turns."""
  cores = len(os.sched_getaffinity(0))
  threads = [int(count) for count in _THREADS.value or (1, cores)]
  replay_dir = _REPLAY_DIR.value or shard_folder.demo_replay_dir()
  with quiet.quiet():
    stores = {
      residence: opening.open_store(
        replay_dir,
        split=split.Split(shards=(0, _SHARDS.value)),
        residence=residence,
      )
      for residence in _RESIDENCES.value or ('raw', 'compressed', 'mapped')
    }
    if _ROWS.value:
      stores = {
        residence: tiled(store, _ROWS.value)
        for residence, store in stores.items()
      }
    turns = {'Dopamine': dopamine(next(iter(stores.values())))}
    for residence, store in stores.items():
      for count in threads:
        turns[f'{residence}, {count} threads'] = ours(store, count)
    if not _ROWS.value:
      turns[f'mapped, {cores} processes'] = processes(replay_dir, cores)
  rates = {name: [] for name in turns}
  for turn in turns.values():  # Memory is slower to read at first.
    turn(_BATCHES.value)
  for _ in range(_ROUNDS.value):
    for name, turn in turns.items():
      # What was prepared between the turns is not to count.
      turn((max(threads) + 1) * _CHUNK)
      began = time.perf_counter()
      turn(_BATCHES.value)
      rates[name].append(_BATCHES.value / (time.perf_counter() - began))
  for name, measured in rates.items():
    ratio = statistics.median(
      a / b for a, b in zip(measured, rates['Dopamine'])
    )
    print(
      f'{name:22}{statistics.median(measured):7.0f} batches/s, '
      f'{ratio:5.2f} times Dopamine'
    )
  for residence, store in stores.items():
    rows = store.manifest['num_rows']
    print(f'{residence}: {store.nbytes / rows:.0f} bytes for each of {rows:,}')


if __name__ == '__main__':
  _COMMAND.run(main)
