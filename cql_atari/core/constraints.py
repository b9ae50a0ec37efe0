"""Constraints on settings, as annotations, and the code that checks them.

A constructor's annotations are its guards: `alpha: NonNegative = 1.0` refuses
-1 and 'four' in a sentence that names the setting. Values are checked where a
user's value enters, which is the call of a `configurable`, and, if a gin file
gives them, before TensorFlow is imported (`settings.check`).
"""

import functools
import inspect
import math
import numbers
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import gin
import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from cql_atari.core import gin_text
from cql_atari.core.errors import UserError

NonNegativeInt = Annotated[int, Ge(0)]
PositiveInt = Annotated[int, Ge(1)]
AtLeastTwo = Annotated[int, Ge(2)]
NonNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
UnitInterval = Annotated[float, Ge(0), Le(1)]
PositiveUnitInterval = Annotated[float, Gt(0), Le(1)]
HalfOpenUnitInterval = Annotated[float, Ge(0), Lt(1)]
PositiveInts = Sequence[PositiveInt]
NonNegativeInts = Sequence[NonNegativeInt]

_Made = typing.TypeVar('_Made', bound=Callable)
_BOUNDS = {
  Ge: ('of at least', lambda value, bound: value >= bound.ge),
  Gt: ('above', lambda value, bound: value > bound.gt),
  Le: ('at most', lambda value, bound: value <= bound.le),
  Lt: ('below', lambda value, bound: value < bound.lt),
}


class SettingError(UserError, TypeError):
  """A parameter is missing, or there is none of that name."""


def check(name: str, value: Any, annotation: Any) -> None:
  """Compares a value with an annotation.

  Args:
    name: the setting as gin writes it, such as 'Adam.learning_rate'.
    value: the given value.
    annotation: a type; of the kinds that say nothing here, such as Callable,
      any value will do.

  Raises:
    UserError: the value is of another kind or out of bounds.
  """
  if not _fits(value, annotation):
    is_quoted = isinstance(value, str) and not _fits('', annotation)
    takes_texts = typing.get_origin(annotation) in (Literal, Sequence)
    hint = ', without quotes' if is_quoted and not takes_texts else ''
    raise UserError(f'{name} is {value!r}: give {_wanted(annotation)}{hint}.')


def _fits(value: Any, annotation: Any) -> bool:
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, argument) for argument in arguments)
  if origin is Literal:
    return value in arguments
  if origin is Annotated:
    base, *bounds = arguments
    return _fits(value, base) and all(
      _BOUNDS[type(bound)][1](value, bound) for bound in bounds
    )
  if origin is Sequence:
    return (
      isinstance(value, Sequence)
      and not isinstance(value, str)
      and all(_fits(item, arguments[0]) for item in value)
    )
  if origin is Mapping:
    return isinstance(value, Mapping)
  if annotation in (int, float):
    kind = numbers.Integral if annotation is int else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
  if annotation in (bool, str, os.PathLike, type(None)):
    return isinstance(value, annotation)
  return True


def _plain(value: Any) -> Any:
  """Python's own number for one of NumPy's, which JSON and Keras don't know."""
  if isinstance(value, np.generic):
    return value.item()
  if type(value) in (list, tuple) and any(
    isinstance(item, np.generic) for item in value
  ):
    return type(value)(map(_plain, value))
  return value


def _wanted(annotation: Any) -> str:
  """Describes an annotation, such as 'a whole number of at least 1'."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(map(_wanted, arguments))
  if origin is Literal:
    return f'one of {", ".join(map(repr, arguments))}'
  if origin is Annotated:
    base, *bounds = arguments
    limits = [
      f'{_BOUNDS[type(b)][0]} {getattr(b, type(b).__name__.lower())}'
      for b in bounds
    ]
    return f'{_wanted(base)} {" and ".join(limits)}'
  if origin is Sequence:
    return f'a list in brackets, each {_wanted(arguments[0])}'
  if origin is Mapping:
    return 'pairs in braces'
  known = {
    bool: 'True or False', int: 'a whole number', float: 'a number',
    str: 'a text', os.PathLike: 'a path', type(None): 'None',
  }  # fmt: skip
  return known.get(annotation, getattr(annotation, '__name__', 'another value'))


def checked(function: Callable) -> Callable:
  """Makes a function check its arguments against its annotations.

  Args:
    function: a function, or a class, whose constructor is meant.

  Returns:
    The same, checking.
  """
  if inspect.isclass(function):
    if '__init__' in vars(function):
      function.__init__ = checked(function.__init__)
    return function
  signature = inspect.signature(function)
  required = [
    name
    for name, parameter in signature.parameters.items()
    if parameter.default is parameter.empty
    and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
  ]
  owner = function.__qualname__.removesuffix('.__init__').split('.')[-1]

  @functools.wraps(function)
  def call(*args, **kwargs):
    args = tuple(map(_plain, args))
    kwargs = {name: _plain(value) for name, value in kwargs.items()}
    try:
      bound = signature.bind_partial(*args, **kwargs)
    except TypeError:
      unknown = [name for name in kwargs if name not in signature.parameters]
      if not unknown:
        raise
      made = type(args[0]) if function.__name__ == '__init__' else function
      hint = _hint(unknown[0], parameters(made) or ())
      raise SettingError(
        f'{made.__name__} has no parameter {unknown[0]}{hint}'
      ) from None
    for name in required:
      if name not in bound.arguments:
        raise SettingError(f'nothing gives {owner}.{name}: bind or give it.')
    for name, value in bound.arguments.items():
      parameter = signature.parameters[name]
      if parameter.annotation is not parameter.empty:
        check(f'{owner}.{name}', value, parameter.annotation)
    return function(*args, **kwargs)

  call.__signature__ = signature
  return call


def _hint(name: str, known: set[str]) -> str:
  """Whose parameter it is, or else the likeliest of the known names."""
  from cql_atari.core import settings  # Which reads these annotations.

  owners = settings.owners(name)
  if not owners:
    return gin_text.suggest(name, known)
  return (
    f': it is one of {" or ".join(owners)}. Give what makes that, such as '
    f'functools.partial({owners[0]}, {name}=...).'
  )


_OF_GIN = re.compile(r'\n  (?:In call to configurable|No values supplied by)')


def _one_sentence(make: Callable) -> Callable:
  """Takes from UserErrors what gin adds on where it was."""

  @functools.wraps(make)
  def call(*args, **kwargs):
    try:
      return make(*args, **kwargs)
    except UserError as error:
      sentence = _OF_GIN.split(str(error))[0]
      if sentence == str(error):
        raise
      # Gin's are of classes of its own, derived from the error's.
      kind = next(
        kind
        for kind in type(error).__mro__
        if 'ExceptionProxy' not in kind.__init__.__qualname__
      )
      raise kind(sentence).with_traceback(error.__traceback__) from None

  return call


@typing.overload
def configurable(target: _Made) -> _Made: ...


@typing.overload
def configurable(*, denylist: Sequence[str]) -> Callable[[_Made], _Made]: ...


def configurable(target=None, *, denylist=None):
  """`gin.configurable`, for functions and classes that check their arguments.

  Args:
    target: the decorated function or class.
    denylist: parameters that callers give, so that gin may not.
  """
  if target is None:
    return functools.partial(configurable, denylist=denylist)
  made = gin.configurable(checked(target), denylist=denylist)
  if not inspect.isclass(made):
    return _one_sentence(made)
  if '__init__' in vars(made):
    made.__init__ = _one_sentence(made.__init__)
    # Else a subclass without a constructor of its own would seem to have these
    # parameters itself, and its config would repeat their defaults.
    vars(made.__init__).pop('__signature__', None)
  return made


def parameters(target: Callable) -> set[str] | None:
  """The parameters of a function, or of a class with those of its bases.

  None where they cannot be known, as of a function with **kwargs.
  """
  makers = [target]
  if inspect.isclass(target):
    makers = filter(None, (vars(c).get('__init__') for c in target.__mro__))
  names = set()
  for maker in makers:
    of_maker = inspect.signature(maker).parameters.values()
    names |= {p.name for p in of_maker} - {'self', 'args', 'kwargs'}
    if not any(p.kind is p.VAR_KEYWORD for p in of_maker):
      return names
  return None
