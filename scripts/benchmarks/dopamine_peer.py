"""Dopamine's own jitted QR-DQN update, beside which ours is timed.

Alone, it is told by `gpu.py` how many steps to take: it reads numbers of steps,
one a line, and prints the seconds that they took. TensorFlow and JAX often want
other CUDA libraries, so it may be of another environment.
"""

import collections
import sys
import time

import jax
import numpy as np

import cql_atari  # noqa: F401  Dopamine then needs no OpenAI Baselines.


def turn_of(batch_size, num_actions, num_quantiles):
  """Takes steps on one batch that is on JAX's device already.

  Args:
    batch_size: transitions, B.
    num_actions: A.
    num_quantiles: N.

  Returns:
    A turn: takes a number of steps, waits for them, and returns the seconds.
  """
  from dopamine.jax import networks
  from dopamine.jax.agents.dqn import dqn_agent
  from dopamine.jax.agents.quantile import quantile_agent

  network = networks.QuantileNetwork(
    num_actions=num_actions, num_atoms=num_quantiles
  )
  rng = np.random.default_rng(0)
  images = [
    rng.integers(0, 256, (batch_size, 84, 84, 4)).astype(np.float32) / 255
    for _ in range(2)
  ]
  params = network.init(jax.random.PRNGKey(0), images[0][0])
  optimizer = dqn_agent.create_optimizer('adam', learning_rate=5e-5)
  state = collections.namedtuple('state', 'params optimizer')
  held = [state(params, optimizer.init(params))]
  states, actions, next_states, rewards, terminals = jax.device_put(
    (
      images[0],
      rng.integers(0, num_actions, batch_size),
      images[1],
      rng.normal(size=batch_size).astype(np.float32),
      np.zeros(batch_size, np.uint8),
    )
  )

  def turn(steps):
    began = time.perf_counter()
    for _ in range(steps):
      optimizer_state, new, _, loss = quantile_agent.train(
        network, held[0].params, params, optimizer, held[0].optimizer, states,
        actions, next_states, rewards, terminals, 1.0, num_quantiles, 0.99,
      )  # fmt: skip
      held[0] = state(new, optimizer_state)
    jax.block_until_ready(loss)
    return time.perf_counter() - began

  return turn


def main():
  """The sizes are arguments: batch, actions, quantiles."""
  turn = turn_of(*map(int, sys.argv[1:]))
  for line in sys.stdin:
    print(turn(int(line)), flush=True)


if __name__ == '__main__':
  main()
