"""Moving pictures: GIF or MP4, whichever the file's name asks for."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from cql_atari.core.errors import UserError
from cql_atari.core.files import atomic_path, user_path, writing

# One palette for the whole video, from its first 300 frames, which wait in
# memory until then. Each frame stores only the rectangle that has changed.
_GIF = (
  'split[shown][seen];[seen]trim=end_frame=300,palettegen[palette];'
  '[shown][palette]paletteuse=dither=none:diff_mode=rectangle'
)
_OPTIONS = {
  '.mp4': {'macro_block_size': 4},
  '.gif': {
    'codec': 'gif',
    'pix_fmt_out': 'pal8',
    'macro_block_size': 1,
    'output_params': ['-filter_complex', _GIF, '-loop', '0'],
  },
}

INK = (230, 230, 230)


def write_line(
  picture: np.ndarray,
  line: str,
  x: int,
  y: int,
  color: tuple[int, int, int] = INK,
) -> None:
  """Writes a line of text into a picture, its foot's left end at (x, y)."""
  font = cv2.FONT_HERSHEY_SIMPLEX
  cv2.putText(picture, line, (x, y), font, 0.42, color, 1, cv2.LINE_AA)


def video_path(flag: str, path: str | os.PathLike) -> pathlib.Path:
  """A film's path, as a flag gives it.

  Raises:
    UserError: it is neither .mp4 nor .gif.
  """
  path = user_path(path)
  if path.suffix not in _OPTIONS:
    raise UserError(
      f'--{flag}={path} is neither .mp4 nor .gif: name it play.mp4.'
    )
  return path


@contextlib.contextmanager
def video(
  path: pathlib.Path, pictures_per_second: float
) -> Iterator[Callable[[np.ndarray], None]]:
  """Writes a film; the file appears when the film is whole.

  Args:
    path: the file, .mp4 or .gif; its folder is made.
    pictures_per_second: at which it is shown.

  Yields:
    What adds a picture, uint8 (H, W, 3), RGB, of one size each.

  Raises:
    UserError: the file can't be written.
  """
  import imageio_ffmpeg

  frames = None

  def add(picture: np.ndarray) -> None:
    nonlocal frames
    if frames is None:
      frames = imageio_ffmpeg.write_frames(
        str(partial),
        picture.shape[1::-1],
        fps=pictures_per_second,
        **_OPTIONS[path.suffix],
      )
      frames.send(None)
    frames.send(np.ascontiguousarray(picture))

  with writing(f'the film {path}', 'make room, or choose another --out'):
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
      try:
        yield add
      finally:
        if frames is not None:
          frames.close()
