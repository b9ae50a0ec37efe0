"""Converts recordings: python -m cql_atari.convert SOURCE --out=data.

SOURCE is a folder of .npz episodes, minari:NAME, a file that d3rlpy's
ReplayBuffer.dump wrote, or RL Unplugged's Atari TFRecords. The run becomes
OUT/GAME/1, in the published format. `train` takes all of these as --replay_dir
too, and converts them by itself.
"""

from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.replay import importing, sources

_COMMAND = command.Command(__doc__, operand='SOURCE')
_GAME = _COMMAND.string('game', None, 'The game, where SOURCE does not tell.')
_OUT = _COMMAND.string('out', 'data', 'The run becomes OUT/GAME/1.')


def main(source: str) -> None:
  """Converts by the flags."""
  recording = sources.find(source)
  if not recording:
    raise UserError(
      f'{source} is no recording to convert: give a folder of .npz episodes, '
      "minari:NAME, d3rlpy's .h5 file, or RL Unplugged's TFRecords."
    )
  run = importing.convert(recording, _OUT.value, _GAME.value)
  print(
    f'The run is {run}. To check it: python -m cql_atari.verify {run}; to '
    f'train on it: python -m cql_atari.train --base_dir=runs/first '
    f'--gin_files=cql_1pct.gin --replay_dir={run} '
    '--gin_bindings="Split.fraction=1.0" (on a CPU with '
    '--gin_files=small.gin after the other)'
  )


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
