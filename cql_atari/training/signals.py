"""Ending long work on SIGTERM or Ctrl-C without losing any of it."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stopped(SystemExit):
  """A signal asked for the end, and all progress is saved."""


class StopSignal:
  """Notes the first signal; a second one interrupts at once."""

  def __init__(self):
    self._number = None

  def __bool__(self) -> bool:
    """Whether a signal asked for the end."""
    return self._number is not None

  @contextlib.contextmanager
  def watch(self) -> Iterator[None]:
    """Watches for SIGINT and SIGTERM while the context lasts.

    Only in the main thread, which alone may.
    """
    self._number = None
    if threading.current_thread() is not threading.main_thread():
      yield
      return

    def note(number, frame):
      del frame
      if self:
        raise KeyboardInterrupt
      self._number = number

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in watched]
    try:
      yield
    finally:
      for number, handler in zip(watched, before):
        # None is one that Python did not install.
        signal.signal(number, handler or signal.SIG_DFL)

  def stop(self, where: str) -> None:
    """Ends the program; call it once everything is saved.

    Args:
      where: such as 'gradient step 100', for the message.

    Raises:
      Stopped: always, with the shell's exit status for the signal.
    """
    name = signal.Signals(self._number).name
    print(
      f'\nstopped by {name} and saved at {where}: give the same command again '
      'to go on.',
      flush=True,
    )
    raise Stopped(128 + self._number)
