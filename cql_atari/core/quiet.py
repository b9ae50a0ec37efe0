"""A quiet terminal: third-party start-up noise is off unless asked for."""

import contextlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

from absl import flags

_OPTIONAL = ('jax', 'matplotlib', 'pandas')


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Silences stderr while TensorFlow, JAX and Gym start up.

  Their C++ parts write to the file descriptor before any log level applies, so
  the descriptor itself is diverted. `--verbosity=1` lets everything through,
  and what was held back is shown when the block fails.
  """
  if flags.FLAGS.is_parsed() and flags.FLAGS.verbosity > 0:
    yield
    return
  # Errors that matter are raised; the graph optimizer logs as errors what it
  # merely gives up on, such as fusing residual blocks.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  _diversion.begin()
  try:
    yield
  except Exception:
    _diversion.show()
    raise
  finally:
    _diversion.end()


class _Diversion:
  """Holds back what goes to stderr, while any thread asks for it."""

  def __init__(self):
    self._lock, self._users = threading.Lock(), 0

  def begin(self) -> None:
    with self._lock:
      if not self._users:
        sys.stderr.flush()
        self._held = tempfile.TemporaryFile()  # noqa: SIM115
        self._stderr = os.dup(2)
        os.dup2(self._held.fileno(), 2)
      self._users += 1

  def show(self) -> None:
    with self._lock:
      sys.stderr.flush()
      self._held.seek(0)
      os.write(self._stderr, self._held.read())

  def end(self) -> None:
    with self._lock:
      self._users -= 1
      if not self._users:
        sys.stderr.flush()
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        self._held.close()


_diversion = _Diversion()


def import_tensorflow() -> None:
  """Imports TensorFlow without optional dependencies (_OPTIONAL).

  TensorFlow and Keras import these where they are installed, which takes a
  third of the import time.
  """
  if 'tensorflow' in sys.modules:
    return
  left_out = [name for name in _OPTIONAL if name not in sys.modules]
  sys.modules.update(dict.fromkeys(left_out))
  try:
    import tensorflow  # noqa: F401
  finally:
    for name in left_out:
      del sys.modules[name]
