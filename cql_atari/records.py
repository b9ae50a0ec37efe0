"""What made a run: configuration, versions, revision, command."""

import difflib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys

import gin
from absl import logging

from cql_atari.files import write_text

_PROVENANCE = ('versions', 'git_revision', 'command')
_VERSIONED = ('cql_atari', 'tensorflow', 'dopamine_rl', 'ale_py', 'numpy')


def provenance(record: pathlib.Path) -> dict:
  """Versions, git revision (None outside a checkout) and command line.

  Args:
    record: the file that it is for. What it says of earlier starts of the same
      run is kept as `earlier_starts`.
  """
  earlier = []
  if record.is_file():
    last = json.loads(record.read_text())
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
  }


def write_config(folder: pathlib.Path) -> None:
  """Writes config.gin, the operative config.

  One that says something else is kept as config.0.gin, ... and told of.
  """
  config, path = gin.operative_config_str(), folder / 'config.gin'
  if path.is_file() and path.read_text() != config:
    changed = [
      line
      for line in difflib.ndiff(
        path.read_text().splitlines(), config.splitlines()
      )
      if line[0] in '+-' and line[2:].strip() and line[2] != '#'
    ]
    kept = folder / f'config.{len(list(folder.glob("config.*.gin")))}.gin'
    path.rename(kept)
    logging.warning(
      'This run goes on with other settings than before (kept in %s):\n%s',
      kept.name,
      '\n'.join(changed),
    )
  write_text(path, config)


def _git_revision() -> str | None:
  """The revision of the checkout the package runs from, if it is one."""
  if not (pathlib.Path(__file__).parents[1] / '.git').exists():
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
