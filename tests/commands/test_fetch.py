"""Fetching from a local server that misbehaves in every way we know."""

import filecmp
import gzip
import http.server
import json
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cql_atari.core import fetched
from cql_atari.core.errors import UserError
from cql_atari.replay import opening, recorder, shard_folder
from cql_atari.replay import shard as shard_lib
from cql_atari.replay import split as split_lib

SHARDS = (10, 12)


class Server(http.server.ThreadingHTTPServer):
  """Serves files with ranges; `trouble` says what goes wrong, how often."""

  daemon_threads = True

  def __init__(self, root: pathlib.Path):
    super().__init__(('127.0.0.1', 0), Handler)
    self.root, self.trouble, self.left, self.sent = root, None, 0, 0
    self.lock = threading.Lock()

  def goes_wrong(self, trouble: str) -> bool:
    with self.lock:
      if self.trouble != trouble or not self.left:
        return False
      self.left -= 1
      return True


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def log_message(self, *args):
    pass

  def do_HEAD(self):
    self.answer(body=False)

  def do_GET(self):
    self.answer(body=True)

  def answer(self, body: bool) -> None:
    server = self.server
    path = server.root / self.path.lstrip('/').replace('%24', '$')
    if server.goes_wrong('unavailable'):
      return self.empty(503)
    if not path.is_file():
      return self.empty(404)
    data = path.read_bytes()
    version = 'old'
    if server.trouble == 'truncated':
      data = data[: len(data) // 2]
    if server.trouble == 'changes' and not server.left:
      version = 'new'
    start, code = 0, 200
    asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range') or '')
    if asked and server.trouble != 'no ranges':
      start, code = int(asked[1]), 206
      stop = int(asked[2] or len(data) - 1) + 1
    else:
      stop = len(data)
    piece = data[start:stop]
    self.send_response(code)
    if server.trouble != 'no ranges':
      self.send_header('Accept-Ranges', 'bytes')
    if code == 206:
      self.send_header(
        'Content-Range', f'bytes {start}-{start + len(piece) - 1}/{len(data)}'
      )
    size = 10**15 if server.trouble == 'huge' else len(piece)
    self.send_header('Content-Length', str(size))
    self.send_header('ETag', f'"{version}-{len(data)}"')
    self.end_headers()
    if not body:
      return None
    if 'observation' in self.path and server.trouble:
      half = len(piece) // 2
      if server.goes_wrong('drops') or (
        server.trouble == 'no ranges' and server.goes_wrong('no ranges')
      ):
        self.wfile.write(piece[:half])
        self.close_connection = True
        return self.connection.close()
      if server.goes_wrong('stalls'):
        self.wfile.write(piece[:half])
        self.wfile.flush()
        time.sleep(6)
        self.close_connection = True
        return None
      if server.trouble == 'changes' and server.goes_wrong('changes'):
        piece = piece[:half] + bytes(len(piece) - half)
      if server.trouble == 'slow':
        for first in range(0, len(piece), 2000):
          self.wfile.write(piece[first : first + 2000])
          time.sleep(0.02)
        return None
    server.sent += len(piece)
    self.wfile.write(piece)
    return None

  def empty(self, code: int) -> None:
    self.send_response(code)
    self.send_header('Content-Length', '0')
    self.end_headers()


@pytest.fixture
def server(demo_dir, tmp_path):
  folder = tmp_path / 'served' / 'Breakout' / '1' / 'replay_logs'
  folder.mkdir(parents=True)
  for index in SHARDS:
    for path in shard_lib.Shard(demo_dir / 'replay_logs', index).sources:
      (folder / path.name).write_bytes(path.read_bytes())
  served = Server(tmp_path / 'served')
  threading.Thread(target=served.serve_forever, daemon=True).start()
  yield served
  served.shutdown()


def start_fetch(server, out, split='all'):
  address = f'http://127.0.0.1:{server.server_address[1]}'
  return subprocess.Popen(
    [
      *(sys.executable, '-m', 'cql_atari.fetch', '--game=Breakout'),
      *(f'--source={address}', f'--split={split}', f'--out={out}'),
      *('--timeout=2', '--jobs=2'),
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def fetch(server, out, split='all'):
  process = start_fetch(server, out, split)
  stdout, stderr = process.communicate()
  assert 'Traceback' not in stderr, stderr
  return process.returncode, stdout, stderr


def assert_same(server, out):
  served = server.root / 'Breakout' / '1' / 'replay_logs'
  got = out / 'Breakout' / '1' / 'replay_logs'
  names = [path.name for path in served.iterdir()]
  match, mismatch, errors = filecmp.cmpfiles(served, got, names, shallow=False)
  assert (mismatch, errors) == ([], []) and len(match) == 12
  there = (path.name for path in got.iterdir() if path.name != '.lock')
  assert sorted(there) == sorted([*names, fetched.FILE])


@pytest.mark.parametrize(
  ('trouble', 'times'),
  [
    (None, 0),
    ('drops', 3),
    ('unavailable', 5),
    ('no ranges', 2),
    ('stalls', 1),
    ('changes', 1),
  ],
)
def test_trouble_ends_in_the_right_bytes(server, tmp_path, trouble, times):
  server.trouble, server.left = trouble, times
  code, _, stderr = fetch(server, tmp_path / 'out')
  assert code == 0, stderr
  assert server.left == 0
  assert_same(server, tmp_path / 'out')


def test_what_marks_cut_off_games_is_brought_where_there_is_any(
  server, demo_dir, tmp_path
):
  ends = np.array([3, 900])
  served = server.root / 'Breakout' / '1' / 'replay_logs'
  name = 'episode_end_indices_ckpt.10.gz'
  with gzip.open(served / name, 'wb') as file:
    file.write(pickle.dumps(set(ends.tolist())))
  code, _, stderr = fetch(server, tmp_path / 'out')
  assert code == 0, stderr
  logs = tmp_path / 'out' / 'Breakout' / '1' / 'replay_logs'
  assert (logs / name).read_bytes() == (served / name).read_bytes()
  endings = shard_lib.Shard(logs, 10).endings()
  plain = shard_lib.Shard(demo_dir / 'replay_logs', 10).endings()
  assert set(ends) <= set(np.flatnonzero(endings)) > set(np.flatnonzero(plain))


def test_a_fetched_copy_of_a_recording_is_no_published_data(server, tmp_path):
  returns = {'episodes': [{'first_shard': 10, 'complete': True, 'return': 7}]}
  served = server.root / 'Breakout' / '1'
  (served / shard_folder.EPISODES).write_text(json.dumps(returns))
  for _ in range(2):
    code, _, stderr = fetch(server, tmp_path / 'out')
    assert code == 0, stderr
  run = tmp_path / 'out' / 'Breakout' / '1'
  assert shard_folder.is_own(run)
  assert shard_folder.recorded_returns(run) == {10: [7.0]}


@pytest.mark.parametrize(
  ('trouble', 'sentence'),
  [
    ('truncated', 'the file at the source is truncated'),
    ('unavailable', 'could not be fetched in 6 attempts'),
  ],
)
def test_lasting_trouble_is_one_clear_error(
  server, tmp_path, trouble, sentence
):
  server.trouble, server.left = trouble, 10**6
  code, _, stderr = fetch(server, tmp_path / 'out')
  assert code == 2 and stderr.count('\n') == 1, stderr
  assert sentence in stderr
  server.trouble = None
  assert fetch(server, tmp_path / 'out')[0] == 0
  assert_same(server, tmp_path / 'out')


def test_a_killed_fetch_goes_on_where_it_was(server, tmp_path):
  server.trouble = 'slow'
  out = tmp_path / 'out'
  process = start_fetch(server, out)
  kept = 0
  while kept <= 100_000:
    assert process.poll() is None, process.communicate()
    time.sleep(0.02)
    parts = list(out.rglob('*observation*.partial'))
    kept = sum(path.stat().st_size for path in parts)
  process.send_signal(signal.SIGKILL)
  process.wait()
  kept = sum(path.stat().st_size for path in out.rglob('*.partial'))
  assert kept > 100_000
  server.trouble, server.sent = None, 0
  assert fetch(server, out)[0] == 0
  assert_same(server, out)
  total = sum(path.stat().st_size for path in server.root.rglob('*.gz'))
  assert server.sent <= total - kept
  server.sent = 0
  assert fetch(server, out)[0] == 0
  assert server.sent == 0


@pytest.mark.parametrize('is_of_members', [False, True])
def test_a_prefix_is_all_that_a_split_needs(tmp_path, is_of_members):
  """And no other rows: asking for more is refused, and fetched.

  Frames that are logged while a game goes on are several gzip members.
  """
  source = tmp_path / 'source' / 'Breakout' / '1' / 'replay_logs'
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (2000, 84, 84), np.uint8)
  recorder.write_shard(
    source,
    0,
    [frames],
    rng.integers(0, 3, 2000),
    np.zeros(2000),
    np.zeros(2000),
    add_count=1999,
  )
  if is_of_members:
    (path,) = source.glob('*observation*')
    data = gzip.decompress(path.read_bytes())
    size = 5 * 84 * 84  # A member ends just where a piece of 256 KiB may.
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    path.write_bytes(b''.join(map(gzip.compress, pieces)))
  command = [
    *(sys.executable, '-m', 'cql_atari.fetch', '--game=Breakout'),
    *(f'--source=file://{tmp_path}/source', f'--out={tmp_path}/out'),
  ]
  out, stores = tmp_path / 'out' / 'Breakout' / '1', []

  def opened(split):
    split = split_lib.named_split(split)
    return opening.open_store(
      str(out), 'Breakout', 4, split, str(tmp_path / 'stores')
    )

  for split, rows in (('1pct', 20), ('10pct', 200)):
    subprocess.run([*command, f'--split={split}'], check=True)
    shard = shard_folder.list_shards(out)[0]
    got = shard.path('observation').stat().st_size
    whole = (source / shard.path('observation').name).stat().st_size
    assert got < (rows / 2000 + 0.02) * whole
    stores.append(opened(split))
    np.testing.assert_array_equal(
      stores[-1].read_frames(np.array([0]), rows)[0], frames[:rows]
    )
  # The first one's files are longer now, and its rows the same.
  again = opened('1pct')
  assert again.manifest != stores[0].manifest
  assert again.digest == stores[0].digest != stores[1].digest
  with pytest.raises(
    UserError,
    match=r'holds the first 200 rows of shard 0, but the split reads 1,999: '
    rf'.* --game=Breakout --run=1 --split=all --out={tmp_path}/out '
    rf'--source=file://{tmp_path}/source"',
  ):
    opened('all')
  # A part of a file has no checksum but that of the fetch.
  path = shard.path('observation')
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  elsewhere = {'cache_dir': str(tmp_path / 'others')}
  tenth = split_lib.named_split('10pct')
  with pytest.raises(UserError, match=r'has changed since .*: fetch again'):
    opening.open_store(str(out), 'Breakout', 4, tenth, **elsewhere)
  subprocess.run([*command, '--split=10pct'], check=True)
  mended = opening.open_store(str(out), 'Breakout', 4, tenth, **elsewhere)
  assert mended.digest == stores[1].digest


def test_a_file_that_has_changed_is_fetched_again(server, tmp_path):
  out = tmp_path / 'out'
  assert fetch(server, out)[0] == 0
  path = out / 'Breakout' / '1' / 'replay_logs'
  path /= shard_lib.file_name('observation', SHARDS[0])
  data = bytearray(path.read_bytes())
  data[1000] ^= 1
  path.write_bytes(data)
  status, stdout, _ = fetch(server, out)
  assert status == 0 and '1 file to read' in stdout
  assert_same(server, out)


def test_too_little_room_is_said_before_anything_is_read(server, tmp_path):
  server.trouble = 'huge'
  code, stdout, stderr = fetch(server, tmp_path / 'out')
  assert code == 2 and 'has too little room: free ' in stderr
  assert '12 files to read, as much disk, about 12,000,000,000 MB' in stdout
  assert server.sent == 0
  assert not list((tmp_path / 'out').rglob('*.gz'))


def test_a_failed_fetch_leaves_no_folder(server, tmp_path):
  """An empty one would look like data to a sweep's --dry_run."""
  out = tmp_path / 'out'
  for path in (server.root / 'Breakout' / '1' / 'replay_logs').iterdir():
    path.unlink()
  status, _, stderr = fetch(server, out)
  assert status == 2 and 'holds no shards' in stderr
  assert not (out / 'Breakout').exists()


def test_play_that_was_not_fetched_is_left_alone(server, tmp_path):
  logs = tmp_path / 'Breakout' / '1' / 'replay_logs'
  logs.mkdir(parents=True)
  own = logs / shard_lib.file_name('reward', 10)
  own.write_bytes(b'of a recording')
  status, _, stderr = fetch(server, tmp_path)
  assert status == 2 and 'holds data that was not fetched' in stderr
  assert own.read_bytes() == b'of a recording'


def test_files_of_another_source_are_not_called_complete(server, tmp_path):
  out = tmp_path / 'out'
  assert fetch(server, out)[0] == 0
  record = out / 'Breakout' / '1' / 'replay_logs' / 'fetched.json'
  record.write_text(record.read_text().replace('127.0.0.1', 'elsewhere'))
  status, _, stderr = fetch(server, out)
  assert status == 2 and 'has files of http://elsewhere' in stderr
