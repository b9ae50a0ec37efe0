"""Settings: gin's configurables, checked before anything heavy is imported.

Gin knows a configurable only once its module is imported, and ours import
TensorFlow, which takes ten seconds. So names and values are first checked
against the source of the package: a mistake is reported in a second.
"""

import ast
import functools
import importlib
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import gin

from cql_atari.core import constraints, gin_text, quiet
from cql_atari.core.errors import UserError
from cql_atari.core.gin_text import suggest

AGENT = 'FixedReplayRunner.create_agent_fn'  # Such as @CQLAgent.

_PACKAGE = pathlib.Path(__file__).parents[1]
# Those modules with configurables that do not import TensorFlow.
_LIGHT_MODULES = (
  'cql_atari.core.devices',
  'cql_atari.environments.atari',
  'cql_atari.replay.opening',
  'cql_atari.continuous.datasets',
  'cql_atari.continuous.environments',
)


def import_all() -> None:
  """Imports every module with configurables, TensorFlow and all, quietly."""
  with quiet.quiet():
    quiet.import_tensorflow()
    for module in sorted({known.module for known in _known().values()}):
      importlib.import_module(module)


def parse(
  gin_files: Iterable[str], gin_bindings: Iterable[str], lock: bool
) -> None:
  """Gives gin the bindings of files and lines.

  Args:
    gin_files: paths or bare names, later ones overriding earlier ones.
    gin_bindings: lines such as "CQLMixin.alpha=2.0" or "GAME='Breakout'".
    lock: False before TensorFlow is imported, to bind what the light modules
      have. True after `import_all`, to bind everything and lock.

  Raises:
    UserError: a value that gin refuses.
  """
  for name in _LIGHT_MODULES:
    importlib.import_module(name)
  imports: list[str] = []  # For config.gin, which has to bring them again.
  statements = gin_text.statements(gin_files, gin_bindings, imports)
  lines = [gin_text.line(statement) for _, statement in statements]
  try:
    gin.parse_config_files_and_bindings(
      [], [*imports, *lines], finalize_config=lock, skip_unknown=not lock
    )
  except (ValueError, SyntaxError, TypeError, KeyError) as error:
    raise UserError(gin_text.one_line(error)) from None


def check(
  gin_files: Sequence[str],
  gin_bindings: Iterable[str],
  required: str,
  example: str = 'cql_1pct.gin',
) -> dict[str, Any]:
  """Checks every name and value in gin files and bindings; binds nothing.

  Args:
    gin_files: paths or bare names, later ones overriding earlier ones.
    gin_bindings: lines such as "CQLMixin.alpha=2.0".
    required: a parameter that has to be bound.
    example: a file of the package that binds it.

  Returns:
    The bindings, as of `gin_text.bindings`, macros replaced by their values.

  Raises:
    UserError: an unreadable file, bad syntax, an unknown name, or a value that
      its parameter cannot have.
  """
  of_files = list(gin_text.statements(gin_files, ()))
  statements = [*of_files, *gin_text.statements((), gin_bindings)]
  bound = {gin_text.full_name(s): s.value for _, s in statements}
  if required not in bound:
    if any(name.startswith('Sweep.') for name in bound):
      raise UserError(
        'these are settings of a sweep: python -m cql_atari.sweep '
        + ' '.join(f'--gin_files={name}' for name in gin_files)
      )
    raise UserError(
      f'no gin file binds {required}: start from one of the package, such as '
      f'--gin_files={example}'
    )
  macros = {s.selector for _, s in of_files if not s.arg_name}
  for place, statement in statements:
    name = statement.selector
    if statement.arg_name:
      _check_name(place, name.split('.')[-1], statement.arg_name)
    elif of_files and name not in macros:
      raise UserError(
        f'{place}: no gin file has a macro {name}{suggest(name, macros)}'
      )
  for name, value in bound.items():
    bound[name] = gin_text.resolved(value, bound)
    if '.' in name:
      _check_value(name.rpartition('/')[2], bound[name])
  return bound


def owner(name: str, parameter: str) -> str:
  """The configurable that has a parameter itself: of CQLAgent.gamma,
  FixedReplayAgent."""
  known = _known()
  if name in known and parameter not in known[name].parameters:
    for base in known[name].bases:
      if base in known and parameter in _parameters(base)[0]:
        return owner(base, parameter)
  return name


_FEW_OWNERS = 2  # Of more, none is likely meant.


def owners(parameter: str) -> list[str]:
  """The configurables that have a parameter of that name themselves."""
  return sorted(
    name
    for name, described in _known().items()
    if parameter in described.parameters.keys() - described.denied
    and name != 'Sweep'
  )


def _check_name(place: str, owner: str, parameter: str) -> None:
  _check_reference(place, owner)
  if owner in _known():
    known, denied = _parameters(owner)
  else:
    known, denied = constraints.parameters(gin.get_configurable(owner)), ()
  if parameter in denied:
    hint = ': bind SEED instead.' if parameter == 'seed' else ' itself.'
    raise UserError(
      f'{place}: {owner}.{parameter} is given by the program{hint}'
    )
  if known is not None and parameter not in known:
    hint = suggest(parameter, known)
    if 0 < len(others := owners(parameter)) <= _FEW_OWNERS:
      hint = suggest(parameter, [f'{o}.{parameter}' for o in others])
    raise UserError(f'{place}: {owner} has no parameter {parameter}{hint}')


def _check_reference(place: str, reference: str) -> None:
  """Refuses a configurable that neither we nor an imported module have."""
  name = re.split(r'[@/.]', reference.removesuffix('()'))[-1]
  if name in _known():
    return
  try:
    gin.get_configurable(name)
  except (ValueError, KeyError):  # KeyError: two modules have one.
    hint = suggest(name, _known())
    if 'did you mean' not in hint:
      hint = (
        ': one of your own needs @gin.configurable, and a gin file with the '
        'line "import its_module" (from Python, neither file nor line).'
      )
    raise UserError(f'{place}: there is no configurable {name}{hint}') from None


def _check_value(name: str, value: Any) -> None:
  owner, _, parameter = name.rpartition('.')
  made = [owner]
  if owner not in _known():  # A user's: what its bases have.
    bases = getattr(gin.get_configurable(owner), '__mro__', ())
    made = [base.__name__ for base in bases]
  known = next((_parameters(n)[0] for n in made if n in _known()), {})
  annotation = known.get(parameter, '')
  is_maker = annotation.startswith('Callable')
  for item in value if isinstance(value, (list, tuple)) else [value]:
    if isinstance(item, gin_text.Reference):
      _check_reference(name, item)
  if isinstance(value, gin_text.Reference):
    named = value.removesuffix('()')
    right = named if is_maker else f'{named}()'
    if annotation.startswith('Sequence[Callable'):
      right = f'[{named}]'
    if annotation and value != right:
      raise UserError(f'{name} is {value}: write {right}.')
  elif is_maker and not (value is None and 'None' in annotation):
    raise UserError(
      f'{name} is {value!r}: give what makes it, such as '
      f'@{str(value).lstrip("@")}, without quotes.'
    )
  elif annotation:
    try:
      kind = eval(annotation, vars(constraints))
    except (NameError, AttributeError, TypeError):
      return  # A type of another module, which says nothing of plain values.
    constraints.check(name, value, kind)


class _Configurable(NamedTuple):
  """A configurable in the source: its parameters' annotations, and more."""

  module: str
  parameters: dict[str, str]
  denied: frozenset[str]
  bases: list[str]  # Where **kwargs go.


@functools.cache
def _known() -> dict[str, _Configurable]:
  """Every configurable in the package's source, by name."""
  return {
    node.name: _describe(node, source.relative_to(_PACKAGE.parent))
    for source in _PACKAGE.rglob('*.py')
    for node in ast.parse(source.read_text()).body
    if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    and any('configurable' in ast.unparse(d) for d in node.decorator_list)
  }


def _describe(node: ast.stmt, source: pathlib.Path) -> _Configurable:
  denied = frozenset(
    name
    for decorator in node.decorator_list
    for keyword in getattr(decorator, 'keywords', ())
    if keyword.arg == 'denylist'
    for name in ast.literal_eval(keyword.value)
  )
  bases = [ast.unparse(b).split('.')[-1] for b in getattr(node, 'bases', ())]
  makers = [n for n in node.body if getattr(n, 'name', '') == '__init__']
  if isinstance(node, ast.ClassDef) and not makers:  # Its bases', or fields.
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    names = {n.target.id: ast.unparse(n.annotation) for n in fields}
    names = {n: a for n, a in names.items() if 'ClassVar' not in a}
  else:
    given = (makers or [node])[0].args
    names = {
      argument.arg: ast.unparse(argument.annotation or ast.Name(''))
      for argument in (*given.args, *given.kwonlyargs)
      if argument.arg != 'self'
    }
    bases = bases if given.kwarg else []
  parts = source.with_suffix('').parts
  return _Configurable('.'.join(parts), names, denied, bases)


def _parameters(name: str) -> tuple[dict[str, str], frozenset[str]]:
  """The parameters gin can bind of a configurable, and those it can't."""
  _, names, denied, bases = _known()[name]
  for base in bases:
    if base in _known():
      of_base, denied_by_base = _parameters(base)
      names = {**of_base, **names}
      denied |= denied_by_base
  return {n: a for n, a in names.items() if n not in denied}, denied
