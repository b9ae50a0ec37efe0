"""What made a run: versions, revision, command."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys

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
