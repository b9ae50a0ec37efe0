"""Gin configurables and their parameters, read from the package's source.

Gin knows a configurable only once its module is imported, which takes long.
"""

import ast
import dataclasses
import functools
import importlib.util
import pathlib

_PACKAGE = pathlib.Path(__file__).parents[1]
_DOPAMINE_SOURCES = (  # Those whose parameters a written config.gin names.
  'discrete_domains/logger.py',
  'discrete_domains/run_experiment.py',
  'metrics/collector_dispatcher.py',
)


@dataclasses.dataclass(frozen=True)
class Configurable:
  """What the source says of one.

  Attributes:
    parameters: its own.
    denied: those of its denylist, which callers give.
    bases: names of its base classes.
    passes_on: whether it has **kwargs, handed to the base class.
  """

  parameters: frozenset[str]
  denied: frozenset[str]
  bases: tuple[str, ...]
  passes_on: bool


@functools.cache
def known() -> dict[str, Configurable]:
  """Every gin configurable in the package's source, by name."""
  sources = list(_PACKAGE.rglob('*.py'))
  dopamine = importlib.util.find_spec('dopamine')
  if dopamine is not None:
    root = pathlib.Path(dopamine.submodule_search_locations[0])
    sources += [root / name for name in _DOPAMINE_SOURCES]
  found = {}
  for source in sources:
    for node in ast.walk(ast.parse(source.read_text())):
      if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and any(
        ast.unparse(d).startswith('gin.configurable')
        for d in node.decorator_list
      ):
        found[node.name] = _describe(node)
  return found


def _describe(node: ast.ClassDef | ast.FunctionDef) -> Configurable:
  denied = frozenset(
    element.value
    for decorator in node.decorator_list
    for keyword in getattr(decorator, 'keywords', ())
    if keyword.arg == 'denylist'
    for element in keyword.value.elts
  )
  if isinstance(node, ast.FunctionDef):
    function, bases = node, ()
  else:
    bases = tuple(ast.unparse(base).split('.')[-1] for base in node.bases)
    functions = [
      item
      for item in node.body
      if isinstance(item, ast.FunctionDef) and item.name == '__init__'
    ]
    function = functions[0] if functions else None
  if function is None:  # Its bases', or a dataclass's fields.
    names = [
      item.target.id for item in node.body if isinstance(item, ast.AnnAssign)
    ]
    return Configurable(frozenset(names), denied, bases, True)
  arguments = function.args
  names = [arg.arg for arg in (*arguments.args, *arguments.kwonlyargs)]
  return Configurable(
    frozenset(names) - {'self'}, denied, bases, arguments.kwarg is not None
  )


def parameters(name: str) -> tuple[set[str], set[str]]:
  """Names that can be bound of a configurable, and those that callers give."""
  described = known()[name]
  names, denied = set(described.parameters), set(described.denied)
  if described.passes_on:
    for base in described.bases:
      if base in known():
        of_base, denied_by_base = parameters(base)
        names |= of_base
        denied |= denied_by_base
  return names - denied, denied
