"""Films an agent: python -m cql_atari.watch --run=DIR --out=play.mp4.

What the agent sees, at the speed of the game, with the Q-values of all actions
beside it.
"""

import pathlib

from absl import flags

from cql_atari.analysis import film
from cql_atari.core import errors
from cql_atari.core.files import writing
from cql_atari.runs import trained

_RUN = flags.DEFINE_string('run', None, 'A run folder.')
_OUT = flags.DEFINE_string('out', None, 'The film, such as play.mp4.')
_EPISODES = flags.DEFINE_integer('episodes', 1, 'Games.', lower_bound=1)
_MAX_STEPS = flags.DEFINE_integer(
  'max_steps', 4500, 'Agent steps after which a game is cut.', lower_bound=1
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the play.', lower_bound=0)


def main() -> None:
  """Films by the flags."""
  if not _RUN.value or not _OUT.value:
    raise errors.UserError(
      'give a run and a film: --run=runs/demo/cql-0 --out=play.mp4.'
    )
  out = pathlib.Path(_OUT.value).expanduser()
  if out.suffix != '.mp4':
    raise errors.UserError(f'--out={out} is no .mp4: name it play.mp4.')
  restored = trained.restore(_RUN.value)
  with writing(f'the film {out}', 'make room, or choose another --out'):
    out.parent.mkdir(parents=True, exist_ok=True)
    returns = film.film(
      restored, out, _EPISODES.value, _MAX_STEPS.value, _SEED.value
    )
  scores = ', '.join(f'{value:.0f}' for value in returns)
  print(
    f'{out}: {restored.game} after '
    f'{restored.gradient_steps:,} gradient steps. Scores: {scores}.'
  )


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
