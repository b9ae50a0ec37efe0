"""Checks a run's shards: python -m cql_atari.verify DIR.

Reads every row, prints a table, and exits with 1 when something is broken.
Play that looks odd (no better than the first shard's, frames that never move)
is a warning: look at it before training on it for a week.
"""

import itertools

from cql_atari.core import command, progress
from cql_atari.core.files import make_folder, user_path, write_json, writing
from cql_atari.replay import examine, games, recorder, shard_folder

_COMMAND = command.Command(__doc__, operand='DIR')
_GAME = _COMMAND.game_of_folder()
_REPORT = _COMMAND.string('report', None, 'Where to write a JSON report.')
_PLOT = _COMMAND.string(
  'plot', None, 'Where to draw the return per shard, such as returns.png.'
)


def main(replay_dir: str) -> int:
  """Verifies by the flags; returns the exit status."""
  game = _GAME.value or shard_folder.game_of(replay_dir)
  num_actions = games.num_actions(game)
  shards = shard_folder.list_shards(replay_dir)
  shard_folder.check_game(shard_folder.run_folder(replay_dir), game)
  for flag, path in (('report', _REPORT.value), ('plot', _PLOT.value)):
    if path:  # Before hours of reading.
      make_folder(f'--{flag}', user_path(path).parent)
  findings = examine.examine_all(shards, num_actions)
  print(examine.table(findings))
  broken = sum(bool(finding['error']) for finding in findings)
  odd = sum(bool(finding['warnings']) for finding in findings)
  there = {finding['shard'] for finding in findings}
  last = max(there)
  if not shard_folder.is_own(replay_dir):
    last = max(last, recorder.NUM_SHARDS)
  missing = sorted(set(range(last)) - there)
  print(
    f'\n{progress.count(len(findings), "shard")} of {game}: {broken} broken, '
    f'{odd} with warnings'
    + (f'; of a whole run, {_ranges(missing)} are missing' if missing else '')
    + '.'
  )
  if _REPORT.value:
    report = {'game': game, 'missing': missing, 'shards': findings}
    with writing(f'--report={_REPORT.value}'):
      write_json(user_path(_REPORT.value), report)
  if _PLOT.value:
    scores = shard_folder.recorded_returns(replay_dir)
    examine.plot(findings, game, _PLOT.value, scores, missing)
  return 1 if broken else 0


def _ranges(numbers: list[int]) -> str:
  """[1, 5, 6, 7] -> '1, 5-7'."""
  parts = []
  for _, members in itertools.groupby(
    enumerate(numbers), lambda pair: pair[1] - pair[0]
  ):
    run = [number for _, number in members]
    parts.append(f'{run[0]}-{run[-1]}' if len(run) > 1 else str(run[0]))
  return ', '.join(parts)


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
