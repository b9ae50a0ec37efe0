"""Finds a benchmark by its name, which is a field of every run.json."""

import importlib

from cql_atari.core.errors import UserError
from cql_atari.core.protocols import Benchmark

# Rooms above this one: they are imported when first asked for.
_MODULES = {
  'atari': 'cql_atari.training.atari',
  'd4rl': 'cql_atari.continuous.d4rl',
  'gymnasium': 'cql_atari.continuous.gymnasium_tasks',
}


def load(name: str) -> Benchmark:
  """The benchmark of a name, such as 'atari'.

  Raises:
    UserError: there is none.
  """
  if name not in _MODULES:
    raise UserError(
      f'there is no benchmark {name!r}: it is one of {", ".join(_MODULES)}.'
    )
  return importlib.import_module(_MODULES[name]).BENCHMARK
