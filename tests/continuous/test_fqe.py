"""Evaluation of a policy from data alone, plain and conservative."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from continuous_by_hand import (
  BATCH,
  GAMMA,
  SIZE,
  STATES,
  Draws,
  dataset,
  doubles,
  make,
  q_values,
  sample,
)

from cql_atari.continuous.agents import (
  bc_agent,
  fqe_agent,
)
from cql_atari.continuous.sampling import Transition


def test_fitted_q_evaluation_finds_values_by_hand():
  """Any action leads from one state to the other, and there to the end."""
  actions = np.random.default_rng(0).uniform(-1, 1, (400, SIZE))
  both = Transition(
    np.repeat(STATES, 200, axis=0),
    actions,
    np.repeat([1.0, -0.5], 200),
    np.repeat(STATES[::-1], 200, axis=0),
    np.repeat([0.0, 1.0], 200),
  )
  evaluated = make(bc_agent.ContinuousBCAgent)
  with gin.unlock_config():
    gin.bind_parameter('Critic.hidden_units', (32, 32))
  fitted = fqe_agent.ContinuousFQEAgent(evaluated, dataset(both))
  gin.clear_config()
  before = [variable.numpy() for variable in evaluated.policy.layers]
  fitted.train_steps(1500)
  values = fitted.predict_values(np.float32(STATES), np.random.default_rng(0))
  np.testing.assert_allclose(values, [1 - 0.5 * GAMMA, -0.5], atol=0.03)
  for variable, value in zip(evaluated.policy.layers, before):
    np.testing.assert_array_equal(variable, value)


def test_a_policy_of_another_kind_is_evaluated():
  """One of a user's own, of which only `layers` are known."""
  evaluated = make(bc_agent.ContinuousBCAgent)
  del evaluated.policy.hidden_units
  fitted = fqe_agent.ContinuousFQEAgent(evaluated, dataset())
  fitted.train_steps(1)
  assert fitted.gradient_steps == 1


@pytest.mark.parametrize('penalty', ['eq1', 'mu'])
def test_conservative_evaluation_is_eq1_and_eq2_with_the_policy_as_mu(penalty):
  evaluated = make(bc_agent.ContinuousBCAgent)
  evaluated.batch_size = 2
  fitted = fqe_agent.ContinuousFQEAgent(
    evaluated, dataset(), penalty=penalty, alpha=1.5
  )
  fitted.batch_size = 2
  batch = Transition(*(tf.constant(x, tf.float32) for x in BATCH))
  loss, _ = fitted.critic_loss(batch, Draws())
  policy, draws = doubles(evaluated.policy.layers), Draws()
  critic, target = (
    doubles(x.layers) for x in (fitted.critic, fitted.target_critic)
  )

  def q(weights, states, actions):
    return q_values(weights * 2, states, actions)[0]  # There is one critic.

  following, _ = sample(policy, BATCH.next_state, draws.normal(2, SIZE))
  backed_up = BATCH.reward + GAMMA * (1 - BATCH.terminal) * q(
    target, BATCH.next_state, following
  )
  q_data = q(critic, BATCH.state, BATCH.action)
  own, _ = sample(policy, BATCH.state, draws.normal(2, 10, SIZE))
  pushed = q(critic, BATCH.state, own).mean(axis=-1)
  if penalty == 'mu':
    pushed = pushed - q_data
  expected = 0.5 * np.mean((q_data - backed_up) ** 2) + 1.5 * pushed.mean()
  assert float(loss) == pytest.approx(expected, rel=1e-5)
