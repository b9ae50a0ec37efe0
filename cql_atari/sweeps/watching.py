"""Runs a sweep to its end, and shows how it goes."""

import math
import time
from collections.abc import Sequence

import rich.console
import rich.live
import rich.table

from cql_atari.sweeps import plan
from cql_atari.training import signals

_SECONDS_PER_LOOK = 2.0


def watch(engine, runs: Sequence[plan.PlannedRun]) -> None:
  """Starts what is not done, and shows how it goes until all has ended."""
  console, stop_signal = rich.console.Console(), signals.StopSignal()
  seen = {}
  with (
    stop_signal.watch(),
    rich.live.Live(console=console, auto_refresh=False) as live,
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


def table(runs: Sequence[plan.PlannedRun]) -> rich.table.Table:
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
        f'{last[name]:.1f}' if math.isfinite(last.get(name, math.nan)) else ''
        for name in ('steps_per_second', 'eval_return_mean')
      ),
    )
  done = sum(state['status'] == 'done' for state in states)
  shown.caption = f'{done} of {len(runs)} done'
  return shown


def tell_failures(runs: Sequence[plan.PlannedRun]) -> int:
  """Prints why runs failed; returns the exit status, 1 if any did."""
  failed = [run for run in runs if not run.is_done]
  causes = {}
  for run in failed:
    cause = run.state.get('error', run.state['status'])
    causes.setdefault(cause, []).append(str(run.directory))
  for cause, folders in causes.items():
    more = f' and {len(folders) - 1} more' if folders[1:] else ''
    print(f'{folders[0]}{more}: {cause}')
  return 1 if failed else 0
