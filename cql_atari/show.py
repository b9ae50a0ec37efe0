"""Shows what is in a store: python -m cql_atari.show STORE.

Prints statistics; `--out=clip.gif`, or clip.mp4, films some of its play at the
speed it was played, 15 frames a second, with rows, actions and rewards.
"""

from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path
from cql_atari.replay import clip, games, shard_folder, summary
from cql_atari.replay.store import Store

_COMMAND = command.Command(__doc__, operand='STORE')
_OUT = _COMMAND.string('out', None, 'The clip, such as clip.gif or clip.mp4.')
_FIRST = _COMMAND.integer(
  'first', None, 'The first row of the clip; the middle of the store if unset.'
)
_FRAMES = _COMMAND.integer('frames', 300, 'Frames shown.', least=1)


def main(directory: str) -> None:
  """Shows by the flags."""
  folder = user_path(directory)
  if not (folder / 'frames.zst').is_file():
    shard_folder.find_replay_logs(folder)  # It knows more of other data.
    raise UserError(
      f'{directory} is no store: make one with python -m cql_atari.prepare '
      '--replay_dir=DIR --out=STORE.'
    )
  store = Store.load(folder)
  names = games.action_names(games.rom_path(store.manifest['game']))
  print(summary.describe(store, names))
  if _OUT.value:
    first = _FIRST.value
    if first is None:
      first = store.manifest['num_rows'] // 2
    drawn = clip.write_clip(store, _OUT.value, first, _FRAMES.value, names)
    print(f'{_OUT.value} shows rows {first} to {first + drawn - 1}.')


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
