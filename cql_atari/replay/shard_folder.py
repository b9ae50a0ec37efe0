"""A run's folder of shards."""

import contextlib
import json
import os
import pathlib
import re

from cql_atari.core.constraints import configurable
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path
from cql_atari.replay import sources
from cql_atari.replay.games import game_names
from cql_atari.replay.shard import Shard, file_name

# The folder of games that DQN Replay was published in.
PUBLISHED_URL = 'https://storage.googleapis.com/atari-replay-datasets/dqn'
EPISODES = 'episodes.json'  # Beside `replay_logs`, if the recorder wrote it.


def find_replay_logs(replay_dir: str | os.PathLike) -> pathlib.Path:
  """Finds the shard folder: `replay_dir` itself or its `replay_logs`.

  Raises:
    UserError: there is no such folder, or it holds no shard.
  """
  root = user_path(replay_dir)
  for folder in (root / 'replay_logs', root):
    if any(folder.glob(file_name('observation', '*'))):  # type: ignore
      return folder
  if sources.find(root):
    raise UserError(
      f'{root} is a recording in another format: make a run of it with "python '
      f'-m cql_atari.convert {root} --out=data" (add --game=Pong where it does '
      'not tell), and give that.'
    )
  if not root.is_dir():
    raise UserError(f'there is no replay folder {root}: check its path.')
  below = [*root.glob('[!.]*/replay_logs'), *root.glob('*/[!.]*/replay_logs')]
  if below:
    raise UserError(
      f'{root} holds no shards, but {below[0].parent} does: give that.'
    )
  if any(root.glob('replay_logs/.*.partial')) or any(root.glob('.partial-*')):
    raise UserError(
      f'the recording in {root} is not whole: it is when `collect` or a '
      "conversion has ended, or RecordReplay's env.close() was called."
    )
  raise UserError(
    f'{root} holds no shards: expected files such as '
    f"'{file_name('observation', 0)}' in it or in its replay_logs folder."
  )


def list_shards(replay_dir: str | os.PathLike) -> list[Shard]:
  """The shards of a run in order; numbers may be missing, as in the dataset.

  Raises:
    UserError: as `find_replay_logs`.
  """
  folder = find_replay_logs(replay_dir)
  pattern = re.compile(r'\$store\$_observation_ckpt\.(\d+)\.gz')
  matches = [pattern.fullmatch(path.name) for path in folder.iterdir()]
  indices = sorted(int(match[1]) for match in matches if match)
  return [Shard(folder, index) for index in indices]


def is_own(replay_dir: str | os.PathLike) -> bool:
  """Whether a recorder's own files lie beside the shards."""
  run = run_folder(replay_dir)
  return any((run / name).is_file() for name in ('collect.json', EPISODES))


def recorded_returns(replay_dir: str | os.PathLike) -> dict[int, list[float]]:
  """Raw returns in `episodes.json`, beside the shards; {} where it is not.

  Not part of the published format: recorders that know the raw score leave it
  there, since stored rewards are clipped.

  Args:
    replay_dir: a run's folder, or its `replay_logs`.

  Returns:
    Of the whole games, by the number of the shard that they begin in.

  Raises:
    UserError: it is damaged.
  """
  path = run_folder(replay_dir) / EPISODES
  if not path.is_file():
    return {}
  returns = {}
  try:
    for episode in json.loads(path.read_text())['episodes']:
      if episode['complete']:
        of_shard = returns.setdefault(episode['first_shard'], [])
        of_shard.append(float(episode['return']))
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path} is not a list of episodes ({error!r}): to go by the rewards '
      'instead, write {"episodes": []} into it.'
    ) from None
  return returns


def run_folder(replay_dir: str | os.PathLike) -> pathlib.Path:
  """The folder of a run, whose shards are in it or in its `replay_logs`.

  Raises:
    UserError: as `find_replay_logs`.
  """
  folder = find_replay_logs(replay_dir)
  if folder.resolve().name == 'replay_logs':
    return folder.resolve().parent
  return folder


def game_of(replay_dir: str | os.PathLike) -> str:
  """The game of a run, as `_told_game`.

  Raises:
    UserError: neither tells.
  """
  game = _told_game(run_folder(replay_dir))
  if game is None:
    raise UserError(
      f'{replay_dir} does not tell the game, as data/Pong/1 would, by a number '
      "in a folder with a game's name: add --game=GAME, such as --game=Pong."
    )
  return game


def _told_game(run: pathlib.Path) -> str | None:
  """The game by the layout {Game}/{run}, or else by the recorder, if it is."""
  path = run / EPISODES
  if (game := game_by_path(run)) is None and path.is_file():
    with contextlib.suppress(ValueError, AttributeError):
      game = json.loads(path.read_text()).get('game')
  return game


def game_by_path(run: pathlib.Path) -> str | None:
  """The game that the published layout, {Game}/{run}, tells, if it is one."""
  run = run.resolve()
  is_game = run.name.isdigit() and run.parent.name in game_names()
  return run.parent.name if is_game else None


def check_game(run: pathlib.Path, game: str) -> None:
  """Compares a game with what the folder tells.

  Raises:
    UserError: it is another one.
  """
  told = _told_game(run)
  if told and told != game:
    raise UserError(
      f'{run} holds play of {told}, but the game is {game}: give '
      f"--game={told}, or in gin GAME='{told}'; or another --replay_dir."
    )


@configurable
def demo_replay_dir() -> str:
  """The recorded play of Breakout that ships inside the package."""
  root = pathlib.Path(__file__).parents[1] / 'data' / 'demo'
  return str(root / 'Breakout' / '1')
