"""What is held back from the terminal, and when it comes back."""

import os

import pytest

from cql_atari.core import quiet


def test_threads_that_overlap_leave_stderr_as_it_was(capfd):
  """The first to begin ends first, as one of two threads may."""
  first, second = quiet.quiet(), quiet.quiet()
  first.__enter__()
  second.__enter__()
  os.write(2, b'start-up noise')
  first.__exit__(None, None, None)
  os.write(2, b'more noise')
  second.__exit__(None, None, None)
  os.write(2, b'heard')
  assert capfd.readouterr().err == 'heard'


def test_what_was_held_back_is_shown_when_it_fails(capfd):
  with pytest.raises(ValueError), quiet.quiet():
    os.write(2, b'why')
    raise ValueError
  assert capfd.readouterr().err == 'why'
