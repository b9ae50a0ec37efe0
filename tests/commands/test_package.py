"""What is installed without a checkout: from the sdist, a wheel that trains."""

import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]


def call(*words, **settings):
  done = subprocess.run(words, capture_output=True, text=True, **settings)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.mark.slow
def test_the_wheel_of_the_sdist_trains_in_an_empty_folder(tmp_path):
  source = tmp_path / 'source'
  names = (
    'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE',
    'cql_atari', 'gin_configs',
  )  # fmt: skip
  source.mkdir()
  for name in names:
    copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
    copy(ROOT / name, source / name)
  call(sys.executable, 'setup.py', '-q', 'sdist', cwd=source)
  (sdist,) = (source / 'dist').glob('*.tar.gz')
  call(
    *(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps'),
    *('--no-build-isolation', '--target', str(tmp_path / 'site'), str(sdist)),
  )
  shutil.rmtree(source)
  empty = tmp_path / 'empty'
  empty.mkdir()
  environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site')}
  settings = (
    'Split.shards=(10, 13)',
    'FixedReplayRunner.num_iterations=1',
    'FixedReplayRunner.training_steps=10',
    'FixedReplayRunner.evaluation_steps=0',
  )
  said = call(
    *(sys.executable, '-m', 'cql_atari.train', '--base_dir=run'),
    '--gin_files=cql_demo.gin',
    *(f'--gin_bindings={setting}' for setting in settings),
    cwd=empty,
    env=environment,
  )
  assert 'iteration 0: 10 gradient steps' in said
  where = call(
    *(sys.executable, '-c', 'import cql_atari; print(cql_atari.__file__)'),
    cwd=empty,
    env=environment,
  )
  assert where.startswith(str(tmp_path / 'site'))
  for name in ('py.typed', '__init__.pyi'):
    assert (tmp_path / 'site' / 'cql_atari' / name).is_file()
  # What the README and the notebook show, from there too.
  readme, notebook = (ROOT / n for n in ('README.md', 'docs/library.ipynb'))
  (lines,) = re.findall(r'```python\n(.*?)```', readme.read_text(), re.DOTALL)
  cells = json.loads(notebook.read_text())['cells']
  code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
  for program in (lines, '\n'.join(code)):
    call(
      *(sys.executable, '-c', program),
      cwd=empty,
      env={**environment, 'MPLBACKEND': 'agg'},
    )
  assert (empty / 'returns.png').is_file()
  assert (empty / 'runs' / 'notebook' / 'metrics.csv').is_file()


def test_containers_have_the_versions_that_setup_asks_for():
  """constraints.txt, which the Dockerfile installs by, names one of each."""
  pins = {}
  for line in (ROOT / 'constraints.txt').read_text().splitlines():
    if not line.startswith('#'):
      name, version = line.split('==')
      pins[canonicalize_name(name)] = version
  asked = importlib.metadata.requires('cql_atari')
  for requirement in map(Requirement, asked):
    if not requirement.marker or requirement.marker.evaluate({'extra': 'gpu'}):
      version = pins[canonicalize_name(requirement.name)]
      assert requirement.specifier.contains(version), requirement
