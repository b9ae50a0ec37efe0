"""BEAR and BRAC as D4RL ran them, beside the losses that CASES has."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf
from continuous_by_hand import (
  BATCH,
  BEAR,
  BRAC,
  SIZE,
  Draws,
  dataset,
  doubles,
  log_density,
  make_critic,
  mlp,
  q_values,
  sample,
  small_vae,
)

from cql_atari.continuous import networks, tasks
from cql_atari.continuous.agents import (
  bear_agent,
  brac_agent,
)
from cql_atari.continuous.sampling import ReplayMemory, Transition
from cql_atari.core import settings
from cql_atari.core.errors import UserError


def test_vae_loss_is_the_one_worked_by_hand():
  vae = networks.ConditionalVAE(2, SIZE, np.random.SeedSequence(1), (6,))
  noise = Draws().normal(2, 2 * SIZE)
  found = vae.loss(
    tf.constant(BATCH.state, tf.float32),
    tf.constant(BATCH.action, tf.float32),
    noise,
  )
  weights = doubles(vae.layers)
  encoder, decoder = weights[: len(weights) // 2], weights[len(weights) // 2 :]
  inputs = np.concatenate([BATCH.state, BATCH.action], axis=-1)
  mean, log_std = np.split(mlp(encoder, inputs), 2, axis=-1)
  latent = mean + np.exp(log_std) * noise
  decoded = np.tanh(mlp(decoder, np.concatenate([BATCH.state, latent], -1)))
  divergence = -0.5 * (1 + 2 * log_std - mean**2 - np.exp(2 * log_std)).mean()
  expected = ((decoded - BATCH.action) ** 2).mean() + 0.5 * divergence
  assert float(found) == pytest.approx(expected, rel=1e-5)


def test_bear_plays_the_best_of_its_policys_actions():
  """Its values are of the best of as many as its targets take."""
  agent = make_critic(bear_agent.BEARAgent, **{**BEAR, 'num_samples': 64})
  states = np.repeat(BATCH.state.astype(np.float32), 2, axis=0)
  chosen = agent.sample_actions(states, np.random.default_rng(0))
  noise = np.random.default_rng(0).standard_normal(
    (len(states), 64, SIZE), np.float32
  )
  actions, _ = sample(doubles(agent.policy.layers), states, noise)
  values = q_values(doubles(agent.critic.layers), states, actions)
  mixed = 0.75 * values.min(axis=0) + 0.25 * values.max(axis=0)
  best = actions[np.arange(len(states)), mixed.argmax(axis=1)]
  np.testing.assert_allclose(chosen, best, rtol=1e-4, atol=1e-5)
  predicted = agent.predict_values(states, np.random.default_rng(0))
  np.testing.assert_allclose(predicted, mixed.max(axis=1), rtol=1e-4, atol=1e-5)
  played = agent.select_actions(states, np.random.default_rng(0))
  noise = np.random.default_rng(0).standard_normal((4, 100, SIZE), np.float32)
  actions, _ = sample(doubles(agent.policy.layers), states, noise)
  first = q_values(doubles(agent.critic.layers), states, actions)[0]
  best = actions[np.arange(len(states)), first.argmax(axis=1)]
  np.testing.assert_allclose(played, best, rtol=1e-4, atol=1e-5)


def test_bears_kernel_is_d4rls_for_the_task_and_its_multiplier_has_bounds():
  kernels = {}
  for domain in ('hopper', 'walker2d', 'halfcheetah'):
    data = dataclasses.replace(dataset(), task=tasks.task(f'{domain}-medium'))
    agent = bear_agent.BEARAgent(data, behavior=small_vae)
    kernels[domain] = agent.kernel
  assert kernels == {
    'hopper': 'laplacian', 'walker2d': 'laplacian', 'halfcheetah': 'gaussian'
  }  # fmt: skip
  agent = make_critic(
    bear_agent.BEARAgent, **BEAR, multiplier_learning_rate=100.0
  )
  for mmd, bound in ((0.3, 10.0), (0.0, -5.0)):
    for _ in range(30):  # Adam's first moment turns slowly.
      agent.after_step({'mmd': tf.constant(mmd)})
    assert float(agent._multiplier.value) == pytest.approx(np.exp(bound))


@pytest.mark.parametrize('kind', [bear_agent.BEARAgent, brac_agent.BRACAgent])
def test_what_stays_near_data_says_what_to_type_without_them(kind):
  with pytest.raises(UserError, match='collect with --init_from=RUN'):
    kind(ReplayMemory(10, 3, 1), sampler=lambda memory: memory)


def test_configs_have_d4rls_settings():
  expected = {
    'bear': {
      'BEARAgent.bandwidth': 20.0,
      'BEARAgent.threshold': 0.05,
      'BEARAgent.warmup_steps': 40_000,
      'Critic.hidden_units': (256, 256),
      'TanhGaussianPolicy.hidden_units': (256, 256),
      'ContinuousAgent.policy_learning_rate': 1e-4,
      'SACAgent.critic_learning_rate': 3e-4,
    },
    'brac_v': {
      'BRACAgent.alpha': 1.0,
      'BRACAgent.behavior_steps': 10**6,
      'BRACAgent.warmup_steps': 20_000,
      'Critic.hidden_units': (300, 300),
      'TanhGaussianPolicy.hidden_units': (200, 200),
      'TanhGaussianPolicy.log_std_range': (-5.0, 0.0),
      'ContinuousAgent.policy_learning_rate': 3e-5,
      'SACAgent.critic_learning_rate': 1e-3,
    },
  }
  settings.import_all()
  for name, values in expected.items():
    gin.clear_config()
    settings.parse([f'd4rl/{name}.gin'], [], lock=True)
    for key, value in values.items():
      assert gin.query_parameter(key) == value, key
  gin.clear_config()
  # The rest are the classes' own: log deviations of BEAR's policy, the numbers
  # of its samples, its multiplier's rate.
  agent = make_critic(bear_agent.BEARAgent, behavior=small_vae)
  assert agent.policy.log_std_range == (-5.0, 2.0)
  assert (agent.mmd_samples, agent.num_samples, agent.play_samples) == (
    4, 10, 100
  )  # fmt: skip
  assert agent.least_weight == 0.75 and agent.warmup_steps == 40_000


def test_bracs_clone_is_fitted_as_worked_by_hand():
  agent = make_critic(brac_agent.BRACAgent, **BRAC)
  states, actions = (
    tf.constant(x, tf.float32) for x in (BATCH.state, BATCH.action)
  )
  noise = Draws().normal(2, SIZE)
  actions = tf.concat([actions[:1], [[1.0, -1.0]]], axis=0)
  loss, entropy = agent.cloning.loss(states, actions, noise)
  weights = doubles(agent.behavior.layers)
  inside = np.clip(actions.numpy().astype(float), -0.999, 0.999)
  _, drawn = sample(weights, BATCH.state, noise)
  expected = (drawn - log_density(weights, BATCH.state, inside)).mean()
  assert float(entropy) == pytest.approx(-drawn.mean(), rel=1e-5)
  assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_bracs_clone_comes_first_and_then_stays():
  agent = make_critic(brac_agent.BRACAgent, **BRAC)
  assert agent.pretraining_left == 3
  agent.pretrain_steps(2)
  assert agent.pretraining_left == 1
  agent.train_steps(1)  # Takes the last one first.
  assert (agent.pretraining_left, agent.gradient_steps) == (0, 1)
  before = doubles(agent.behavior.layers)
  agent.train_steps(2)
  for x, y in zip(before, doubles(agent.behavior.layers)):
    np.testing.assert_array_equal(x, y)


def test_bracs_cloning_ends_once_it_gains_nothing():
  """Gaussian actions of known entropy: nothing is left to gain then."""
  rng, count = np.random.default_rng(0), 4000
  states = rng.normal(size=(count, 2))
  noise = rng.normal(size=(count, SIZE))
  actions = np.tanh(states @ [[0.5, 0.0], [0.0, -0.5]] + 0.1 * noise)
  ones = np.ones(count)
  agent = make_brac(Transition(states, actions, ones, states, ones))
  agent.pretrain_steps(10**6)
  steps = int(agent.cloning.saved()['behavior_steps_0'])
  assert 1000 < steps < 10_000 and agent.pretraining_left == 0
  best = log_slopes(actions).mean() - SIZE * (
    0.5 * np.log(2 * np.pi * np.e) + np.log(0.1)
  )
  told = -float(agent.cloning.held_out_loss)
  assert told == pytest.approx(best, abs=0.1)


def make_brac(transitions):
  return brac_agent.BRACAgent(
    dataset(transitions),
    policy=lambda *sizes: networks.TanhGaussianPolicy(*sizes, (16,)),
    behavior_learning_rate=3e-3,
    behavior_check_period=500,
  )


def log_slopes(actions):
  return -np.log(1 - actions**2).sum(axis=-1)
