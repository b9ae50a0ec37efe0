"""ALE by Dopamine's protocol, many games side by side.

`AtariVectorEnv` steps games in C++ threads. With the settings here its frames,
rewards and episode ends equal Dopamine's `AtariPreprocessing` bit for bit
(tests/test_environments.py), so evaluation follows Machado et al. (2018):
sticky actions 0.25, frame skip 4, max-pooling, 84x84 grey, whole games.
"""

import contextlib
import difflib
import hashlib
import os
import pathlib
from collections.abc import Iterator
from unittest import mock

import ale_py
import gin
import numpy as np
from absl import logging
from ale_py import roms, vector_env

from cql_atari.core.errors import UserError, check_flag, check_number
from cql_atari.replay.frames import stack_frames
from cql_atari.replay.store import Store

FRAME_SKIP = 4
STICKINESS = 0.25
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def game_names() -> dict[str, str]:
  """Every game ALE has, by Dopamine's name: {'MsPacman': 'ms_pacman', ...}."""
  return {
    ''.join(word.capitalize() for word in rom.split('_')): rom
    for rom in roms.get_all_rom_ids()
  }


def rom_name(game: str) -> str:
  """ALE's name of a game: 'MsPacman' -> 'ms_pacman'.

  Raises:
    UserError: there is no such game.
  """
  games = game_names()
  if game not in games:
    lower = {name.lower(): name for name in games}
    close = difflib.get_close_matches(str(game).lower(), lower, 1, 0.5)
    close = [lower[name] for name in close]
    hint = f': did you mean {close[0]}?' if close else '.'
    raise UserError(f'there is no Atari game {game!r}{hint}')
  return games[game]


def rom_path(
  game: str, rom_dir: str | os.PathLike | None = None
) -> pathlib.Path:
  """The ROM of a game.

  Args:
    game: the game's name, such as 'MsPacman'.
    rom_dir: a folder of ROMs by ALE's names, such as 'ms_pacman.bin'; the ones
      that come with ALE by default.

  Returns:
    The file.

  Raises:
    UserError: there is no such game, or no ROM of it in the folder.
  """
  name = rom_name(game)
  if rom_dir is None:
    return pathlib.Path(roms.get_rom_path(name))
  path = pathlib.Path(rom_dir).expanduser() / f'{name}.bin'
  if not path.is_file():
    raise UserError(
      f'--rom_dir has no ROM of {game}: expected {path}, named as ALE names it.'
    )
  return path


def action_names(rom: pathlib.Path) -> list[str]:
  """The names of a game's actions, in the order of the dataset's."""
  ale = ale_py.ALEInterface()
  ale.loadROM(rom)
  return [action.name for action in ale.getMinimalActionSet()]


@gin.configurable
def num_actions(game: str, rom_dir: str | None = None) -> int:
  """Size of the game's minimal action set, which the dataset's actions index.

  Raises:
    UserError: there is no such game or ROM.
  """
  return len(action_names(rom_path(game, rom_dir)))


@gin.configurable
class AtariEnvironments:
  """Games of one kind side by side, each starting anew when it ends."""

  def __init__(
    self,
    game: str,
    num_environments: int = 32,
    sticky_actions: bool = True,
    max_steps_per_episode: int = 27_000,
    rom_dir: str | os.PathLike | None = None,
  ):
    """Describes the environments; the first `reset` makes them.

    Args:
      game: the game's name, such as 'Pong'.
      num_environments: games played at once, E.
      sticky_actions: whether an emulator frame repeats the action before with
        probability 0.25.
      max_steps_per_episode: agent steps after which a game is cut off.
      rom_dir: a folder of other ROMs than ALE's, such as the ones that the DQN
        Replay dataset was made with (atari-py 0.2.5 and before).
    """
    check_number(
      'AtariEnvironments.num_environments', num_environments, 1, whole=True
    )
    check_flag('AtariEnvironments.sticky_actions', sticky_actions)
    self.rom = rom_path(game, rom_dir)
    self.num_environments = num_environments
    self.max_steps_per_episode = max_steps_per_episode
    self._games = None
    self._settings = {
      'game': rom_name(game),
      'num_envs': num_environments,
      'repeat_action_probability': STICKINESS if sticky_actions else 0.0,
      'frameskip': FRAME_SKIP,
      'max_num_frames_per_episode': max_steps_per_episode * FRAME_SKIP,
      'autoreset_mode': 'SameStep',
      'noop_max': 0,
      'use_fire_reset': False,
      'reward_clipping': False,
      'episodic_life': False,
    }

  @property
  def longest_episode(self) -> int:
    """Agent steps after which a game is cut off."""
    return self.max_steps_per_episode

  def reset(self, seed: int) -> np.ndarray:
    """Starts new games; seeding reloads the ROM, so that nothing carries over.

    Args:
      seed: of the stickiness; the same seed and actions play the same games.

    Returns:
      States uint8 (E, 84, 84, 4).
    """
    if self._games is None:
      with _playing(self.rom):
        self._games = vector_env.AtariVectorEnv(**self._settings)
    seeds = np.random.SeedSequence(seed).generate_state(self.num_environments)
    frames, _ = self._games.reset(seed=(seeds >> 1).astype(np.int32))
    return stack_frames(frames)

  def step(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plays one agent step in every game.

    Args:
      actions: integers (E,).

    Returns:
      States uint8 (E, 84, 84, 4), already of the new game where one ended;
      raw rewards float64 (E,); whether the game ended or was cut off, (E,).
    """
    frames, rewards, over, cut_off, _ = self._games.step(
      np.asarray(actions, np.int64)
    )
    return stack_frames(frames), rewards.astype(np.float64), over | cut_off

  @property
  def record(self) -> dict:
    """What run.json says of them."""
    return {'rom_md5': hashlib.md5(self.rom.read_bytes()).hexdigest()}

  def check(self, store: Store) -> None:
    """Warns when the data were recorded with another ROM than is played.

    Raises:
      UserError: they are of another game.
    """
    recorded, played = store.manifest['game'], self._settings['game']
    if rom_name(recorded) != played:
      raise UserError(
        f'the data are of {recorded}, but AtariEnvironments.game is another, '
        f'{played}: bind GAME, which is for both.'
      )
    difference = start_difference(store, self.rom.parent)
    if difference:
      logging.warning(
        'Games in the data start with a picture of which %.0f %% of the pixels '
        'differ from what this ROM of %s shows: they were recorded with '
        'another ROM. Scores will not compare. The DQN Replay dataset was made '
        'with the ROMs of atari-py 0.2.5: point --rom_dir at a folder of '
        'those.',
        100 * difference,
        store.manifest['game'],
      )


@contextlib.contextmanager
def _playing(rom: pathlib.Path) -> Iterator[None]:
  """Makes ALE's vector environment load this file, whatever its checksum."""
  if rom == pathlib.Path(roms.get_rom_path(rom.stem)):
    yield  # Its own.
    return
  with mock.patch.object(vector_env, 'roms') as stand_in:
    stand_in.get_rom_path.return_value = rom
    yield


def start_difference(
  store: Store, rom_dir: str | os.PathLike | None = None
) -> float | None:
  """How far the data's games start with another picture than this ROM shows.

  A console starts a game the same way every time, so data recorded with the
  same ROM differ nowhere.

  Args:
    store: recorded play.
    rom_dir: see AtariEnvironments.

  Returns:
    Share of the pixels that differ from the most similar start in the data;
    None when the store holds no start of a game.
  """
  starts = store.game_starts[:64]
  if not len(starts):
    return None
  recorded = store.read_frames(starts, 1)[:, 0].astype(np.int16)
  environments = AtariEnvironments(
    store.manifest['game'], 1, max_steps_per_episode=1, rom_dir=rom_dir
  )
  shown = environments.reset(0)[0, :, :, -1]
  # Image libraries have rounded differently over the years.
  return float((np.abs(recorded - shown) > 4).mean(axis=(1, 2)).min())
