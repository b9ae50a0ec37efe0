"""Provenance of a run: versions, revision, command, devices."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import cql_atari
from cql_atari.core import devices
from cql_atari.core.errors import UserError

_FIELDS = ('versions', 'git_revision', 'command', 'devices', 'settings')
_VERSIONED = ('tensorflow', 'dopamine_rl', 'ale_py', 'numpy')


def read(path: pathlib.Path) -> dict[str, Any]:
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


def provenance(record: pathlib.Path) -> dict[str, Any]:
  """Versions, git revision (None outside a checkout), command and devices.

  Args:
    record: the file that it is for. What it says of earlier starts of the same
      run is kept as `earlier_starts`.
  """
  earlier = []
  if record.is_file():
    last = read(record)
    earlier = last.get('earlier_starts', [])
    earlier.append({name: last[name] for name in _FIELDS if name in last})
  return {
    'earlier_starts': earlier,
    'versions': {
      'python': platform.python_version(),
      'cql_atari': cql_atari.__version__,
      **{name: importlib.metadata.version(name) for name in _VERSIONED},
    },
    'git_revision': _git_revision(),
    'command': sys.argv,
    'devices': devices.devices(),
  }


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
