"""Sweeps as a user starts them: real runs of the demo, real kills."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cql_atari.runs import checkpoints

SWEEP = """
Sweep.configs = ['cql_demo.gin', 'qrdqn_demo.gin']
Sweep.games = ['Breakout']
Sweep.seeds = [0]
Sweep.gin_bindings = [
  'nature_trunk.filters=(4, 8, 8)',
  'nature_trunk.hidden_units=32',
  'quantile_network.num_quantiles=20',
  'Split.shards=(10, 13)',
  'FixedReplayRunner.num_iterations=2',
  'FixedReplayRunner.training_steps=800',
  'FixedReplayRunner.evaluation_steps=1',
  'FixedReplayRunner.max_steps_per_episode=100',
  'FixedReplayRunner.checkpoint_minutes=0.01',
  'AtariEnvironments.num_environments=2',
]
"""
RUNS = ['Breakout/cql_demo/0', 'Breakout/qrdqn_demo/0']


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  (folder / 'sweep.gin').write_text(SWEEP)
  return folder


@pytest.fixture(scope='module')
def environment(work):
  return {**os.environ, 'XDG_CACHE_HOME': str(work / 'cache')}


def command(work, base_dir, *flags):
  return [
    sys.executable, '-m', 'cql_atari.sweep',
    f'--gin_files={work / "sweep.gin"}', f'--base_dir={base_dir}', *flags,
  ]  # fmt: skip


def call(arguments, environment):
  return subprocess.run(
    arguments, env=environment, capture_output=True, text=True
  )


@pytest.fixture(scope='module')
def undisturbed(work, environment):
  """A sweep on this machine that nothing interrupts."""
  done = call(command(work, work / 'whole'), environment)
  assert done.returncode == 0, done.stdout + done.stderr
  return work / 'whole', done


def results(base_dir):
  """Every number of every run but the timings, and the weights."""
  found = {}
  for name in RUNS:
    with open(base_dir / name / 'metrics.csv', newline='') as file:
      rows = list(csv.DictReader(file))
    for row in rows:
      del row['steps_per_second'], row['wall_seconds']
    _, arrays, _ = checkpoints.load_newest(base_dir / name / 'checkpoints')
    found[name] = rows, arrays
  return found


def assert_same_results(ours, expected):
  ours, expected = results(ours), results(expected)
  for name in RUNS:
    assert ours[name][0] == expected[name][0]
    for key, value in expected[name][1].items():
      np.testing.assert_array_equal(ours[name][1][key], value)


def test_a_sweep_runs_everything_once(undisturbed, work, environment):
  base_dir, done = undisturbed
  assert '2 of 2 done' in done.stdout
  report = f'python -m cql_atari.report --runs={base_dir} --out=report'
  assert done.stdout.splitlines()[-1] == f'The report: {report}'
  before = {
    path: path.stat().st_mtime_ns
    for path in base_dir.rglob('*')
    if path.is_file() and path.name != '.lock'
  }
  assert sum(path.name == 'run.json' for path in before) == 2
  again = call(command(work, base_dir), environment)
  assert again.returncode == 0 and 'all of them done' in again.stdout
  assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_dry_run_prints_the_plan_and_does_nothing(
  undisturbed, work, environment
):
  done = call(command(work, work / 'dry', '--dry_run'), environment)
  assert done.returncode == 0, done.stderr
  assert not (work / 'dry').exists()
  *listed, summary = done.stdout.splitlines()
  assert [line.split('/dry/')[1] for line in listed] == RUNS
  assert '2 runs, 0 done. Left: 3,200 gradient steps' in summary
  assert 'assumed' in summary and 'GB' in summary
  measured = call(command(work, undisturbed[0], '--dry_run'), environment)
  assert '2 runs, all of them done' in measured.stdout


def test_a_binding_that_is_not_of_the_sweep_is_for_every_run(work, environment):
  more = '--gin_bindings=FixedReplayRunner.num_iterations=3'
  done = call(command(work, work / 'dry', '--dry_run', more), environment)
  assert 'Left: 4,800 gradient steps' in done.stdout, done.stderr


def test_a_macro_of_the_runs_is_for_every_run(work, environment):
  roms = '--gin_bindings=ROM_DIR="/roms"'
  done = call(command(work, work / 'dry', '--dry_run', roms), environment)
  assert done.returncode == 0 and '2 runs' in done.stdout, done.stderr


def test_a_gin_file_of_a_sweep_binds_nothing_else(work, environment):
  file = work / 'other.gin'
  file.write_text("include 'sweeps/small.gin'\nAdam.learning_rate = 1e-3")
  done = call(command(work, work / 'dry', f'--gin_files={file}'), environment)
  assert done.returncode == 2
  assert 'put it into Sweep.gin_bindings' in done.stderr


def test_killed_and_stopped_sweeps_go_on(undisturbed, work, environment):
  """SIGKILL of a run: tried again. SIGTERM of the sweep: everything saves."""
  base_dir = work / 'killed'
  sweep = subprocess.Popen(
    command(work, base_dir), env=environment, stdout=subprocess.PIPE, text=True
  )
  wait_for_checkpoint(base_dir, sweep)
  victim = run_process(base_dir / RUNS[0])
  os.kill(victim, signal.SIGKILL)
  while (now := state(base_dir / RUNS[0]))['status'] != 'retrying':
    assert sweep.poll() is None
    time.sleep(0.05)
  assert now['error'].startswith('killed by SIGKILL after')
  sweep.terminate()
  output, _ = sweep.communicate()
  assert sweep.returncode == 143, output
  statuses = [state(base_dir / name)['status'] for name in RUNS]
  assert 'done' not in statuses and 'stopped' in statuses
  assert 'give the same command again' in output
  assert not any(run_process(base_dir / name) for name in RUNS)
  done = call(command(work, base_dir), environment)
  assert done.returncode == 0, done.stdout
  assert state(base_dir / RUNS[0])['attempts'] > 1
  assert_same_results(base_dir, undisturbed[0])


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_what_is_sent_to_all_of_a_sweep_ends_its_runs(
  work, environment, number
):
  """SIGTERM to every process, as clusters do, saves. SIGKILL: no run stays."""
  base_dir = work / f'all-{number.name}'
  sweep = subprocess.Popen(
    command(work, base_dir, '--workers=1'),
    env=environment,
    start_new_session=True,
  )
  wait_for_checkpoint(base_dir, sweep)
  trains = run_process(base_dir / RUNS[0])
  assert trains
  if number == signal.SIGKILL:
    sweep.kill()
  else:
    os.killpg(sweep.pid, number)
  sweep.wait()
  while run_process(base_dir / RUNS[0]) == trains:
    time.sleep(0.05)
  if number == signal.SIGTERM:
    assert state(base_dir / RUNS[0])['status'] == 'stopped'
    log = (base_dir / RUNS[0] / 'train.log').read_text()
    assert 'stopped by SIGTERM and saved' in log


def state(run):
  try:
    return json.loads((run / 'sweep.json').read_text())
  except OSError:
    return {'status': 'waiting'}


def wait_for_checkpoint(base_dir, sweep):
  while not list((base_dir / RUNS[0] / 'checkpoints').glob('ckpt.*.npz')):
    assert sweep is None or sweep.poll() is None
    time.sleep(0.05)


def run_process(run):
  """The process that trains in a folder, if any."""
  pid = state(run).get('pid')
  return pid if pid and pathlib.Path(f'/proc/{pid}').exists() else None


@pytest.mark.slow
def test_a_ray_cluster_survives_the_loss_of_a_node(
  undisturbed, work, environment, monkeypatch
):
  """Two nodes, one killed half-way: the same results, to the bit."""
  pytest.importorskip('ray')
  program = work / 'cluster.py'
  program.write_text(f"""
import json, pathlib, subprocess, sys, time
import ray
from ray.cluster_utils import Cluster

base_dir = pathlib.Path({str(work / 'ray')!r})
cluster = Cluster(initialize_head=True, head_node_args={{'num_cpus': 0}})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
sweep = subprocess.Popen({command(work, work / 'ray', '--engine=ray')!r}
  + [f'--ray_address={{cluster.address}}'])
while len(list(base_dir.rglob('ckpt.*.npz'))) < 2:
  assert sweep.poll() is None
  time.sleep(0.1)
running = [json.loads(p.read_text()) for p in base_dir.rglob('sweep.json')]
assert sum(run['status'] == 'running' for run in running) == 2, running
cluster.remove_node(nodes[0], allow_graceful=False)
print('killed a node', flush=True)
status = sweep.wait()
cluster.shutdown()
sys.exit(status)
""")
  done = call([sys.executable, str(program)], environment)
  assert done.returncode == 0, done.stdout + done.stderr
  assert 'killed a node' in done.stdout and '2 of 2 done' in done.stdout
  attempts = [state(work / 'ray' / name)['attempts'] for name in RUNS]
  assert sum(attempts) == 3, attempts  # One run began again elsewhere.
  assert_same_results(work / 'ray', undisturbed[0])


@pytest.mark.slow
def test_runs_on_ray_save_when_the_sweep_is_stopped(work, environment):
  """Also of a sweep in the background, where Ctrl-C is ignored."""
  pytest.importorskip('ray')
  base_dir = work / 'ray-stopped'
  sweep = subprocess.Popen(
    command(
      work,
      base_dir,
      '--engine=ray',
      '--gin_bindings=FixedReplayRunner.num_iterations=99',
    ),
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
  )
  wait_for_checkpoint(base_dir, sweep)
  sweep.send_signal(signal.SIGINT)
  output, _ = sweep.communicate()
  assert sweep.returncode == 130 and 'stopped by SIGINT' in output, output
  statuses = [state(base_dir / name)['status'] for name in RUNS]
  assert statuses[0] == 'stopped' and 'running' not in statuses
  log = (base_dir / RUNS[0] / 'train.log').read_text()
  assert 'stopped by SIGTERM and saved' in log


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--gin_bindings=Sweep.games=["Pongg"]'], 'there is no Atari game'),
    (['--gin_bindings=Sweep.games="Pong"'], 'give a list'),
    (['--gin_bindings=Sweep.seeds=3'], 'give a list'),
    (['--gin_bindings=Sweep.seeds=[1, 1]'], 'two runs of the sweep'),
    (['--gin_bindings=Sweep.replay_dir="a/{gam}"'], 'only {game}'),
    (['--base_dir=/dev/null/x'], 'cannot be written'),
    (['--gin_bindings=Sweep.seed=[0]'], 'did you mean seeds?'),
    (['--gin_bindings=Sweep.configs=["cql_2pct.gin"]'], 'no gin file cql_2pct'),
    (['--gin_bindings=Sweep.seeds=[]'], 'empty'),
    (['--gin_bindings=GAME="Pong"'], 'has Sweep.games for it'),
    (['--gin_bindings=Adam.learning_rat=1'], 'did you mean learning_rate?'),
    (['--engine=spark'], 'spark'),
    (['--ray_address=here:1'], 'goes with --engine=ray'),
    (['--engine=ray', '--workers=2'], 'Ray takes what fits'),
    (['--engine=ray', '--ray_address=127.0.0.1:1'], 'no Ray cluster'),
  ],
)
def test_mistakes_end_in_one_sentence(work, environment, flags, sentence):
  done = call(command(work, work / 'bad', *flags), environment)
  assert done.returncode in (1, 2), done.stdout
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr


def test_runs_of_other_settings_are_refused(undisturbed, work, environment):
  other = '--gin_bindings=Sweep.gin_files=["small.gin"]'
  done = call(command(work, undisturbed[0], other), environment)
  assert done.returncode == 2
  assert 'sweep with other settings' in done.stderr


def test_a_config_that_was_changed_is_another_experiment(work, environment):
  config = work / 'mine.gin'
  arguments = command(
    work, work / 'changed', f'--gin_bindings=Sweep.configs=["{config}"]'
  )
  for text, sentence in (
    ("include 'cql_demo.gin'", ''),
    ("include 'cql_demo.gin'\nAdam.learning_rate = 1e-3", 'other settings'),
  ):
    config.write_text(text)
    if not sentence:
      arguments.append('--dry_run')
      done = call(arguments, environment)
      assert done.returncode == 0, done.stderr
      arguments.pop()
      sweep = subprocess.Popen(arguments, env=environment)
      while not list((work / 'changed').rglob('sweep.json')):
        assert sweep.poll() is None
        time.sleep(0.05)
      sweep.terminate()  # While its runs still start up.
      assert sweep.wait() == 143
      states = [
        json.loads(path.read_text())['status']
        for path in (work / 'changed').rglob('sweep.json')
      ]
      assert set(states) == {'stopped'}
    else:
      done = call([*arguments, '--dry_run'], environment)
      assert done.returncode == 2 and sentence in done.stderr


def test_missing_data_are_told_before_anything_starts(work, environment):
  (work / 'no_data').mkdir()
  for folder in (work / 'no_data', '/nowhere'):
    line = f'--gin_bindings=Sweep.replay_dir="{folder}"'
    done = call(command(work, work / 'without', line), environment)
    assert done.returncode == 2
    assert f'there is no {folder}: fetch or collect' in done.stderr
    assert not (work / 'without').exists()


def test_a_run_that_cannot_start_is_not_tried_again(work, environment):
  (work / 'other' / 'file').mkdir(parents=True)
  line = f'--gin_bindings=Sweep.replay_dir="{work / "other"}"'
  done = call(command(work, work / 'cannot', line, '--workers=1'), environment)
  assert done.returncode == 1
  first = work / 'cannot' / RUNS[0]
  assert f'{first} and 1 more: error: {work}/other holds' in done.stdout
  assert state(work / 'cannot' / RUNS[0])['attempts'] == 1
