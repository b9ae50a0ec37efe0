"""Keeps two processes from working in one folder."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from cql_atari.core.errors import UserError
from cql_atari.core.files import writing


@contextlib.contextmanager
def alone_in(folder: pathlib.Path, doing: str) -> Iterator[None]:
  """Holds a folder for this process; the system lets go of it at any end.

  Args:
    folder: an existing folder.
    doing: what it is held for, such as 'training', for the error's text.

  Raises:
    UserError: another process holds it, or it can't be written.
  """
  with writing(folder, 'choose another folder'):
    lock = open(folder / '.lock', 'w')  # noqa: SIM115
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        f'another process is {doing} in {folder}: choose another folder, or '
        'wait for it.'
      ) from None
    yield
