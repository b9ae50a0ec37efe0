"""What a sweep consists of: games or tasks x configs x seeds, a folder each."""

import csv
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import gin

from cql_atari.continuous import tasks
from cql_atari.core import settings
from cql_atari.core.errors import UserError, check_number
from cql_atari.core.files import write_text
from cql_atari.environments import atari
from cql_atari.runs import checkpoints

STATE_FILE = 'sweep.json'
# Six checkpoints of 70 MB, or of 10, at the paper's networks.
_BYTES_OF_GAMES, _BYTES_OF_TASKS = 420e6, 60e6
_LISTS = ('configs', 'games', 'tasks', 'seeds', 'gin_files', 'gin_bindings')


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run of a sweep.

  Attributes:
    directory: its run folder.
    gin_files: for `cql_atari.train`.
    gin_bindings: for `cql_atari.train`.
    digest: of every value in them.
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
  replay_dir: pathlib.Path | None = None

  @property
  def total_steps(self) -> int:
    """Gradient steps in all."""
    return self.training_steps * self.num_iterations

  @property
  def settings(self) -> dict:
    """What makes it the run it is, as plain JSON."""
    return {
      'gin_files': list(self.gin_files),
      'gin_bindings': list(self.gin_bindings),
      'digest': self.digest,
    }

  @property
  def state(self) -> dict:
    """What was last written of it: status, attempts, host, error."""
    try:
      return json.loads((self.directory / STATE_FILE).read_text())
    except (OSError, ValueError):
      return {'status': 'waiting', 'attempts': 0}

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
    return max(checkpoints.steps(self.directory / 'checkpoints'), default=0)

  @property
  def last_metrics(self) -> dict[str, str]:
    """The last row of its metrics.csv; empty before the first iteration."""
    try:
      with open(self.directory / 'metrics.csv', newline='') as file:
        return [{}, *csv.DictReader(file)][-1]
    except OSError:
      return {}


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Sweep:
  """What to run.

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
    gpus_per_run: GPUs a run gets; fractions share one.
    steps_per_second: of one run, for the estimate before anything ran.
    max_retries: how often a run that crashed begins again from its checkpoint.
  """

  configs: Sequence[str]
  seeds: Sequence[int]
  games: Sequence[str] = ()
  tasks: Sequence[str] = ()
  replay_dir: str | None = None
  replay_dirs: Mapping[str, str] = dataclasses.field(default_factory=dict)
  gin_files: Sequence[str] = ()
  gin_bindings: Sequence[str] = ()
  cpus_per_run: int = 1
  gpus_per_run: float = 0.0
  steps_per_second: float = 25.0
  max_retries: int = 3

  def __post_init__(self):
    for name in _LISTS:
      if not isinstance(getattr(self, name), (list, tuple)):
        raise UserError(
          f'Sweep.{name} is {getattr(self, name)!r}: give a list, in brackets.'
        )
    for name in ('configs', 'gin_files', 'gin_bindings'):
      for value in getattr(self, name):
        if not isinstance(value, str):
          raise UserError(f'Sweep.{name} has {value!r}: give it in quotes.')
    if not isinstance(self.replay_dirs, Mapping):
      raise UserError(
        f'Sweep.replay_dirs is {self.replay_dirs!r}: give such as '
        "{'Asterix': 'data/Asterix/2'}."
      )
    for path in (self.replay_dir, *self.replay_dirs.values()):
      if not isinstance(path, (str, type(None))):
        raise UserError(
          f'Sweep.replay_dir is {path!r}: give a path, in quotes.'
        )
    for subject in self.replay_dirs:
      if subject not in (*self.games, *self.tasks):
        raise UserError(
          f'Sweep.replay_dirs has {subject!r}, which the sweep is not over.'
        )
    for seed in self.seeds:
      check_number('Sweep.seeds', seed, 0, whole=True)
    for name in ('configs', 'seeds'):
      if not getattr(self, name):
        raise UserError(f'Sweep.{name} is empty: name at least one.')
    if bool(self.games) == bool(self.tasks):
      raise UserError('name Sweep.games or Sweep.tasks: one of them.')
    for game in self.games:
      atari.rom_name(game)
    for name in self.tasks:
      tasks.task(name)
    check_number('Sweep.cpus_per_run', self.cpus_per_run, 1, whole=True)
    check_number('Sweep.gpus_per_run', self.gpus_per_run, 0)
    check_number('Sweep.max_retries', self.max_retries, 0, whole=True)
    check_number('Sweep.steps_per_second', self.steps_per_second, 0.001)

  def runs(self, base_dir: str | os.PathLike) -> list[Run]:
    """Every run, seeds outermost, so that all of a table fills evenly.

    Args:
      base_dir: the sweep's folder.

    Raises:
      UserError: an unknown setting, or a run folder of other settings.
    """
    base = pathlib.Path(base_dir).expanduser().absolute()
    runs = [
      self._run(base, subject, config, seed)
      for seed in self.seeds
      for subject in (*self.games, *self.tasks)
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
      if any(
        name in state and state[name] != value
        for name, value in run.settings.items()
      ):
        raise UserError(
          f'{run.directory} belongs to a sweep with other settings: give those '
          '(its sweep.json has them), or another --base_dir.'
        )
    return runs

  def _run(self, base, subject, config, seed) -> Run:
    if self.games:
      macro, braces = 'GAME', {'game': subject}
    else:
      domain = tasks.task(subject).domain
      macro, braces = 'TASK', {'task': subject, 'domain': domain}
    config, own = _split_config(config)
    bindings = [f'{macro}={subject!r}', f'SEED={seed}', *self.gin_bindings]
    folder = self._replay_dir(subject, braces)
    if folder is not None:
      bindings.append(f'REPLAY_DIR={str(folder)!r}')
    bindings += own
    # Files by their whole path, for processes that start in other folders.
    files = [
      str(settings.find_config(name).absolute())
      if pathlib.Path(name).expanduser().is_file()
      else name
      for name in (config, *self.gin_files)
    ]
    values = settings.check(files, bindings)
    lengths = {'training_steps': 62_500, 'num_iterations': 200}
    for name in lengths:
      full_name = f'FixedReplayRunner.{name}'
      lengths[name] = values.get(full_name, lengths[name])
      check_number(full_name, lengths[name], 1, whole=True)
    text = repr(sorted((name, repr(value)) for name, value in values.items()))
    return Run(
      base / subject / _folder_name(config, own) / str(seed),
      tuple(files),
      tuple(bindings),
      hashlib.sha256(text.encode()).hexdigest()[:16],
      **lengths,
      replay_dir=folder,
    )

  def _replay_dir(self, subject, braces) -> pathlib.Path | None:
    path = self.replay_dirs.get(subject, self.replay_dir)
    if path is None:
      return None
    try:
      return pathlib.Path(path.format(**braces)).expanduser().absolute()
    except (KeyError, IndexError, ValueError):
      known = ' or '.join(f'{{{name}}}' for name in braces)
      raise UserError(
        f'Sweep.replay_dir is {path!r}: only {known} can stand in braces.'
      ) from None


def _split_config(config: str) -> tuple[str, list[str]]:
  """'cql.gin A.b=1 C.d=2' -> 'cql.gin', ['A.b=1', 'C.d=2']."""
  found = re.fullmatch(r'(.*?\.gin)((?:\s+[\w./]+=\S+)*)\s*', config)
  if not found:
    raise UserError(
      f'Sweep.configs has {config!r}: give a gin file, and after it bindings '
      "without spaces in them, as in 'cql_1pct.gin CQLMixin.alpha=2.0'."
    )
  return found[1], found[2].split()


def _folder_name(config: str, bindings: Sequence[str]) -> str:
  """'a/cql.gin', ["CQLMixin.penalty='rho'"] -> 'cql_penalty=rho'."""
  parts = [re.sub(r'^[\w.]*\.(?=\w+=)', '', binding) for binding in bindings]
  parts = [re.sub(r'[^\w=.,-]', '', part) for part in parts]
  return '_'.join([pathlib.Path(config).stem, *parts])


def estimate(sweep: Sweep, runs: Sequence[Run], workers: int) -> str:
  """What is left to do, in a sentence: runs, hours, disk.

  Args:
    sweep: the sweep.
    runs: its runs.
    workers: how many run at once.
  """
  left = [run for run in runs if not run.is_done]
  speeds = [_measured_speed(run) for run in runs]
  speeds = [speed for speed in speeds if speed]
  speed = sum(speeds) / len(speeds) if speeds else sweep.steps_per_second
  steps = sum(run.total_steps - run.steps_done for run in left)
  hours = steps / speed / min(workers, max(len(left), 1)) / 3600
  sizes = [_size(run.directory / 'checkpoints') for run in runs]
  sizes = [size for size in sizes if size]
  assumed = _BYTES_OF_GAMES if sweep.games else _BYTES_OF_TASKS
  each = sum(sizes) / len(sizes) if sizes else assumed
  source = (
    'measured, with evaluations'
    if speeds
    else 'assumed, as on a CPU, without evaluations'
  )
  disk = 'measured' if sizes else 'assumed'
  return (
    f'{len(runs)} runs, {len(runs) - len(left)} done. Left: {steps:,} gradient '
    f'steps: some {_duration(hours)}, {workers} at a time at {speed:.1f} '
    f'steps/s each ({source}). Disk: {each * len(runs) / 1e9:.1f} GB for '
    f'checkpoints ({disk}), and some 100 bytes a row of data.'
  )


def _measured_speed(run: Run) -> float | None:
  """Gradient steps a second of all its time, by its metrics."""
  row = run.last_metrics
  if not row:
    return None
  return float(row['gradient_steps']) / float(row['wall_seconds'])


def _size(folder: pathlib.Path) -> int:
  if not folder.is_dir():
    return 0
  return sum(path.stat().st_size for path in folder.iterdir())


def _duration(hours: float) -> str:
  if hours < 1.5:
    return f'{60 * hours:.0f} minutes'
  return f'{hours:.1f} hours' if hours < 48 else f'{hours / 24:.1f} days'
