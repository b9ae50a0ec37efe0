"""Whether the data were recorded with the ROM that is played."""

import os

import numpy as np
from absl import logging

from cql_atari.core.errors import UserError
from cql_atari.environments import atari
from cql_atari.replay.store import Store

# In grey levels: image libraries have rounded differently over the years, and
# Minari keeps pictures as JPEG.
_ROUNDING, _JPEG = 4, 32
_NEGLIGIBLE = 1e-3  # Share of the pixels.


def check(store: Store, environments: atari.AtariEnvironments) -> None:
  """Warns when the data were recorded with another ROM than is played.

  Raises:
    UserError: they are of another game.
  """
  recorded, played = store.manifest['game'], environments.game
  if recorded != played:
    raise UserError(
      f'the data are of {recorded}, but AtariEnvironments.game is another, '
      f'{played}: bind GAME, which is for both.'
    )
  if store.action_size != environments.num_actions:
    raise UserError(
      f'the data have {store.action_size} actions, but {played} has '
      f'{environments.num_actions}: leave open_store.num_actions at '
      '@num_actions().'
    )
  difference = start_difference(store, environments.rom.parent)
  if difference and difference > _NEGLIGIBLE:
    logging.warning(
      'Games in the data start with a picture of which %.2g %% of the pixels '
      'differ from what this ROM of %s shows: they were recorded with another '
      'ROM, or after no-op actions (noop_max), which evaluations here do not '
      'take. Scores will not compare. The DQN Replay dataset was made with the '
      'ROMs of atari-py 0.2.5: point --rom_dir at a folder of those.',
      100 * difference,
      recorded,
    )


def start_difference(
  store: Store, rom_dir: str | os.PathLike | None = None
) -> float | None:
  """Compares the first frames of the data's games with those of a ROM.

  A console starts a game the same way every time, so data recorded with the
  same ROM differ nowhere.

  Args:
    store: recorded play.
    rom_dir: see AtariEnvironments.

  Returns:
    Share of the pixels that differ from the most similar start in the data;
    None when the store holds no start of a game.
  """
  starts = store.episode_starts[:64]
  if not len(starts):
    return None
  recorded = store.read_frames(starts, 1)[:, 0].astype(np.int16)
  environments = atari.AtariEnvironments(
    store.manifest['game'], 1, max_steps_per_episode=1, rom_dir=rom_dir
  )
  shown = environments.reset(0)[0, :, :, -1]
  tolerance = _ROUNDING if store.is_published else _JPEG
  differing = np.abs(recorded - shown) > tolerance
  return float(differing.mean(axis=(1, 2)).min())
