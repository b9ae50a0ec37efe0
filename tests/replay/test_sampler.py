import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats

from cql_atari.core.errors import UserError
from cql_atari.replay import frames, opening
from cql_atari.replay import sampler as dataset_lib
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import split as split_lib


def assert_equals_dopamine(sampler, buffer, indices, rows):
  """Our batches at store rows equal Dopamine's at buffer indices."""
  for start in range(0, len(indices), 200):
    part = indices[start : start + 200]
    state, action, reward, next_state, _, _, terminal, _ = (
      buffer.sample_transition_batch(len(part), part)
    )
    ours = sampler.transitions(rows[start : start + 200])
    expected = dataset_lib.Transition(
      state, action, reward, next_state, terminal
    )
    for name, a, b in zip(ours._fields, ours, expected):
      assert a.dtype == b.dtype, name
      np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize('update_horizon', [1, 3])
def test_every_valid_index_of_real_shards_equals_dopamines(
  demo_dir, demo_store, dopamine_buffer, update_horizon
):
  sampler = dataset_lib.TransitionSampler(
    demo_store, update_horizon=update_horizon
  )
  expected_rows = []
  for (start, _), index in zip(demo_store.segments, (10, 12)):
    buffer = dopamine_buffer(2000, update_horizon)
    buffer.load(demo_dir / 'replay_logs', index)
    indices = buffer.valid_indices()
    rows = start + np.array(indices)
    assert_equals_dopamine(sampler, buffer, indices, rows)
    expected_rows.append(rows)
  np.testing.assert_array_equal(sampler.valid, np.concatenate(expected_rows))


@pytest.mark.parametrize('update_horizon', [1, 3])
@pytest.mark.parametrize('rows', [250, 499, 1000])
def test_every_valid_index_of_dopamines_shards_equals_dopamines(
  tmp_path, dopamine_buffer, record, update_horizon, rows
):
  """Short episodes, so that most n-step returns meet an end."""
  buffer = dopamine_buffer(500, update_horizon)
  record(buffer, rows)
  buffer.save(tmp_path, 0)
  store = opening.open_store(
    str(tmp_path), 'Breakout', 4, split_lib.Split(), str(tmp_path / 'stores')
  )
  sampler = dataset_lib.TransitionSampler(store, update_horizon=update_horizon)
  shard = shard_lib.Shard(tmp_path, 0)
  valid = shard.valid_transitions(update_horizon)
  np.testing.assert_array_equal(sampler.valid, valid)
  assert_equals_dopamine(sampler, buffer, valid.tolist(), valid)


def test_sampling_is_uniform_over_valid_transitions(demo_store):
  sampler = dataset_lib.TransitionSampler(demo_store, batch_size=1000)
  rows = sampler.sample_rows(0, 200).ravel()
  counts = np.bincount(rows, minlength=demo_store.manifest['num_rows'])
  assert counts[np.setdiff1d(np.arange(len(counts)), sampler.valid)].sum() == 0
  assert stats.chisquare(counts[sampler.valid]).pvalue > 1e-3


def test_batches_are_independent_of_each_other(demo_store):
  """Pairs (draw of batch k, of batch k + 1) fill the plane evenly."""
  sampler = dataset_lib.TransitionSampler(demo_store, batch_size=1)
  rows = sampler.sample_rows(0, 20_001)[:, 0]
  bins = np.searchsorted(sampler.valid, rows) * 8 // len(sampler.valid)
  table = np.zeros((8, 8))
  np.add.at(table, (bins[:-1], bins[1:]), 1)
  assert stats.chi2_contingency(table).pvalue > 1e-3


def test_batch_k_is_drawn_by_the_generator_of_counter_k(demo_store):
  """NumPy's own, made anew for each: what runs of earlier versions drew by."""
  sampler = dataset_lib.TransitionSampler(demo_store, batch_size=33, seed=7)
  for batch, rows in enumerate(sampler.sample_rows(1000, 50), start=1000):
    bits = np.random.Philox(key=7, counter=[0, 0, 0, batch])
    drawn = np.random.Generator(bits).integers(0, len(sampler.valid), 33)
    np.testing.assert_array_equal(rows, sampler.valid[drawn])


def test_the_same_seed_and_position_give_the_same_batches(demo_store):
  sampler = dataset_lib.TransitionSampler(demo_store, batch_size=8, seed=3)
  whole = list(itertools.islice(sampler.batches(), 6))
  resumed = list(itertools.islice(sampler.batches(start=4), 2))
  for a, b in zip(whole[4:], resumed):
    for x, y in zip(a, b):
      np.testing.assert_array_equal(x, y)
  other = dataset_lib.TransitionSampler(demo_store, batch_size=8, seed=4)
  assert (other.sample_rows(0)[0] != sampler.sample_rows(0)[0]).any()
  assert (sampler.sample_rows(0)[0] != sampler.sample_rows(1)[0]).any()


def test_batches_have_dopamines_shapes_and_types(demo_store):
  batch = next(dataset_lib.TransitionSampler(demo_store).batches())
  assert [(t.dtype.name, tuple(t.shape)) for t in batch] == [
    ('uint8', (32, 84, 84, 4)),
    ('int32', (32,)),
    ('float32', (32,)),
    ('uint8', (32, 84, 84, 4)),
    ('uint8', (32,)),
  ]


def test_failures_reach_the_learner(demo_store):
  class Broken(dataset_lib.TransitionSampler):
    def sample_rows(self, *numbers):
      raise OSError('gone')

  with pytest.raises(OSError, match='gone'):
    next(Broken(demo_store).batches())


def test_dropped_prefetchers_end_their_thread(demo_store):
  for _ in range(20):  # At once, while it is busy preparing.
    chunks = dataset_lib.TransitionSampler(demo_store).chunks(0, 2)
    next(chunks)
    (thread,) = chunks._pool._threads
    del chunks
  thread.join()
  assert not thread.is_alive()


def test_workers_share_the_batch_of_one(demo_store):
  whole = dataset_lib.TransitionSampler(demo_store, seed=3)
  for batch in (0, 7):
    parts = [
      dataset_lib.TransitionSampler(
        demo_store, seed=3, worker=worker, num_workers=4
      ).sample_rows(batch)[0]
      for worker in range(4)
    ]
    np.testing.assert_array_equal(
      np.stack(parts, axis=1).ravel(), whole.sample_rows(batch)[0]
    )
  with pytest.raises(ValueError, match='must be a multiple'):
    dataset_lib.TransitionSampler(demo_store, batch_size=32, num_workers=3)


def test_blocks_hold_consecutive_batches_whoever_prepares_them(demo_store):
  sampler = dataset_lib.TransitionSampler(
    demo_store, batch_size=8, num_threads=3
  )
  one_by_one = list(itertools.islice(sampler.batches(start=6), 6))
  chunks = itertools.islice(sampler.chunks(start=2, size=3), 2)
  stacked = [zip(*sampler.with_states(chunk)) for chunk in chunks]
  for a, b in zip(one_by_one, itertools.chain(*stacked)):
    for x, y in zip(a, b):
      np.testing.assert_array_equal(x, y)


def test_a_failure_is_raised_every_time_a_batch_is_asked_for(demo_store):
  broken = dataclasses.replace(
    demo_store, blocks=demo_store.blocks * 0, frames=None
  )
  batches = dataset_lib.TransitionSampler(broken).batches()
  for _ in range(2):
    with pytest.raises(UserError, match='damaged'):
      next(batches)


def test_memory_is_used_again_only_once_nobody_refers_to_it():
  buffers = frames.Buffers()
  first = buffers.take((2, 84, 84))
  view = first[1].reshape(-1)
  address = first.ctypes.data
  assert address % 64 == 0
  del first
  assert buffers.take((2, 84, 84)).ctypes.data != address  # The view has it.
  assert buffers.take((3, 84, 84)).ctypes.data != address
  del view
  assert buffers.take((2, 84, 84)).ctypes.data == address


def test_batches_that_are_kept_stay_as_they_are(demo_store):
  sampler = dataset_lib.TransitionSampler(demo_store, batch_size=4)
  kept = list(itertools.islice(sampler.batches(), 60))
  for number, batch in enumerate(kept):
    expected = sampler.transitions(sampler.sample_rows(number)[0])
    np.testing.assert_array_equal(batch.state, expected.state)
    np.testing.assert_array_equal(batch.next_state, expected.next_state)
