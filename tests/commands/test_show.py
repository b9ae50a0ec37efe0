import cv2
import numpy as np
import pytest

from cql_atari.core.errors import UserError
from cql_atari.replay import clip as clip_lib
from cql_atari.replay import summary

NAMES = ['NOOP', 'FIRE', 'RIGHT', 'LEFT']


def test_statistics_count_what_the_store_holds(demo_store):
  text = summary.describe(demo_store, NAMES)
  assert 'Breakout, run 1: 2 shards' in text
  counts = np.bincount(demo_store.actions, minlength=4)
  for name, count in zip(NAMES, counts):
    assert any(
      line.split()[:3] == ['action', name, f'{count:,}']
      for line in text.splitlines()
    )


@pytest.mark.parametrize('name', ['clip.gif', 'clip.mp4'])
def test_the_clip_shows_frames_actions_and_rewards(demo_store, tmp_path, name):
  path = tmp_path / 'clips' / name
  first = int(np.flatnonzero(demo_store.rewards)[3]) - 10
  assert clip_lib.write_clip(demo_store, str(path), first, 20, NAMES) == 20
  frames = demo_store.read_frames(np.array([first]), 20)[0]
  pictures = read(path)
  assert len(pictures) == 20
  for index in (0, 7, 19):
    drawn = pictures[index][:336].mean(axis=2)[2::4, 2::4]
    assert np.abs(drawn - frames[index]).max() < (2 if 'gif' in name else 40)
  # Below stands the row, and beside it the reward, where there is one.
  ink = [(picture[336:, 100:] > 128).sum() for picture in pictures]
  assert ink[10] > ink[9] and ink[10] > ink[11]


def read(path):
  film = cv2.VideoCapture(str(path))
  pictures = []
  while (read := film.read())[0]:
    pictures.append(read[1])
  return pictures


def test_clips_that_cannot_be_are_refused(demo_store, tmp_path):
  rows = demo_store.manifest['num_rows']
  path = str(tmp_path / 'clip.gif')
  assert clip_lib.write_clip(demo_store, path, rows - 5, 20, NAMES) == 5
  with pytest.raises(UserError, match='is no row'):
    clip_lib.write_clip(demo_store, path, rows, 20, NAMES)
  with pytest.raises(UserError, match=r'neither .mp4 nor .gif'):
    clip_lib.write_clip(demo_store, str(tmp_path / 'a.png'), 0, 20, NAMES)
