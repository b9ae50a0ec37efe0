"""Films an agent: python -m cql_atari.analysis.watch --run=DIR --out=play.mp4.

What the agent sees, at the speed of the game, with the Q-values of all actions
beside it.
"""

import pathlib
from collections.abc import Iterator

import ale_py
import cv2
import numpy as np
import tqdm
from absl import flags

from cql_atari import errors, restoring

_RUN = flags.DEFINE_string('run', None, 'A run folder.')
_OUT = flags.DEFINE_string('out', None, 'The film, such as play.mp4.')
_EPISODES = flags.DEFINE_integer('episodes', 1, 'Games.', lower_bound=1)
_MAX_STEPS = flags.DEFINE_integer(
  'max_steps', 4500, 'Agent steps after which a game is cut.', lower_bound=1
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the play.', lower_bound=0)

FRAMES_PER_SECOND = 15  # Agent steps of four frames at 60 a second.
_SCREEN = (320, 420)  # Twice the console's own, so its pixels are as wide.
_PANEL = 320
_INK, _BAR, _CHOSEN = (230, 230, 230), (110, 110, 110), (0, 160, 230)


def main() -> None:
  """Films by the flags."""
  if not _RUN.value or not _OUT.value:
    raise errors.UserError(
      'give a run and a film: --run=runs/demo/cql --out=play.mp4.'
    )
  out = pathlib.Path(_OUT.value).expanduser()
  if out.suffix != '.mp4':
    raise errors.UserError(f'--out={out} is no .mp4: name it play.mp4.')
  restored = restoring.restore(_RUN.value)
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    returns = film(restored, out, _EPISODES.value, _MAX_STEPS.value)
  except OSError as error:
    raise errors.UserError(
      f'the film {out} cannot be written ({error.strerror or error}).'
    ) from None
  scores = ', '.join(f'{value:.0f}' for value in returns)
  print(
    f'{out}: {len(returns)} of {restored.game}, after '
    f'{restored.gradient_steps:,} gradient steps. Scores: {scores}.'
  )


def film(
  restored: restoring.Restored,
  out: pathlib.Path,
  episodes: int,
  max_steps: int,
) -> list[float]:
  """Plays and films games.

  Args:
    restored: who plays.
    out: the film, .mp4.
    episodes: games.
    max_steps: agent steps after which a game is cut.

  Returns:
    The games' scores.
  """
  import imageio_ffmpeg

  returns = []
  size = (_SCREEN[0] + _PANEL, _SCREEN[1])
  partial = out.with_name(f'.{out.name}.partial.mp4')
  writer = imageio_ffmpeg.write_frames(
    str(partial), size, fps=FRAMES_PER_SECOND, macro_block_size=4
  )
  writer.send(None)
  try:
    bar = tqdm.tqdm(unit=' steps', desc='filming', disable=None)
    for picture in _play(restored, episodes, max_steps, returns):
      writer.send(picture)
      bar.update()
    bar.close()
  finally:
    writer.close()
  partial.replace(out)
  return returns


def _play(
  restored: restoring.Restored, episodes: int, max_steps: int, returns: list
) -> Iterator[np.ndarray]:
  """RGB pictures of every step; the scores go into `returns`."""
  agent, games = restored.agent, restored.environments(1)
  names = action_names(games.rom)
  rng = np.random.default_rng(_SEED.value)
  for episode in range(episodes):
    states, score = games.reset(_SEED.value + episode), 0.0
    for step in range(max_steps):
      q_values = agent.predict_q_values(states)[0]
      actions = agent.select_actions(states, rng)
      text = f'game {episode + 1}  step {step}  score {score:.0f}'
      yield draw(states[0, ..., -1], q_values, names, int(actions[0]), text)
      states, rewards, over = games.step(actions)
      score += float(rewards[0])
      if over[0]:
        break
    returns.append(score)


def action_names(rom: pathlib.Path) -> list[str]:
  """The names of the game's actions, in the order of the dataset's."""
  ale = ale_py.ALEInterface()
  ale.loadROM(rom)
  return [action.name for action in ale.getMinimalActionSet()]


def draw(
  frame: np.ndarray,
  q_values: np.ndarray,
  names: list[str],
  chosen: int,
  text: str,
) -> np.ndarray:
  """One picture of the film.

  Args:
    frame: uint8 (84, 84).
    q_values: (A,).
    names: of the actions.
    chosen: the action taken.
    text: a line on top.

  Returns:
    uint8 (420, 640, 3), RGB.
  """
  screen = cv2.resize(frame, _SCREEN, interpolation=cv2.INTER_LINEAR)
  panel = np.full((_SCREEN[1], _PANEL, 3), 24, np.uint8)
  picture = np.hstack([np.repeat(screen[..., None], 3, axis=2), panel])
  left, top = _SCREEN[0] + 12, 24

  def write(line, x, y, color=_INK):
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, line, (x, y), font, 0.42, color, 1, cv2.LINE_AA)

  write(text, left, top)
  low, high = float(q_values.min()), float(q_values.max())
  height = min(34, (_SCREEN[1] - top - 30) // len(names))
  for index, (name, value) in enumerate(zip(names, q_values)):
    y = top + 26 + index * height
    # From the least to the greatest: what tells actions apart is small.
    share = (float(value) - low) / (high - low) if high > low else 1.0
    color = _CHOSEN if index == chosen else _BAR
    start = left + 118
    cv2.rectangle(
      picture, (start, y - 10), (start + 2 + int(100 * share), y + 2), color, -1
    )
    write(name, left, y, color if index == chosen else _INK)
    write(f'{value:.2f}', start + 112, y)
  write('Q-values; bars from the least to the greatest', left, _SCREEN[1] - 12)
  return picture


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
