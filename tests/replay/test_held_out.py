"""Games that are kept from learning, and what an agent says of them."""

import csv
import shutil

import numpy as np
import pytest

import cql_atari
from cql_atari.core.errors import UserError
from cql_atari.replay import opening, sampler, split


@pytest.fixture(scope='module')
def store(demo_dir, tmp_path_factory):
  return opening.open_store(
    demo_dir,
    split=split.Split(shards=(10, 21)),
    cache_dir=str(tmp_path_factory.mktemp('stores')),
  )


def games_of(store, rows):
  """The number of the game that each row is of, by walking."""
  game, numbers = 0, []
  starts = {int(start) for start, _ in store.segments}
  for row in range(store.manifest['num_rows']):
    game += row in starts
    numbers.append(game)
    game += bool(store.terminals[row])
  return np.array(numbers)[rows]


@pytest.mark.parametrize('update_horizon', [1, 3])
def test_whole_games_are_held_out_and_never_sampled(store, update_horizon):
  whole = store.valid_transitions(update_horizon)
  learned = [
    sampler.TransitionSampler(
      store, 32, update_horizon, seed=seed, held_out=0.2
    )
    for seed in (0, 1)
  ]
  np.testing.assert_array_equal(learned[0].valid, learned[1].valid)
  kept = np.setdiff1d(whole, learned[0].valid)
  assert 0.2 <= len(kept) / len(whole) < 0.35
  assert not set(games_of(store, kept)) & set(games_of(store, learned[0].valid))
  assert np.isin(learned[0].held_out_rows, kept).all()
  assert len(learned[0].held_out_rows) == min(len(kept), 1024)
  drawn = learned[1].sample_rows(0, 400).ravel()
  assert not np.isin(drawn, kept).any()


def test_nothing_is_held_out_unless_asked(store):
  plain = sampler.TransitionSampler(store)
  np.testing.assert_array_equal(plain.valid, store.valid_transitions())
  assert not len(plain.held_out_rows)
  agent = cql_atari.CQLAgent(store)
  assert agent.held_out_scalars() == {} and agent.held_out_names == ()


def test_too_large_a_share_is_told(store):
  with pytest.raises(UserError, match='lower it, or take more data'):
    _ = sampler.TransitionSampler(store, held_out=0.9999).valid


def test_single_transitions_are_of_no_game(demo_dir, tmp_path):
  drawn = opening.open_store(
    demo_dir,
    split=split.Split(0.1, shards=(10, 13), convention='uniform'),
    cache_dir=str(tmp_path),
  )
  with pytest.raises(UserError, match='take another convention'):
    _ = sampler.TransitionSampler(drawn, held_out=0.2).valid


def test_the_metrics_are_what_their_names_say(tmp_path):
  """Against the run's own agent, transition by transition."""
  folder = cql_atari.fit(
    tmp_path / 'run',
    'cql_demo.gin',
    parameters={
      'TransitionSampler.held_out': 0.2,
      'Split.shards': (10, 13),
      'FixedReplayRunner.num_iterations': 1,
      'FixedReplayRunner.training_steps': 30,
      'FixedReplayRunner.evaluation_steps': 0,
      'open_store.cache_dir': str(tmp_path / 'cache'),
    },
  )
  with open(folder.path / 'metrics.csv') as file:
    (row,) = csv.DictReader(file)
  # Without it, the run goes on, and its table stays whole.
  folder_after = cql_atari.fit(
    shutil.copytree(folder.path, tmp_path / 'after'),
    'cql_demo.gin',
    parameters={
      'Split.shards': (10, 13),
      'FixedReplayRunner.num_iterations': 2,
      'FixedReplayRunner.training_steps': 30,
      'FixedReplayRunner.evaluation_steps': 0,
      'open_store.cache_dir': str(tmp_path / 'cache'),
    },
  )
  assert folder_after.metrics()['gradient_steps'].tolist() == [30, 60]
  run = cql_atari.TrainedRun(folder.path)
  agent, errors, matches, values = run.agent, [], [], []
  assert folder.record['settings']['TransitionSampler.held_out'] == 0.2
  for index in agent.sampler.held_out_rows:
    state = run.data.read_frames(np.array([index - 3]), 5)[0]
    here, following = (
      agent.predict_q_values(state[part].transpose(1, 2, 0)[None])[0]
      for part in (slice(0, 4), slice(1, 5))
    )
    is_over = run.data.terminals[index] == 1
    target = run.data.rewards[index] + (
      0 if is_over else 0.99 * following.max()
    )
    errors.append((here[run.data.actions[index]] - target) ** 2)
    matches.append(here.argmax() == run.data.actions[index])
    values.append(here.max())
  assert float(row['held_out_td_error']) == pytest.approx(
    np.mean(errors), rel=1e-3
  )
  assert float(row['held_out_match']) == pytest.approx(np.mean(matches))
  assert float(row['held_out_value']) == pytest.approx(
    np.mean(values), rel=1e-3, abs=1e-5
  )
