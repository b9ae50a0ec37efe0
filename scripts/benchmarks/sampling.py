"""Milliseconds for a batch of 32, against Dopamine's in-RAM sampler.

  python scripts/benchmarks/sampling.py [--replay_dir=DIR --game=Pong]

Both hold the same rows in the same process: ours compressed, Dopamine's raw.
"""

import statistics
import time

import numpy as np

from cql_atari.core import command, quiet
from cql_atari.environments import atari
from cql_atari.replay import open_store
from cql_atari.replay import run as run_lib
from cql_atari.replay import split as split_lib

_COMMAND = command.Command(__doc__)
_REPLAY_DIR = _COMMAND.string('replay_dir', None, 'A run; demo by default.')
_GAME = _COMMAND.string('game', 'Freeway', 'Its game.')
_ROUNDS = _COMMAND.integer('rounds', 20, 'Turns of either sampler.')
_BATCHES = _COMMAND.integer('batches', 20, 'Batches a turn.')


def main():
  """Times both samplers by turns."""
  with quiet.quiet():
    from dopamine.tf.replay_memory import circular_replay_buffer

    from cql_atari.replay import sampler as dataset_lib
  store = open_store.open_store(
    _REPLAY_DIR.value or run_lib.demo_replay_dir(),
    _GAME.value,
    atari.num_actions(_GAME.value),
    split_lib.Split(),
  )
  rows = min(store.manifest['num_rows'], 100_000)
  theirs = circular_replay_buffer.OutOfGraphReplayBuffer(
    (84, 84), 4, rows + 1, 32
  )
  theirs._store['observation'][:rows] = store.read_frames(np.array([0]), rows)[
    0
  ]
  for ours_name, name in (
    ('actions', 'action'), ('rewards', 'reward'), ('terminals', 'terminal')
  ):  # fmt: skip
    theirs._store[name][:rows] = getattr(store, ours_name)[:rows]
  theirs.add_count = np.array(rows)
  sampler = dataset_lib.TransitionSampler(store)
  batch = iter(range(10**9))
  turns = {
    'ours': lambda: sampler.transitions(sampler.sample_rows(next(batch))),
    'Dopamine': theirs.sample_transition_batch,
  }
  seconds = {name: [] for name in turns}
  for turn in turns.values():
    turn()
  for _ in range(_ROUNDS.value):
    for name, turn in turns.items():
      began = time.perf_counter()
      for _ in range(_BATCHES.value):
        turn()
      seconds[name].append((time.perf_counter() - began) / _BATCHES.value)
  for name, times in seconds.items():
    print(f'{name:10}{1e3 * statistics.median(times):7.2f} ms a batch')
  ratio = statistics.median(
    a / b for a, b in zip(seconds['ours'], seconds['Dopamine'])
  )
  bytes_per_row = (store.nbytes + sampler.valid.nbytes) / len(store.actions)
  print(f'ours costs {ratio:.3f} of it, median of paired turns')
  print(
    f'{store.manifest["num_rows"]:,} rows in memory at {bytes_per_row:.0f} '
    "bytes each; Dopamine's take 7,065"
  )


if __name__ == '__main__':
  _COMMAND.run(main)
