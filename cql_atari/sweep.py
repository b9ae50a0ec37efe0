"""Runs many runs: python -m cql_atari.sweep --gin_files=sweeps/small.gin.

Needs --base_dir, the folder for all runs. Each is a `cql_atari.train` of its
own in BASE_DIR/GAME/CONFIG/SEED. Give the same command again to go on: what is
done is not run twice.
"""

import dataclasses
import functools
import pathlib

from cql_atari.core import command, gin_text, settings
from cql_atari.core.errors import UserError
from cql_atari.core.files import alone_in, make_folder
from cql_atari.sweeps import execute, plan, ray_engine, watching

_COMMAND = command.Command(__doc__)
_BASE_DIR = _COMMAND.string('base_dir', None, "The sweep's folder.")
_GIN_FILES, _GIN_BINDINGS = _COMMAND.gin(
  'A sweep, such as sweeps/table3.gin. Bindings that are not of the sweep are '
  'for every run.'
)
_ENGINE = _COMMAND.choice(
  'engine', 'local', ['local', 'ray'], 'Where: this machine, or a Ray cluster.'
)
_WORKERS = _COMMAND.integer(
  'workers',
  None,
  'Runs at once on this machine; as many as have room by default.',
  least=1,
)
_RAY_ADDRESS = _COMMAND.string(
  'ray_address', None, "A cluster's address, such as auto."
)
_DRY_RUN = _COMMAND.switch(
  'dry_run', 'Print the plan, with time and disk, and run nothing.'
)
_REQUIRED = 'Sweep.configs'
_FIELDS_OF_MACROS = {
  'GAME': 'games',
  'TASK': 'tasks',
  'SEED': 'seeds',
  'REPLAY_DIR': 'replay_dir',
}


def main() -> int:
  """Sweeps by the flags; 1 where a run failed."""
  if not _GIN_FILES.value or not _BASE_DIR.value:
    raise UserError(
      'give a sweep and a folder for its runs, such as '
      '--gin_files=sweeps/table3.gin --base_dir=runs/table3.'
    )
  sweep = _sweep()
  runs = sweep.runs(_BASE_DIR.value)
  engine = _make_engine(sweep)
  if _DRY_RUN.value:
    for run in runs:
      print(f'{run.state["status"]:8} {run.total_steps:>11,} {run.directory}')
    print(plan.estimate(sweep, runs, engine.workers))
    for folder in sorted({run.replay_dir for run in runs if run.replay_dir}):
      if ':' not in folder and not pathlib.Path(folder).exists():
        print(f'There is no {folder} yet: fetch or collect it first.')
    return 0
  base_dir = make_folder('base_dir', _BASE_DIR.value)
  with alone_in(base_dir, 'sweeping'):
    print(plan.estimate(sweep, runs, engine.workers), flush=True)
    watching.watch(engine, runs)
  failed = [run for run in runs if not run.is_done]
  for run in failed:
    print(f'{run.directory}: {run.state.get("error", run.state["status"])}')
  return 1 if failed else 0


def _make_engine(sweep: plan.Sweep):
  if _ENGINE.value == 'ray':
    return ray_engine.RayEngine(
      _RAY_ADDRESS.value,
      sweep.cpus_per_run,
      sweep.gpus_per_run,
      sweep.max_retries,
    )
  slots = execute.gpu_slots(
    sweep.cpus_per_run, sweep.gpus_per_run, _WORKERS.value
  )
  return execute.LocalEngine(slots, sweep.cpus_per_run, sweep.max_retries)


def _sweep() -> plan.Sweep:
  """The sweep by the flags, with the bindings that are for its runs."""
  named = [
    (name, line)
    for line in _GIN_BINDINGS.value
    for name in gin_text.bindings(line)
  ]
  of_sweep = [line for name, line in named if name.startswith('Sweep.')]
  bound = settings.check(_GIN_FILES.value, of_sweep, _REQUIRED)
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
  settings.parse(_GIN_FILES.value, of_sweep, final=False)
  sweep = plan.Sweep()
  return dataclasses.replace(
    sweep, gin_bindings=(*sweep.gin_bindings, *of_runs)
  )


run = functools.partial(_COMMAND.run, main)

if __name__ == '__main__':
  run()
