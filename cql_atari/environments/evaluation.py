"""The evaluation protocol: whole games, raw scores, unbiased by their length.

Dopamine plays games one after another until `evaluation_steps` have been
played, and finishes the last. Here E games run side by side and each
environment follows that same rule with its share, evaluation_steps / E: it
starts a new game as long as its own steps are below its share, and every game
that was started is played to its end and counted. Whether a game counts is
thus decided before its first step. Stopping all environments at once and
counting what has finished would count short games too often.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from cql_atari.core import constraints, progress
from cql_atari.core.errors import UserError
from cql_atari.core.protocols import Agent, Environments
from cql_atari.environments import atari


@dataclasses.dataclass(frozen=True)
class Episodes:
  """The games of an evaluation.

  Attributes:
    returns: float64 (G,), raw undiscounted scores.
    lengths: int64 (G,), agent steps.
  """

  returns: np.ndarray
  lengths: np.ndarray


def evaluate(
  agent: Agent,
  environments: Environments | str,
  steps: int = 10_000,
  seed: int = 0,
  show_progress: bool = True,
) -> Episodes:
  """Plays whole games with an agent, by the protocol above.

  Args:
    agent: who plays.
    environments: where to play, or the name of an Atari game, of which then 8
      run side by side.
    steps: least number of agent steps. Games are played to their end, 27,000
      steps in Atari, where an agent may stand still: AtariEnvironments has a
      max_steps_per_episode.
    seed: seeds the environments and the exploration.
    show_progress: whether to show a progress bar.

  Returns:
    The games, in the order they ended.

  Raises:
    UserError: there is nothing to play, or the agent is of another game.
  """
  constraints.check('steps', steps, constraints.PositiveInt)
  if isinstance(environments, str):
    environments = atari.AtariEnvironments(environments, num_environments=8)
  if not hasattr(environments, 'num_environments'):
    raise UserError(
      f'a {type(environments).__name__} cannot be evaluated in: give '
      'AtariEnvironments or D4RLEnvironments of cql_atari.'
    )
  if isinstance(environments, atari.AtariEnvironments):
    # An agent of somebody's own need not say how many it has.
    known = getattr(agent, 'num_actions', environments.num_actions)
    if known != environments.num_actions:
      raise UserError(
        f'the agent has {known} actions, and {environments.game} '
        f'{environments.num_actions}: evaluate it on the game that it learned.'
      )
  _check_same(agent, environments)
  with progress.bar(
    steps, ' steps', 'evaluating', disable=not show_progress
  ) as bar:
    return play(
      environments,
      agent.select_actions,
      steps,
      seed,
      lambda count, last_return: bar.update(count),
    )


def _check_same(agent: Agent, environments: Environments) -> None:
  """Refuses an agent whose data are of another game or task."""
  data = getattr(agent, 'data', None)
  learned = getattr(data, 'manifest', {}).get('game')
  played = getattr(environments, 'name', None)
  if None not in (learned, played) and learned != played:
    raise UserError(
      f'the agent learned {learned}, and {played} is played: evaluate it on '
      'what it learned.'
    )


def play(
  environments: Environments,
  select_actions: Callable[[np.ndarray, np.random.Generator], np.ndarray],
  evaluation_steps: int,
  seed: int,
  on_step: Callable[[int, float], object] = lambda steps, last_return: None,
) -> Episodes:
  """Plays whole games until every environment has played its share of steps.

  Args:
    environments: where to play.
    select_actions: (states (B, ...), generator) -> actions (B, ...).
    evaluation_steps: least number of counted agent steps.
    seed: seeds the environments and the exploration.
    on_step: called after every step of all environments with the counted
      steps played by it and the last finished game's return (NaN before).

  Returns:
    The games, in the order they ended.
  """
  rng = np.random.default_rng(seed)
  count = environments.num_environments
  share = -(-evaluation_steps // count)
  played, score = np.zeros(count, np.int64), np.zeros(count)
  length, counted = np.zeros(count, np.int64), np.ones(count, bool)
  returns, lengths = [], []
  states = environments.reset(seed)
  actions = select_actions(states, rng).copy()
  while counted.any():
    states, rewards, ended = environments.step(actions)
    score += rewards
    length += 1
    played += counted
    for game in np.flatnonzero(ended & counted):
      returns.append(score[game])
      lengths.append(length[game])
    steps = int(counted.sum())
    counted &= ~(ended & (played >= share))
    score[ended], length[ended] = 0.0, 0
    on_step(steps, returns[-1] if returns else np.nan)
    if counted.any():  # The other games go on, whatever is played there.
      actions[counted] = select_actions(states[counted], rng)
  return Episodes(np.array(returns), np.array(lengths, np.int64))
