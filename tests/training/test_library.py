"""The package from Python, without a command and without gin."""

import ast
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

import gin
import numpy as np
import pytest
import tensorflow as tf
from training_runs import TINY

import cql_atari
from cql_atari.core import gin_state, progress
from cql_atari.core.errors import UserError
from cql_atari.replay import published
from cql_atari.training import fit as fit_lib
from cql_atari.training import runner, signals

README = pathlib.Path(__file__).parents[2] / 'README.md'
SMALL = {
  **TINY,
  'FixedReplayRunner.num_iterations': 1,
  'FixedReplayRunner.evaluation_steps': 100,
  'FixedReplayRunner.max_steps_per_episode': 50,
}


def test_the_lines_of_the_readme_run(tmp_path):
  """To the letter, in a folder of its own."""
  (block,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
  assert len(ast.parse(block).body) == 12
  done = subprocess.run(
    [sys.executable, '-c', block],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'cql.npz').is_file()
  assert (tmp_path / 'returns.png').read_bytes().startswith(b'\x89PNG')


def test_an_agent_goes_on_from_its_file(demo_store, tmp_path, monkeypatch):
  """Bit for bit, optimizer and all."""
  first, second = (small_agent(demo_store) for _ in range(2))
  first.train_steps(8)
  second.load(first.save(tmp_path / 'agents' / 'cql.npz'))
  for agent in (first, second):
    agent.train_steps(8, show_progress=True)
  monkeypatch.setenv('TQDM_DISABLE', '1')
  small_agent(demo_store).train_steps(3, show_progress=True)
  assert first.gradient_steps == second.gradient_steps == 16
  for name, value in first.state().items():
    np.testing.assert_array_equal(value, second.state()[name], name)
  np.savez(tmp_path / 'arrays.npz', frames=np.zeros(3))
  with pytest.raises(UserError, match='no saved agent, but holds other'):
    first.load(tmp_path / 'arrays.npz')
  (tmp_path / 'other.npz').write_text('no agent')
  whole = (tmp_path / 'agents' / 'cql.npz').read_bytes()
  (tmp_path / 'cut.npz').write_bytes(whole[: len(whole) // 2])
  np.save(tmp_path / 'array.npy', np.zeros(3))
  (tmp_path / 'empty.npz').touch()
  for name in ('other.npz', 'cut.npz', 'array.npy', 'nowhere.npz', 'empty.npz'):
    with pytest.raises(UserError, match='is no saved agent'):
      first.load(tmp_path / name)


def small_agent(store, **settings):
  def network(num_actions, seed):
    from cql_atari.agents import networks

    return networks.quantile_network(
      num_actions,
      num_quantiles=4,
      trunk=lambda *args: networks.nature_trunk(*args, (4, 4, 4), 16),
      seed=seed,
    )

  return cql_atari.CQLAgent(store, network=network, alpha=4.0, **settings)


def test_the_actions_are_the_datas(demo_store):
  assert small_agent(demo_store).num_actions == 4
  with pytest.raises(UserError, match='num_actions is 6, but the data have 4'):
    cql_atari.CQLAgent(demo_store, 6)
  with pytest.raises(UserError, match=r"give cql_atari.open_store\('data'\)"):
    cql_atari.CQLAgent('data')
  with pytest.raises(UserError, match='has to be told num_actions'):
    cql_atari.CQLAgent(None)


def test_a_fitted_run_leaves_other_agents_alone(
  tmp_path, monkeypatch, capsys, caplog
):
  """Neither its making nor its opening changes what is made afterwards."""
  settings = SMALL | {
    'CQLMixin.alpha': 7.0,
    'open_store.cache_dir': str(tmp_path / 'cache'),
  }
  gin.clear_config()
  folder = cql_atari.fit(
    tmp_path / 'run', 'cql_demo.gin', seed=3, parameters=settings
  )
  own = tmp_path / 'own.gin'  # A macro's value counts, not its name.
  own.write_text(
    "include 'cql_demo.gin'\nN = 1\nFixedReplayRunner.num_iterations = %N\n"
  )
  macro = cql_atari.fit(
    tmp_path / 'run',
    own,
    seed=3,
    parameters={n: v for n, v in settings.items() if 'num_it' not in n},
  )
  assert macro.metrics()['gradient_steps'].tolist() == [20]
  cql_atari.fit(tmp_path / 'run', 'cql_demo.gin', seed=3, parameters=settings)
  monkeypatch.setattr(fit_lib, '_fit', None)  # Nothing of it is needed.
  cql_atari.fit(tmp_path / 'run', 'cql_demo.gin', seed=3, parameters=settings)
  assert (
    'all iterations of this run are done already' in capsys.readouterr().out
  )
  monkeypatch.undo()
  again = cql_atari.fit(  # NumPy's numbers and paths are values too.
    folder.path,
    tmp_path / 'run' / 'config.gin',
    parameters={'CQLMixin.alpha': np.float64(7), 'open_store.residence': 'raw'},
  )
  assert again.path == folder.path
  with pytest.raises(UserError, match='began with seed 3, not 4'):
    cql_atari.fit(folder.path, 'cql_demo.gin', seed=4, parameters=settings)
  assert 'became' not in caplog.text
  assert folder.record['seed'] == 3 and folder.record['agent'] == 'CQL'
  assert folder.record['settings']['CQLMixin.alpha'] == 7.0
  assert not gin.config._CONFIG
  run = cql_atari.TrainedRun(folder.path)
  assert run.agent.alpha == 7.0 and run.gradient_steps == 20
  assert run.environments(2).longest_episode == 50
  assert not gin.config._CONFIG
  assert cql_atari.CQLAgent(None, 4).alpha != 7.0
  run.agent.train_steps(5)  # It has its data, and goes on.
  assert run.agent.gradient_steps == 25
  games = cql_atari.evaluate(run.agent, run.environments(2), steps=60)
  assert games.lengths.max() <= 50
  figure = cql_atari.plot_runs(folder)
  assert figure.axes[0].get_title() == 'Breakout'


def test_a_finished_run_whose_data_have_changed_is_told(
  tmp_path, demo_frames, capsys
):
  """And one whose data are gone is finished all the same."""
  data = tmp_path / 'mine'
  data.mkdir()

  def write(name):
    np.savez(
      data / f'{name}.npz', frames=demo_frames[:60], rewards=np.zeros(60),
      actions=np.arange(60) % 4, terminated=True,
    )  # fmt: skip

  def fit():
    cql_atari.fit(
      tmp_path / 'run', 'cql_1pct.gin', replay_dir=data, game='Breakout',
      parameters={
        **SMALL, 'FixedReplayRunner.evaluation_steps': 0,
        'FixedReplayRunner.training_steps': 2, 'Split.fraction': 1.0,
        'Split.shards': (0, 50),
        'open_store.cache_dir': str(tmp_path / 'cache'),
      },
    )  # fmt: skip

  write('0')
  fit()
  fit()
  assert 'are done already' in capsys.readouterr().out
  write('1')
  with pytest.raises(UserError, match='data have changed since: give another'):
    fit()
  for path in data.iterdir():
    path.unlink()
  fit()
  assert 'are done already' in capsys.readouterr().out
  with pytest.raises(UserError, match=r'cannot be opened: .* --replay_dir'):
    cql_atari.TrainedRun(tmp_path / 'run')


def test_the_bar_tells_of_the_iteration_and_of_the_whole_run(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(progress, '_SECONDS_BETWEEN_LINES', 0.0)
  monkeypatch.setattr(runner, '_STEPS_PER_REPORT', 1)
  settings = {**SMALL, 'FixedReplayRunner.num_iterations': 2}
  cql_atari.fit(tmp_path / 'run', 'cql_demo.gin', parameters=settings)
  lines = capsys.readouterr().err.splitlines()
  of_first = [line for line in lines if 'iteration 0 of 2, training' in line]
  assert re.search(r'/20 steps, .* left, loss .*, the run \d', of_first[0])
  (evaluated, *_) = (line for line in lines if 'iteration 1 of 2' in line)
  assert 'last return ' in evaluated


def test_a_folder_of_data_is_no_folder_of_a_run(tmp_path):
  (tmp_path / 'Pong' / '1' / 'replay_logs').mkdir(parents=True)
  with pytest.raises(UserError, match='is a folder of data: give one for the'):
    cql_atari.fit(tmp_path / 'Pong' / '1', 'cql_demo.gin')


def test_what_is_bound_by_a_macro_is_found():
  """As a run is opened again whose config has its agent by one."""
  with gin_state.isolated():
    gin.parse_config(
      'Split.fraction = %F\nF = 0.25\nopen_data.open_fn = %O\nO = @open_store'
    )
    assert gin_state.value('Split.fraction') == 0.25
    assert gin_state.value('open_data.open_fn').__name__ == 'open_store'
    assert gin_state.value('Split.shards', 7) == 7


def test_what_fails_in_a_run_fails_there_alone(demo_store, tmp_path):
  @gin.configurable
  class Guarded(cql_atari.CQLAgent):
    def loss(self, outputs, transition):
      tf.debugging.assert_less(outputs.step, tf.constant(9, tf.int64), 'over')
      return super().loss(outputs, transition)

  parameters = {
    **SMALL,
    'FixedReplayRunner.create_agent_fn': Guarded,
    'FixedReplayAgent.compile_step': False,
  }
  with pytest.raises(tf.errors.InvalidArgumentError, match='over'):
    cql_atari.fit(tmp_path, 'cql_demo.gin', parameters=parameters)
  agent = small_agent(demo_store)
  agent.train_steps(2)
  assert agent.mean_scalars()['loss'] > 0
  assert tf.config.experimental.get_synchronous_execution()


def test_a_run_in_a_thread_watches_for_no_signal():
  """Which only the main thread may; it is no reason to fail."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:

    def watch():
      with signals.StopSignal().watch(), published._interrupted_by_sigterm():
        return True

    assert pool.submit(watch).result()


def test_gin_has_its_settings_again():
  gin.clear_config()
  gin.parse_config('Split.fraction = 0.5')
  with gin_state.isolated():
    assert cql_atari.Split().fraction == 1.0
    gin.parse_config('Split.fraction = 0.25')
    gin.finalize()
  assert cql_atari.Split().fraction == 0.5
  gin.parse_config('Split.fraction = 0.125')  # It isn't locked.
  gin.clear_config()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
  """Its cells, one after another, in a folder of its own."""
  notebook = json.loads((README.parent / 'docs' / 'library.ipynb').read_text())
  code = [
    ''.join(cell['source'])
    for cell in notebook['cells']
    if cell['cell_type'] == 'code'
  ]
  done = subprocess.run(
    [sys.executable, '-c', '\n'.join(code)],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    env={**os.environ, 'MPLBACKEND': 'Agg'},
  )
  assert done.returncode == 0, done.stderr
  assert 'iteration 2: 300 gradient steps' in done.stdout
  kinds = [
    kind
    for cell in notebook['cells']
    for output in cell.get('outputs', [])
    for kind in output.get('data', {})
  ]
  assert kinds.count('image/png') == 3
