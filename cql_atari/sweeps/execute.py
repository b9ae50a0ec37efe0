"""Runs of a sweep as processes of this machine.

They are forked from one process that has imported TensorFlow already, which
takes half the time that a run needs to start.
"""

import contextlib
import math
import multiprocessing
import os
import pathlib
import queue
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess

from cql_atari.core import devices
from cql_atari.core.errors import BusyError, UserError
from cql_atari.sweeps.plan import PlannedRun

_SECONDS_BETWEEN_RETRIES = 5.0
_SECONDS_WHILE_BUSY = 60.0  # Whoever holds the folder may take hours.

# Starting a process asks how all others ended, which only one may ask.
_ONE_AT_A_TIME = threading.Lock()
_FORKING = multiprocessing.get_context('forkserver')
_FORKING.set_forkserver_preload(['cql_atari.sweeps.preload'])


def execute(
  run: PlannedRun,
  max_retries: int,
  cpus: int,
  gpu: str | None = None,
  owns_gpu: bool = False,
  stopped: threading.Event | None = None,
  on_start: Callable[[BaseProcess], None] = lambda process: None,
) -> None:
  """Trains a run to its end, in a process that ends when this one does.

  A crash is tried again, from the run's checkpoint; a mistake in its settings
  (exit status 2) is not. A folder that another process holds is waited for. The
  run folder's `sweep.json` has the state.

  Args:
    run: what to train.
    max_retries: how often to try again.
    cpus: how many threads compute.
    gpu: what CUDA_VISIBLE_DEVICES should be, if anything.
    owns_gpu: whether no other run is on it, so that this one may fill it.
    stopped: once it is set, no process is started any more.
    on_start: is given each process.
  """
  stopped = stopped or threading.Event()
  try:
    environment = _environment(cpus, gpu, owns_gpu)
    _execute(run, max_retries, environment, stopped, on_start)
  except OSError as error:  # Such as a full disk, or no more processes.
    sys.stderr.write(f'{run.directory} cannot be run here ({error}).\n')


def _execute(run, max_retries, environment, stopped, on_start) -> None:
  attempts, retries = run.state.get('attempts', 0), 0
  run.directory.mkdir(parents=True, exist_ok=True)
  while not run.is_done and not stopped.is_set():
    attempts += 1
    values = {'attempts': attempts, 'host': socket.gethostname()}
    process = _FORKING.Process(
      target=_train,
      args=(_flags(run), run.directory / 'train.log', environment),
    )
    with _ONE_AT_A_TIME, _no_signals():
      process.start()
    run.write_state(status='running', pid=process.pid, **values)
    on_start(process)
    connection.wait([process.sentinel])
    with _ONE_AT_A_TIME:
      status = process.exitcode
    error = _last_line(run.directory / 'train.log')
    if status < 0:
      error = f'killed by {signal.Signals(-status).name} after "{error}"'
    if status == 0:
      run.write_state(status='done', **values)
    elif stopped.is_set():
      run.write_state(status='stopped', **values)
    elif status == BusyError.status:
      run.write_state(status='busy', error=error, **values)
      stopped.wait(_SECONDS_WHILE_BUSY)
    elif status == UserError.status or retries == max_retries:
      run.write_state(status='failed', error=error, **values)
      return
    else:
      retries += 1
      run.write_state(status='retrying', error=error, **values)
      stopped.wait(_SECONDS_BETWEEN_RETRIES)


def _flags(run: PlannedRun) -> list[str]:
  return [
    f'--base_dir={run.directory}',
    *(f'--gin_files={name}' for name in run.gin_files),
    *(f'--gin_bindings={binding}' for binding in run.gin_bindings),
  ]


def _environment(cpus: int, gpu: str | None, owns_gpu: bool) -> dict[str, str]:
  of_gpu = {} if gpu is None else {'CUDA_VISIBLE_DEVICES': gpu}
  if not owns_gpu:  # Takes memory as it needs it.
    of_gpu['TF_FORCE_GPU_ALLOW_GROWTH'] = 'true'
  return {'TF_NUM_INTRAOP_THREADS': str(cpus), **of_gpu}


_FOR_THE_SWEEP = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
  """For processes started in it: what a terminal or cluster sends to all of a
  sweep's processes is for the sweep to pass on.
  """
  resource_tracker.ensure_running()  # It would let signals through again.
  before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_SWEEP)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _train(
  flags: list[str], log: pathlib.Path, environment: dict[str, str]
) -> None:
  """What `python -m cql_atari.train` does, in the process forked for it."""
  threading.Thread(target=_end_with_the_sweep, daemon=True).start()
  multiprocessing.set_start_method(None, force=True)  # As it is elsewhere.
  os.setsid()  # No terminal's signals.
  signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_SWEEP)
  with open(log, 'ab') as file:
    os.dup2(file.fileno(), 1)  # Standard output and error, whatever they were.
    os.dup2(file.fileno(), 2)
  os.environ.update(environment)
  sys.argv = ['cql_atari.train', *flags]
  runpy.run_module('cql_atari.train', run_name='__main__')


def _end_with_the_sweep() -> None:
  """A sweep that is killed leaves no run behind that locks its folder."""
  multiprocessing.parent_process().join()
  os.kill(os.getpid(), signal.SIGKILL)


def _last_line(log: pathlib.Path) -> str:
  text = log.read_text(errors='replace') if log.exists() else ''
  lines = text.strip().splitlines()
  return lines[-1] if lines else 'it said nothing'


def gpu_slots(
  cpus_per_run: int, gpus_per_run: float, workers: int | None = None
) -> list[str | None]:
  """The GPUs of each run that may go at once on this machine.

  Args:
    cpus_per_run: processors of each.
    gpus_per_run: GPUs of each; fractions share one.
    workers: how many, whatever the machine has; as many as fit by default.

  Returns:
    CUDA_VISIBLE_DEVICES of each, or None without GPUs.

  Raises:
    UserError: a run asks for more GPUs than there are.
  """
  fits = devices.cores() // cpus_per_run
  gpus = _gpus() if gpus_per_run else []
  if not gpus:
    return [None] * (workers or max(1, fits))
  if gpus_per_run > len(gpus):
    raise UserError(
      f'Sweep.gpus_per_run is {gpus_per_run}, but this machine has {len(gpus)}.'
    )
  if gpus_per_run < 1:
    # One run on every GPU before any two on one.
    shares = gpus * int(1 / gpus_per_run)
  else:
    each = math.ceil(gpus_per_run)
    shares = [
      ','.join(gpus[first : first + each])
      for first in range(0, len(gpus) - each + 1, each)
    ]
  count = workers or max(1, min(fits, len(shares)))
  return [shares[slot % len(shares)] for slot in range(count)]


def _gpus() -> list[str]:
  """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
  if 'CUDA_VISIBLE_DEVICES' in os.environ:
    visible = os.environ['CUDA_VISIBLE_DEVICES'].split(',')
    return [gpu for gpu in visible if gpu not in ('', '-1')]
  if not shutil.which('nvidia-smi'):
    return []
  listed = subprocess.run(
    ['nvidia-smi', '-L'], capture_output=True, text=True, check=False
  )
  gpus = [line for line in listed.stdout.splitlines() if line[:4] == 'GPU ']
  return [str(index) for index in range(len(gpus))]


class LocalEngine:
  """Runs processes side by side on this machine.

  Attributes:
    workers: how many run at once.
  """

  def __init__(
    self, gpu_slots: Sequence[str | None], cpus_per_run: int, max_retries: int
  ):
    """Runs as many at once as there are slots."""
    self._gpu_slots, self._cpus_per_run = gpu_slots, cpus_per_run
    self._max_retries = max_retries
    self.workers = len(gpu_slots)
    self._processes, self._stopped = [], threading.Event()

  def start(self, runs: Sequence[PlannedRun]) -> None:
    """Begins with the runs; returns at once."""
    waiting = queue.SimpleQueue()
    for run in runs:
      waiting.put(run)
    self._threads = [
      threading.Thread(target=self._work, args=(waiting, gpu), daemon=True)
      for gpu in self._gpu_slots
    ]
    for thread in self._threads:
      thread.start()

  def _work(self, waiting, gpu) -> None:
    while not self._stopped.is_set():
      try:
        run = waiting.get_nowait()
      except queue.Empty:
        return
      execute(
        run,
        self._max_retries,
        self._cpus_per_run,
        gpu,
        self._gpu_slots.count(gpu) == 1,
        self._stopped,
        self._note,
      )

  def _note(self, process: BaseProcess) -> None:
    self._processes.append(process)
    if self._stopped.is_set():
      process.terminate()

  @property
  def is_working(self) -> bool:
    """Whether anything is left to do."""
    return any(thread.is_alive() for thread in self._threads)

  def stop(self) -> None:
    """Lets every run save and stop, and waits for it."""
    self._stopped.set()
    for process in self._processes:
      process.terminate()  # Does nothing to those that have ended.
    for thread in self._threads:
      thread.join()
