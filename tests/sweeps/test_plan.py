"""The sweeps of the package, planned without running anything."""

import dataclasses
import json
import os
import socket
import subprocess
import threading

import gin
import pytest

from cql_atari.core import settings
from cql_atari.core.errors import UserError
from cql_atari.sweeps import execute, plan, ray_engine


@pytest.mark.parametrize(
  ('name', 'count', 'steps'),
  [
    ('table3', 5 * 3 * 2 * 3, 12_500_000),
    ('figure1', 4 * 3 * 3, 12_500_000),
    ('small', 2 * 5 * 2 * 3, 25_000),
    ('figure1_small', 5 * 5 * 3, 50_000),
    ('longer_small', 2 * 2, 250_000),
    ('d4rl_longer', 7 * 4 * 3, 200_000),
    ('table1', 6 * 18 * 4, 1_000_000),
    ('table2_adroit', 7 * 8 * 4, 1_000_000),
    ('table2_kitchen', 7 * 3 * 4, 1_000_000),
    ('table2_antmaze', 7 * 6 * 4, 1_000_000),
    ('d4rl_small', 6 * 6 * 3, 20_000),
    ('table4', 7 * 3 * 4, 1_000_000),
    ('table4_small', 7 * 3 * 3, 20_000),
    ('ablations', 12 * 3, 25_000),
    ('d4rl_ablations', 10 * 2 * 3, 20_000),
  ],
)
def test_sweeps_of_the_package_are_what_they_say(tmp_path, name, count, steps):
  gin.clear_config()
  settings.parse([f'sweeps/{name}.gin'], [], lock=False)
  sweep = plan.Sweep()
  runs = sweep.runs(tmp_path)
  gin.clear_config()
  assert len({run.directory for run in runs}) == len(runs) == count
  assert {run.total_steps for run in runs} == {steps}
  seeds = [run.directory.name for run in runs]
  assert seeds == sorted(seeds)  # Every method once before any twice.
  text = plan.estimate(sweep, runs, 4)
  assert f'{count} runs, 0 done. Left: {count * steps:,}' in text


def test_folders_of_data_are_names(tmp_path):
  settings = {'configs': ['cql_1pct.gin'], 'seeds': [0], 'games': ['Pong']}
  with pytest.raises(UserError, match=r'replay_dirs has 1 for Pong: give a'):
    plan.Sweep(**settings, replay_dirs={'Pong': 1})


def test_a_config_with_bindings_is_a_run_of_its_own(tmp_path):
  sweep = plan.Sweep(
    configs=[
      'cql_1pct.gin',
      "cql_1pct.gin CQLMixin.penalty='rho' CQLMixin.alpha=0.5",
    ],
    seeds=[3],
    games=['Pong'],
    gin_bindings=['CQLMixin.alpha=2.0'],
  )
  plain, bound = sweep.runs(tmp_path)
  assert plain.directory == tmp_path / 'Pong' / 'cql_1pct' / '3'
  folder = 'cql_1pct_penalty=rho_alpha=0.5'
  assert bound.directory == tmp_path / 'Pong' / folder / '3'
  assert bound.gin_bindings[-1] == 'CQLMixin.alpha=0.5'  # It has the last word.
  assert plain.digest != bound.digest
  wrong = dataclasses.replace(sweep, configs=['cql_1pct.gin CQLMixin.alhpa=1'])
  with pytest.raises(UserError, match='did you mean alpha'):
    wrong.runs(tmp_path)


def test_states_are_written_whole_and_read_back(tmp_path):
  run = plan.PlannedRun(tmp_path / 'a' / 'b', ('x.gin',), ('Y=1',), 'd', 10, 3)
  assert run.state['status'] == 'waiting' and not run.is_done
  run.write_state(status='done', attempts=2)
  assert run.is_done and run.state['attempts'] == 2
  assert run.state['gin_files'] == ['x.gin']
  assert [path.name for path in run.directory.iterdir()] == ['sweep.json']
  assert run.steps_done == 0 and run.last_metrics == {}
  (run.directory / 'checkpoints').mkdir()
  for step in (9, 20):
    (run.directory / 'checkpoints' / f'ckpt.{step}.npz').touch()
  (run.directory / 'metrics.csv').write_text('a,b\n1,2\n3,4\n')
  assert run.steps_done == 20 and run.total_steps == 30
  assert run.last_metrics == {'a': 3.0, 'b': 4.0}


@pytest.mark.parametrize(
  ('gpus', 'each', 'workers', 'slots'),
  [
    ('', 0.5, 3, [None] * 3),
    ('0,1', 0.5, None, ['0', '1', '0', '1']),
    ('4,5,6,7', 2, None, ['4,5', '6,7']),
    ('3', 0.25, 2, ['3', '3']),
    ('0,1', 0.75, None, ['0', '1']),
    ('0,1', 0.4, None, ['0', '1', '0', '1']),
  ],
)
def test_runs_share_gpus_by_fractions(monkeypatch, gpus, each, workers, slots):
  """No more on any than it has room for; only on those one may use."""
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', gpus)
  monkeypatch.setattr(execute.os, 'sched_getaffinity', lambda pid: range(16))
  assert execute.gpu_slots(1, each, workers) == slots


def test_a_run_alone_on_its_gpu_may_fill_it_and_others_may_not(monkeypatch):
  given, all_there = {}, threading.Barrier(3)

  def started(run, retries, cpus, gpu, owns_gpu, *rest):
    all_there.wait(timeout=60)
    given.setdefault(gpu, []).append(execute._environment(cpus, gpu, owns_gpu))

  monkeypatch.setattr(execute, 'execute', started)
  engine = execute.LocalEngine(['0', '1', '1'], 2, 0)
  engine.start([None] * 3)
  for thread in engine._threads:
    thread.join()
  threads = {'TF_NUM_INTRAOP_THREADS': '2'}
  growing = {'TF_FORCE_GPU_ALLOW_GROWTH': 'true'}
  assert given == {
    '0': [{**threads, 'CUDA_VISIBLE_DEVICES': '0'}],
    '1': [{**threads, **growing, 'CUDA_VISIBLE_DEVICES': '1'}] * 2,
  }


def test_a_driver_that_fails_has_no_gpus(monkeypatch):
  said = 'NVIDIA-SMI has failed because it could not communicate.\nMake sure\n'
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  monkeypatch.setattr(execute.shutil, 'which', lambda name: name)
  for listed, gpus in ((said, 0), ('GPU 0: A100\n  MIG 1g.5gb\n', 1)):
    done = subprocess.CompletedProcess([], 9, stdout=listed)
    monkeypatch.setattr(execute.subprocess, 'run', lambda *a, d=done, **k: d)
    assert len(execute._gpus()) == gpus


def test_more_gpus_than_there_are_is_a_mistake(monkeypatch):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
  with pytest.raises(UserError, match='this machine has 1'):
    execute.gpu_slots(1, 2)


@pytest.mark.parametrize(
  ('node', 'gpus', 'room'),
  [
    ({'CPU': 32.0, 'GPU': 1.0}, 0.25, 4),
    ({'CPU': 4.0, 'GPU': 8.0}, 0.25, 2),
    ({'CPU': 32.0, 'GPU': 4.0}, 2, 2),
    ({'CPU': 1.0, 'GPU': 4.0}, 0.25, 0),
    ({'CPU': 8.0}, 0, 4),
    ({'CPU': 8.0}, 0.5, 0),
  ],
)
def test_room_on_a_node_of_a_cluster(node, gpus, room):
  assert ray_engine._room(node, 2, gpus) == room


def test_a_minari_dataset_is_no_path(tmp_path):
  (run,) = plan.Sweep(
    configs=['d4rl/bc.gin'],
    seeds=[0],
    tasks=['hopper-medium'],
    replay_dir='minari:own/{domain}-v0',
  ).runs(tmp_path)
  assert "REPLAY_DIR='minari:own/hopper-v0'" in run.gin_bindings


def test_a_sweep_of_another_version_is_told_so(tmp_path):
  sweep = plan.Sweep(configs=['cql_1pct.gin'], seeds=[0], games=['Pong'])
  (run,) = sweep.runs(tmp_path)
  run.write_state(status='done')
  assert sweep.runs(tmp_path)[0].is_done
  path = run.directory / 'sweep.json'
  state = json.loads(path.read_text())
  del state['format']
  path.write_text(json.dumps({**state, 'digest': 'other'}))
  with pytest.raises(UserError, match='a sweep of another version'):
    sweep.runs(tmp_path)


def one_run(folder):
  sweep = plan.Sweep(configs=['cql_1pct.gin'], seeds=[0], games=['Pong'])
  (run,) = sweep.runs(folder)
  run.directory.mkdir(parents=True, exist_ok=True)
  return sweep, run


@pytest.mark.parametrize('text', ['', '{}', '[]', 'null', '{"attempts": 3}'])
def test_a_damaged_state_is_one_that_waits(tmp_path, text):
  sweep, run = one_run(tmp_path)
  (run.directory / plan.STATE_FILE).write_text(text)
  assert plan.describe(sweep, one_run(tmp_path)[1:], 1).startswith('waiting ')


@pytest.mark.parametrize(
  'text',
  [
    'gradient_steps,wall_seconds\n1x0,5\n', 'iteration\n0\n',
    'gradient_steps,wall_seconds\n100,\n',
  ],
)  # fmt: skip
def test_damaged_metrics_of_a_run_stop_no_sweep(tmp_path, text):
  sweep, run = one_run(tmp_path)
  (run.directory / 'metrics.csv').write_text(text)
  assert '25.0 steps/s each (assumed' in plan.describe(sweep, [run], 1)


def test_a_run_that_was_killed_is_said_to_be(tmp_path):
  sweep, run = one_run(tmp_path)
  ended = subprocess.Popen(['true'])
  ended.wait()
  for pid, host, status in (
    (ended.pid, socket.gethostname(), 'killed '),
    (os.getpid(), socket.gethostname(), 'running '),
    (ended.pid, 'elsewhere', 'running '),
  ):
    run.write_state(status='running', attempts=1, pid=pid, host=host)
    assert plan.describe(sweep, [run], 1).startswith(status)


@pytest.mark.parametrize('path', ['x/{}', 'x/{game.foo}', 'x/{gam}'])
def test_only_known_fields_stand_in_braces(tmp_path, path):
  with pytest.raises(UserError, match=r'only {game} can stand in braces'):
    plan.Sweep(
      configs=['cql_1pct.gin'], seeds=[0], games=['Pong'], replay_dir=path
    ).runs(tmp_path)
