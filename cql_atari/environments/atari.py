"""ALE by Dopamine's protocol, many games side by side.

ALE steps games in C++ threads. With the settings here its frames, rewards and
episode ends equal Dopamine's `AtariPreprocessing` bit for bit
(tests/environments/test_atari.py), so evaluation follows Machado et al. (2018):
sticky actions 0.25, frame skip 4, max-pooling, 84x84 grey, whole games.
"""

import hashlib
import os
from typing import Any

import ale_py
import numpy as np

from cql_atari.core.constraints import PositiveInt, configurable
from cql_atari.replay.frames import FRAME_SHAPE, STACK_SIZE, stack_frames
from cql_atari.replay.games import action_names, rom_path

FRAME_SKIP = 4
STICKINESS = 0.25
_CONSOLE = (210, 160)  # Rows and columns of its picture.


@configurable
class AtariEnvironments:
  """Games of one kind side by side, each starting anew when it ends.

  Attributes:
    game, name: such as 'Pong'.
    rom: the file that is played.
    num_environments: games played at once, E.
    num_actions: size of the game's minimal action set, A.
    longest_episode: agent steps after which a game is cut off.
    cut_off: bool (E,), whether the last step cut a game off that was not over.
  """

  benchmark = 'atari'
  renders = False  # Whether the first game is also drawn in colour.

  def __init__(
    self,
    game: str,
    num_environments: PositiveInt = 32,
    sticky_actions: bool = True,
    max_steps_per_episode: PositiveInt = 27_000,
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
    self.name = self.game = game
    self.rom = rom_path(game, rom_dir)
    self.num_environments = num_environments
    self.longest_episode = max_steps_per_episode
    self._sticky_actions = sticky_actions
    self.num_actions = len(action_names(self.rom))
    self._games = self._drawn = self._screen = None
    self.cut_off = np.zeros(num_environments, bool)

  def _make_games(
    self, count: int, shape: tuple[int, int], stack: int, in_colour: bool
  ) -> ale_py.ALEVectorInterface:
    return ale_py.ALEVectorInterface(
      rom_path=self.rom,
      num_envs=count,
      frame_skip=FRAME_SKIP,
      stack_num=stack,
      img_height=shape[0],
      img_width=shape[1],
      grayscale=not in_colour,
      maxpool=True,
      noop_max=0,
      use_fire_reset=False,
      episodic_life=False,
      life_loss_info=False,
      reward_clipping=False,
      max_episode_steps=self.longest_episode * FRAME_SKIP,
      repeat_action_probability=STICKINESS if self._sticky_actions else 0.0,
      full_action_space=False,
      autoreset_mode='SameStep',
    )

  def reset(self, seed: int) -> np.ndarray:
    """Starts new games; seeding reloads the ROM, so that nothing carries over.

    Args:
      seed: seeds the stickiness; the same seed and actions play the same games.

    Returns:
      States uint8 (E, 84, 84, 4).
    """
    count = self.num_environments
    if self._games is None:
      self._games = self._make_games(count, FRAME_SHAPE, STACK_SIZE, False)
    seeds = np.random.SeedSequence(seed).generate_state(count) >> 1
    seeds = seeds.astype(np.int32)
    frames, _ = self._games.reset(np.arange(count), seeds)
    if self.renders:  # The same game once more, in colour.
      if self._drawn is None:
        self._drawn = self._make_games(1, _CONSOLE, 1, True)
      self._screen, _ = self._drawn.reset(np.arange(1), seeds[:1])
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
      ValueError: an action that the game lacks, or no game has begun.
    """
    if self._games is None:
      raise ValueError('no game has begun: call reset first')
    actions = np.asarray(actions, np.int64)
    # On any other, ALE's threads die, and whoever waits for them never returns.
    if actions.min() < 0 or actions.max() >= self.num_actions:
      raise ValueError(
        f'actions {actions} are not all in [0, {self.num_actions}), the action '
        f'set of {self.game}'
      )
    strengths = np.ones(len(actions), np.float32)
    self._games.send(actions, strengths)
    if self.renders:
      self._drawn.send(actions[:1], strengths[:1])
      self._screen, *_ = self._drawn.recv()
    frames, rewards, over, cut_off, _ = self._games.recv()
    self.cut_off = cut_off & ~over
    return stack_frames(frames), rewards.astype(np.float64), over | cut_off

  def picture(self, states: np.ndarray) -> np.ndarray:
    """The first game's screen, twice as large as the console's."""
    del states
    return self._screen[0, 0].repeat(2, axis=0).repeat(2, axis=1)

  @property
  def record(self) -> dict[str, Any]:
    """Their fields in run.json."""
    return {'rom_md5': hashlib.md5(self.rom.read_bytes()).hexdigest()}
