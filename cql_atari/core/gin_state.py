"""Keeps gin's settings, which are global to a process, apart."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import gin


def value(name: str, default: Any = None) -> Any:
  """What a parameter is bound to, as a Python object; macros are followed."""
  with contextlib.suppress(ValueError):  # Not bound.
    return copy.deepcopy(gin.query_parameter(name))  # Which gin resolves.
  return default


@contextlib.contextmanager
def isolated() -> Iterator[None]:
  """Clears gin's configuration on entry and restores it on exit."""
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
