"""Films of a store's play."""

import cv2
import numpy as np

from cql_atari.core.errors import UserError
from cql_atari.core.video import video, video_path, write_line
from cql_atari.replay.store import Store

_PICTURES_PER_SECOND = 15  # Each is four of the console's frames.
_SCALE, _FOOT = 4, 24  # Pixels a pixel; the height of the line below.


def write_clip(
  store: Store, path: str, first: int, frames: int, action_names: list[str]
) -> int:
  """Films consecutive rows: the frame, its row, the action and the reward.

  Args:
    store: where from.
    path: the file, such as clip.gif or clip.mp4.
    first: the first row.
    frames: rows shown, at most; the store may end before.
    action_names: of all actions, in order.

  Returns:
    Rows shown.

  Raises:
    UserError: there is no such row, or the file can't be written.
  """
  rows = store.manifest['num_rows']
  if not 0 <= first < rows:
    raise UserError(
      f'--first={first} is no row of the store: give 0 to {rows - 1}.'
    )
  file = video_path('out', path)
  shown = store.read_frames(np.array([first]), min(frames, rows - first))[0]
  with video(file, _PICTURES_PER_SECOND) as add:
    for row, frame in enumerate(shown, first):
      large = np.kron(frame, np.ones((_SCALE, _SCALE), np.uint8))
      picture = cv2.copyMakeBorder(
        large[..., None].repeat(3, axis=2), 0, _FOOT, 0, 0, cv2.BORDER_CONSTANT
      )
      text = f'row {row:,}  {action_names[store.actions[row]]}'
      if store.rewards[row]:
        text += f'  reward {store.rewards[row]:+g}'
      if store.terminals[row]:
        text += '  the end'
      write_line(picture, text, 8, len(large) + 16)
      add(picture)
  return len(shown)
