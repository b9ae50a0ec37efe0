"""Recordings of others, made by their own libraries, as runs."""

import json
import pathlib
import shutil
import struct

import cv2
import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium_atari import preprocessed

from cql_atari import show
from cql_atari.core.errors import UserError
from cql_atari.replay import episodes as episodes_lib
from cql_atari.replay import (
  importing,
  opening,
  shard_folder,
  sources,
)
from cql_atari.training import rom_check


@pytest.fixture
def games(demo_frames):
  """Episodes of real frames, two over and two cut off."""
  rng, made, first = np.random.default_rng(0), [], 0
  for length, is_over in ((60, True), (80, False), (40, True), (50, False)):
    made.append(
      sources.Episode(
        demo_frames[first : first + length],
        rng.integers(4, size=length),
        rng.choice([0.0, 1.0, 7.0], length),
        is_over,
      )
    )
    first += length
  return made


def write_npz(folder, games):
  folder.mkdir()
  for number, game in enumerate(games):
    np.savez(
      folder / f'{number:04}.npz', frames=game.frames, actions=game.actions,
      rewards=game.rewards, terminated=game.is_over,
    )  # fmt: skip
  return folder


def convert(name, *settings):
  return importing.convert(sources.find(name), *settings)


def assert_holds(store, games):
  """The store's rows are the episodes', after their padding."""
  frames = store.read_frames(np.arange(store.manifest['num_rows']), 1)[:, 0]
  row = 0
  for game in games:
    assert not frames[row : row + 3].any()
    row += 3
    part = slice(row, row + len(game.frames))
    np.testing.assert_array_equal(frames[part], game.frames)
    np.testing.assert_array_equal(store.actions[part], game.actions)
    np.testing.assert_array_equal(
      store.rewards[part], np.clip(game.rewards, -1, 1)
    )
    ending = 1 if game.is_over else episodes_lib.CUT_OFF
    assert not store.terminals[part][:-1].any()
    assert store.terminals[part][-1] == ending
    row += len(game.frames)
  # A padding row ends it, so that the last game's end is sampled too.
  assert row + 1 == store.manifest['num_rows']
  assert (row - 1 in store.valid_transitions()) == games[-1].is_over
  assert len(store.episode_starts) == len(games)


def test_episodes_become_a_run_like_any_other(games, tmp_path, caplog):
  source = write_npz(tmp_path / 'mine', games)
  store = opening.open_store(
    source, 'Breakout', cache_dir=str(tmp_path / 'cache')
  )
  assert_holds(store, games)
  assert not caplog.text
  (logs,) = (tmp_path / 'cache' / 'converted').rglob('replay_logs')
  moved = shutil.copytree(logs.parent, tmp_path / 'moved')
  with pytest.raises(UserError, match='holds play of Breakout'):
    opening.open_store(moved, 'Pong')
  returns = [float(game.rewards.sum()) for game in games]
  behavior = store.manifest['behavior_return']
  assert behavior['mean'] == pytest.approx(np.mean(returns))
  assert not behavior['is_clipped']
  # It is converted once, and again when it changes.
  runs = list((tmp_path / 'cache' / 'converted').iterdir())
  again = opening.open_store(
    source, 'Breakout', cache_dir=str(tmp_path / 'cache')
  )
  assert again.digest == store.digest
  assert list((tmp_path / 'cache' / 'converted').iterdir()) == runs
  write_npz(tmp_path / 'other', games[:2])
  for path in (tmp_path / 'other').iterdir():
    path.rename(source / f'9{path.name}')
  longer = opening.open_store(
    source, 'Breakout', cache_dir=str(tmp_path / 'cache')
  )
  assert_holds(longer, games + games[:2])


def test_long_recordings_fill_several_shards(games, tmp_path, monkeypatch):
  monkeypatch.setattr(importing, '_ROWS_PER_SHARD', 100)
  run = convert(
    write_npz(tmp_path / 'mine', games), tmp_path / 'data', 'Breakout'
  )
  shards = shard_folder.list_shards(run)
  assert len(shards) == 3
  for shard in shards:
    list(shard.checked_frames(4))
  store = opening.open_store(run, cache_dir=str(tmp_path / 'cache'))
  assert_holds(store, games)  # Rows at the borders are stitched in.
  episodes = json.loads((run / 'episodes.json').read_text())['episodes']
  assert all(episode['complete'] for episode in episodes)


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    ({'actions': np.full(60, 5)}, 'actions 5 to 5, but'),
    ({'frames': np.zeros((60, 80, 84), np.uint8)}, r'uint8 \(84, 84\)'),
    ({'frames': np.zeros((60, 84, 84), np.float32)}, r'uint8 \(84, 84\)'),
    ({'rewards': np.zeros(59)}, '60 actions and 59 rewards'),
    ({'rewards': np.full(60, np.nan)}, 'reward that is no number'),
    ({'rewards': np.full(60, 'much')}, 'reward that is no number'),
    ({'actions': np.zeros((60, 6))}, 'no lists'),
    ({'rewards': 1.0}, 'no lists'),
    ({'frames': np.uint8(1)}, r'uint8 \(84, 84\)'),
  ],
)
def test_what_cannot_be_represented_is_refused(
  games, tmp_path, change, sentence
):
  source = write_npz(tmp_path / 'mine', [games[0]._replace(**change)])
  with pytest.raises(UserError, match=sentence):
    convert(source, tmp_path / 'data', 'Breakout')
  # Mended, the same call goes through.
  write_npz(tmp_path / 'sound', games)
  (tmp_path / 'sound' / '0000.npz').replace(source / '0000.npz')
  assert convert(source, tmp_path / 'data', 'Breakout').is_dir()


def test_damaged_and_nameless_recordings_are_told(games, tmp_path):
  source = write_npz(tmp_path / 'mine', games)
  with pytest.raises(UserError, match='does not tell the game'):
    convert(source, tmp_path / 'data')
  (source / '0000.npz').write_bytes((source / '0000.npz').read_bytes()[:500])
  with pytest.raises(UserError, match=r'0000.npz is damaged'):
    convert(source, tmp_path / 'data', 'Breakout')
  arrays = {name: getattr(games[0], name) for name in games[0]._fields[:3]}
  for flag in ('False', 2, [True, False]):
    np.savez(source / '0000.npz', **arrays, terminated=flag)
    with pytest.raises(UserError, match=r'give one True or False'):
      convert(source, tmp_path / 'data', 'Breakout')
  np.savez_compressed(source / '0000.npz', **arrays, terminated=True)
  damaged = bytearray((source / '0000.npz').read_bytes())
  name, extra = struct.unpack('<HH', damaged[26:30])  # Their lengths.
  damaged[30 + name + extra] = 0xFF  # Zlib has no such kind of block.
  (source / '0000.npz').write_bytes(damaged)
  with pytest.raises(UserError, match=r'0000.npz is damaged .*invalid block'):
    convert(source, tmp_path / 'data', 'Breakout')
  (source / '0000.npz').write_bytes(b'')
  with pytest.raises(UserError, match=r'0000.npz is damaged'):
    convert(source, tmp_path / 'data', 'Breakout')
  np.savez(source / '0000.npz', frames=games[0].frames)
  with pytest.raises(UserError, match="has no array 'actions'"):
    convert(source, tmp_path / 'data', 'Breakout')
  (tmp_path / 'x.h5').write_text('no')
  with pytest.raises(UserError, match='no HDF5 file'):
    convert(tmp_path / 'x.h5', tmp_path / 'data', 'Breakout')


def test_what_d3rlpy_dumps(games, tmp_path):
  d3rlpy = pytest.importorskip('d3rlpy')
  episodes = [
    d3rlpy.dataset.Episode(
      game.frames[:, None],
      game.actions[:, None],
      game.rewards[:, None].astype(np.float32),
      game.is_over,
    )
    for game in games
  ]
  with open(tmp_path / 'replay.h5', 'w+b') as file:
    d3rlpy.dataset.dump(episodes, file)
  store = opening.open_store(
    tmp_path / 'replay.h5', 'Breakout', cache_dir=str(tmp_path / 'cache')
  )
  assert_holds(store, games)


def test_a_dump_of_d3rlpys_that_is_kept_here(tmp_path):
  """Written by d3rlpy 2.8.1: `dump` of two episodes, by the numbers below."""
  games = [
    sources.Episode(
      np.tile(np.arange(84, dtype=np.uint8) + number, (6, 84, 1)),
      np.arange(6) % 4,
      np.arange(6.0),
      is_over=not number,
    )
    for number in range(2)
  ]
  kept = pathlib.Path(__file__).with_name('d3rlpy_2_8_1.h5')
  store = opening.open_store(
    kept, 'Breakout', cache_dir=str(tmp_path / 'cache')
  )
  assert_holds(store, games)


def test_the_dataset_s_own_rows_in_a_dump_of_d3rlpys(games, tmp_path):
  """As its `get_atari` gives them: after padding, with clipped rewards."""
  padding = (3, 0)
  with h5py.File(tmp_path / 'replay.h5', 'w') as file:
    file['num_episodes'], file['columns'] = len(games), ['observations']
    for number, game in enumerate(games):
      frames = np.pad(game.frames, (padding, (0, 0), (0, 0)))
      file[f'observations_{number}'] = frames[:, None]
      file[f'actions_{number}'] = np.pad(game.actions, padding)[:, None]
      clipped = np.pad(np.clip(game.rewards, -1, 1), padding)
      file[f'rewards_{number}'] = clipped[:, None].astype(np.float32)
      file[f'terminated_{number}'] = game.is_over
  store = opening.open_store(
    tmp_path / 'replay.h5', 'Breakout', cache_dir=str(tmp_path / 'cache')
  )
  assert_holds(store, games)
  assert store.manifest['behavior_return']['is_clipped']


def test_a_file_named_like_a_part_does_not_hide_a_run(tmp_path):
  (tmp_path / 'replay_logs').mkdir()
  (tmp_path / 'model.data-00000-of-00001').touch()
  assert sources.find(tmp_path) is None


def raw(**settings):
  return gymnasium.make('ALE/Breakout-v5', **settings)


@pytest.mark.parametrize('make', [preprocessed, raw])
def test_minari_datasets(tmp_path, monkeypatch, make):
  minari = pytest.importorskip('minari')
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'minari'))
  env = minari.DataCollector(make(max_episode_steps=60))
  rng, games = np.random.default_rng(0), []
  for seed in range(3):
    observation, _ = env.reset(seed=seed)
    rows, ended = [], False
    while not ended:
      action = int(rng.integers(4))
      following, reward, terminated, truncated, _ = env.step(action)
      rows.append((seen(observation), action, reward))
      observation, ended = following, terminated or truncated
    games.append(sources.Episode(*map(np.stack, zip(*rows)), terminated))
  env.create_dataset('atari/breakout/random-v0')
  env.close()
  source = 'minari:atari/breakout/random-v0'
  # Minari keeps colour pictures as JPEG: what it gives back is what counts.
  kept = minari.load_dataset(source.removeprefix('minari:')).iterate_episodes()
  for number, episode in enumerate(kept):
    frames = np.stack([seen(o) for o in episode.observations[:-1]])
    assert np.abs(frames.astype(int) - games[number].frames).max() < 40
    games[number] = games[number]._replace(frames=frames)
  assert opening.game_of(source) == 'Breakout'
  store = opening.open_store(source, cache_dir=str(tmp_path / 'cache'))
  assert_holds(store, games)
  assert rom_check.start_difference(store) == 0.0  # JPEG is no other ROM.
  with pytest.raises(UserError, match='holds play of Breakout, but the game'):
    opening.open_store(source, 'Pong', cache_dir=str(tmp_path / 'cache'))
  with pytest.raises(UserError, match='minari download nothing-v0'):
    opening.open_store('minari:nothing-v0', 'Breakout')


@pytest.mark.parametrize(
  ('settings', 'sentence'),
  [
    ({'frame_skip': 2}, 'shows every 2 frames'),
    ({'terminal_on_life_loss': True}, 'ends games at lost lives'),
  ],
)
def test_minari_datasets_of_other_games_than_the_formats(
  tmp_path, monkeypatch, settings, sentence
):
  minari = pytest.importorskip('minari')
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'minari'))
  env = gymnasium.make('ALE/Breakout-v5', frameskip=1, max_episode_steps=9)
  env = gymnasium.wrappers.AtariPreprocessing(env, noop_max=0, **settings)
  env = minari.DataCollector(env)
  env.reset(seed=0)
  while not any(env.step(1)[2:4]):
    pass
  env.create_dataset('atari/breakout/other-v0')
  env.close()
  with pytest.raises(UserError, match=sentence):
    convert('minari:atari/breakout/other-v0', tmp_path / 'data')


def seen(observation):
  if observation.shape == (84, 84):
    return observation
  grey = cv2.cvtColor(observation, cv2.COLOR_RGB2GRAY)
  return cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA)


def test_what_reads_runs_alone_names_what_converts_others(games, tmp_path):
  source = write_npz(tmp_path / 'mine', games)
  for command in (shard_folder.find_replay_logs, show.main):
    with pytest.raises(UserError, match=f'cql_atari.convert {source} --out'):
      command(str(source))


def example(game, style, encode):
  """An episode as RL Unplugged's bucket has it, or TensorFlow Datasets."""
  import tensorflow as tf

  def whole(values, kind):
    # Of the step after the last only the observation counts.
    return tf.train.Feature(
      **{f'{kind}_list': {'value': [*values, values[-1]]}}
    )

  frames = [encode(frame[..., None]).numpy() for frame in game.frames]
  count = len(frames)
  discounts = [1.0] * count + [0.0 if game.is_over else 1.0]
  columns = {
    'observations': whole(frames, 'bytes'),
    'actions': whole(game.actions.tolist(), 'int64'),
    'unclipped_rewards': whole(game.rewards.tolist(), 'float'),
    'discounts': tf.train.Feature(float_list={'value': discounts}),
  }
  if style == 'tfds':
    ends = [0] * count + [int(game.is_over)]
    columns = {
      'steps/observation': columns['observations'],
      'steps/action': columns['actions'],
      'steps/reward': columns['unclipped_rewards'],
      'steps/is_terminal': tf.train.Feature(int64_list={'value': ends}),
    }
  return tf.train.Example(features={'feature': columns}).SerializeToString()


@pytest.mark.parametrize(
  ('style', 'compression', 'is_clipped', 'picture'),
  [
    ('bucket', 'GZIP', True, 'png'),
    ('tfds', '', False, 'png'),
    ('bucket', 'GZIP', True, 'jpeg'),
  ],
)
def test_rl_unpluggeds_episodes(
  games, tmp_path, style, compression, is_clipped, picture
):
  """Written by TensorFlow's own writer and encoders."""
  import tensorflow as tf

  encode = getattr(tf.io, f'encode_{picture}')
  if is_clipped:
    games = [g._replace(rewards=np.clip(g.rewards, -1, 1)) for g in games]
  folder = tmp_path / 'Breakout'
  folder.mkdir()
  for number in range(2):
    path = str(folder / f'run_1-0000{number}-of-00002')
    with tf.io.TFRecordWriter(path, compression) as writer:
      for game in games[2 * number : 2 * number + 2]:
        writer.write(example(game, style, encode))
  if picture == 'jpeg':  # Other pixels, by its accurate transform.
    games = [
      game._replace(
        frames=np.stack(
          [
            tf.io.decode_jpeg(
              encode(frame[..., None]), dct_method='INTEGER_ACCURATE'
            )[..., 0]
            for frame in game.frames
          ]
        )
      )
      for game in games
    ]
  for source in (folder, folder / 'run_1'):
    store = opening.open_store(source, cache_dir=str(tmp_path / 'cache'))
    assert store.manifest['game'] == 'Breakout'
    assert_holds(store, games)
    # Sums of what its authors clipped are no scores.
    assert store.manifest['behavior_return']['is_clipped'] == is_clipped
  content = (folder / 'run_1-00001-of-00002').read_bytes()
  (folder / 'run_1-00001-of-00002').write_bytes(content[:-300])
  with pytest.raises(UserError, match=r'run_1-00001-of-00002 is damaged'):
    convert(folder, tmp_path / 'data')


def test_a_conversion_that_fails_leaves_nothing(games, tmp_path):
  wrong = games[1]._replace(actions=np.full(80, 9))
  source = write_npz(tmp_path / 'mine', [games[0], wrong])
  with pytest.raises(UserError, match='actions 9 to 9'):
    convert(source, tmp_path / 'data', 'Breakout')
  assert not (tmp_path / 'data').exists()
  # What a killed one left, and an empty run, are no hindrance.
  run = tmp_path / 'data' / 'Breakout' / '1'
  (run / 'replay_logs').mkdir(parents=True)
  (run / '.partial-killed' / 'replay_logs').mkdir(parents=True)
  (source / '0001.npz').unlink()
  assert convert(source, tmp_path / 'data', 'Breakout') == run
  assert not list(run.glob('.partial*'))
  assert_holds(
    opening.open_store(run, cache_dir=str(tmp_path / 'cache')), games[:1]
  )
