"""Pictures of a task, drawn in a process of their own.

MuJoCo's software renderer and TensorFlow, in one process, crash it: each brings
its own LLVM. So a second process plays the same episode and draws it. It reads
lines of JSON, and answers a request for a picture with its shape, a line of
JSON, and its bytes.
"""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from cql_atari.core.errors import UserError


class Mirror:
  """A copy of the first environment, rendered in a subprocess.

  The subprocess ends with this process, which closes its standard input.
  """

  def __init__(self, task: str, max_steps_per_episode: int):
    """Starts the process.

    Args:
      task: the task's name.
      max_steps_per_episode: as of the environments.
    """
    renderer = os.environ.get('MUJOCO_GL', 'disable')
    if renderer == 'disable':  # As it is set here, where nothing is drawn.
      renderer = 'egl'
    self._said = tempfile.TemporaryFile()  # noqa: SIM115
    self._process = subprocess.Popen(
      [sys.executable, '-c', f'from {__name__} import serve; serve()'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._said,
      env={**os.environ, 'MUJOCO_GL': renderer},
    )
    self._send({'task': task, 'max_steps_per_episode': max_steps_per_episode})

  def reset(self, seed: int) -> None:
    """Begins the episode that `reset` of the environments begins."""
    self._send({'reset': seed})

  def step(self, action: np.ndarray) -> None:
    """Takes the same step."""
    self._send({'step': action.tolist()})

  def picture(self) -> np.ndarray:
    """Renders the current state: uint8 (H, W, 3), RGB.

    Raises:
      UserError: nothing can be drawn here.
    """
    self._send({'draw': True})
    if not (line := self._process.stdout.readline()):
      self._give_up()
    shape = json.loads(line)
    data = self._process.stdout.read(int(np.prod(shape)))
    return np.frombuffer(data, np.uint8).reshape(shape)

  def _send(self, message: dict[str, Any]) -> None:
    try:
      self._process.stdin.write(json.dumps(message).encode() + b'\n')
      self._process.stdin.flush()
    except BrokenPipeError:
      self._give_up()

  def _give_up(self) -> None:
    self._process.wait()
    self._said.seek(0)
    said = self._said.read().decode(errors='replace').split('\n')
    last = next((line for line in reversed(said) if line.strip()), 'it died')
    raise UserError(
      f'MuJoCo cannot draw here ({last.strip()}): set MUJOCO_GL to egl, osmesa '
      'or glfw, whichever is installed.'
    )


def serve() -> None:
  """Plays and draws as it is told: the second process."""
  from cql_atari.continuous import environments

  # Libraries print on standard output, which is for pictures here.
  out = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  played = None
  for line in sys.stdin:
    message = json.loads(line)
    if 'task' in message:
      played = environments.D4RLEnvironments(
        message['task'], 1, message['max_steps_per_episode']
      )
      played.draws = True
    elif 'reset' in message:
      played.reset(message['reset'])
    elif 'step' in message:
      played.step(np.array([message['step']]))
    else:
      picture = np.ascontiguousarray(played.drawn())
      out.write(json.dumps(picture.shape).encode() + b'\n')
      out.write(picture.tobytes())
      out.flush()
  os._exit(0)  # OpenGL's own end-of-process code fails without a display.
