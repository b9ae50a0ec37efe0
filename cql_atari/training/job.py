"""The base of long, resumable work.

A job can be killed at any moment and resumes from its newest checkpoint; on
SIGTERM and Ctrl-C it saves one first. A subclass defines the state to save.
"""

import abc
import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from cql_atari.core.errors import OtherSettingsError, UserError
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
    fixed_settings: dict[str, Any],
    alternative: str,
    keep: int = 2,
    keep_every: int = 1,
  ):
    """Begins at step 0; `resume` goes back to the newest checkpoint.

    Args:
      folder: the run folder.
      checkpoint_minutes: minutes between checkpoints.
      fixed_settings: settings that must not change when the job is resumed.
      alternative: what to give for other settings, such as 'a new --base_dir',
        for the error's text.
      keep: checkpoints at multiples of `keep_every` to keep, besides the newest
        two of the others.
      keep_every: steps between checkpoints that `keep` counts.
    """
    self.folder, self.wall_seconds = pathlib.Path(folder), 0.0
    self._checkpoints = RunFolder(self.folder).checkpoints
    self._checkpoint_seconds = 60 * checkpoint_minutes
    self._fixed_settings, self._alternative = fixed_settings, alternative
    self._keep, self._keep_every = keep, keep_every
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
    began = data.get('fixed', data)
    for name, value in self._fixed_settings.items():
      if name not in began and value is not None:
        raise UserError(
          f'the run in {self.folder} was begun without {name}, or by another '
          f'version of cql_atari: go on so, or give {self._alternative}.'
        )
      if began.get(name) != value:
        raise OtherSettingsError(
          f'the run in {self.folder} began with {name} {began[name]}, not '
          f'{value}: give that, or {self._alternative}.'
        )
    self.wall_seconds = data['wall_seconds']
    self.load_state(arrays, data)

  def save(self) -> None:
    """Writes a checkpoint.

    Raises:
      UserError: the disk is full; older checkpoints remain.
    """
    arrays, data = self.state()
    data |= {'fixed': self._fixed_settings, 'wall_seconds': self.wall_seconds}
    with writing(
      f'the checkpoint in {self._checkpoints}',
      'make room and give the same command again; older checkpoints are safe',
    ):
      checkpoints.save(
        self._checkpoints, self.step, arrays, data, self._keep, self._keep_every
      )
    self._saved_at = time.monotonic()

  @contextlib.contextmanager
  def working(self) -> Iterator[None]:
    """Watches for signals."""
    with self._stop_signal.watch():
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
