"""Other people's recordings as runs in the published format.

A source is read episode by episode and written by `recorder.Recorder`; from
there it is a run like any other: splits, stores, `verify`, the mean game.

- A folder of `.npz` files, an episode each, in the order of their names:
  `frames` uint8 (T, 84, 84), each before its action, `actions` (T,), `rewards`
  (T,) and `terminated`, whether the game was over (or else cut off).
- `minari:NAME`, an Atari dataset of Minari on this machine, with frames as
  gymnasium's `AtariPreprocessing` makes them or raw screens of four steps.
- A `.h5` file that d3rlpy's `ReplayBuffer.dump` wrote.
"""

import contextlib
import hashlib
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import h5py
import numpy as np

from cql_atari.core import progress
from cql_atari.core.errors import UserError
from cql_atari.core.files import make_folder, writing
from cql_atari.replay import games
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE
from cql_atari.replay.recorder import PADDING_ROWS, Recorder

_MINARI = 'minari:'
_SCREEN = (210, 160)
_ROWS_PER_SHARD, _SHARDS = 20_000, 50
_FRAME_SKIP = 4


class Episode(NamedTuple):
  """A game, whole or cut off.

  Attributes:
    frames: uint8 (T, 84, 84), each before its action.
    actions: integers (T,).
    rewards: (T,), raw.
    is_over: whether the game was over after it, or else cut off.
  """

  frames: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  is_over: bool


def is_source(path: str | os.PathLike) -> bool:
  """Whether a path is a recording that has to be converted first."""
  if str(path).startswith(_MINARI):
    return True
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    return any(path.glob('*.npz')) and not (path / 'replay_logs').is_dir()
  return path.suffix in ('.h5', '.hdf5') and path.is_file()


def convert(
  source: str | os.PathLike,
  out: str | os.PathLike,
  game: str | None = None,
) -> pathlib.Path:
  """Writes a recording as a run.

  Args:
    source: see above.
    out: the run becomes OUT/GAME/1.
    game: the game, where the source does not tell.

  Returns:
    The run's folder.

  Raises:
    UserError: there is no such recording, it is damaged, or it cannot be
      represented: other sizes, lost frames, actions that the game hasn't got.
  """
  game = game or game_of(source)
  num_actions = games.num_actions(game)
  run = make_folder('out', out, game, '1')
  check_empty(run)
  total = sum(length for length in _lengths(source)) + 1
  shards = -(-total // _ROWS_PER_SHARD)
  rows = max(-(-total // min(shards, _SHARDS)) + 1, 9)
  recorder = Recorder(run / 'replay_logs', rows, _SHARDS)
  with (
    writing(f'the run {run}', 'make room, or choose another --out'),
    progress.bar(total, ' rows', 'converting') as bar,
  ):
    for number, episode in enumerate(_episodes(source)):
      _check(f'{source}, episode {number}', episode, game, num_actions)
      terminals = np.zeros(len(episode.actions), np.uint8)
      terminals[-1] = episode.is_over
      recorder.append(
        episode.frames,
        episode.actions,
        episode.rewards,
        terminals,
        not episode.is_over,
      )
      bar.update(recorder.add_count - bar.n)
    recorder.close()
    recorder.write_episodes()
  return run


def check_empty(run: pathlib.Path) -> None:
  """Refuses to write a run where there is one.

  Raises:
    UserError: there is one.
  """
  logs = run / 'replay_logs'
  if logs.exists() and any(logs.iterdir()):
    raise UserError(f'{run} holds data already: choose another folder.')


def converted(
  source: str | os.PathLike, cache: pathlib.Path, game: str | None
) -> pathlib.Path:
  """The run of a recording in a cache folder, converted when it isn't there."""
  key = hashlib.sha256(repr(_identity(source)).encode()).hexdigest()[:16]
  game = game or game_of(source)
  out = cache / 'converted' / key
  run = out / game / '1'
  if not (run / 'episodes.json').is_file():  # Written last.
    for path in sorted(run.rglob('*'), reverse=True):
      path.rmdir() if path.is_dir() else path.unlink()
    convert(source, out, game)
  return run


def game_of(source: str | os.PathLike) -> str:
  """The game of a recording that tells it: Minari's do.

  Raises:
    UserError: it does not.
  """
  if str(source).startswith(_MINARI):
    name = _minari(source).spec.env_spec.id.rpartition('/')[2]
    name = name.removesuffix('NoFrameskip').partition('-')[0]
    name = name.removesuffix('NoFrameskip')
    games.rom_name(name)
    return name
  for folder in pathlib.Path(source).expanduser().resolve().parents[:2]:
    if folder.name in games.game_names():
      return folder.name
  raise UserError(f'{source} does not tell the game: add --game=Pong.')


def _identity(source) -> list:
  """What tells this recording from others, or from itself when it changes."""
  if str(source).startswith(_MINARI):
    dataset = _minari(source)
    root = pathlib.Path(dataset.storage.data_path)
    return [str(source), *_stats(sorted(root.rglob('*')))]
  path = pathlib.Path(source).expanduser().resolve()
  return [
    str(path), *_stats(sorted(path.glob('*.npz')) if path.is_dir() else [path]),
  ]  # fmt: skip


def _stats(paths) -> list:
  stats = [(path.name, path.stat()) for path in paths if path.is_file()]
  return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _lengths(source) -> Iterator[int]:
  """Rows of each episode, padding included."""
  if str(source).startswith(_MINARI):
    dataset = _minari(source)
    yield dataset.total_steps + PADDING_ROWS * dataset.total_episodes
    return
  path = pathlib.Path(source).expanduser()
  if path.is_dir():
    for file in sorted(path.glob('*.npz')):
      with _npz(file) as arrays:
        yield PADDING_ROWS + len(arrays['actions'])
    return
  with _h5(path) as file:
    for number in range(int(file['num_episodes'][()])):
      yield PADDING_ROWS + len(file[f'actions_{number}'])


def _episodes(source) -> Iterator[Episode]:
  if str(source).startswith(_MINARI):
    return _of_minari(source)
  path = pathlib.Path(source).expanduser()
  return _of_npz(path) if path.is_dir() else _of_d3rlpy(path)


def _check(place: str, episode: Episode, game: str, num_actions: int) -> None:
  lengths = {len(part) for part in episode[:3]}
  if len(lengths) != 1 or not lengths - {0}:
    raise UserError(
      f'{place} has {len(episode.frames)} frames, {len(episode.actions)} '
      f'actions and {len(episode.rewards)} rewards: give as many of each.'
    )
  frames = episode.frames
  if frames.shape[1:] != FRAME_SHAPE or frames.dtype != np.uint8:
    raise UserError(
      f'{place} has frames {frames.dtype} {frames.shape[1:]}: the format holds '
      f'uint8 {FRAME_SHAPE}, as AtariPreprocessing makes them.'
    )
  actions = np.asarray(episode.actions)
  if actions.dtype.kind not in 'iu' or not (
    actions.min() >= 0 and actions.max() < num_actions
  ):
    raise UserError(
      f'{place} has actions {actions.min()} to {actions.max()}, but the '
      f"dataset's action set of {game} is 0 to {num_actions - 1} (no "
      'full_action_space).'
    )
  if not np.isfinite(episode.rewards).all():
    raise UserError(f'{place} has a reward that is no number.')


# --- .npz. ---


@contextlib.contextmanager
def _npz(path: pathlib.Path):
  try:
    with np.load(path) as arrays:
      missing = {'frames', 'actions', 'rewards', 'terminated'} - set(arrays)
      if missing:
        raise UserError(f'{path} has no array {min(missing)!r}.')
      yield arrays
  except (OSError, ValueError, zipfile.BadZipFile) as error:
    raise UserError(f'{path} is damaged or no .npz file ({error}).') from None


def _of_npz(folder: pathlib.Path) -> Iterator[Episode]:
  for path in sorted(folder.glob('*.npz')):
    with _npz(path) as arrays:
      yield Episode(
        arrays['frames'],
        arrays['actions'],
        arrays['rewards'],
        bool(arrays['terminated']),
      )


# --- d3rlpy. ---


@contextlib.contextmanager
def _h5(path: pathlib.Path):
  try:
    with h5py.File(path) as file:
      if 'num_episodes' not in file or 'columns' not in file:
        raise UserError(
          f"{path} is not what d3rlpy's ReplayBuffer.dump writes (from "
          'version 2 on).'
        )
      yield file
  except OSError as error:
    raise UserError(f'{path} is damaged or no HDF5 file ({error}).') from None


def _of_d3rlpy(path: pathlib.Path) -> Iterator[Episode]:
  """Episodes of frames (T, 1, 84, 84), or of stacks whose newest is last."""
  with _h5(path) as file:
    for number in range(int(file['num_episodes'][()])):
      frames = file[f'observations_{number}'][()]
      if frames.ndim == 4 and frames.shape[1] in (1, STACK_SIZE):
        frames = frames[:, -1]
      yield Episode(
        frames,
        file[f'actions_{number}'][()].reshape(len(frames)),
        file[f'rewards_{number}'][()].reshape(len(frames)),
        bool(file[f'terminated_{number}'][()]),
      )


# --- Minari. ---


def _minari(source):
  name = str(source).removeprefix(_MINARI)
  try:
    import minari
  except ImportError:
    raise UserError(
      "Minari is not installed: pip install 'cql_atari[d4rl]'."
    ) from None
  try:
    return minari.load_dataset(name)
  except (FileNotFoundError, ValueError) as error:
    raise UserError(
      f'Minari has no dataset {name} on this machine ({error}): minari '
      f'download {name}'
    ) from None


def _of_minari(source) -> Iterator[Episode]:
  dataset = _minari(source)
  spec = dataset.spec.env_spec
  shape = dataset.spec.observation_space.shape
  if shape[:2] == _SCREEN:
    skip = spec.kwargs.get('frameskip', _FRAME_SKIP)
    if skip != _FRAME_SKIP:
      raise UserError(
        f'{source} has screens of every {skip} frames, not every '
        f'{_FRAME_SKIP}: other frames than the format holds.'
      )
  for episode in dataset.iterate_episodes():
    count = len(episode.actions)
    yield Episode(
      newest_frames(episode.observations[:count], f'{source}'),
      np.asarray(episode.actions).reshape(count),
      episode.rewards,
      bool(episode.terminations[-1]),
    )


def newest_frames(observations: np.ndarray, place: str) -> np.ndarray:
  """Frames as agents see them, from what environments give.

  Args:
    observations: uint8, any of (T, 84, 84), with a channel before or after, or
      four stacked, the newest last; or screens (T, 210, 160) and (T, 210, 160,
      3), which are made grey and small as Dopamine does.
    place: whose they are, for the error's text.

  Returns:
    uint8 (T, 84, 84).

  Raises:
    UserError: they are of another kind.
  """
  shape = observations.shape[1:]
  if observations.dtype != np.uint8:
    raise UserError(
      f'{place} has observations of {observations.dtype}: frames are uint8, '
      'not scaled.'
    )
  if shape == FRAME_SHAPE:
    return observations
  if shape in ((1, *FRAME_SHAPE), (STACK_SIZE, *FRAME_SHAPE)):
    return observations[:, -1]
  if shape in ((*FRAME_SHAPE, 1), (*FRAME_SHAPE, STACK_SIZE)):
    return np.ascontiguousarray(observations[..., -1])
  if shape[:2] == _SCREEN and shape[2:] in ((), (3,)):
    return np.stack([_small(screen) for screen in observations])
  raise UserError(
    f'{place} has observations {shape}: give {FRAME_SHAPE}, alone or stacked '
    'by four, or screens (210, 160) or (210, 160, 3).'
  )


def _small(screen: np.ndarray) -> np.ndarray:
  if screen.ndim == 3:
    screen = cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)
  return cv2.resize(screen, FRAME_SHAPE, interpolation=cv2.INTER_AREA)
