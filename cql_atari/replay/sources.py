"""Readers of third-party recordings, by format.

- A folder of `.npz` files, an episode each, in the order of their names:
  `frames` uint8 (T, 84, 84), each before its action, `actions` (T,), `rewards`
  (T,) and `terminated`, whether the game was over (or else cut off).
- `minari:NAME`, an Atari dataset of Minari on this machine, with frames as
  gymnasium's `AtariPreprocessing` makes them or raw screens of four steps.
- A `.h5` file that d3rlpy's `ReplayBuffer.dump` wrote.
- RL Unplugged's Atari episodes (Gulcehre et al., 2020): TFRecords of the
  bucket's own, such as `run_1-00000-of-00050`, or as TensorFlow Datasets keeps
  them; a folder, a file, or what the names begin with (`Pong/run_1`).
"""

import abc
import contextlib
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import cv2
import h5py
import numpy as np

from cql_atari.core import quiet
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path
from cql_atari.replay import games
from cql_atari.replay.frames import STACK_SIZE, newest_frames

_FRAME_SKIP = 4
_UNREADABLE = (  # What NumPy and zipfile raise for damaged files.
  OSError, EOFError, ValueError, TypeError, AttributeError,
  NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


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


class Source(abc.ABC):
  """A recording; `name` is what the user gave."""

  # Whether rewards that are all within [-1, 1] are clipped ones.
  may_be_clipped: ClassVar[bool] = False

  def __init__(self, name: str):
    self.name = name
    self.path = user_path(name)

  @abc.abstractmethod
  def files(self) -> list[pathlib.Path]:
    """Its files, in order; none where the name is of no such recording."""

  @abc.abstractmethod
  def lengths(self) -> Iterator[int]:
    """The length T of every episode."""

  @abc.abstractmethod
  def episodes(self) -> Iterator[Episode]:
    """Every episode, in order.

    Raises:
      UserError: it is damaged or cannot be read.
    """

  def game(self) -> str | None:
    """The game; None where the recording itself does not tell."""
    return None

  def game_of_path(self) -> str | None:
    """The game that its folder, or one of two above, is named after."""
    for folder in (self.path, *self.path.resolve().parents[:2]):
      if folder.name in games.game_names():
        return folder.name
    return None


def find(name: str | os.PathLike) -> Source | None:
  """The recording of a name, if it is one that has to be converted."""
  if user_path(name, 'replay_logs').is_dir():
    return None
  for kind in (MinariDataset, NpzFolder, D3rlpyFile, RLUnplugged):
    source = kind(str(name))
    if source.files():
      return source
  return None


class NpzFolder(Source):
  """Episodes as NumPy writes them."""

  def files(self) -> list[pathlib.Path]:
    """The .npz files of the folder."""
    return sorted(self.path.glob('*.npz'))

  def lengths(self) -> Iterator[int]:
    """The length of every episode."""
    for path in self.files():
      with self._open(path) as arrays:
        yield len(arrays['actions'])

  def episodes(self) -> Iterator[Episode]:
    """Every episode."""
    for path in self.files():
      with self._open(path) as arrays:
        yield Episode(
          arrays['frames'],
          _squeezed(arrays['actions']),
          _squeezed(arrays['rewards']),
          _flag(path, arrays['terminated']),
        )

  @staticmethod
  @contextlib.contextmanager
  def _open(path: pathlib.Path):
    try:
      with np.load(path) as arrays:
        missing = {'frames', 'actions', 'rewards', 'terminated'} - set(arrays)
        if missing:
          raise UserError(f'{path} has no array {min(missing)!r}.')
        yield arrays
    except _UNREADABLE as error:
      raise UserError(f'{path} is damaged or no .npz file ({error}).') from None


def _flag(path: pathlib.Path, value: np.ndarray) -> bool:
  if value.shape or value.dtype.kind not in 'biu' or value not in (0, 1):
    raise UserError(
      f'{path} has terminated {str(value)[:20]!r} of shape {value.shape}: give '
      'one True or False, for the game.'
    )
  return bool(value)


class D3rlpyFile(Source):
  """Episodes of frames (T, 1, 84, 84), or of stacks whose newest is last.

  d3rlpy's `get_atari` has the DQN Replay dataset's rows with their padding and
  clipped rewards.
  """

  may_be_clipped = True

  def files(self) -> list[pathlib.Path]:
    """The file."""
    is_hdf5 = self.path.suffix in ('.h5', '.hdf5') and self.path.is_file()
    return [self.path] if is_hdf5 else []

  def lengths(self) -> Iterator[int]:
    """The length of every episode."""
    with self._open() as file:
      for number in range(int(file['num_episodes'][()])):
        yield len(file[f'actions_{number}'])

  def episodes(self) -> Iterator[Episode]:
    """Every episode."""
    with self._open() as file:
      for number in range(int(file['num_episodes'][()])):
        frames = file[f'observations_{number}'][()]
        if frames.ndim == 4 and frames.shape[1] in (1, STACK_SIZE):
          frames = frames[:, -1]
        yield Episode(
          frames,
          _squeezed(file[f'actions_{number}'][()]),
          _squeezed(file[f'rewards_{number}'][()]),
          bool(file[f'terminated_{number}'][()]),
        )

  @contextlib.contextmanager
  def _open(self):
    try:
      with h5py.File(self.path) as file:
        if 'num_episodes' not in file or 'columns' not in file:
          raise UserError(
            f"{self.path} is not what d3rlpy's ReplayBuffer.dump writes (from "
            'version 2 on).'
          )
        yield file
    except (OSError, KeyError) as error:
      raise UserError(
        f'{self.path} is damaged or no HDF5 file ({error}).'
      ) from None


class MinariDataset(Source):
  """An Atari dataset of Minari."""

  PREFIX: ClassVar[str] = 'minari:'

  def files(self) -> list[pathlib.Path]:
    """Minari's own files."""
    if not self.name.startswith(self.PREFIX):
      return []
    root = pathlib.Path(self._dataset().storage.data_path)
    return [path for path in sorted(root.rglob('*')) if path.is_file()]

  def game(self) -> str | None:
    """The game of the environment that the dataset names."""
    spec = self._dataset().spec.env_spec
    if spec is None:
      return None
    name = spec.id.rpartition('/')[2]
    name = re.sub('(NoFrameskip|Deterministic)?-v[0-9]+$', '', name)
    return name if name in games.game_names() else None

  def lengths(self) -> Iterator[int]:
    """The length of every episode."""
    for episode in self._dataset().iterate_episodes():
      yield len(episode.actions)

  def episodes(self) -> Iterator[Episode]:
    """Every episode, its last observation left out."""
    dataset = self._dataset()
    if spec := dataset.spec.env_spec:
      self._check_wrappers(spec)
    for episode in dataset.iterate_episodes():
      count = len(episode.actions)
      yield Episode(
        newest_frames(episode.observations[:count], self.name),
        np.asarray(episode.actions).reshape(count),
        episode.rewards,
        bool(episode.terminations[-1]),
      )

  def _check_wrappers(self, spec) -> None:
    """Refuses play of other frames, or that a lost life ended."""
    skip = spec.kwargs.get('frameskip', _FRAME_SKIP)
    for wrapper in spec.additional_wrappers:
      settings = wrapper.kwargs or {}
      skip *= settings.get('frame_skip', 1)
      if settings.get('terminal_on_life_loss'):
        raise UserError(f'{self.name} ends games at lost lives: none is whole.')
    if skip != _FRAME_SKIP:
      raise UserError(
        f'{self.name} shows every {skip} frames, and the format every fourth.'
      )

  def _dataset(self):
    return load_minari(self.name.removeprefix(self.PREFIX))


def import_minari():
  """The library.

  Raises:
    UserError: it is not installed.
  """
  try:
    import minari
  except ImportError:
    raise UserError(
      "Minari is not installed: pip install 'cql_atari[d4rl]'."
    ) from None
  return minari


def load_minari(name: str):
  """A dataset of Minari's, such as 'mujoco/hopper/medium-v0'.

  Raises:
    UserError: it is not on this machine, or Minari is not installed.
  """
  try:
    return import_minari().load_dataset(name)
  except (OSError, ValueError, KeyError) as error:
    raise UserError(
      f'Minari has no dataset {name} on this machine ({error}): minari '
      f'download {name}'
    ) from None


class RLUnplugged(Source):
  """Episodes as tf.train.Example, in TFRecords.

  Only the observation of the last step is used, as in RLDS. By TensorFlow
  Datasets' source, the rewards are those of the DQN Replay dataset, clipped,
  also where they are called unclipped.
  """

  may_be_clipped = True

  def files(self) -> list[pathlib.Path]:
    """The files of the folder, or those whose names begin so."""
    if self.path.is_file():
      paths = [self.path]
    elif self.path.is_dir():
      paths = self.path.glob('*')
    else:
      paths = self.path.parent.glob(f'{self.path.name}-*')
    return sorted(path for path in paths if '-of-' in path.name)

  def lengths(self) -> Iterator[int]:
    """The length of every episode."""
    for _, features in self._examples():
      yield len(self._of(features, 'actions', 'steps/action')) - 1

  def episodes(self) -> Iterator[Episode]:
    """Every episode."""
    for place, features in self._examples():
      pictures = self._of(features, 'observations', 'steps/observation')
      frames = [
        cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
        for picture in pictures[:-1]
      ]
      if not frames or any(frame is None for frame in frames):
        raise UserError(f'{place} has an observation that is no picture.')
      if 'discounts' in features:
        is_over = self._of(features, 'discounts')[-1] == 0
      else:
        is_over = self._of(features, 'steps/is_terminal')[-1]
      yield Episode(
        np.stack(frames),
        np.array(self._of(features, 'actions', 'steps/action')[:-1]),
        np.array(self._of(features, 'unclipped_rewards', 'steps/reward')[:-1]),
        bool(is_over),
      )

  def _examples(self) -> Iterator[tuple[str, dict]]:
    with quiet.quiet():
      quiet.import_tensorflow()
      import tensorflow as tf
      from google.protobuf import message
    for path in self.files():
      with open(path, 'rb') as file:
        compression = 'GZIP' if file.read(2) == b'\x1f\x8b' else ''
      records = tf.data.TFRecordDataset(str(path), compression)
      try:
        for number, record in enumerate(records.as_numpy_iterator()):
          example = tf.train.Example.FromString(record)
          yield f'{path}, episode {number}', example.features.feature
      except tf.errors.DataLossError as error:
        raise UserError(f'{path} is damaged ({error.message}).') from None
      except message.DecodeError as error:
        raise UserError(
          f'{path} holds no tf.train.Example ({error}).'
        ) from None

  @staticmethod
  def _of(features, *names: str):
    for name in names:
      if name in features:
        kind = features[name].WhichOneof('kind')
        return getattr(features[name], kind).value
    raise UserError(
      f"a record has no {' or '.join(names)}: it is none of RL Unplugged's "
      'Atari episodes.'
    )


def _squeezed(column: np.ndarray) -> np.ndarray:
  """(T, 1) as (T,), which is what libraries with vectors of actions keep."""
  return column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column
