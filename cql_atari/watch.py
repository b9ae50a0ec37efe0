"""Films an agent: python -m cql_atari.watch --run=DIR --out=play.mp4.

An Atari agent's film shows the game at its speed, and beside it the Q-values of
all actions, the distribution of the chosen one's return, and its Q-value over
time; a D4RL agent's the robot, with the numbers of its action. The name decides
between MP4 and GIF. Films of robots are drawn by MuJoCo with EGL, unless
MUJOCO_GL says otherwise.
"""

from cql_atari.analysis import film
from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.video import video_path
from cql_atari.runs import trained

_COMMAND = command.Command(__doc__)
_RUN = _COMMAND.run_folder()
_OUT = _COMMAND.string('out', None, 'The film, such as play.mp4 or play.gif.')
_EPISODES = _COMMAND.integer('episodes', 1, 'Games.', least=1)
_MAX_STEPS = _COMMAND.integer(
  'max_steps', 4500, 'Agent steps after which a game is cut.', least=1
)
_SEED = _COMMAND.seed('the play')


def main() -> None:
  """Films by the flags."""
  if not _RUN.value or not _OUT.value:
    raise UserError(
      'give a run and a film: --run=runs/demo/cql-0 --out=play.mp4.'
    )
  out = video_path('out', _OUT.value)
  opened = trained.TrainedRun(_RUN.value, with_data=None)
  returns = film.film(
    opened, out, _EPISODES.value, _MAX_STEPS.value, _SEED.value
  )
  scores = ', '.join(f'{value:.4g}' for value in returns)
  print(
    f'{out}: {opened.name} after {opened.gradient_steps:,} gradient steps. '
    f'Returns: {scores}.'
  )


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
