"""Every command: its help, its flags, and its place in the house."""

import ast
import importlib
import pathlib
import signal
import subprocess
import sys

import pytest
from training_runs import python

import cql_atari
from cql_atari import __main__ as listing
from cql_atari.core import command
from cql_atari.core.errors import BusyError, UserError

PACKAGE = pathlib.Path(cql_atari.__file__).parent
COMMANDS = sorted(listing.commands())


@pytest.mark.parametrize('name', COMMANDS)
def test_help_says_what_to_type_and_names_every_flag(name, capsys):
  module = importlib.import_module(f'cql_atari.{name}')
  # All of them are in this one process.
  for flag in ('--help', '-h'):
    assert module._COMMAND.call(module.main, [name, flag]) == 0
  text = capsys.readouterr().out
  assert f'python -m cql_atari.{name}' in text.splitlines()[0]
  for flag in module._COMMAND.flags:
    assert f'--{flag}: ' in text
  assert callable(module.run)


def test_help_of_a_process_exits_with_0():
  done = python('-m', 'cql_atari.verify', '--help')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.startswith("Checks a run's shards: ")


def test_ctrl_c_while_modules_are_imported_is_a_word():
  done = python('-c', 'import cql_atari.core.command\nraise KeyboardInterrupt')
  assert done.returncode == -signal.SIGINT and done.stderr == 'interrupted.\n'


@pytest.mark.parametrize('name', ['prepare', 'verify', 'fetch', 'report'])
def test_a_file_runs_from_anywhere(name, tmp_path):
  """Nothing beside it takes the place of a module it needs."""
  done = python(str(PACKAGE / f'{name}.py'), '--help', cwd=tmp_path)
  assert done.returncode == 0, done.stderr


def test_the_package_lists_its_commands():
  done = python('-m', 'cql_atari')
  assert done.returncode == 0, done.stderr
  typed = [line.partition(': ')[2].split() for line in done.stdout.splitlines()]
  assert not any(words[-1].endswith('.') for words in typed[1:])
  assert sorted(' '.join(words[:3]) for words in typed[1:]) == [
    f'python -m cql_atari.{name}' for name in COMMANDS
  ]


def test_the_package_runs_a_command_by_its_name():
  done = python('-m', 'cql_atari', 'verify', '--help')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout == python('-m', 'cql_atari.verify', '--help').stdout
  assert (
    python('-m', 'cql_atari', '--help').stdout
    == python('-m', 'cql_atari').stdout
  )
  done = python('-m', 'cql_atari', 'swep')
  assert done.returncode == 2 and 'no command swep' in done.stderr


def test_every_module_on_top_is_a_command_and_no_other():
  modules = {p.stem for p in PACKAGE.glob('*.py') if p.name[0] != '_'}
  assert modules == set(COMMANDS)
  runs_itself = {
    path.relative_to(PACKAGE).parts[0]
    for path in PACKAGE.rglob('*.py')
    if "__name__ == '__main__'" in path.read_text()
  }
  assert runs_itself == {f'{name}.py' for name in (*modules, '__main__')}


def test_no_module_shadows_the_standard_library():
  names = {path.stem for path in PACKAGE.rglob('*.py')} - {'__init__'}
  assert not (names - {'__main__'}) & set(sys.stdlib_module_names)


def test_public_names_are_there_and_import_nothing_heavy():
  program = (
    'import sys, cql_atari\n'
    'from cql_atari import replay, agents, environments, runs, training\n'
    'from cql_atari import continuous, analysis, tabular, sweeps\n'
    "assert 'tensorflow' not in sys.modules\n"
    'for room in (cql_atari, replay, agents, environments, runs, training,\n'
    '             continuous, analysis, tabular, sweeps):\n'
    '  for name in dir(room):\n'
    '    assert getattr(room, name) is not None, name\n'
    "assert cql_atari.CQLAgent is agents.CQLAgent and 'CQLAgent' in "
    'cql_atari.__all__\n'
  )
  done = python('-c', program)
  assert done.returncode == 0, done.stderr
  with pytest.raises(AttributeError, match='no attribute'):
    _ = cql_atari.nonsense


def test_type_checkers_see_the_public_names():
  """By a stub, as `__init__.py` imports them when they are first used."""
  stub = pathlib.Path(cql_atari.__file__).with_suffix('.pyi')
  seen = {}
  for node in ast.parse(stub.read_text()).body:
    if isinstance(node, ast.ImportFrom):
      seen |= {alias.asname: node.module for alias in node.names}
  assert sorted(seen) == cql_atari.__all__
  for name, module in seen.items():
    assert getattr(importlib.import_module(module), name) is getattr(
      cql_atari, name
    )


def test_the_library_is_quiet():
  program = (
    'import cql_atari\n'
    'store = cql_atari.open_store(cql_atari.demo_replay_dir(),\n'
    '                             split=cql_atari.Split(shards=(10, 11)))\n'
    'cql_atari.CQLAgent(store).train_steps(1)\n'
  )
  done = python('-c', program)
  assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_how_a_command_ends(capsys):
  def ended(main, *arguments, operand=None):
    made = command.Command('Does: it.', operand)
    made.integer('count', 1, 'How many.', least=1)
    return made.call(main, ['it', *arguments]), capsys.readouterr().err

  def raising(error):
    def main(*operands):
      raise error

    return main

  assert ended(lambda: 3) == (3, '')
  assert ended(raising(UserError('no.'))) == (2, 'error: no.\n')
  assert ended(raising(BusyError('later.'))) == (75, 'error: later.\n')
  assert ended(raising(KeyboardInterrupt())) == (130, 'interrupted.\n')
  assert ended(lambda: 0, 'x')[0] == 2
  assert ended(lambda operand: len(operand), 'four', operand='DIR') == (4, '')
  assert ended(lambda operand: 0, operand='DIR')[1].startswith('error: no DIR')
  assert ended(lambda: 0, '--count=0')[0] == 2
  assert ended(lambda: 0, '--cuont=1')[0] == 2
  with pytest.raises(ZeroDivisionError):  # A bug keeps its traceback.
    ended(lambda: 1 / 0)


def test_nobody_has_to_read_what_a_command_prints():
  command = f'{sys.executable} -m cql_atari.train --help'
  for shell, status in ((f'{command} >&-', 0), (f'{command} | true', 141)):
    done = subprocess.run(
      ['bash', '-c', f'set -o pipefail; {shell}'],
      capture_output=True,
      text=True,
      check=False,
    )
    assert 'Traceback' not in done.stderr
    assert done.returncode in (0, status)  # It may be done before its reader.
