"""The exit status of a run is its own, however many end together."""

import pathlib
import subprocess
import sys

_PROGRAM = """
import multiprocessing, pathlib, sys, time
import ending
from cql_atari.sweeps import execute, plan
execute._FORKING = multiprocessing.get_context('forkserver')  # No TensorFlow.
execute._SECONDS_BETWEEN_RETRIES = 0.0
execute._train = ending.with_a_mistake
runs = [
  plan.PlannedRun(pathlib.Path(sys.argv[1], str(number)), (), (), 'x', 1, 1)
  for number in range(48)
]
engine = execute.LocalEngine([None] * 16, 1, max_retries=1)
engine.start(runs)
while engine.is_working:
  time.sleep(0.05)
print({(run.state['status'], run.state['attempts']) for run in runs})
"""


def test_runs_that_end_together_have_their_own_status(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, str(tmp_path)],
    capture_output=True,
    text=True,
    env={'PYTHONPATH': str(pathlib.Path(__file__).parents[1])},
  )
  assert done.stdout == "{('failed', 1)}\n", done.stderr
