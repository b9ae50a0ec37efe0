"""Rules for stopping, on numbers whose answer is plain."""

import math
import types

import numpy as np
import pytest

from cql_atari.agents import dqn_agent, fqe_agent
from cql_atari.agents.fixed_replay_agent import Outputs
from cql_atari.analysis import selection
from cql_atari.core.errors import DivergedError


def made(scores, points=True, **numbers):
  unknown = np.full(len(scores), math.nan)
  return selection.Candidates(
    np.arange(1, len(scores) + 1) * 100,
    np.array(scores, float),
    {rule: np.array(numbers.get(rule, unknown)) for rule in selection.RULES},
    2.0 * np.array(scores) if points else unknown,
  )


def test_rules_keep_the_greatest_and_are_judged_by_the_score():
  run = made(
    [0.0, 10.0, 5.0],
    last=[100.0, 200.0, 300.0],
    fqe=[1.0, 3.0, 2.0],
    q_data=[9.0, 8.0, 7.0],
  )
  assert [run.chosen(r) for r in ('last', 'fqe', 'q_data')] == [2, 1, 0]
  assert [run.regret(r) for r in ('last', 'fqe', 'q_data')] == [0.5, 0.0, 1.0]
  assert run.chosen('cql_penalty') is run.regret('cql_penalty') is None
  assert [run.points_lost(r) for r in ('last', 'fqe')] == [10.0, 0.0]
  flat = made([2.0, 2.0], points=False, last=[100.0, 200.0])
  assert flat.regret('last') == 0.0 and flat.points_lost('last') is None
  # A random one of 0, 10 and 5 has regret 1, 0 or 1/2.
  assert run.random_regret == 0.5
  judged = selection.judge([run, flat])
  last, fqe = judged['last'], judged['fqe']
  assert last.regrets.tolist() == last.of_last.tolist() == [0.5, 0.0]
  assert last.of_any.tolist() == [0.5, 0.0]
  assert last.points_lost.tolist() == [10.0]
  assert (fqe.regrets.tolist(), fqe.of_last.tolist()) == ([0.0], [0.5])
  assert len(judged['cql_penalty'].regrets) == 0


def test_fitted_q_evaluation_backs_up_the_policy_it_is_of(demo_store):
  evaluated = dqn_agent.FixedReplayDQNAgent(demo_store, seed=5)
  fitted = fqe_agent.FQEAgent(evaluated, demo_store, seed=1)
  batch = next(fitted.sampler.batches(0))
  target = fitted.target_network(batch.next_state)
  online = fitted.online_network(batch.state)
  chosen = fitted.next_selector(batch, target)
  loss, _ = fitted.loss(Outputs(online, target, chosen, None, 0), batch)
  actions = evaluated.online_network(batch.next_state).numpy().argmax(axis=1)
  rows = np.arange(32)
  goes_on = 1.0 - batch.terminal.numpy()
  backed_up = batch.reward + 0.99 * goes_on * target.numpy()[rows, actions]
  error = abs(backed_up - online.numpy()[rows, batch.action])
  huber = np.where(error <= 1, error**2 / 2, error - 0.5)
  assert loss.numpy() == pytest.approx(huber.mean(), rel=1e-5)
  states = batch.state.numpy()
  own = evaluated.online_network(states).numpy().argmax(axis=1)
  np.testing.assert_allclose(
    fitted.predict_values(states, None),
    online.numpy()[rows, own],
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize('penalty', ['eq1', 'mu'])
def test_conservative_evaluation_is_eq1_and_eq2_with_the_policy_as_mu(
  demo_store, penalty
):
  evaluated = dqn_agent.FixedReplayDQNAgent(demo_store, seed=5)
  fitted = fqe_agent.FQEAgent(
    evaluated, demo_store, seed=1, penalty=penalty, alpha=3.0
  )
  batch = next(fitted.sampler.batches(0))
  target = fitted.target_network(batch.next_state)
  online = fitted.online_network(batch.state)
  chosen = fitted.next_selector(batch, target)
  reference = fitted.reference(batch)
  loss, _ = fitted.loss(Outputs(online, target, chosen, reference, 0), batch)
  rows, q_values = np.arange(32), online.numpy().astype(np.float64)

  def policy(states):
    return evaluated.online_network(states).numpy().argmax(axis=1)

  backed_up = target.numpy()[rows, policy(batch.next_state)]
  backed_up = batch.reward + 0.99 * (1.0 - batch.terminal.numpy()) * backed_up
  q_data = q_values[rows, batch.action]
  pushed = q_values[rows, policy(batch.state)]
  if penalty == 'mu':
    pushed = pushed - q_data
  expected = 3.0 * pushed.mean() + 0.5 * np.mean((q_data - backed_up) ** 2)
  assert loss.numpy() == pytest.approx(expected, rel=1e-5)
  before = [v.numpy() for v in evaluated.online_network.trainable_variables]
  fitted.train_steps(2)
  for x, y in zip(before, evaluated.online_network.trainable_variables):
    np.testing.assert_array_equal(x, y)


def test_an_evaluation_that_diverges_cannot_tell(caplog):
  def diverge(*arguments):
    raise DivergedError('the loss is nan')

  fitted = types.SimpleNamespace(
    state=dict, load_state=lambda state: None, train_steps=diverge
  )
  run = types.SimpleNamespace(
    fitted_q=lambda seed: fitted, gradient_steps=300,
    folder=types.SimpleNamespace(path='runs/0'),
  )  # fmt: skip
  evaluate = selection._evaluation(run, 10, 0)
  assert math.isnan(evaluate(None, None))
  assert 'runs/0, checkpoint 300: fitted Q evaluation diverged' in caplog.text


def test_first_states_have_blank_frames_before_them(demo_store):
  states = demo_store.initial_states(10)
  assert len(states) and (states[..., :3] == 0).all() and states[..., 3].any()
  drawn = demo_store.sample_states(50, np.random.default_rng(0))
  assert drawn.shape == (50, 84, 84, 4) and drawn.any(axis=(1, 2, 3)).all()
  np.testing.assert_array_equal(
    demo_store.learned_rewards(np.array([-3.0, 0.5, 7.0])), [-1, 0.5, 1]
  )


def test_rules_read_the_columns_of_metrics_with_their_sign():
  metrics = {
    'gradient_steps': np.array([100.0, 200.0, 300.0]),
    'eval_return_mean': np.array([1.0, 3.0, 2.0]),
    'q_data': np.array([5.0, 6.0, 7.0]),
    'held_out_td_error': np.array([0.2, 0.1, 0.4]),
  }
  run = types.SimpleNamespace(
    steps=[100, 200, 300],
    name='Pong',
    load=lambda step: None,
    agent=types.SimpleNamespace(
      has_values=True, predict_values=lambda states, rng: np.zeros(len(states))
    ),
    data=types.SimpleNamespace(initial_states=lambda most: np.zeros((2, 1))),
    benchmark=types.SimpleNamespace(normalized=lambda name, scores: None),
  )
  of_run = selection.candidates(run, metrics, fqe_steps=0, seed=0)
  assert of_run.chosen('held_out_td_error') == 1
  assert of_run.chosen('q_data') == 2
  assert of_run.chosen('cql_penalty') is None  # The run has no such column.
  run.agent.has_values = False
  of_run = selection.candidates(run, metrics, fqe_steps=0, seed=0)
  assert of_run.chosen('q_data') is None
