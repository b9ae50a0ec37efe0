"""The frame of every command: flags, help, errors and exit statuses.

Each command has flags of its own kind, so two commands can be imported into
one process. What several share is defined here, once.
"""

import atexit
import functools
import inspect
import logging as stdlib_logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from cql_atari.core.errors import UserError


def _excepthook(kind: type[BaseException], *error) -> None:
  """Says in a word that Ctrl-C came, also while modules are imported."""
  if issubclass(kind, KeyboardInterrupt):
    _say('interrupted.')
  else:
    sys.__excepthook__(kind, *error)


sys.excepthook = _excepthook
_HELP = ('-h', '-help', '--help', '--helpshort', '--helpfull')


class Command:
  """A command line: flags, at most one operand, and the function to run."""

  def __init__(self, description: str, operand: str | None = None):
    """Begins a command without flags.

    Args:
      description: the module's docstring. Its first line says what the command
        does and, after a colon, what to type.
      operand: the name of the one argument that is not a flag, such as 'DIR';
        None where every setting is a flag.
    """
    self.description, self.operand = description.strip(), operand
    self.flags = flags.FlagValues()

  def string(self, name: str, default: str | None, text: str):
    """Defines a flag; `.value` of what it returns is a string or None."""
    return flags.DEFINE_string(name, default, text, flag_values=self.flags)

  def strings(self, name: str, text: str):
    """Defines a repeatable flag, a list of strings."""
    return flags.DEFINE_multi_string(name, [], text, flag_values=self.flags)

  def integer(
    self, name: str, default: int | None, text: str, least: int | None = None
  ):
    """Defines a flag, a whole number of at least `least`."""
    return flags.DEFINE(
      _WholeNumber(least), name, default, text, flag_values=self.flags
    )

  def number(self, name: str, default: float, text: str):
    """Defines a flag, a number."""
    return flags.DEFINE_float(name, default, text, flag_values=self.flags)

  def switch(self, name: str, text: str):
    """Defines a flag that is off by default."""
    return flags.DEFINE_bool(name, False, text, flag_values=self.flags)

  def choice(
    self, name: str, default: str | None, values: Sequence[str], text: str
  ):
    """Defines a flag, one of a few strings."""
    return flags.DEFINE_enum(
      name, default, values, text, flag_values=self.flags
    )

  # --- What several commands have. ---

  def gin(self, files: str):
    """Defines --gin_files (with this help) and --gin_bindings."""
    return self.strings('gin_files', f'{files} Repeatable.'), self.strings(
      'gin_bindings', 'A gin binding, such as "CQLMixin.alpha=2.0". Repeatable.'
    )

  def seed(self, of: str):
    """Defines --seed."""
    return self.integer('seed', 0, f'Seeds {of}.', least=0)

  def run_folder(self):
    """Defines --run, a run folder."""
    return self.string('run', None, 'A run folder, such as runs/demo/cql-0.')

  def run_folders(self, name: str = 'run'):
    """Defines --run, run folders by path or pattern."""
    return self.strings(
      name,
      'A run folder, a folder with some below it, or a quoted pattern such as '
      "'runs/*'. Repeatable.",
    )

  def game_of_folder(self):
    """Defines --game, for folders whose path does not tell."""
    return self.string(
      'game', None, 'The game, where the path does not end in GAME/RUN.'
    )

  def split(self):
    """Defines --split, a share of a run of the dataset."""
    return self.string(
      'split',
      '1pct',
      '1pct, 10pct, 10pct_10shards, first20pct, first20m, all, or a share such '
      'as 0.05.',
    )

  # --- Running. ---

  def run(self, main: Callable[..., int | None]) -> None:
    """Parses the command line, runs `main` and ends the process.

    Exit status: what `main` returns, 2 for a mistake of the user's, 75 where
    trying again later helps, 130 after Ctrl-C, 141 where nobody reads what it
    prints, and 1 for a bug, with its traceback.

    Args:
      main: called without arguments, or with the operand.
    """
    if 'MPLBACKEND' not in os.environ:  # Pictures go to files.
      os.environ['MPLBACKEND'] = 'Agg'
      if 'matplotlib' in sys.modules:
        sys.modules['matplotlib'].use('Agg')
    status = self.call(main, sys.argv)
    if sys.getprofile() or sys.gettrace():
      sys.exit(status)  # For a profiler to report.
    # TensorFlow's modules would take a second to be taken apart.
    atexit._run_exitfuncs()
    os._exit(status or 0)

  def entry_point(self, main: Callable[..., int | None]) -> Callable[[], None]:
    """`run` with this function, as setup.py's console scripts call it."""
    return functools.partial(self.run, main)

  def call(self, main: Callable[..., Any], argv: Sequence[str]) -> int | None:
    """As `run`, but returns the exit status."""
    try:
      status = self._call(main, list(argv))
      for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
      return status
    except BrokenPipeError:
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return 141

  def _call(self, main: Callable[..., Any], arguments: list[str]) -> int | None:
    if any(argument in _HELP for argument in arguments[1:]):
      print(self.help())
      return 0
    try:
      # The global flags are absl's own, such as --verbosity.
      rest = self.flags(flags.FLAGS(arguments, known_only=True))
    except flags.Error as error:
      sentence = f'{error}'.rstrip(' .').replace(' ?', '?')
      stop = '' if sentence.endswith('?') else '.'
      _say(f'error: {sentence}{stop} See --help.{self._binding_of(arguments)}')
      return 2
    _quiet_logging()
    try:
      return main(*self._operands(rest[1:]))
    except UserError as error:
      # Gin adds lines on where it was when the error came.
      _say(f'error: {error}'.split('\n')[0])
      return error.status
    except PermissionError as error:
      _say(f'error: {error.filename} may not be opened ({error.strerror}).')
      return UserError.status
    except KeyboardInterrupt:
      _say('interrupted.')
      return 130

  def _binding_of(self, arguments: list[str]) -> str:
    """The binding for a flag that is a setting, such as --alpha=2."""
    if 'gin_bindings' not in self.flags:
      return ''
    from cql_atari.core import settings

    for argument in arguments[1:]:
      name, _, value = argument.lstrip('-').partition('=')
      owners = [] if name in self.flags else settings.owners(name)
      if owners:
        bindings = ' or '.join(
          f'--gin_bindings="{owner}.{name}={value or "VALUE"}"'
          for owner in owners
        )
        return f' Settings are bound: {bindings}.'
    return ''

  def _operands(self, given: Sequence[str]) -> Sequence[str]:
    expected = 1 if self.operand else 0
    if len(given) > expected:
      raise UserError(
        f'unexpected argument {given[expected]!r}: every setting is a flag, '
        'and a pattern needs quotes; see --help.'
      )
    if len(given) < expected:
      raise UserError(f'no {self.operand} given: name it after the command.')
    return given

  def help(self) -> str:
    """The description, then every flag."""
    first, *rest = inspect.cleandoc(self.description).split('\n')
    lines = [first.rstrip('.'), *rest, '', 'Flags:']
    for members in self.flags.flags_by_module_dict().values():
      for flag in members:
        text = flag.help.partition(';\n')[0]  # absl says how to repeat it.
        lines.append(f'  --{flag.name}: {text}')
        if flag.default not in (None, []) and flag.default is not False:
          lines.append(f'    (default: {flag.default})')
    lines.append('  --verbosity: 1 shows all that libraries log.')
    return '\n'.join(lines)


class _WholeNumber(flags.IntegerParser):
  """As absl's, with words for what is no number."""

  def convert(self, argument: int | str) -> int:
    try:
      return super().convert(argument)
    except ValueError:
      raise ValueError('it is no whole number') from None


class _Sentences(stdlib_logging.Formatter):
  """A warning as a line, without the time and the number of the thread."""

  def format(self, record: stdlib_logging.LogRecord) -> str:
    return f'{record.levelname.lower()}: {record.getMessage()}'


def _quiet_logging() -> None:
  logging.use_absl_handler()
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(_Sentences())


def _say(sentence: str) -> None:
  sys.stderr.write(f'{sentence}\n')
  sys.stderr.flush()
