"""The run folder: the one place that knows its files.

- `checkpoints/`: see `checkpoints`.
- `logs/`: Dopamine's log files; TensorBoard events lie beside it.
- `metrics.csv`: a row an iteration.
- `config.gin`: a config that repeats the run; earlier ones are kept as
  `config.0.gin`, ... when settings change on the way.
- `run.json`: what a reader needs to know of the run, and its provenance.
- `manifest.json`: the rows trained on.
"""

import csv
import dataclasses
import difflib
import functools
import glob
import os
import pathlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import gin
import numpy as np
from absl import logging

from cql_atari.core import files, gin_text, settings
from cql_atari.core.errors import UserError
from cql_atari.runs import provenance

# Of run.json. 1 had no number, no labels and no settings; configs of 2 have a
# parameter `in_memory` that is no more.
FORMAT = 3

# Parameters in which a run may change on the way.
_CIRCUMSTANCES = frozenset(
  (
    'path', 'replay_dir', 'rom_dir', 'cache_dir', 'residence', 'num_threads',
    'compile_step', 'num_iterations', 'checkpoint_minutes',
    'checkpoint_duration', 'num_environments', 'create_agent_fn', 'loggers',
  )
)  # fmt: skip
# Parameters in which runs of one experiment may differ.
_NOT_METHOD_SETTINGS = _CIRCUMSTANCES | {'seed', 'game', 'task'}


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """A run's files.

  Attributes:
    path: the folder, the `--base_dir` of a training run.
  """

  path: pathlib.Path

  def __post_init__(self):
    """Takes a text too."""
    object.__setattr__(self, 'path', files.user_path(self.path))

  def __fspath__(self) -> str:
    return str(self.path)

  @property
  def checkpoints(self) -> pathlib.Path:
    """The folder of checkpoints."""
    return self.path / 'checkpoints'

  @property
  def config(self) -> pathlib.Path:
    """The gin file that repeats the run."""
    return self.path / 'config.gin'

  @property
  def has_records(self) -> bool:
    """Whether everything is there that is written when a run begins."""
    record = self.path / 'run.json'
    written = self.config, record, self.path / 'manifest.json'
    if not all(path.is_file() for path in written):
      return False
    return provenance.read(record).get('format') == FORMAT

  def check(self) -> None:
    """Checks that it is a run folder.

    Raises:
      UserError: it isn't, or it is damaged or of another version.
    """
    for name in ('config.gin', 'run.json', 'manifest.json'):
      if not (self.path / name).is_file():
        below = [
          *self.path.glob('*/run.json'),
          *self.path.glob('*/*/*/run.json'),
        ]
        hint = f', such as {below[0].parent}' if below else ''
        raise UserError(
          f'{self.path} is no run folder: it has no {name}. Give the '
          f'--base_dir of a training run{hint}.'
        )
    _ = self.record, self.manifest

  @functools.cached_property
  def record(self) -> dict[str, Any]:
    """The fields of run.json.

    Raises:
      UserError: it is damaged, or of another version of this package.
    """
    path = self.path / 'run.json'
    record = provenance.read(path)
    if record.get('format') != FORMAT:
      raise UserError(
        f'{path} has format {record.get("format", 1)}, and this version of '
        f'cql_atari reads format {FORMAT}: give the command that began the run '
        'once more, which writes it anew.'
      )
    return record

  @functools.cached_property
  def manifest(self) -> dict[str, Any]:
    """The fields of manifest.json."""
    return provenance.read(self.path / 'manifest.json')

  def bindings(self) -> dict[str, Any]:
    """What config.gin binds; see `gin_text.bindings`.

    Raises:
      UserError: it is damaged.
    """
    error = 'it binds nothing'
    try:
      if bound := gin_text.bindings(self.config.read_text()):
        return bound
    except (OSError, UnicodeDecodeError, UserError) as reason:
      error = reason
    raise UserError(
      f'{self.config} is damaged ({error}): delete it, and give the command '
      'that began the run once more, which writes it anew.'
    )

  def metrics(self) -> dict[str, np.ndarray]:
    """The columns of metrics.csv, float64 (iterations,), NaN where empty.

    Raises:
      UserError: it is damaged.
    """
    path = self.path / 'metrics.csv'
    try:
      with open(path, newline='') as file:
        names, *rows = list(csv.reader(file)) or [[]]
      if any(len(row) != len(names) for row in rows):
        raise ValueError('a row is cut short')
      table = np.array([[float(cell or 'nan') for cell in row] for row in rows])
      columns = dict(zip(names, table.reshape(-1, len(names)).T))
      if (np.diff(columns.get('gradient_steps', ())) <= 0).any():
        raise ValueError('a row comes twice')
      return columns
    except FileNotFoundError:
      return {}
    except (OSError, ValueError, csv.Error) as error:
      raise UserError(
        f'{path} is damaged ({error}): give the command that began the run '
        'once more, which writes it anew.'
      ) from None

  # --- Writing. ---

  def write_metrics(
    self, columns: Sequence[str], rows: Iterable[Sequence]
  ) -> None:
    """Writes metrics.csv whole, so that a resume leaves no row twice."""
    path = self.path / 'metrics.csv'
    with files.writing(path):
      files.write_csv(path, columns, rows)

  def write_records(
    self,
    record: dict[str, Any],
    manifest: dict[str, Any],
    more: Sequence[str] = (),
  ) -> None:
    """Writes config.gin (the operative config), run.json and manifest.json.

    Args:
      record: what the run knows of itself; format, settings and provenance are
        added.
      manifest: the data's.
      more: lines of gin for what is made later, such as loggers.
    """
    with files.writing(self.path):
      write_config(self.path, more)
      path = self.path / 'run.json'
      before = provenance.read(path) if path.is_file() else {}
      record = {
        'format': FORMAT,
        'run_id': before.get('run_id') or uuid.uuid4().hex,
        **record,
        'settings': operative_settings(),
        **provenance.provenance(path),
      }
      files.write_json(path, record)
      files.write_json(self.path / 'manifest.json', manifest)

  def remove_records(self) -> None:
    """Takes back `write_records`, of a run that could not begin."""
    for name in ('config.gin', 'run.json', 'manifest.json'):
      (self.path / name).unlink(missing_ok=True)

  def other_settings(self) -> str:
    """How the settings in force differ from the run's; '' if they do not."""
    if not self.config.is_file():
      return ''
    before = _settings(self.bindings(), _CIRCUMSTANCES)
    now = _settings(_operative(), _CIRCUMSTANCES)
    return '; '.join(changes(before, now))


def write_config(folder: pathlib.Path, more: Sequence[str] = ()) -> None:
  """Writes config.gin: the operative config, and more lines of gin.

  One that differs is kept as config.0.gin, ..., with a warning.
  """
  path = folder / 'config.gin'
  now = '\n'.join([gin.operative_config_str(), *more])
  changed = _changed_settings(path, now)
  if changed:
    kept = folder / f'config.{len(list(folder.glob("config.*.gin")))}.gin'
    files.write_text(kept, path.read_text(errors='replace'))
    logging.warning(
      'This run goes on with other settings than before (kept in %s):\n%s',
      kept.name,
      changed,
    )
  files.write_text(path, now)


def _changed_settings(path: pathlib.Path, now: str) -> str:
  """The lines in which a config differs from a file."""
  if not path.is_file():
    return ''
  before = path.read_text(errors='replace')
  return '\n'.join(
    line
    for line in difflib.ndiff(before.splitlines(), now.splitlines())
    if line[0] in '+-' and line[2:].strip() and line[2] != '#'
  )


def operative_settings() -> dict[str, Any]:
  """The settings in force that say something about the method.

  Returns:
    {'CQLMixin.alpha': 4.0, ...} of plain JSON, macros replaced by their values;
    each under the name of the class that has the parameter itself.
  """
  return _settings(_operative(), _NOT_METHOD_SETTINGS)


def _operative() -> dict[str, Any]:
  return gin_text.bindings(gin.operative_config_str())


def _settings(bound: dict[str, Any], without: Collection[str]) -> dict:
  found = {}
  for name, value in bound.items():
    made, _, parameter = name.rpartition('.')
    if made and parameter not in without:
      owner = settings.owner(made, parameter)
      found[f'{owner}.{parameter}'] = gin_text.resolved(value, bound)
  return found


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
  """Settings that became others, each in words.

  Those that only one of them has do not count: gin knows of what was made, and
  another version may have others.
  """
  return [
    f'{name} was {before[name]} and became {now[name]}'
    for name in sorted(before.keys() & now.keys())
    if before[name] != now[name]
  ]


def warn_of_unused(bindings: Iterable[str]) -> None:
  """Warns of what is bound, but was used by nothing that was made.

  Args:
    bindings: such as 'CQLMixin.alpha=2.0'; macros are passed over.
  """
  used = _operative()
  # Loggers are made when the run begins.
  loggers = [str(n)[1:] for n in used.get('FixedReplayRunner.loggers', ())]
  given = {name for line in bindings for name in gin_text.bindings(line)}
  for name in sorted(given - used.keys()):
    if '.' in name and name.split('.')[0] not in loggers:
      logging.warning('%s is bound, but nothing in this run uses it.', name)


# --- Finding. ---


def find(patterns: Sequence[str]) -> list[RunFolder]:
  """The run folders that are there, ordered by path.

  Args:
    patterns: run folders, folders with run folders somewhere below, or glob
      patterns of either, such as 'runs/*'.

  Raises:
    UserError: a pattern names none.
  """
  paths = {}  # As they were given, by what they are.
  for pattern in patterns:
    literal = files.user_path(pattern)
    names = [literal] if literal.is_dir() else []
    names = names or map(pathlib.Path, glob.glob(str(literal)))
    of_pattern = {
      path.resolve(): path for name in names for path in _below(name)
    }
    if not of_pattern:
      raise UserError(
        f'there is no run folder in {pattern}: give the --base_dir of a '
        'training run or of a sweep.'
      )
    paths |= of_pattern
  return [RunFolder(paths[path]) for path in sorted(paths)]


def _below(top: pathlib.Path) -> Iterator[pathlib.Path]:
  """The folders from there on that have a run.json, links followed."""
  seen = set()
  for folder, below, names in os.walk(top, followlinks=True):
    path = pathlib.Path(folder)
    if path.resolve() in seen:  # A link to what it is in.
      below.clear()
    elif 'run.json' in names:
      yield path
    seen.add(path.resolve())
