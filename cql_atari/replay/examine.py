"""Reads every row of a run's shards, and judges what it finds."""

import concurrent.futures
import hashlib
from collections.abc import Sequence

import numpy as np

from cql_atari.core import devices, fetched, progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import atomic_path, user_path
from cql_atari.replay.episodes import valid_rows
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE
from cql_atari.replay.shard import ELEMENTS, Shard

_EARLY = 5  # Shards from which later play should differ.
_FEW_GAMES = 5  # Of fewer, the standard error is no more than a guess.
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
    Its number; `error` (a sentence, or None); if it is sound also rows,
    transitions, episodes (whole ones inside the rows), return_mean and
    return_error (mean of their clipped rewards and its standard error; None
    without enough episodes), actions (rows per action), is_whole (whether all
    of it was fetched), returns (clipped, of the game that was under way, of
    those played, and of the one that goes on), from_start (whether play begins
    with it), reward_rate (of 1,000 rows), still (share of frames equal to the
    one before), unmarked (places that look like the padding before a game,
    where none ended) and sha256 (of its play).
  """
  try:
    for path in shard.sources if record is not None else ():
      fetched.check(path, record)
    digest = hashlib.sha256()
    still, last, blank = 0, np.zeros((0, *FRAME_SHAPE), np.uint8), []
    rows = shard.num_rows if stop is None else min(stop, shard.num_rows)
    if not rows:
      raise UserError('no rows of it were fetched: fetch a larger --split.')
    for frames in shard.checked_frames(num_actions, rows):
      digest.update(frames)
      seen = np.concatenate([last, frames])
      still += int((seen[1:] == seen[:-1]).all(axis=(1, 2)).sum())
      last = frames[-1:]
      blank.append(~frames.any(axis=(1, 2)))
    columns = [shard.read(name, rows) for name in ELEMENTS[1:]]
    for column in columns:
      digest.update(column.tobytes())
    actions, rewards, _ = columns
    endings = shard.endings(rows)
    parts = np.split(rewards, np.flatnonzero(endings) + 1)
    returns = [float(part.sum()) for part in parts]
    from_start = shard.add_count <= shard.capacity
    whole = np.array(returns[0 if from_start else 1 : -1])
    return {
      'shard': shard.index,
      'error': None,
      'rows': rows,
      'transitions': len(valid_rows(endings, 1)),
      'episodes': len(whole),
      'return_mean': float(whole.mean()) if len(whole) else None,
      'return_error': _standard_error(whole),
      'actions': np.bincount(actions).tolist(),
      'still': still / max(rows - 1, 1),
      'is_whole': stop is None or stop >= shard.num_rows,
      'returns': returns,
      'from_start': from_start,
      'reward_rate': float(1000 * rewards.sum() / max(rows, 1)),
      'unmarked': _unmarked_starts(np.concatenate(blank), endings),
      'sha256': digest.hexdigest(),
    }
  except UserError as error:
    return {'shard': shard.index, 'error': str(error)}


def _standard_error(values: Sequence[float]) -> float | None:
  """The mean's standard error; None of fewer than two values."""
  if len(values) < 2:
    return None
  return float(np.std(values, ddof=1) / len(values) ** 0.5)


def _unmarked_starts(blank: np.ndarray, endings: np.ndarray) -> int:
  """Times that just as many blank frames as pad a game follow no ending.

  Args:
    blank: bool (R,), whether a row's frame is all zeros.
    endings: (R,) flags, 0 where no game ends.
  """
  padding = STACK_SIZE - 1
  width = padding + 2
  if len(blank) < width:
    return 0
  windows = np.lib.stride_tricks.sliding_window_view(blank, width)
  pattern = np.array([False] + [True] * padding + [False])
  goes_on = endings[: len(windows)] == 0
  return int(((windows == pattern).all(axis=1) & goes_on).sum())


def judge(findings: list[dict]) -> None:
  """Adds `warnings`, sentences about what looks odd, to the findings."""
  sound = [finding for finding in findings if not finding['error']]
  seen = {}
  known = [finding for finding in sound if finding['return_error'] is not None]
  for finding in findings:
    finding['warnings'] = warnings = []
    if finding['error']:
      continue
    if finding['sha256'] in seen:
      warnings.append(f'the same play as shard {seen[finding["sha256"]]}')
    seen.setdefault(finding['sha256'], finding['shard'])
    if finding['still'] > _MOSTLY_STILL:
      warnings.append(f'{finding["still"]:.0%} of the frames do not move')
    if finding['unmarked']:
      warnings.append(
        f'{finding["unmarked"]} times three blank frames, as before a game, '
        'where none ended: games cut off, without episode_end_indices?'
      )
    later = finding['shard'] >= findings[len(findings) // 2]['shard']
    # Only a run's beginning is known to be near-random.
    tells = finding in known[1:] and finding['episodes'] >= _FEW_GAMES
    if later and tells and known[0]['shard'] < _EARLY:
      first = known[0]
      gain = finding['return_mean'] - first['return_mean']
      if gain <= 2 * np.hypot(finding['return_error'], first['return_error']):
        warnings.append(
          f'plays no better than shard {first["shard"]}: near-random play?'
        )


def table(findings: list[dict]) -> str:
  """The findings as text, a line a shard."""
  lines = [
    f'{"shard":>5}{"rows":>10}{"transitions":>12}{"games":>7}'
    f'{"return (clipped)":>18}  finding'
  ]
  for finding in findings:
    if finding['error']:
      lines.append(f'{finding["shard"]:5}{"":47}  BROKEN: {finding["error"]}')
      continue
    mean = finding['return_mean']
    lines.append(
      f'{finding["shard"]:5}{finding["rows"]:10,}{finding["transitions"]:12,}'
      f'{finding["episodes"]:7}{"-" if mean is None else f"{mean:.1f}":>18}'
      f'  {"; ".join(finding["warnings"]) or "sound"}'
    )
  return '\n'.join(lines)


def plot(
  findings: list[dict],
  game: str,
  path: str,
  scores: dict[int, list[float]],
  missing: Sequence[int] = (),
) -> None:
  """Draws how well each shard's games went.

  Shown are the raw scores of the games begun in it, where their recorder left
  them; or else the clipped returns of the games begun in it, put together
  across shards; or, where hardly any game is there as a whole, as in the first
  1 % of every shard, the clipped reward of 1,000 steps.

  Args:
    findings: of all shards, as `examine_all` gives them.
    game: the game's name.
    path: the picture.
    scores: what `shard_folder.recorded_returns` gives.
    missing: numbers of shards that are not there.

  Raises:
    UserError: the file can't be written, or its ending names no format.
  """
  from matplotlib import figure

  sound = [finding for finding in findings if not finding['error']]
  label, games = 'score of a game', scores
  if not games:
    label, games = 'return of a game, clipped rewards', _stitched(sound)
  if 2 * len(games) < len(sound):
    label, games = (
      'clipped reward of 1,000 steps',
      {finding['shard']: [finding['reward_rate']] for finding in sound},
    )
  shards = sorted(games)
  means = {shard: float(np.mean(games[shard])) for shard in shards}
  errors = [_standard_error(games[shard]) or 0.0 for shard in shards]
  canvas = figure.Figure(figsize=(7, 3.5), layout='constrained')
  axes = canvas.subplots()
  axes.errorbar(
    shards, [means[shard] for shard in shards], errors,
    marker='o', markersize=3, capsize=2,
  )  # fmt: skip
  odd = [f['shard'] for f in sound if f['warnings'] and f['shard'] in means]
  if odd:
    axes.plot(odd, [means[shard] for shard in odd], 'rx', label='odd')
  missing = set(missing) | {f['shard'] for f in findings if f['error']}
  for number, shard in enumerate(sorted(missing)):
    axes.axvspan(
      shard - 0.5, shard + 0.5, color='0.9', zorder=0,
      label='missing or broken' if not number else None,
    )  # fmt: skip
  if odd or missing:
    axes.legend()
  axes.set(
    title=f'{game}: play recorded in each shard', xlabel='shard', ylabel=label
  )
  axes.grid(alpha=0.3)
  try:
    with atomic_path(user_path(path)) as partial:
      canvas.savefig(partial, dpi=150)
  except (OSError, ValueError) as error:
    raise UserError(
      f'--plot={path} cannot be written ({error}): give another file, such as '
      'returns.png.'
    ) from None


def _stitched(findings: list[dict]) -> dict[int, list[float]]:
  """Clipped returns by the shard that a game begins in, across its end too."""
  games, begun = {}, None  # Of a game under way: its shard, its return so far.
  previous = None
  for finding in findings:
    goes_on = finding['is_whole'] and finding['shard'] - 1 == previous
    begun = begun if goes_on else None
    if finding['from_start']:
      begun = finding['shard'], 0.0
    parts = list(finding['returns'])
    if begun:
      begun = begun[0], begun[1] + parts[0]
    if len(parts) > 1:  # A game ended here.
      if begun:
        games.setdefault(begun[0], []).append(begun[1])
      if parts[1:-1]:
        games.setdefault(finding['shard'], []).extend(parts[1:-1])
      begun = finding['shard'], parts[-1]
    previous = finding['shard'] if finding['is_whole'] else None
  return games


def examine_all(shards: Sequence[Shard], num_actions: int) -> list[dict]:
  """Examines and judges shards, several at once.

  Args:
    shards: the shards of one run.
    num_actions: size of the game's action set.

  Returns:
    The findings of `examine` and `judge`, a dict each.
  """
  record = fetched.read(shards[0].directory)

  def work(shard: Shard) -> dict:
    return examine(shard, num_actions, shard.fetched_rows(record), record)

  with concurrent.futures.ThreadPoolExecutor(devices.cores()) as pool:
    found = pool.map(work, shards)
    findings = list(
      progress.bar(len(shards), ' shards', 'verifying', iterable=found)
    )
  judge(findings)
  return findings
