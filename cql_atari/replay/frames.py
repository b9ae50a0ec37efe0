"""The frames of a state: their shape, how they stack and are made."""

import math
import sys
import threading

import cv2
import numpy as np
import zstandard

from cql_atari.core.errors import UserError

STACK_SIZE = 4
FRAME_SHAPE = (84, 84)
_SCREEN = (210, 160)
FRAME_BYTES = FRAME_SHAPE[0] * FRAME_SHAPE[1]
_ALIGNMENT, _KEPT_BUFFERS = 64, 24

# A merge is over before a second thread would have begun with its half.
cv2.setNumThreads(0)


def stack_frames(
  frames: np.ndarray, states: np.ndarray | None = None
) -> np.ndarray:
  """Interleaves frames into states: (B, 4, 84, 84) -> (B, 84, 84, 4) uint8.

  Oldest frame first, as Dopamine stacks them. OpenCV's merge is some fifteen
  times as fast as a NumPy transpose here.

  Args:
    frames: uint8 (B, 4, 84, 84).
    states: what is filled and returned; new memory by default.
  """
  batch, stack, height, width = frames.shape
  planes = frames.reshape(batch, stack, height * width)
  if states is None:
    states = aligned_empty((batch, height, width, stack))
  cv2.merge(
    [planes[:, index] for index in range(stack)],
    states.reshape(batch, height * width, stack),
  )
  return states


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
  """A uint8 array at an address that TensorFlow takes over without a copy."""
  return _aligned(np.empty(math.prod(shape) + _ALIGNMENT, np.uint8), shape)


def _aligned(buffer: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  start = -buffer.ctypes.data % _ALIGNMENT
  return buffer[start : start + math.prod(shape)].reshape(shape)


class Buffers:
  """Memory for frames, used again once nobody refers to it.

  The pages of new memory cost the system more time than filling them.
  """

  def __init__(self):
    """Begins without any; there are soon as many as are in use at a time."""
    self._buffers: list[np.ndarray] = []
    self._lock = threading.Lock()
    # What Python itself refers to a buffer by, which its versions differ in.
    (self._idle,) = _references([np.empty(0, np.uint8)])

  def take(self, shape: tuple[int, ...]) -> np.ndarray:
    """An array as of `aligned_empty`, with whatever is in it."""
    size = math.prod(shape) + _ALIGNMENT
    with self._lock:
      counts = _references(self._buffers)  # All views refer to their buffer.
      for buffer, count in zip(self._buffers, counts):
        if buffer.size == size and count == self._idle:
          return _aligned(buffer, shape)
      buffer = np.empty(size, np.uint8)
      self._buffers = [*self._buffers[1 - _KEPT_BUFFERS :], buffer]
      return _aligned(buffer, shape)


def _references(buffers: list[np.ndarray]) -> list[int]:
  return [sys.getrefcount(buffer) for buffer in buffers]


def zstd_dictionary(frames: np.ndarray) -> zstandard.ZstdCompressionDict:
  """The zstd dictionary that frames (D, 84, 84) make, as plain content."""
  return zstandard.ZstdCompressionDict(
    frames.tobytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
  )


def newest_frames(observations: np.ndarray, place: str) -> np.ndarray:
  """Frames as agents see them, from what environments give.

  Args:
    observations: uint8, any of (T, 84, 84), with a channel before or after, or
      four stacked, the newest last; or screens (T, 210, 160) and (T, 210, 160,
      3), which are made grey and small as Dopamine does.
    place: whose they are, for the error's text.

  Returns:
    uint8 (T, 84, 84).

  Raises:
    UserError: they are of another kind.
  """
  shape = observations.shape[1:]
  if observations.dtype != np.uint8:
    raise UserError(
      f'{place} has observations of {observations.dtype}: frames are uint8, '
      'not scaled.'
    )
  if shape == FRAME_SHAPE:
    return observations
  if shape in ((1, *FRAME_SHAPE), (STACK_SIZE, *FRAME_SHAPE)):
    return observations[:, -1]
  if shape in ((*FRAME_SHAPE, 1), (*FRAME_SHAPE, STACK_SIZE)):
    return np.ascontiguousarray(observations[..., -1])
  if shape[:2] == _SCREEN and shape[2:] in ((), (3,)):
    return np.stack([_small(screen) for screen in observations])
  raise UserError(
    f'{place} has observations {shape}: give {FRAME_SHAPE}, alone or stacked '
    'by four, or screens (210, 160) or (210, 160, 3).'
  )


def _small(screen: np.ndarray) -> np.ndarray:
  if screen.ndim == 3:
    screen = cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)
  return cv2.resize(screen, FRAME_SHAPE, interpolation=cv2.INTER_AREA)
