"""What every resumable job keeps, whoever does the work."""

import os
import signal

import numpy as np
import pytest

from cql_atari.core.errors import UserError
from cql_atari.replay import published
from cql_atari.runs import checkpoints
from cql_atari.training import job, signals


class Counting(job.Job):
  """Counts, and keeps what it counted."""

  def __init__(self, folder, minutes=1e9, **fixed):
    super().__init__(folder, minutes, {'seed': 0, **fixed}, 'another folder')
    self.counted = np.zeros(0)
    self.resume()

  @property
  def step(self):
    return len(self.counted)

  def place(self):
    return f'count {self.step}'

  def state(self):
    return {'counted': self.counted}, {'name': 'counting'}

  def load_state(self, arrays, data):
    assert data['name'] == 'counting'
    self.counted = arrays['counted']

  def run(self, until, then=lambda step: None):
    with self.working():
      while self.step < until:
        with self.timed():
          self.counted = np.append(self.counted, self.step)
        then(self.step)
        self.pause()


def test_a_job_goes_on_from_its_newest_checkpoint(tmp_path):
  first = Counting(tmp_path)
  first.run(5)
  assert not checkpoints.steps(tmp_path / 'checkpoints')  # It was not time.
  first.save()
  first.run(9)  # And is lost.
  second = Counting(tmp_path)
  assert second.step == 5 and second.wall_seconds > 0
  second.run(7)
  assert second.counted.tolist() == list(range(7))


def test_a_job_that_was_stopped_goes_on_in_the_same_process(tmp_path):
  counting = Counting(tmp_path)
  with pytest.raises(signals.Stopped):
    counting.run(9, lambda step: os.kill(os.getpid(), signal.SIGTERM))
  assert counting.step == 1
  counting.run(9)
  assert counting.step == 9


def test_it_saves_when_it_is_time(tmp_path):
  Counting(tmp_path, minutes=0.0).run(3)
  assert Counting(tmp_path).step == 3


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends(tmp_path, capsys, number):
  def interrupt(step):
    if step == 4:
      os.kill(os.getpid(), number)

  with pytest.raises(signals.Stopped) as end:
    Counting(tmp_path).run(9, interrupt)
  assert end.value.code == 128 + number
  assert 'saved at count 4' in capsys.readouterr().out
  assert Counting(tmp_path).step == 4


def test_a_handler_that_python_did_not_install_becomes_the_default(monkeypatch):
  handlers = {}

  def install(number, handler):
    assert handler is not None  # Else a TypeError.
    handlers[number] = handler

  monkeypatch.setattr(signal, 'signal', install)
  with signals.StopSignal().watch(), published._interrupted_by_sigterm():
    pass
  assert handlers == dict.fromkeys(
    (signal.SIGINT, signal.SIGTERM), signal.SIG_DFL
  )


def test_a_job_of_other_settings_is_refused(tmp_path):
  Counting(tmp_path).save()
  with pytest.raises(UserError, match='began with seed 0, not 1: give that'):
    Counting(tmp_path, seed=1)
  with pytest.raises(
    UserError, match='begun without more, or by another version'
  ):
    Counting(tmp_path, more=3)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
  def full(*args):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(checkpoints, 'save', full)
  with pytest.raises(
    UserError, match=r'No space left .* older checkpoints are'
  ):
    Counting(tmp_path, minutes=0.0).run(2)
