"""Records what somebody else's agent plays, in the published format."""

import atexit
import contextlib
import math
import os
import pathlib
from typing import Annotated, Any

import gymnasium
import numpy as np
from annotated_types import Ge

from cql_atari.core import constraints
from cql_atari.core.errors import UserError
from cql_atari.core.files import exclusive_lock, make_folder, user_path
from cql_atari.replay import importing, shard_folder
from cql_atari.replay.frames import newest_frames
from cql_atari.replay.games import game_names
from cql_atari.replay.recorder import Recorder

_RowsPerShard = Annotated[int, Ge(10)]  # Fewer may hold no transition.


class RecordReplay(gymnasium.Wrapper):
  """A gymnasium wrapper that writes a run while an agent plays.

    env = gymnasium.make('ALE/Pong-v5', frameskip=1)
    env = gymnasium.wrappers.AtariPreprocessing(env, noop_max=0)
    env = RecordReplay(env, 'data/Pong/1')

  Put it below wrappers that clip rewards, end games at a lost life or stack
  frames, so that whole games and raw scores are recorded. `close` ends the
  run, as does the end of the program; a game under way then is recorded as cut
  off. A program that is killed loses the rows since the last whole shard.
  """

  def __init__(
    self,
    env: gymnasium.Env,
    folder: str | os.PathLike,
    rows_per_shard: int = 20_000,
  ):
    """Begins a run.

    Args:
      env: gives frames uint8 (84, 84), as `AtariPreprocessing` makes them,
        alone or stacked by four, or raw screens of every fourth frame.
      folder: the run's, such as data/Pong/1; gets `replay_logs` and
        `episodes.json`. Every environment needs one of its own.
      rows_per_shard: rows of a shard. Splits take the first 50 shards.

    Raises:
      BusyError: another environment records there.
      UserError: the folder can't be written, or holds data; the environment
        shows other frames than every fourth, ends games at a lost life, as far
        as its wrappers tell, has actions outside the game's minimal set, or
        plays another game than the folder's name tells.
    """
    super().__init__(env)
    constraints.check('rows_per_shard', rows_per_shard, _RowsPerShard)
    _check(env)
    game = _game(env, user_path(folder))
    run = make_folder('folder', folder)
    with contextlib.ExitStack() as lock:
      lock.enter_context(exclusive_lock(run, 'recording'))
      importing.check_empty(run)
      self._lock = lock.pop_all()  # Until `close`.
    self._recorder = Recorder(
      run / 'replay_logs', int(rows_per_shard), 1_000_000, game
    )
    self._recorder.write_episodes()  # It tells that this is no published run.
    self._frame, self._rows = None, []
    atexit.register(self.close)

  def reset(self, **settings: Any):
    """Begins a game; one that was under way is cut off, and has no score."""
    self._end(is_over=False, is_whole=False)
    observation, info = self.env.reset(**settings)
    self._frame = self._newest(observation)
    return observation, info

  def step(self, action):
    """Plays and records a step."""
    observation, reward, terminated, truncated, info = self.env.step(action)
    if not math.isfinite(reward):
      raise UserError(f'the environment gave the reward {reward}.')
    self._rows.append((self._frame, int(action), float(reward)))
    self._frame = self._newest(observation)
    if terminated or truncated:
      self._end(bool(terminated))
    return observation, reward, terminated, truncated, info

  def close(self) -> None:
    """Ends the run."""
    atexit.unregister(self.close)
    self._end(is_over=False, is_whole=False)
    self._recorder.close()
    self._recorder.write_episodes()
    self._lock.close()
    super().close()

  @staticmethod
  def _newest(observation: np.ndarray) -> np.ndarray:
    observation = np.asarray(observation)[None]
    return newest_frames(observation, 'the environment')[0].copy()

  def _end(self, is_over: bool, is_whole: bool = True) -> None:
    if not self._rows:
      return
    shards = self._recorder.num_finished
    self._recorder.append(*map(np.stack, zip(*self._rows)), is_over)
    self._recorder.episodes[-1]['complete'] &= is_whole
    if self._recorder.num_finished > shards:
      self._recorder.write_episodes()
    self._rows = []


def _check(env: gymnasium.Env) -> None:
  """Refuses what cannot be told from the recording afterwards."""
  ale = env.unwrapped
  if not hasattr(ale, 'ale'):  # Not gymnasium's Atari.
    return
  wrapper, skip = env, ale._frameskip
  while wrapper is not ale:
    is_sb3 = type(wrapper).__name__ == 'EpisodicLifeEnv'
    if is_sb3 or vars(wrapper).get('terminal_on_life_loss'):
      raise UserError(
        'the environment ends games at a lost life, and the format holds whole '
        'games: make it with terminal_on_life_loss=False, and end them above '
        'RecordReplay.'
      )
    if isinstance(wrapper, gymnasium.RewardWrapper):
      raise UserError(
        'the environment clips rewards or changes them: put that wrapper, '
        f'{type(wrapper).__name__}, above RecordReplay.'
      )
    if isinstance(wrapper, gymnasium.wrappers.Autoreset):
      raise UserError(
        'the environment resets itself: put Autoreset above RecordReplay.'
      )
    for name in ('frame_skip', '_skip'):
      skip *= vars(wrapper).get(name, 1)
    wrapper = wrapper.env
  if skip != 4:
    raise UserError(
      f'the environment shows every {skip} frames, and the format holds every '
      "fourth: make the game with frameskip=1, and put gymnasium's "
      'AtariPreprocessing below RecordReplay.'
    )
  minimal = len(ale.ale.getMinimalActionSet())
  if env.action_space.n != minimal:
    raise UserError(
      f'the environment has {env.action_space.n} actions, and the format the '
      f"{minimal} of the game's minimal set: make it with "
      'full_action_space=False.'
    )


def _game(env: gymnasium.Env, run: pathlib.Path) -> str | None:
  """The game, if known; refuses to write it into the folder of another."""
  names = {rom: game for game, rom in game_names().items()}
  game = names.get(getattr(env.unwrapped, '_game', None))
  told = shard_folder.game_by_path(run)
  if game and told and game != told:
    raise UserError(
      f'the environment plays {game}, and {run} is a folder of {told}: give '
      f'data/{game}/{run.name}.'
    )
  return game
