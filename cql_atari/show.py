"""Shows what is in a store: python -m cql_atari.show STORE.

Prints statistics; `--out=clip.gif` draws some of its play at the speed it was
played, 15 frames a second.
"""

import pathlib

import numpy as np
from absl import flags
from PIL import Image

from cql_atari.core import errors
from cql_atari.environments import atari
from cql_atari.replay.frames import FRAME_SHAPE
from cql_atari.replay.store import Store

_OUT = flags.DEFINE_string('out', None, 'The clip, such as clip.gif.')
_FIRST = flags.DEFINE_integer(
  'first', None, 'The first row of the clip; the middle of the store if unset.'
)
_FRAMES = flags.DEFINE_integer('frames', 300, 'Frames shown.', lower_bound=1)
_MILLISECONDS, _SCALE = 67, 3  # Four of the console's frames; pixels a pixel.


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
    found, counts = np.unique(getattr(store, f'{title}s'), return_counts=True)
    for value, count in zip(found.tolist(), counts.tolist()):
      name = values[value] if values else f'{value:g}'
      lines.append(f'{title} {name:<14}{count:>12,}  {count / rows:6.1%}')
  return '\n'.join(lines)


def write_clip(store: Store, path: str, first: int, frames: int) -> int:
  """Draws consecutive frames as an animated GIF.

  Args:
    store: where from.
    path: the file, such as clip.gif.
    first: the first row.
    frames: rows shown, at most; the store may end before.

  Returns:
    Frames drawn.

  Raises:
    UserError: there is no such row, or the file can't be written.
  """
  rows = store.manifest['num_rows']
  if not 0 <= first < rows:
    raise errors.UserError(
      f'--first={first} is no row of the store: give 0 to {rows - 1}.'
    )
  if pathlib.Path(path).suffix != '.gif':
    raise errors.UserError(f'--out={path} is no .gif: name it clip.gif.')
  shown = store.read_frames(np.array([first]), min(frames, rows - first))[0]
  size = (FRAME_SHAPE[1] * _SCALE, FRAME_SHAPE[0] * _SCALE)
  images = [
    Image.fromarray(frame).resize(size, Image.Resampling.NEAREST)
    for frame in shown
  ]
  try:
    images[0].save(
      path,
      save_all=True,
      append_images=images[1:],
      duration=_MILLISECONDS,
      loop=0,
    )
  except OSError as error:
    raise errors.UserError(f'{path} cannot be written ({error}).') from None
  return len(images)


def main(directory: str) -> None:
  """Inspects by the flags."""
  if not (pathlib.Path(directory).expanduser() / 'frames.zst').is_file():
    raise errors.UserError(
      f'{directory} is no store: make one with python -m '
      'cql_atari.prepare --replay_dir=DIR --out=STORE.'
    )
  store = Store.load(pathlib.Path(directory).expanduser(), in_memory=False)
  print(describe(store))
  if _OUT.value:
    first = _FIRST.value
    if first is None:
      first = store.manifest['num_rows'] // 2
    drawn = write_clip(store, _OUT.value, first, _FRAMES.value)
    print(f'{_OUT.value} shows rows {first} to {first + drawn - 1}.')


def run() -> None:
  """The console script."""
  errors.run(main, operand='STORE')


if __name__ == '__main__':
  run()
