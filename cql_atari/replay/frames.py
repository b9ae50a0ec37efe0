"""The frames of a state: their shape, and how they stack."""

import math
import sys
import threading

import cv2
import numpy as np

STACK_SIZE = 4
FRAME_SHAPE = (84, 84)
FRAME_BYTES = FRAME_SHAPE[0] * FRAME_SHAPE[1]


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
  size, alignment = math.prod(shape), 64
  buffer = np.empty(size + alignment, np.uint8)
  start = -buffer.ctypes.data % alignment
  return buffer[start : start + size].reshape(shape)


_KEPT_BUFFERS = 16


class Buffers:
  """Memory for states, used again once nobody refers to it.

  The pages of new memory cost the system more time than filling them.
  """

  def __init__(self):
    """Begins without any; there are soon as many as are in use at a time."""
    self._arrays: list[np.ndarray] = []
    self._lock = threading.Lock()

  def take(self, shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array of this shape, aligned, with whatever is in it."""
    with self._lock:
      for array in self._arrays:
        # The list, the variable and the argument.
        if sys.getrefcount(array) == 3 and array.shape == shape:
          return array
      self._arrays = [*self._arrays[1 - _KEPT_BUFFERS :], aligned_empty(shape)]
      return self._arrays[-1]
