import dataclasses

import numpy as np
import pytest
from dopamine.discrete_domains import atari_lib
from scipy import stats

from cql_atari.core.errors import UserError
from cql_atari.environments import atari
from cql_atari.replay import games
from cql_atari.training import rom_check


@pytest.mark.parametrize('game', ['Pong', 'Breakout', 'Freeway', 'Seaquest'])
def test_frames_rewards_and_ends_equal_dopamines(game):
  """Without stickiness, bit for bit, over several games of random play."""
  theirs = atari_lib.create_atari_environment(game, sticky_actions=False)
  ours = atari.AtariEnvironments(game, 2, sticky_actions=False)
  frame, states, ends = theirs.reset(), ours.reset(seed=0), 0
  assert not states[..., :3].any()
  expected = np.zeros((84, 84, 4), np.uint8)
  expected[..., 3:] = frame
  rng = np.random.default_rng(0)
  for action in rng.integers(theirs.action_space.n, size=2500):
    np.testing.assert_array_equal(states[0], expected)
    np.testing.assert_array_equal(states[1], expected)
    frame, reward, over, _ = theirs.step(int(action))
    states, rewards, ended = ours.step(np.array([action, action]))
    assert (rewards == reward).all()
    assert (ended == over).all()
    if over:
      ends += 1
      frame, expected = theirs.reset(), np.zeros_like(expected)
    expected = np.concatenate([expected[..., 1:], frame], axis=-1)
  assert ends >= 1


@pytest.mark.slow
def test_stickiness_is_dopamines_in_distribution():
  """Pong's screen after six agent steps, over 80 and 150 tries.

  Each emulator frame repeats the action before with probability 1/4, so the
  paddle ends up in one of a few places, each with its own frequency.
  """
  actions = (0, 0, 2, 0, 2, 2)

  def ours(seeds, **settings):
    env, screens = atari.AtariEnvironments('Pong', 40, **settings), []
    for seed in seeds:  # A reset loads 40 emulators anew, which takes seconds.
      env.reset(seed)
      for action in actions:
        states, _, _ = env.step(np.full(40, action))
      screens.append(states[..., -1].reshape(40, -1).sum(1, dtype=np.int64))
    return np.concatenate(screens)

  def theirs():
    env, screens = atari_lib.create_atari_environment('Pong'), []
    env.environment.reset(seed=0)
    for _ in range(150):
      env.reset()
      for action in actions:
        frame, _, _, _ = env.step(action)
      screens.append(frame.sum(dtype=np.int64))
    return np.array(screens)

  samples = ours(range(2)), theirs()
  values = np.unique(np.concatenate(samples))
  table = np.array([[np.sum(x == v) for v in values] for x in samples])
  frequent = table.sum(axis=0) >= 8
  assert frequent.sum() >= 3
  assert stats.chi2_contingency(table[:, frequent]).pvalue > 1e-3
  assert len(np.unique(ours([0], sticky_actions=False))) == 1


@pytest.mark.parametrize('game', ['Breakout', 'Freeway'])
def test_the_same_seed_plays_the_same_games(game):
  """Also in emulators that were stopped in the middle of other games."""
  env = atari.AtariEnvironments(game, 3)

  def play(seed):
    rng = np.random.default_rng(0)
    total = [env.reset(seed)]
    for _ in range(200):
      total.append(env.step(rng.integers(3, size=3))[0])
    return np.stack(total)

  first = play(1)
  np.testing.assert_array_equal(first, play(1))
  assert (first != play(2)).any()
  assert (first[:, 0] != first[:, 1]).any()


def test_games_are_cut_off_at_the_step_limit():
  env = atari.AtariEnvironments('Pong', 2, max_steps_per_episode=50)
  env.reset(0)
  ends = [env.step(np.zeros(2))[2].tolist() for _ in range(100)]
  assert [i for i, e in enumerate(ends) if any(e)] == [49, 99]


def test_names_are_dopamines():
  assert games.rom_name('MsPacman') == 'ms_pacman'
  assert games.rom_name('Qbert') == 'qbert'
  assert games.num_actions('Pong') == 6
  assert games.num_actions('Seaquest') == 18
  with pytest.raises(UserError, match='did you mean Breakout'):
    games.rom_name('Brekout')
  with pytest.raises(UserError, match='did you mean Pong'):
    games.rom_name('pong')


@pytest.fixture
def other_roms(tmp_path):
  """A folder with a ROM of Breakout that is not ALE's: its colours differ."""
  rom = bytearray(games.rom_path('Breakout').read_bytes())
  rom[0x7F0] ^= 0xF6
  (tmp_path / 'breakout.bin').write_bytes(rom)
  return str(tmp_path)


def test_other_roms_are_played_and_told_from_the_datas(demo_store, other_roms):
  assert rom_check.start_difference(demo_store) == 0.0
  assert rom_check.start_difference(demo_store, other_roms) > 0.01
  assert games.num_actions('Breakout', other_roms) == 4
  with pytest.raises(UserError, match=r'no ROM of Pong: expected .*pong\.bin'):
    atari.AtariEnvironments('Pong', rom_dir=other_roms)


@pytest.mark.parametrize('actions', [[6, 0], [0, -1]])
def test_actions_the_game_has_not_are_refused(actions):
  """On one of these ALE's threads would never come back."""
  env = atari.AtariEnvironments('Pong', 2)
  env.reset(0)
  with pytest.raises(ValueError, match=r'not all in \[0, 6\)'):
    env.step(np.array(actions))
  assert env.step(np.array([5, 0]))[0].shape == (2, 84, 84, 4)


def test_data_of_another_action_set_are_refused(demo_store):
  manifest = {**demo_store.manifest, 'num_actions': 18}
  store = dataclasses.replace(demo_store, manifest=manifest)
  with pytest.raises(UserError, match='the data have 18 actions, but Breakout'):
    rom_check.check(store, atari.AtariEnvironments('Breakout'))


def test_no_ops_are_named_as_a_cause(demo_store, other_roms, caplog):
  environments = atari.AtariEnvironments('Breakout', rom_dir=other_roms)
  rom_check.check(demo_store, environments)
  assert 'another ROM, or after no-op actions (noop_max)' in caplog.text
