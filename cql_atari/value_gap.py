"""Compares predicted with true values: python -m cql_atari.value_gap --run=DIR.

The paper's Table 4 for any runs, of Atari or D4RL: what an agent predicts its
policy to be worth, and what it is worth in play. A pattern names many runs, as
in --run='runs/small/Pong/*/0'. `--out=DIR` writes the table and a figure.
`--values=eq2 --alpha=1` learns the values of the policy anew, by the paper's
conservative evaluation (section 3.1), in place of the agent's own.
"""

import math

from cql_atari.analysis import value_gaps
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import optional_output
from cql_atari.runs import folder

_COMMAND = command.Command(__doc__)
_RUN = _COMMAND.run_folders()
_OUT = _COMMAND.string('out', None, 'A folder for the table and a figure.')
_EPISODES = _COMMAND.integer(
  'episodes', 10, 'Least number of episodes of each run.', least=2
)
_STATES = _COMMAND.integer(
  'states', 2000, 'States of the data, for the mean over them.', least=1
)
_VALUES = _COMMAND.choice(
  'values',
  'own',
  ('own', 'fqe', 'eq1', 'eq2'),
  "Whose values: the agent's own, or of its policy by fitted Q evaluation, or "
  'by conservative evaluation with the penalty of Eq. 1 or 2.',
)
_ALPHA = _COMMAND.number('alpha', 1.0, 'Weight of the penalty of Eq. 1 or 2.')
_FQE_STEPS = _COMMAND.integer(
  'fqe_steps', 10_000, 'Gradient steps of such an evaluation.', least=1
)
_SEED = _COMMAND.seed('the play and the states drawn')


def main() -> None:
  """Measures by the flags."""
  if not _RUN.value:
    raise UserError('give a run: --run=runs/demo/cql-0.')
  if not 0 <= _ALPHA.value < math.inf:
    raise UserError(f'--alpha={_ALPHA.value}: give a number of at least 0.')
  if _ALPHA.present and _VALUES.value not in ('eq1', 'eq2'):
    raise UserError('--alpha goes with --values=eq1 or --values=eq2: give one.')
  if _FQE_STEPS.present and _VALUES.value == 'own':
    raise UserError('--fqe_steps goes with --values=fqe, eq1 or eq2: give one.')
  folders = folder.find(_RUN.value)
  with optional_output('--out', _OUT.value) as out:
    value_gaps.compare(
      folders,
      _EPISODES.value,
      _STATES.value,
      _SEED.value,
      value_gaps.Evaluation(_VALUES.value, _ALPHA.value, _FQE_STEPS.value),
      out,
    )


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
