import numpy as np
import pytest

from cql_atari.environments import atari, evaluation


class Lottery:
  """Games of 1 or 10 steps with equal chance, whose score is their length.

  The true mean score is 5.5. It stands in for ALE, whose mean nobody knows.
  """

  def __init__(self, num_environments):
    self.num_environments = num_environments

  def _lengths(self, count):
    return self._rng.choice([1, 10], count)

  def reset(self, seed):
    self._rng = np.random.default_rng(seed)
    self._left = self._lengths(self.num_environments)
    return np.zeros((self.num_environments, 84, 84, 4), np.uint8)

  def step(self, actions):
    self._left = self._left - 1
    ended = self._left == 0
    self._left = np.where(ended, self._lengths(len(ended)), self._left)
    return np.zeros((len(ended), 1)), np.ones(len(ended)), ended


def noop(states, rng):
  return np.zeros(len(states), np.int32)


def first_finishers(environments, count, seed):
  """The biased way: the first `count` games that finish anywhere."""
  environments.reset(seed)
  score, returns = np.zeros(environments.num_environments), []
  while len(returns) < count:
    _, rewards, ended = environments.step(None)
    score += rewards
    returns += score[ended].tolist()
    score[ended] = 0
  return returns[:count]


def test_short_games_are_not_favoured():
  """The share rule finds the true mean where first finishers do not."""
  env = Lottery(64)
  unbiased = [
    evaluation.play(env, noop, 640, seed).returns for seed in range(60)
  ]
  naive = [first_finishers(env, 64, seed) for seed in range(60)]
  deviation = 4.5 / np.sqrt(sum(map(len, unbiased)))
  assert np.mean(np.concatenate(unbiased)) == pytest.approx(
    5.5, abs=4 * deviation
  )
  assert np.mean(np.concatenate(naive)) < 3.5


def test_every_environment_plays_its_share_in_whole_games():
  episodes = evaluation.play(Lottery(8), noop, 160, seed=0)
  assert episodes.lengths.sum() >= 160
  np.testing.assert_array_equal(episodes.returns, episodes.lengths)
  # At most one game of at most 10 steps above each share of 20.
  assert episodes.lengths.sum() < 160 + 8 * 10


def test_steps_are_reported_as_they_are_counted():
  reported = []
  episodes = evaluation.play(
    Lottery(8), noop, 160, 0, lambda steps, last: reported.append(steps)
  )
  assert sum(reported) == episodes.lengths.sum()


def test_real_games_end_whole_with_raw_scores():
  """NOOP loses Pong 0:21 in every game."""
  env = atari.AtariEnvironments('Pong', 3)
  episodes = evaluation.play(env, noop, 1000, seed=0)
  assert episodes.returns.tolist() == [-21.0] * len(episodes.returns)
  assert (episodes.lengths > 700).all()


def test_the_same_seed_gives_the_same_evaluation():
  env = atari.AtariEnvironments('Breakout', 4)

  def act(states, rng):
    return rng.integers(4, size=len(states))

  def returns(seed):
    return evaluation.play(env, act, 1000, seed).returns.tolist()

  assert returns(1) == returns(1)
  assert returns(1) != returns(2)
