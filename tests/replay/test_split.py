import shutil

import gin
import numpy as np
import pytest

from cql_atari.core.errors import UserError
from cql_atari.replay import episodes, opening, recorder, shard_folder
from cql_atari.replay import split as split_lib


@pytest.fixture(scope='module')
def replay(tmp_path_factory):
  """Three shards of 1,000 rows with short episodes, and a partial fourth."""
  directory = tmp_path_factory.mktemp('replay')
  rng = np.random.default_rng(0)
  for index, add_count in enumerate((999, 1999, 2999, 3400)):
    terminals = np.zeros(1000, np.uint8)
    terminals[30 + 60 * np.arange(16) + rng.integers(0, 20, 16)] = 1
    recorder.write_shard(
      directory,
      index,
      [np.ones((1000, 84, 84), np.uint8)],
      rng.integers(0, 3, 1000),
      rng.integers(-1, 2, 1000).astype(np.float32),
      terminals,
      add_count,
    )
  return directory


def rows_of(chosen):
  return {
    (part.shard.index, row)
    for part in chosen
    for start, stop in part.ranges
    for row in range(start, stop)
  }


def test_prefix_takes_the_first_rows_of_every_shard(replay):
  chosen = split_lib.Split(fraction=0.1, shards=(0, 3)).select(replay)
  assert [part.ranges.tolist() for part in chosen] == [[[0, 100]]] * 3


def test_whole_shards_end_before_their_stale_rows(replay):
  chosen = split_lib.Split().select(replay)
  assert [part.ranges.tolist() for part in chosen] == [
    [[0, 999]],
    [[0, 999]],
    [[0, 999]],
    [[0, 400]],
  ]


def test_first_20_percent_is_a_range_of_shards(replay):
  chosen = split_lib.Split(shards=(0, 2)).select(replay)
  assert [part.shard.index for part in chosen] == [0, 1]


def test_some_shards_are_drawn_once_by_the_seed(replay):
  settings = {'fraction': 0.1, 'shards': (0, 4), 'num_shards': 2}
  drawn = [
    split_lib.Split(**settings, seed=seed).shard_numbers for seed in range(20)
  ]
  assert split_lib.Split(**settings, seed=3).shard_numbers == drawn[3]
  assert {len(set(numbers)) for numbers in drawn} == {2}
  assert set().union(*drawn) == {0, 1, 2, 3}
  split = split_lib.Split(**settings, seed=3)
  chosen = split.select(replay)
  assert [part.shard.index for part in chosen] == drawn[3]
  assert split.label == '10 % of 2 shards'
  assert split_lib.Split(shards=(0, 51)).label == '100 % of shards 0 to 50'
  assert split_lib.Split(**split.record) == split
  assert 'num_shards' not in split_lib.Split(0.1).record
  name = '10pct_10shards'
  assert split_lib.named_split(name).to_fetch == name
  with gin.unlock_config():  # Whatever gin binds for the split that is opened.
    gin.bind_parameter('Split.shards', (10, 15))
  assert split_lib.Split(0.1).to_fetch == '0.1'
  gin.clear_config()
  with pytest.raises(UserError, match='num_shards is 5'):
    split_lib.Split(shards=(0, 4), num_shards=5)


def test_missing_shards_are_passed_over(demo_dir):
  chosen = split_lib.Split(shards=(10, 15)).select(demo_dir)
  assert [part.shard.index for part in chosen] == [10, 12, 14]


@pytest.mark.parametrize('update_horizon', [1, 3, 5])
def test_trajectories_are_whole_episodes(replay, update_horizon):
  split = split_lib.Split(
    fraction=0.3, convention='trajectories', update_horizon=update_horizon
  )
  chosen = split.select(replay)
  total = sum(s.num_rows for s in shard_folder.list_shards(replay))
  assert 0.3 * total <= sum(part.num_rows for part in chosen) < 0.42 * total
  for part in chosen:
    terminals = part.shard.read('terminal')
    for start, stop in part.ranges:
      begins = start == 0 and part.shard.index == 0
      assert begins or terminals[start - 1] == 1
      valid = start + episodes.valid_rows(terminals[start:stop], update_horizon)
      inside = terminals[start:stop].nonzero()[0] + start
      assert np.isin(inside, valid).all()  # The last transition is kept.
      episode = np.cumsum(terminals)[valid] - terminals[valid]
      assert len(np.unique(episode)) == len(inside)  # And no other episode's.
    # Nor by a learner that looks less far ahead than the rows kept allow.
    ends = np.flatnonzero(terminals)
    drawn = np.searchsorted(ends, part.transitions)
    counts = np.bincount(drawn, minlength=len(ends))
    lengths = np.diff(np.concatenate([[-1], ends]))
    assert set(counts[1:] / lengths[1:]) <= {0.0, 1.0}  # All of it or nothing.


def test_uniform_draws_single_transitions(replay):
  split = split_lib.Split(fraction=0.1, convention='uniform', update_horizon=2)
  chosen = split.select(replay)
  shards = shard_folder.list_shards(replay)
  valid = [len(shard.valid_transitions(2)) for shard in shards]
  drawn = [len(part.transitions) for part in chosen]
  assert sum(drawn) == round(0.1 * sum(valid))
  needed = {
    (part.shard.index, row + offset)
    for part in chosen
    for row in part.transitions
    for offset in range(-3, 3)
  }
  assert rows_of(chosen) == needed


@pytest.mark.parametrize('convention', split_lib.CONVENTIONS)
def test_splits_are_deterministic_given_the_seed(replay, convention):
  def rows(seed):
    split = split_lib.Split(fraction=0.2, convention=convention, seed=seed)
    return rows_of(split.select(replay))

  assert rows(1) == rows(1)
  assert (rows(1) == rows(2)) == (convention == 'prefix')


@pytest.mark.parametrize(
  'settings, sentence',
  [
    ({'fraction': 0}, 'above 0 and at most 1'),
    ({'fraction': 1.5}, 'above 0 and at most 1'),
    ({'fraction': '1%'}, 'above 0 and at most 1'),
    ({'convention': 'random'}, "one of 'prefix', 'trajectories', 'uniform'"),
    ({'shards': (3, 3)}, 'first, last'),
    ({'shards': (7, 9)}, 'it has 0 to 3'),
    ({'fraction': 0.001}, 'ask for more'),
  ],
)
def test_wrong_settings_are_named(replay, settings, sentence):
  with pytest.raises(UserError, match=sentence):
    split_lib.Split(**settings).select(replay)


def test_shards_that_give_no_episode_are_not_missing(replay, tmp_path, caplog):
  def opened(shards):
    caplog.clear()
    split = split_lib.Split(0.05, shards, 'trajectories')
    assert len(split.select(replay)) < 4
    opening.open_store(str(replay), 'Pong', 18, split, str(tmp_path / 's'))
    return caplog.text

  assert 'lacks' not in opened((0, 4))
  assert 'lacks 2 of the 6 shards' in opened((0, 6))


def test_a_run_is_known_by_where_its_shards_really_are(
  demo_dir, tmp_path, monkeypatch
):
  monkeypatch.chdir(demo_dir / 'replay_logs')
  assert shard_folder.game_of('.') == 'Breakout'
  (tmp_path / 'link').symlink_to(demo_dir / 'replay_logs')
  assert shard_folder.game_of(tmp_path / 'link') == 'Breakout'
  with pytest.raises(UserError, match='the game is Pong'):
    shard_folder.check_game(shard_folder.run_folder('.'), 'Pong')


def test_what_a_conversion_left_is_no_run(tmp_path, demo_dir):
  run = tmp_path / 'Breakout' / '1'
  shutil.copytree(demo_dir, run / '.partial-killed')
  with pytest.raises(UserError, match='is not whole: it is when'):
    shard_folder.find_replay_logs(run)
