"""Writes a report on runs: its pictures, tables and pages."""

import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from cql_atari.analysis import ablations, document, figures, grouping, scores
from cql_atari.analysis.grouping import Group, GroupsByGame, with_error
from cql_atari.analysis.loading import LoadedRun
from cql_atari.core import progress
from cql_atari.core.files import write_csv, write_text
from cql_atari.core.protocols import Benchmark
from cql_atari.runs import folder

# By the label of the data.
GroupsByData = dict[str, GroupsByGame]


def write(
  runs: Sequence[LoadedRun],
  out: pathlib.Path,
  title: str,
  left_out: Sequence[pathlib.Path] = (),
) -> None:
  """Writes a report, in the place of an earlier one.

  Args:
    runs: the runs.
    out: an existing folder.
    title: the report's title.
    left_out: runs that have nothing to report yet.

  Raises:
    UserError: two runs are the same, or have no evaluation in common.
  """
  groups_by_data = grouping.group_by_data(runs)
  groups = grouping.checked_groups(groups_by_data)
  _remove_pictures(out)
  paragraphs = [
    f'# {title}',
    f'{progress.count(len(runs), "run")}. Means over seeds, ± the standard '
    'error of the mean. "Final" is the last evaluation; "peak" is the best '
    'evaluation of each run, chosen by its own score, so it is optimistic.',
    *_unfinished(groups, left_out),
    *_cut_offs(runs),
    *_changes(runs),
    *_learning_curves(groups_by_data, out),
    *_tables(groups, out),
    *_ablations(runs, out),
    *_normalized(groups_by_data, out),
    *_diagnostics(groups_by_data, out),
    *_settings(runs, groups),
  ]
  write_csv(out / 'scores.csv', *_every_run(groups))
  text = '\n\n'.join(paragraphs) + '\n'
  write_text(out / 'report.md', text)
  write_text(out / 'report.html', document.page(title, text, out))


_PICTURES = 'curves|diagnostics|gaps|held_out|normalized|ablation'


def _remove_pictures(out: pathlib.Path) -> None:
  """Takes away what an earlier report there shows."""
  report = out / 'report.md'
  if not report.is_file():
    return
  text = report.read_text(errors='replace')
  for name in re.findall(rf'!\[.*?\]\(((?:{_PICTURES})_\w+)\.png\)', text):
    for ending in ('.png', '.pdf'):
      (out / f'{name}{ending}').unlink(missing_ok=True)
  (out / 'interquartile_means.csv').unlink(missing_ok=True)


def _unfinished(
  groups: Sequence[Group], left_out: Sequence[pathlib.Path]
) -> Iterator[str]:
  """Tells of runs that are shown in part, or not at all."""
  for group in groups:
    lasts = [run.last_evaluation for run in group.runs]
    if group.gradient_steps < max(lasts):
      yield (
        f'**{group.label} on {group.game}, {group.data}, is shown up to step '
        f'{group.gradient_steps:,} only**, the last at which all of its runs '
        f'were evaluated: they have come to {_listed(lasts)}.'
      )
  if left_out:
    paths = ', '.join(map(str, left_out))
    yield f'**Left out, being without an evaluation yet**: {paths}.'


def _listed(steps: Sequence[float]) -> str:
  return ', '.join(f'{step:,.0f}' for step in steps)


def _cut_offs(runs: Sequence[LoadedRun]) -> Iterator[str]:
  """Tells where evaluation games ended earlier than usual."""
  name = 'FixedReplayRunner.max_steps_per_episode'
  limits = Counter()
  for run in runs:
    usual = run.benchmark.usual_episode
    limits[int(run.settings.get(name, usual)), usual] += 1
  for (limit, usual), count in sorted(limits.items()):
    if limit < usual:
      who = 'all' if count == len(runs) else f'{count} of the {len(runs)}'
      yield (
        f'**Evaluation games of {who} runs are cut off after {limit:,} agent '
        f'steps**, where {usual:,} are usual: scores may be lower.'
      )


def _changes(runs: Sequence[LoadedRun]) -> Iterator[str]:
  """Tells of settings that changed while a run was trained."""
  for run in runs:
    now = run.record['settings']
    for start in run.record.get('earlier_starts', ()):
      changed = folder.changes(start.get('settings', now), now)
      if changed:
        yield f'**{run.directory} changed on the way**: {"; ".join(changed)}.'


def _learning_curves(
  groups_by_data: GroupsByData, out: pathlib.Path
) -> Iterator[str]:
  yield '## Learning curves (Figure 1)'
  for data, games in groups_by_data.items():
    yield document.picture(
      figures.save(
        figures.learning_curves(games), out / f'curves_{_slug(data)}.png'
      ),
      f'Evaluation scores on {_of(games)}; bands are standard errors over '
      'seeds.',
    )


def _tables(groups: Sequence[Group], out: pathlib.Path) -> Iterator[str]:
  """A table of scores for each benchmark."""
  benchmarks = {group.runs[0].benchmark.name: group for group in groups}
  for name, group in sorted(benchmarks.items()):
    benchmark = group.runs[0].benchmark
    of_benchmark = [g for g in groups if g.runs[0].benchmark.name == name]
    table = _scores(of_benchmark, benchmark)
    write_csv(out / f'{benchmark.table.file}.csv', *table)
    yield f'## {benchmark.table.title}'
    yield benchmark.table.explanation
    yield document.table(*table)


def _scores(groups: Sequence[Group], benchmark: Benchmark):
  header = (
    'data', 'game', 'agent', 'seeds', 'gradient steps', 'final', 'peak',
    "data's games", *(column.title for column in benchmark.columns),
  )  # fmt: skip
  rows = []
  for group in groups:
    record, final = group.runs[0].record, float(np.mean(group.final))
    others = [
      _number(column.value(record, final), column.digits)
      for column in benchmark.columns
    ]
    rows.append((group.data, *_cells(group), *others))
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


def _diagnostics(
  groups_by_data: GroupsByData, out: pathlib.Path
) -> Iterator[str]:
  """Values, penalty and gap along training."""
  yield '## Diagnostics'
  for data, games in groups_by_data.items():
    yield document.picture(
      figures.diagnostics(games, out / f'diagnostics_{_slug(data)}.png'),
      f"On {_of(games)}: mean Q of the data's actions, against the discounted "
      'return that followed them in the data (dashed), as far as it is known: '
      'in whole games on Atari, well before any cut-off on D4RL; the '
      'conservative penalty; the gradient norm.',
    )
    for name, labels, text in (
      (
        'gaps',
        figures.GAPS,
        'the gap that CQL widens (Theorem 3.4, appendix B), from the Q-values '
        "of the data's actions to those of the policy's and of random ones: "
        'their mean on Atari, where the policy takes the action of the '
        'greatest Q-value; the best of ten uniform ones on D4RL.',
      ),
      (
        'held_out',
        figures.HELD_OUT,
        'episodes kept from learning. A TD error that rises while the loss '
        'falls tells of overfitting.',
      ),
    ):
      path = out / f'{name}_{_slug(data)}.png'
      if figures.measured(games, labels, path):
        yield document.picture(path, f'On {_of(games)}: {text}')


def _settings(
  runs: Sequence[LoadedRun], groups: Sequence[Group]
) -> Iterator[str]:
  """The settings that runs share, or not across games; versions, devices."""
  yield '## Settings and versions'
  yield (
    'Settings of the method that all runs have in common, and those that all '
    'runs of an agent have. What varies between these stands in the labels '
    "above; each run's own settings are in its config.gin."
  )
  shared = _shared(runs)
  yield document.table(('setting', 'value'), sorted(shared))
  of_agents = defaultdict(list)
  for run in runs:
    of_agents[run.agent].append(run)
  own = defaultdict(list)
  for agent in sorted(of_agents):
    for item in _shared(of_agents[agent]) - shared:
      own[item].append(agent)
  if own:
    rows = [(*item, ', '.join(own[item])) for item in sorted(own)]
    yield document.table(('setting', 'value', 'of'), rows)
  unlike = list(_unlike_across_games(groups))
  if unlike:
    yield '**Under one name, other settings from game to game:**'
    yield document.table(('data', 'agent', 'setting', 'values'), unlike)
  digests = {(run.data, run.game, run.digest) for run in runs if run.digest}
  if digests:
    yield 'SHA-256 of what was learned from:'
    yield document.table(('data', 'game', 'digest'), sorted(digests))
  starts = [
    start
    for run in runs
    for start in (run.record, *run.record.get('earlier_starts', ()))
  ]
  versions = {
    f'{name} {version}'
    for start in starts
    for name, version in start.get('versions', {}).items()
  }
  devices = {d for start in starts for d in start.get('devices', ())}
  yield f'Versions: {", ".join(sorted(versions))}.'
  yield f'Computed on: {", ".join(sorted(devices))}.'


def _shared(runs: Sequence[LoadedRun]) -> set[tuple[str, str]]:
  return set.intersection(*(set(run.settings.items()) for run in runs))


def _unlike_across_games(groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
  """Rows (data, agent, setting, values by game), where these differ."""
  kinds = defaultdict(dict)
  for group in groups:
    kinds[group.data, group.label][group.game] = group.runs[0].settings
  for (data, label), games in kinds.items():
    for name in sorted(set().union(*games.values())):
      values = {
        game: settings.get(name, 'unset') for game, settings in games.items()
      }
      if len(set(values.values())) > 1:
        told = ', '.join(f'{game}: {value}' for game, value in values.items())
        yield data, label, name, told


def _ablations(runs: Sequence[LoadedRun], out: pathlib.Path) -> Iterator[str]:
  """A picture for each ablation among the runs."""
  varied = ablations.find(runs)
  if varied:
    yield '## What each setting does'
  for ablation in varied:
    name = _slug(f'{ablation.game} {ablation.agent} {ablation.data}')
    baseline = ', '.join(f'{f.name} = {f.baseline}' for f in ablation.factors)
    yield document.picture(
      figures.ablation(ablation, out / f'ablation_{name}.png'),
      f'{ablation.agent} on {ablation.game}, {ablation.data}, where '
      'nothing else is said: scores by one setting, the others being '
      f'{baseline} (shaded). Error bars are standard errors over seeds.',
    )


_ABOUT_NORMALIZED = (
  '(score - random) / (human - random), over the games whose human scores are '
  'known here; on D4RL, the score / 100. What ran for fewer gradient steps '
  'than the longest, or not on all of these games, is left out, and so are '
  'seeds that not all of them have. Of few seeds a '
  'bootstrap makes too narrow intervals: with normal scores on two games, '
  'those for 95 % cover the truth in 67 % of cases with two seeds, in 86 % '
  'with three, in 91 % with five; with three seeds on one game they are no '
  'more than the range of the three.'
)


def _normalized(
  groups_by_data: GroupsByData, out: pathlib.Path
) -> Iterator[str]:
  """Interquartile means and performance profiles, where games allow."""
  rows, profiles, left_out = [], [], []
  for data, games in groups_by_data.items():
    for kind in ('final', 'peak'):
      normalized = scores.normalized_scores(games, kind)
      if not normalized:
        continue
      means = scores.interquartile_means(normalized)
      rows += _mean_rows(data, kind, normalized, means)
      if kind == 'final':
        labels = {label for groups in games.values() for label in groups}
        if without := sorted(labels - normalized.keys()):
          left_out.append(f'Left out of {data}: {"; ".join(without)}.')
        path = out / f'normalized_{_slug(data)}.png'
        figures.aggregate(games, normalized, means, path)
        caption = (
          f'Final scores on {_of(games)}: interquartile means with 95 % '
          'stratified bootstrap intervals, and performance profiles.'
        )
        profiles.append(document.picture(path, caption))
  if rows:
    header = (
      'data', 'score', 'agent', 'seeds x games', 'interquartile mean', '95 %',
    )  # fmt: skip
    write_csv(out / 'interquartile_means.csv', header, rows)
    yield '## Normalised scores'
    yield ' '.join([_ABOUT_NORMALIZED, *left_out])
    yield document.table(header, rows)
    yield from profiles


def _mean_rows(data, kind, normalized, means) -> Iterator[tuple[str, ...]]:
  for agent, (mean, low, high) in sorted(means.items()):
    seeds, games = normalized[agent].shape
    interval = f'{low:.3f} to {high:.3f}' if seeds > 1 else ''
    yield data, kind, agent, f'{seeds} x {games}', f'{mean:.3f}', interval


def curve_table(games: GroupsByGame) -> str:
  """A Markdown table: final and best evaluation return of every group.

  Means over runs ± the standard error of the mean. Best is the highest point of
  each run's own curve, so it is optimistic; final is the last point.
  """
  header = (
    'game', 'agent', 'seeds', 'gradient steps', 'final return', 'best return',
    'mean game of the data',
  )  # fmt: skip
  groups = [group for of_game in games.values() for group in of_game.values()]
  return document.table(header, list(map(_cells, groups)))


def _cells(group: Group) -> tuple[str, ...]:
  """A group's cells from its game to the mean game of its data."""
  return (
    group.game,
    group.label,
    group.seeds,
    f'{group.gradient_steps:,}',
    with_error(group.final),
    with_error(group.peak),
    group.data_mean,
  )


def _number(value: float | None, digits: int) -> str:
  return '' if value is None else f'{value:.{digits}f}'


def _of(games: GroupsByGame) -> str:
  """Describes the runs' data, such as '1 % of the data'."""
  run = next(iter(next(iter(games.values())).values())).runs[0]
  of_the = ' of the' if run.benchmark.data_share_is_hyperparameter else ''
  return f'{run.data}{of_the} data'


def _slug(data: str) -> str:
  return re.sub(r'\W+', '_', data.replace('%', 'pct')).strip('_')
