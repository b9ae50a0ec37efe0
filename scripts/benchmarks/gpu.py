"""Gradient steps a second on this machine's GPU, or CPU, and a run's hours.

  python scripts/benchmarks/gpu.py [--replay_dir=DIR]

For each place of the frames (open_store.residence), number of steps in a call
and compute_dtype, our CQL at the paper's sizes, as it learns from the data; and
Dopamine's JAX QR-DQN on a batch that is already on the device, so without its
sampling. All take turns. The load of the GPU is nvidia-smi's. A number of ours
is of the device that the first line names; Dopamine's is of the device that its
own row names, which is a GPU where --dopamine_python has JAX for one.
"""

import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

import learner
import turns as turns_lib

from cql_atari.core import command, devices, quiet
from cql_atari.replay import opening, shard_folder

_COMMAND = command.Command(__doc__)
_REPLAY_DIR = _COMMAND.string('replay_dir', None, 'A run; demo by default.')
_STEPS = _COMMAND.integer('steps', 400, 'Gradient steps a turn.')
_ROUNDS = _COMMAND.integer('rounds', 5, 'Turns of each.')
_DOPAMINE = _COMMAND.string(
  'dopamine_python', sys.executable, 'Python of an environment with Dopamine.'
)
# Both libraries take what they need, and not all that there is.
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
_STEPS_OF_A_RUN = 12_500_000
_RESIDENCES = ('device', 'raw', 'compressed')
_AT_ONCE = (1, 200)
_DTYPES = ('float32', 'bfloat16')


class Load:
  """How busy the GPU is while a context lasts, in percent; NaN without one."""

  def __init__(self):
    self.percent = float('nan')

  @contextlib.contextmanager
  def watched(self):
    """Asks nvidia-smi every fifth of a second."""
    if not shutil.which('nvidia-smi'):
      yield
      return
    seen, done = [], threading.Event()

    def watch():
      while not done.wait(0.2):
        told = subprocess.run(
          ['nvidia-smi', '--query-gpu=utilization.gpu',
           '--format=csv,noheader,nounits'],
          capture_output=True, text=True, check=False,
        )  # fmt: skip
        with contextlib.suppress(ValueError, IndexError):
          seen.append(float(told.stdout.splitlines()[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
      yield
    finally:
      done.set()
      thread.join()
      self.percent = statistics.mean(seen) if seen else self.percent


def contenders():
  """Turns by name: each takes a number of steps and waits for them."""
  from cql_atari.agents import cql_agent

  turns = {}
  for residence in _RESIDENCES:
    store = opening.open_store(
      _REPLAY_DIR.value or shard_folder.demo_replay_dir(), residence=residence
    )
    for dtype in _DTYPES:
      agent = cql_agent.CQLAgent(store, alpha=4.0, compute_dtype=dtype)
      for at_once in _AT_ONCE:

        def turn(steps, agent=agent, at_once=at_once):
          for start in range(0, steps, at_once):
            agent.train_steps(min(at_once, steps - start))
          agent.mean_scalars()

        turns[f'{residence}, {dtype}, {at_once} a call'] = turn
  backend, turn = dopamines()
  turns[f"Dopamine's JAX QR-DQN on {backend}"] = turn
  return turns


def dopamines():
  """The kind of JAX's device, and a turn of Dopamine's update on it."""
  python = _DOPAMINE.value
  asked = subprocess.run(
    [python, '-c', 'import jax; print(jax.default_backend())'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  program = pathlib.Path(__file__).with_name('dopamine_peer.py').read_text()
  sizes = learner.BATCH_SIZE, learner.NUM_ACTIONS, learner.NUM_QUANTILES
  return asked.stdout.strip(), turns_lib.peer(python, program, *sizes)


def main():
  """Prints a table."""
  with quiet.quiet():
    import tensorflow as tf

    tf.config.experimental.set_synchronous_execution(False)  # As `train` does.
    turns = contenders()
    print(f'on {", ".join(devices.devices())}')
    rates = {name: [] for name in turns}
    loads = {name: [] for name in turns}
    for turn in turns.values():
      turn(_STEPS.value)  # Compiles.
    for _ in range(_ROUNDS.value):
      for name, turn in turns.items():
        load, began = Load(), time.perf_counter()
        with load.watched():
          turn(_STEPS.value)
        rates[name].append(_STEPS.value / (time.perf_counter() - began))
        loads[name].append(load.percent)
  print(f'{"":36}steps/s  GPU busy  hours for {_STEPS_OF_A_RUN:,} steps')
  for name, measured in rates.items():
    rate, load = statistics.median(measured), statistics.median(loads[name])
    print(
      f'{name:36}{rate:7.1f}  {load:6.0f} %  '
      f'{_STEPS_OF_A_RUN / rate / 3600:9.1f}'
    )


if __name__ == '__main__':
  _COMMAND.run(main)
