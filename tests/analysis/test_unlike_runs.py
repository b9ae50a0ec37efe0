"""Runs that do not match: unfinished, damaged, or set differently by game."""

import csv
import pathlib
import subprocess
import sys

import pytest

from cql_atari.analysis import ablations, grouping, loading, scores
from cql_atari.core.errors import UserError
from cql_atari.runs import folder as folder_lib

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'verdicts.py'
COLUMNS = 'gradient_steps', 'eval_return_mean'


@pytest.fixture
def make_run(tmp_path, write_run):
  """Writes a run with an evaluation of its seed every hundred steps."""

  def make(name, evaluations=3, game='Pong', seed=0, **fields):
    rows = [(100 * (i + 1), seed + i) for i in range(evaluations)]
    write_run(
      tmp_path / 'runs' / name, COLUMNS, rows, game=game, seed=seed, **fields
    )
    return tmp_path / 'runs' / name

  return make


def load(tmp_path):
  return loading.load_runs(folder_lib.find([str(tmp_path / 'runs')]))


def labels(tmp_path):
  games = grouping.group_by_game(load(tmp_path))
  return {game: list(of_label) for game, of_label in games.items()}


def of_alpha(value):
  return {'settings': {'CQLMixin.alpha': value}}


def test_a_method_has_one_label_in_all_games(make_run, tmp_path):
  """Also where one of them has no run that it must be told from."""
  make_run('a', **of_alpha(4.0))
  make_run('b', **of_alpha(1.0))
  make_run('c', game='Breakout', **of_alpha(4.0))
  assert labels(tmp_path) == {
    'Breakout': ['CQL, alpha 4'], 'Pong': ['CQL, alpha 1', 'CQL, alpha 4'],
  }  # fmt: skip
  games = grouping.group_by_game(load(tmp_path))
  assert list(scores.normalized_scores(games, 'final')) == ['CQL, alpha 4']


def test_what_differs_from_game_to_game_tells_no_runs_apart(make_run, tmp_path):
  make_run('a', **of_alpha(4.0))
  make_run('b', game='Breakout', **of_alpha(1.0))
  assert labels(tmp_path) == {'Breakout': ['CQL'], 'Pong': ['CQL']}


def test_a_setting_of_a_newer_version_makes_no_other_kind(make_run, tmp_path):
  make_run('old', settings={'CQLMixin.alpha': 4.0})
  new = {'CQLMixin.alpha': 4.0, 'FixedReplayAgent.strategy': None}
  make_run('new', seed=1, settings=new)
  assert labels(tmp_path) == {'Pong': ['CQL']}


def test_whole_numbers_are_the_same_in_lists_too(make_run, tmp_path):
  for seed, low in enumerate((-5, -5.0)):
    settings = {'TanhGaussianPolicy.log_std_range': [low, 2]}
    make_run(str(seed), seed=seed, settings=settings)
  make_run('x', settings={'TanhGaussianPolicy.log_std_range': [-20, 2]})
  assert len(labels(tmp_path)['Pong']) == 2


def report(tmp_path):
  done = subprocess.run(
    [
      sys.executable, '-m', 'cql_atari.report', f'--runs={tmp_path}/runs',
      f'--out={tmp_path}/report',
    ],
    capture_output=True,
    text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return (tmp_path / 'report' / 'report.md').read_text()


@pytest.mark.slow
def test_a_report_tells_what_it_shows_in_part(make_run, tmp_path):
  make_run('a', seed=0, **of_alpha(4.0))
  make_run('b', seed=1, evaluations=1, **of_alpha(4.0))
  begun = make_run('c', seed=2, evaluations=0)
  make_run('q', agent='QR-DQN', settings={}, game='Breakout')
  for number in range(2):  # Other data, in the first report alone.
    make_run(f'more{number}', data='10 %', seed=number, **of_alpha(4.0))
  text = report(tmp_path)
  assert '**CQL on Pong, 1 %, is shown up to step 100 only**' in text
  assert 'they have come to 300, 100.' in text
  assert f'**Left out, being without an evaluation yet**: {begun}.' in text
  assert 'Left out of 1 %: CQL.' in text  # Of the aggregate.
  rows = [line.split('|')[1:-1] for line in text.splitlines()]
  settings = [[cell.strip() for cell in row] for row in rows if len(row) == 3]
  assert ['CQLMixin.alpha', '4', 'CQL'] in settings
  for number in range(2):
    (tmp_path / 'runs' / f'more{number}' / 'run.json').unlink()
  mine = tmp_path / 'report' / 'curves_mine.png'
  mine.touch()
  shown = tmp_path / 'report' / 'results.png'  # In a page that is replaced.
  shown.touch()
  page = tmp_path / 'report' / 'report.md'
  page.write_text(f'{text}\n![results](results.png)\n')
  assert (tmp_path / 'report' / 'curves_10_pct.pdf').exists()
  report(tmp_path)
  left = {path.name for path in (tmp_path / 'report').glob('curves*')}
  assert left == {'curves_1_pct.png', 'curves_1_pct.pdf', mine.name}
  assert shown.exists()


def test_verdicts_need_three_evaluations_and_ours(make_run, tmp_path):
  for seed in range(3):
    make_run(f'cql{seed}', seed=seed)
    make_run(f'rem{seed}', seed=seed, agent='REM', evaluations=2)
    make_run(f'bc{seed}', seed=seed, agent='BC', game='Breakout')
  done = subprocess.run(
    [
      sys.executable, SCRIPT, f'--runs={tmp_path}/runs', f'--out={tmp_path}/v',
    ],
    capture_output=True,
    text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  with open(tmp_path / 'v' / 'verdicts.csv', newline='') as file:
    verdicts = {r['method']: r['verdict'] for r in csv.DictReader(file)}
  assert verdicts == {
    'BC': 'undecided: no CQL here',
    'CQL': '',
    'REM': 'undecided: too few evaluations',
  }


def test_a_game_without_a_scale_decides_nothing(make_run, tmp_path):
  make_run('a')
  make_run('b', game='Freeway2', evaluations=9)
  games = grouping.group_by_game(load(tmp_path))
  assert scores.normalized_scores(games, 'final')['CQL'].shape == (1, 1)


def test_ablations_compare_at_the_same_steps(make_run, tmp_path, caplog):
  for number, alpha in enumerate((1.0, 4.0, 16.0)):
    make_run(f'{number}', evaluations=3 - number % 2, **of_alpha(alpha))
  (found,) = ablations.find(load(tmp_path))
  (alphas,) = found.factors
  assert {g.gradient_steps for g in alphas.groups.values()} == {200}
  assert 'CQLMixin.alpha is compared up to step 200 only' in caplog.text


@pytest.mark.parametrize(
  ('text', 'why'),
  [
    ('gradient_steps,eval_return_mean\n100,1.0\n200\n', 'a row is cut short'),
    ('gradient_steps\n100\n200\n200\n', 'a row comes twice'),
    ('gradient_steps,eval_return_mean\n100,x\n', 'could not convert'),
  ],
)
def test_damaged_metrics_are_named(make_run, tmp_path, text, why):
  path = make_run('a') / 'metrics.csv'
  path.write_text(text)
  with pytest.raises(UserError, match=f'{path} is damaged .{why}'):
    load(tmp_path)


def test_runs_behind_links_are_found(make_run, tmp_path):
  run = make_run('a')
  (tmp_path / 'linked').mkdir()
  (tmp_path / 'linked' / 'b').symlink_to(run)
  (tmp_path / 'linked' / 'itself').symlink_to(tmp_path / 'linked')
  (found,) = folder_lib.find([str(tmp_path / 'linked')])
  assert found.path == tmp_path / 'linked' / 'b'
