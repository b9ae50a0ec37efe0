import json
import os
import shutil

import numpy as np
import pytest

from cql_atari.core.errors import UserError
from cql_atari.replay import opening, recorder, shard_folder
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import split as split_lib
from cql_atari.replay import store as store_lib
from cql_atari.replay.frames import stack_frames
from cql_atari.training import rom_check


def open_demo(demo_dir, folder, **settings):
  split = split_lib.Split(**{'shards': (10, 15), **settings})
  return opening.open_store(str(demo_dir), 'Breakout', 4, split, str(folder))


@pytest.mark.parametrize('convention', ['prefix', 'uniform'])
def test_rows_come_back_bit_for_bit(demo_dir, tmp_path, convention):
  split = {'fraction': 0.3, 'convention': convention}
  store = open_demo(demo_dir, tmp_path, **split)
  row = 0
  chosen = split_lib.Split(shards=(10, 15), **split).select(demo_dir)
  for part in chosen:
    frames = np.concatenate(list(part.shard.frames()))
    for start, stop in part.ranges:
      here = slice(row, row + stop - start)
      np.testing.assert_array_equal(
        store.read_frames(np.array([row]), stop - start)[0],
        frames[start:stop],
      )
      for name in ('action', 'reward', 'terminal'):
        np.testing.assert_array_equal(
          getattr(store, f'{name}s')[here], part.shard.read(name)[start:stop]
        )
      row = here.stop
  assert row == store.manifest['num_rows']


def test_the_manifest_names_every_row_and_source(demo_dir, tmp_path):
  store = open_demo(demo_dir, tmp_path, fraction=0.1)
  manifest = store.manifest
  assert manifest['game'] == 'Breakout' and manifest['run'] == '1'
  assert manifest['split']['fraction'] == 0.1
  assert [s['shard'] for s in manifest['shards']] == [10, 12, 14]
  for entry in manifest['shards']:
    assert entry['rows'] == [[0, 200]]
    for name, size in entry['files'].items():
      assert os.path.getsize(demo_dir / 'replay_logs' / name) == size
  episodes = json.loads((demo_dir / 'episodes.json').read_text())['episodes']
  begun = [e['return'] for e in episodes if e['first_shard'] in (10, 12, 14)]
  assert manifest['behavior_return']['mean'] == pytest.approx(np.mean(begun))
  digests = {s['sha256_of_frames'] for s in manifest['shards']}
  assert len(digests) == 3


@pytest.mark.parametrize('convention', split_lib.CONVENTIONS)
def test_games_start_where_the_data_say(tmp_path, convention):
  """After the padding that begins the run or follows a game's end, if kept."""
  folder = tmp_path / 'Pong' / '1' / 'replay_logs'
  rng = np.random.default_rng(0)
  for index in (0, 2):
    terminals = np.zeros(1000)
    terminals[np.cumsum(rng.integers(40, 80, 12))] = 1
    frames = np.arange(1000).astype(np.uint8)[:, None, None]
    frames = np.broadcast_to(frames, (1000, 84, 84))
    ones = np.ones(1000)
    recorder.write_shard(folder, index, [frames], ones, ones, terminals, 10_999)
  split = split_lib.Split(0.3, convention=convention, seed=1)
  store = opening.open_store(str(folder), 'Pong', 3, split, str(tmp_path / 's'))
  kept, starts, ends = [], {(0, 3)}, set()
  for entry in store.manifest['shards']:
    shard = shard_lib.Shard(folder, entry['shard'])
    rows = [np.arange(start, stop) for start, stop in entry['rows']]
    kept += [(shard.index, row) for row in np.concatenate(rows).tolist()]
    over = np.flatnonzero(shard.read('terminal')).tolist()
    ends |= {(shard.index, row) for row in over}
    starts |= {(shard.index, row + 4) for row in over}
  # A drawn game is there from its padding on, others from the end before.
  reach = 4 if convention == 'trajectories' else 5
  expected = [
    place
    for place, (shard, row) in enumerate(kept)
    if (shard, row) in starts
    and all((shard, row - back) in kept for back in range(min(reach, row + 1)))
  ]
  assert expected and store.episode_starts.tolist() == expected
  valid = np.intersect1d(expected, store.valid_transitions())
  first = store.initial_states(100)[:, 0, 0]
  values = np.array([kept[row][1] for row in valid])
  np.testing.assert_array_equal(
    first, (values[:, None] + np.arange(-3, 1)) % 256
  )
  lengths = []
  for place in expected:
    shard, row = kept[place]
    later = [end for index, end in ends if index == shard and end >= row]
    whole = range(row, min(later, default=row - 1) + 1)
    if whole and all((shard, step) in kept for step in whole):
      lengths.append(len(whole))
  to_go = [length - step for length in lengths for step in range(length)]
  assert store.discounted_return(1.0) == (
    pytest.approx(np.mean(to_go)) if lengths else None
  )
  assert bool(lengths) == (convention != 'uniform')


def test_a_store_without_a_start_has_no_initial_states(demo_dir, tmp_path):
  store = open_demo(demo_dir, tmp_path, fraction=0.02)
  assert store.initial_states(5).shape == (0, 84, 84, 4)
  assert rom_check.start_difference(store) is None


def test_a_store_is_built_once(demo_dir, tmp_path):
  first = open_demo(demo_dir, tmp_path)
  (folder,) = tmp_path.iterdir()
  stamp = (folder / 'frames.zst').stat().st_mtime_ns
  assert open_demo(demo_dir, tmp_path).digest == first.digest
  assert (folder / 'frames.zst').stat().st_mtime_ns == stamp
  other = open_demo(demo_dir, tmp_path, fraction=0.5)
  assert other.digest != first.digest
  assert len(list(tmp_path.iterdir())) == 2


def test_changed_sources_are_another_store(demo_dir, tmp_path):
  copy = tmp_path / 'Breakout' / '1'
  shutil.copytree(demo_dir, copy)
  split = split_lib.Split(shards=(10, 11))

  def digest():
    return opening.open_store(
      str(copy), 'Breakout', 4, split, str(tmp_path / 'stores')
    ).digest

  before = digest()
  shard = shard_folder.list_shards(copy)[5]
  recorder.write_shard(
    shard.directory,
    10,
    [np.zeros((2000, 84, 84), np.uint8)],
    *(shard.read(name, 2000) for name in shard_lib.ELEMENTS[1:]),
    add_count=shard.add_count,
  )
  assert digest() != before


def test_a_failed_build_leaves_nothing(demo_dir, tmp_path):
  copy = tmp_path / 'Breakout' / '1'
  shutil.copytree(demo_dir, copy)
  path = shard_folder.list_shards(copy)[6].path('observation')
  os.truncate(path, path.stat().st_size // 2)
  stores = tmp_path / 'stores'
  with pytest.raises(UserError, match=r'observation_ckpt.12.gz is truncated'):
    open_demo(copy, stores)
  assert [p for p in stores.iterdir() if p.suffix != '.lock'] == []


def test_damaged_stores_are_named(demo_dir, tmp_path):
  open_demo(demo_dir, tmp_path)
  (folder,) = tmp_path.iterdir()
  frames = folder / 'frames.zst'
  os.truncate(frames, frames.stat().st_size - 1)
  with pytest.raises(UserError, match='delete it'):
    open_demo(demo_dir, tmp_path)
  whole = open_demo(demo_dir, tmp_path / 'whole').manifest
  other_rows = [{**shard, 'rows': [[0, 9]]} for shard in whole['shards']]
  other = json.dumps({**whole, 'shards': other_rows})
  for text in ('{', '[]', other):
    (folder / 'manifest.json').write_text(text)
    with pytest.raises(UserError, match='delete it'):
      open_demo(demo_dir, tmp_path)


@pytest.mark.parametrize(
  'name',
  ['frames.zst', 'frame_offsets.npy', 'dictionary.npy', 'actions.npy',
   'rewards.npy', 'terminals.npy', 'drawn.npy'],
)  # fmt: skip
def test_a_single_changed_bit_is_noticed(demo_dir, tmp_path, name):
  open_demo(demo_dir, tmp_path)
  (folder,) = tmp_path.iterdir()
  content = bytearray((folder / name).read_bytes())
  content[-len(content) // 3] ^= 1
  (folder / name).write_bytes(content)
  with pytest.raises(UserError, match='contents have changed'):
    store_lib.Store.load(folder)


def test_a_prefix_is_the_same_whatever_the_seed(demo_dir, tmp_path):
  first = open_demo(demo_dir, tmp_path, fraction=0.1)
  other = open_demo(demo_dir, tmp_path, fraction=0.1, seed=5, update_horizon=3)
  assert first.digest == other.digest
  assert len(list(tmp_path.iterdir())) == 1


def test_play_of_another_game_is_refused(demo_dir, tmp_path):
  with pytest.raises(UserError, match="GAME='Breakout'"):
    opening.open_store(
      str(demo_dir), 'Pong', 6, split_lib.Split(), str(tmp_path)
    )
  with pytest.raises(UserError, match='action set, 0 to 1'):
    opening.open_store(
      str(demo_dir), 'Breakout', 2, split_lib.Split(), str(tmp_path)
    )


def test_missing_data_names_the_command_that_gets_it(tmp_path):
  for replay_dir in (None, str(tmp_path / 'nowhere')):
    with pytest.raises(UserError, match=r'cql_atari\.fetch --game=Pong'):
      opening.open_store(replay_dir, 'Pong', 6)


def test_too_long_returns_for_a_drawn_split_are_refused(demo_dir, tmp_path):
  store = open_demo(
    demo_dir, tmp_path, fraction=0.1, convention='uniform', update_horizon=2
  )
  assert len(store.valid_transitions(2))
  with pytest.raises(UserError, match=r'Split.update_horizon=3'):
    store.valid_transitions(3)


def test_stack_frames_is_dopamines_order():
  frames = np.random.default_rng(0).integers(0, 256, (5, 4, 84, 84), np.uint8)
  np.testing.assert_array_equal(
    stack_frames(frames), np.moveaxis(frames, 1, -1)
  )


def test_manifest_is_plain_json(demo_store):
  assert json.loads(json.dumps(demo_store.manifest)) == demo_store.manifest


@pytest.mark.parametrize('name', ['Replay/2', 'Pong_v4/1'])
def test_a_folder_that_is_called_like_no_game_is_of_any(
  demo_dir, tmp_path, name
):
  shutil.copytree(demo_dir, tmp_path / name)
  store = opening.open_store(
    str(tmp_path / name), 'Breakout', 4, split_lib.Split(shards=(10, 11)),
    str(tmp_path / 'stores'),
  )  # fmt: skip
  assert store.manifest['game'] == 'Breakout'
  with pytest.raises(UserError, match='does not tell the game'):
    shard_folder.game_of(tmp_path / name)


def test_a_store_is_not_taken_for_one_of_shards_that_changed(
  demo_dir, tmp_path
):
  run = tmp_path / 'Breakout' / '1'
  shutil.copytree(demo_dir, run)
  split, out = split_lib.Split(shards=(0, 4)), tmp_path / 'store'
  settings = (run, 'Breakout', 4, split)
  assert opening.ensure_store(*settings, out=out) == out
  assert opening.ensure_store(*settings, out=out) == out
  shards = shard_folder.list_shards(run)
  for name in shard_lib.ELEMENTS:  # As if it had been collected anew.
    shutil.copy(shards[-1].path(name), shards[0].path(name))
  with pytest.raises(UserError, match='is of other files than'):
    opening.ensure_store(*settings, out=out)
