"""Real play for every test: the embedded demo, and shards Dopamine saves."""

import pathlib
import sys

import pytest

from cql_atari.core import quiet
from cql_atari.replay import opening, shard_folder

with quiet.quiet():
  from dopamine.tf.replay_memory import circular_replay_buffer

import numpy as np
from absl import flags

from cql_atari.replay import shard as shard_lib
from cql_atari.replay import split as split_lib
from cql_atari.replay import store as store_lib

if not flags.FLAGS.is_parsed():
  flags.FLAGS(sys.argv[:1])


@pytest.fixture(scope='session')
def demo_dir(tmp_path_factory) -> pathlib.Path:
  """Every second shard of the built-in run: numbers may be missing."""
  folder = tmp_path_factory.mktemp('demo') / 'Breakout' / '1'
  (folder / 'replay_logs').mkdir(parents=True)
  for shard in shard_folder.list_shards(shard_folder.demo_replay_dir())[::2]:
    for path in shard.sources:
      (folder / 'replay_logs' / path.name).symlink_to(path)
  episodes = (
    pathlib.Path(shard_folder.demo_replay_dir()) / shard_folder.EPISODES
  )
  (folder / shard_folder.EPISODES).symlink_to(episodes)
  return folder


@pytest.fixture(scope='session')
def demo_frames(demo_dir) -> np.ndarray:
  """A few hundred real frames."""
  shard = shard_lib.Shard(demo_dir / 'replay_logs', 10)
  return np.concatenate(list(shard.frames(stop=600)))


@pytest.fixture(scope='session')
def demo_store(demo_dir, tmp_path_factory) -> store_lib.Store:
  """Two demo shards as a store."""
  return opening.open_store(
    str(demo_dir),
    'Breakout',
    4,
    split_lib.Split(shards=(10, 13)),
    str(tmp_path_factory.mktemp('stores')),
  )


class DopamineBuffer(circular_replay_buffer.OutOfGraphReplayBuffer):
  """Dopamine's own buffer, the oracle for sampling."""

  def __init__(self, capacity: int, update_horizon: int = 1):
    super().__init__(
      (84, 84), 4, capacity, 32, update_horizon=update_horizon, gamma=0.99
    )

  def valid_indices(self) -> list[int]:
    """Every index that `sample_index_batch` can return."""
    horizon, cursor = self._update_horizon, self.cursor()
    first = cursor - self._replay_capacity + 3 if self.is_full() else 3
    return sorted(
      index % self._replay_capacity
      for index in range(first, cursor - horizon)
      if self.is_valid_transition(index % self._replay_capacity)
    )


@pytest.fixture
def dopamine_buffer():
  return DopamineBuffer


@pytest.fixture(scope='session')
def record(demo_frames):
  """Plays made-up episodes of real frames into one of Dopamine's buffers."""

  def play(buffer: DopamineBuffer, rows: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    while buffer.add_count < rows:
      buffer.add(
        demo_frames[rng.integers(len(demo_frames))],
        int(rng.integers(3)),
        float(rng.integers(-1, 2)),
        int(rng.random() < 0.06),
      )

  return play
