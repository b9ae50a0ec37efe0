"""Settings and their values in words, as figures and labels show them."""

import types
from collections.abc import Mapping
from typing import NamedTuple

_RHO = '\u03c1'


class _Words(NamedTuple):
  """How figures say a setting: its name on an axis, in a label, its values."""

  axis: str
  label: str
  values: Mapping[str, str] = types.MappingProxyType({})


_WORDS = {
  'alpha': _Words("alpha, the penalty's weight", 'alpha'),
  'penalty': _Words(
    'member of the family CQL(R)',
    'penalty',
    {
      'rho': _RHO,
      'rho-code': f'{_RHO}, as coded',
      'mu': 'Eq. 2',
      'eq1': 'Eq. 1',
    },
  ),
  'target_gap': _Words(
    'target gap that tunes alpha', 'target gap', {'unset': 'none'}
  ),
  'fraction': _Words('share of the rows', 'share of the rows'),
  'num_samples': _Words('action samples of each kind', 'samples'),
  'num_critics': _Words('critics', 'critics'),
}


def _words(name: str) -> _Words:
  last = name.split('.')[-1]
  plain = last.replace('_', ' ')
  return _WORDS.get(last, _Words(plain, plain))


def axis(name: str) -> str:
  """The title of an axis of values: 'CQLMixin.alpha' -> 'alpha, the ...'."""
  return _words(name).axis


def value(name: str, text: str) -> str:
  """A setting's value, as it stands on such an axis: 'eq1' -> 'Eq. 1'."""
  text = text.strip("'")
  if name == 'Split.fraction' and text != 'unset':
    return f'{100 * float(text):g} %'
  return _words(name).values.get(text, text)


def label(name: str, text: str | None, full_name: bool = False) -> str:
  """A setting with its value: 'CQLMixin.target_gap', '1' -> 'target gap 1'.

  Args:
    name: gin's name.
    text: the value; None where it was left at its default.
    full_name: whether to keep gin's, as two settings end alike.
  """
  words = name if full_name else _words(name).label
  return f'{words} {value(name, "unset" if text is None else text)}'
