import contextlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import figure

from cql_atari.core import fetched
from cql_atari.core.files import sha256
from cql_atari.replay import examine, recorder, shard_folder
from cql_atari.replay import shard as shard_lib


@pytest.fixture
def some_shards(demo_dir, tmp_path):
  """Five shards of the demo, free to be broken."""
  folder = tmp_path / 'Breakout' / '1' / 'replay_logs'
  folder.mkdir(parents=True)
  for index in (0, 2, 4, 6, 48):
    for path in shard_lib.Shard(demo_dir / 'replay_logs', index).sources:
      shutil.copy(path, folder)
  return folder


def findings(folder, num_actions=4):
  record = fetched.read(folder)
  found = [
    examine.examine(shard, num_actions, shard.fetched_rows(record), record)
    for shard in shard_folder.list_shards(folder)
  ]
  examine.judge(found)
  return {entry['shard']: entry for entry in found}


def test_the_command_reports_and_draws(some_shards, tmp_path):
  command = [sys.executable, '-m', 'cql_atari.verify', str(some_shards)]
  files = [f'--report={tmp_path}/r.json', f'--plot={tmp_path}/r.png']
  sound = subprocess.run([*command, *files], capture_output=True, text=True)
  assert sound.returncode == 0, sound.stderr
  assert '5 shards of Breakout: 0 broken, 0 with warnings' in sound.stdout
  assert 'of a whole run, 1, 3, 5, 7-47, 49 are missing' in sound.stdout
  report = json.loads((tmp_path / 'r.json').read_text())
  assert report['shards'][0]['rows'] == 1999
  assert (tmp_path / 'r.png').stat().st_size > 10_000
  path = shard_lib.Shard(some_shards, 4).path('reward')
  os.truncate(path, path.stat().st_size - 9)
  broken = subprocess.run(command, capture_output=True, text=True)
  assert broken.returncode == 1
  assert 'reward_ckpt.4.gz is truncated or damaged' in broken.stdout


def test_every_kind_of_damage_is_named(some_shards):
  assert not any(entry['error'] for entry in findings(some_shards).values())
  empty = examine.examine(shard_folder.list_shards(some_shards)[0], 4, 0, None)
  assert 'no rows of it were fetched' in empty['error']
  found = findings(some_shards, num_actions=2)
  assert 'action set' in found[0]['error']
  shard_lib.Shard(some_shards, 2).path('terminal').unlink()
  observation = shard_lib.Shard(some_shards, 6).path('observation')
  shutil.copy(shard_lib.Shard(some_shards, 4).path('observation'), observation)
  found = findings(some_shards)
  assert 'is missing' in found[2]['error']
  assert 'should be zero padding' in found[6]['error']
  assert not found[48]['error']


def write_games(folder, index, wins, frame, games=40, length=25):
  """A shard of short games of which each is won (1) or lost (-1)."""
  terminals = np.tile([0] * (length - 1) + [1], games)
  rewards = np.zeros(games * length, np.float32)
  rewards[terminals == 1] = np.where(np.arange(games) % 10 < wins, 1, -1)
  frames = np.repeat(frame[None], games * length, axis=0)
  frames += np.arange(len(frames), dtype=np.uint8)[:, None, None]
  for offset in range(3):
    frames[offset::length] = 0
  recorder.write_shard(
    folder,
    index,
    [frames],
    np.full(len(rewards), index % 3),
    rewards,
    terminals,
    add_count=len(rewards) * (index + 1) - 1,
  )


def test_odd_play_is_a_warning(tmp_path, demo_frames):
  for index, wins in enumerate([1, 3, 5, 8, 1, 9]):
    write_games(tmp_path, index, wins, demo_frames[100])
  for path in shard_lib.Shard(tmp_path, 3).sources:
    shutil.copy(path, tmp_path / path.name.replace('.3.gz', '.6.gz'))
  recorder.write_shard(
    tmp_path,
    7,
    [np.repeat(demo_frames[:1], 500, axis=0)],
    *np.zeros((3, 500), int),
    add_count=499 + 500,
  )
  found = findings(tmp_path)
  warnings = {shard: entry['warnings'] for shard, entry in found.items()}
  assert warnings == {
    **{shard: [] for shard in (0, 1, 2, 3, 5)},
    4: ['plays no better than shard 0: near-random play?'],
    6: ['the same play as shard 3'],
    7: ['100% of the frames do not move'],
  }


def test_changed_files_are_told_from_fetched_ones(some_shards):
  for shard in shard_folder.list_shards(some_shards):
    for path in shard.sources:
      entry = {'bytes': path.stat().st_size, 'rows': None}
      entry['sha256'] = sha256(path)
      fetched.add(some_shards, 'file:///somewhere', path.name, entry)
  assert not any(entry['error'] for entry in findings(some_shards).values())
  path = shard_lib.Shard(some_shards, 4).path('action')
  data = bytearray(path.read_bytes())
  data[4] ^= 1  # The gzip header's time: the content is the same.
  path.write_bytes(data)
  assert 'has changed since it was fetched' in findings(some_shards)[4]['error']


def test_later_shards_alone_say_nothing_of_the_beginning(tmp_path, demo_frames):
  for index, wins in ((40, 5), (41, 5), (42, 5)):
    write_games(tmp_path, index, wins, demo_frames[index])
  assert not any(entry['warnings'] for entry in findings(tmp_path).values())


def test_what_is_missing_of_a_whole_run_is_said(demo_dir, tmp_path):
  folder = tmp_path / 'Breakout' / '1' / 'replay_logs'
  folder.mkdir(parents=True)
  for path in shard_lib.Shard(demo_dir / 'replay_logs', 2).sources:
    shutil.copy(path, folder)
  done = subprocess.run(
    [sys.executable, '-m', 'cql_atari.verify', str(folder.parent)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert 'of a whole run, 0-1, 3-49 are missing.' in done.stdout


def test_games_are_put_together_across_shards(tmp_path, demo_frames):
  """Against what the recorder knows: every game counts where it begins."""
  logs = tmp_path / 'Breakout' / '1' / 'replay_logs'
  writer = recorder.Recorder(logs, 100, 10)
  rng = np.random.default_rng(0)
  while not writer.is_full:
    length = int(rng.integers(40, 250))
    rewards = np.zeros(length)
    # Neither the first nor the last, which may fall between two shards.
    rewards[length // 2 : length // 2 + 2] = 1
    frames = np.resize(demo_frames, (length, 84, 84))
    writer.append(frames, np.zeros(length, int), rewards, True)
  found = list(findings(logs).values())
  begun = [e['first_shard'] for e in writer.episodes if e['complete']]
  stitched = examine._stitched(found)
  assert {shard: len(games) for shard, games in stitched.items()} == {
    shard: begun.count(shard) for shard in begun
  }
  returns = np.concatenate([stitched[shard] for shard in sorted(stitched)])
  # A row between two shards is in neither.
  assert np.isin(returns, [1.0, 2.0]).all() and (returns == 2).mean() > 0.7
  assert not [entry for entry in found if entry['error']]


def test_a_picture_shows_raw_scores_where_they_are_known(some_shards, tmp_path):
  entries = list(findings(some_shards).values())
  scores = shard_folder.recorded_returns(shard_folder.demo_replay_dir())
  pictures = []
  for known in (scores, {}):
    pictures.append(tmp_path / f'{len(pictures)}.png')
    examine.plot(entries, 'Breakout', str(pictures[-1]), known)
  assert pictures[0].read_bytes() != pictures[1].read_bytes()
  assert sum(map(len, scores.values())) == 204  # The last one is cut off.


def test_a_picture_marks_what_is_missing(some_shards, tmp_path, monkeypatch):
  """Also behind the last shard there is; a prefix shows its reward rates."""
  drawn = []
  monkeypatch.setattr(
    figure.Figure, 'savefig', lambda self, *_, **__: drawn.append(self)
  )
  monkeypatch.setattr(examine, 'atomic_path', contextlib.nullcontext)
  entries = list(findings(some_shards).values())
  for entry in entries:
    entry['returns'] = [0.0]  # No game that is whole.
  there = [entry['shard'] for entry in entries]
  missing = sorted(set(range(50)) - set(there))
  path = str(tmp_path / 'a.png')
  examine.plot(entries, 'Breakout', path, {}, missing)
  ((axes,),) = (canvas.axes for canvas in drawn)
  marked = [
    round(float(np.mean(patch.get_extents().intervalx)), 3)
    for patch in axes.patches
  ]
  expected = axes.transData.transform([(shard, 0) for shard in missing])[:, 0]
  np.testing.assert_allclose(marked, expected, atol=0.01)
  assert axes.get_ylabel() == 'clipped reward of 1,000 steps'
  line = axes.lines[0].get_xydata()
  np.testing.assert_allclose(
    line, [(entry['shard'], entry['reward_rate']) for entry in entries]
  )


def test_a_share_of_a_shard_that_is_full_in_part(tmp_path, demo_frames):
  """A fetch may have brought rows from behind the write cursor."""
  logs = tmp_path / 'Breakout' / '1' / 'replay_logs'
  writer = recorder.Recorder(logs, 1000, 50)
  frames = np.resize(demo_frames, (200, 84, 84))
  writer.append(frames, np.ones(200, int), np.ones(200), True)
  writer.close()
  (shard,) = shard_folder.list_shards(logs)
  for stop in (None, 500):
    finding = examine.examine(shard, 4, stop, None)
    assert (finding['rows'], finding['transitions']) == (204, 200)
    assert finding['is_whole'] and finding['episodes'] == 1
