"""Public names of a package, imported when they are first used.

TensorFlow takes seconds to import and says much, so `import cql_atari` must not
do so.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

from cql_atari.core import quiet


def exports(
  package: str, modules: dict[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
  """Makes the members a package's `__init__` needs to be lazy.

  Args:
    package: its `__name__`.
    modules: module, relative to the package, to names.

  Returns:
    `__getattr__`, `__dir__` and `__all__`.
  """
  home = {name: module for module, names in modules.items() for name in names}

  def get(name: str) -> Any:
    if name not in home:
      raise AttributeError(f'module {package!r} has no attribute {name!r}')
    is_first = 'tensorflow' not in sys.modules
    with quiet.quiet() if is_first else contextlib.nullcontext():
      module = importlib.import_module(f'{package}.{home[name]}')
    return getattr(module, name)

  return get, lambda: sorted(home), sorted(home)
