"""Fetching D4RL's files from a local server."""

import http.server
import subprocess
import sys
import threading
from unittest import mock

import pytest
from d4rl_files import broken, columns, write

from cql_atari.continuous import datasets
from cql_atari.core import download
from cql_atari.core.errors import UserError


@pytest.fixture
def server(tmp_path):
  """A folder, served over HTTP."""
  folder = tmp_path / 'served'

  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=str(folder))

    def log_message(self, *args):
      del args

  with http.server.ThreadingHTTPServer(('localhost', 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f'http://localhost:{server.server_port}'
    server.shutdown()


def fetch(url, out, task, *flags):
  return subprocess.run(
    [
      sys.executable, '-m', 'cql_atari.fetch', f'--task={task}',
      f'--out={out}', f'--source={url}', *flags,
    ],
    capture_output=True,
    text=True,
  )  # fmt: skip


def test_fetching_checks_mixes_and_notices_changes(server, tmp_path):
  folder, url = server
  (folder / 'gym_mujoco_v2').mkdir(parents=True)
  for name in ('random', 'expert'):
    write(folder / 'gym_mujoco_v2' / f'hopper_{name}-v2.hdf5', columns())
  out = tmp_path / 'out'
  done = fetch(url, out, 'hopper-random-expert')
  assert done.returncode == 0, done.stderr
  mixed = datasets.open_task_data('hopper-random-expert', str(out))
  assert mixed.manifest['rows'] == 80
  made = out / 'hopper-random-expert-v2.hdf5'
  before = made.stat().st_mtime_ns
  assert fetch(url, out, 'hopper-random-expert').returncode == 0
  assert made.stat().st_mtime_ns == before
  write(made, columns(60))
  with pytest.raises(UserError, match='has changed since it was fetched'):
    datasets.open_task_data('hopper-random-expert', str(out))
  # Damage is found when it is trained on, and mended by fetching again.
  expert = out / 'hopper_expert-v2.hdf5'
  expert.write_bytes(expert.read_bytes()[:-500])
  with pytest.raises(UserError, match='fetch or make it anew'):
    datasets.open_task_data('hopper-expert', str(out))
  assert fetch(url, out, 'hopper-expert').returncode == 0
  assert datasets.open_task_data('hopper-expert', str(out))
  changed = out / 'hopper_random-v2.hdf5'
  write(changed, columns(60))
  with pytest.raises(UserError, match='has changed since it was fetched'):
    datasets.open_task_data('hopper-random', str(out))
  other = fetch(url, out, 'hopper-medium', '--split=10pct')
  assert (other.returncode, other.stderr) == (
    2, 'error: --split is of a --game: leave it out.\n'
  )  # fmt: skip
  missing = fetch(url, out, 'hopper-medium')
  assert missing.returncode == 2 and 'has no hopper_medium' in missing.stderr
  write(folder / 'gym_mujoco_v2' / 'hopper_medium-v2.hdf5', broken('NaN'))
  wrong = fetch(url, out, 'hopper-medium')
  assert wrong.returncode == 2 and 'no numbers' in wrong.stderr
  # A user's own file is left as it is.
  (out / 'fetched.json').unlink()
  for own, task in (
    (out / 'hopper_medium-v2.hdf5', 'hopper-medium'),
    (made, 'hopper-random-expert'),
  ):
    own.write_bytes(b'mine')
    refused = fetch(url, out, task)
    assert refused.returncode == 2 and 'was not fetched: move' in refused.stderr
    assert own.read_bytes() == b'mine'


def test_fetching_goes_on_where_it_was_stopped(tmp_path):
  source = download.Source((tmp_path / 'served').as_uri())
  (tmp_path / 'served').mkdir()
  (tmp_path / 'out').mkdir()
  name = 'hopper_medium-v2.hdf5'
  published = write(tmp_path / 'served' / name, columns()).read_bytes()
  came = []

  def stop_after_some(count):
    came.append(count)
    raise KeyboardInterrupt

  with (
    pytest.raises(KeyboardInterrupt),
    mock.patch.object(download, '_WHOLE_CHUNK', 1000),
  ):
    download.fetch_file(
      source, tmp_path / 'out', name, None, stop_after_some, threading.Event()
    )
  assert not (tmp_path / 'out' / name).exists()
  download.fetch_file(
    source, tmp_path / 'out', name, None, came.append, threading.Event()
  )
  assert came == [1000, len(published) - 1000]
  assert (tmp_path / 'out' / name).read_bytes() == published
