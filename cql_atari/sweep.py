"""Runs many runs: python -m cql_atari.sweep --gin_files=sweeps/small.gin.

Needs --base_dir, the folder for all runs. Each is a `cql_atari.train` of its
own in BASE_DIR/GAME/CONFIG/SEED. Give the same command again to go on: what is
done is not run twice.
"""

from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import exclusive_lock, output_folder
from cql_atari.sweeps import execute, plan, ray_engine, reading, watching

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


def main() -> int:
  """Sweeps by the flags; 1 where a run failed."""
  if not _GIN_FILES.value or not _BASE_DIR.value:
    raise UserError(
      'give a sweep and a folder for its runs, such as '
      '--gin_files=sweeps/table3.gin --base_dir=runs/table3.'
    )
  sweep = reading.read(_GIN_FILES.value, _GIN_BINDINGS.value)
  runs = sweep.runs(_BASE_DIR.value)
  engine = _make_engine(sweep)
  if _DRY_RUN.value:
    print(plan.describe(sweep, runs, engine.workers))
    return 0
  if _ENGINE.value == 'local':
    plan.check_data(runs)
  with (
    output_folder('--base_dir', _BASE_DIR.value) as base_dir,
    exclusive_lock(base_dir, 'sweeping'),
  ):
    print(plan.estimate(sweep, runs, engine.workers), flush=True)
    watching.watch(engine, runs)
  print(
    f'The report: python -m cql_atari.report --runs={base_dir} --out=report'
  )
  return watching.tell_failures(runs)


def _make_engine(sweep: plan.Sweep):
  if _RAY_ADDRESS.value and _ENGINE.value != 'ray':
    raise UserError('--ray_address goes with --engine=ray: give that too.')
  if _WORKERS.value and _ENGINE.value == 'ray':
    raise UserError('--workers is of this machine: Ray takes what fits there.')
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


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
