"""Films of play: what the agent sees, and its Q-values beside it."""

import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from cql_atari.core import progress
from cql_atari.core.files import whole_path
from cql_atari.environments import atari
from cql_atari.runs.trained import TrainedRun

FRAMES_PER_SECOND = 15  # Agent steps of four frames at 60 a second.
_SCREEN = (320, 420)  # Twice the console's own, so its pixels are as wide.
_PANEL = 320
_INK, _BAR, _CHOSEN = (230, 230, 230), (110, 110, 110), (0, 160, 230)


def film(
  run: TrainedRun,
  out: pathlib.Path,
  episodes: int,
  max_steps: int,
  seed: int,
) -> list[float]:
  """Plays and films games.

  Args:
    run: whose agent plays.
    out: the film, .mp4.
    episodes: games.
    max_steps: agent steps after which a game is cut.
    seed: seeds the play.

  Returns:
    The games' scores.
  """
  import imageio_ffmpeg

  returns = []
  size = (_SCREEN[0] + _PANEL, _SCREEN[1])
  with whole_path(out) as partial:
    writer = imageio_ffmpeg.write_frames(
      str(partial), size, fps=FRAMES_PER_SECOND, macro_block_size=4
    )
    writer.send(None)
    try:
      with progress.bar(None, ' steps', 'filming') as bar:
        for picture in _play(run, episodes, max_steps, seed, returns):
          writer.send(picture)
          bar.update()
    finally:
      writer.close()
  return returns


def _play(
  run: TrainedRun,
  episodes: int,
  max_steps: int,
  seed: int,
  returns: list[float],
) -> Iterator[np.ndarray]:
  """RGB pictures of every step; the scores go into `returns`."""
  agent, games = run.agent, run.environments(1)
  names = atari.action_names(games.rom)
  rng = np.random.default_rng(seed)
  for episode in range(episodes):
    states, score = games.reset(seed + episode), 0.0
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
    names: the actions' names.
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
