"""Runs of a sweep as tasks of a Ray cluster.

Run folders lie in storage that every node shares. A task whose node is lost is
given to another one, where its run goes on from its checkpoint.
"""

import contextlib
import signal
import socket
import threading
from collections.abc import Sequence
from concurrent import futures

from cql_atari.core.errors import UserError
from cql_atari.sweeps import execute
from cql_atari.sweeps.plan import PlannedRun


class RayEngine:
  """Gives each run to a node with room for it.

  Attributes:
    workers: how many runs go at once on the whole cluster.
  """

  def __init__(
    self,
    address: str | None,
    cpus_per_run: int,
    gpus_per_run: float,
    max_retries: int,
  ):
    """Connects to a cluster, or starts one of this machine.

    Args:
      address: the cluster's address, such as 'auto'; None for this machine.
      cpus_per_run: processors reserved for each run.
      gpus_per_run: GPUs reserved for each run, such as 0.25.
      max_retries: how often a run that crashed is tried again; nodes may be
        lost any number of times.

    Raises:
      UserError: Ray is not installed, there is no such cluster, or none of its
        nodes has room for a run.
    """
    try:
      import ray
    except ImportError:
      raise UserError(
        "--engine=ray needs Ray: pip install 'cql_atari[sweep]'."
      ) from None
    self._ray = ray
    if not ray.is_initialized():
      try:
        _reach(address)
        ray.init(address, log_to_driver=False, logging_level='ERROR')
      except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
          f'there is no Ray cluster at {address!r} ({error}): start one with '
          "'ray start --head', or leave --ray_address out."
        ) from None
    nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
    if not any(node.get('GPU') for node in nodes):
      gpus_per_run = 0  # As on a machine without one.
    self.workers = sum(
      _room(node, cpus_per_run, gpus_per_run) for node in nodes
    )
    if not self.workers:
      raise UserError(
        f'no node of the Ray cluster has {cpus_per_run} processors and '
        f'{gpus_per_run:g} GPUs for a run: lower Sweep.cpus_per_run or '
        'Sweep.gpus_per_run.'
      )
    self._task = ray.remote(
      num_cpus=cpus_per_run,
      num_gpus=gpus_per_run,
      max_retries=-1,
      # Each in a process of its own, which dies with what it started.
      max_calls=1,
    )(_execute)
    self._arguments = max_retries, cpus_per_run, None, gpus_per_run >= 1
    self._pending = []

  def start(self, runs: Sequence[PlannedRun]) -> None:
    """Begins with the runs; returns at once."""
    self._pending = [self._task.remote(run, *self._arguments) for run in runs]

  @property
  def is_working(self) -> bool:
    """Whether anything is left to do.

    Raises:
      UserError: the cluster is gone.
    """
    try:
      ready, self._pending = (
        self._ray.wait(self._pending, num_returns=len(self._pending), timeout=0)
        if self._pending
        else ([], [])
      )
      self._ray.get(ready)
    except self._ray.exceptions.RayError as error:
      raise UserError(
        f'the Ray cluster failed ({str(error).splitlines()[0]}): give the same '
        'command again to go on.'
      ) from None
    return bool(self._pending)

  def stop(self) -> None:
    """Lets every run save and stop, and waits for it."""
    with contextlib.suppress(self._ray.exceptions.RayError):  # It is gone.
      for task in self._pending:
        self._ray.cancel(task)
      if self._pending:
        self._ray.wait(self._pending, num_returns=len(self._pending))


def _execute(run: PlannedRun, *arguments) -> None:
  """`execute.execute`; when Ray cancels it, the run saves and stops."""
  stopped, processes = threading.Event(), []

  def note(process):
    processes.append(process)
    if stopped.is_set():
      process.terminate()

  # Ray cancels by what Ctrl-C does, which is ignored in the background.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  thread = futures.ThreadPoolExecutor(1)
  work = thread.submit(execute.execute, run, *arguments, stopped, note)
  while not work.done():
    try:
      futures.wait([work], timeout=0.5)  # Ray cannot interrupt a longer one.
    except KeyboardInterrupt:  # Which it may send several times.
      stopped.set()
      for process in processes:
        process.terminate()  # Does nothing to those that have ended.
  work.result()


def _room(node: dict, cpus_per_run: int, gpus_per_run: float) -> int:
  """The number of runs that fit on a node."""
  fits = int(node.get('CPU', 0)) // cpus_per_run
  if gpus_per_run >= 1:
    return min(fits, int(node.get('GPU', 0) // gpus_per_run))
  if gpus_per_run:
    return min(fits, int(node.get('GPU', 0)) * int(1 / gpus_per_run))
  return fits


def _reach(address: str | None) -> None:
  """Raises an OSError at once where Ray would try for minutes."""
  host, _, port = (address or '').partition(':')
  if port.isdigit():
    socket.create_connection((host, int(port)), timeout=5).close()
