"""Other people's recordings as runs in the published format.

A recording (see `sources`) is read episode by episode and written by
`recorder.Recorder`; from there it is a run like any other: splits, stores,
`verify`, the mean game.
"""

import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np

from cql_atari.core import progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import (
  exclusive_lock,
  locked,
  make_folder,
  output_folder,
  writing,
)
from cql_atari.replay import games, sources
from cql_atari.replay.frames import FRAME_SHAPE
from cql_atari.replay.recorder import NUM_SHARDS, PADDING_ROWS, Recorder
from cql_atari.replay.shard import file_name
from cql_atari.replay.shard_folder import EPISODES

_ROWS_PER_SHARD = 20_000
# 1 took sums of clipped rewards for scores; 2 lost the last game's end.
_VERSION = 4


def convert(
  source: sources.Source, out: str | os.PathLike, game: str | None = None
) -> pathlib.Path:
  """Writes a recording as a run.

  Args:
    source: what `sources.find` gives.
    out: the run becomes OUT/GAME/1.
    game: the game, where the source does not tell.

  Returns:
    The run's folder.

  Raises:
    UserError: there is no such recording, it is damaged or of another game, or
      it cannot be represented: other sizes, lost frames, actions that the game
      lacks.
  """
  game = game_of(source, game)
  num_actions = games.num_actions(game)
  with (
    output_folder('--out', out, game, '1') as run,
    exclusive_lock(run, 'converting'),
    writing(f'the run {run}', 'make room, or choose another --out'),
  ):
    check_empty(run)
    for killed in (*run.glob('.partial-*'), run.with_name('.partial-1')):
      shutil.rmtree(killed, ignore_errors=True)
    total = sum(PADDING_ROWS + length for length in source.lengths()) + 2
    shards = -(-total // _ROWS_PER_SHARD)
    rows = max(-(-total // min(shards, NUM_SHARDS)) + 1, 9)
    with (
      tempfile.TemporaryDirectory(dir=run, prefix='.partial-') as partial,
      progress.bar(total, ' rows', 'converting') as bar,
    ):
      logs = pathlib.Path(partial) / 'replay_logs'
      recorder, is_clipped = Recorder(logs, rows, NUM_SHARDS, game), True
      for number, episode in enumerate(_read(source)):
        _check(f'{source.name}, episode {number}', episode, game, num_actions)
        blank = not episode.frames[:PADDING_ROWS].any()  # Padding of another.
        skip = PADDING_ROWS if blank and len(episode.frames) > 3 else 0
        recorder.append(*(x[skip:] for x in episode[:3]), episode.is_over)
        is_clipped &= bool((np.abs(episode.rewards) <= 1).all())
        bar.update(recorder.add_count - bar.n)
      recorder.close()
      if source.may_be_clipped and is_clipped:  # Their sums are no scores.
        recorder.episodes.clear()
      recorder.write_episodes()
      for name in (EPISODES, logs.name):  # Shards last: they are all, or none.
        (logs.parent / name).rename(run / name)
  return run


def _read(source: sources.Source) -> Iterator[sources.Episode]:
  try:
    yield from source.episodes()
  except OSError as error:
    raise UserError(
      f'{source.name} cannot be read ({error.strerror or error}).'
    ) from None


def game_of(source: sources.Source, game: str | None = None) -> str:
  """The game: as the recording tells, or as is given, or by its folders.

  Raises:
    UserError: the recording tells another than is given, or nothing tells.
  """
  told = source.game()
  if told and game and told != game:
    raise UserError(
      f'{source.name} holds play of {told}, but the game is {game}: leave '
      '--game out.'
    )
  game = told or game or source.game_of_path()
  if not game:
    raise UserError(f'{source.name} does not tell the game: add --game=GAME.')
  return game


def check_empty(run: pathlib.Path) -> None:
  """Refuses to write a run where there is one.

  Raises:
    UserError: there is one.
  """
  logs = run / 'replay_logs'
  here = run.glob(file_name('observation', '*'))
  if any(here) or (logs.exists() and any(logs.iterdir())):
    raise UserError(f'{run} holds data already: choose another folder.')


def converted(
  source: sources.Source, cache: pathlib.Path, game: str | None
) -> pathlib.Path:
  """The run of a recording in a cache folder, converted when it isn't there.

  Raises:
    UserError: as `convert`.
  """
  stats = [(str(path.resolve()), path.stat()) for path in source.files()]
  identity = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
  content = repr((_VERSION, identity)).encode()
  key = hashlib.sha256(content).hexdigest()[:16]
  game = game_of(source, game)
  out = make_folder('open_store.cache_dir', cache, 'converted', key)
  run = out / game / '1'
  if not (run / 'replay_logs').is_dir():
    busy = f'another process is converting {source.name}: waiting for it.'
    with locked(out / '.lock', busy, wait=True):
      if not (run / 'replay_logs').is_dir():
        convert(source, out, game)
  return run


def _check(
  place: str, episode: sources.Episode, game: str, num_actions: int
) -> None:
  frames = episode.frames
  if frames.shape[1:] != FRAME_SHAPE or frames.dtype != np.uint8:
    raise UserError(
      f'{place} has frames {frames.dtype} {frames.shape[1:]}: the format holds '
      f'uint8 {FRAME_SHAPE}, as AtariPreprocessing makes them.'
    )
  if any(np.ndim(part) != 1 for part in episode[1:3]):
    raise UserError(
      f'{place} has actions or rewards that are no lists of numbers.'
    )
  lengths = {len(part) for part in episode[:3]}
  if len(lengths) != 1 or not lengths - {0}:
    raise UserError(
      f'{place} has {len(episode.frames)} frames, {len(episode.actions)} '
      f'actions and {len(episode.rewards)} rewards: give as many of each.'
    )
  actions = np.asarray(episode.actions)
  if actions.dtype.kind not in 'iu':
    raise UserError(f'{place} has actions {actions.dtype}: give integers.')
  if actions.min() < 0 or actions.max() >= num_actions:
    raise UserError(
      f'{place} has actions {actions.min()} to {actions.max()}, but the '
      f"dataset's action set of {game} is 0 to {num_actions - 1} (no "
      'full_action_space).'
    )
  if np.asarray(episode.rewards).dtype.kind not in 'fiub' or not (
    np.isfinite(episode.rewards).all()
  ):
    raise UserError(f'{place} has a reward that is no number.')
