"""Runs many runs: python -m cql_atari.sweep --gin_files=sweeps/small.gin.

Each run is a `cql_atari.train` of its own in BASE_DIR/GAME/CONFIG/SEED. Give
the same command again to go on: what is done is not run twice.
"""

import dataclasses
import time

import rich.console
import rich.live
import rich.table
from absl import flags

from cql_atari.core import errors, locks, settings
from cql_atari.core.files import make_folder
from cql_atari.sweeps import execute, plan, ray_engine
from cql_atari.training import signals

_BASE_DIR = flags.DEFINE_string('base_dir', None, "The sweep's folder.")
_GIN_FILES = flags.DEFINE_multi_string(
  'gin_files', [], 'A sweep, such as sweeps/table3.gin; repeatable.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
  'gin_bindings',
  [],
  'A gin binding, such as "Sweep.seeds=[0]"; one not of the sweep, such as '
  '"Adam.learning_rate=1e-4", is for every run. Repeatable.',
)
_ENGINE = flags.DEFINE_enum(
  'engine', 'local', ['local', 'ray'], 'Where: this machine, or a Ray cluster.'
)
_WORKERS = flags.DEFINE_integer(
  'workers',
  None,
  'Runs at once on this machine; as many as have room by default.',
  lower_bound=1,
)
_RAY_ADDRESS = flags.DEFINE_string(
  'ray_address', None, "A cluster's address, such as auto."
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Print the plan, with time and disk, and run nothing.'
)
_SECONDS_PER_LOOK = 2.0
_OWN_MACROS = {
  'GAME': 'games',
  'TASK': 'tasks',
  'SEED': 'seeds',
  'REPLAY_DIR': 'replay_dir',
}


def main() -> int:
  """Sweeps by the flags."""
  if not _GIN_FILES.value or not _BASE_DIR.value:
    raise errors.UserError(
      'give a sweep and a folder for its runs, such as '
      '--gin_files=sweeps/table3.gin --base_dir=runs/table3.'
    )
  sweep = _sweep()
  runs = sweep.runs(_BASE_DIR.value)
  if _ENGINE.value == 'ray':
    engine = ray_engine.RayEngine(
      _RAY_ADDRESS.value,
      sweep.cpus_per_run,
      sweep.gpus_per_run,
      sweep.max_retries,
    )
  else:
    slots = execute.gpu_slots(
      sweep.cpus_per_run, sweep.gpus_per_run, _WORKERS.value
    )
    engine = execute.LocalEngine(slots, sweep.cpus_per_run, sweep.max_retries)
  if _DRY_RUN.value:
    for run in runs:
      print(f'{run.state["status"]:8} {run.total_steps:>11,} {run.directory}')
    print(plan.estimate(sweep, runs, engine.workers))
    folders = {run.replay_dir for run in runs if run.replay_dir}
    for folder in sorted(folders):
      if not folder.exists():
        print(f'There is no {folder} yet: fetch or collect it first.')
    return 0
  base_dir = make_folder('base_dir', _BASE_DIR.value)
  with locks.alone_in(base_dir, 'sweeping'):
    print(plan.estimate(sweep, runs, engine.workers), flush=True)
    watch(engine, runs)
  failed = [run for run in runs if not run.is_done]
  for run in failed:
    print(f'{run.directory}: {run.state.get("error", run.state["status"])}')
  return 1 if failed else 0


def _sweep() -> plan.Sweep:
  """The sweep by the flags, with the bindings that are for its runs."""
  of_sweep = [b for b in _GIN_BINDINGS.value if b.strip().startswith('Sweep.')]
  of_runs = []
  bound = settings.check(_GIN_FILES.value, of_sweep, required='Sweep.configs')
  for binding in _GIN_BINDINGS.value:
    name = binding.split('=')[0].strip()
    if name in _OWN_MACROS:
      raise errors.UserError(
        f'--gin_bindings="{binding}": a sweep has Sweep.{_OWN_MACROS[name]} '
        'for it.'
      )
    if binding not in of_sweep:
      (of_sweep if name in bound else of_runs).append(binding)
  for name in bound:
    if '.' in name and not name.startswith('Sweep.'):
      raise errors.UserError(
        f'the gin files of the sweep bind {name}, which its runs never see: '
        'put it into Sweep.gin_bindings.'
      )
  settings.parse(
    _GIN_FILES.value, of_sweep, final=False, required='Sweep.configs'
  )
  try:
    sweep = plan.Sweep()
  except TypeError as error:
    raise errors.UserError(settings.one_line(error)) from None
  return dataclasses.replace(
    sweep, gin_bindings=(*sweep.gin_bindings, *of_runs)
  )


def watch(engine, runs: list[plan.Run]) -> None:
  """Starts what is not done, and shows how it goes until all has ended."""
  console, stop_signal = rich.console.Console(), signals.StopSignal()
  seen = {}
  with (
    stop_signal.watch(),
    rich.live.Live(
      console=console, auto_refresh=False, transient=False
    ) as live,
  ):
    # A signal that comes from here on stops the runs as well.
    engine.start([run for run in runs if not run.is_done])
    working = True
    while working:
      working = engine.is_working
      if stop_signal:
        engine.stop()
        live.update(table(runs), refresh=True)
        stop_signal.stop('the last checkpoint of every run')
      if console.is_terminal:
        live.update(table(runs), refresh=True)
      else:
        for run in runs:
          status = run.state['status']
          if seen.get(run, 'waiting') != status:
            print(f'{status}: {run.directory}', flush=True)
          seen[run] = status
      if working:
        time.sleep(_SECONDS_PER_LOOK)
  if not console.is_terminal:
    console.print(table(runs))


def table(runs: list[plan.Run]) -> rich.table.Table:
  """One row a run that has begun; those that wait are counted."""
  shown = rich.table.Table('run', 'status', 'steps', 'steps/s', 'last return')
  states = [run.state for run in runs]
  for run, state in zip(runs, states):
    if state['status'] == 'waiting':
      continue
    last = run.last_metrics
    shown.add_row(
      '/'.join(run.directory.parts[-3:]),
      state['status'] + (f' ({n})' if (n := state['attempts']) > 1 else ''),
      f'{run.steps_done:,} / {run.total_steps:,}',
      *(
        f'{float(last[name]):.1f}' if last.get(name) else ''
        for name in ('steps_per_second', 'eval_return_mean')
      ),
    )
  done = sum(state['status'] == 'done' for state in states)
  shown.caption = f'{done} of {len(runs)} done'
  return shown


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
