"""Records random play as a run in the published format, to try out its size.

  python scripts/record_random_play.py --game=Pong --shards=5 --rows=1000000 \\
    --out=data

Real frames of ALE with sticky actions, games of several environments one after
another, padding rows and stale last rows as in the published data.
"""

import pathlib
from collections.abc import Iterator

import numpy as np

from cql_atari.core import command, progress
from cql_atari.environments import atari
from cql_atari.replay import recorder as recorder_lib

_COMMAND = command.Command(__doc__)
_GAME = _COMMAND.string('game', 'Pong', 'The game.')
_OUT = _COMMAND.string('out', 'data', 'The run becomes OUT/GAME/1.')
_SHARDS = _COMMAND.integer('shards', 5, 'Shards.', least=1)
_ROWS = _COMMAND.integer('rows', 1_000_000, 'Rows of each.', least=9)
_DISTINCT = _COMMAND.integer(
  'distinct',
  None,
  'Rows recorded; once there are so many, their games recur in random order. '
  'Held in memory.',
)
_SEED = _COMMAND.integer('seed', 0, 'Of the play.')
_GAMES = 16  # Side by side.


def episodes(game: str, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
  """Whole games: frames (T, 84, 84), actions, clipped rewards, terminals."""
  play = atari.AtariEnvironments(game, _GAMES)
  num_actions = atari.num_actions(game)
  rng = np.random.default_rng(seed)
  rows = [[] for _ in range(_GAMES)]
  states = play.reset(seed)
  while True:
    actions = rng.integers(num_actions, size=_GAMES)
    newest = np.ascontiguousarray(states[..., -1])
    states, rewards, over = play.step(actions)
    rewards = np.clip(rewards, -1, 1)
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
  games = episodes(_GAME.value, _SEED.value)
  if _DISTINCT.value:
    games = recurring(games, _DISTINCT.value, _SEED.value)
  folder = pathlib.Path(_OUT.value) / _GAME.value / '1' / 'replay_logs'
  recorder = recorder_lib.Recorder(folder, _ROWS.value, _SHARDS.value)
  with progress.bar(recorder.total_rows, ' rows', 'recording') as bar:
    while not recorder.is_full:
      recorder.append(*next(games))
      bar.update(recorder.add_count - bar.n)


if __name__ == '__main__':
  _COMMAND.run(main)
