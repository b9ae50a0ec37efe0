"""The plan of the house: which room may import which."""

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def lint_imports(folder):
  script = pathlib.Path(sys.executable).with_name('lint-imports')
  return subprocess.run(
    [script, '--no-cache'], cwd=folder, capture_output=True, text=True
  )


def test_no_floor_imports_a_higher_one():
  done = lint_imports(ROOT)
  assert done.returncode == 0, done.stdout


def test_a_higher_one_would_be_told(tmp_path):
  shutil.copytree(ROOT / 'cql_atari', tmp_path / 'cql_atari')
  shutil.copy(ROOT / 'pyproject.toml', tmp_path)
  with (tmp_path / 'cql_atari' / 'core' / 'files.py').open('a') as file:
    file.write('import cql_atari.train\n')
  done = lint_imports(tmp_path)
  assert 'core is not allowed to import cql_atari.train' in done.stdout
  assert done.returncode == 1
