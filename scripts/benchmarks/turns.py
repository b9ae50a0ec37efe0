"""Contenders that take turns in one run, so that noise hits all alike."""

import contextlib
import statistics
import subprocess
from collections.abc import Callable

import numpy as np

from cql_atari.core.errors import UserError

# Takes a number of steps; returns the seconds that they took.
Turn = Callable[[int], float]


def peer(python: str, program: str, *arguments) -> Turn:
  """A contender in a process of its own, which waits between turns.

  Args:
    python: the interpreter of its environment.
    program: reads numbers of steps from stdin, one a line, and prints seconds.
    *arguments: in its `sys.argv`.
  """
  process = subprocess.Popen(
    [python, '-c', program, *map(str, arguments)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )

  def turn(steps: int) -> float:
    with contextlib.suppress(BrokenPipeError):  # It says so by its silence.
      process.stdin.write(f'{steps}\n')
      process.stdin.flush()
    while True:
      line = process.stdout.readline()
      if not line:
        raise UserError('the peer ended early.')
      try:
        return float(line)
      except ValueError:
        continue  # Its own log lines.

  return turn


def take(turns: dict[str, Turn], rounds: int, steps: int) -> float:
  """Runs all contenders by turns and prints rates and ratios.

  Args:
    turns: by name; the first is what the others are compared with.
    rounds: turns of every contender.
    steps: of a turn.

  Returns:
    The median seconds of the first one's turns.
  """
  for turn in turns.values():
    turn(5)
  seconds = {name: [] for name in turns}
  shuffle = np.random.default_rng(0).permutation
  for _ in range(rounds):
    for name in shuffle(list(turns)):
      seconds[name].append(turns[name](steps))
  mine = seconds[next(iter(turns))]
  print(f'{"":26}steps/s   ours is, median of paired turns')
  for name, times in seconds.items():
    ratio = statistics.median(t / m for t, m in zip(times, mine))
    rate = steps / statistics.median(times)
    print(f'{name:26}{rate:7.1f}   {ratio:.3f} times as fast')
  return statistics.median(mine)
