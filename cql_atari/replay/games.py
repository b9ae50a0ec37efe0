"""Atari games: their names, ROMs and actions, as ALE has them."""

import difflib
import functools
import os
import pathlib

import ale_py
from ale_py import roms

from cql_atari.core.constraints import configurable
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path

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
    hint = f': did you mean {lower[close[0]]}?' if close else '.'
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
  path = user_path(rom_dir) / f'{name}.bin'
  if not path.is_file():
    raise UserError(
      f'--rom_dir has no ROM of {game}: expected {path}, named as ALE names it.'
    )
  return path


@functools.cache
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
