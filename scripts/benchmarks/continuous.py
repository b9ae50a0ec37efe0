"""CQL(H)'s gradient steps per second on continuous control, against d3rlpy's.

  python scripts/benchmarks/continuous.py --d3rlpy_python=PEER_ENV/bin/python

Both take turns in one run, in random order: batches of 256 of 17 numbers a
state and 6 an action, three layers of 256, 10 action samples of each kind. Ours
samples its batches from a dataset; d3rlpy's has one that is in memory. A third
contender computes the step's matrix products and nothing else.
"""

import itertools
import time

import numpy as np
import turns as turns_lib

from cql_atari.continuous import datasets, tasks
from cql_atari.core import command, devices, quiet

_COMMAND = command.Command(__doc__)
_D3RLPY = _COMMAND.string(
  'd3rlpy_python', None, 'Python of an environment with d3rlpy; else left out.'
)
_ROUNDS = _COMMAND.integer('rounds', 12, 'Turns of every contender.')
_STEPS = _COMMAND.integer('steps', 40, 'Gradient steps a turn.')
STATE, ACTION, BATCH, LAYERS, SAMPLES = 17, 6, 256, (256, 256, 256), 10

_D3RLPY_PEER = f"""
import sys, time
import numpy as np, torch
import d3rlpy
from d3rlpy.torch_utility import TorchMiniBatch
encoder = d3rlpy.models.VectorEncoderFactory(list({LAYERS}))
algo = d3rlpy.algos.CQLConfig(
  batch_size={BATCH}, n_action_samples={SAMPLES}, alpha_learning_rate=0.0,
  actor_encoder_factory=encoder, critic_encoder_factory=encoder,
).create(device='cpu:0')
algo.create_impl(({STATE},), {ACTION})
rng = np.random.default_rng(0)
numbers = lambda *shape: torch.tensor(
  rng.uniform(-1, 1, ({BATCH}, *shape)), dtype=torch.float32)
batch = TorchMiniBatch(
  observations=numbers({STATE}),
  actions=numbers({ACTION}),
  rewards=numbers(1),
  next_observations=numbers({STATE}),
  next_actions=numbers({ACTION}),
  returns_to_go=numbers(1),
  terminals=numbers(1) * 0,
  intervals=numbers(1) * 0 + 1,
  device='cpu:0',
)
step = 0
for line in sys.stdin:
  began = time.perf_counter()
  for _ in range(int(line)):
    step += 1
    algo.impl.update(batch, step)
  print(time.perf_counter() - began, flush=True)
"""


def ours() -> turns_lib.Turn:
  """The agent's own train_steps."""
  from cql_atari.continuous.agents import cql_agent

  rng, rows = np.random.default_rng(0), 100_000
  columns = [
    rng.uniform(-1, 1, (rows, *shape)).astype(np.float32)
    for shape in ((STATE,), (ACTION,), (), (STATE,))
  ]
  data = datasets.Dataset(
    tasks.task('halfcheetah-medium'),
    *columns,
    np.zeros(rows, np.float32),
    np.zeros(STATE, np.float32),
    np.ones(STATE, np.float32),
    np.zeros(0, int),
    np.zeros(0, int),
    {},
  )
  agent = cql_agent.CQLSACAgent(
    data, batch_size=BATCH, num_samples=SAMPLES, entropy_backup=False
  )

  def turn(steps: int) -> float:
    began = time.perf_counter()
    agent.train_steps(steps)
    agent.mean_scalars()
    return time.perf_counter() - began

  return turn


def products() -> turns_lib.Turn:
  """The matrix products of a step, forward and backward, in one graph."""
  import tensorflow as tf

  critic = (STATE + ACTION, *LAYERS, 1)
  policy = (STATE, *LAYERS, 2 * ACTION)
  # Sizes, rows, and whether gradients by weights and by inputs are taken.
  passes = [
    *[(critic, 3 * SAMPLES * BATCH, True)] * 2,  # Of sampled actions.
    *[(critic, BATCH, True)] * 2,  # Of the data's.
    *[(critic, BATCH, False)] * 4,  # Of the next state, and of the policy's.
    *[(policy, BATCH, False)] * 3,
    (policy, BATCH, True),
  ]
  operands, flop = [], 0
  for sizes, rows, backward in passes:
    for first, second in itertools.pairwise(sizes):
      shapes = [((rows, first), (first, second))]
      if backward:
        shapes.append(((first, rows), (rows, second)))
        if first not in (STATE, STATE + ACTION):
          shapes.append(((rows, second), (second, first)))
      for left, right in shapes:
        operands.append((tf.random.normal(left), tf.random.normal(right)))
        flop += 2 * left[0] * left[1] * right[1]

  @tf.function
  def step():
    return [tf.matmul(left, right) for left, right in operands]

  def turn(steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
      results = step()
    results[-1].numpy()
    return time.perf_counter() - began

  print(f'{flop / 1e9:.1f} GFLOP a step')
  return turn


def main() -> None:
  """Runs the contenders by turns."""
  with quiet.quiet():
    import tensorflow as tf

    devices.share_cores(2)  # As train and collect do.
    tf.constant(0)
  contenders = {'ours': ours()}
  if _D3RLPY.value:
    contenders['d3rlpy CQL'] = turns_lib.peer(_D3RLPY.value, _D3RLPY_PEER)
  contenders['its matrix products alone'] = products()
  turns_lib.take(contenders, _ROUNDS.value, _STEPS.value)


if __name__ == '__main__':
  _COMMAND.run(main)
