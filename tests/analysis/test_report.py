"""Reports on made-up logs whose answers are known by hand."""

import csv
import dataclasses
import itertools
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from rliable import library, metrics

from cql_atari.analysis import grouping, loading, reporting, scores
from cql_atari.core.errors import UserError
from cql_atari.environments import published_scores
from cql_atari.runs import folder as folder_lib

# Evaluation returns of three seeds.
CURVES = {
  ('Pong', 'CQL', 0.01): ([-20, 1, -3], [-21, -9, 6], [-20, 3, 0]),
  ('Pong', 'QR-DQN', 0.01): ([-21, -21, -20], [-21, -20, -21], [-20] * 3),
  ('Breakout', 'CQL', 0.01): ([2, 31, 20], [1, 10, 40], [3, 20, 60]),
  ('Breakout', 'QR-DQN', 0.01): ([1, 1, 1], [2, 0, 3], [0, 0, 5]),
  ('Pong', 'CQL', 0.1): ([0, 10, 20],),
  ('Pong', 'DQN', 0.1): ([0, 8, 7],),
}


@pytest.fixture(scope='module')
def root(tmp_path_factory, write_run):
  """Run folders as a sweep leaves them."""
  root = tmp_path_factory.mktemp('runs')
  columns = (
    'gradient_steps', 'eval_return_mean', 'q_data', 'cql_penalty',
    'gradient_norm', 'q_max', 'held_out_td_error',
  )  # fmt: skip
  for (game, agent, fraction), seeds in CURVES.items():
    penalty = 0.5 if agent == 'CQL' else ''
    for seed, returns in enumerate(seeds):
      write_run(
        root / game / f'{agent}_{fraction}' / str(seed),
        columns,
        [
          (
            100 * (row + 1),
            value,
            0.1 * row,
            penalty,
            2.0,
            0.3 * row,
            0.01 if fraction == 0.1 else '',
          )
          for row, value in enumerate(returns)
        ],
        behavior=1.5,
        agent=agent,
        agent_class=agent,
        game=game,
        seed=seed,
        data=f'{100 * fraction:g} %',
        manifest_digest=f'{game}{fraction}',
      )
  return root


def load(pattern):
  return loading.load_runs(folder_lib.find([str(pattern)]))


@pytest.fixture(scope='module')
def written(root, tmp_path_factory):
  out = tmp_path_factory.mktemp('report')
  done = subprocess.run(
    [
      sys.executable, '-m', 'cql_atari.report', f'--runs={root}',
      f'--out={out}', '--title=A <report>',
    ],
    capture_output=True,
    text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stderr == '' and 'The report on 14 runs is' in done.stdout
  return out


def rows_of(path):
  with open(path, newline='') as file:
    return list(csv.DictReader(file))


def test_table_3_by_hand(written):
  rows = {
    (row['data'], row['game'], row['agent']): row
    for row in rows_of(written / 'table3.csv')
  }
  assert [key[0] for key in rows] == ['1 %'] * 4 + ['10 %'] * 2
  assert len(rows) == 6
  cql = rows['1 %', 'Pong', 'CQL']
  # Finals -3, 6, 0: mean 1, deviation sqrt((16 + 25 + 1) / 2) = 4.58, error
  # 2.65. Peaks 1, 6, 3: mean 3.33, deviation sqrt(38 / 6) = 2.52, error 1.45.
  assert cql['final'] == '1.0 ± 2.6' and cql['peak'] == '3.3 ± 1.5'
  assert (cql['seeds'], cql['gradient steps']) == ('3', '300')
  assert cql['human-normalised final'] == f'{(1 + 20.7) / (14.6 + 20.7):.2f}'
  assert cql['gamer-normalised final'] == f'{100 * 22 / 36:.0f}'
  assert (cql['paper'], cql['d3rlpy final'], cql['d3rlpy peak']) == (
    '19.3', '3.9', '16.3',
  )  # fmt: skip
  assert cql["data's games"] == '1.5'
  qrdqn = rows['1 %', 'Breakout', 'QR-DQN']
  assert (qrdqn['final'], qrdqn['peak']) == ('3.0 ± 1.2', '3.0 ± 1.2')
  assert (qrdqn['paper'], qrdqn['d3rlpy peak']) == ('7.9', '9.0')
  dqn = rows['10 %', 'Pong', 'DQN']
  assert (dqn['final'], dqn['peak'], dqn['paper']) == ('7.0', '8.0', '')
  every = rows_of(written / 'scores.csv')
  assert len(every) == 14
  assert [float(row['peak']) for row in every if row['seed'] == '1'] == [
    40.0, 3.0, 6.0, -20.0,
  ]  # fmt: skip


def test_interquartile_means_by_hand(written, root):
  """Six normalised finals of CQL: the mean of the middle four."""
  pong = (np.array([-3, 6, 0]) + 20.7) / (14.6 + 20.7)
  breakout = (np.array([20, 40, 60]) - 1.7) / (30.5 - 1.7)
  middle = np.sort(np.concatenate([pong, breakout]))[1:5].mean()
  rows = [
    row
    for row in rows_of(written / 'interquartile_means.csv')
    if (row['data'], row['score'], row['agent']) == ('1 %', 'final', 'CQL')
  ]
  assert len(rows) == 1
  assert rows[0]['seeds x games'] == '3 x 2'
  assert rows[0]['interquartile mean'] == f'{middle:.3f}'
  low, high = map(float, rows[0]['95 %'].split(' to '))
  assert low < middle < high
  # Resampling seeds within a game can't leave the range of its scores.
  lowest = (3 * pong.min() + breakout.min()) / 4
  assert lowest - 1e-3 <= low and high <= breakout.max()


def test_performance_profiles_by_hand():
  shares, interval = scores.performance_profiles(
    {'CQL': np.array([[0.1, 0.6], [0.3, 1.9]])},
    np.array([0.0, 0.2, 0.5, 1.0, 2.0]),
  )['CQL']
  np.testing.assert_array_equal(shares, [1.0, 0.75, 0.5, 0.25, 0.0])
  assert interval.shape == (2, 5)


@pytest.mark.parametrize('shape', [(1, 1), (3, 2), (5, 1), (3, 5)])
def test_what_is_bootstrapped_is_rliables(shape):
  values = np.random.default_rng(0).normal(size=shape)
  np.testing.assert_allclose(
    scores.interquartile_mean(values), metrics.aggregate_iqm(values)
  )
  limits = np.linspace(-1, 1, 7)
  ours, interval = scores.performance_profiles({'x': values}, limits)['x']
  np.random.seed(0)  # noqa: NPY002
  theirs, expected = library.create_performance_profile({'x': values}, limits)
  np.testing.assert_array_equal(ours, theirs['x'])
  np.testing.assert_array_equal(interval, expected['x'])


def test_intervals_are_the_same_each_time():
  values = {'CQL': np.random.default_rng(0).normal(size=(5, 4))}
  state = np.random.get_state()[1].copy()  # noqa: NPY002
  assert scores.interquartile_means(values) == scores.interquartile_means(
    values
  )
  profiles = [
    scores.performance_profiles(values, np.linspace(0, 1, 9))['CQL']
    for _ in range(2)
  ]
  np.testing.assert_array_equal(profiles[0][1], profiles[1][1])
  after = np.random.get_state()[1]  # noqa: NPY002
  np.testing.assert_array_equal(after, state)


def test_what_does_not_compare_is_left_out_of_aggregates(root):
  runs = load(root / '*' / '*_0.01' / '*')

  def aggregated(*left_out):
    kept = [r for r in runs if (r.agent, r.game, r.seed) not in left_out]
    return scores.normalized_scores(grouping.group_by_game(kept), 'final')

  whole = aggregated()
  assert sorted(whole) == ['CQL', 'QR-DQN'] and whole['CQL'].shape == (3, 2)
  games = [('QR-DQN', 'Breakout', seed) for seed in range(3)]
  assert list(aggregated(*games)) == ['CQL']
  # By their seeds, not by their places.
  fewer = aggregated(('CQL', 'Breakout', 0))
  np.testing.assert_array_equal(fewer['CQL'], whole['CQL'][1:])
  short = [
    dataclasses.replace(
      run, metrics={name: values[:2] for name, values in run.metrics.items()}
    )
    if run.agent == 'CQL'
    else run
    for run in runs
  ]
  assert list(
    scores.normalized_scores(grouping.group_by_game(short), 'final')
  ) == ['QR-DQN']


def test_evaluations_that_cut_games_off_are_marked(tmp_path, write_run):
  for seed, limit in enumerate((27_000, 4500)):
    write_run(
      tmp_path / str(seed),
      ('gradient_steps', 'eval_return_mean'),
      [(100, 1.0)],
      seed=seed,
      settings={'FixedReplayRunner.max_steps_per_episode': limit},
    )
  (sentence,) = reporting._cut_offs(load(tmp_path))
  assert 'of 1 of the 2 runs are cut off after 4,500 agent steps' in sentence
  assert not list(reporting._cut_offs(load(tmp_path / '0')))


def test_settings_that_changed_on_the_way_are_told(tmp_path, write_run):
  alpha, steps = 'CQLMixin.alpha', 'FixedReplayRunner.training_steps'
  write_run(
    tmp_path / '0',
    ('gradient_steps', 'eval_return_mean'),
    [(100, 1.0)],
    settings={alpha: 1.0, steps: 50},
    earlier_starts=[
      {'settings': {alpha: 4.0, steps: 50}},
      {'settings': {alpha: 1.0, steps: 50}},
      {'settings': {alpha: 1.0}},  # Of a version without the other.
      {'command': []},  # Of before settings were kept.
    ],
  )
  (sentence,) = reporting._changes(load(tmp_path))
  assert f'{alpha} was 4.0 and became 1.0.' in sentence
  assert steps not in sentence


def test_every_start_s_versions_and_devices_are_told(tmp_path, write_run):
  write_run(
    tmp_path / '0',
    ('gradient_steps', 'eval_return_mean'),
    [(100, 1.0)],
    versions={'tensorflow': '2.21'},
    devices=['CPU'],
    earlier_starts=[{'versions': {'tensorflow': '2.20'}, 'devices': ['H100']}],
  )
  runs = load(tmp_path)
  groups = list(grouping.group_by_game(runs)['Pong'].values())
  *_, versions, devices = reporting._settings(runs, groups)
  assert versions == 'Versions: tensorflow 2.20, tensorflow 2.21.'
  assert devices == 'Computed on: CPU, H100.'


def test_the_same_seed_twice_is_refused(root, tmp_path):
  runs = load(root / 'Pong' / 'CQL_0.01' / '*')
  with pytest.raises(UserError, match='same experiment with the same seed'):
    reporting.write([*runs, runs[0]], tmp_path, 'x')


def test_other_data_of_the_same_name_are_no_seeds(tmp_path, write_run):
  for seed, digest in enumerate(('abcdefgh', 'abcdefgh', 'stuvwxyz')):
    write_run(
      tmp_path / str(seed), ['gradient_steps', 'eval_return_mean'],
      [(100, 10 * seed)], seed=seed, data='plain (own)', manifest_digest=digest,
    )  # fmt: skip
  games = grouping.group_by_game(load(tmp_path / '*'))['Pong']
  assert list(games) == ['CQL, data abcdefg', 'CQL, data stuvwxy']
  assert [len(group.runs) for group in games.values()] == [2, 1]


def test_settings_that_differ_from_game_to_game_are_told(tmp_path, write_run):
  for game, alpha in (('Pong', 4.0), ('Breakout', 0.0)):
    write_run(
      tmp_path / game, ['gradient_steps', 'eval_return_mean'], [(100, 1.0)],
      game=game, settings={'CQLMixin.alpha': alpha, 'Adam.epsilon': 1e-8},
    )  # fmt: skip
  out = tmp_path / 'report'
  out.mkdir()
  reporting.write(load(tmp_path / '*'), out, 'x')
  text = (out / 'report.md').read_text()
  told = text[text.index('other settings from game to game') :]
  assert 'CQLMixin.alpha' in told and 'Breakout: 0, Pong: 4' in told
  assert 'Adam.epsilon' not in told


def test_only_the_paper_s_method_stands_beside_its_numbers(root):
  run, *_ = load(root / 'Pong' / 'CQL_0.01' / '*')
  (paper,) = (c for c in run.benchmark.columns if c.title == 'paper')

  def beside(quantiles=200, more=None, **settings):
    given = {
      **{f'CQLMixin.{name}': value for name, value in settings.items()},
      'quantile_network.num_quantiles': quantiles,
      **(more or {}),
    }
    return paper.value({**run.record, 'settings': given}, 0.0)

  assert beside() == beside(penalty='H', alpha=4.0) == 19.3
  assert beside(quantiles=51) is None  # Of small.gin.
  for name, value in {
    'FixedReplayAgent.gamma': 0.5,
    'FixedReplayAgent.double_q': True,
    'Adam.learning_rate': 1e-2,
    'quantile_network.trunk': '@impala_trunk',
  }.items():
    assert beside(more={name: value}) is None, name
  assert beside(penalty='rho') is beside(target_gap=1.0) is None


def test_published_scores_are_the_papers():
  text = ' '.join(map(str, published_scores.PAPER_TABLE_3['1 %'].values()))
  assert '19.3' in text and '14012.0' in text
  assert published_scores.human_normalized('Pong', 14.6) == 1.0
  assert published_scores.human_normalized('Pong', -20.7) == 0.0
  assert published_scores.gamer_normalized('Breakout', 30.0) == 100.0
  assert published_scores.human_normalized('Freeway', 20.0) is None


def test_pictures_are_drawn_as_png_and_pdf(written):
  for name in (
    'curves_1_pct', 'curves_10_pct', 'diagnostics_1_pct', 'diagnostics_10_pct',
    'normalized_1_pct', 'normalized_10_pct', 'gaps_1_pct', 'gaps_10_pct',
    'held_out_10_pct',
  ):  # fmt: skip
    assert (written / f'{name}.png').read_bytes()[:4] == b'\x89PNG'
    assert (written / f'{name}.pdf').read_bytes()[:4] == b'%PDF'
    assert f'![]({name}.png)' in (written / 'report.md').read_text()
  # Of 1 %, no run held any games out.
  assert not (written / 'held_out_1_pct.png').exists()


def test_gaps_are_of_the_data_s_actions(root):
  (run,) = load(root / 'Pong' / 'CQL_0.01' / '0')
  np.testing.assert_allclose(run.metric('gap_policy'), [0, -0.2, -0.4])
  assert np.isnan(run.metric('gap_random')).all()


def test_the_page_needs_no_other_file(written):
  page = (written / 'report.html').read_text()
  assert 'A &lt;report&gt;' in page
  sources = re.findall(r'(?:src|href)="([^#"][^"]{0,30})', page)
  assert len(sources) == 9
  # Its contents lead to its sections.
  sections = re.findall(r'href="#([^"]+)', page)
  assert 'settings-and-versions' in sections
  report = (written / 'report.md').read_text()
  for game, _, fraction in CURVES:  # Each data set once.
    assert report.count(f'{game}{fraction}') == 1
  assert all(f'id="{section}"' in page for section in sections)
  assert all(s.startswith('data:image/png;base64,') for s in sources)
  assert '1.0 ± 2.6' in page


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs Chromium')
def test_the_page_opens_in_a_browser_offline(written, tmp_path):
  """Every picture decodes, and nothing is asked of the network."""
  page = (written / 'report.html').read_text()
  rules = r'(?m)^\|[-:| ]+\|$'  # Below the header of each table.
  tables = len(re.findall(rules, (written / 'report.md').read_text()))
  probe = """<script>
  window.addEventListener('load', () => {
    const images = [...document.images];
    const shown = images.filter(i => i.complete && i.naturalWidth > 100);
    const loaded = performance.getEntriesByType('resource')
      .filter(e => !e.name.startsWith('data:'));
    document.title = `${shown.length}/${images.length}/${loaded.length}/` +
      document.querySelectorAll('table').length;
  });
  </script></body>"""
  probed = tmp_path / 'probed.html'
  probed.write_text(page.replace('</body>', probe))
  done = subprocess.run(
    [
      'chromium', '--headless', '--no-sandbox', '--disable-gpu',
      '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
      f'--user-data-dir={tmp_path / "profile"}', '--dump-dom',
      '--virtual-time-budget=5000', probed.as_uri(),
    ],
    capture_output=True,
    text=True,
  )  # fmt: skip
  assert re.search(r'<title>(.*?)</title>', done.stdout)[1] == f'9/9/0/{tables}'


def test_mistakes_end_in_one_sentence(tmp_path):
  for flags, sentence in (
    (
      [f'--runs={tmp_path}', f'--out={tmp_path}'],
      'there is no run folder in',
    ),
    ([f'--runs={tmp_path}'], 'give the runs and a folder'),
  ):
    done = subprocess.run(
      [sys.executable, '-m', 'cql_atari.report', *flags],
      capture_output=True,
      text=True,
    )
    assert done.returncode == 2
    assert sentence in done.stderr and done.stderr.count('\n') == 1


def test_single_runs_have_no_error():
  assert grouping.with_error(np.array([2.0])) == '2.0'
  assert math.isnan(grouping.standard_error(np.array([2.0])))


def test_discounted_return_equals_summing_backwards(demo_store):
  """Over the games whole in each run of rows, step by step."""
  rng, rows = np.random.default_rng(0), len(demo_store.terminals)
  terminals = (rng.random(rows) < 0.01).astype(np.uint8)
  rewards = rng.integers(-1, 2, rows).astype(np.float32)
  for end in np.flatnonzero(terminals):
    rewards[end + 1 : end + 4] = 0.0  # Padding.
    terminals[end + 1 : end + 10] = 0
  store = dataclasses.replace(demo_store, terminals=terminals, rewards=rewards)
  gamma, values = 0.97, []
  for start, stop in store.segments:
    ends = np.flatnonzero(terminals[start:stop]) + start + 1
    for first, last in itertools.pairwise(ends):
      value = 0.0
      for row in range(last - 1, first + 2, -1):
        value = float(rewards[row]) + gamma * value
        values.append(value)
  assert len(values) > 1000
  ours = store.discounted_return(gamma)
  assert ours == pytest.approx(np.mean(values), rel=1e-9)
  assert store.discounted_return(1) != pytest.approx(ours, rel=0.1)
