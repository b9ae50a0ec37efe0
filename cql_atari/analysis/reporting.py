"""Writes a report on runs: its pictures, tables and pages."""

import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from cql_atari.analysis import (
  ablations,
  curves,
  document,
  figures,
  grouping,
  scores,
)
from cql_atari.analysis.grouping import Games, Group, with_error
from cql_atari.analysis.loading import Run
from cql_atari.core.files import write_csv, write_text
from cql_atari.core.protocols import Benchmark

# Data to game to label to group.
Shares = dict[str, Games]


def write(runs: Sequence[Run], out: pathlib.Path, title: str) -> list[Group]:
  """Writes a report.

  Args:
    runs: the runs.
    out: an existing folder.
    title: the report's title.

  Returns:
    The groups in its tables.

  Raises:
    UserError: two runs are the same, or have no evaluation in common.
  """
  shares = grouping.by_data(runs)
  groups = [
    group
    for games in shares.values()
    for labelled in games.values()
    for group in labelled.values()
  ]
  grouping.check_seeds(groups)
  blocks = [
    f'# {title}',
    f'{len(runs)} runs. Means over seeds, ± the standard error of the mean. '
    '"Final" is the last evaluation; "peak" is the best evaluation of each '
    'run, chosen by its own score, so it is optimistic.',
    *_learning_curves(shares, out),
    *_tables(groups, out),
    *_ablations(runs, out),
    *_normalized(shares, out),
    *_diagnostics(shares, out),
    *_settings(runs),
  ]
  write_csv(out / 'scores.csv', *_every_run(groups))
  text = '\n\n'.join(blocks) + '\n'
  write_text(out / 'report.md', text)
  write_text(out / 'report.html', document.page(title, text, out))
  return groups


def _learning_curves(shares: Shares, out: pathlib.Path) -> Iterator[str]:
  yield '## Learning curves (Figure 1)'
  for data, games in shares.items():
    yield document.picture(
      figures.learning_curves(games, out / f'curves_{_slug(data)}.png'),
      f'Evaluation return on {_of(games)}; bands are standard errors over '
      'seeds.',
    )


def _tables(groups: Sequence[Group], out: pathlib.Path) -> Iterator[str]:
  """A table of scores for each benchmark."""
  benchmarks = {group.runs[0].benchmark.name: group for group in groups}
  for name, group in sorted(benchmarks.items()):
    benchmark = group.runs[0].benchmark
    file, title, about = benchmark.table
    of_benchmark = [g for g in groups if g.runs[0].benchmark.name == name]
    table = _scores(of_benchmark, benchmark)
    write_csv(out / f'{file}.csv', *table)
    yield f'## {title}'
    yield about
    yield document.table(*table)


def _scores(groups: Sequence[Group], benchmark: Benchmark):
  header = (
    'data', 'game', 'agent', 'seeds', 'gradient steps', 'final', 'peak',
    "data's games", *benchmark.columns,
  )  # fmt: skip
  rows = []
  for group in groups:
    record, final = group.runs[0].record, float(np.mean(group.final))
    others = [
      _number(of(record, group.label, final), digits)
      for of, digits in benchmark.columns.values()
    ]
    rows.append(
      (
        group.data,
        group.game,
        group.label,
        str(len(group.runs)),
        f'{group.gradient_steps:,}',
        with_error(group.final),
        with_error(group.peak),
        curves.data_cell(group),
        *others,
      )
    )
  return header, rows


def _every_run(groups: Sequence[Group]):
  header = (
    'data', 'game', 'agent', 'seed', 'gradient_steps', 'final', 'peak', 'run',
  )  # fmt: skip
  rows = [
    (
      group.data, group.game, group.label, run.seed, group.gradient_steps,
      float(final), float(peak), str(run.directory),
    )
    for group in groups
    for run, final, peak in zip(group.runs, group.final, group.peak)
  ]  # fmt: skip
  return header, rows


def _diagnostics(shares: Shares, out: pathlib.Path) -> Iterator[str]:
  """Values, penalty and gap along training."""
  yield '## Diagnostics'
  for data, games in shares.items():
    yield document.picture(
      figures.diagnostics(games, out / f'diagnostics_{_slug(data)}.png'),
      f"On {_of(games)}: mean Q of the data's actions, against the discounted "
      'return that followed them in the games that are whole in the data '
      '(dashed, where there are any); the conservative penalty; the gradient '
      'norm.',
    )
    path = figures.gaps(games, out / f'gaps_{_slug(data)}.png')
    if path:
      yield document.picture(
        path,
        f'On {_of(games)}: the gap that CQL widens (Theorem 3.4, appendix B), '
        "from the Q-values of the data's actions to those of the policy's and "
        'of random ones: their mean on Atari, where the policy takes the '
        'action of the greatest Q-value; the best of ten uniform ones on D4RL.',
      )


def _settings(runs: Sequence[Run]) -> Iterator[str]:
  """What all runs share, and what they ran on."""
  yield '## Settings and versions'
  yield (
    'Settings of the method that all runs have in common. The others tell the '
    "rows above apart; each run's own are in its config.gin."
  )
  shared = set.intersection(*(set(run.settings.items()) for run in runs))
  yield document.table(('setting', 'value'), sorted(shared))
  versions = {
    f'{name} {version}'
    for run in runs
    for name, version in run.record.get('versions', {}).items()
  }
  devices = {d for run in runs for d in run.record.get('devices', ())}
  yield f'Versions: {", ".join(sorted(versions))}.'
  yield f'Computed on: {", ".join(sorted(devices))}.'


def _ablations(runs: Sequence[Run], out: pathlib.Path) -> Iterator[str]:
  """A picture for each ablation among the runs."""
  varied = ablations.find(runs)
  if varied:
    yield '## What each setting does'
  for ablation in varied:
    name = _slug(f'{ablation.game} {ablation.agent} {ablation.data}')
    common = ', '.join(f'{f.name} = {f.common}' for f in ablation.factors)
    yield document.picture(
      figures.ablation(ablation, out / f'ablation_{name}.png'),
      f'{ablation.agent} on {ablation.game}, {ablation.data}, where '
      'nothing else is said: scores by one setting, the others being '
      f'{common} (shaded). Error bars are standard errors over seeds.',
    )


def _normalized(shares: Shares, out: pathlib.Path) -> Iterator[str]:
  """Interquartile means and performance profiles, where games allow."""
  pictures, rows = [], []
  for (data, games), kind in itertools.product(
    shares.items(), ('final', 'peak')
  ):
    normalized = scores.matrices(games, kind)
    if not normalized:
      continue
    means = scores.interquartile_means(normalized)
    for agent, (mean, low, high) in sorted(means.items()):
      shape = ' x '.join(map(str, normalized[agent].shape))
      several = len(normalized[agent]) > 1  # One run has no spread.
      interval = f'{low:.3f} to {high:.3f}' if several else ''
      rows.append((data, kind, agent, shape, f'{mean:.3f}', interval))
    if kind == 'final':
      values = np.concatenate([m.ravel() for m in normalized.values()])
      beyond = 0.05 * (np.ptp(values) or 1.0)
      thresholds = np.linspace(
        values.min() - beyond, values.max() + beyond, 101
      )
      path = figures.aggregate(
        means,
        thresholds,
        scores.performance_profiles(normalized, thresholds),
        curves.styles(games),
        out / f'normalized_{_slug(data)}.png',
      )
      caption = (
        f'Final scores on {_of(games)}: interquartile means with 95 % '
        'stratified bootstrap intervals, and performance profiles.'
      )
      pictures.append(document.picture(path, caption))
  if rows:
    header = (
      'data', 'score', 'agent', 'seeds x games', 'interquartile mean', '95 %',
    )  # fmt: skip
    write_csv(out / 'interquartile_means.csv', header, rows)
    yield '## Normalised scores'
    yield _ABOUT_NORMALIZED
    yield document.table(header, rows)
    yield from pictures


_ABOUT_NORMALIZED = (
  '(score - random) / (human - random), over the games whose human scores are '
  'known here; on D4RL, the score / 100. Of few seeds a bootstrap makes too '
  'narrow intervals: with normal scores on two games, those for 95 % cover the '
  'truth in 67 % of cases with two seeds, in 86 % with three, in 91 % with '
  'five.'
)


def _number(value: float | None, digits: int) -> str:
  return '' if value is None else f'{value:.{digits}f}'


def _of(games: Games) -> str:
  """What the runs learned from, such as '1 % of the data'."""
  run = next(iter(next(iter(games.values())).values())).runs[0]
  of_the = ' of the' if run.benchmark.share_is_a_setting else ''
  return f'{run.data}{of_the} data'


def _slug(data: str) -> str:
  return re.sub(r'\W+', '_', data.replace('%', 'pct')).strip('_')
