"""Builds a store: python -m cql_atari.prepare --replay_dir=DIR.

Training builds the store it needs by itself; this does it beforehand, or into
a folder of its own.
"""

import dataclasses
import re
import time

from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.replay import games, opening, shard_folder
from cql_atari.replay import split as split_lib
from cql_atari.replay.store import Store

_COMMAND = command.Command(__doc__)
_REPLAY_DIR = _COMMAND.string(
  'replay_dir', None, 'A run of the dataset: the folder with replay_logs in it.'
)
_GAME = _COMMAND.game_of_folder()
_SPLIT = _COMMAND.split()
_CONVENTION = _COMMAND.choice(
  'convention', 'prefix', split_lib.CONVENTIONS, 'How rows are chosen.'
)
_SEED = _COMMAND.seed('the rows drawn; a prefix of all shards draws none')
_SHARDS = _COMMAND.string(
  'shards', None, 'FIRST:STOP, such as 0:10, in place of those of the split.'
)
_UPDATE_HORIZON = _COMMAND.integer(
  'update_horizon',
  1,
  'n of the n-step return that drawn rows are to serve; prefix serves any.',
)
_OUT = _COMMAND.string(
  'out', None, 'The store; by default one that training finds by itself.'
)


def main() -> None:
  """Builds by the flags and says what came of it."""
  if not _REPLAY_DIR.value:
    raise UserError(
      'no --replay_dir given: name the folder that holds replay_logs.'
    )
  game = _GAME.value or shard_folder.game_of(_REPLAY_DIR.value)
  split = dataclasses.replace(
    split_lib.named_split(_SPLIT.value),
    convention=_CONVENTION.value,
    seed=_SEED.value,
    update_horizon=_UPDATE_HORIZON.value,
  )
  if _SHARDS.value:
    split = dataclasses.replace(split, shards=_shards(_SHARDS.value))
  began = time.monotonic()
  directory = opening.ensure_store(
    _REPLAY_DIR.value, game, games.num_actions(game), split, out=_OUT.value
  )
  seconds = time.monotonic() - began
  store = Store.load(directory)
  rows, size = store.manifest['num_rows'], store.nbytes
  print(
    f'{directory}: {rows:,} rows of {game}, '
    f'{len(store.valid_transitions()):,} transitions '
    f'({store.manifest["transitions_gained_by_stitching"]} of them across '
    f'borders of shards), {size / 1e6:,.1f} MB, {size / rows:.0f} bytes a row, '
    f'in {seconds:.1f} s.'
  )


def _shards(text: str) -> tuple[int, int]:
  match = re.fullmatch(r'(\d+):(\d+)', text)
  if not match:
    raise UserError(
      f'--shards={text}: give FIRST:STOP, such as 0:10 for shards 0 to 9.'
    )
  return int(match[1]), int(match[2])


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
