"""The report on D4RL's tasks, on made-up logs whose answer is known."""

import csv

import numpy as np
import pytest

from cql_atari.analysis import loading, reporting
from cql_atari.continuous import published_scores, tasks
from cql_atari.runs import folder as folder_lib

HOPPER = tasks.task('hopper-medium').settings.score_range
AGENTS = ('CQL(H)', 'CQL(rho)', 'BRAC-p', 'BRAC-v', 'BC')


def raw(score):
  """The return of a normalized score."""
  low, high = HOPPER
  return low + (high - low) * score / 100


@pytest.fixture(scope='module')
def runs(tmp_path_factory, write_run):
  root = tmp_path_factory.mktemp('runs')
  for index, agent in enumerate(AGENTS):
    for seed in range(2):
      scores = (100, 30 + index), (200, 10 * index + 2 * seed)
      write_run(
        root / agent / str(seed),
        ['gradient_steps', 'eval_return_mean', 'q_data'],
        [(step, raw(score), 1.0) for step, score in scores],
        behavior=raw(40),
        benchmark='d4rl',
        agent=agent,
        game='hopper',
        task='hopper-medium-v2',
        data='medium-v2',
        seed=seed,
        discounted_return=20.0,
      )
  return loading.load_runs(folder_lib.find([str(root / '*' / '*')]))


def test_tables_1_and_2_by_hand(runs, tmp_path):
  reporting.write(runs, tmp_path, 'D4RL')
  with open(tmp_path / 'tables1and2.csv', newline='') as file:
    rows = {row['agent']: row for row in csv.DictReader(file)}
  assert list(rows) == ['BC', 'BRAC-p', 'BRAC-v', 'CQL(H)', 'CQL(rho)']
  # Final scores 0 and 2; peaks 30 and 30.
  assert rows['CQL(H)']['final'] == '1.0 ± 1.0'
  assert rows['CQL(H)']['peak'] == '30.0 ± 0.0'
  assert rows['BC']['final'] == '41.0 ± 1.0'
  assert rows['BC']["data's games"] == '40.0'
  assert (rows['CQL(H)']['paper'], rows['CQL(H)']['CORL']) == ('86.6', '59.1')
  assert (rows['BRAC-v']['paper'], rows['BRAC-v']['CORL']) == ('32.3', '')
  assert rows['CQL(rho)']['paper'] == ''
  assert not (tmp_path / 'table3.csv').exists()
  text = (tmp_path / 'report.md').read_text()
  assert 'Tables 1 and 2' in text and 'Table 3' not in text
  assert (tmp_path / 'curves_medium_v2.png').is_file()


def test_only_the_published_method_stands_beside_its_numbers(runs):
  run = next(run for run in runs if run.agent == 'CQL(H)')
  (paper,) = (c for c in run.benchmark.columns if c.title == 'paper')

  def beside(**settings):
    return paper.value({**run.record, 'settings': settings}, 0.0)

  assert beside(**{'CQLSACAgent.alpha': 2.5}) == 86.6
  assert beside(**{'Critic.hidden_units': [256, 256, 256]}) == 86.6
  for name, value in {
    'CQLSACAgent.alpha': 0.0,
    'CQLSACAgent.target_gap': 1.0,
    'CQLSACAgent.num_samples': 4,
    'Critic.hidden_units': [128, 128],
    'Critic.num_critics': 10,
  }.items():
    assert beside(**{name: value}) is None, name


def test_returns_are_told_as_scores(runs):
  run = next(run for run in runs if run.agent == 'BC' and run.seed == 1)
  np.testing.assert_allclose(run.metrics['eval_return_mean'], [34, 42])
  assert run.behavior_return == pytest.approx(40)
  assert run.record['discounted_return'] == 20.0


def test_published_scores_are_those_of_every_task():
  assert set(published_scores.PAPER) == set(tasks.names())
  assert set(published_scores.CORL) < set(tasks.names())
  row = published_scores.PAPER['hopper-random-expert']
  assert row == {
    'SAC': 5.6, 'BC': 10.1, 'BEAR': 10.1, 'BRAC-p': 5.8, 'BRAC-v': 11.1,
    'CQL(H)': 110.5,
  }  # fmt: skip
  assert published_scores.PAPER['kitchen-mixed']['CQL(rho)'] == 52.4
