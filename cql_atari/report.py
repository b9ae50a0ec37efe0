"""Reports on runs: python -m cql_atari.report --runs=ROOT --out=DIR.

Figure 1 and Table 3 of the paper, normalised scores with intervals, and
learning diagnostics, of every run folder below ROOT: pictures as PNG and PDF,
tables as CSV, the whole as report.md and as report.html, which is one file.
"""

import pathlib

from absl import flags

from cql_atari.analysis import loading, reporting
from cql_atari.core import errors
from cql_atari.core.files import make_folder, writing

_RUNS = flags.DEFINE_string('runs', None, 'A folder with run folders below it.')
_OUT = flags.DEFINE_string('out', None, "The report's folder.")
_TITLE = flags.DEFINE_string('title', 'Offline Atari', "The report's title.")


def main() -> None:
  """Reports by the flags."""
  if not _RUNS.value or not _OUT.value:
    raise errors.UserError(
      'give the runs and a folder: --runs=runs/table3 --out=report.'
    )
  root = pathlib.Path(_RUNS.value).expanduser()
  folders = sorted(path.parent for path in root.rglob('run.json'))
  runs = loading.load_folders(folders, f'is below {root}')
  out = make_folder('out', _OUT.value)
  with writing(f'--out={out}'):
    reporting.write(runs, out, _TITLE.value)
  print(f'The report on {len(runs)} runs is {out / "report.html"}.')


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
