"""Progress where there is no terminal."""

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


def test_half_a_minute_lies_between_lines(capsys):
  with progress.bar(10**6, ' steps', 'quick') as bar:
    for _ in range(1000):
      bar.update()
  assert capsys.readouterr().err == ''


def test_a_terminal_gets_a_bar(monkeypatch):
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
  with progress.bar(10, ' steps', 'here') as bar:
    assert type(bar) is tqdm.tqdm
