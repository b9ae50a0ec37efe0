"""Checks the paper's theorems: python -m cql_atari.theorems.

Over random MDPs, dataset sizes and alphas, every inequality of Theorems 3.1 to
3.6 and D.1 between computed numbers: how often it was tried, how often it held,
by how much at least. `--out=DIR` also draws the figures of docs/theory.md.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tqdm
from absl import flags

from cql_atari.core import errors, quiet
from cql_atari.core.files import make_folder, write_csv, write_text, writing
from cql_atari.tabular import checks

_MDPS = flags.DEFINE_integer(
  'mdps', 100, 'MDPs of each family and size.', lower_bound=1
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of everything random.', lower_bound=0)
_DELTA = flags.DEFINE_float(
  'delta',
  0.1,
  'Probability that a bound on sampling error may fail.',
  lower_bound=0.001,
  upper_bound=0.999,
)
_OUT = flags.DEFINE_string('out', None, 'A folder for the table and figures.')
_SIZES = (100, 10_000)  # Transitions of a dataset.
_LARGE_SIZES = (10**6, 10**8)  # Where bounds by counts come near the values.
_ABOUT = (
  'How often each claim was tried, and held. "Required" is the share that has '
  'to hold; a counter-example, "once", just has to exist. The margin is the '
  'least slack of all tries, in units of R_max / (1 - gamma); of two numbers '
  'that are to be equal, it is what rounding leaves, some -1e-12.'
)
_REPEATS = 5  # Datasets of an MDP, where a claim is of probability.


class Found(NamedTuple):
  """A claim on problems of one kind.

  Attributes:
    family: of MDPs.
    transitions: in a dataset.
    check: how it fared.
  """

  family: str
  transitions: int
  check: checks.Check


def check_all(mdps: int, seed: int, delta: float) -> list[Found]:
  """All checks of all theorems.

  Args:
    mdps: of each family.
    seed: of everything random.
    delta: probability that a bound on sampling error may fail.

  Returns:
    Every claim on every family and size.
  """
  from cql_atari.tabular import (
    linear,
    lower_bounds,
    policy_learning,
    problems,
  )

  rng = np.random.default_rng(seed)
  found = []
  sizes = (*_SIZES, *_LARGE_SIZES)
  settings = list(itertools.product(problems.FAMILIES, sizes))
  with tqdm.tqdm(total=len(settings), disable=None) as bar:
    for family, size in settings:
      often = problems.sample(family, mdps, size, rng, _REPEATS)
      theorems = [
        functools.partial(lower_bounds.theorem_3_1, often, delta),
        functools.partial(lower_bounds.theorem_3_2, often, delta),
        functools.partial(policy_learning.theorem_3_6, often, delta),
      ]
      if size in _SIZES:
        once = problems.sample(family, mdps, size, rng)
        width = once.policy[0].size // 4
        features = linear.random_features(rng, once, width)
        theorems += [
          functools.partial(linear.theorem_d_1, once, features),
          functools.partial(policy_learning.theorem_3_3, once),
          functools.partial(policy_learning.theorem_3_4, once),
          functools.partial(policy_learning.theorem_3_5, once),
        ]
      for check_theorem in theorems:
        found += [Found(family, size, check) for check in check_theorem()]
      bar.update()
  return found


def merge(found: Sequence[Found]) -> list[checks.Check]:
  """One check of every claim, ordered by theorem."""
  merged = {}
  for _, _, check in found:
    key = check.theorem, check.claim
    merged[key] = check.merge(merged.get(key))
  return [merged[key] for key in sorted(merged, key=lambda key: key[0])]


def table(claims: Sequence[checks.Check]) -> str:
  """The checks as a Markdown table, with its width for a terminal too."""
  header = ('theorem', 'claim', 'tried', 'held', 'required', 'margin', '')
  rows = [
    (
      check.theorem,
      check.claim,
      f'{check.tried:,}',
      f'{check.held:,}',
      'once' if check.is_rare else f'{check.required:.0%}',
      '' if check.is_rare else f'{check.margin:.1e}',
      check.verdict,
    )
    for check in claims
  ]
  widths = [max(map(len, column)) for column in zip(header, *rows)]
  lines = [header, ['-' * width for width in widths], *rows]
  return '\n'.join(
    f'| {" | ".join(c.ljust(w) for c, w in zip(line, widths))} |'
    for line in lines
  )


def main() -> int:
  """Checks and draws by the flags; 1 if a claim fails."""
  out = make_folder('out', _OUT.value) if _OUT.value else None
  with quiet.quiet():
    from cql_atari.tabular import figures
  found = check_all(_MDPS.value, _SEED.value, _DELTA.value)
  claims = merge(found)
  print(table(claims))
  if out:
    with writing(f'--out={out}'):
      write_text(out / 'checks.md', f'{_ABOUT}\n\n{table(claims)}\n')
      write_csv(
        out / 'checks.csv',
        ('family', 'transitions', *checks.Check._fields),
        [(family, size, *check) for family, size, check in found],
      )
      names = tqdm.tqdm(figures.FIGURES, unit=' figures', disable=None)
      for name in names:
        figures.draw(name, out, _MDPS.value, _SEED.value)
    print(f'The table and the figures are in {out}.')
  failed = [check for check in claims if not check.passed]
  print(f'{len(claims) - len(failed)} of {len(claims)} claims hold.')
  return 1 if failed else 0


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
