"""Finds and checks gin files before anything heavy is imported.

Gin knows a configurable only once its module is imported, and ours import
TensorFlow, which takes ten seconds. So names are first checked against the
source of the package: a misspelt parameter is reported in a second.
"""

import difflib
import importlib
import importlib.util
import pathlib
import re
from collections.abc import Iterator, Sequence

import gin
from gin import config_parser

from cql_atari.core import configurables, quiet
from cql_atari.core.errors import UserError

_PACKAGE = pathlib.Path(__file__).parents[1]
_QUOTES = '\'"'
_LIGHT_MODULES = (
  'cql_atari.core.quiet',
  'cql_atari.environments.atari',
  'cql_atari.replay.open_store',
  'cql_atari.continuous.datasets',
  'cql_atari.continuous.environments',
)
_AGENT_MODULES = (
  'cql_atari.agents.bc_agent',
  'cql_atari.agents.cql_agent',  # With those it is mixed into.
  'cql_atari.agents.rem_agent',
  'cql_atari.continuous.agents.bc_agent',
  'cql_atari.continuous.agents.bear_agent',
  'cql_atari.continuous.agents.brac_agent',
  'cql_atari.continuous.agents.cql_agent',
  'cql_atari.agents.distribution',
)
_AGENT = 'FixedReplayRunner.create_agent_fn'
_REQUIRED = {
  _AGENT: 'no gin file names the agent to train: start from one of the '
  'package, such as --gin_files=cql_1pct.gin, or bind '
  'FixedReplayRunner.create_agent_fn.',
  'Sweep.configs': 'no gin file names the configs of the sweep: start from one '
  'of the package, such as --gin_files=sweeps/table3.gin, or bind '
  'Sweep.configs.',
  'Collector.create_agent_fn': 'no gin file names the agent that plays: give '
  '--gin_files=collect.gin or collect_small.gin, or leave --gin_files out.',
  'SACCollector.create_agent_fn': 'no gin file names the agent that plays: '
  'give --gin_files=d4rl/collect.gin, or leave --gin_files out.',
}


def config_dir() -> pathlib.Path:
  """The folder of the gin files that come with the package."""
  installed = _PACKAGE / 'gin_configs'
  return installed if installed.is_dir() else _PACKAGE.parent / 'gin_configs'


def find_config(name: str) -> pathlib.Path:
  """Finds a gin file by path, or by bare name among those of the package.

  Raises:
    UserError: there is none; names the ones there are.
  """
  for path in (pathlib.Path(name).expanduser(), config_dir() / name):
    if path.is_file():
      return path
  known = sorted(
    str(path.relative_to(config_dir())) for path in config_dir().rglob('*.gin')
  )
  raise UserError(
    f'there is no gin file {name}: give a path, or one of {", ".join(known)}.'
  )


def import_all(runner: str = 'cql_atari.training.runner') -> None:
  """Imports every module with configurables, TensorFlow and all.

  Args:
    runner: the one that runs the agents. Training's is Dopamine's, whose import
      takes as long as TensorFlow's.
  """
  for name in (*_LIGHT_MODULES, *_AGENT_MODULES, runner):
    importlib.import_module(name)


def check(
  gin_files: Sequence[str],
  gin_bindings: Sequence[str],
  required: str = _AGENT,
) -> dict[str, object]:
  """Checks every name in gin files and bindings, and parses nothing.

  Args:
    gin_files: paths or bare names, later ones overriding earlier ones.
    gin_bindings: lines such as "CQLMixin.alpha=2.0".
    required: a parameter that has to be bound, of _REQUIRED.

  Returns:
    What is bound, as {'FixedReplayRunner.num_iterations': 200, ...}; a
    reference to a configurable is its text.

  Raises:
    UserError: an unreadable file, bad syntax or an unknown name.
  """
  paths = [find_config(name) for name in gin_files]
  return _check(paths, gin_bindings, required)


def parse(
  gin_files: Sequence[str],
  gin_bindings: Sequence[str],
  final: bool,
  required: str = _AGENT,
) -> None:
  """Checks and parses gin files and bindings.

  Args:
    gin_files: paths or bare names, later ones overriding earlier ones.
    gin_bindings: lines such as "CQLMixin.alpha=2.0" or "GAME='Breakout'".
    final: False before TensorFlow is imported: every name is checked, and what
      the light modules bind is bound. True after `import_all`, to bind
      everything and lock.
    required: see `check`.

  Raises:
    UserError: an unreadable file, bad syntax or an unknown name.
  """
  paths = [find_config(name) for name in gin_files]
  if not final:
    _check(paths, gin_bindings, required)
    for name in _LIGHT_MODULES:
      importlib.import_module(name)
  try:
    gin.parse_config_files_and_bindings(
      [],
      [*map(_with_includes, paths), *gin_bindings],
      finalize_config=final,
      skip_unknown=not final,
    )
  except (ValueError, SyntaxError, TypeError) as error:
    raise UserError(one_line(error)) from None


def one_line(error: Exception) -> str:
  """An exception's text on one line, with a word on gin's likeliest mistake."""
  text = ' '.join(str(error).split())
  if 'malformed node' in text:
    return (
      'a value is not understood: text needs quotes, such as '
      '--gin_bindings="GAME=\'Breakout\'".'
    )
  return text


# --- The check against the package's source. ---


class _References(config_parser.ParserDelegate):
  """Collects the configurables and macros that values refer to."""

  def __init__(self):
    self.configurables, self.macros = [], []

  def configurable_reference(self, scoped_name, evaluate):
    self.configurables.append(scoped_name.split('/')[-1])
    return f'@{scoped_name}{"()" if evaluate else ""}'

  def macro(self, scoped_name):
    self.macros.append(scoped_name)
    return f'%{scoped_name}'


def _statements(
  text: str,
  place: str,
  references: _References,
  within: tuple[pathlib.Path, ...] = (),
) -> Iterator:
  """The bindings of a gin text, those of included files in their place.

  What it imports is imported.
  """
  parser = config_parser.ConfigParser(text, references)
  while True:
    try:
      statement = next(parser, None)
    except (SyntaxError, ValueError) as error:
      raise UserError(f'{place}: {one_line(error)}') from None
    if statement is None:
      return
    if isinstance(statement, config_parser.IncludeStatement):
      path = find_config(statement.filename).resolve()
      if path in within:
        raise UserError(f'the gin file {path} includes itself.')
      yield from _statements(
        _read(path), str(path), references, (*within, path)
      )
    elif isinstance(statement, config_parser.ImportStatement):
      _import(statement.module, place)
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


def _with_includes(path: pathlib.Path) -> str:
  """A gin file with the included ones in their places.

  Gin would look for them among Python's packages, and trip over a folder of the
  same name.
  """

  def included(statement: re.Match) -> str:
    return _with_includes(find_config(statement['file']))

  pattern = r'^include\s+([\'"])(?P<file>.+?)\1\s*(#.*)?$'
  return re.sub(pattern, included, _read(path), flags=re.MULTILINE)


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'the gin file {path} cannot be read ({error}).') from None


def _check(
  paths: Sequence[pathlib.Path], bindings: Sequence[str], required: str
) -> dict[str, object]:
  references = _References()
  macros, bound = set(), {}
  for path in paths:
    text = _read(path)
    for place, binding in _statements(text, str(path), references):
      bound[_full_name(binding)] = binding.value
      if binding.arg_name:
        _check_binding(place, binding)
      else:
        macros.add(binding.selector)
  for text in bindings:
    place = f'--gin_bindings="{text}"'
    for _, binding in _statements(text, place, references):
      bound[_full_name(binding)] = binding.value
      if binding.arg_name:
        _check_binding(place, binding)
      elif paths and binding.selector not in macros:
        raise UserError(
          f'{place}: no gin file has a macro {binding.selector}'
          + _suggest(binding.selector, macros)
        )
  if required not in bound:
    raise UserError(_REQUIRED[required])
  for name in references.configurables:
    _check_configurable('', name)
  for name in references.macros:
    if name not in macros:
      raise UserError(f'%{name} is used, but nothing defines {name}.')
  for name, value in bound.items():
    if str(value).startswith('%'):
      bound[name] = bound.get(str(value).removeprefix('%'), value)
    _check_parentheses(name, str(bound[name]))
  return bound


def _check_parentheses(name: str, value: str) -> None:
  """What a run makes for itself is named, what is made for it is called."""
  parameter = name.split('.')[-1]
  is_named = re.fullmatch(r'.*_fn|optimizer|trunk|network', parameter)
  right = value.removesuffix('()')
  if parameter in ('strategy', 'num_actions'):
    right += '()'
  elif not is_named:
    return
  if value.startswith('@') and value != right:
    raise UserError(f'{name} is {value}: write {right}.')
  if not value.startswith(('@', 'None')) and parameter != 'num_actions':
    reference = f'@{value.strip(_QUOTES)}{"()" * (parameter == "strategy")}'
    raise UserError(
      f'{name} is {value!r}: give what makes it, such as {reference}, without '
      'quotes.'
    )


def _full_name(binding) -> str:
  """Such as 'CQLMixin.alpha', or 'GAME' of a macro."""
  name = binding.selector.split('.')[-1]
  return f'{name}.{binding.arg_name}' if binding.arg_name else name


def _check_binding(place: str, binding) -> None:
  name = _check_configurable(f'{place}: ', binding.selector)
  if name not in configurables.known():
    return  # The user's own, which gin checks when it binds.
  parameters, denied = configurables.parameters(name)
  if binding.arg_name in denied:
    raise UserError(
      f'{place}: {name}.{binding.arg_name} is given by the program'
      + (': bind SEED instead.' if binding.arg_name == 'seed' else ' itself.')
    )
  if binding.arg_name not in parameters:
    raise UserError(
      f'{place}: {name} has no parameter {binding.arg_name}'
      + _suggest(binding.arg_name, parameters)
    )


def _check_configurable(place: str, selector: str) -> str:
  name = selector.split('.')[-1]
  if name not in configurables.known() and not _is_registered(name):
    raise UserError(
      f'{place}there is no configurable {name}'
      + _suggest(name, configurables.known())
    )
  return name


def _is_registered(name: str) -> bool:
  """Whether a module that a gin file imported has brought the configurable."""
  try:
    return bool(gin.get_configurable(name))
  except ValueError:
    return False


def _suggest(name: str, known) -> str:
  close = difflib.get_close_matches(name, list(known), 1)
  if close:
    return f': did you mean {close[0]}?'
  return f': it could be one of {", ".join(sorted(known))}.' if known else '.'
