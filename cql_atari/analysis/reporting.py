"""Writes a report on runs: its pictures, tables and pages."""

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from cql_atari.analysis import (
  ablations,
  curves,
  document,
  figures,
  loading,
  reference,
  reference_d4rl,
)
from cql_atari.analysis import scores as scores_lib
from cql_atari.core.files import write_csv, write_text


def write(
  runs: Sequence[loading.Run], out: pathlib.Path, title: str
) -> list[scores_lib.Score]:
  """Writes a report.

  Args:
    runs: what to report on.
    out: an existing folder.
    title: of the report.

  Returns:
    The scores in its table.
  """
  found = scores_lib.scores(runs)
  groups = scores_lib.by_data(runs)
  parts = [
    document.Text(
      f'{len(runs)} runs. Means over seeds, ± the standard error of the mean. '
      '"Final" is the last evaluation; "peak" is the best evaluation of each '
      'run, chosen by its own score, so it is optimistic.'
    )
  ]
  parts.append(document.Heading('Learning curves (Figure 1)'))
  for data, members in groups.items():
    path = figures.learning_curves(members, out / f'curves_{_slug(data)}.png')
    parts.append(
      document.Picture(
        path,
        f'Evaluation return on {_of(data)}; bands are standard errors '
        'over seeds.',
      )
    )
  for kind, heading, about, table in (
    ('table3', 'Scores (Table 3)', _ABOUT_ATARI, _table_3(found)),
    ('tables1and2', 'Scores (Tables 1 and 2)', _ABOUT_D4RL, _d4rl(found)),
  ):
    if table[1]:
      write_csv(out / f'{kind}.csv', *table)
      parts += [
        document.Heading(heading), document.Text(about), document.Table(*table)
      ]  # fmt: skip
  parts += [
    *_ablations(runs, out),
    *_normalized(found, groups, out),
    *_diagnostics(groups, out),
  ]
  write_csv(out / 'scores.csv', *_every_run(found))
  write_text(out / 'report.md', document.markdown(title, parts))
  write_text(out / 'report.html', document.page(title, parts))
  return found


_ABOUT_ATARI = (
  'Numbers of the paper and of d3rlpy are of the DQN Replay dataset at 12.5 '
  'million gradient steps: compare with them only what was trained on that. '
  "d3rlpy's Asterix is of the dataset's run 2."
)
_ABOUT_D4RL = (
  "D4RL's normalized scores: 0 is random play, 100 an expert's. Numbers of the "
  'paper (first version of the data) and of CORL (v2; Adroit v1) are of '
  "D4RL's own data at a million gradient steps: compare with them only what "
  'was trained on that.'
)
_TABLE_3 = (
  'data', 'game', 'agent', 'seeds', 'gradient steps', 'final', 'peak',
  'human-normalised final', 'gamer-normalised final', 'data\'s games',
  'paper', 'd3rlpy final', 'd3rlpy peak',
)  # fmt: skip


def _table_3(found: Sequence[scores_lib.Score]):
  rows = []
  for score in found:
    if score.runs[0].task is not None:
      continue
    d3rlpy = _look_up(reference.D3RLPY, score) or (None, None)
    mean, behavior = np.mean(score.final), score.runs[0].behavior_return
    rows.append(
      (
        *_cells(score),
        _number(reference.human_normalized(score.game, mean), 2),
        _number(reference.gamer_normalized(score.game, mean), 0),
        _number(behavior and behavior['mean'], 1),
        _number(_look_up(reference.PAPER_TABLE_3, score), 1),
        *(_number(value, 1) for value in d3rlpy),
      )
    )
  return _TABLE_3, rows


def _cells(score: scores_lib.Score) -> tuple[str, ...]:
  """What both tables begin a row with."""
  return (
    score.data,
    score.game,
    score.agent,
    str(len(score.runs)),
    f'{score.gradient_steps:,}',
    curves.with_error(score.final),
    curves.with_error(score.peak),
  )


def _d4rl(found: Sequence[scores_lib.Score]):
  header = (
    'data', 'domain', 'agent', 'seeds', 'gradient steps', 'final', 'peak',
    "data's episodes", 'paper', 'CORL',
  )  # fmt: skip
  rows = []
  for score in found:
    task, behavior = score.runs[0].task, score.runs[0].behavior_return
    if task is None:
      continue
    name = task.name.removesuffix(f'-{task.version}')
    agent = score.runs[0].agent
    critics = score.runs[0].settings.get('Critic.num_critics', '2')
    is_other = (
      score.data.endswith('(own)')
      or score.agent != agent  # Settings that tell it from others.
      or critics != '2'
    )
    rows.append(
      (
        *_cells(score),
        _number(behavior and behavior['mean'], 1),
        *(
          _number(None if is_other else table.get(name, {}).get(agent), 1)
          for table in (reference_d4rl.PAPER, reference_d4rl.CORL)
        ),
      )
    )
  return header, rows


# No source states that of the first 20 %.
_PUBLISHED_ALPHAS = {'1 %': '4', '10 %': '1'}


def _look_up(table, score: scores_lib.Score):
  """The published number of the very method, or None."""
  run = score.runs[0]
  published = {
    'alpha': _PUBLISHED_ALPHAS.get(score.data),
    'penalty': "'H'",
    'target_gap': 'None',
  }
  for setting, value in run.settings.items():
    owner, _, name = setting.rpartition('.')
    if owner.startswith('CQL') and published.get(name) not in (None, value):
      return None
  return table.get(score.data, {}).get(score.game, {}).get(run.agent)


def _every_run(found: Sequence[scores_lib.Score]):
  header = (
    'data', 'game', 'agent', 'seed', 'gradient_steps', 'final', 'peak', 'run',
  )  # fmt: skip
  rows = [
    (
      score.data, score.game, score.agent, run.seed, score.gradient_steps,
      float(final), float(peak), str(run.directory),
    )
    for score in found
    for run, final, peak in zip(score.runs, score.final, score.peak)
  ]  # fmt: skip
  return header, rows


def _diagnostics(groups, out: pathlib.Path) -> list:
  """What the values, the penalty and the gap did along training."""
  parts = [document.Heading('Diagnostics')]
  for data, members in groups.items():
    path = figures.diagnostics(members, out / f'diagnostics_{_slug(data)}.png')
    parts.append(
      document.Picture(
        path,
        f"On {_of(data)}: mean Q of the data's actions, against the "
        'discounted return that followed them in the games that are whole in '
        'the data (dashed, where there are any); the '
        'conservative penalty; the gradient norm.',
      )
    )
    path = figures.gaps(members, out / f'gaps_{_slug(data)}.png')
    if path:
      parts.append(
        document.Picture(
          path,
          f'On {_of(data)}: the gap that CQL widens (Theorem 3.4, '
          "appendix B), from the Q-values of the data's actions to those of "
          "the policy's and of random ones. On Atari the policy takes the "
          'action of the greatest Q-value.',
        )
      )
  return parts


def _ablations(runs, out: pathlib.Path) -> list:
  """What each setting does, where runs differ in one from common ones."""
  parts = []
  for found in ablations.find(runs):
    name = _slug(f'{found.game} {found.agent} {found.data}')
    common = ', '.join(f'{f.name} = {f.common}' for f in found.factors)
    parts.append(
      document.Picture(
        figures.ablation(found, out / f'ablation_{name}.png'),
        f'{found.agent} on {found.game}, {_of(found.data)}, where nothing else '
        f'is said: scores by one setting, the others being {common} (shaded). '
        'Error bars are standard errors over seeds.',
      )
    )
  return [document.Heading('What each setting does'), *parts] if parts else []


def _normalized(found, groups, out: pathlib.Path) -> list:
  """Interquartile means and performance profiles, where games allow."""
  parts, rows = [], []
  for data in groups:
    of_data = [score for score in found if score.data == data]
    for kind in ('final', 'peak'):
      normalized = scores_lib.matrices(of_data, kind)
      if not normalized:
        continue
      means = scores_lib.interquartile_means(normalized)
      for agent, (mean, low, high) in sorted(means.items()):
        shape = ' x '.join(map(str, normalized[agent].shape))
        several = len(normalized[agent]) > 1  # One run tells of no spread.
        interval = f'{low:.3f} to {high:.3f}' if several else ''
        rows.append((data, kind, agent, shape, f'{mean:.3f}', interval))
      if kind == 'final':
        values = np.concatenate([m.ravel() for m in normalized.values()])
        beyond = 0.05 * (np.ptp(values) or 1.0)
        thresholds = np.linspace(
          values.min() - beyond, values.max() + beyond, 101
        )
        profiles = scores_lib.performance_profiles(normalized, thresholds)
        parts.append(
          document.Picture(
            figures.aggregate(
              means,
              thresholds,
              profiles,
              curves.styles(groups[data]),
              out / f'normalized_{_slug(data)}.png',
            ),
            f'Final scores on {_of(data)}: interquartile means with 95 '
            '% stratified bootstrap intervals, and performance profiles.',
          )
        )
  if not rows:
    return []
  header = (
    'data', 'score', 'agent', 'seeds x games', 'interquartile mean', '95 %',
  )  # fmt: skip
  write_csv(out / 'interquartile_means.csv', header, rows)
  games = ', '.join(reference.RANDOM_AND_HUMAN)
  return [
    document.Heading('Normalised scores'),
    document.Text(
      '(score - random) / (human - random), over the games among these whose '
      f'human scores are known here: {games}. On D4RL, the score / 100. Of '
      'few seeds a bootstrap makes too narrow intervals: with normal scores on '
      'two games, those for 95 % cover the truth in 67 % of cases with two '
      'seeds, in 86 % with three, in 91 % with five.'
    ),
    document.Table(header, rows),
    *parts,
  ]


def _number(value: float | None, digits: int) -> str:
  return '' if value is None else f'{value:.{digits}f}'


def _of(data: str) -> str:
  return f'{data} of the data' if data.endswith('%') else f'{data} data'


def _slug(data: str) -> str:
  return re.sub(r'\W+', '_', data.replace('%', 'pct')).strip('_')
