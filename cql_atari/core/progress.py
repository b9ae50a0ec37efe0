"""Progress of long work: a bar in a terminal, elsewhere a line now and then.

A job under a scheduler writes to a file, where a bar is a mess and silence
looks like a hang: there, a line every half minute says how far it is, how fast,
and how long it will take.
"""

import math
import sys

import tqdm

_SECONDS_BETWEEN_LINES = 30.0


class _Lines(tqdm.tqdm):
  """A bar that is printed as a line of its own whenever it is due."""

  _printed = 0

  def display(self, msg: str | None = None, pos: int | None = None) -> None:
    """Prints how far it is, once it has begun and as long as it goes on."""
    del msg, pos
    is_under_way = self.initial < self.n < (self.total or math.inf)
    if is_under_way and self.n != self._printed:
      self.fp.write(f'{self}\n'.replace('/ ', '/'))
      self.fp.flush()
      self._printed = self.n

  def close(self) -> None:
    """Ends without a last line: the caller reports the end."""
    self.disable = True


def bar(
  total: int | None,
  unit: str,
  title: str = '',
  initial: int = 0,
  leave: bool = False,
  **settings,
) -> tqdm.tqdm:
  """Makes a progress bar.

  Args:
    total: units in all; None where it isn't known.
    unit: such as ' steps'.
    title: what is being done.
    initial: units that are done already.
    leave: whether a terminal keeps the bar when it ends.
    **settings: tqdm's own.
  """
  settings |= {
    'total': total, 'unit': unit, 'desc': title or None, 'initial': initial,
  }  # fmt: skip
  if sys.stderr.isatty():
    return tqdm.tqdm(leave=leave, dynamic_ncols=True, **settings)
  done, left = '{n_fmt}', ''
  if total is not None:
    done, left = '{n_fmt}/{total_fmt}', ', {remaining} left'
  return _Lines(
    bar_format=f'{{desc}}: {done}{{unit}}, {{rate_fmt}}{left}{{postfix}}',
    mininterval=_SECONDS_BETWEEN_LINES,
    maxinterval=_SECONDS_BETWEEN_LINES,
    file=sys.stderr,
    **settings,
  )


def count(number: int, noun: str) -> str:
  """A number of things in words: '1 run', '2,000 runs'."""
  return f'{number:,} {noun}{"" if number == 1 else "s"}'


def status(text: str) -> None:
  """Tells whoever watches a terminal what is being done."""
  if sys.stderr.isatty():
    sys.stderr.write(f'{text} ...\n')
    sys.stderr.flush()


def write(text: str) -> None:
  """Prints a line, above the bars that there are."""
  if sys.stderr.isatty():
    tqdm.tqdm.write(text)
  else:
    print(text, flush=True)
