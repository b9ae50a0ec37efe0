"""What the pages say can be typed: flags, gin files, bindings, Python."""

import ast
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags
from pages import PAGES, ROOT, blocks, commands, load
from training_runs import SMALL, call, command

import cql_atari
from cql_atari.core import gin_text, settings
from cql_atari.core.errors import UserError

_REQUIRED = {
  'train': 'FixedReplayRunner.create_agent_fn',
  'sweep': 'Sweep.configs',
  'collect': 'Collector.create_agent_fn',
}


@pytest.mark.parametrize(('name', 'words'), commands())
def test_commands_have_the_flags_and_settings_they_are_given(name, words):
  command = load(name)._COMMAND
  values = command.flags
  values.unparse_flags()
  try:
    rest = values([name, *words])
    assert len(rest) - 1 <= (1 if command.operand else 0), rest
    name = name.removeprefix('-m cql_atari.')
    if name in _REQUIRED and values['gin_files'].value:
      files = values['gin_files'].value
      if pathlib.Path(files[0]).name != 'my_agent.gin':
        check(name, files, values['gin_bindings'].value)
  except flags.UnrecognizedFlagError:
    assert words == ['--help']
  finally:
    for flag in list(values):
      values[flag].unparse()
    values.mark_as_parsed()


def check(name, files, bindings):
  required = _REQUIRED[name]
  if name == 'collect' and any('d4rl' in file for file in files):
    required = 'SACCollector.create_agent_fn'
  bound = gin_text.last_bindings(files, bindings)
  extra = []
  if bound.get('GAME', '') is None:
    extra = ["GAME='Pong'"]
  if name == 'sweep':  # Bindings of its runs are checked with their configs.
    bindings = [line for line in bindings if line.startswith('Sweep.')]
  settings.check(files, [*bindings, *extra], required)


def test_python_on_the_pages_is_python():
  seen = 0
  for page, block in blocks('python'):
    tree = ast.parse(block)
    for node in ast.walk(tree):
      if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == 'cql_atari'
      ):
        module = importlib.import_module('cql_atari')
        assert node.attr in dir(module), f'{page}: {node.attr}'
        seen += 1
  assert seen > 8


def test_the_agent_of_the_guide_trains(tmp_path):
  page = (ROOT / 'docs' / 'guides' / 'own_agent.md').read_text()
  (code,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
  (config,) = re.findall(r'```\n(# my_agent.gin.*?)```', page, re.DOTALL)
  (tmp_path / 'my_agents.py').write_text(code)
  (tmp_path / 'my_agent.gin').write_text(config)
  small = {
    'Split.shards': (10, 13),
    'FixedReplayRunner.num_iterations': 1,
    'FixedReplayRunner.training_steps': 20,
    'FixedReplayRunner.evaluation_steps': 0,
  }
  done = subprocess.run(
    [
      sys.executable,
      *('-m', 'cql_atari.train', '--base_dir=run', '--gin_files=my_agent.gin'),
      *(f'--gin_bindings={name}={value}' for name, value in small.items()),
    ],
    cwd=tmp_path, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  header, row = (tmp_path / 'run' / 'metrics.csv').read_text().splitlines()
  values = dict(zip(header.split(','), row.split(',')))
  assert float(values['margin_loss']) > 0
  opened = subprocess.run(
    [
      *(sys.executable, '-m', 'cql_atari.watch', '--run=run', '--out=a.gif'),
      '--max_steps=5',
    ],
    cwd=tmp_path, capture_output=True, text=True,
  )  # fmt: skip
  assert opened.returncode == 0, opened.stderr


def test_the_recording_of_the_data_page_is_trained_on_as_the_front_page_says(
  tmp_path,
):
  """Both pages' Python, with some play and fewer steps between."""
  of_page = {str(page): block for page, block in blocks('python')}
  play = """
env.reset(seed=0)
for step in range(600):
  *_, over, cut_off, _ = env.step(env.action_space.sample())
  if over or cut_off:
    env.reset()
env.close()
"""
  front = of_page['docs/index.md'].replace('10_000', '4')
  front = front.replace('fraction=0.01', 'fraction=1.0')
  games = (
    "cql_atari.AtariEnvironments('Breakout', num_environments=2, "
    'max_steps_per_episode=20), 10)'
  )
  front = front.replace("'Breakout')", games)
  done = subprocess.run(
    [sys.executable, '-c', of_page['docs/data.md'] + play + front],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    env={**os.environ, 'XDG_CACHE_HOME': str(tmp_path)},
  )
  assert done.returncode == 0, done.stderr
  assert float(done.stdout.splitlines()[-1]) >= 0


def test_the_logger_of_the_guide_logs(tmp_path):
  page = (ROOT / 'docs' / 'guides' / 'cluster.md').read_text()
  (code,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
  (tmp_path / 'my_logger.py').write_text(code)
  (tmp_path / 'mine.gin').write_text(
    'import my_logger\nFixedReplayRunner.loggers = [@LossFile]\n'
  )
  done = call(
    command(tmp_path / 'run', *SMALL, flags=['--gin_files=mine.gin']),
    cwd=tmp_path,
  )
  assert done.returncode == 0, done.stderr
  steps = [
    line.split()[0]
    for line in (tmp_path / 'run' / 'loss.txt').read_text().splitlines()
  ]
  assert steps == ['150', '300']


def test_links_between_pages_lead_somewhere():
  """The README's too, which mkdocs does not see."""
  broken = []
  for page in PAGES:
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    for target in re.findall(r'\]\(([^)#\s]+)[^)]*\)', text):
      if '://' not in target and not (page.parent / target).exists():
        broken.append(f'{page.relative_to(ROOT)}: {target}')
  assert not broken


def test_every_public_name_is_in_the_reference():
  pages = (ROOT / 'docs' / 'reference').glob('*.md')
  listed = re.findall(
    r'^::: (\S+)', '\n'.join(page.read_text() for page in pages), re.MULTILINE
  )
  for name in set(cql_atari.__all__) - {'Transition'}:  # A field of another.
    public = getattr(cql_atari, name)
    assert {public.__module__, f'{public.__module__}.{name}'} & set(listed), (
      name
    )


def test_unknown_names_would_be_told():
  """The check above is one that can fail."""
  with pytest.raises(UserError):
    check('train', ['cql_1pct.gin'], ['CQLMixin.alfa=1.0'])
  with pytest.raises(UserError):
    check('sweep', ['sweeps/smal.gin'], [])
