"""Fetches data: python -m cql_atari.fetch --game=Pong, or --task=TASK.

For a game, it fetches a run of the DQN Replay dataset, or the first rows of its
shards, which is all that a 1 % or 10 % split reads: OUT/GAME/RUN/replay_logs.
For a task, it fetches D4RL's file: OUT/NAME.hdf5.
"""

from cql_atari.continuous import fetching, tasks
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import output_folder
from cql_atari.replay import games, published, shard_folder
from cql_atari.replay import split as split_lib

_COMMAND = command.Command(__doc__)
_GAME = _COMMAND.string('game', None, 'A game, such as Pong.')
_TASK = _COMMAND.string('task', None, 'A task of D4RL instead.')
_RUN = _COMMAND.integer('run', 1, 'Which of the five runs of a game.', least=1)
_SPLIT = _COMMAND.split()
_OUT = _COMMAND.string(
  'out', None, 'Where to: data for a game, data/d4rl for a task by default.'
)
_SOURCE = _COMMAND.string(
  'source', None, 'A folder of games or of tasks, at any fsspec URL.'
)
_JOBS = _COMMAND.integer('jobs', 8, 'Files at once.', least=1)
_TIMEOUT = _COMMAND.number(
  'timeout', 30.0, 'Seconds after which a silent connection has stalled.'
)


def main() -> None:
  """Fetches by the flags."""
  if _GAME.value and _TASK.value:
    raise UserError('give --game or --task, not both.')
  if not _GAME.value and not _TASK.value:
    raise UserError(
      'no --game given, nor a --task: name one of them, such as --game=Pong or '
      '--task=hopper-medium-v2.'
    )
  if _GAME.value:
    _fetch_game(_GAME.value)
  else:
    for flag in (_RUN, _SPLIT, _JOBS):
      if flag.value != flag.default:
        raise UserError(f'--{flag.name} is of a --game: leave it out.')
    _fetch_task(tasks.task(_TASK.value))


def _fetch_game(game: str) -> None:
  games.rom_name(game)
  if not _SOURCE.value and _RUN.value > 5:
    raise UserError(f'--run={_RUN.value}: the dataset has runs 1 to 5.')
  split = split_lib.named_split(_SPLIT.value)
  where = (_OUT.value or 'data', game, str(_RUN.value), 'replay_logs')
  with output_folder('--out', *where) as folder:
    published.fetch(
      folder,
      game,
      _RUN.value,
      split,
      _SOURCE.value or shard_folder.PUBLISHED_URL,
      _JOBS.value,
      _TIMEOUT.value,
    )
  run = folder.parent
  print(
    f'{run} is complete: train on it with --replay_dir={run}, or look at it '
    f'with python -m cql_atari.verify {run}.'
  )


def _fetch_task(task: tasks.Task) -> None:
  with output_folder('--out', _OUT.value or 'data/d4rl') as folder:
    fetching.fetch(task, folder, _SOURCE.value or tasks.URL, _TIMEOUT.value)
  print(
    f'{task.name} is complete: train on it with --replay_dir={folder} and '
    f'--gin_bindings="TASK=\'{task.name}\'".'
  )


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
