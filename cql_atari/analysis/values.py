"""Predicted and true values of a policy.

The true value of a state is the discounted return that follows it in play, so
it is only known of states that the policy reaches. Predictions are compared
with it there, state by state, and on average over the data's states, as in the
paper's Table 4. Rewards are discounted, clipped (Atari), scaled and shifted
(D4RL) as the agent learned them. What an agent adds to its values besides, such
as an entropy in the backup or the best of several actions there, is not taken
off.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from absl import logging
from scipy import stats

from cql_atari.core import progress
from cql_atari.core.protocols import Agent
from cql_atari.replay import episodes as replay_episodes
from cql_atari.runs.trained import TrainedRun

_MAX_GAMES = 10  # Side by side.
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class ValueGap:
  """Predicted minus true values of one policy.

  Attributes:
    on_data: mean predicted value of the data's states.
    at_start: mean predicted value of the states that episodes begin in.
    start_return: mean true discounted return of episodes.
    on_visited: mean predicted value of the states that the policy reaches.
    visited_return: mean true discounted return from them.
    low: lower end of a 95 % interval of the mean difference on visited states;
      NaN for one episode.
    high: its upper end.
    paper_low: lower end of the same for `paper_difference`.
    paper_high: its upper end.
    episodes: played.
  """

  on_data: float
  at_start: float
  start_return: float
  on_visited: float
  visited_return: float
  low: float
  high: float
  paper_low: float
  paper_high: float
  episodes: int

  @property
  def difference(self) -> float:
    """Predicted minus true, on the states that the policy reaches."""
    return self.on_visited - self.visited_return

  @property
  def paper_difference(self) -> float:
    """Predicted on the data's states minus the policy's return (Table 4)."""
    return self.on_data - self.start_return


class Episode(NamedTuple):
  """One episode of play.

  Attributes:
    predicted: (T,) predicted values of its states.
    returns: (T,) true discounted returns that followed them.
    is_known: (T,) whether the return is known to within 1 %, which fails near
      the end of an episode that was cut off. Always True for the first state.
  """

  predicted: np.ndarray
  returns: np.ndarray
  is_known: np.ndarray


def measure(
  run: TrainedRun,
  episodes: int,
  states: int,
  seed: int,
  critic: Agent | None = None,
) -> ValueGap:
  """Plays a run's policy and compares.

  Args:
    run: at the checkpoint that is meant.
    episodes: least number of episodes to play.
    states: how many of the data, for the mean over them.
    seed: seeds the play and the states drawn.
    critic: predicts the values, such as fitted Q evaluation of the policy; by
      default the run's agent, which has to have values.
  """
  critic = critic or run.agent
  rng = np.random.default_rng([seed, 1])
  on_data = predict_on_data(run, critic, states, rng)
  played = roll_out(run, episodes, seed, critic)
  predicted = np.concatenate([e.predicted[e.is_known] for e in played])
  returns = np.concatenate([e.returns[e.is_known] for e in played])
  at_start, start_returns = np.array(
    [(e.predicted[0], e.returns[0]) for e in played]
  ).T
  return ValueGap(
    float(on_data.mean()),
    float(at_start.mean()),
    float(start_returns.mean()),
    float(predicted.mean()),
    float(returns.mean()),
    *_interval(played),
    *_paper_interval(on_data, start_returns),
    len(played),
  )


def predict_on_data(
  run: TrainedRun, critic: Agent, count: int, rng: np.random.Generator
) -> np.ndarray:
  """A critic's values of random states of the data, (count,)."""
  values = []
  for first in range(0, count, _BATCH):
    states = run.data.sample_states(min(_BATCH, count - first), rng)
    values.append(critic.predict_values(states, rng))
  return np.concatenate(values)


def roll_out(
  run: TrainedRun, episodes: int, seed: int, critic: Agent
) -> list[Episode]:
  """Plays whole episodes by the policy whose values the critic predicts.

  Every environment plays the same number of episodes, so that short ones are
  not over-represented; this can be a few more than requested.
  """
  each = math.ceil(episodes / _MAX_GAMES)
  count = math.ceil(episodes / each)
  environments = run.environments(count)
  unseen = run.agent.gamma**environments.longest_episode
  if unseen > replay_episodes.TAIL:
    logging.warning(
      'Episodes are cut off after %d steps: true values omit up to %.0f %% of '
      'the infinite-horizon values that agents predict, so differences are '
      'off by as much: too large where rewards are positive.',
      environments.longest_episode,
      100 * unseen,
    )
  rng = np.random.default_rng([seed, 2])
  played = [[] for _ in range(count)]
  steps = [[] for _ in range(count)]
  states = environments.reset(seed)
  with progress.bar(each * count, ' episodes', 'playing') as bar:
    while any(len(episodes) < each for episodes in played):
      predicted = critic.predict_values(states, rng)
      actions = critic.sample_actions(states, rng)
      states, rewards, over = environments.step(actions)
      rewards = run.data.learned_rewards(rewards)
      for row, step in zip(steps, zip(predicted, rewards)):
        row.append(step)
      for index in np.flatnonzero(over):
        row, steps[index] = steps[index], []
        if len(played[index]) < each:
          is_cut_off = len(row) >= environments.longest_episode
          played[index].append(_episode(row, is_cut_off, run.agent.gamma))
          bar.update()
  return [episode for episodes in played for episode in episodes]


def _episode(steps: list, is_cut_off: bool, gamma: float) -> Episode:
  predicted, rewards = np.array(steps, np.float64).T
  returns, following = np.empty_like(rewards), 0.0
  for step in reversed(range(len(rewards))):
    returns[step] = following = rewards[step] + gamma * following
  is_known = np.ones(len(rewards), bool)
  if is_cut_off:
    is_known[max(1, replay_episodes.num_known(len(rewards), gamma)) :] = False
  return Episode(predicted, returns, is_known)


def _interval(played: list[Episode]) -> tuple[float, float]:
  """Interval of the mean difference over states, by independent episodes.

  Student's, for a ratio of sums over episodes; NaN for one episode.
  """
  totals = [np.sum((e.predicted - e.returns)[e.is_known]) for e in played]
  sizes = np.array([e.is_known.sum() for e in played])
  mean, count = np.sum(totals) / sizes.sum(), len(played)
  variance = np.sum((totals - mean * sizes) ** 2) * count / max(count - 1, 1)
  return _students(mean, np.sqrt(variance) / sizes.sum(), count)


def _paper_interval(
  on_data: np.ndarray, start_returns: np.ndarray
) -> tuple[float, float]:
  """Interval of a difference of means; episodes are far fewer than states."""
  variances = [np.var(x) / max(len(x) - 1, 1) for x in (on_data, start_returns)]
  middle = on_data.mean() - start_returns.mean()
  return _students(middle, np.sqrt(sum(variances)), len(start_returns))


def _students(middle: float, error: float, count: int) -> tuple[float, float]:
  if count < 2:
    return math.nan, math.nan
  reach = stats.t.ppf(0.975, count - 1) * error
  return float(middle - reach), float(middle + reach)
