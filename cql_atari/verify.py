"""Checks a run's shards: python -m cql_atari.verify DIR.

Reads every row, prints a table, and exits with 1 when something is broken.
Play that looks odd (no better than the first shard's, frames that never move)
is a warning: look at it before training on it for a week.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib

import numpy as np
import tqdm
from absl import flags

from cql_atari.core import errors, fetched
from cql_atari.core.files import make_folder, write_text, writing
from cql_atari.environments import atari
from cql_atari.replay import run as run_lib
from cql_atari.replay.shard import Shard

_GAME = flags.DEFINE_string(
  'game', None, 'The game, where the path does not end in GAME/RUN.'
)
_REPORT = flags.DEFINE_string('report', None, 'Where to write a JSON report.')
_PLOT = flags.DEFINE_string(
  'plot', None, 'Where to draw the return per shard, such as returns.png.'
)
_MOSTLY_STILL = 0.9  # Share of frames equal to the one before.


def examine(
  shard: Shard, num_actions: int, stop: int | None, record: dict | None
) -> dict:
  """Reads a shard as a whole.

  Args:
    shard: the shard.
    num_actions: size of the game's action set.
    stop: row after the last that was fetched; None for all usable rows.
    record: file names to what was fetched, `fetched.read`; None if unknown.

  Returns:
    Its number; `error` (a sentence, or None); if it is sound also
    `Shard.describe`, still (share of frames equal to the one before) and sha256
    (of its play).
  """
  try:
    for path in shard.sources if record is not None else ():
      fetched.check(path, record)
    digest = hashlib.sha256()
    still, last = 0, None
    for frames in shard.checked_frames(num_actions, stop):
      digest.update(frames)
      moves = (frames[1:] != frames[:-1]).any(axis=(1, 2))
      still += int((~moves).sum())
      if last is not None:
        still += bool((last == frames[0]).all())
      last = frames[-1]
    found = shard.describe(stop)
    for name in ('action', 'reward', 'terminal'):
      digest.update(shard.read(name, found['rows']).tobytes())
    return {
      'shard': shard.index,
      'error': None,
      **found,
      'still': still / max(found['rows'] - 1, 1),
      'sha256': digest.hexdigest(),
    }
  except errors.UserError as error:
    return {'shard': shard.index, 'error': str(error)}


def judge(findings: list[dict]) -> None:
  """Adds `warnings`, sentences about what looks odd, to the findings."""
  sound = [found for found in findings if not found['error']]
  seen = {}
  known = [found for found in sound if found['return_error'] is not None]
  for found in findings:
    found['warnings'] = warnings = []
    if found['error']:
      continue
    if found['sha256'] in seen:
      warnings.append(f'the same play as shard {seen[found["sha256"]]}')
    seen.setdefault(found['sha256'], found['shard'])
    if found['still'] > _MOSTLY_STILL:
      warnings.append(f'{found["still"]:.0%} of the frames do not move')
    later = found['shard'] >= findings[len(findings) // 2]['shard']
    if later and found in known[1:]:
      first = known[0]
      gain = found['return_mean'] - first['return_mean']
      if gain <= 2 * np.hypot(found['return_error'], first['return_error']):
        warnings.append(
          f'plays no better than shard {first["shard"]}: near-random play?'
        )


def table(findings: list[dict]) -> str:
  """The findings as text, a line a shard."""
  lines = [
    f'{"shard":>5}{"rows":>10}{"transitions":>12}{"games":>7}'
    f'{"return (clipped)":>18}  finding'
  ]
  for found in findings:
    if found['error']:
      lines.append(f'{found["shard"]:5}{"":47}  BROKEN: {found["error"]}')
      continue
    mean = found['return_mean']
    lines.append(
      f'{found["shard"]:5}{found["rows"]:10,}{found["transitions"]:12,}'
      f'{found["episodes"]:7}{"-" if mean is None else f"{mean:.1f}":>18}'
      f'  {"; ".join(found["warnings"]) or "sound"}'
    )
  return '\n'.join(lines)


def plot(findings: list[dict], game: str, path: str) -> None:
  """Draws the mean clipped return of each shard's games.

  Raises:
    UserError: the file can't be written, or its ending names no format.
  """
  from matplotlib import figure

  shown = [found for found in findings if found.get('return_mean') is not None]
  canvas = figure.Figure(figsize=(7, 3.5), layout='constrained')
  axes = canvas.subplots()
  axes.errorbar(
    [found['shard'] for found in shown],
    [found['return_mean'] for found in shown],
    [found['return_error'] or 0 for found in shown],
    marker='o', markersize=3, capsize=2,
  )  # fmt: skip
  odd = [found for found in shown if found['warnings']]
  axes.plot(
    [found['shard'] for found in odd],
    [found['return_mean'] for found in odd],
    'rx', label='odd',
  )  # fmt: skip
  if odd:
    axes.legend()
  axes.set(
    title=f'{game}: play recorded in each shard',
    xlabel='shard',
    ylabel='return of a game, clipped rewards',
  )
  axes.grid(alpha=0.3)
  try:
    canvas.savefig(pathlib.Path(path).expanduser(), dpi=150)
  except (OSError, ValueError) as error:
    raise errors.UserError(
      f'--plot={path} cannot be written ({error}): give another file, such as '
      'returns.png.'
    ) from None


def main(replay_dir: str) -> int:
  """Verifies by the flags; returns the exit status."""
  game = _GAME.value or run_lib.game_of(replay_dir)
  num_actions = atari.num_actions(game)
  shards = run_lib.list_shards(replay_dir)
  run_lib.check_game(shards[0].directory.parent, game)
  for flag, path in (('report', _REPORT.value), ('plot', _PLOT.value)):
    if path:  # Before hours of reading.
      make_folder(flag, pathlib.Path(path).expanduser().parent)
  record = fetched.read(shards[0].directory)
  with (
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    tqdm.tqdm(
      total=len(shards), unit=' shards', desc='verifying', leave=False,
      disable=None, dynamic_ncols=True,
    ) as bar,
  ):  # fmt: skip

    def work(shard: Shard) -> dict:
      stop = fetched.rows(shard, record)
      found = examine(shard, num_actions, stop, record)
      bar.update()
      return found

    findings = list(pool.map(work, shards))
  judge(findings)
  print(table(findings))
  broken = sum(bool(found['error']) for found in findings)
  odd = sum(bool(found['warnings']) for found in findings)
  missing = sorted(
    set(range(findings[-1]['shard'])) - {found['shard'] for found in findings}
  )
  print(
    f'\n{len(findings)} shards of {game}: {broken} broken, {odd} with warnings'
    + (f', numbers missing: {missing}' if missing else '')
    + '.'
  )
  if _REPORT.value:
    report = {'game': game, 'missing': missing, 'shards': findings}
    with writing(f'--report={_REPORT.value}'):
      write_text(
        pathlib.Path(_REPORT.value).expanduser(),
        json.dumps(report, indent=1) + '\n',
      )
  if _PLOT.value:
    plot(findings, game, _PLOT.value)
  return 1 if broken else 0


def run() -> None:
  """The console script."""
  errors.run(main, operand='DIR')


if __name__ == '__main__':
  run()
