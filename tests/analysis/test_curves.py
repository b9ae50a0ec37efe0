import csv
import json

import pytest

from cql_atari.analysis import curves, loading
from cql_atari.core.errors import UserError


@pytest.fixture
def make_run(tmp_path):
  """Writes a run folder as training leaves it."""

  def make(name, returns, seed=0, agent='CQLAgent', alpha=4.0, step=10):
    folder = tmp_path / name
    folder.mkdir()
    record = {
      'agent': agent,
      'game': 'Pong',
      'seed': seed,
      'behavior_return': {'mean': -15.7, 'episodes': 9, 'source': 'raw'},
    }
    (folder / 'run.json').write_text(json.dumps(record))
    (folder / 'config.gin').write_text(
      f'SEED = {seed}\nCQLAgent.alpha = {alpha}\nSplit.shards = \\\n  (0, 50)\n'
      f'FixedReplayRunner.seed = %SEED\nAdam.learning_rate = 5e-05\n'
    )
    with open(folder / 'metrics.csv', 'w', newline='') as file:
      writer = csv.writer(file)
      writer.writerow(['gradient_steps', 'eval_return_mean'])
      writer.writerows(
        (step * (i + 1), value) for i, value in enumerate(returns)
      )

  return make


def table(tmp_path):
  return curves.table(loading.load_runs([str(tmp_path / '*')])).splitlines()[2:]


def test_seeds_of_one_experiment_are_averaged(make_run, tmp_path):
  make_run('a', [1.0, 5.0, 3.0], seed=0)
  make_run('b', [2.0, 3.0, 6.0], seed=1)
  (row,) = table(tmp_path)
  # Final 3 and 6; best of each 5 and 6.
  assert row == '| Pong | CQL | 2 | 30 | 4.5 ± 1.5 | 5.5 ± 0.5 | -15.7 |'


def test_different_settings_are_not_seeds_of_one_another(make_run, tmp_path):
  make_run('a', [1.0], alpha=4.0)
  make_run('b', [9.0], alpha=1.0)
  make_run('c', [5.0], agent='QRDQNAgent')
  rows = table(tmp_path)
  assert [row.split(' | ')[1] for row in rows] == [
    'CQL, alpha 1', 'CQL, alpha 4', 'QR-DQN',
  ]  # fmt: skip


def test_what_most_settings_have_in_common_is_not_said(make_run, tmp_path):
  for seed in range(3):
    make_run(f'usual-{seed}', [1.0], seed=seed, alpha=4.0)
  make_run('less', [9.0], alpha=1.0)
  make_run('more', [9.0], alpha=16.0)
  # Of three alphas none is common, however many seeds one has.
  assert [row.split(' | ')[1] for row in table(tmp_path)] == [
    'CQL, alpha 1', 'CQL, alpha 4', 'CQL, alpha 16',
  ]  # fmt: skip
  for name, rate in (('slow', '1e-05'), ('fast', '1e-03')):
    make_run(name, [2.0], alpha=4.0)
    config = tmp_path / name / 'config.gin'
    config.write_text(config.read_text().replace('5e-05', rate))
  assert [row.split(' | ')[1] for row in table(tmp_path)] == [
    'CQL', 'CQL, alpha 1', 'CQL, alpha 16', 'CQL, learning_rate 0.001',
    'CQL, learning_rate 1e-05',
  ]  # fmt: skip


def test_one_setting_written_in_two_ways_is_one(make_run, tmp_path):
  make_run('a', [1.0], seed=0, alpha=4.0)
  config = tmp_path / 'b' / 'config.gin'
  make_run('b', [3.0], seed=1)
  text = config.read_text().replace(
    'CQLAgent.alpha = 4.0', 'CQLMixin.alpha = 4'
  )
  config.write_text(text)
  (row,) = table(tmp_path)
  assert row.startswith('| Pong | CQL | 2 |')


def test_runs_of_the_dataset_are_told_apart(make_run, tmp_path):
  for name in ('1', '2'):
    make_run(name, [1.0])
    path = tmp_path / name / 'run.json'
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, 'dataset_run': name}))
  rows = table(tmp_path)
  assert [row.split(' | ')[1] for row in rows] == [
    'CQL, dataset_run 1', 'CQL, dataset_run 2',
  ]  # fmt: skip


def test_the_same_seed_twice_is_not_two_seeds(make_run, tmp_path):
  make_run('a', [1.0])
  make_run('b', [2.0])
  (row,) = table(tmp_path)
  assert '| 2 runs of 1 |' in row


def test_runs_of_different_lengths_are_cut_with_a_word(
  make_run, tmp_path, caplog
):
  make_run('a', [1.0, 2.0, 30.0], seed=0)
  make_run('b', [1.0], seed=1)
  (row,) = table(tmp_path)
  assert '| 10 | 1.0 ± 0.0 | 1.0 ± 0.0 |' in row
  assert 'all are shown up to step 10 only' in caplog.text
  make_run('c', [7.0], seed=2, step=7)
  with pytest.raises(UserError, match='plot them apart'):
    table(tmp_path)


def test_the_picture_is_drawn(make_run, tmp_path):
  make_run('a', [1.0, 2.0])
  runs = loading.load_runs([str(tmp_path / '*')])
  out = curves.plot(runs, tmp_path / 'figures' / 'curve')
  assert out.name == 'curve.png' and out.stat().st_size > 5000
  with pytest.raises(UserError, match='cannot be written'):
    curves.plot(runs, tmp_path / 'curve.nonsense')


def test_folders_without_an_evaluation_are_left_out(make_run, tmp_path, caplog):
  with pytest.raises(UserError, match=r'no run folder matches .*\*'):
    table(tmp_path)
  make_run('a', ['nan'])
  with pytest.raises(UserError, match='no run with an evaluated iteration'):
    table(tmp_path)
  assert 'was never evaluated' in caplog.text
  (run,) = loading.load_runs([str(tmp_path / '*')], need_evaluation=False)
  assert run.directory.name == 'a'
  make_run('b', [1.0])
  make_run('c', [])
  with pytest.raises(UserError, match=r'no run folder matches .*/typo'):
    loading.load_runs([str(tmp_path / 'b'), str(tmp_path / 'typo')])
  assert table(tmp_path) == ['| Pong | CQL | 1 | 10 | 1.0 | 1.0 | -15.7 |']
  assert 'c has no finished iteration yet' in caplog.text
