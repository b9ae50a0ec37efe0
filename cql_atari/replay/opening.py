"""Opens the store of a split: found where it was built, or built now."""

import hashlib
import json
import operator
import os
import pathlib
from collections.abc import Callable, Sequence

import platformdirs
from absl import logging

from cql_atari.core import fetched
from cql_atari.core.constraints import configurable
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path
from cql_atari.core.protocols import Data
from cql_atari.replay import build, games, importing, shard_folder, sources
from cql_atari.replay import residence as residence_lib
from cql_atari.replay import split as split_lib
from cql_atari.replay.store import FORMAT_VERSION, Store

_FEW_ROWS = 5000  # 1 % of `collect` has 10,000, of a published run 500,000.
_CACHE = platformdirs.user_cache_path('cql_atari') / 'stores'


@configurable
def open_data(open_fn: Callable[[], Data] | None = None) -> Data:
  """Opens what a run learns from.

  Args:
    open_fn: opens it; `open_store` by default.

  Returns:
    A store, or another benchmark's data.
  """
  return (open_fn or open_store)()


@configurable
def open_store(
  replay_dir: str | os.PathLike | None,
  game: str | None = None,
  num_actions: int | None = None,
  split: split_lib.Split | str | float | None = None,
  cache_dir: str | os.PathLike | None = None,
  residence: residence_lib.Residence = 'auto',
) -> Store:
  """The store of a split: reused when it is there, built when it is not.

  Args:
    replay_dir: a run's folder (with `replay_logs`), `replay_logs` itself, a
      store made by `python -m cql_atari.prepare`, or somebody else's recording,
      which is converted first; see `replay.sources`.
    game: the game's name, such as 'Pong'; by default the data's, which a store
      says itself, and a run by what recorded it, or its path, GAME/RUN.
    num_actions: size of its action set; data outside it is refused. ALE's by
      default.
    split: which rows, or the name of a split, such as '1pct', or a share; all
      of shards 0 to 49 by default, or what gin says.
    cache_dir: where stores are kept; `cql_atari` in the user's cache folder by
      default.
    residence: where the frames are: 'device', 'raw', 'compressed', 'mapped', or
      'auto', the fastest that fits; see `replay.residence`.

  Returns:
    The store.

  Raises:
    UserError: missing or broken data, data of another game, or a full disk.
  """
  if isinstance(split, (str, float, int)):
    split = split_lib.named_split(str(split))
  split = split or split_lib.Split()
  if replay_dir and (source := sources.find(replay_dir)):
    cache = user_path(cache_dir or _CACHE)
    replay_dir = importing.converted(source, cache, game)
  _check_there(replay_dir, game, split.to_fetch)
  if is_prepared(replay_dir):
    store = _prepared(replay_dir, game, split, num_actions)
  else:
    game = game or game_of(replay_dir)
    num_actions = num_actions or games.num_actions(game)
    store = Store.load(
      ensure_store(replay_dir, game, num_actions, split, cache_dir)
    )
    rows = store.manifest['num_rows']
    if rows < _FEW_ROWS and split.fraction < 1:
      logging.warning(
        'the split has only %d rows: for all of a small recording, '
        '--gin_bindings="Split.fraction=1.0".',
        rows,
      )
  return residence_lib.reside(store, residence)


def _check_there(
  replay_dir: str | os.PathLike | None, game: str | None, split: str
) -> None:
  if replay_dir and user_path(replay_dir).is_dir():
    return
  if replay_dir and user_path(replay_dir).is_file():
    raise UserError(f'{replay_dir} is a file: give the folder that it is in.')
  if replay_dir:
    known = games.game_names()
    told = [part for part in pathlib.Path(replay_dir).parts if part in known]
    game = game or next(iter(told), None)
    problem = f'there is no replay folder {replay_dir}'
  else:
    problem = f'no replay data{f" of {game}" if game else ""} was given'
  raise UserError(
    f'{problem}: fetch a run with "python -m cql_atari.fetch '
    f'--game={game or "Pong"} --split={split} --out=data" and pass '
    f'--replay_dir=data/{game or "Pong"}/1, or try the built-in data with '
    '--gin_files=cql_demo.gin.'
  )


def game_of(replay_dir: str | os.PathLike | None) -> str:
  """The game of a store, or of a run in the published layout, GAME/RUN.

  Raises:
    UserError: there is no such folder, or it does not tell.
  """
  if replay_dir and (source := sources.find(replay_dir)):
    return importing.game_of(source)
  _check_there(replay_dir, None, '1pct')
  if is_prepared(replay_dir):
    path = user_path(replay_dir) / 'manifest.json'
    try:
      return json.loads(path.read_text())['game']
    except (OSError, ValueError, KeyError) as error:
      raise UserError(
        f'{path} is damaged ({error}): build the store anew.'
      ) from None
  return shard_folder.game_of(replay_dir)


def is_prepared(directory: str | os.PathLike) -> bool:
  """Whether a folder is a store, and not a run of shards."""
  return (user_path(directory) / 'frames.zst').is_file()


def ensure_store(
  replay_dir: str | os.PathLike,
  game: str,
  num_actions: int,
  split: split_lib.Split,
  cache_dir: str | None = None,
  out: str | os.PathLike | None = None,
) -> pathlib.Path:
  """Builds the store of a split unless it is there.

  Args:
    replay_dir: a run's folder, or its `replay_logs`.
    game: the game's name.
    num_actions: size of its action set; data outside it is refused.
    split: which rows.
    cache_dir: where stores are kept, as in `open_store`.
    out: the store's own folder, if it is not to be kept with the others.

  Returns:
    The store's folder.

  Raises:
    UserError: missing or broken data, data of another game, a full disk, or
      something else in `out`.
  """
  folder = shard_folder.find_replay_logs(replay_dir)
  run = shard_folder.run_folder(replay_dir)
  shard_folder.check_game(run, game)
  selection = split.select(folder)
  there = {shard.index for shard in shard_folder.list_shards(folder)}
  missing = set(split.shard_numbers) - there
  is_own, takes_all = shard_folder.is_own(folder), split.shards == (0, 50)
  is_short = is_own and takes_all and there == set(range(len(there)))
  if is_own and takes_all and max(there) >= split.shards[1]:
    logging.warning(
      '%s has shards up to %d, and the split takes the first 50: bind '
      'Split.shards for more.', run, max(there)
    )  # fmt: skip
  if missing and not is_short:  # A recording ends where it ends.
    logging.warning(
      '%s lacks %d of the %d shards that Split.shards asks for, such as %d.',
      run, len(missing), len(split.shard_numbers), min(missing),
    )  # fmt: skip
  key = _key(run, game, num_actions, split, selection)
  if out is None:
    cache = user_path(cache_dir or _CACHE)
    directory = cache / f'{game}-{run.name}-{split.convention}-{key}'
  else:
    directory = user_path(out)
    if directory.exists() and not is_prepared(directory):
      raise UserError(
        f'--out={out} is there already and is no store: name a folder that '
        'is not there.'
      )
  if not directory.is_dir():
    build.build_store(
      directory, key, selection, split, game, run.name, num_actions
    )
  if out is not None:  # Perhaps another process's, of another split.
    store = _prepared(directory, game, split, num_actions)
    if not _is_of(store, selection, folder):
      raise UserError(
        f'the store {directory} is of other files than {run} has now: name '
        'a folder that is not there.'
      )
  return directory


def _is_of(
  store: Store, selection: Sequence[split_lib.ShardRows], folder: pathlib.Path
) -> bool:
  """Whether a store has these rows, by shards, rows and sizes of files."""
  may_grow = fetched.read(folder) is not None  # By a fetch of a larger share.
  names = ('shard', 'rows') if may_grow else ('shard', 'rows', 'files')
  pick = operator.itemgetter(*names)
  now = [pick(rows.record) for rows in selection]
  return now == list(map(pick, store.manifest['shards']))


def _key(
  run: pathlib.Path,
  game: str,
  num_actions: int,
  split: split_lib.Split,
  selection: Sequence[split_lib.ShardRows],
) -> str:
  """Tells the store of these files and settings from any other."""
  settings = [FORMAT_VERSION, game, num_actions, list(split.record.values())]
  files = [
    [
      (path.name, path.stat().st_size, path.stat().st_mtime_ns)
      for path in rows.shard.sources
    ]
    for rows in selection
  ]
  content = [*settings, str(run.resolve()), files]
  if shard_folder.is_own(run):  # The manifest has returns from there.
    path = run / shard_folder.EPISODES
    content.append(path.stat().st_mtime_ns if path.is_file() else None)
  return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _prepared(
  directory: str | os.PathLike,
  game: str | None,
  split: split_lib.Split,
  num_actions: int | None,
) -> Store:
  """A store given by name, if it is what the configuration asks for."""
  store = Store.load(user_path(directory))
  asked = {
    'format_version': FORMAT_VERSION,
    'game': game or store.manifest.get('game'),
    'num_actions': num_actions or store.manifest.get('num_actions'),
    'split': split.record,
  }
  for name, value in asked.items():
    if store.manifest.get(name) != value:
      raise UserError(
        f'the store {directory} has {name} {store.manifest.get(name)!r}, but '
        f'{value!r} was asked for: ask for what it has, or name another store '
        'or the folder of the shards.'
      )
  return store
