"""Films of play: the picture, and what the agent makes of it beside it."""

import collections
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from cql_atari.core import progress
from cql_atari.core.protocols import Panel
from cql_atari.core.video import INK, video, write_line
from cql_atari.runs.trained import TrainedRun

_WIDTH = 320  # Of the panel beside the picture, in pixels.
_GREY, _CHOSEN = (110, 110, 110), (0, 160, 230)
_STEPS = 296  # That the curve of Q goes back, a pixel each.
_BINS = 37  # Of the histogram of returns.


def film(
  run: TrainedRun, out: pathlib.Path, episodes: int, max_steps: int, seed: int
) -> list[float]:
  """Plays and films games.

  Args:
    run: whose agent plays.
    out: the film, .mp4 or .gif.
    episodes: games.
    max_steps: agent steps after which a game is cut.
    seed: seeds the play.

  Returns:
    The games' scores.

  Raises:
    UserError: the film can't be written.
  """
  agent, games = run.agent, run.environments(1)
  games.renders = True
  rng, returns = np.random.default_rng(seed), []
  with (
    video(out, run.benchmark.steps_per_second) as add,
    progress.bar(None, ' steps', 'filming') as bar,
  ):
    for episode in range(episodes):
      states, score = games.reset(seed + episode), 0.0
      values = collections.deque(maxlen=_STEPS)
      for step in range(max_steps):
        actions = agent.select_actions(states, rng)
        text = f'game {episode + 1}  step {step}  score {score:.4g}'
        panel = run.benchmark.panel(agent, games, states, actions)
        if panel.value is not None:
          values.append(panel.value)
        add(draw(games.picture(states), panel, text, values))
        bar.update()
        states, rewards, over = games.step(actions)
        score += float(rewards[0])
        if over[0]:
          break
      returns.append(score)
  return returns


def draw(
  screen: np.ndarray, panel: Panel, text: str, values: Sequence[float] = ()
) -> np.ndarray:
  """One picture of the film.

  Args:
    screen: uint8 (H, W, 3), RGB.
    panel: what stands beside it.
    text: a line on top.
    values: Q so far, the newest last; drawn as a curve.

  Returns:
    uint8 (H, W + 320, 3), RGB.
  """
  height, width = screen.shape[:2]
  beside = np.full((height, _WIDTH, 3), 24, np.uint8)
  picture = np.hstack([screen, beside])
  left, top = width + 12, 50
  write_line(picture, text, left, 24)
  plots = (panel.distribution is not None) + (len(values) > 1)
  # Atari's eighteen actions leave room for one plot, a hand's thirty for none.
  room = height - top - 24
  while plots and (room - 90 * plots) // len(panel.rows) < 12:
    plots -= 1
  space = min(26, (room - 90 * plots) // len(panel.rows))
  for name, share, value, stands_out in panel.rows:
    start, end = left + 118, left + 120 + int(100 * share)
    color = _CHOSEN if stands_out else _GREY
    cv2.rectangle(picture, (start, top - 8), (end, top + 2), color, -1)
    write_line(picture, name, left, top, color if stands_out else INK)
    write_line(picture, value, start + 112, top)
    top += space
  write_line(picture, panel.caption, left, top + 2)
  tall = (height - top - 20) // max(plots, 1)
  if panel.distribution is not None and plots:
    _draw_distribution(picture, left, top + 14, tall, *panel.distribution)
    plots, top = plots - 1, top + tall
  if len(values) > 1 and plots:
    _draw_values(picture, left, top + 14, tall, values)
  return picture


def _draw_distribution(picture, left, top, tall, returns, probabilities):
  """A histogram, 16 pixels below for its scale."""
  low, high = float(returns.min()), float(returns.max())
  high = max(high, low + 0.1)
  heights, _ = np.histogram(returns, _BINS, (low, high), weights=probabilities)
  foot, step = top + tall - 22, _STEPS // _BINS
  tallest = tall - 22 - 22
  for index, part in enumerate(heights / heights.max()):
    x, y = left + index * step, foot - int(tallest * part)
    cv2.rectangle(picture, (x, y), (x + step - 2, foot), _CHOSEN, -1)
  write_line(picture, 'its return, as a distribution', left, top + 14)
  write_line(picture, f'{low:.2f}', left, foot + 16)
  _write_to(picture, f'{high:.2f}', left + _STEPS, foot + 16)


def _draw_values(picture, left, top, tall, values):
  """A curve that moves to the left."""
  curve = np.array(values)
  low, high = curve.min(), max(curve.max(), curve.min() + 0.1)
  head, foot = top + 22, top + tall - 8
  y = foot - (curve - low) / (high - low) * (foot - head)
  x = left + np.arange(len(curve))
  points = np.stack([x, y.round()], axis=1).astype(np.int32)
  cv2.polylines(picture, [points], False, INK, 1, cv2.LINE_AA)
  write_line(picture, 'Q of the chosen action over time', left, top + 14)
  write_line(picture, f'{curve[-1]:.2f}', left + 250, top + 14)


def _write_to(picture, line, right, y):
  (width, _), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
  write_line(picture, line, right - width, y)
