"""Which checkpoint to keep, without playing: the paper's open challenge.

A rule gives every checkpoint a number that the data alone tell, and keeps the
one with the greatest. On D4RL the numbers are of the policy with its noise, and
scores of its modes, as evaluations play them.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from cql_atari.analysis import document, grouping, loading
from cql_atari.analysis.grouping import with_error
from cql_atari.core.errors import DivergedError, UserError
from cql_atari.core.files import write_csv, write_text, writing
from cql_atari.runs import checkpoints
from cql_atari.runs.folder import RunFolder
from cql_atari.runs.trained import TrainedRun

_STATES = 500

# Name to what it goes by.
RULES = {
  'last': 'the last one',
  'fqe': 'fitted Q evaluation of the first states',
  'initial_value': "the agent's own values of the first states",
  'q_data': 'the mean Q-value of the data while training',
  'cql_penalty': 'the least conservative penalty while training',
  'held_out_td_error': 'the least TD error on held-out games',
}
# Those that are a column of metrics.csv, and its sign.
_OF_METRICS = {'q_data': 1, 'cql_penalty': -1, 'held_out_td_error': -1}


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
    """Regret of a rule's choice: 0 for the best checkpoint, 1 for the worst."""
    index = self.chosen(rule)
    return None if index is None else float(self._regrets[index])

  def points_lost(self, rule: str) -> float | None:
    """Points lost to the best checkpoint; None where they aren't known."""
    index = self.chosen(rule)
    if index is None or np.isnan(self.points).any():
      return None
    return float(self.points.max() - self.points[index])

  @property
  def random_regret(self) -> float:
    """The mean regret of a checkpoint taken at random."""
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
    metrics: of `loading.LoadedRun`: a row an iteration, returns as scores.
    fqe_steps: gradient steps of fitted Q evaluation; 0 leaves it out.
    seed: seeds it.
  """
  steps = evaluated_steps(run.steps, metrics)
  rows = np.searchsorted(metrics['gradient_steps'], steps)
  unknown = np.full(len(steps), math.nan)
  numbers = {
    'last': steps.astype(float),
    'fqe': unknown.copy(),
    'initial_value': unknown.copy(),
    **{
      rule: sign * metrics[rule][rows] if rule in metrics else unknown
      for rule, sign in _OF_METRICS.items()
    },
  }
  if not run.agent.has_values:
    numbers['q_data'] = unknown
  first = _first_states(run)
  evaluate = _evaluation(run, fqe_steps, seed) if fqe_steps else None
  for index, step in enumerate(steps):
    run.load(int(step))
    rng = np.random.default_rng(seed)
    if run.agent.has_values:
      predicted = run.agent.predict_values(first, rng)
      numbers['initial_value'][index] = predicted.mean()
    if evaluate:
      numbers['fqe'][index] = evaluate(first, rng)
  scores = metrics['eval_return_mean'][rows]
  points = run.benchmark.normalized(run.name, scores)
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
  fitted = run.fitted_q(seed)
  begin = fitted.state()

  def evaluate(states, rng):
    fitted.load_state(begin)
    title = f'checkpoint {run.gradient_steps}'
    try:
      fitted.train_steps(steps, True, title)
    except DivergedError:
      logging.warning(
        '%s, %s: fitted Q evaluation diverged, and cannot tell.',
        run.folder.path, title,
      )  # fmt: skip
      return math.nan
    return fitted.predict_values(states, rng).mean()

  return evaluate


class Judged(NamedTuple):
  """Results of a rule on the runs that it applies to.

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
  """Results of every rule of RULES."""
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


def rows(of_run: Candidates) -> list[tuple]:
  """Rows of the rules' choices: (rule, steps, score, best, last, ...)."""
  scores = of_run.scores
  return [
    (
      rule, int(of_run.steps[index]), scores[index], scores.max(), scores[-1],
      scores.min(), scores.mean(), of_run.regret(rule),
      of_run.points_lost(rule),
    )
    for rule in RULES
    if (index := of_run.chosen(rule)) is not None
  ]  # fmt: skip


def choices(of_run: Candidates) -> str:
  """The rules' choices as text, a line each."""
  best = int(np.argmax(of_run.scores))
  lines = [('best', of_run.steps[best], of_run.scores[best])]
  lines += [(rule, steps, score) for rule, steps, score, *_ in rows(of_run)]
  return '\n'.join(
    f'  {rule:<18}{steps:>10,}  score {score:.2f}'
    for rule, steps, score in lines
  )


def summary(runs: list[Candidates]) -> str:
  """The rules by their mean regret, as a Markdown table."""
  known = [item for item in judge(runs).items() if len(item[1].regrets)]
  rows = [
    (
      rule,
      RULES[rule],
      with_error(judged.regrets, 2),
      with_error(judged.regrets - judged.of_last, 2),
      f'{judged.of_any.mean():.2f}',
      with_error(judged.points_lost) if len(judged.points_lost) else '',
      str(len(judged.regrets)),
    )
    for rule, judged in sorted(known, key=lambda item: item[1].regrets.mean())
  ]
  header = (
    'rule', 'what it goes by', 'mean regret', "more than the last's", 'of any',
    'points lost', 'runs',
  )  # fmt: skip
  return document.table(header, rows)


_COLUMNS = (
  'run', 'game', 'data', 'agent', 'seed', 'rule', 'gradient_steps', 'score',
  'best', 'last', 'worst', 'mean', 'regret', 'points_lost',
)  # fmt: skip


def select(
  folders: Sequence[RunFolder],
  fqe_steps: int,
  seed: int,
  out: pathlib.Path | None,
) -> None:
  """Applies every rule to runs and tells.

  Args:
    folders: the runs.
    fqe_steps: see `candidates`.
    seed: see `candidates`.
    out: where the tables go, after each run, for a later one may fail; None
      for nowhere.

  Raises:
    UserError: a run leaves nothing to choose.
  """
  runs = loading.load_runs(folders)
  for run in runs:
    _check(run)
  evaluated, table = [], []
  for label, run in grouping.runs_with_labels(runs):
    of_run = candidates(TrainedRun(run.directory), run.metrics, fqe_steps, seed)
    named = (str(run.directory), run.game, run.data, label, run.seed)
    evaluated.append(of_run)
    table += [(*named, *row) for row in rows(of_run)]
    print(f'{run.game} {run.data} {label}, seed {run.seed}:')
    print(choices(of_run), '\n')
    if out:
      with writing(f'--out={out}'):
        write_csv(out / 'select.csv', _COLUMNS, table)
        write_text(out / 'select.md', summary(evaluated) + '\n')
  print(summary(evaluated))
  if out:
    print(f'The tables are in {out}.')


def _check(run: loading.LoadedRun) -> None:
  """Refuses a run that leaves nothing to choose."""
  saved = checkpoints.steps(RunFolder(run.directory).checkpoints)
  kept = len(evaluated_steps(saved, run.metrics))
  if kept < 2:
    raise UserError(
      f'{run.directory} has no two checkpoints that were evaluated: train with '
      'FixedReplayRunner.checkpoint_duration bound to num_iterations, to keep '
      'them all.'
    )
  evaluated = np.count_nonzero(~np.isnan(run.metrics['eval_return_mean']))
  if kept < evaluated:
    print(
      f'{run.directory} kept {kept} of the {evaluated} checkpoints that were '
      'evaluated: rules choose among these.'
    )
