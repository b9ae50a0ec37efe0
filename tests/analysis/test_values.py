"""True values by play, where they are known in closed form."""

import subprocess
import sys
import types

import numpy as np
import pytest

from cql_atari.analysis import value_gaps, values

GAMMA, ENDS = 0.9, 0.1
# A step pays 1 and ends the episode with probability ENDS.
VALUE = 1 / (1 - GAMMA * (1 - ENDS))


class Coins:
  """Episodes that go on by the toss of a coin."""

  def __init__(self, count, longest=10_000):
    self.count, self.longest_episode = count, longest

  def reset(self, seed):
    self._rng = np.random.default_rng(seed)
    self._length = np.zeros(self.count, int)
    return np.zeros((self.count, 1))

  def step(self, actions):
    self._length += 1
    over = self._rng.random(self.count) < ENDS
    over |= self._length >= self.longest_episode
    self._length[over] = 0
    return np.zeros((self.count, 1)), np.full(self.count, 10.0), over


def run_of(predicted, longest=10_000):
  return types.SimpleNamespace(
    agent=types.SimpleNamespace(
      gamma=GAMMA,
      predict_values=lambda states, rng: np.full(len(states), predicted),
      sample_actions=lambda states, rng: np.zeros(len(states)),
    ),
    data=types.SimpleNamespace(
      sample_states=lambda count, rng: np.zeros((count, 1)),
      learned_rewards=lambda rewards: rewards / 10,
    ),
    environments=lambda count: Coins(count, longest),
  )


@pytest.mark.parametrize('error', [0.0, 2.0, -2.0])
def test_the_difference_is_what_was_added(error):
  gap = values.measure(run_of(VALUE + error), 3000, 700, seed=0)
  assert gap.episodes == 3000
  assert gap.low < error < gap.high and gap.high - gap.low < 0.5
  assert gap.difference == pytest.approx(error, abs=0.2)
  assert gap.paper_difference == pytest.approx(error, abs=0.2)
  assert gap.on_data == pytest.approx(VALUE + error)
  assert gap.start_return == pytest.approx(VALUE, abs=0.2)


def test_intervals_cover_as_often_as_they_say():
  covered = covered_by_paper = 0
  for seed in range(200):  # Ten episodes, as by default.
    gap = values.measure(run_of(VALUE), 10, 1, seed)
    covered += gap.low <= 0 <= gap.high
    covered_by_paper += gap.paper_low <= 0 <= gap.paper_high
  assert 165 <= covered <= 200 and 165 <= covered_by_paper <= 199
  one = values.measure(run_of(VALUE), 1, 1, 0)
  assert np.isnan(one.low) and np.isnan(one.paper_low)


def test_the_paper_s_interval_by_hand():
  # Means 2 and 5, squared errors 2 / 3 / 3 and 2 / 2; t is 12.7 of one episode
  # more than one.
  low, high = values._paper_interval(
    np.array([1.0, 2, 3, 2]), np.array([4.0, 6.0])
  )
  reach = 12.7062 * np.sqrt(0.5 / 3 + 1.0)
  np.testing.assert_allclose([low, high], [-3 - reach, -3 + reach], rtol=1e-5)


def test_returns_after_a_cut_off_are_not_taken_for_true():
  episode = values._episode([(5.0, 1.0)] * 60, True, GAMMA)
  left = 60 - np.arange(60)
  np.testing.assert_allclose(
    episode.returns, (1 - GAMMA**left) / (1 - GAMMA), rtol=1e-12
  )
  # 0.9^44 < 0.01: the last 43 steps are unknown.
  assert episode.is_known.sum() == 60 - 43 and episode.is_known[:17].all()
  whole = values._episode([(5.0, 1.0)] * 60, False, GAMMA)
  assert whole.is_known.all()
  short = values._episode([(5.0, 1.0)] * 3, True, GAMMA)
  assert short.is_known.tolist() == [True, False, False]


def test_every_environment_plays_as_many_episodes():
  run = run_of(0.0)
  assert len(values.roll_out(run, 25, 0, run.agent)) == 27
  assert len(values.roll_out(run, 4, 0, run.agent)) == 4


def test_the_values_may_be_another_critics_than_the_agents():
  run, critic = run_of(0.0), run_of(VALUE).agent
  gap = values.measure(run, 30, 50, 0, critic)
  same = values.measure(run_of(VALUE), 30, 50, 0)
  assert gap == same != values.measure(run, 30, 50, 0)


def test_means_over_seeds_are_laid_out_as_in_table_4():
  def row(agent, game, seed, paper, visited):
    return {
      'agent': agent, 'game': game, 'data': 'medium', 'seed': seed,
      'values': 'own', 'paper_difference': paper, 'difference': visited,
    }  # fmt: skip

  rows = [
    row('SAC', 'hopper', 0, 1000.0, 3.0),
    row('SAC', 'hopper', 1, 2000.0, 5.0),
    row('CQL', 'hopper', 0, -3.0, 2.0),
    row('CQL', 'walker2d', 0, 1.0, 2.0),
  ]
  title, of_paper, _, of_visited = value_gaps.over_seeds(rows)
  assert 'as in Table 4' in title

  def cells(table):
    return [[c.strip() for c in r.split('|')[1:-1]] for r in table.split('\n')]

  header, _, *body = cells(of_paper)
  assert header == ['agent', 'hopper, medium', 'walker2d, medium']
  # Of 1000 and 2000: 707 / sqrt(2).
  assert body == [['SAC', '1500 ± 500', ''], ['CQL', '-3.0', '1.0']]
  assert cells(of_visited)[2:] == [
    ['SAC', '4.0 ± 1.0', ''],
    ['CQL', '2.0', '2.0'],
  ]


@pytest.mark.parametrize('widest', [5.0, 31.0, 50.0, 95.0, 150.0, 2e6])
def test_wide_differences_have_few_readable_ticks(widest):
  row = {
    'game': 'hopper', 'data': 'medium', 'agent': 'SAC', 'seed': 0,
    'values': 'own', 'low': -widest, 'high': widest, 'paper_low': 0.0,
    'paper_high': 1.0, 'paper_difference': 0.5,
  }  # fmt: skip
  rows = [{**row, 'difference': sign * widest} for sign in (-1, 1)]
  (panel,) = value_gaps.figure(rows).axes
  low, high = panel.get_xlim()
  ticks = [tick for tick in panel.get_xticks() if low <= tick <= high]
  assert 3 <= len(ticks) <= 11 and 0.0 in ticks
  assert min(ticks) < 0 < max(ticks)


@pytest.mark.parametrize(
  'flags', [['--alpha=4'], ['--values=fqe', '--alpha=4'], ['--fqe_steps=9']]
)
def test_a_flag_that_these_values_do_not_use_is_refused(flags):
  done = subprocess.run(
    [sys.executable, '-m', 'cql_atari.value_gap', '--run=x', *flags],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert f'{flags[-1].partition("=")[0]} goes with --values=' in done.stderr
