"""Finds a benchmark by its name, which is a field of every run.json."""

import importlib

from cql_atari.core.errors import UserError
from cql_atari.core.protocols import Benchmark

# Modules of higher layers, so they are imported on first use.
_MODULES = {
  'atari': 'cql_atari.training.atari_benchmark',
  'd4rl': 'cql_atari.continuous.d4rl_benchmark',
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
