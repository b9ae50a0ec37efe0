"""The base of long, resumable work.

A job is killed at any moment and goes on from its newest checkpoint; SIGTERM
and Ctrl-C save first. A subclass says what its state is.
"""

import abc
import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from cql_atari.core.files import writing
from cql_atari.core.protocols import Arrays
from cql_atari.runs import checkpoints
from cql_atari.runs.folder import RunFolder
from cql_atari.training import signals


class Job(abc.ABC):
  """Work in a folder, saved every few minutes.

  Attributes:
    folder: where everything is written.
    wall_seconds: spent on it so far, restarts included.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    checkpoint_minutes: float,
    fixed: dict[str, Any],
    elsewhere: str,
    keep: int = 1,
    every: int = 1,
  ):
    """Begins at step 0; `resume` goes back to the newest checkpoint.

    Args:
      folder: the run folder.
      checkpoint_minutes: minutes between checkpoints.
      fixed: settings that a resumed job has to share with the one that began.
      elsewhere: what to give for a job of other settings, such as 'a new
        --base_dir', for the error's text.
      keep: checkpoints kept at multiples of `every`, besides the newest two.
      every: steps.
    """
    self.folder, self.wall_seconds = pathlib.Path(folder), 0.0
    self._checkpoints = RunFolder(self.folder).checkpoints
    self._checkpoint_seconds = 60 * checkpoint_minutes
    self._fixed, self._elsewhere = fixed, elsewhere
    self._keep, self._every = keep, every
    self._stop_signal = signals.StopSignal()
    self._saved_at = time.monotonic()

  @property
  @abc.abstractmethod
  def step(self) -> int:
    """The number of steps done; checkpoints are named after it."""

  @abc.abstractmethod
  def state(self) -> tuple[Arrays, dict[str, Any]]:
    """The content of a checkpoint: arrays, and JSON-compatible data."""

  @abc.abstractmethod
  def load_state(self, arrays: Arrays, data: dict[str, Any]) -> None:
    """Goes back to what `state` gave."""

  @abc.abstractmethod
  def place(self) -> str:
    """The position in words, such as 'gradient step 100'."""

  def resume(self) -> None:
    """Goes back to the newest whole checkpoint, if there is one.

    Raises:
      UserError: it was begun with other settings, or all are damaged.
    """
    newest = checkpoints.load_newest(self._checkpoints)
    if newest is None:
      return
    _, arrays, data = newest
    checkpoints.check_same(
      self.folder, data.get('fixed', data), self._fixed, self._elsewhere
    )
    self.wall_seconds = data['wall_seconds']
    self.load_state(arrays, data)

  def save(self) -> None:
    """Writes a checkpoint.

    Raises:
      UserError: the disk is full; older checkpoints remain.
    """
    arrays, data = self.state()
    data |= {'fixed': self._fixed, 'wall_seconds': self.wall_seconds}
    with writing(
      f'the checkpoint in {self._checkpoints}',
      'make room and give the same command again; older checkpoints are safe',
    ):
      checkpoints.save(
        self._checkpoints, self.step, arrays, data, self._keep, self._every
      )
    self._saved_at = time.monotonic()

  @contextlib.contextmanager
  def working(self) -> Iterator[None]:
    """Watches for signals, and reports a full disk in a sentence."""
    with writing(self.folder), self._stop_signal.watch():
      self._saved_at = time.monotonic()
      yield

  @contextlib.contextmanager
  def timed(self) -> Iterator[None]:
    """Counts what is done meanwhile as time spent."""
    began = time.monotonic()
    try:
      yield
    finally:
      self.wall_seconds += time.monotonic() - began

  def pause(self, save: bool = True) -> None:
    """Call it between pieces of work: stops if asked to, saves if it is time.

    Args:
      save: whether there is something that is not saved yet.

    Raises:
      Stopped: a signal asked for the end; everything is saved.
    """
    is_due = time.monotonic() - self._saved_at > self._checkpoint_seconds
    if save and (is_due or self._stop_signal):
      self.save()
    if self._stop_signal:
      self._stop_signal.stop(self.place())
