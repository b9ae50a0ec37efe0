"""What the wrapper writes of any agent's play, and what it refuses."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium_atari import preprocessed

from cql_atari.core.errors import BusyError, UserError
from cql_atari.replay import episodes as episodes_lib
from cql_atari.replay import opening, record_replay, shard_folder
from cql_atari.replay.frames import newest_frames
from cql_atari.training import rom_check


def test_a_wrapper_records_what_another_agent_plays(tmp_path):
  """Whole games, on the data's ROM; raw scores below a wrapper that clips."""
  run = tmp_path / 'Breakout' / '1'
  env = record_replay.RecordReplay(preprocessed(), run, rows_per_shard=300)
  outer = gymnasium.wrappers.FrameStackObservation(
    gymnasium.wrappers.ClipReward(env, -0.5, 0.5), 4
  )
  rng, scores, played = np.random.default_rng(1), [], 0
  while len(scores) < 3:
    outer.reset(seed=len(scores))
    score, ended = 0.0, False
    while not ended:
      *_, reward, terminated, truncated, _ = outer.step(int(rng.integers(4)))
      score, ended = score + 2 * reward, terminated or truncated
      played += 1
    scores.append(score)
  outer.reset()
  outer.step(1)
  outer.close()
  store = opening.open_store(run, cache_dir=str(tmp_path / 'cache'))
  endings = store.terminals[store.terminals > 0].tolist()
  assert endings == [1, 1, 1, episodes_lib.CUT_OFF]
  assert store.manifest['num_rows'] == played + 1 + 4 * 3 + 1
  assert rom_check.start_difference(store) == 0.0
  assert store.manifest['behavior_return']['mean'] == pytest.approx(
    np.mean(scores)
  )
  outer.close()  # Once more: nothing happens.
  again = opening.open_store(run, cache_dir=str(tmp_path / 'again'))
  np.testing.assert_array_equal(again.terminals, store.terminals)
  with pytest.raises(UserError, match='holds data already'):
    record_replay.RecordReplay(preprocessed(), run)
  with pytest.raises(UserError, match=r'give \(84, 84\), alone or stacked'):
    newest_frames(np.zeros((1, 96, 96, 3), np.uint8), 'it')


@pytest.mark.parametrize(
  ('settings', 'sentence'),
  [
    ({'frameskip': 1}, 'shows every 1 frames, .* AtariPreprocessing below'),
    ({'frameskip': 2}, 'shows every 2 frames'),
    ({'frameskip': (2, 5)}, r'shows every \(2, 5\) frames'),
    ({'frameskip': 4, 'full_action_space': True}, 'full_action_space=False'),
  ],
)
def test_a_wrapper_refuses_what_a_recording_cannot_tell(
  tmp_path, settings, sentence
):
  env = gymnasium.make('ALE/Breakout-v5', **settings)
  with pytest.raises(UserError, match=sentence):
    record_replay.RecordReplay(env, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('settings', 'sentence'),
  [
    ({'frame_skip': 2}, 'shows every 2 frames'),
    ({'terminal_on_life_loss': True}, 'terminal_on_life_loss=False'),
  ],
)
def test_a_wrapper_refuses_what_preprocessing_below_it_loses(
  tmp_path, settings, sentence
):
  env = gymnasium.make('ALE/Breakout-v5', frameskip=1)
  env = gymnasium.wrappers.AtariPreprocessing(env, **settings)
  with pytest.raises(UserError, match=sentence):
    record_replay.RecordReplay(env, tmp_path / 'run')


def test_a_wrapper_knows_stable_baselines_episodes_of_one_life(tmp_path):
  kind = type('EpisodicLifeEnv', (gymnasium.Wrapper,), {})  # By its name.
  with pytest.raises(UserError, match='terminal_on_life_loss=False'):
    record_replay.RecordReplay(kind(preprocessed()), tmp_path / 'run')


def test_a_wrapper_refuses_clipped_rewards(tmp_path):
  env = gymnasium.wrappers.ClipReward(preprocessed(), -1, 1)
  with pytest.raises(UserError, match='clips rewards'):
    record_replay.RecordReplay(env, tmp_path / 'run')


def test_a_wrapper_refuses_rewards_that_are_none(tmp_path):
  class Broken(gymnasium.Wrapper):
    def step(self, action):
      observation, _, *others = super().step(action)
      return observation, np.nan, *others

  env = record_replay.RecordReplay(Broken(preprocessed()), tmp_path / 'run')
  env.reset()
  with pytest.raises(UserError, match='gave the reward nan'):
    env.step(1)
  env.close()


def test_a_recording_tells_its_game_whatever_its_folder(tmp_path):
  run = tmp_path / 'run'
  env = record_replay.RecordReplay(preprocessed(), run, rows_per_shard=100)
  env.reset()
  for _ in range(150):
    env.step(1)
  env.close()
  assert shard_folder.game_of(run) == 'Breakout'
  with pytest.raises(UserError, match='holds play of Breakout'):
    opening.open_store(str(run), game='Pong')


def test_a_wrapper_refuses_the_folder_of_another_game(tmp_path):
  run = tmp_path / 'Pong' / '1'
  with pytest.raises(UserError, match='give data/Breakout/1'):
    record_replay.RecordReplay(preprocessed(), run)
  assert not run.exists()


def test_the_end_of_a_program_ends_its_recording(tmp_path):
  run = tmp_path / 'Breakout' / '1'
  program = f"""
import ale_py, gymnasium
import cql_atari
gymnasium.register_envs(ale_py)
env = gymnasium.make('ALE/Breakout-v5', frameskip=1)
env = gymnasium.wrappers.AtariPreprocessing(env, noop_max=0)
env = cql_atari.RecordReplay(env, {str(run)!r}, rows_per_shard=100)
env.reset(seed=0)
for _ in range(30):
  env.step(1)
raise RuntimeError('a mistake of the agent')
"""
  ended = subprocess.run([sys.executable, '-c', program], capture_output=True)
  assert b'a mistake of the agent' in ended.stderr
  store = opening.open_store(run, cache_dir=str(tmp_path / 'cache'))
  assert store.manifest['num_rows'] == 3 + 30 + 1  # Padding before and after.


def test_two_environments_do_not_record_into_one_folder(tmp_path):
  first = record_replay.RecordReplay(preprocessed(), tmp_path / 'run')
  with pytest.raises(BusyError, match='another process is recording'):
    record_replay.RecordReplay(preprocessed(), tmp_path / 'run')
  first.close()


def test_small_shares_and_folders_above_runs_are_told(tmp_path, caplog):
  run = tmp_path / 'data' / 'Breakout' / '1'
  env = record_replay.RecordReplay(preprocessed(), run)
  env.reset()
  for _ in range(30):
    env.step(1)
  env.reset()
  with pytest.raises(UserError, match=r'RecordReplay.s env.close\(\)'):
    opening.open_store(run, 'Breakout')
  env.close()
  for folder in (tmp_path / 'data', run.parent):
    with pytest.raises(UserError, match=f'{run} does: give that'):
      opening.open_store(folder, 'Breakout')
  for name, warnings in (('1pct', 1), (0.01, 1), ('all', 0), (1, 0)):
    caplog.clear()
    opening.open_store(
      run,
      split=name,
      cache_dir=str(tmp_path / 'cache'),
    )
    told = [r for r in caplog.messages if 'Split.fraction=1.0' in r]
    assert len(told) == warnings


@pytest.mark.parametrize(
  ('wrap', 'sentence'),
  [
    (lambda env: gymnasium.wrappers.TransformReward(env, np.sign), 'Transform'),
    (gymnasium.wrappers.Autoreset, 'put Autoreset above'),
  ],
)
def test_a_wrapper_refuses_others_below_it(tmp_path, wrap, sentence):
  with pytest.raises(UserError, match=sentence):
    record_replay.RecordReplay(wrap(preprocessed()), tmp_path / 'run')


def test_a_wrapper_takes_rows_as_numpy_counts_them(tmp_path):
  with pytest.raises(UserError, match='rows_per_shard is 5'):
    record_replay.RecordReplay(preprocessed(), tmp_path / 'few', 5)
  run = tmp_path / 'run'
  env = record_replay.RecordReplay(preprocessed(), run, np.int64(100))
  env.reset(seed=0)
  for _ in range(250):
    if any(env.step(1)[2:4]):
      env.reset()
  env.close()
  store = opening.open_store(run, cache_dir=str(tmp_path / 'cache'))
  assert store.manifest['num_rows'] > 250
