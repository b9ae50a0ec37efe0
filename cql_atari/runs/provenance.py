"""What made a run: configuration, versions, revision, command."""

import difflib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Sequence

import gin
from absl import logging

from cql_atari.core.errors import UserError
from cql_atari.core.files import write_text

_PROVENANCE = ('versions', 'git_revision', 'command', 'devices')
_VERSIONED = ('cql_atari', 'tensorflow', 'dopamine_rl', 'ale_py', 'numpy')


def read(path: pathlib.Path) -> dict:
  """A record of a run, such as run.json.

  Raises:
    UserError: it is damaged.
  """
  try:
    record = json.loads(path.read_text())
    if isinstance(record, dict):
      return record
    error = 'no record of a run'
  except (OSError, ValueError) as reason:
    error = reason
  raise UserError(
    f'{path} is damaged ({error}): delete it, and give the command that began '
    'the run once more, which writes it anew.'
  )


def provenance(record: pathlib.Path) -> dict:
  """Versions, git revision (None outside a checkout) and command line.

  Args:
    record: the file that it is for. What it says of earlier starts of the same
      run is kept as `earlier_starts`.
  """
  earlier = []
  if record.is_file():
    last = read(record)
    earlier = last.get('earlier_starts', [])
    earlier.append({name: last[name] for name in _PROVENANCE if name in last})
  return {
    'earlier_starts': earlier,
    'versions': {
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _VERSIONED},
    },
    'git_revision': _git_revision(),
    'command': sys.argv,
    'devices': devices(),
  }


def devices() -> list[str]:
  """What TensorFlow computes on: GPUs by name, or ['CPU']."""
  import tensorflow as tf

  gpus = tf.config.list_physical_devices('GPU')
  details = map(tf.config.experimental.get_device_details, gpus)
  return [gpu.get('device_name', 'GPU') for gpu in details] or ['CPU']


def write_config(folder: pathlib.Path) -> None:
  """Writes config.gin, the operative config.

  One that says something else is kept as config.0.gin, ... and told of.
  """
  path = folder / 'config.gin'
  changed = _changed_settings(path)
  if changed:
    kept = folder / f'config.{len(list(folder.glob("config.*.gin")))}.gin'
    path.rename(kept)
    logging.warning(
      'This run goes on with other settings than before (kept in %s):\n%s',
      kept.name,
      changed,
    )
  write_text(path, gin.operative_config_str())


def tell_of_other_settings(folder: pathlib.Path) -> None:
  """Warns when a finished run had other settings than those given now."""
  changed = _changed_settings(folder / 'config.gin')
  if changed:
    logging.warning(
      'This run is finished, and had other settings than those given now. For '
      'these, give another --base_dir:\n%s',
      changed,
    )


def _changed_settings(path: pathlib.Path) -> str:
  """What the operative config says otherwise than a file, if there is one."""
  if not path.is_file():
    return ''
  before, now = path.read_text(), gin.operative_config_str()
  return '\n'.join(
    line
    for line in difflib.ndiff(before.splitlines(), now.splitlines())
    if line[0] in '+-' and line[2:].strip() and line[2] != '#'
  )


def unused(bindings: Sequence[str]) -> list[str]:
  """Which of these are bound, but were used by nothing that was made.

  Args:
    bindings: such as 'CQLMixin.alpha=2.0'; macros are passed over.
  """
  used = re.findall(r'^([\w./]+) =', gin.operative_config_str(), re.MULTILINE)
  used = {name.split('/')[-1] for name in used}
  names = {binding.split('=')[0].strip() for binding in bindings}
  return sorted(n for n in names if '.' in n and n.split('/')[-1] not in used)


def _git_revision() -> str | None:
  """The revision of the checkout the package runs from, if it is one."""
  if not (pathlib.Path(__file__).parents[2] / '.git').exists():
    return None
  try:
    return subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=40'],
      cwd=os.path.dirname(__file__),
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
