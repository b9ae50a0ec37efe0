import dataclasses
import itertools
import types

import numpy as np
import pytest

from cql_atari.core import devices
from cql_atari.replay import opening, residence, sampler
from cql_atari.replay import split as split_lib

RESIDENCES = ('device', 'raw', 'compressed', 'mapped')


@pytest.fixture(scope='module')
def opened(demo_dir, tmp_path_factory):
  """The same two shards in every residence."""
  folder = str(tmp_path_factory.mktemp('stores'))
  return {
    name: opening.open_store(
      str(demo_dir),
      'Breakout',
      4,
      split_lib.Split(shards=(10, 13), update_horizon=3),
      folder,
      residence=name,
    )
    for name in RESIDENCES
  }


def test_frames_are_where_they_were_asked_for(opened):
  assert isinstance(opened['mapped'].blocks, np.memmap)
  assert isinstance(opened['mapped'].actions, np.memmap)
  assert not isinstance(opened['compressed'].blocks, np.memmap)
  assert opened['compressed'].frames is opened['mapped'].frames is None
  assert opened['raw'].frames.nbytes == 7056 * len(opened['raw'].actions)
  for name, store in opened.items():
    assert store.record['residence'] == name
    assert store.record['residence_reason'].endswith(': as asked for')


class NearEnds(sampler.TransitionSampler):
  """Draws rows at the ends of games, where it matters most."""

  def sample_rows(self, first, size=1):
    ends = np.flatnonzero(self.store.terminals)
    near = np.intersect1d(self.valid, ends[:, None] - np.arange(8))
    return np.stack(
      [
        np.resize(np.roll(near, -k), self.batch_size)
        for k in range(first, first + size)
      ]
    )


@pytest.mark.parametrize('draws', [sampler.TransitionSampler, NearEnds])
@pytest.mark.parametrize('update_horizon', [1, 3])
def test_batches_are_the_same_in_every_residence(opened, update_horizon, draws):
  chunks = []
  for store in opened.values():
    samples = draws(store, 64, update_horizon, seed=3)
    chunks.append(samples.with_states(next(samples.chunks(2, 5))))
  assert chunks[0].terminal.numpy().any() or draws is not NearEnds
  for chunk in chunks[1:]:
    for name, a, b in zip(chunk._fields, chunks[0], chunk):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize('update_horizon', [1, 3])
def test_a_gpu_stacks_the_same_states_from_windows_of_frames(
  opened, update_horizon, monkeypatch
):
  samples = NearEnds(opened['raw'], 64, update_horizon, seed=3)
  stacked = samples.chunk(10, 5)
  monkeypatch.setattr(devices, 'has_gpu', lambda: True)
  for store in opened.values():
    samples = NearEnds(store, 64, update_horizon, seed=3)
    chunk = samples.chunk(10, 5)
    assert chunk.next_state.shape == (5, 64)
    if not samples.is_on_device:
      assert chunk.state.shape == (5, 64, 4 + update_horizon, 84, 84)
    for name, a, b in zip(chunk._fields, stacked, samples.with_states(chunk)):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b, err_msg=name)
    (batch,) = itertools.islice(samples.batches(12), 1)
    np.testing.assert_array_equal(batch.next_state, stacked.next_state[2])


@pytest.mark.parametrize(
  'memory, gpu, expected',
  [
    (100, None, 'raw'),
    (100, 100, 'device'),
    (100, 1.9, 'raw'),
    (1.9, 1.9, 'compressed'),
    (0.001, None, 'mapped'),
  ],
)
def test_auto_takes_the_fastest_that_leaves_half_of_what_is_free(
  opened, monkeypatch, memory, gpu, expected
):
  """Memory in units of what the decompressed frames take."""
  store = opened['mapped']
  raw = 7056 * len(store.actions)
  assert 0.001 * raw < 2 * store.nbytes < 1.9 * raw
  monkeypatch.setattr(residence, '_free_memory', lambda: memory * raw)
  monkeypatch.setattr(residence, '_gpu_memory', lambda: gpu and gpu * raw)
  record = residence.reside(store, 'auto').record
  assert record['residence'] == expected
  told = record['residence_reason']
  assert f'{memory * raw / 1e9:.2g} GB are free' in told or expected == 'device'


def test_a_run_of_a_sweep_takes_its_share_of_the_groups_memory(monkeypatch):
  """On a machine of 64 cores and 500 GB, 8 and 16 of which are allowed."""
  free = types.SimpleNamespace(available=500e9)
  monkeypatch.setattr(residence.psutil, 'cpu_count', lambda: 64)
  monkeypatch.setattr(residence.psutil, 'virtual_memory', lambda: free)
  monkeypatch.setattr(residence.devices, 'cores', lambda: 8)
  monkeypatch.setattr(residence, '_free_in_groups', lambda: 16e9)
  for threads, expected in (('0', 16e9), ('8', 16e9), ('1', 2e9)):
    monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', threads)
    assert residence._free_memory() == expected
  monkeypatch.setattr(residence, '_free_in_groups', lambda: np.inf)
  assert residence._free_memory() == 500e9 / 64


def test_free_memory_is_a_plausible_number_of_bytes():
  assert 1e6 < residence._free_memory() < 1e14


def test_decompressed_frames_are_the_compressed_ones(opened):
  store = opened['compressed']
  frames = dataclasses.replace(opened['raw']).frames
  count = len(store.actions)
  np.testing.assert_array_equal(
    frames, store.read_frames(np.array([0]), count)[0]
  )
