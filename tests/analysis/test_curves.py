import re

import pytest

from cql_atari.analysis import figures, grouping, loading, reporting
from cql_atari.core.errors import UserError
from cql_atari.runs import folder as folder_lib


@pytest.fixture
def make_run(tmp_path, write_run):
  """Writes a run with these evaluation returns."""

  def make(name, returns, seed=0, agent='CQL', step=10, clipped=False, **more):
    settings = {'CQLMixin.alpha': 4.0, 'Adam.learning_rate': 5e-5, **more}
    write_run(
      tmp_path / name,
      ['gradient_steps', 'eval_return_mean'],
      [(step * (i + 1), value) for i, value in enumerate(returns)],
      behavior=-15.7,
      clipped=clipped,
      seed=seed,
      agent=agent,
      settings=settings,
      dataset_run=more.get('run'),
    )

  return make


def load(*patterns, **settings):
  found = folder_lib.find([str(pattern) for pattern in patterns])
  return loading.load_runs(found, **settings)


def table(tmp_path):
  games = grouping.group_by_game(load(tmp_path / '*'))
  lines = reporting.curve_table(games).splitlines()[2:]
  return [re.sub(' +', ' ', line) for line in lines]


def test_seeds_of_one_experiment_are_averaged(make_run, tmp_path):
  make_run('a', [1.0, 5.0, 3.0], seed=0)
  make_run('b', [2.0, 3.0, 6.0], seed=1)
  (row,) = table(tmp_path)
  # Final 3 and 6; best of each 5 and 6.
  assert row == '| Pong | CQL | 2 | 30 | 4.5 ± 1.5 | 5.5 ± 0.5 | -15.7 |'


def test_different_settings_are_not_seeds_of_one_another(make_run, tmp_path):
  make_run('a', [1.0], **{'CQLMixin.alpha': 4.0})
  make_run('b', [9.0], **{'CQLMixin.alpha': 1.0})
  make_run('c', [5.0], agent='QR-DQN')
  rows = table(tmp_path)
  assert [row.split(' | ')[1] for row in rows] == [
    'CQL, alpha 1', 'CQL, alpha 4', 'QR-DQN',
  ]  # fmt: skip


def test_what_most_settings_have_in_common_is_not_said(make_run, tmp_path):
  for seed in range(3):
    make_run(f'usual-{seed}', [1.0], seed=seed, **{'CQLMixin.alpha': 4.0})
  make_run('less', [9.0], **{'CQLMixin.alpha': 1.0})
  make_run('more', [9.0], **{'CQLMixin.alpha': 16.0})
  # Of three alphas none is common, however many seeds one has.
  assert [row.split(' | ')[1] for row in table(tmp_path)] == [
    'CQL, alpha 1', 'CQL, alpha 4', 'CQL, alpha 16',
  ]  # fmt: skip
  for name, rate in (('slow', 1e-05), ('fast', 1e-03)):
    make_run(name, [2.0], **{'Adam.learning_rate': rate})
  assert [row.split(' | ')[1] for row in table(tmp_path)] == [
    'CQL', 'CQL, alpha 1', 'CQL, alpha 16', 'CQL, learning rate 0.001',
    'CQL, learning rate 1e-05',
  ]  # fmt: skip


def test_one_setting_written_in_two_ways_is_one(make_run, tmp_path):
  make_run('a', [1.0], seed=0, **{'CQLMixin.alpha': 4.0})
  make_run('b', [3.0], seed=1, **{'CQLMixin.alpha': 4})
  (row,) = table(tmp_path)
  assert row.startswith('| Pong | CQL | 2 |')


def test_runs_of_the_dataset_are_told_apart(make_run, tmp_path):
  for name in ('1', '2'):
    make_run(name, [1.0], run=name)
  rows = table(tmp_path)
  assert [row.split(' | ')[1] for row in rows] == [
    'CQL, dataset run 1, run 1', 'CQL, dataset run 2, run 2',
  ]  # fmt: skip


def test_clipped_rewards_are_labelled_beside_scores(make_run, tmp_path):
  make_run('a', [1.0], clipped=True)
  assert table(tmp_path)[0].endswith('| -15.7 (clipped) |')
  figure = figures.learning_curves(grouping.group_by_game(load(tmp_path / '*')))
  texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
  assert 'data, mean game (clipped rewards)' in texts


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
  games = grouping.group_by_game(load(tmp_path / '*'))
  out = figures.plot(games, tmp_path / 'figures' / 'curve')
  assert out.name == 'curve.png' and out.stat().st_size > 5000
  with pytest.raises(UserError, match='cannot be written'):
    figures.plot(games, tmp_path / 'curve.nonsense')


def test_folders_without_an_evaluation_are_left_out(make_run, tmp_path, caplog):
  with pytest.raises(UserError, match=r'there is no run folder in .*\*'):
    table(tmp_path)
  make_run('a', ['nan'])
  with pytest.raises(UserError, match='no run with an evaluated iteration'):
    table(tmp_path)
  assert 'was never evaluated' in caplog.text
  (run,) = load(tmp_path / '*', need_evaluation=False)
  assert run.directory.name == 'a'
  make_run('b', [1.0])
  make_run('c', [])
  with pytest.raises(UserError, match=r'there is no run folder in .*/typo'):
    load(tmp_path / 'b', tmp_path / 'typo')
  assert table(tmp_path) == ['| Pong | CQL | 1 | 10 | 1.0 | 1.0 | -15.7 |']
  assert 'c has no finished iteration yet' in caplog.text


def test_other_data_of_a_task_are_no_seeds(tmp_path, write_run):
  for data, score in (('medium-v2', 10.0), ('expert-v2', 100.0)):
    write_run(
      tmp_path / data,
      ('gradient_steps', 'eval_return_mean'),
      [(100, score)],
      benchmark='d4rl',
      task=f'hopper-{data}',
      game='hopper',
      agent='CQL(H)',
      data=data,
    )
  (groups,) = grouping.group_by_game(load(tmp_path / '*')).values()
  assert list(groups) == ['CQL(H), expert-v2', 'CQL(H), medium-v2']
  assert all(len(group.runs) == 1 for group in groups.values())


def test_settings_of_one_name_are_told_apart(tmp_path, write_run):
  """By their full names."""
  for number, settings in enumerate(
    ({}, {'Critic.hidden_units': 64}, {'TanhGaussianPolicy.hidden_units': 64})
  ):
    write_run(
      tmp_path / str(number),
      ('gradient_steps', 'eval_return_mean'),
      [(100, 1.0)],
      settings=settings,
    )
  (groups,) = grouping.group_by_game(load(tmp_path / '*')).values()
  assert list(groups) == [
    'CQL',
    'CQL, Critic.hidden_units 64',
    'CQL, TanhGaussianPolicy.hidden_units 64',
  ]


def test_what_is_not_set_is_in_words(tmp_path, write_run):
  for number, gap in enumerate((None, 5.0)):
    write_run(
      tmp_path / str(number), ('gradient_steps', 'eval_return_mean'),
      [(100, 1.0)], settings={'CQLSACAgent.target_gap': gap},
    )  # fmt: skip
  (groups,) = grouping.group_by_game(load(tmp_path / '*')).values()
  assert list(groups) == ['CQL, target gap 5', 'CQL, target gap none']


def test_iterations_without_an_evaluation_are_left_out(tmp_path, write_run):
  rows = [(100, 5.0), (200, ''), (300, 3.0), (400, '')]
  write_run(tmp_path / '0', ('gradient_steps', 'eval_return_mean'), rows)
  (groups,) = grouping.group_by_game(load(tmp_path / '*')).values()
  assert groups['CQL'].steps.tolist() == [100, 300]
  assert (groups['CQL'].final, groups['CQL'].peak) == (3.0, 5.0)
