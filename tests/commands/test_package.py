"""What is installed without a checkout: from the sdist, a wheel that trains."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def call(*words, **settings):
  done = subprocess.run(words, capture_output=True, text=True, **settings)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


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
  assert (tmp_path / 'site' / 'cql_atari' / 'py.typed').is_file()
