"""A sweep from its gin files, with bindings for itself and for its runs."""

import dataclasses
from collections.abc import Sequence

from cql_atari.core import gin_text, settings
from cql_atari.core.errors import UserError
from cql_atari.sweeps import plan

_REQUIRED = 'Sweep.configs'
_FIELDS_OF_MACROS = {
  'GAME': 'games',
  'TASK': 'tasks',
  'SEED': 'seeds',
  'REPLAY_DIR': 'replay_dir',
}


def read(gin_files: Sequence[str], gin_bindings: Sequence[str]) -> plan.Sweep:
  """Reads a sweep.

  Args:
    gin_files: the sweep's.
    gin_bindings: those of the sweep change it; others are for its runs.

  Raises:
    UserError: a mistake in these, or a binding that would change nothing.
  """
  named = [
    (name, line) for line in gin_bindings for name in gin_text.bindings(line)
  ]
  of_sweep = [line for name, line in named if name.startswith('Sweep.')]
  bound = settings.check(gin_files, of_sweep, _REQUIRED, 'sweeps/table3.gin')
  of_runs = []
  for name, line in named:
    if name in _FIELDS_OF_MACROS:
      raise UserError(
        f'--gin_bindings="{line}": a sweep has Sweep.{_FIELDS_OF_MACROS[name]} '
        'for it.'
      )
    if line not in of_sweep:
      (of_sweep if name in bound else of_runs).append(line)
  for name in bound:
    if '.' in name and not name.startswith('Sweep.'):
      raise UserError(
        f'the gin files of the sweep bind {name}, which its runs never see: '
        'put it into Sweep.gin_bindings.'
      )
  settings.parse(gin_files, of_sweep, lock=False)
  sweep = plan.Sweep()
  return dataclasses.replace(
    sweep, gin_bindings=(*sweep.gin_bindings, *of_runs)
  )
