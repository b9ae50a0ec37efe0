"""Chooses a checkpoint: python -m cql_atari.select_checkpoint --run=DIR.

Which checkpoint each rule keeps, and what that one scores beside the best and
the last. Rules go by the last one, fitted Q evaluation (fqe), values of the
first states (initial_value) and, in training, of the data (q_data), the least
cql_penalty or held_out_td_error.
"""

from cql_atari.analysis import selection
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import optional_output
from cql_atari.runs import folder

_COMMAND = command.Command(__doc__)
_RUN = _COMMAND.run_folders()
_OUT = _COMMAND.string('out', None, 'A folder for the tables.')
_FQE_STEPS = _COMMAND.integer(
  'fqe_steps',
  5000,
  'Gradient steps of fitted Q evaluation for each checkpoint; 0 for none.',
  least=0,
)
_SEED = _COMMAND.seed('fitted Q evaluation')


def main() -> None:
  """Selects by the flags."""
  if not _RUN.value:
    raise UserError('give a run: --run=runs/demo/cql-0.')
  folders = folder.find(_RUN.value)
  with optional_output('--out', _OUT.value) as out:
    selection.select(folders, _FQE_STEPS.value, _SEED.value, out)


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
