"""Building stores: stitched shards, resumed builds, builders that meet."""

import concurrent.futures
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cql_atari.core.errors import UserError
from cql_atari.replay import build, opening, shard_folder
from cql_atari.replay import sampler as dataset_lib
from cql_atari.replay import split as split_lib
from cql_atari.replay import store as store_lib

CAPACITY = 97  # Not a multiple of a block.


@pytest.fixture
def long_run(tmp_path, dopamine_buffer, demo_frames):
  """A run in (at most four) shards, as Dopamine saves it, and all in one."""

  def make(shards: int, update_horizon: int, skip: tuple[int, ...] = ()):
    small = dopamine_buffer(CAPACITY, update_horizon)
    large = dopamine_buffer(CAPACITY * shards + 1, update_horizon)
    folder = tmp_path / 'run'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(shards):
      while (left := CAPACITY * (index + 1) - 1 - int(small.add_count)) > 0:
        row = (
          demo_frames[rng.integers(len(demo_frames))],
          int(rng.integers(3)),
          float(rng.integers(-1, 2)),
          # A game's first row brings three of padding, and must not jump the
          # trigger.
          int(rng.random() < 0.06 and left > 5),
        )
        small.add(*row)
        large.add(*row)
      if index not in skip:
        small.save(folder, index)
    return folder, large

  return make


def open_run(folder, stores, **split):
  return opening.open_store(
    str(folder), 'Breakout', 4, split_lib.Split(**split), str(stores)
  )


@pytest.mark.parametrize('update_horizon', [1, 3])
def test_stitched_shards_equal_one_buffer_of_everything(
  tmp_path, long_run, update_horizon
):
  folder, everything = long_run(4, update_horizon)
  store = open_run(folder, tmp_path / 'stores')
  sampler = dataset_lib.TransitionSampler(store, update_horizon=update_horizon)
  # The last row of the run is in no file.
  rows = store.manifest['num_rows']
  assert rows == 4 * CAPACITY - 1
  assert len(store.segments) == 1
  valid = [i for i in everything.valid_indices() if i + update_horizon < rows]
  np.testing.assert_array_equal(sampler.valid, valid)
  theirs = everything.sample_transition_batch(len(valid), np.array(valid))
  ours = sampler.transitions(np.array(valid))
  terminal = theirs[6].astype(bool)
  np.testing.assert_array_equal(ours.state, theirs[0])
  np.testing.assert_array_equal(ours.action, theirs[1])
  np.testing.assert_array_equal(ours.reward, theirs[2])
  np.testing.assert_array_equal(ours.terminal, theirs[6])
  np.testing.assert_array_equal(
    ours.next_state[~terminal], theirs[3][~terminal]
  )
  alone = sum(
    len(shard.valid_transitions(1))
    for shard in shard_folder.list_shards(folder)
  )
  gained = store.manifest['transitions_gained_by_stitching']
  assert gained == len(store.valid_transitions(1)) - alone > 0


def test_shards_whose_neighbour_is_missing_are_not_stitched(tmp_path, long_run):
  folder, _ = long_run(4, 1, skip=(1,))
  store = open_run(folder, tmp_path / 'stores')
  stitched = [entry['stitched'] for entry in store.manifest['shards']]
  assert stitched == [False, False, True]
  assert len(store.segments) == 2
  prefix = open_run(folder, tmp_path / 'stores', fraction=0.5)
  assert not any(entry['stitched'] for entry in prefix.manifest['shards'])


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


_BUILD = """
import sys
from cql_atari.replay import opening, split
opening.open_store(
  sys.argv[1], 'Breakout', 4, split.Split(shards=(0, 20)), sys.argv[2]
)
"""


def start_build(demo_dir, stores):
  return subprocess.Popen(
    [sys.executable, '-c', _BUILD, str(demo_dir), str(stores)],
    stderr=subprocess.PIPE,
  )


def test_killed_builds_end_in_the_same_store(demo_dir, tmp_path):
  began = time.monotonic()
  whole = start_build(demo_dir, tmp_path / 'whole')
  assert whole.wait() == 0
  seconds = time.monotonic() - began
  for share in np.random.default_rng(0).uniform(0.2, 1.0, 20):
    build_process = start_build(demo_dir, tmp_path / 'killed')
    time.sleep(seconds * share)
    build_process.send_signal(signal.SIGKILL)
    build_process.wait()
  assert start_build(demo_dir, tmp_path / 'killed').wait() == 0
  (expected,) = (tmp_path / 'whole').iterdir()
  (store,) = (tmp_path / 'killed').iterdir()
  assert files_of(store) == files_of(expected)


def test_finished_parts_are_kept(demo_dir, tmp_path, monkeypatch):
  """A build that stops half-way leaves its parts, and the next uses them."""
  original, compressed = build._compress_shard, []

  def once(directory, rows, *args):
    compressed.append(rows.shard.index)
    if len(compressed) == 3:
      raise KeyboardInterrupt
    original(directory, rows, *args)

  monkeypatch.setattr(build, '_compress_shard', once)
  monkeypatch.setattr(build.devices, 'cores', lambda: 1)
  split = {'shards': (10, 20)}
  with pytest.raises(KeyboardInterrupt):
    open_run(demo_dir, tmp_path / 'stores', **split)
  open_run(demo_dir, tmp_path / 'stores', **split)
  assert compressed == [10, 12, 14, 14, 16, 18]


def test_parts_of_another_split_are_not_used(demo_dir, tmp_path, monkeypatch):
  """A build that was killed, then another split into the same folder."""
  original = build._join_parts

  def killed(*args):
    raise KeyboardInterrupt

  def prepare(fraction):
    split = split_lib.Split(shards=(10, 15), fraction=fraction)
    return opening.ensure_store(
      demo_dir, 'Breakout', 4, split, out=tmp_path / 'store'
    )

  monkeypatch.setattr(build, '_join_parts', killed)
  with pytest.raises(KeyboardInterrupt):
    prepare(0.5)
  monkeypatch.setattr(build, '_join_parts', original)
  ours = prepare(0.1)
  whole = open_run(demo_dir, tmp_path / 'own', shards=(10, 15), fraction=0.1)
  (expected,) = (tmp_path / 'own').iterdir()
  assert whole.manifest['num_rows'] == 600
  assert files_of(ours) == files_of(expected)


def test_a_store_of_another_split_is_noticed_after_a_wait(
  demo_dir, tmp_path, monkeypatch
):
  """Of a process that built it in the same folder meanwhile."""
  out, original = tmp_path / 'store', build.build_store

  def prepare(fraction):
    split = split_lib.Split(shards=(10, 13), fraction=fraction)
    return opening.ensure_store(demo_dir, 'Breakout', 4, split, out=out)

  def wait(*arguments):
    monkeypatch.setattr(build, 'build_store', original)
    prepare(0.1)
    return original(*arguments)

  monkeypatch.setattr(build, 'build_store', wait)
  with pytest.raises(UserError, match='store'):
    prepare(0.5)
  assert store_lib.Store.load(out).manifest['num_rows'] == 2 * 200


def test_returns_that_come_later_make_another_store(demo_dir, tmp_path):
  run = tmp_path / 'Breakout' / '1'
  shutil.copytree(demo_dir, run)
  (run / 'episodes.json').unlink()
  before = open_run(run, tmp_path / 'stores')
  shutil.copy(demo_dir / 'episodes.json', run)
  after = open_run(run, tmp_path / 'stores')
  assert before.is_published and not after.is_published


def test_two_builders_make_one_store(demo_dir, tmp_path):
  with concurrent.futures.ThreadPoolExecutor() as pool:
    processes = [start_build(demo_dir, tmp_path) for _ in range(3)]
    ends = list(pool.map(lambda process: process.communicate(), processes))
  assert [process.returncode for process in processes] == [0, 0, 0], ends
  (store,) = tmp_path.iterdir()
  assert open_run(demo_dir, tmp_path).digest
  assert not {'lock'} & {path.name for path in store.iterdir()}


def test_a_full_disk_leaves_nothing(demo_dir, tmp_path):
  """A limit on file size stands in for a disk without room."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
  try:
    with pytest.raises(UserError, match=r'too large\): make room'):
      open_run(demo_dir, tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert [p for p in tmp_path.iterdir() if p.suffix != '.lock'] == []
