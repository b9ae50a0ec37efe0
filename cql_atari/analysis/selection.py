"""Which checkpoint to keep, without playing: the paper's open challenge.

A rule gives every checkpoint a number that the data alone tell, and keeps the
one with the greatest. On D4RL the numbers are of the policy with its noise, and
scores of its modes, as evaluations play them.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from cql_atari.analysis import reference
from cql_atari.runs.trained import TrainedRun

_STATES = 500
_STEPS_PER_CALL = 50

# Name to what it goes by.
RULES = {
  'last': 'the last one',
  'fqe': 'fitted Q evaluation of the first states',
  'initial_value': "the agent's own values of the first states",
  'q_data': 'the mean Q-value of the data while training',
  'cql_penalty': 'the least conservative penalty while training',
}


@dataclasses.dataclass(frozen=True)
class Candidates:
  """The checkpoints of a run that were evaluated, from the first on.

  Attributes:
    steps: (C,) gradient steps.
    scores: (C,) evaluation returns: what no rule may look at.
    numbers: rule to (C,); NaN where the run can't tell.
    points: (C,) scores in hundredths of the way from random play to a human
      (Atari) or an expert (D4RL); NaN where these are not known.
  """

  steps: np.ndarray
  scores: np.ndarray
  numbers: dict[str, np.ndarray]
  points: np.ndarray

  def chosen(self, rule: str) -> int | None:
    """The index that a rule keeps; None if it can't tell."""
    numbers = self.numbers[rule]
    return None if np.isnan(numbers).any() else int(np.argmax(numbers))

  def regret(self, rule: str) -> float | None:
    """How far the kept one is from the best: 0 for it, 1 for the worst."""
    index = self.chosen(rule)
    if index is None:
      return None
    return float(self._regrets[index])

  def points_lost(self, rule: str) -> float | None:
    """How many points the best one has more; None where it isn't known."""
    index = self.chosen(rule)
    if index is None or np.isnan(self.points).any():
      return None
    return float(self.points.max() - self.points[index])

  @property
  def random_regret(self) -> float:
    """What a checkpoint taken at random would have, on average."""
    return float(self._regrets.mean())

  @property
  def _regrets(self) -> np.ndarray:
    spread = np.ptp(self.scores)
    return (self.scores.max() - self.scores) / (spread or 1.0)


def candidates(
  run: TrainedRun, metrics: dict[str, np.ndarray], fqe_steps: int, seed: int
) -> Candidates:
  """Applies every rule to a run.

  Args:
    run: the run.
    metrics: columns of its metrics.csv, a row an iteration.
    fqe_steps: gradient steps of fitted Q evaluation; 0 for none of it.
    seed: of it.
  """
  steps = evaluated_steps(run.steps, metrics)
  rows = np.searchsorted(metrics['gradient_steps'], steps)
  unknown = np.full(len(steps), math.nan)
  numbers = {
    'last': steps.astype(float),
    'fqe': unknown.copy(),
    'initial_value': unknown.copy(),
    'q_data': unknown,
    'cql_penalty': -metrics['cql_penalty'][rows]
    if 'cql_penalty' in metrics
    else unknown,
  }
  if run.agent.HAS_VALUES:
    numbers['q_data'] = metrics['q_data'][rows]
  first = _first_states(run)
  evaluate = _evaluation(run, fqe_steps, seed) if fqe_steps else None
  for index, step in enumerate(steps):
    run.load(int(step))
    rng = np.random.default_rng(seed)
    if run.agent.HAS_VALUES:
      values = run.agent.predict_values(first, rng)
      numbers['initial_value'][index] = values.mean()
    if evaluate:
      numbers['fqe'][index] = evaluate(first, rng)
  scores = metrics['eval_return_mean'][rows]
  points = reference.human_normalized(run.record['game'], scores)
  return Candidates(
    steps, scores, numbers, unknown if points is None else 100 * points
  )


def evaluated_steps(
  saved: Sequence[int], metrics: dict[str, np.ndarray]
) -> np.ndarray:
  """Gradient steps of checkpoints that were evaluated as well, (C,)."""
  evaluated = ~np.isnan(metrics['eval_return_mean'])
  return np.intersect1d(saved, metrics['gradient_steps'][evaluated]).astype(int)


def _first_states(run: TrainedRun) -> np.ndarray:
  """States that episodes begin in; any of the data where none is there."""
  first = run.data.initial_states(_STATES)
  if len(first):
    return first
  return run.data.sample_states(_STATES, np.random.default_rng(0))


def _evaluation(
  run: TrainedRun, steps: int, seed: int
) -> Callable[[np.ndarray, np.random.Generator], float]:
  """Fitted Q evaluation of the policy that the run's agent has when called."""
  if 'task' in run.record:
    from cql_atari.continuous.agents.fqe_agent import ContinuousFQEAgent as FQE
  else:
    from cql_atari.agents.fqe_agent import FQEAgent as FQE
  fitted = FQE(run.agent, run.data, seed=seed)
  begin = fitted.bundle_and_checkpoint('', 0)

  def evaluate(states, rng):
    fitted.unbundle('', 0, begin)
    title = f'checkpoint {run.gradient_steps}'
    with tqdm.tqdm(
      total=steps, desc=title, unit=' steps', disable=None, leave=False
    ) as bar:
      for done in range(0, steps, _STEPS_PER_CALL):
        count = min(_STEPS_PER_CALL, steps - done)
        fitted.train_steps(count)
        fitted.mean_scalars()  # Waits for them.
        bar.update(count)
    return fitted.predict_values(states, rng).mean()

  return evaluate


class Judged(NamedTuple):
  """How a rule did on the runs that it can tell of.

  Attributes:
    regrets: (runs,).
    of_last: (runs,) regrets of keeping the last checkpoint.
    of_any: (runs,) regrets of a random one, on average.
    points_lost: (known,) where it is known.
  """

  regrets: np.ndarray
  of_last: np.ndarray
  of_any: np.ndarray
  points_lost: np.ndarray


def judge(runs: Sequence[Candidates]) -> dict[str, Judged]:
  """How every rule of RULES did."""
  judged = {}
  for rule in RULES:
    known = [run for run in runs if run.chosen(rule) is not None]
    lost = [run.points_lost(rule) for run in known]
    judged[rule] = Judged(
      np.array([run.regret(rule) for run in known]),
      np.array([run.regret('last') for run in known]),
      np.array([run.random_regret for run in known]),
      np.array([points for points in lost if points is not None]),
    )
  return judged
