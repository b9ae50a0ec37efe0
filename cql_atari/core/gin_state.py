"""Keeps gin's settings, which are global to a process, apart."""

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

import gin

from cql_atari.core.errors import BusyError

_LOCK = threading.RLock()


def value(name: str, default: Any = None) -> Any:
  """What a parameter is bound to, as a Python object; macros are followed."""
  with contextlib.suppress(ValueError):  # Not bound.
    return copy.deepcopy(gin.query_parameter(name))  # Which gin resolves.
  return default


@contextlib.contextmanager
def isolated() -> Iterator[None]:
  """Clears gin's configuration on entry and restores it on exit.

  Raises:
    BusyError: another thread is in such a context.
  """
  if not _LOCK.acquire(blocking=False):
    raise BusyError(
      'another thread of this process trains or opens a run, and settings are '
      "the whole process's: wait for it, or use a process for each."
    )
  try:
    with _isolated():
      yield
  finally:
    _LOCK.release()


@contextlib.contextmanager
def _isolated() -> Iterator[None]:
  config = gin.config
  stores = config._CONFIG, config._SINGLETONS, config._OPERATIVE_CONFIG
  was_locked, imports = gin.config_is_locked(), set(config._IMPORTS)
  kept = [
    {k: dict(v) if isinstance(v, dict) else v for k, v in store.items()}
    for store in stores
  ]
  gin.clear_config()
  try:
    yield
  finally:
    gin.clear_config()
    for store, content in zip(stores, kept):
      store.update(content)
    config._IMPORTS.update(imports)
    config._set_config_is_locked(was_locked)
