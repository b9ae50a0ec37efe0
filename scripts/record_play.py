"""Records play without learning as a run in the published format.

  python scripts/record_play.py --game=Pong --shards=5 --rows=1000000 --out=data
  python scripts/record_play.py --player=follow --game=Breakout --shards=50 \\
    --rows=6000 --out=data

Real frames of ALE with sticky actions, games of several environments one after
another, padding rows and stale last rows as in the published data. The player
is random, or, in Breakout, follows the ball with its paddle and takes a random
action with a probability that falls from 1 to 0.1 over the first half, as
the probability of a DQN does. The package's built-in data is

  python scripts/record_play.py --player=follow --game=Breakout --shards=50 \\
    --rows=2000 --compact --out=cql_atari/data/demo
"""

import gzip
from collections.abc import Iterator

import numpy as np

from cql_atari.core import command, progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path
from cql_atari.environments import atari
from cql_atari.replay import games as games_lib
from cql_atari.replay import importing, shard
from cql_atari.replay import recorder as recorder_lib

_COMMAND = command.Command(__doc__)
_GAME = _COMMAND.string('game', 'Pong', 'The game.')
_PLAYER = _COMMAND.choice(
  'player', 'random', ('random', 'follow'), 'Who plays; follow knows Breakout.'
)
_OUT = _COMMAND.string('out', 'data', 'The run becomes OUT/GAME/1.')
_SHARDS = _COMMAND.integer('shards', 5, 'Shards.', least=1)
_ROWS = _COMMAND.integer('rows', 1_000_000, 'Rows of each.', least=9)
_DISTINCT = _COMMAND.integer(
  'distinct',
  None,
  'Rows recorded; once there are so many, their games recur in random order. '
  'Held in memory.',
)
_COMPACT = _COMMAND.switch(
  'compact', 'Compresses frames to three fifths of the size, slowly.'
)
_SEED = _COMMAND.integer('seed', 0, 'Of the play.')
_GAMES = 16  # Side by side.
_LEAST_RANDOM = 0.1  # Share of random actions of the follower in the end.
# Breakout, as agents see it: below the bricks, between the walls; the paddle.
_FIELD, _PADDLE = (slice(38, 75), slice(5, 79)), (76, slice(5, 79))
_NOOP, _FIRE, _RIGHT, _LEFT = range(4)


def follow(states: np.ndarray) -> np.ndarray:
  """Moves the paddle to where the ball will come down.

  Args:
    states: uint8 (E, 84, 84, 4).

  Returns:
    Actions (E,).
  """
  actions = []
  for before, now in zip(states[..., -2], states[..., -1]):
    ball, last = _middle(now[_FIELD]), _middle(before[_FIELD])
    paddle = np.flatnonzero(now[_PADDLE] > 60)
    if ball is None or not len(paddle):
      actions.append(_FIRE)  # Serves, if there is no ball in play.
      continue
    ahead = _lands(ball, last) - paddle.mean()
    actions.append(_NOOP if abs(ahead) < 2 else _RIGHT if ahead > 0 else _LEFT)
  return np.array(actions)


def _middle(field: np.ndarray) -> np.ndarray | None:
  """Row and column of the ball; None where there is none."""
  ball = np.nonzero(field > 60)
  return np.mean(ball, axis=1) if len(ball[0]) else None


def _lands(ball: np.ndarray, last: np.ndarray | None) -> float:
  """The column where a ball that falls meets the paddle, off the walls."""
  row, column = ball
  if last is None or row <= last[0]:
    return column
  down, right = ball - last
  column += right * (_PADDLE[0] - _FIELD[0].start - row) / down
  width = _FIELD[1].stop - _FIELD[1].start
  column %= 2 * width
  return min(column, 2 * width - column)


def episodes(
  game: str, seed: int, player: str, total_rows: int
) -> Iterator[tuple[np.ndarray, ...]]:
  """Whole games: frames (T, 84, 84), actions, raw rewards, terminals."""
  play = atari.AtariEnvironments(game, _GAMES)
  num_actions = games_lib.num_actions(game)
  rng = np.random.default_rng(seed)
  rows = [[] for _ in range(_GAMES)]
  states, played = play.reset(seed), 0
  while True:
    actions = rng.integers(num_actions, size=_GAMES)
    newest = np.ascontiguousarray(states[..., -1])
    if player == 'follow':
      share = max(
        _LEAST_RANDOM, 1 - (1 - _LEAST_RANDOM) * 2 * played / total_rows
      )
      is_random = rng.random(_GAMES) < share
      actions = np.where(is_random, actions, follow(states))
    played += _GAMES
    states, rewards, over = play.step(actions)
    for game_rows, *row in zip(rows, newest, actions, rewards, over):
      game_rows.append(row)
      if row[-1]:
        yield tuple(np.stack(column) for column in zip(*game_rows))
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


def main() -> None:
  """Records by the flags."""
  if _PLAYER.value == 'follow' and _GAME.value != 'Breakout':
    raise UserError('--player=follow knows Breakout alone: --game=Breakout.')
  total_rows = _ROWS.value * _SHARDS.value
  games = episodes(_GAME.value, _SEED.value, _PLAYER.value, total_rows)
  if _DISTINCT.value:
    games = recurring(games, _DISTINCT.value, _SEED.value)
  folder = user_path(_OUT.value) / _GAME.value / '1' / 'replay_logs'
  importing.check_empty(folder.parent)
  recorder = recorder_lib.Recorder(folder, _ROWS.value, _SHARDS.value)
  with progress.bar(recorder.total_rows, ' rows', 'recording') as bar:
    while not recorder.is_full:
      recorder.append(*next(games)[:3], True)  # They are whole.
      bar.update(recorder.add_count - bar.n)
  recorder.write_episodes()
  if _COMPACT.value:
    for path in folder.glob(shard.file_name('observation', '*')):
      frames = gzip.decompress(path.read_bytes())
      path.write_bytes(gzip.compress(frames, 9, mtime=0))


if __name__ == '__main__':
  _COMMAND.run(main)
