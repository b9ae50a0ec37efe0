"""A sweep's runs: games or tasks x configs x seeds, a folder each."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import socket
from collections.abc import Mapping, Sequence

from cql_atari.core import benchmarks, gin_text, progress, settings
from cql_atari.core.constraints import (
  NonNegative,
  NonNegativeInt,
  NonNegativeInts,
  Positive,
  PositiveInt,
  configurable,
)
from cql_atari.core.errors import UserError
from cql_atari.core.files import absolute, user_path, write_text
from cql_atari.core.protocols import Benchmark
from cql_atari.runs import checkpoints
from cql_atari.runs.folder import RunFolder

STATE_FILE = 'sweep.json'
_FORMAT = 2  # Of it; 1 had no number, and other digests.
_LENGTHS = {'training_steps': 62_500, 'num_iterations': 200}


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """One training run of a sweep.

  Attributes:
    directory: its run folder.
    gin_files: for `cql_atari.train`.
    gin_bindings: for `cql_atari.train`.
    digest: SHA-256 of every value in them.
    training_steps: gradient steps of an iteration.
    num_iterations: iterations.
    replay_dir: where its data are; None where the configs tell.
  """

  directory: pathlib.Path
  gin_files: tuple[str, ...]
  gin_bindings: tuple[str, ...]
  digest: str
  training_steps: int
  num_iterations: int
  replay_dir: str | None = None

  @property
  def total_steps(self) -> int:
    """Gradient steps in all."""
    return self.training_steps * self.num_iterations

  @property
  def settings(self) -> dict:
    """The settings that identify it, as plain JSON."""
    return {
      'format': _FORMAT,
      'gin_files': list(self.gin_files),
      'gin_bindings': list(self.gin_bindings),
      'digest': self.digest,
    }

  @property
  def state(self) -> dict:
    """The content of its sweep.json: status, attempts, host, error."""
    state = None
    with contextlib.suppress(OSError, ValueError):
      state = json.loads((self.directory / STATE_FILE).read_text())
    known = state if isinstance(state, dict) else {}
    return {'status': 'waiting', 'attempts': 0, **known}

  def write_state(self, **values) -> None:
    """Writes it whole, with the settings."""
    self.directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**self.settings, **values}, indent=1)
    write_text(self.directory / STATE_FILE, text)

  @property
  def is_done(self) -> bool:
    """Whether it ran to its end."""
    return self.state['status'] == 'done'

  @property
  def steps_done(self) -> int:
    """Gradient steps that its checkpoints hold."""
    return max(
      checkpoints.steps(RunFolder(self.directory).checkpoints), default=0
    )

  @property
  def last_metrics(self) -> dict[str, float]:
    """The last row of its metrics.csv; empty where there is none to be read."""
    with contextlib.suppress(UserError):  # The run itself writes it anew.
      columns = RunFolder(self.directory).metrics()
      return {name: float(c[-1]) for name, c in columns.items() if len(c)}
    return {}

  @property
  def status(self) -> str:
    """Its state's, but 'killed' where no process of this machine goes on."""
    state = self.state
    is_here = state.get('host') == socket.gethostname() and 'pid' in state
    if state['status'] == 'running' and is_here:
      try:
        os.kill(state['pid'], 0)
      except ProcessLookupError:
        return 'killed'
    return state['status']


@configurable
@dataclasses.dataclass(frozen=True)
class Sweep:
  """The settings of a sweep.

  Attributes:
    configs: gin files for `cql_atari.train`, such as 'cql_1pct.gin': agent,
      underscore, split. Bindings may follow, parted by spaces, as in
      'cql_1pct.gin CQLMixin.alpha=16'.
    seeds: one run each.
    games: such as 'Pong', for configs of Atari.
    tasks: such as 'hopper-medium-v2', for configs of D4RL.
    replay_dir: where the data are, with {game}, {task} or {domain} in it; or
      None to leave it to the configs.
    replay_dirs: games or tasks whose data are elsewhere, to where.
    gin_files: more gin files, for all runs; they override the configs.
    gin_bindings: and bindings, for all runs.
    cpus_per_run: processors a run gets.
    gpus_per_run: GPUs a run gets; fractions share one, and 0 leaves every run
      all there are.
    steps_per_second: speed of one run, for the estimate before anything ran.
    max_retries: how often a run that crashed begins again from its checkpoint.
  """

  configs: Sequence[str]
  seeds: NonNegativeInts
  games: Sequence[str] = ()
  tasks: Sequence[str] = ()
  replay_dir: str | None = None
  replay_dirs: Mapping[str, str] = dataclasses.field(default_factory=dict)
  gin_files: Sequence[str] = ()
  gin_bindings: Sequence[str] = ()
  cpus_per_run: PositiveInt = 1
  gpus_per_run: NonNegative = 0.0
  steps_per_second: Positive = 25.0
  max_retries: NonNegativeInt = 3

  def __post_init__(self):
    for name in ('configs', 'seeds'):
      if not getattr(self, name):
        raise UserError(f'Sweep.{name} is empty: name at least one.')
    if bool(self.games) == bool(self.tasks):
      raise UserError('name Sweep.games or Sweep.tasks: one of them.')
    for name in (*self.subjects, *self.replay_dirs):
      self.benchmark.check_name(name)
    for name, path in self.replay_dirs.items():
      if not isinstance(path, (str, os.PathLike)):
        raise UserError(
          f'Sweep.replay_dirs has {path!r} for {name}: give a folder.'
        )

  @property
  def benchmark(self) -> Benchmark:
    """The benchmark whose games or tasks it is over."""
    return benchmarks.load('atari' if self.games else 'd4rl')

  @property
  def subjects(self) -> Sequence[str]:
    """The games or the tasks."""
    return self.games or self.tasks

  def runs(self, base_dir: str | os.PathLike) -> list[PlannedRun]:
    """Every run, seeds outermost, so that all of a table fills evenly.

    Args:
      base_dir: the sweep's folder.

    Raises:
      UserError: an unknown setting, or a run folder of other settings.
    """
    base = user_path(base_dir).absolute()
    if base.is_file():
      raise UserError(f'--base_dir={base_dir} is a file: choose a folder.')
    runs = [
      self._run(base, subject, config, seed)
      for seed in self.seeds
      for subject in self.subjects
      for config in self.configs
    ]
    folders = [run.directory for run in runs]
    for run in runs:
      if folders.count(run.directory) > 1:
        raise UserError(
          f'two runs of the sweep would share {run.directory}: name every '
          'game, task and seed once, and configs by different names.'
        )
      state = run.state
      if 'digest' in state and state.get('format') != _FORMAT:
        raise UserError(
          f'{run.directory} belongs to a sweep of another version of cql_atari:'
          ' go on with that one, or give another --base_dir.'
        )
      if any(state.get(n, v) != v for n, v in run.settings.items()):
        raise UserError(
          f'{run.directory} belongs to a sweep with other settings: give those '
          '(its sweep.json has them), or another --base_dir.'
        )
    return runs

  def _run(self, base, subject, config, seed) -> PlannedRun:
    config, config_bindings = _split_config(config)
    bindings = [
      f'{self.benchmark.macro}={subject!r}',
      f'SEED={seed}',
      *self.gin_bindings,
    ]
    folder = self._replay_dir(subject)
    if folder is not None:
      bindings.append(f'REPLAY_DIR={folder!r}')
    bindings += config_bindings
    # Files by their whole path, for processes that start in other folders.
    files = [
      str(user_path(name).absolute()) if user_path(name).is_file() else name
      for name in (config, *self.gin_files)
    ]
    values = settings.check(files, bindings, settings.AGENT)
    lengths = {
      name: values.get(f'FixedReplayRunner.{name}', default)
      for name, default in _LENGTHS.items()
    }
    text = repr(sorted((name, repr(value)) for name, value in values.items()))
    return PlannedRun(
      base / subject / _folder_name(config, config_bindings) / str(seed),
      tuple(files),
      tuple(bindings),
      hashlib.sha256(text.encode()).hexdigest()[:16],
      **lengths,
      replay_dir=folder,
    )

  def _replay_dir(self, subject: str) -> str | None:
    path = self.replay_dirs.get(subject, self.replay_dir)
    if path is None:
      return None
    fields = self.benchmark.path_fields(subject)
    try:
      return absolute(os.fspath(path).format(**fields))
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
      known = ' or '.join(f'{{{name}}}' for name in fields)
      raise UserError(
        f'Sweep.replay_dir is {path!r}: only {known} can stand in braces.'
      ) from None


def _split_config(config: str) -> tuple[str, list[str]]:
  """'cql.gin A.b=1 C.d=2' -> 'cql.gin', ['A.b=1', 'C.d=2']."""
  file, *lines = config.split() or ['']
  if not file.endswith('.gin') or not all('=' in line for line in lines):
    raise UserError(
      f'Sweep.configs has {config!r}: give a gin file, and after it bindings '
      "without spaces in them, as in 'cql_1pct.gin CQLMixin.alpha=2.0'."
    )
  return file, lines


def _folder_name(config: str, bindings: Sequence[str]) -> str:
  """'a/cql.gin', ["CQLMixin.penalty='rho'"] -> 'cql_penalty=rho'."""
  values = gin_text.last_bindings((), bindings)
  parts = [f'{name.split(".")[-1]}={value}' for name, value in values.items()]
  plain = [re.sub(r'[^\w=.,-]', '', part) for part in parts]
  return '_'.join([pathlib.Path(config).stem, *plain])


def describe(sweep: Sweep, runs: Sequence[PlannedRun], workers: int) -> str:
  """All runs of a sweep, the `estimate`, and the data that are not there."""
  lines = [
    f'{run.status:8} {run.total_steps:>11,} {run.directory}' for run in runs
  ]
  lines.append(estimate(sweep, runs, workers))
  for folder in _missing_data(runs):
    lines.append(f'There is no {folder} yet: fetch or collect it first.')
  return '\n'.join(lines)


def check_data(runs: Sequence[PlannedRun]) -> None:
  """Refuses to begin what would fail for want of data.

  Raises:
    UserError: data that a run needs are not on this machine.
  """
  left = [run for run in runs if not run.is_done]
  if missing := _missing_data(left):
    raise UserError(
      f'there is no {" and no ".join(missing)}: fetch or collect it first '
      '(--dry_run shows the whole plan).'
    )


def _missing_data(runs: Sequence[PlannedRun]) -> list[str]:
  """The folders of data that are not there, or empty."""
  folders = sorted({run.replay_dir for run in runs if run.replay_dir})
  return [
    folder
    for folder in folders
    if ':' not in folder and not _has_data(pathlib.Path(folder))
  ]


def _has_data(path: pathlib.Path) -> bool:
  if path.is_dir():
    return any(path.iterdir())
  # Or what the names of RL Unplugged's files begin with.
  return path.exists() or any(path.parent.glob(f'{path.name}-*'))


def estimate(sweep: Sweep, runs: Sequence[PlannedRun], workers: int) -> str:
  """Says in a sentence how much is left: runs, hours, disk.

  Args:
    sweep: the sweep.
    runs: its runs.
    workers: how many run at once.
  """
  left = [run for run in runs if not run.is_done]
  if not left:
    return f'{progress.count(len(runs), "run")}, all of them done.'
  rows = [run.last_metrics for run in runs]
  speeds = [
    row['gradient_steps'] / row['wall_seconds']
    for row in rows
    if row.get('gradient_steps', 0) > 0 and row.get('wall_seconds', 0) > 0
  ]
  speed = sum(speeds) / len(speeds) if speeds else sweep.steps_per_second
  steps = sum(run.total_steps - run.steps_done for run in left)
  hours = steps / speed / min(workers, len(left)) / 3600
  sizes = [size for run in runs if (size := _checkpoint_bytes(run))]
  each = sum(sizes) / len(sizes) if sizes else sweep.benchmark.checkpoint_bytes
  source = (
    'measured, with evaluations'
    if speeds
    else 'assumed, as on a CPU, without evaluations'
  )
  disk = 'measured' if sizes else 'assumed, of the full networks'
  return (
    f'{progress.count(len(runs), "run")}, {len(runs) - len(left)} done. Left: '
    f'{steps:,} gradient steps: some {_duration(hours)}, {workers} at a time '
    f'at {speed:.1f} steps/s each ({source}). '
    f'Disk: {each * len(runs) / 1e9:.1f} GB for '
    f'checkpoints ({disk}), and some 100 bytes a row of data.'
  )


def _checkpoint_bytes(run: PlannedRun) -> int:
  paths = RunFolder(run.directory).checkpoints.glob('ckpt.*.npz')
  with contextlib.suppress(FileNotFoundError):  # A run under way deletes some.
    return sum(path.stat().st_size for path in paths)
  return 0


def _duration(hours: float) -> str:
  if hours < 1.5:
    return f'{math.ceil(60 * hours)} min'
  return f'{hours:.1f} hours' if hours < 48 else f'{hours / 24:.1f} days'
