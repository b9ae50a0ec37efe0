"""Records random play as a run in the published format, to try out its size.

  python scripts/record_random_play.py --game=Pong --shards=5 --rows=1000000 \\
    --out=data

Real frames of ALE with sticky actions, games of several environments one after
another, padding rows and stale last rows as in the published data.
"""

import pathlib
from collections.abc import Iterator

import numpy as np
import tqdm
from absl import flags

from cql_atari import environments, errors
from cql_atari.replay import shard as shard_lib
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE

_GAME = flags.DEFINE_string('game', 'Pong', 'The game.')
_OUT = flags.DEFINE_string('out', 'data', 'The run becomes OUT/GAME/1.')
_SHARDS = flags.DEFINE_integer('shards', 5, 'Shards.', lower_bound=1)
_ROWS = flags.DEFINE_integer('rows', 1_000_000, 'Rows of each.', lower_bound=9)
_DISTINCT = flags.DEFINE_integer(
  'distinct',
  None,
  'Rows recorded; once there are so many, their games recur in random order. '
  'Held in memory.',
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the play.')
_GAMES = 16  # Side by side.


def episodes(game: str, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
  """Whole games: frames (T, 84, 84), actions, clipped rewards, terminals."""
  play = environments.AtariEnvironments(game, _GAMES)
  num_actions = environments.num_actions(game)
  rng = np.random.default_rng(seed)
  rows = [[] for _ in range(_GAMES)]
  states = play.reset(seed)
  padding = (np.zeros(FRAME_SHAPE, np.uint8), 0, 0.0, 0)
  while True:
    actions = rng.integers(num_actions, size=_GAMES)
    newest = np.ascontiguousarray(states[..., -1])
    states, rewards, over = play.step(actions)
    rewards = np.clip(rewards, -1, 1)
    for game_rows, *row in zip(rows, newest, actions, rewards, over):
      game_rows.append(row)
      if row[-1]:
        whole = [padding] * (STACK_SIZE - 1) + game_rows
        yield tuple(np.stack(column) for column in zip(*whole))
        game_rows.clear()


def recurring(
  games: Iterator[tuple[np.ndarray, ...]], rows: int, seed: int
) -> Iterator[tuple[np.ndarray, ...]]:
  """The first games, as many as have so many rows, and then any of them."""
  kept = []
  while sum(len(game[0]) for game in kept) < rows:
    kept.append(next(games))
    yield kept[-1]
  rng = np.random.default_rng(seed)
  while True:
    yield kept[rng.integers(len(kept))]


class Stream:
  """Games one after another, taken some rows at a time."""

  def __init__(self, games: Iterator[tuple[np.ndarray, ...]]):
    self._games, self._held = games, ((),)

  def take(self, count: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The next rows, in pieces."""
    while count:
      if not len(self._held[0]):
        self._held = next(self._games)
      yield tuple(values[:count] for values in self._held)
      taken = min(count, len(self._held[0]))
      self._held = tuple(values[taken:] for values in self._held)
      count -= taken


def main() -> None:
  """Records by the flags."""
  rows, games = _ROWS.value, episodes(_GAME.value, _SEED.value)
  if _DISTINCT.value:
    games = recurring(games, _DISTINCT.value, _SEED.value)
  stream = Stream(games)
  folder = pathlib.Path(_OUT.value) / _GAME.value / '1' / 'replay_logs'
  columns = [np.zeros(rows, kind) for kind in (np.int32, np.float32, np.uint8)]
  stale_frame = np.zeros((1, *FRAME_SHAPE), np.uint8)

  def play(bar: tqdm.tqdm) -> Iterator[np.ndarray]:
    row = 0
    for frames, *values in stream.take(rows - 1):
      for column, piece in zip(columns, values):
        column[row : row + len(piece)] = piece
      row += len(frames)
      bar.update(len(frames))
      yield frames
    yield stale_frame  # The save comes before the last row is written.

  with tqdm.tqdm(total=rows * _SHARDS.value, unit=' rows', disable=None) as bar:
    for index in range(_SHARDS.value):
      add_count = rows * (index + 1) - 1
      shard_lib.write_shard(folder, index, play(bar), *columns, add_count)
      ((stale_frame, *values),) = stream.take(1)
      for column, piece in zip(columns, values):
        column[-1:] = piece


if __name__ == '__main__':
  errors.run(main)
