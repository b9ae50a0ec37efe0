"""d3rlpy's CQL in another environment, as `parity.py` trains and asks it."""

import json
import pathlib
import subprocess

import numpy as np

from cql_atari.core.errors import UserError


class Peer:
  """d3rlpy in its own environment."""

  def __init__(self, python: str, log: pathlib.Path, settings, arrays, folder):
    """Starts it and hands the data over.

    Args:
      python: the interpreter of its environment.
      log: where what it says is appended.
      settings: of the algorithm, as `d3rlpy_peer.py` reads them.
      arrays: the data's columns by name, and the row after each episode.
      folder: for the file of the data.
    """
    path = pathlib.Path(folder) / 'data.npz'
    np.savez(path, **arrays)
    program = pathlib.Path(__file__).with_name('d3rlpy_peer.py')
    self._process = subprocess.Popen(
      [python, str(program)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=open(log, 'ab'),  # noqa: SIM115
      cwd=folder,
    )
    self._log = log
    self._send({**settings, 'data': str(path)})

  def _send(self, message, data: bytes = b''):
    self._process.stdin.write(json.dumps(message).encode() + b'\n' + data)
    self._process.stdin.flush()

  def _receive(self, *shape: int) -> np.ndarray:
    data = self._process.stdout.read(4 * int(np.prod(shape)))
    if len(data) < 4 * np.prod(shape):
      raise UserError(f'd3rlpy ended early: see {self._log}.')
    return np.frombuffer(data, np.float32).reshape(shape)

  def train(self, steps: int) -> None:
    """Takes gradient steps."""
    self._send({'train': steps})
    self._receive(1)

  def save(self, path: pathlib.Path) -> None:
    """Writes networks and optimizers into a file."""
    self._send({'save': str(path.resolve())})
    self._receive(1)

  def load(self, path: pathlib.Path) -> None:
    """Restores what `save` wrote."""
    self._send({'load': str(path.resolve())})
    self._receive(1)

  def ask(self, what: str, states: np.ndarray, width: int | None) -> np.ndarray:
    """Q-values or actions of states."""
    message = {'what': what, 'shape': states.shape}
    self._send(message, np.ascontiguousarray(states).tobytes())
    return self._receive(len(states), *(() if width is None else (width,)))
