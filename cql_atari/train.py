"""Trains an agent offline: python -m cql_atari.train --gin_files=cql_1pct.gin.

Needs --base_dir=DIR, the folder for the run, and, but for the built-in data
(--gin_files=cql_demo.gin), --replay_dir. The gin file names the agent. The same
command goes on with a run that was stopped or killed.
"""

from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.training import fit

_COMMAND = command.Command(__doc__)  # Makes absl flags.
_BASE_DIR = _COMMAND.string(
  'base_dir', None, 'The run folder: checkpoints, logs, metrics, config.'
)
_GIN_FILES, _GIN_BINDINGS = _COMMAND.gin(
  'A gin file, by path or by name, such as cql_1pct.gin.'
)
_REPLAY_DIR = _COMMAND.string(
  'replay_dir',
  None,
  'The data: a run of the dataset (the folder with replay_logs in it), a '
  "store, or a recording that `convert` knows; for D4RL's tasks a folder, an "
  'HDF5 file or minari:NAME.',
)
_GAME = _COMMAND.string('game', None, "The game; by default the data's.")
_SEED = _COMMAND.integer(
  'seed', None, 'Seeds the weights, the batches and the play.', least=0
)
_ROM_DIR = _COMMAND.string(
  'rom_dir', None, "A folder of other ROMs than ALE's, such as pong.bin."
)


def main() -> None:
  """Trains by the flags."""
  if not _GIN_FILES.value:
    raise UserError(
      'no --gin_files given: try --gin_files=cql_demo.gin for the built-in '
      'data.'
    )
  if not _BASE_DIR.value:
    raise UserError(
      'no --base_dir given: name the folder for this run, such as '
      '--base_dir=runs/first.'
    )
  fit.fit(
    _BASE_DIR.value,
    _GIN_FILES.value,
    _GIN_BINDINGS.value,
    replay_dir=_REPLAY_DIR.value,
    rom_dir=_ROM_DIR.value,
    game=_GAME.value,
    seed=_SEED.value,
  )
  run_dir = _BASE_DIR.value
  print(
    f'The run is in {run_dir}. Its curve: python -m cql_atari.plot '
    f'--runs={run_dir} --out=curve.png; its play: python -m cql_atari.watch '
    f'--run={run_dir} --out=play.mp4'
  )


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
