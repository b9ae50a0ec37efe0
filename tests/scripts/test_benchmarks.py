import pathlib
import subprocess
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / 'scripts' / 'benchmarks'


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_on_a_cpu():
  done = subprocess.run(
    [sys.executable, SCRIPTS / 'gpu.py', '--steps=2', '--rounds=1'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr[-3000:]
  first, _, *rows = done.stdout.splitlines()
  assert first.startswith('on ')
  assert len(rows) == 13  # 3 residences, 2 dtypes, 2 sizes; and Dopamine's.
  for row in rows:
    rate, hours = float(row[36:].split()[0]), float(row.split()[-1])
    assert hours == pytest.approx(12.5e6 / rate / 3600, rel=0.1)
