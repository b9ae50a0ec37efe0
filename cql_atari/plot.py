"""Draws curves: python -m cql_atari.plot --runs 'a/*' --out a.png."""

from absl import flags

from cql_atari.analysis import curves, loading
from cql_atari.core import errors

_RUNS = flags.DEFINE_multi_string(
  'runs', [], "Run folders, as a quoted pattern such as 'runs/*'; repeatable."
)
_OUT = flags.DEFINE_string('out', None, 'The picture, such as curve.png.')


def main() -> None:
  """Draws and tabulates by the flags."""
  if not _RUNS.value or not _OUT.value:
    raise errors.UserError(
      "give the run folders and the picture: --runs 'runs/*' --out curve.png."
    )
  runs = loading.load_runs(_RUNS.value)
  out = curves.plot(runs, _OUT.value)
  print(curves.table(runs))
  print(f'\nThe curves are in {out}.')


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
