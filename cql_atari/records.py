"""What made a run: configuration, versions, revision, command."""

import difflib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys

import gin
from absl import logging

_VERSIONED = ('cql_atari', 'tensorflow', 'dopamine_rl', 'ale_py', 'numpy')


def provenance() -> dict:
  """Versions, git revision (None outside a checkout) and command line."""
  return {
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
  path.write_text(config)


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
