"""Games that Dopamine cuts off, saved in episode_end_indices."""

import gzip
import itertools
import pickle

import numpy as np
import pytest

from cql_atari.core.errors import UserError
from cql_atari.replay import cut_offs, episodes, examine, opening, split
from cql_atari.replay import shard as shard_lib


@pytest.fixture
def cut_run(tmp_path, dopamine_buffer, demo_frames):
  """Dopamine's own save of games over and cut off, and its padding rows."""

  def make(update_horizon: int = 1):
    buffer = dopamine_buffer(300, update_horizon)
    folder = tmp_path / 'Breakout' / '1' / 'replay_logs'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    padding = []
    while buffer.add_count < 250:
      before = int(buffer.add_count)
      ending = rng.choice(3, p=[0.9, 0.05, 0.05])
      buffer.add(
        demo_frames[rng.integers(len(demo_frames))], 1, 1.0, int(ending == 1),
        episode_end=bool(ending),
      )  # fmt: skip
      padding += range(before, int(buffer.add_count) - 1)
    buffer.save(folder, 0)
    return folder, buffer, padding

  return make


@pytest.mark.parametrize('update_horizon', [1, 3])
def test_valid_transitions_are_dopamines_but_for_padding(
  cut_run, update_horizon
):
  folder, buffer, padding = cut_run(update_horizon)
  shard = shard_lib.Shard(folder, 0)
  theirs = buffer.valid_indices()
  # Dopamine itself samples padding that follows a cut, and stacks over it.
  cut = sorted(
    row for row in buffer.episode_end_indices
    if not buffer._store['terminal'][row]
  )  # fmt: skip
  assert len(cut) > 3 and set(theirs) & set(padding)
  over_a_cut = {row + offset for row in cut for offset in (1, 2, 3)}
  np.testing.assert_array_equal(
    shard.valid_transitions(update_horizon),
    [row for row in theirs if row not in over_a_cut],
  )
  assert not set(shard.valid_transitions(update_horizon)) & set(padding)
  endings = shard.endings()
  assert np.flatnonzero(endings == episodes.CUT_OFF).tolist() == cut
  finding = examine.examine(shard, 4, None, None)
  assert finding['episodes'] == len(buffer.episode_end_indices)


def test_a_store_leads_over_no_cut(cut_run, tmp_path):
  folder, buffer, _ = cut_run()
  store = opening.open_store(
    str(folder.parent), 'Breakout', 4, split.Split(), str(tmp_path / 'cache')
  )
  np.testing.assert_array_equal(
    store.valid_transitions(), shard_lib.Shard(folder, 0).valid_transitions()
  )
  # Games begin with the run and after every end; only whole ones have a return.
  ends = sorted(buffer.episode_end_indices)
  assert store.episode_starts.tolist() == [
    end + 4 for end in (-1, *ends) if end + 4 < 250
  ]
  over = [end for end in ends if store.terminals[end] == 1]
  lengths = [
    end - before - 3
    for before, end in itertools.pairwise([-1, *ends])
    if end in over
  ]
  expected = sum(n * (n + 1) / 2 for n in lengths) / sum(lengths)
  assert store.discounted_return(1.0) == pytest.approx(expected)


def test_padding_without_a_mark_is_pointed_at(cut_run):
  folder, _, _ = cut_run()
  shard = shard_lib.Shard(folder, 0)
  (marked,) = examine.examine_all([shard], 3)
  assert marked['error'] is None and not marked['unmarked']
  shard.path('episode_end_indices').unlink()
  (unmarked,) = examine.examine_all([shard], 3)
  assert unmarked['unmarked'] > 3
  assert 'games cut off' in '; '.join(unmarked['warnings'])


@pytest.mark.parametrize(
  'content, sentence',
  [
    (b'no pickle', 'does not tell where games were cut off'),
    (pickle.dumps([1, 2]), 'no set'),
    (pickle.dumps({1.5}), 'no set of integers'),
    (pickle.dumps({300}), 'not among the 300'),
    (pickle.dumps({np.float64(1)}), "numbers of type 'f8'"),
    (pickle.dumps({print}), 'it names builtins.print'),
  ],
)
def test_other_pickles_are_refused(tmp_path, content, sentence):
  path = tmp_path / 'episode_end_indices_ckpt.0.gz'
  path.write_bytes(gzip.compress(content))
  with pytest.raises(UserError, match=sentence):
    cut_offs.read_ends(path, 300)


def test_rows_are_read_whatever_integers_they_are(tmp_path):
  path = tmp_path / 'episode_end_indices_ckpt.0.gz'
  for rows in ({7, 2}, {np.int64(7), np.int64(2)}, {np.int32(7), 2}):
    for protocol in (3, 4, 5):  # Python 3.7's own is 3.
      path.write_bytes(gzip.compress(pickle.dumps(rows, protocol)))
      assert cut_offs.read_ends(path, 300).tolist() == [2, 7]
