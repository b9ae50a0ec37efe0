"""Whatever the episodes, the buffer's size and its cursor: Dopamine's rule."""

import tempfile

import hypothesis
import numpy as np
from dopamine.tf.replay_memory import circular_replay_buffer
from hypothesis import strategies as st

from cql_atari.replay import episodes, opening
from cql_atari.replay import sampler as dataset_lib
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import split as split_lib


@hypothesis.settings(
  max_examples=60,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
  capacity=st.integers(12, 70),
  ends=st.lists(st.booleans(), min_size=9, max_size=160),
  seldom=st.integers(1, 9),
  update_horizon=st.integers(1, 5),
)
def test_a_shard_of_any_shape_gives_what_dopamines_buffer_does(
  dopamine_buffer, demo_frames, capacity, ends, seldom, update_horizon
):
  buffer = dopamine_buffer(capacity, update_horizon)
  rng = np.random.default_rng(len(ends))
  for row, end in enumerate(ends):
    buffer.add(
      demo_frames[row],
      int(rng.integers(3)),
      float(rng.integers(-1, 2)),
      int(end and row % seldom == 0),
    )
  with tempfile.TemporaryDirectory() as folder:
    buffer.save(folder, 0)
    shard = shard_lib.Shard(shard_lib.pathlib.Path(folder), 0)
    cursor = int(buffer.add_count) % capacity or capacity
    # What a full buffer holds from its cursor on is a turn old.
    expected = [
      index
      for index in buffer.valid_indices()
      if 3 <= index < cursor - update_horizon
    ]
    valid = shard.valid_transitions(update_horizon)
    np.testing.assert_array_equal(valid, expected)
    if not expected:
      return
    store = opening.open_store(
      folder, 'Breakout', 4, split_lib.Split(shards=(0, 1)), f'{folder}/stores'
    )
    sampler = dataset_lib.TransitionSampler(
      store, update_horizon=update_horizon
    )
    np.testing.assert_array_equal(sampler.valid, expected)
    theirs = buffer.sample_transition_batch(len(expected), np.array(expected))
    ours = sampler.transitions(np.array(expected))
    going_on = theirs[6] == 0
    for mine, other in zip(ours, (*theirs[:4], theirs[6])):
      if mine is ours.next_state:
        mine, other = mine[going_on], other[going_on]
      np.testing.assert_array_equal(mine, other)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
  ends=st.lists(st.booleans(), min_size=10, max_size=80),
  update_horizon=st.integers(1, 4),
  stack_size=st.integers(1, 6),
)
def test_valid_rows_for_any_stack_are_dopamines(
  ends, update_horizon, stack_size
):
  buffer = circular_replay_buffer.OutOfGraphReplayBuffer(
    (2, 2), stack_size, 600, 1, update_horizon=update_horizon
  )
  for end in ends:
    buffer.add(np.ones((2, 2), np.uint8), 0, 0.0, int(end))
  rows = int(buffer.add_count)
  expected = [
    row
    for row in range(stack_size - 1, rows - update_horizon)
    if buffer.is_valid_transition(row)
  ]
  terminals = buffer._store['terminal'][:rows]
  np.testing.assert_array_equal(
    episodes.valid_rows(terminals, update_horizon, stack_size), expected
  )
