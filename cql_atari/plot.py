"""Draws curves: python -m cql_atari.plot --runs='runs/*' --out=curve.png.

Also prints a table of final and best returns. Runs with other settings get a
line of their own.
"""

from cql_atari.analysis import figures, grouping, loading, reporting
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.runs import folder

_COMMAND = command.Command(__doc__)
_RUNS = _COMMAND.run_folders('runs')
_OUT = _COMMAND.string('out', None, 'The picture, such as curve.png.')


def main() -> None:
  """Draws and tabulates by the flags."""
  if not _RUNS.value or not _OUT.value:
    raise UserError(
      "give the run folders and the picture: --runs='runs/*' --out=curve.png."
    )
  games = grouping.group_by_game(loading.load_runs(folder.find(_RUNS.value)))
  out = figures.plot(games, _OUT.value)
  print(reporting.curve_table(games))
  print(f'\nThe curves are in {out}.')


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
