"""What annotations refuse, and how they say it."""

from collections.abc import Callable, Sequence
from typing import Literal

import pytest

from cql_atari.core import constraints
from cql_atari.core.constraints import (
  PositiveInt,
  PositiveInts,
  PositiveUnitInterval,
  UnitInterval,
)
from cql_atari.core.errors import UserError


@constraints.checked
def made(
  count: PositiveInt = 1,
  share: UnitInterval | None = None,
  kind: Literal['H', 'rho'] = 'H',
  sizes: PositiveInts = (1, 2),
  names: Sequence[str] = (),
  on: bool = False,
  fraction: PositiveUnitInterval = 1.0,
  make: Callable[[], object] | None = None,
  *rest,
  **more,
):
  return count


@pytest.mark.parametrize(
  ('settings', 'sentence'),
  [
    ({'count': 0}, 'made.count is 0: give a whole number of at least 1'),
    ({'count': 1.0}, 'made.count is 1.0: give a whole number'),
    ({'count': True}, 'made.count is True'),
    ({'count': '4'}, "made.count is '4': .*, without quotes"),
    ({'share': 1.5}, 'give a number of at least 0 and at most 1 or None'),
    ({'share': float('nan')}, 'made.share is nan'),
    ({'kind': 'h'}, "made.kind is 'h': give one of 'H', 'rho'"),
    ({'sizes': 3}, 'give a list in brackets, each a whole number'),
    ({'sizes': (3, 0)}, r'made.sizes is \(3, 0\)'),
    ({'names': 'text'}, 'a list in brackets, each a text'),
    ({'on': 'False'}, 'True or False, without quotes'),
    ({'fraction': 0}, 'above 0 and at most 1'),
  ],
)
def test_a_value_that_does_not_fit_is_named(settings, sentence):
  with pytest.raises(UserError, match=sentence):
    made(**settings)


def test_what_fits_goes_through():
  assert made(3, None, 'rho', [1], ['a'], True, 0.5, int, 9, extra=2) == 3
  assert made(share=1, make='anything') == 1


def test_a_constructor_is_checked_with_its_bases():
  @constraints.checked
  class Base:
    def __init__(self, size: PositiveInt):
      self.size = size

  @constraints.checked
  class Own(Base):
    def __init__(self, *args, share: UnitInterval = 0.5, **kwargs):
      super().__init__(*args, **kwargs)

  assert Own(2).size == 2
  with pytest.raises(UserError, match=r'Base\.size is 0'):
    Own(size=0)
  with pytest.raises(UserError, match=r'Own\.share is 2'):
    Own(1, share=2)
  with pytest.raises(TypeError, match=r'nothing gives Base\.size'):
    Own()


def test_a_misspelt_parameter_is_told_by_the_class_that_is_made():
  class Base:
    def __init__(self, gamma: UnitInterval = 0.99):
      self.gamma = gamma

  class Derived(Base):
    def __init__(self, *args, alpha: UnitInterval = 1.0, **kwargs):
      super().__init__(*args, **kwargs)

  for kind in (Base, Derived):
    constraints.checked(kind)
  assert Derived(gamma=0.5, alpha=0.1).gamma == 0.5
  for given, meant in (('alpa', 'alpha'), ('gama', 'gamma')):
    with pytest.raises(TypeError, match=f'Derived has no .*mean {meant}'):
      Derived(**{given: 0.5})
  with pytest.raises(TypeError, match='too many positional'):
    Base(0.5, 0.6)
