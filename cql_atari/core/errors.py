"""How a user's mistake ends: one plain sentence, no traceback."""

import math
import os
import sys
from collections.abc import Callable

from absl import app, flags, logging


class UserError(Exception):
  """A mistake that the user can mend; its text is the sentence they see."""


def check_number(
  name: str,
  value: object,
  least: float,
  whole: bool = False,
  most: float = math.inf,
) -> None:
  """Checks a setting.

  Args:
    name: as gin writes it, such as 'Adam.learning_rate'.
    value: what was given.
    least: the least that makes sense.
    whole: whether it has to be a whole number.
    most: the most that makes sense.

  Raises:
    UserError: it is no such number.
  """
  kinds = (int,) if whole else (int, float)
  is_number = isinstance(value, kinds) and not isinstance(value, bool)
  if not is_number or not least <= value <= most:
    limit = '' if most == math.inf else f' and at most {most}'
    raise UserError(
      f'{name} is {value!r}: give a {"whole " if whole else ""}number of at '
      f'least {least}{limit}.'
    )


def check_flag(name: str, value: object) -> None:
  """Checks a setting that is True or False.

  Args:
    name: as gin writes it.
    value: what was given.

  Raises:
    UserError: it is something else, such as the text 'False'.
  """
  if not isinstance(value, bool):
    raise UserError(f'{name} is {value!r}: give True or False, without quotes.')


def run(main: Callable[..., int | None], operand: str | None = None) -> None:
  """Runs an entry point and turns a `UserError` into one sentence on stderr.

  Flags are parsed by absl. Exit status: what `main` returns, 1 for a mistake
  of the user's, 130 after Ctrl-C. Bugs keep their traceback.

  Args:
    main: the entry point, called once flags are parsed: without arguments, or
      with the operand.
    operand: what the one argument that is not a flag is called, if there is
      one, such as 'DIR'.
  """

  def guarded(argv: list[str]) -> int | None:
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
    try:
      operands = 1 if operand else 0
      if len(argv) > 1 + operands:
        raise UserError(
          f'unexpected argument {argv[1 + operands]!r}: every setting is a '
          'flag, and a pattern needs quotes; see --help.'
        )
      if len(argv) < 1 + operands:
        raise UserError(f'no {operand} given: name it after the command.')
      return main(*argv[1:])
    except UserError as error:
      # Gin adds lines on where it was when the error came.
      _say(f'error: {error}'.split('\n')[0])
      return 1
    except KeyboardInterrupt:
      _say('interrupted.')
      return 130
    except BrokenPipeError:
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return 141

  app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    _say(f'error: {error} See --help.')
    sys.exit(2)


def _say(sentence: str) -> None:
  sys.stderr.write(f'{sentence}\n')
  sys.stderr.flush()
