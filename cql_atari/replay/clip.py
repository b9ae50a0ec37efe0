"""Pictures of a store's play."""

import pathlib

import numpy as np
from PIL import Image

from cql_atari.core.errors import UserError
from cql_atari.core.files import whole_path, writing
from cql_atari.replay.frames import FRAME_SHAPE
from cql_atari.replay.store import Store

_MILLISECONDS, _SCALE = 67, 3  # Four of the console's frames; pixels a pixel.


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
    raise UserError(
      f'--first={first} is no row of the store: give 0 to {rows - 1}.'
    )
  file = pathlib.Path(path).expanduser()
  if file.suffix != '.gif':
    raise UserError(f'--out={path} is no .gif: name it clip.gif.')
  shown = store.read_frames(np.array([first]), min(frames, rows - first))[0]
  size = (FRAME_SHAPE[1] * _SCALE, FRAME_SHAPE[0] * _SCALE)
  images = [
    Image.fromarray(frame).resize(size, Image.Resampling.NEAREST)
    for frame in shown
  ]
  with writing(path, 'choose another --out'):
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_path(file) as partial:
      images[0].save(
        partial, save_all=True, append_images=images[1:],
        duration=_MILLISECONDS, loop=0,
      )  # fmt: skip
  return len(images)
