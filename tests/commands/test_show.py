import numpy as np
import pytest
from PIL import Image

from cql_atari.core.errors import UserError
from cql_atari.replay import clip as clip_lib
from cql_atari.replay import summary


def test_statistics_count_what_the_store_holds(demo_store):
  text = summary.describe(demo_store, ['NOOP', 'UP', 'DOWN'])
  assert 'Freeway, run 1: 2 shards' in text
  counts = np.bincount(demo_store.actions, minlength=3)
  for name, count in zip(('NOOP', 'UP', 'DOWN'), counts):
    assert any(
      line.split()[:3] == ['action', name, f'{count:,}']
      for line in text.splitlines()
    )


def test_the_clip_shows_the_frames(demo_store, tmp_path):
  path = tmp_path / 'clip.gif'
  assert clip_lib.write_clip(demo_store, str(path), 100, 20) == 20
  frames = demo_store.read_frames(np.array([100]), 20)[0]
  with Image.open(path) as clip:
    assert clip.n_frames == 20
    for index in (0, 7, 19):
      clip.seek(index)
      drawn = np.asarray(clip.convert('L'))[1::3, 1::3]
      np.testing.assert_array_equal(drawn, frames[index])
  rows = demo_store.manifest['num_rows']
  assert clip_lib.write_clip(demo_store, str(path), rows - 5, 20) == 5
  with pytest.raises(UserError, match='is no row'):
    clip_lib.write_clip(demo_store, str(path), rows, 20)
  with pytest.raises(UserError, match=r'is no \.gif'):
    clip_lib.write_clip(demo_store, str(tmp_path / 'clip.png'), 0, 20)
