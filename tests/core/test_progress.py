"""Progress where there is no terminal."""

import os
import subprocess
import sys

import tqdm

from cql_atari.core import progress


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
  """How far, how fast, how long still; and nothing at the end."""
  monkeypatch.setattr(progress, '_SECONDS_BETWEEN_LINES', 0.0)
  with progress.bar(4, ' steps', 'iteration 3, training') as bar:
    for _ in range(4):
      bar.set_postfix_str('loss 0.5', refresh=False)
      bar.update()
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 3
  assert lines[1].startswith('iteration 3, training: 2/4 steps, ')
  assert 'steps/s' in lines[1] and lines[1].endswith(' left, loss 0.5')
  assert '\r' not in ''.join(lines)


def test_a_terminal_is_told_at_once_what_is_being_done(tmp_path):
  """Before the seconds that opening the data and TensorFlow take."""
  import pty

  said = {}
  for command in (
    ('train', '--gin_files=cql_demo.gin', f'--base_dir={tmp_path / "run"}'),
    ('collect', '--game=Pong', f'--out={tmp_path}', '--steps=5000'),
  ):
    reads, writes = pty.openpty()
    process = subprocess.Popen(
      [sys.executable, '-m', f'cql_atari.{command[0]}', *command[1:]],
      stderr=writes,
      stdout=subprocess.DEVNULL,
    )
    said[command[0]] = b''
    while b'starting TensorFlow ...' not in said[command[0]]:
      assert process.poll() is None
      said[command[0]] += os.read(reads, 1024)
    process.kill()
    process.wait()
    os.close(reads)
    os.close(writes)
  assert said['train'].startswith(b'opening the data ...')


def test_half_a_minute_lies_between_lines(capsys):
  with progress.bar(10**6, ' steps', 'quick') as bar:
    for _ in range(1000):
      bar.update()
  assert capsys.readouterr().err == ''


def test_a_terminal_gets_a_bar(monkeypatch):
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
  with progress.bar(10, ' steps', 'here') as bar:
    assert type(bar) is tqdm.tqdm
