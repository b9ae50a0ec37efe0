"""The verdicts of docs/results.md, by its script, on made-up runs."""

import csv
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'verdicts.py'
# The last three evaluations that all have; no other has a say.
CURVES = {
  'CQL': ([9, 4, 5, 6], [0, 6, 6, 6], [0, 5, 5, 8]),  # 5, 6, 6.
  'QR-DQN': ([0, 3, 3, 3], [9, 4, 4, 4], [9, 5, 5, 5]),  # 3, 4, 5.
  'REM': ([0, 6, 6, 6], [0, 6, 6, 6], [0, 5, 5, 5]),  # 6, 6, 5.
  'BC': ([0, 9, 9, 9, 1], [0, 9, 9, 9, 1], [0, 8, 8, 8, 1]),  # 9, 9, 8.
  'DQN': ([0, 1, 1, 1], [0, 1, 1, 1]),
}


def test_verdicts_by_hand(tmp_path, write_run):
  for agent, seeds in CURVES.items():
    for seed, returns in enumerate(seeds):
      write_run(
        tmp_path / 'runs' / agent / str(seed),
        ('gradient_steps', 'eval_return_mean'),
        [(100 * k, value) for k, value in enumerate(returns, 1)],
        behavior=3.0,
        clipped=agent == 'BC',
        agent=agent,
        agent_class=agent,
        seed=seed,
      )
  write_run(  # Too short.
    tmp_path / 'runs' / 'CQL' / '3',
    ('gradient_steps', 'eval_return_mean'),
    [(100, 50.0)],
    seed=3,
  )
  done = subprocess.run(
    [
      sys.executable, SCRIPT, f'--runs={tmp_path}/runs', '--steps=400',
      f'--out={tmp_path}/out',
    ],
    capture_output=True,
    text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  with open(tmp_path / 'out' / 'verdicts.csv', newline='') as file:
    rows = {row['method']: row for row in csv.DictReader(file)}
  # Means 5 2/3, 4, 5 2/3, 8 2/3; standard errors 1/3, 0.577, 1/3, 1/3.
  assert rows['CQL']['score'] == '5.7 ± 0.3' and rows['CQL']['verdict'] == ''
  assert rows['CQL']['seeds'] == '3' and rows['CQL']["data's mean"] == '3.0'
  assert rows['BC']["data's mean"] == '3.0 (clipped)'
  assert {row['gradient steps'] for row in rows.values()} == {'400'}
  verdicts = {name: row['verdict'] for name, row in rows.items()}
  assert verdicts['QR-DQN'] == 'reproduced'
  assert verdicts['REM'] == 'undecided'
  assert verdicts['BC'] == 'not reproduced'
  assert verdicts['DQN'] == 'undecided: too few seeds'
  other = subprocess.run(
    [sys.executable, SCRIPT, f'--runs={tmp_path}/runs', '--ours=CQL, alpha 1'],
    capture_output=True,
    text=True,
  )
  assert other.returncode == 2 and 'give one of these' in other.stderr
  far = subprocess.run(
    [sys.executable, SCRIPT, f'--runs={tmp_path}/runs', '--steps=9000'],
    capture_output=True,
    text=True,
  )
  assert far.returncode == 2 and 'no run has come as far' in far.stderr
  assert done.stdout == (tmp_path / 'out' / 'verdicts.md').read_text()
