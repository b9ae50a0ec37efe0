import pathlib
import subprocess
import sys

import d4rl_files
import numpy as np
import pytest

from cql_atari.replay import opening, shard_folder, split

SCRIPTS = pathlib.Path(__file__).parents[2] / 'scripts' / 'benchmarks'


def run(script, *flags):
  done = subprocess.run(
    [sys.executable, SCRIPTS / script, *flags],
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr[-3000:]
  return done.stdout.splitlines()


@pytest.mark.slow
def test_the_learner_is_timed_beside_dopamines():
  rows = run('learner.py', '--rounds=1', '--steps=8')
  rates = {row[:26].strip(): float(row[26:].split()[0]) for row in rows[1:4]}
  assert [name[:8] for name in rates] == ['ours, as', '(a) bare', '(b) Dopa']
  assert min(rates.values()) > 0


@pytest.mark.slow
def test_evaluation_is_timed_beside_dopamines():
  ours, dopamines, ratio = run(
    'evaluation.py', '--rounds=1', '--environments=2'
  )
  rates = [float(row.split()[-3]) for row in (ours, dopamines)]
  times = float(ratio.split()[2])
  assert times == pytest.approx(rates[0] / rates[1], rel=0.1)


@pytest.mark.slow
def test_the_profile_of_a_step_names_its_operations():
  speed, share, total, *rows = run('profile_steps.py', '--steps=8')
  assert speed.endswith('ms a step') and '4.02 GFLOP' in share
  spent = [float(row.split()[0]) for row in rows]
  assert spent == sorted(spent, reverse=True) and len(spent) == 28
  assert sum(spent) <= float(total.split()[-4])
  assert 'Adam' in '\n'.join(rows) and 'MatMul' in '\n'.join(rows)


@pytest.mark.slow
def test_the_profile_of_collecting_names_its_parts():
  rows = run('profile_steps.py', '--collect=Breakout', '--rows=5000')[-5:]
  assert 'rows/s' in rows[0]
  parts = {row.split(maxsplit=1)[1]: float(row.split()[0]) for row in rows[1:]}
  assert set(parts) == {
    'train_steps', 'select_actions', 'step', 'start and the rest'
  }  # fmt: skip
  assert min(parts.values()) > 0


@pytest.mark.slow
def test_evaluators_and_loggers_cost_less_than_a_hundredth():
  rows = run('logs.py', '--steps=8', '--rounds=1')
  assert rows[-1].startswith('together ')
  assert 0 < float(rows[-1].split()[-1].rstrip('%')) < 1.0


@pytest.mark.slow
def test_the_benchmark_of_batches_has_all_residences_and_processes():
  rows = run('sampling.py', '--rounds=1', '--batches=32')
  names = [row.split(' threads')[0] for row in rows if 'batches/s' in row]
  assert names[0].startswith('Dopamine') and 'raw, 1' in names
  assert any('processes' in row for row in rows)


@pytest.mark.parametrize('residence', ['compressed', 'raw'])
def test_copies_laid_end_to_end_are_the_same_rows(residence, monkeypatch):
  monkeypatch.syspath_prepend(SCRIPTS)
  import sampling

  store = opening.open_store(
    shard_folder.demo_replay_dir(),
    split=split.Split(shards=(0, 1), fraction=0.5005),
    residence=residence,
  )
  tiled = sampling.tiled(store, 3 * store.manifest['num_rows'])
  length = tiled.manifest['num_rows'] // 4
  assert length == store.manifest['num_rows'] // 4 * 4
  valid = store.valid_transitions()
  valid = valid[valid < length - 1]
  rows = np.random.default_rng(0).choice(valid, 20)
  kept = np.isin(tiled.valid_transitions(), valid[:, None] + [0, 3 * length])
  assert kept.sum() == 2 * len(valid)
  for copy in range(4):
    moved = rows - 3 + copy * length
    frames = tiled.read_frames(moved, 5)
    np.testing.assert_array_equal(frames, store.read_frames(rows - 3, 5))
    np.testing.assert_array_equal(tiled.rewards[moved], store.rewards[rows - 3])


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_on_a_cpu():
  first, _, *rows = run('gpu.py', '--steps=2', '--rounds=1')
  assert first.startswith('on ')
  assert len(rows) == 13  # 3 residences, 2 dtypes, 2 sizes; and Dopamine's.
  for row in rows:
    rate, hours = float(row[36:].split()[0]), float(row.split()[-1])
    assert hours == pytest.approx(12.5e6 / rate / 3600, rel=0.1)


@pytest.mark.slow
def test_parity_goes_on_where_it_was_cut_off(tmp_path):
  data = d4rl_files.write(tmp_path / 'hopper.hdf5', d4rl_files.columns(400))

  def follow(out, steps, *flags):
    return run(
      'parity.py', '--d3rlpy_python=none', f'--data={data}',
      '--task=hopper-medium', '--contenders=ours', '--seeds=0',
      f'--out={tmp_path / out}', f'--steps={steps}', '--period=2', *flags,
    )  # fmt: skip

  table = follow('whole', 4)
  follow('parts', 2)
  assert follow('parts', 4) == table and ' ours ' in table[-1]
  curves = [(tmp_path / out / 'ours-0.csv') for out in ('whole', 'parts')]
  whole, parts = (
    np.genfromtxt(path, skip_header=1, delimiter=',') for path in curves
  )
  assert whole[:, 0].tolist() == [2, 4]
  np.testing.assert_array_equal(parts, whole)
  with pytest.raises(AssertionError, match='give another --out'):
    follow('whole', 4, '--sizes=corl')
