"""ALE by Dopamine's protocol, many games side by side.

ALE steps games in C++ threads. With the settings here its frames, rewards and
episode ends equal Dopamine's `AtariPreprocessing` bit for bit
(tests/environments/test_atari.py), so evaluation follows Machado et al. (2018):
sticky actions 0.25, frame skip 4, max-pooling, 84x84 grey, whole games.
"""

import difflib
import hashlib
import os
import pathlib
from typing import Any

import ale_py
import cv2
import numpy as np
from ale_py import roms

from cql_atari.core.constraints import Count
from cql_atari.core.errors import UserError
from cql_atari.core.settings import configurable
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE, stack_frames
from cql_atari.replay.run import game_names

FRAME_SKIP = 4
STICKINESS = 0.25
_SCREEN = (320, 420)  # Twice the console's own.
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


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


@configurable
def num_actions(game: str, rom_dir: str | None = None) -> int:
  """Size of the game's minimal action set, which the dataset's actions index.

  Raises:
    UserError: there is no such game or ROM.
  """
  return len(action_names(rom_path(game, rom_dir)))


@configurable
class AtariEnvironments:
  """Games of one kind side by side, each starting anew when it ends.

  Attributes:
    game: such as 'Pong'.
    rom: the file that is played.
    num_environments: games played at once, E.
    num_actions: size of the game's minimal action set, A.
    longest_episode: agent steps after which a game is cut off.
  """

  benchmark = 'atari'
  renders = False  # States are pictures already.

  def __init__(
    self,
    game: str,
    num_environments: Count = 32,
    sticky_actions: bool = True,
    max_steps_per_episode: Count = 27_000,
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
    self.game, self.rom = game, rom_path(game, rom_dir)
    self.num_environments = num_environments
    self.longest_episode = max_steps_per_episode
    self._sticky_actions = sticky_actions
    self.num_actions = len(action_names(self.rom))
    self._games = None
    self._paddle_strength = np.ones(num_environments, np.float32)

  def _make_games(self) -> ale_py.ALEVectorInterface:
    return ale_py.ALEVectorInterface(
      rom_path=self.rom,
      num_envs=self.num_environments,
      frame_skip=FRAME_SKIP,
      stack_num=STACK_SIZE,
      img_height=FRAME_SHAPE[0],
      img_width=FRAME_SHAPE[1],
      grayscale=True,
      maxpool=True,
      noop_max=0,
      use_fire_reset=False,
      episodic_life=False,
      life_loss_info=False,
      reward_clipping=False,
      max_episode_steps=self.longest_episode * FRAME_SKIP,
      repeat_action_probability=STICKINESS if self._sticky_actions else 0.0,
      full_action_space=False,
      batch_size=0,
      num_threads=0,
      thread_affinity_offset=-1,
      autoreset_mode='SameStep',
    )

  def reset(self, seed: int) -> np.ndarray:
    """Starts new games; seeding reloads the ROM, so that nothing carries over.

    Args:
      seed: seeds the stickiness; the same seed and actions play the same games.

    Returns:
      States uint8 (E, 84, 84, 4).
    """
    if self._games is None:
      self._games = self._make_games()
    count = self.num_environments
    seeds = np.random.SeedSequence(seed).generate_state(count) >> 1
    frames, _ = self._games.reset(np.arange(count), seeds.astype(np.int32))
    return stack_frames(frames)

  def step(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plays one agent step in every game.

    Args:
      actions: integers (E,) in [0, A).

    Returns:
      States uint8 (E, 84, 84, 4), already of the new game where one ended;
      raw rewards float64 (E,); whether the game ended or was cut off, (E,).

    Raises:
      ValueError: an action that the game hasn't got.
    """
    actions = np.asarray(actions, np.int64)
    # On any other, ALE's threads die, and whoever waits for them never returns.
    if actions.min() < 0 or actions.max() >= self.num_actions:
      raise ValueError(
        f'actions {actions} are not all in [0, {self.num_actions}), the action '
        f'set of {self.game}'
      )
    self._games.send(actions, self._paddle_strength)
    frames, rewards, over, cut_off, _ = self._games.recv()
    return stack_frames(frames), rewards.astype(np.float64), over | cut_off

  def picture(self, states: np.ndarray) -> np.ndarray:
    """The first game's newest frame, twice as wide as the console's pixels."""
    frame = cv2.resize(states[0, ..., -1], _SCREEN)
    return np.repeat(frame[..., None], 3, axis=2)

  @property
  def record(self) -> dict[str, Any]:
    """Their fields in run.json."""
    return {'rom_md5': hashlib.md5(self.rom.read_bytes()).hexdigest()}
