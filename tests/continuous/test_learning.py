"""SAC solves a task online: what all else here stands on learns."""

import gymnasium
import numpy as np
import pytest

from cql_atari.continuous import networks, playing
from cql_atari.continuous.agents import sac_agent
from cql_atari.continuous.sampling import ReplayMemory

STEPS, CALL, SOLVED = 20_000, 50, -200.0


def play(environment, act, seed):
  """One episode; returns its return."""
  state, _ = environment.reset(seed=seed)
  total, over = 0.0, False
  while not over:
    state, reward, _, over, _ = environment.step(2 * act(state))
    total += reward
  return total


@pytest.mark.parametrize(
  'seed', [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))]
)
def test_sac_solves_pendulum(seed):
  environment = gymnasium.make('Pendulum-v1')
  memory = ReplayMemory(STEPS, 3, 1)
  agent = sac_agent.SACAgent(
    memory,
    policy=lambda *sizes: networks.TanhGaussianPolicy(*sizes, (64, 64)),
    critic=lambda *sizes: networks.Critic(*sizes, (64, 64)),
    policy_learning_rate=1e-3,
    critic_learning_rate=1e-3,
    temperature_learning_rate=1e-3,
    batch_size=128,
    sampler=lambda memory: memory,
    seed=seed,
  )
  rng, limits = np.random.default_rng(seed), agent.policy.log_std_range
  state, _ = environment.reset(seed=seed)
  while len(memory) < STEPS:
    weights = [variable.numpy() for variable in agent.policy.layers]
    rows = []
    for _ in range(CALL):
      action = playing.act(weights, state, rng.normal(size=1), limits)
      following, reward, _, over, _ = environment.step(2 * action)
      rows.append((state, action, reward, following, False))
      state = environment.reset()[0] if over else following
    memory.extend(*map(np.array, zip(*rows)))
    agent.train_steps(CALL)
    if len(memory) % 2500 == 0:
      weights = [variable.numpy() for variable in agent.policy.layers]
      returns = [
        play(
          gymnasium.make('Pendulum-v1'),
          lambda state, w=weights: playing.act(w, state, None, limits),
          1000 + episode,
        )
        for episode in range(20)
      ]
      if np.mean(returns) >= SOLVED:
        return
  pytest.fail(f'mean return {np.mean(returns):.0f} after {STEPS} steps')
