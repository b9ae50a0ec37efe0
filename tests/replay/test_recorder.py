"""What is recorded, against Dopamine's own buffer fed with the same play."""

import gzip
import itertools

import numpy as np
import pytest

from cql_atari.replay import episodes as episodes_lib
from cql_atari.replay import memory, opening, shard_folder
from cql_atari.replay import recorder as recorder_lib
from cql_atari.replay import sampler as sampler_lib
from cql_atari.replay import shard as shard_lib

SIZE, SHARDS = 500, 4


@pytest.fixture
def episodes(demo_frames):
  """Episodes of real frames, more than SHARDS hold."""
  rng, made = np.random.default_rng(0), []
  while sum(len(episode[0]) for episode in made) < SIZE * SHARDS + 100:
    length = int(rng.integers(1, 180))
    first = int(rng.integers(len(demo_frames) - length))
    terminals = np.zeros(length, np.uint8)
    terminals[-1] = 1
    made.append(
      (
        demo_frames[first : first + length],
        rng.integers(3, size=length).astype(np.int32),
        rng.integers(-1, 2, length).astype(np.float32),
        terminals,
      )
    )
  return made


def record(folder, episodes):
  recorder = recorder_lib.Recorder(folder, SIZE, SHARDS)
  for episode in episodes:
    recorder.append(*episode[:3], True)
  return recorder


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_equal_what_dopamine_saves(tmp_path, episodes, dopamine_buffer):
  """Fed row by row and saved one row before each turn, as for the sampler."""
  recorder = record(tmp_path, episodes)
  assert recorder.is_full and recorder.add_count == SIZE * SHARDS - 1
  theirs, loaded, compared = dopamine_buffer(SIZE), dopamine_buffer(SIZE), 0
  for episode in episodes:
    for row in zip(*episode):
      if theirs.is_empty() or theirs._store['terminal'][theirs.cursor() - 1]:
        # `add` pads at an episode's start; rows one by one, so that the save
        # comes where the recorder's does.
        for _ in range(3):
          theirs._add(
            *(
              np.zeros(e.shape, e.type) for e in theirs.get_add_args_signature()
            )
          )
          compared += compare(theirs, loaded, tmp_path)
      theirs._add(*row)
      compared += compare(theirs, loaded, tmp_path)
  assert compared >= SHARDS


def compare(theirs, loaded, folder):
  """Where Dopamine's buffer would be saved, its content is the shard's."""
  if theirs.add_count % SIZE != SIZE - 1 or theirs.add_count > SIZE * SHARDS:
    return 0
  index = int(theirs.add_count // SIZE)
  loaded.load(folder, index)
  saved = folder / 'theirs'
  saved.mkdir(exist_ok=True)
  theirs.save(str(saved), index)
  for name in (*shard_lib.ELEMENTS, 'add_count', 'invalid_range'):
    ours, expected = (
      np.load(gzip.open(directory / shard_lib.file_name(name, index)))  # noqa: SIM115
      for directory in (folder, saved)
    )
    if name in shard_lib.ELEMENTS and not index:
      ours, expected = ours[:-1], expected[:-1]  # Uninitialised there.
    np.testing.assert_array_equal(ours, expected, err_msg=name)
    assert name == 'add_count' or ours.dtype == expected.dtype, name
  assert loaded.valid_indices() == theirs.valid_indices()
  rows = theirs.valid_indices()
  batches = [
    buffer.sample_transition_batch(batch_size=len(rows), indices=rows)
    for buffer in (loaded, theirs)
  ]
  for ours, expected in zip(*batches):
    np.testing.assert_array_equal(ours, expected)
  return 1


def test_a_recording_resumes_where_it_was_saved(tmp_path, episodes):
  """Saved after every episode; what came after a save is forgotten."""
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  record(whole, episodes)
  recorder = recorder_lib.Recorder(killed, SIZE, SHARDS)
  for number, episode in enumerate(episodes):
    arrays, data = recorder.state()
    arrays = {name: array.copy() for name, array in arrays.items()}
    for lost in episodes[number : number + 1 + number % 8]:
      recorder.append(*lost[:3], True)
    recorder = recorder_lib.Recorder(killed, SIZE, SHARDS)
    recorder.load_state(arrays, data)
    recorder.append(*episode[:3], True)
  assert contents(killed) == contents(whole)


def test_what_others_put_beside_the_shards_stays(tmp_path, episodes):
  recorder = record(tmp_path, episodes[:2])
  arrays, data = recorder.state()
  (tmp_path / 'notes.txt').touch()
  (tmp_path / '.ipynb_checkpoints').mkdir()
  later = tmp_path / '$store$_action_ckpt.9.gz'
  later.touch()
  recorder.load_state(arrays, data)
  assert (tmp_path / 'notes.txt').exists() and not later.exists()
  assert (tmp_path / '.ipynb_checkpoints').is_dir()


@pytest.mark.parametrize('count', [1, 4, 12, None])
def test_newest_episodes_are_the_whole_ones_since_a_shard_began(
  tmp_path, episodes, count
):
  """Across shards too, and whatever the state of the one that grows."""
  recorder = record(tmp_path, episodes[:count])
  first_row = max(recorder.add_count - SIZE, 0) // SIZE * SIZE
  row, expected = 0, []
  for episode in episodes[:count]:
    first, row = row, row + 3 + len(episode[0])
    if first >= first_row and row <= recorder.add_count:
      expected.append(episode)
  found = list(recorder.newest_episodes(SIZE))
  assert len(found) == len(expected) > 0
  for ours, theirs in zip(found, expected):
    for a, b in zip(ours, theirs):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('horizon', [1, 3])
def test_the_memory_samples_what_episodes_hold(episodes, horizon):
  """Every transition, rebuilt from its episode; over several turns."""
  replay = memory.ReplayMemory(30_000)
  assert replay.is_empty
  held = []
  for turn in range(40):
    for number, episode in enumerate(episodes):
      if turn % 3 and number % 2:
        continue  # Not the same places each turn.
      replay.append(*episode)
      held.append(episode)
  sampler = memory.OnlineSampler(replay, 32, horizon, 0.9, 0)
  alive, rows = [], 0  # The newest, which fill the memory with their padding.
  while rows < len(sampler.valid):
    alive.insert(0, held.pop())
    rows += len(alive[0][0])
  assert rows == len(sampler.valid) and not replay.is_empty
  assert 29_000 < rows + 3 * len(alive) <= 30_000
  expected = iter(sampler.valid)
  for frames, actions, rewards, _ in alive[:40]:
    batch = sampler.transitions(
      np.array([next(expected) for _ in range(len(frames))])
    )
    padded = np.concatenate([np.zeros((3, 84, 84), np.uint8), frames])
    for step in range(len(frames)):
      stack = padded[step : step + 4]
      np.testing.assert_array_equal(batch.state[step], stack.transpose(1, 2, 0))
      ahead = rewards[step : step + horizon]
      total = sum(0.9**i * r for i, r in enumerate(ahead))
      assert batch.reward[step] == pytest.approx(total, abs=1e-6)
      ends = step + horizon >= len(frames)
      assert batch.terminal[step] == ends
      if not ends:
        after = padded[step + horizon : step + horizon + 4]
        np.testing.assert_array_equal(
          batch.next_state[step], after.transpose(1, 2, 0)
        )
    np.testing.assert_array_equal(batch.action, actions)


def test_the_online_sampler_sees_what_was_added_since(episodes):
  replay = memory.ReplayMemory(30_000)
  replay.append(*episodes[0])
  sampler = memory.OnlineSampler(replay, 8)
  batches = sampler.batches()
  assert isinstance(next(batches), sampler_lib.Transition)
  for episode in episodes[1:]:
    replay.append(*episode)
  drawn = sampler.sample_rows(0, 200).ravel()
  assert drawn.max() > 3 + len(episodes[0][0])
  assert next(batches).state.shape == (8, 84, 84, 4)


@pytest.mark.parametrize('share', [0.25, 1.0])
def test_a_mixed_batch_holds_its_share_of_the_split(
  episodes, demo_store, share
):
  replay = memory.ReplayMemory(30_000)
  for episode in episodes:
    replay.append(*episode)
  rest = (3, 0.9, 5)
  mixed = memory.MixedSampler(replay, 32, *rest, store=demo_store, share=share)
  of_split = sampler_lib.TransitionSampler(demo_store, int(32 * share), *rest)
  own_seed = (1 << 64) + rest[2]
  of_memory = memory.OnlineSampler(
    replay, 32 - int(32 * share), *rest[:2], own_seed
  )
  chunks = mixed.chunks(7, 2)
  for first in (14, 16):
    chunk = mixed.with_states(next(chunks))
    parts = [of_split.with_states(of_split.chunk(first, 2))]
    if share < 1:
      parts.insert(0, of_memory.with_states(of_memory.chunk(first, 2)))
    for column, *expected in zip(chunk, *parts):
      assert column.shape[:2] == (2, 32)
      np.testing.assert_array_equal(column, np.concatenate(expected, axis=1))


def test_the_parts_of_a_mixed_batch_are_drawn_apart(episodes, demo_store):
  """Not the oldest of the memory with the oldest of the split."""
  replay = memory.ReplayMemory(30_000)
  for episode in episodes:
    replay.append(*episode)
  mixed = memory.MixedSampler(
    replay, 32, 1, 0.9, 5, store=demo_store, share=0.5
  )
  played, logged = (part.sample_rows(0, 50).ravel() for part in mixed._parts)
  assert abs(np.corrcoef(played, logged)[0, 1]) < 0.15  # Of 800 draws.


def test_a_long_horizon_fits_into_a_full_memory(episodes):
  replay = memory.ReplayMemory(30_000)
  while replay._next + 3 + len(episodes[0][0]) <= replay.capacity:
    replay.append(*episodes[0])
  sampler = memory.OnlineSampler(replay, 512, 100, 0.9)
  assert sampler.chunk(0, 8).reward.shape == (8, 512)


def test_what_a_split_leaves_of_a_recording_is_told(tmp_path, episodes, caplog):
  run = tmp_path / 'Breakout' / '1'
  recorder = recorder_lib.Recorder(run / 'replay_logs', 40, 60)
  for frames, actions, rewards, _ in episodes:
    recorder.append(frames, actions % 4, rewards, True)
  recorder.close()
  recorder.write_episodes()
  last = max(s.index for s in shard_folder.list_shards(run / 'replay_logs'))
  assert last >= 50

  def told(split):
    caplog.clear()
    opening.open_store(run, split=split, cache_dir=str(tmp_path / 'cache'))
    return caplog.text

  assert f'has shards up to {last}, and the split takes the first 50' in told(
    'all'
  )
  for shard in shard_folder.list_shards(run / 'replay_logs'):
    if shard.index > 4:
      for path in shard.sources:
        path.unlink()
  assert 'lacks 5 of the 10 shards' in told('first20pct')


def test_games_that_were_cut_off_come_back_as_such(tmp_path, episodes):
  made = recorder_lib.Recorder(tmp_path / 'replay_logs', SIZE, SHARDS)
  cut = []
  for number, (frames, actions, rewards, _) in enumerate(episodes):
    is_cut_off = number % 2 == 0
    cut.append(is_cut_off)
    made.append(frames, actions, rewards, not is_cut_off)
    if number == 9:
      break
  by_frames = {
    episode[0].tobytes(): (episode, is_cut_off)
    for episode, is_cut_off in zip(episodes, cut)
  }
  replay = memory.ReplayMemory(30_000)
  steps, seen = 0, set()
  for frames, actions, rewards, endings in made.newest_episodes(10 * SIZE):
    (_, expected, _, _), is_cut_off = by_frames[frames.tobytes()]
    np.testing.assert_array_equal(actions, expected)
    assert endings[-1] == (episodes_lib.CUT_OFF if is_cut_off else 1)
    assert not endings[:-1].any()
    seen.add(is_cut_off)
    replay.append(frames, actions, rewards, endings)
    # Of a game that was cut off, nobody knows the state after its last row.
    steps += len(frames) - is_cut_off
  assert seen == {True, False}
  assert len(replay.valid_transitions()) == steps


@pytest.mark.parametrize('length', range(14, 20))
def test_closing_loses_no_row(tmp_path, demo_frames, length):
  """Of a run of 20 rows a shard, wherever in a shard its last game ends."""
  recorder = recorder_lib.Recorder(tmp_path, 20, 50)
  recorder.append(demo_frames[:length], np.ones(length), np.ones(length), True)
  recorder.close()
  shards = shard_folder.list_shards(tmp_path)
  endings = np.concatenate([shard.endings() for shard in shards])
  stitched = [b.rows_after(a) for a, b in itertools.pairwise(shards)]
  for shard, (start, stop) in zip(shards[1:], stitched):
    endings = np.append(endings, shard.read('terminal', stop)[start:])
  assert np.count_nonzero(endings) == 1


@pytest.mark.parametrize('count', range(59, 67))
def test_a_store_has_all_that_was_recorded(tmp_path, demo_frames, count):
  """Also where the last shard has but a few rows."""
  run = tmp_path / 'Breakout' / '1'
  recorder = recorder_lib.Recorder(run / 'replay_logs', 60, 50)
  length = count - recorder_lib.PADDING_ROWS
  actions = np.arange(length) % 4
  recorder.append(demo_frames[:length], actions, np.ones(length), True)
  recorder.close()
  store = opening.open_store(run, cache_dir=str(tmp_path / 'cache'))
  np.testing.assert_array_equal(store.actions[3:count], actions)
  assert np.flatnonzero(store.terminals).tolist() == [count - 1]
  # The game's last row is sampled where any row comes after it.
  rows = store.manifest['num_rows']
  assert rows in (count, count + 1)
  assert len(store.valid_transitions()) == rows - 4
