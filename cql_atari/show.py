"""Shows what is in a store: python -m cql_atari.show STORE.

Prints statistics; `--out=clip.gif` draws some of its play at the speed it was
played, 15 frames a second.
"""

import functools
import pathlib

import numpy as np

from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.environments import atari
from cql_atari.replay import clip
from cql_atari.replay.store import Store

_COMMAND = command.Command(__doc__, operand='STORE')
_OUT = _COMMAND.string('out', None, 'The clip, such as clip.gif.')
_FIRST = _COMMAND.integer(
  'first', None, 'The first row of the clip; the middle of the store if unset.'
)
_FRAMES = _COMMAND.integer('frames', 300, 'Frames shown.', least=1)


def main(directory: str) -> None:
  """Shows by the flags."""
  folder = pathlib.Path(directory).expanduser()
  if not (folder / 'frames.zst').is_file():
    raise UserError(
      f'{directory} is no store: make one with python -m cql_atari.prepare '
      '--replay_dir=DIR --out=STORE.'
    )
  store = Store.load(folder, in_memory=False)
  print(describe(store))
  if _OUT.value:
    first = _FIRST.value
    if first is None:
      first = store.manifest['num_rows'] // 2
    drawn = clip.write_clip(store, _OUT.value, first, _FRAMES.value)
    print(f'{_OUT.value} shows rows {first} to {first + drawn - 1}.')


def describe(store: Store) -> str:
  """Statistics of a store as text."""
  manifest = store.manifest
  game, rows = manifest['game'], manifest['num_rows']
  split = ', '.join(
    f'{key} {value}' for key, value in manifest['split'].items()
  )
  behavior = manifest['behavior_return']
  lines = [
    f'{game}, run {manifest["run"]}: {len(manifest["shards"])} shards',
    f'split         {split}',
    f'rows          {rows:,}',
    f'transitions   {len(store.valid_transitions()):,}, of them '
    f'{manifest["transitions_gained_by_stitching"]} across borders of shards',
    f'games ended   {int((store.terminals != 0).sum()):,}',
    'mean game     '
    + (
      f'{behavior["mean"]:.2f} ({behavior["source"]}, {behavior["episodes"]:,})'
      if behavior
      else 'unknown: no whole game'
    ),
    f'size          {store.nbytes / 1e6:,.1f} MB, '
    f'{store.nbytes / rows:.0f} bytes a row',
  ]
  for title, values in (
    ('action', atari.action_names(atari.rom_path(game))),
    ('reward', None),
  ):
    distinct, counts = np.unique(
      getattr(store, f'{title}s'), return_counts=True
    )
    for value, count in zip(distinct.tolist(), counts.tolist()):
      name = values[value] if values else f'{value:g}'
      lines.append(f'{title} {name:<14}{count:>12,}  {count / rows:6.1%}')
  return '\n'.join(lines)


run = functools.partial(_COMMAND.run, main)

if __name__ == '__main__':
  run()
