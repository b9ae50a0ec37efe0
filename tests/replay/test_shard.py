import gzip
import os
import pathlib
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest

from cql_atari.core.errors import UserError
from cql_atari.replay import episodes, examine, recorder, shard_folder
from cql_atari.replay import shard as shard_lib


@pytest.fixture
def one_shard(demo_dir, tmp_path):
  """A copy of one demo shard, free to be broken."""
  for path in (demo_dir / 'replay_logs').glob('*_ckpt.10.gz'):
    shutil.copy(path, tmp_path)
  return shard_lib.Shard(tmp_path, 10)


def rewrite(shard, name, array):
  with gzip.open(shard.path(name), 'wb') as file:
    np.save(file, array)


def test_demo_shards_keep_the_published_format(demo_dir):
  shards = shard_folder.list_shards(demo_dir)
  assert [shard.index for shard in shards] == list(range(0, 50, 2))
  for shard in shards:
    list(shard.checked_frames(4))
    assert (shard.capacity, shard.num_rows) == (2000, 1999)
  rewards, terminals = shards[3].read('reward'), shards[3].read('terminal')
  ends = np.flatnonzero(terminals) + 1
  returns = np.array(
    [part.sum() for part in np.split(rewards, ends)[1:-1]]  # Whole games.
  )
  finding = examine.examine(shards[3], 4, None, None)
  expected = {
    'rows': 1999,
    # Less the edges, and the padding of the games.
    'transitions': 1999 - 3 - 1 - 3 * int(terminals.sum()),
    'episodes': len(returns),
    'return_mean': pytest.approx(returns.mean()),
    'return_error': pytest.approx(returns.std(ddof=1) / len(returns) ** 0.5),
    'actions': np.bincount(shards[3].read('action')).tolist(),
  }
  assert {name: finding[name] for name in expected} == expected


def test_padding_rows_are_zero_frames_that_are_never_valid(one_shard):
  terminals = one_shard.read('terminal')
  frames = np.concatenate(list(one_shard.frames()))
  valid = one_shard.valid_transitions()
  ends = np.flatnonzero(terminals)
  assert len(ends) > 1
  for end in ends:
    assert not frames[end + 1 : end + 4].any()
    assert frames[end + 4].any()
    assert end in valid
    assert not np.isin([end + 1, end + 2, end + 3], valid).any()
    assert end + 4 in valid


@pytest.mark.parametrize('update_horizon', [1, 3])
def test_valid_transitions_are_dopamines_on_real_shards(
  demo_dir, dopamine_buffer, update_horizon
):
  for index in (0, 10):
    buffer = dopamine_buffer(2000, update_horizon)
    buffer.load(demo_dir / 'replay_logs', index)
    shard = shard_lib.Shard(demo_dir / 'replay_logs', index)
    np.testing.assert_array_equal(
      shard.valid_transitions(update_horizon), buffer.valid_indices()
    )


@pytest.mark.parametrize('update_horizon', [1, 3])
@pytest.mark.parametrize('add_count', [60, 99, 100, 199, 200])
def test_valid_transitions_are_dopamines_on_its_own_shards(
  tmp_path, dopamine_buffer, record, update_horizon, add_count
):
  """Not yet full, just full, and saved at the published trigger."""
  buffer = dopamine_buffer(100, update_horizon)
  record(buffer, add_count)
  buffer.save(tmp_path, 0)
  shard = shard_lib.Shard(tmp_path, 0)
  expected = buffer.valid_indices()
  cursor = int(buffer.cursor())
  if buffer.is_full() and cursor:  # Rows at and after the cursor are stale.
    expected = [i for i in expected if 3 <= i < cursor - update_horizon]
  np.testing.assert_array_equal(
    shard.valid_transitions(update_horizon), expected
  )


def test_stale_tail_of_a_partial_last_shard_is_left_out(
  tmp_path, dopamine_buffer, record
):
  buffer = dopamine_buffer(100)
  record(buffer, 240)
  buffer.save(tmp_path, 50)
  shard = shard_lib.Shard(tmp_path, 50)
  assert shard.num_rows == int(buffer.add_count) - 200
  assert shard.valid_transitions().max() < shard.num_rows - 1


def test_uninitialised_last_row_of_shard_0_is_left_out(one_shard):
  actions = one_shard.read('action', 2000).copy()
  actions[-1] = 32711
  rewrite(one_shard, 'action', actions)
  fresh = shard_lib.Shard(one_shard.directory, 10)
  list(fresh.checked_frames(4))


def test_dopamine_loads_what_write_shard_writes(
  tmp_path, one_shard, dopamine_buffer
):
  arrays = {name: one_shard.read(name, 2000) for name in shard_lib.ELEMENTS[1:]}
  frames = list(one_shard.frames(stop=2000))
  written = recorder.write_shard(
    tmp_path / 'out',
    3,
    frames,
    arrays['action'],
    arrays['reward'],
    arrays['terminal'],
    add_count=one_shard.add_count,
  )
  theirs, ours = dopamine_buffer(2000), dopamine_buffer(2000)
  theirs.load(one_shard.directory, 10)
  ours.load(tmp_path / 'out', 3)
  for name in shard_lib.ELEMENTS:
    np.testing.assert_array_equal(ours._store[name], theirs._store[name])
  assert ours.add_count == theirs.add_count
  np.testing.assert_array_equal(ours.invalid_range, theirs.invalid_range)
  assert sorted(p.name for p in written.sources) == sorted(
    os.listdir(tmp_path / 'out')
  )


def test_reading_stops_when_the_rows_are_in_hand(one_shard):
  """A file cut off behind the rows asked for serves them all the same."""
  path = one_shard.path('observation')
  whole = np.concatenate(list(one_shard.frames(stop=2000)))
  os.truncate(path, path.stat().st_size // 2)
  prefix = np.concatenate(list(one_shard.frames(500)))
  np.testing.assert_array_equal(prefix, whole[:500])
  with pytest.raises(UserError, match=r'observation_ckpt.10.gz is truncated'):
    list(one_shard.frames())


def test_frames_are_streamed(demo_dir):
  """A read of one piece costs one piece's memory, not the array's."""
  shard = shard_lib.Shard(demo_dir / 'replay_logs', 10)
  _ = shard.num_rows
  tracemalloc.start()
  piece = next(shard.frames())
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert len(piece) == shard_lib.ROWS_PER_READ < shard.num_rows
  assert peak < 1.5 * piece.nbytes


def test_nothing_is_unpickled(one_shard):
  """Nor the episode_end_indices beside the shard: integers alone are read."""
  trap = one_shard.directory / 'sprung'

  class Trap:
    def __reduce__(self):
      return pathlib.Path.touch, (trap,)

  with gzip.open(one_shard.path('episode_end_indices'), 'wb') as file:
    pickle.dump(Trap(), file)
  with pytest.raises(UserError, match=r'indices_ckpt.10.gz .*it names'):
    list(one_shard.checked_frames(4))
  assert not trap.exists()
  one_shard.path('episode_end_indices').unlink()
  rewrite_pickled = np.array([Trap()] * 2000, dtype=object)
  with gzip.open(one_shard.path('action'), 'wb') as file:
    np.save(file, rewrite_pickled, allow_pickle=True)
  with pytest.raises(UserError, match=r'action_ckpt.10.gz'):
    list(shard_lib.Shard(one_shard.directory, 10).checked_frames(4))
  assert not trap.exists()


@pytest.mark.parametrize(
  'name, array, sentence',
  [
    ('action', np.zeros(1999, np.int32), 'arrays of different lengths'),
    ('observation', np.zeros((2000, 80, 84), np.uint8), r'\(84, 84\)'),
    ('reward', np.zeros(2000, np.int32), 'float32'),
    ('action', np.full(2000, 4, np.int32), 'not in the game.s action set'),
    ('action', np.full(2000, -1, np.int32), 'not in the game.s action set'),
    ('reward', np.full(2000, np.nan, np.float32), r'clipped to \[-1, 1\]'),
    ('reward', np.full(2000, 7, np.float32), r'clipped to \[-1, 1\]'),
    ('terminal', np.full(2000, 2, np.uint8), '0 or 1'),
    ('terminal', np.ones(2000, np.uint8), 'zero padding'),
    ('add_count', np.array(7), 'different saves'),
    ('add_count', np.array([1, 2]), 'counts nothing'),
    ('add_count', np.array('many'), 'damaged'),
    ('invalid_range', np.array(['a', 'b']), 'damaged'),
  ],
)
def test_broken_arrays_are_named(one_shard, name, array, sentence):
  rewrite(one_shard, name, array)
  with pytest.raises(UserError, match=sentence):
    list(one_shard.checked_frames(4))


def test_missing_and_damaged_files_are_named(one_shard):
  reward = one_shard.path('reward')
  reward.write_bytes(b'not gzip at all')
  with pytest.raises(UserError, match=r'reward_ckpt.10.gz is truncated or dam'):
    list(one_shard.checked_frames(4))
  reward.unlink()
  with pytest.raises(UserError, match=r'reward_ckpt.10.gz is missing'):
    list(shard_lib.Shard(one_shard.directory, 10).checked_frames(4))


def test_empty_arrays_are_named(one_shard):
  rewrite(one_shard, 'observation', np.zeros((0, 84, 84), np.uint8))
  for name, kind in zip(('action', 'reward', 'terminal'), 'BfB'):
    rewrite(one_shard, name, np.zeros(0, kind))
  with pytest.raises(UserError, match='holds no rows'):
    list(one_shard.checked_frames(4))


@pytest.mark.parametrize('name', (*shard_lib.ELEMENTS, 'add_count'))
def test_a_changed_bit_never_passes(one_shard, name):
  """Anywhere but in gzip's own header, whose time and flags say nothing."""
  path = one_shard.path(name)
  sound = path.read_bytes()
  rng = np.random.default_rng(0)
  for position in rng.integers(
    20, len(sound), 6 if name == 'observation' else 20
  ):
    damaged = bytearray(sound)
    damaged[position] ^= 1 << rng.integers(8)
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=f'{name}_ckpt.10.gz'):
      list(shard_lib.Shard(one_shard.directory, 10).checked_frames(4))


def test_folders_without_shards_are_named(tmp_path):
  with pytest.raises(UserError, match='holds no shards'):
    shard_folder.list_shards(tmp_path)
  with pytest.raises(UserError, match='there is no replay folder'):
    shard_folder.list_shards(tmp_path / 'nowhere')


def test_episode_returns_counts_whole_episodes_only():
  terminals = np.array([0, 1, 0, 0, 1, 0])
  rewards = np.array([1, 2, 4, 8, 16, 32])
  returns = episodes.episode_returns
  assert returns(terminals, rewards, from_start=True).tolist() == [3, 28]
  assert returns(terminals, rewards, from_start=False).tolist() == [28]
  assert returns(0 * terminals, rewards, from_start=True).tolist() == []
