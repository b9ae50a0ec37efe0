"""Reports on runs: python -m cql_atari.report --runs=ROOT --out=DIR.

Figure 1 and Table 3 of the paper, normalised scores with intervals, and
learning diagnostics, of every run folder below ROOT: pictures as PNG and PDF,
tables as CSV, the whole as report.md and as report.html, which is one file.
"""

from cql_atari.analysis import loading, reporting
from cql_atari.core import command, progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import output_folder, writing
from cql_atari.runs import folder

_COMMAND = command.Command(__doc__)
_RUNS = _COMMAND.run_folders('runs')
_OUT = _COMMAND.string('out', None, "The report's folder.")
_TITLE = _COMMAND.string(
  'title', 'Offline reinforcement learning', "The report's title."
)


def main() -> None:
  """Reports by the flags."""
  if not _RUNS.value or not _OUT.value:
    raise UserError(
      'give the runs and a folder: --runs=runs/table3 --out=report.'
    )
  folders = folder.find(_RUNS.value)
  runs = loading.load_runs(folders)
  loaded = {run.directory for run in runs}
  left_out = [f.path for f in folders if f.path not in loaded]
  with output_folder('--out', _OUT.value) as out, writing(f'--out={out}'):
    reporting.write(runs, out, _TITLE.value, left_out)
  number = progress.count(len(runs), 'run')
  print(f'The report on {number} is {out / "report.html"}.')


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
