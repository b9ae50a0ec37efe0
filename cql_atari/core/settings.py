"""Settings: gin's configurables, checked before anything heavy is imported.

Gin knows a configurable only once its module is imported, and ours import
TensorFlow, which takes ten seconds. So names and values are first checked
against the source of the package: a mistake is reported in a second.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gin

from cql_atari.core import constraints, gin_text
from cql_atari.core.errors import UserError
from cql_atari.core.gin_text import suggest

# The setting of a training run that names its agent's class, such as @CQLAgent.
AGENT = 'FixedReplayRunner.create_agent_fn'

_PACKAGE = pathlib.Path(__file__).parents[1]
# Those modules with configurables that do not import TensorFlow.
_LIGHT_MODULES = (
  'cql_atari.core.devices',
  'cql_atari.environments.atari',
  'cql_atari.replay.opening',
  'cql_atari.continuous.datasets',
  'cql_atari.continuous.environments',
)
_EXAMPLES = {
  'Sweep.configs': 'sweeps/table3.gin',
  'Collector.create_agent_fn': 'collect.gin',
  'SACCollector.create_agent_fn': 'd4rl/collect.gin',
}


def configurable(
  target: Callable | None = None, *, denylist: Sequence[str] | None = None
):
  """`gin.configurable`, for functions and classes that check their arguments.

  Args:
    target: the decorated function or class.
    denylist: parameters that callers give, so that gin may not.
  """
  if target is None:
    return functools.partial(configurable, denylist=denylist)
  made = gin.configurable(constraints.checked(target), denylist=denylist)
  if inspect.isclass(made):
    # Else a subclass without a constructor of its own would seem to have these
    # parameters itself, and its config would repeat their defaults.
    vars(made.__init__).pop('__signature__', None)
  return made


def import_all() -> None:
  """Imports every module with configurables, TensorFlow and all."""
  for module in sorted({described.module for described in _known().values()}):
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
  except (ValueError, SyntaxError, TypeError) as error:
    raise UserError(gin_text.one_line(error)) from None


def check(
  gin_files: Iterable[str], gin_bindings: Iterable[str], required: str
) -> dict[str, Any]:
  """Checks every name and value in gin files and bindings; binds nothing.

  Args:
    gin_files: paths or bare names, later ones overriding earlier ones.
    gin_bindings: lines such as "CQLMixin.alpha=2.0".
    required: a parameter that has to be bound.

  Returns:
    The bindings, as of `gin_text.bindings`, macros replaced by their values.

  Raises:
    UserError: an unreadable file, bad syntax, an unknown name, or a value that
      its parameter cannot have.
  """
  of_files = list(gin_text.statements(gin_files, ()))
  of_lines = list(gin_text.statements((), gin_bindings))
  statements = [statement for _, statement in (*of_files, *of_lines)]
  bound = {gin_text.full_name(s): s.value for s in statements}
  if required not in bound:
    if any(name.startswith('Sweep.') for name in bound):
      raise UserError(
        'these are settings of a sweep: python -m cql_atari.sweep '
        + ' '.join(f'--gin_files={name}' for name in gin_files)
      )
    example = _EXAMPLES.get(required, 'cql_1pct.gin')
    raise UserError(
      f'no gin file binds {required}: start from one of the package, such as '
      f'--gin_files={example}'
    )
  macros = {s.selector for _, s in of_files if not s.arg_name}
  for place, statement in (*of_files, *of_lines):
    if statement.arg_name:
      _check_name(place, statement.selector.split('.')[-1], statement.arg_name)
    elif of_files and statement.selector not in macros:
      name = statement.selector
      raise UserError(
        f'{place}: no gin file has a macro {name}{suggest(name, macros)}'
      )
  for name, value in bound.items():
    if isinstance(value, gin_text.Reference) and value.startswith('%'):
      if value[1:] not in bound:
        raise UserError(f'{value} is used, but nothing defines {value[1:]}.')
      bound[name] = bound[value[1:]]
    if '.' in name:
      _check_value(name, bound[name])
  return bound


def owners(parameter: str) -> list[str]:
  """The configurables that have a parameter of that name themselves."""
  return sorted(
    name
    for name, described in _known().items()
    if parameter in described.parameters
    and parameter not in described.denied
    and name != 'Sweep'
  )


def _check_name(place: str, owner: str, parameter: str) -> None:
  if owner not in _known():
    _check_reference(place, owner)
    known, denied = _parameters_of_own(gin.get_configurable(owner)), ()
    if known is None:
      return
  else:
    known, denied = _parameters(owner)
  if parameter in denied:
    hint = ': bind SEED instead.' if parameter == 'seed' else ' itself.'
    raise UserError(
      f'{place}: {owner}.{parameter} is given by the program{hint}'
    )
  if parameter not in known:
    raise UserError(
      f'{place}: {owner} has no parameter {parameter}'
      + suggest(parameter, known)
    )


def _parameters_of_own(target: Callable) -> set[str] | None:
  """The parameters of a user's configurable, his bases' with them.

  None where they cannot be known, as of a function with **kwargs.
  """
  makers = [target]
  if inspect.isclass(target):
    makers = [
      vars(c)['__init__'] for c in target.__mro__ if '__init__' in vars(c)
    ]
  names = set()
  for maker in makers:
    parameters = inspect.signature(maker).parameters.values()
    names |= {p.name for p in parameters} - {'self', 'args', 'kwargs'}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
      return names
  return None


def _check_reference(place: str, name: str) -> None:
  """Refuses a configurable that neither we nor an imported module have."""
  try:
    is_registered = name in _known() or bool(gin.get_configurable(name))
  except ValueError:
    is_registered = False
  if not is_registered:
    raise UserError(
      f'{place}: there is no configurable {name}{suggest(name, _known())}'
    )


def _check_named(name: str, value: gin_text.Reference) -> str:
  """Checks that there is what a value names; returns it without a call."""
  named = value.removesuffix('()')
  _check_reference(name, named[1:].split('/')[-1].split('.')[-1])
  return named


def _check_value(name: str, value: Any) -> None:
  owner, _, parameter = name.rpartition('.')
  annotation = ''
  if owner in _known():
    annotation = _parameters(owner)[0].get(parameter, '')
  is_maker = annotation.startswith('Callable')
  if isinstance(value, (list, tuple)):
    for item in value:
      if isinstance(item, gin_text.Reference):
        _check_named(name, item)
  if isinstance(value, gin_text.Reference):
    named = _check_named(name, value)
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


@dataclasses.dataclass(frozen=True)
class _Configurable:
  """A configurable in the source: its parameters' annotations, and more."""

  module: str
  parameters: dict[str, str]
  denied: frozenset[str]
  bases: tuple[str, ...]  # Where **kwargs go.


@functools.cache
def _known() -> dict[str, _Configurable]:
  """Every configurable in the package's source, by name."""
  return {
    node.name: _describe(node, _module_name(source))
    for source in _PACKAGE.rglob('*.py')
    for node in ast.parse(source.read_text()).body
    if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    and any('configurable' in ast.unparse(d) for d in node.decorator_list)
  }


def _module_name(source: pathlib.Path) -> str:
  relative = source.relative_to(_PACKAGE.parent).with_suffix('')
  return '.'.join(relative.parts)


def _describe(
  node: ast.ClassDef | ast.FunctionDef, module: str
) -> _Configurable:
  denied = frozenset(
    element.value
    for decorator in node.decorator_list
    for keyword in getattr(decorator, 'keywords', ())
    if keyword.arg == 'denylist'
    for element in keyword.value.elts
  )
  bases = [ast.unparse(b).split('.')[-1] for b in getattr(node, 'bases', ())]
  if isinstance(node, ast.ClassDef):
    functions = [n for n in node.body if getattr(n, 'name', '') == '__init__']
    if not functions:  # Its bases', or a dataclass's fields.
      fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
      names = {n.target.id: ast.unparse(n.annotation) for n in fields}
      return _Configurable(module, names, denied, tuple(bases))
    node = functions[0]
  names = {
    argument.arg: ast.unparse(argument.annotation or ast.Name(''))
    for argument in (*node.args.args, *node.args.kwonlyargs)
    if argument.arg != 'self'
  }
  inherited = tuple(bases) if node.args.kwarg else ()
  return _Configurable(module, names, denied, inherited)


def _parameters(name: str) -> tuple[dict[str, str], frozenset[str]]:
  """The parameters gin can bind of a configurable, and those it can't."""
  described = _known()[name]
  names, denied = dict(described.parameters), described.denied
  for base in described.bases:
    if base in _known():
      of_base, denied_by_base = _parameters(base)
      names = {**of_base, **names}
      denied |= denied_by_base
  return {n: a for n, a in names.items() if n not in denied}, denied
