"""Gin files as text: found, read with their includes, and taken as values."""

import difflib
import importlib
import math
import os
import pathlib
import re
import tokenize
from collections.abc import Iterable, Iterator
from typing import Any

from gin import config_parser

from cql_atari.core import quiet
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path

_PACKAGE = pathlib.Path(__file__).parents[1]
# A place, for errors, and a binding of gin's parser.
Statement = tuple[str, config_parser.BindingStatement]


class Reference(str):
  """A value that refers to a configurable or a macro, as gin writes it."""


class _References(config_parser.ParserDelegate):
  """Leaves references as they are written."""

  def configurable_reference(self, scoped_name, evaluate):
    return Reference(f'@{scoped_name}{"()" if evaluate else ""}')

  def macro(self, scoped_name):
    return Reference(f'%{scoped_name}')


def config_dir() -> pathlib.Path:
  """The folder of the gin files that come with the package."""
  installed = _PACKAGE / 'gin_configs'
  return installed if installed.is_dir() else _PACKAGE.parent / 'gin_configs'


def find_config(name: str) -> pathlib.Path:
  """Finds a gin file by path, or by bare name among those of the package.

  Raises:
    UserError: there is none; suggests one, or names the ones there are.
  """
  for path in (user_path(name), config_dir() / name):
    if path.is_file():
      return path
  if ',' in name:
    raise UserError(f'there is no gin file {name}: give the flag for each one.')
  root = config_dir()
  known = [str(path.relative_to(root)) for path in root.rglob('*.gin')]
  raise UserError(f'there is no gin file {name}{suggest(name, known)}')


def bindings(text: str) -> dict[str, Any]:
  """Parses a gin text.

  Args:
    text: such as a run's config.gin.

  Returns:
    {'CQLMixin.alpha': 4.0, ...}; a reference is its text.

  Raises:
    UserError: it is no gin text.
  """
  return {full_name(s): s.value for _, s in _statements(text, 'the config')}


def statements(
  files: Iterable[str], lines: Iterable[str], imports: list[str] | None = None
) -> Iterator[Statement]:
  """The bindings of gin files, then of lines, each with its place.

  Args:
    files: paths or bare names; their includes are followed.
    lines: such as "CQLMixin.alpha=2.0".
    imports: gets the import statements, such as 'import my_agents'.

  Raises:
    UserError: a file that can't be read, or bad syntax.
  """
  for path in map(find_config, files):
    yield from _statements(_read(path), str(path), imports=imports)
  for line in lines:
    yield from _statements(line, f'"{line}"', imports=imports)


def last_bindings(files: Iterable[str], lines: Iterable[str]) -> dict[str, Any]:
  """The last binding of every name, in files and then lines; see `bindings`."""
  return {full_name(s): s.value for _, s in statements(files, lines)}


def binding(name: str, value: Any) -> str:
  """A line of gin that binds a Python value, also a class or a function, which
  a line before it imports unless it is ours.

  Args:
    name: such as 'CQLMixin.alpha', or 'GAME' of a macro.
    value: it.
  """
  items = value if isinstance(value, (list, tuple)) else [value]
  modules = {item.__module__ for item in items if callable(item)}
  own = sorted(m for m in modules if not f'{m}.'.startswith('cql_atari.'))
  imports = ''.join(f'import {m}\n' for m in own if m != '__main__')
  return f'{imports}{name} = {_literal(value)}'


def resolved(value: Any, bound: dict[str, Any]) -> Any:
  """A value with those of macros, and of their macros, in place of names.

  Args:
    value: such as '%ALPHA', or a list with it.
    bound: values by name, as of `bindings`.

  Raises:
    UserError: a macro is not defined.
  """
  if isinstance(value, (list, tuple)):
    return type(value)(resolved(item, bound) for item in value)
  if not (isinstance(value, Reference) and value.startswith('%')):
    return value
  name = value[1:]
  if name not in bound:
    raise UserError(f'{value} is used, but nothing defines {name}.')
  others = {n: v for n, v in bound.items() if n != name}  # No circle.
  return resolved(bound[name], others)


def full_name(statement: config_parser.BindingStatement) -> str:
  """Such as 'CQLMixin.alpha', 'policy/Adam.epsilon', or 'GAME' of a macro."""
  scope = f'{statement.scope}/' if statement.scope else ''
  name = scope + statement.selector.split('.')[-1]
  return f'{name}.{statement.arg_name}' if statement.arg_name else name


def line(statement: config_parser.BindingStatement) -> str:
  """A binding as a line of gin."""
  scope = f'{statement.scope}/' if statement.scope else ''
  parameter = f'.{statement.arg_name}' if statement.arg_name else ''
  return f'{scope}{statement.selector}{parameter} = {_literal(statement.value)}'


def one_line(error: Exception) -> str:
  """An exception's text on one line."""
  return ' '.join(str(error).split())


def _explain(text: str, error: Exception) -> str:
  """Why gin refuses a text, where that is a binding with a likely mistake."""
  name, _, value = (part.strip() for part in text.partition('='))
  first = re.fullmatch(r'([A-Za-z_][\w.:/-]*)( [^=]*|=)?', text.strip())
  if first:
    return f'a binding needs a value, as in "{first[1]}=VALUE".'
  if re.fullmatch(r'[A-Za-z_][\w.:/-]*', value):
    maker = f', and a configurable an @, as in "{name}=@{value}"'
    return (
      f'{value} is no value: a text needs quotes, as in '
      f'"{name}=\'{value}\'"{maker if value.isidentifier() else ""}.'
    )
  if value.removesuffix('%').replace('.', '', 1).isdigit():
    return f'{value} is no value: a share is a number, such as 0.1.'
  return one_line(error)


def suggest(name: str, known: Iterable[str]) -> str:
  """The end of an error's sentence: the likeliest of the known names."""
  names = sorted(known)
  # Of 'DQNAgent', 'FixedReplayDQNAgent' is as likely as what looks like it.
  close = [known_name for known_name in names if known_name.endswith(name)]
  close = close or difflib.get_close_matches(name, names, 1)
  if close:
    return f': did you mean {" or ".join(close)}?'
  return f': it could be one of {", ".join(names)}.' if names else '.'


def _literal(value: Any) -> str:
  if isinstance(value, Reference):
    return str(value)
  if callable(value):
    name = getattr(value, '__name__', repr(value))
    if not name.isidentifier():
      raise UserError(
        f'{name} cannot be told to gin: give a class or function that has a '
        "name, and its arguments by theirs, as {'Adam.learning_rate': 1e-3}."
      )
    return f'@{name}'
  if isinstance(value, os.PathLike):
    return repr(os.fspath(value))
  if hasattr(value, 'tolist'):  # NumPy's.
    return _literal(value.tolist())
  if isinstance(value, (list, tuple)):
    inside = ''.join(f'{_literal(item)},' for item in value)
    return f'[{inside}]' if isinstance(value, list) else f'({inside})'
  if isinstance(value, range):
    return _literal(tuple(value))
  if isinstance(value, dict):
    pairs = (f'{_literal(k)}: {_literal(v)}' for k, v in value.items())
    return f'{{{", ".join(pairs)}}}'
  if not isinstance(value, (int, float, str, bytes, type(None))) or (
    isinstance(value, float) and not math.isfinite(value)
  ):
    raise UserError(
      f'{value!r} cannot be told to gin: give a finite number, a text, a list, '
      'a tuple or a dict of them, a class or a function.'
    )
  return repr(value)


def _statements(
  text: str,
  place: str,
  within: tuple[pathlib.Path, ...] = (),
  imports: list[str] | None = None,
) -> Iterator[Statement]:
  """The bindings of a gin text, those of included files in their place."""
  parser = config_parser.ConfigParser(text, _References())
  while True:
    try:
      statement = next(parser, None)
    except tokenize.TokenError:
      raise UserError(f'{place}: a bracket or quote is not closed.') from None
    except (SyntaxError, ValueError) as error:
      if place.endswith('.py'):
        raise UserError(
          f'{place} is Python: give a gin file that has the line "import '
          f'{pathlib.Path(place).stem}".'
        ) from None
      raise UserError(f'{place}: {_explain(text, error)}') from None
    if statement is None:
      return
    if isinstance(statement, config_parser.IncludeStatement):
      path = find_config(statement.filename).resolve()
      if path in within:
        raise UserError(f'the gin file {path} includes itself.')
      text_within, within_it = _read(path), (*within, path)
      yield from _statements(text_within, str(path), within_it, imports)
    elif isinstance(statement, config_parser.ImportStatement):
      _import(statement.module, place)
      if imports is not None:
        imports.append(statement.format())
    elif isinstance(statement, config_parser.BindingStatement):
      yield place, statement


def _import(module: str, place: str) -> None:
  """Imports a module of the user's own agents."""
  try:
    with quiet.quiet():
      importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name and f'{module}.'.startswith(f'{error.name}.'):
      raise UserError(
        f'{place}: {error}. Its folder has to be in PYTHONPATH.'
      ) from None
    raise


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'the gin file {path} cannot be read ({error}).') from None
