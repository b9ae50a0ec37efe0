"""Films of play: the picture, and what the agent makes of it beside it."""

import contextlib
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from cql_atari.core import progress
from cql_atari.core.files import whole_path
from cql_atari.core.protocols import Panel
from cql_atari.runs.trained import TrainedRun

_PANEL = 320  # Pixels.
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
  returns = []
  with whole_path(out) as partial, contextlib.ExitStack() as stack:
    writer = None
    bar = stack.enter_context(progress.bar(None, ' steps', 'filming'))
    for picture in _play(run, episodes, max_steps, seed, returns):
      if writer is None:
        speed = run.benchmark.steps_per_second
        writer = _writer(partial, picture.shape, speed)
        stack.callback(writer.close)
      writer.send(picture)
      bar.update()
  return returns


def _writer(path: pathlib.Path, shape: tuple[int, ...], speed: int):
  """Takes pictures (H, W, 3) one after another by `send`."""
  import imageio_ffmpeg

  size = (shape[1], shape[0])
  writer = imageio_ffmpeg.write_frames(
    str(path), size, fps=speed, macro_block_size=4
  )
  writer.send(None)
  return writer


def _play(
  run: TrainedRun,
  episodes: int,
  max_steps: int,
  seed: int,
  returns: list[float],
) -> Iterator[np.ndarray]:
  """RGB pictures of every step; the scores go into `returns`."""
  agent, games = run.agent, run.environments(1)
  games.renders = True
  rng = np.random.default_rng(seed)
  for episode in range(episodes):
    states, score = games.reset(seed + episode), 0.0
    for step in range(max_steps):
      actions = agent.select_actions(states, rng)
      text = f'game {episode + 1}  step {step}  score {score:.4g}'
      panel = run.benchmark.panel(agent, games, states, actions)
      yield draw(games.picture(states), panel, text)
      states, rewards, over = games.step(actions)
      score += float(rewards[0])
      if over[0]:
        break
    returns.append(score)


def draw(screen: np.ndarray, panel: Panel, text: str) -> np.ndarray:
  """One picture of the film.

  Args:
    screen: uint8 (H, W, 3), RGB.
    panel: what stands beside it.
    text: a line on top.

  Returns:
    uint8 (H, W + 320, 3), RGB.
  """
  height, width = screen.shape[:2]
  beside = np.full((height, _PANEL, 3), 24, np.uint8)
  picture = np.hstack([screen, beside])
  left, top = width + 12, 24

  def write(line, x, y, color=_INK):
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, line, (x, y), font, 0.42, color, 1, cv2.LINE_AA)

  write(text, left, top)
  space = min(34, (height - top - 30) // len(panel.rows))
  for index, (name, share, value, stands_out) in enumerate(panel.rows):
    y = top + 26 + index * space
    start, end = left + 118, left + 120 + int(100 * share)
    color = _CHOSEN if stands_out else _BAR
    cv2.rectangle(picture, (start, y - 10), (end, y + 2), color, -1)
    write(name, left, y, color if stands_out else _INK)
    write(value, start + 112, y)
  write(panel.caption, left, height - 12)
  return picture
