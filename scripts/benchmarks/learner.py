"""Gradient steps per second at the paper's sizes, against named peers.

  python scripts/benchmarks/learner.py --d3rlpy_python=PEER_ENV/bin/python

All contenders take turns in one run, in random order: ours as `train` runs it
(sampling, prefetch, logging and summaries on), (a) the same compiled steps on
batches that are already in memory, (b) Dopamine's JAX QR-DQN `train`, on a
batch in memory, and (c) d3rlpy's DiscreteCQL with a quantile Q-function, on a
batch in memory, from an environment of its own (d3rlpy needs another
gymnasium).
"""

import dataclasses
import resource
import tempfile
import time

import numpy as np
import turns as turns_lib

from cql_atari.core import command, quiet, settings
from cql_atari.replay import opening, shard_folder

_COMMAND = command.Command(__doc__)
_D3RLPY = _COMMAND.string(
  'd3rlpy_python', None, 'Python of an environment with d3rlpy; else left out.'
)
_ROUNDS = _COMMAND.integer('rounds', 12, 'Turns of every contender.')
_STEPS = _COMMAND.integer('steps', 56, 'Gradient steps a turn.')
_GIN_FILES, _GIN_BINDINGS = _COMMAND.gin(
  "Settings of ours, such as small.gin; the peers keep the paper's sizes."
)
NUM_ACTIONS, NUM_QUANTILES, BATCH_SIZE = 6, 200, 32

_D3RLPY_PEER = f"""
import sys, time
import numpy as np, torch
import d3rlpy
from d3rlpy.torch_utility import TorchMiniBatch
algo = d3rlpy.algos.DiscreteCQLConfig(
  batch_size={BATCH_SIZE}, alpha=4.0, learning_rate=5e-5,
  target_update_interval=2000,
  observation_scaler=d3rlpy.preprocessing.PixelObservationScaler(),
  q_func_factory=d3rlpy.models.QRQFunctionFactory(n_quantiles={NUM_QUANTILES}),
).create(device='cpu:0')
algo.create_impl((4, 84, 84), {NUM_ACTIONS})
rng = np.random.default_rng(0)
images = lambda: torch.tensor(
  rng.integers(0, 256, ({BATCH_SIZE}, 4, 84, 84)), dtype=torch.float32) / 255
column = lambda x: torch.tensor(x, dtype=torch.float32).reshape(-1, 1)
zeros = np.zeros({BATCH_SIZE})
batch = TorchMiniBatch(
  observations=images(),
  actions=column(rng.integers(0, {NUM_ACTIONS}, {BATCH_SIZE})).long(),
  rewards=column(rng.normal(size={BATCH_SIZE})),
  next_observations=images(),
  next_actions=column(rng.integers(0, {NUM_ACTIONS}, {BATCH_SIZE})).long(),
  returns_to_go=column(zeros),
  terminals=column(zeros),
  intervals=column(zeros + 1),
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


def ours_and_bare(base_dir):
  """Our learner under its runner, and its step on a batch in memory."""
  with quiet.quiet():
    import tensorflow as tf
    from dopamine.discrete_domains import iteration_statistics

    from cql_atari.agents import cql_agent
    from cql_atari.environments.atari import AtariEnvironments
    from cql_atari.training import runner as runner_lib

    settings.import_all()
  settings.parse(_GIN_FILES.value, _GIN_BINDINGS.value, lock=False)
  store = opening.open_store(shard_folder.demo_replay_dir())
  # The paper's games have up to 18 actions; Pong's 6 are the usual example.
  store = dataclasses.replace(
    store,
    manifest={**store.manifest, 'game': 'Pong', 'num_actions': NUM_ACTIONS},
  )
  runner = runner_lib.FixedReplayRunner(
    base_dir,
    store,
    lambda *args, **kwargs: cql_agent.CQLAgent(*args, alpha=4.0, **kwargs),
    lambda **kwargs: AtariEnvironments('Pong', **kwargs),
    evaluation_steps=0,
    training_steps=_STEPS.value,
  )
  agent = runner.agent
  runner.save = lambda: None  # Not timed here.
  size = agent._chunk_size
  agent.train_steps(size)
  held = next(agent._chunks)
  tf.config.experimental.set_synchronous_execution(False)  # As `run` does.

  def learn(chunk, count):
    targets = agent._compiled_next_target_outputs(chunk)
    agent._compiled_train_on_chunk(
      chunk, targets, tf.constant(0), tf.constant(count)
    )

  def ours(steps):
    # One training phase, from wherever the step counter stands.
    runner._training_steps, runner._iteration = steps, 0
    agent.optimizer.iterations.assign(0)
    began = time.perf_counter()
    runner._train(iteration_statistics.IterationStatistics())
    return time.perf_counter() - began

  def bare(steps):
    began = time.perf_counter()
    for done in range(0, steps, size):
      learn(held, min(size, steps - done))
    agent.mean_scalars()
    return time.perf_counter() - began

  def waiting(steps):
    # Share of the time that a learner without a queue waits for its batches.
    tf.config.experimental.set_synchronous_execution(True)
    began, waited = time.perf_counter(), 0.0
    for _ in range(0, steps, size):
      asked = time.perf_counter()
      chunk = next(agent._chunks)
      waited += time.perf_counter() - asked
      learn(chunk, size)
    share = waited / (time.perf_counter() - began)
    tf.config.experimental.set_synchronous_execution(False)
    return share

  return ours, bare, waiting


def matrix_product_rate():
  """Best float32 rate of TensorFlow's matrix product, in GFLOP/s."""
  import tensorflow as tf

  a = tf.random.normal((1536, 1536))
  product = tf.function(lambda: tf.reduce_sum(a @ a))
  product()
  best = np.inf
  for _ in range(10):
    began = time.perf_counter()
    product().numpy()
    best = min(best, time.perf_counter() - began)
  return 2 * 1536**3 / best / 1e9


def gigaflop_per_step():
  """Multiply-adds of two forward passes and one backward pass, times two."""
  convolutions = [
    21 * 21 * 32 * 8 * 8 * 4,
    11 * 11 * 64 * 4 * 4 * 32,
    11 * 11 * 64 * 3 * 3 * 64,
  ]
  dense = [11 * 11 * 64 * 512, 512 * NUM_ACTIONS * NUM_QUANTILES]
  forward = sum(convolutions) + sum(dense)
  # The backward pass needs no gradient by the pixels.
  total = 2 * forward + 2 * forward - convolutions[0]
  return 2 * BATCH_SIZE * total / 1e9


def main():
  """Runs the contenders by turns and prints rates and ratios."""
  with tempfile.TemporaryDirectory() as base_dir:
    ours, bare, waiting = ours_and_bare(base_dir)
    contenders = {'ours, as train runs it': ours, '(a) bare step': bare}
    with quiet.quiet():
      import dopamine_peer
    contenders['(b) Dopamine JAX QR-DQN'] = dopamine_peer.turn_of(
      BATCH_SIZE, NUM_ACTIONS, NUM_QUANTILES
    )
    if _D3RLPY.value:
      peer = turns_lib.peer(_D3RLPY.value, _D3RLPY_PEER)
      contenders['(c) d3rlpy DiscreteCQL'] = peer
    seconds = turns_lib.take(contenders, _ROUNDS.value, _STEPS.value)
    waited = waiting(_STEPS.value)
  rate = matrix_product_rate()
  achieved = gigaflop_per_step() * _STEPS.value / seconds
  print(
    f'{gigaflop_per_step():.1f} GFLOP a step: {achieved:.0f} of the '
    f'{rate:.0f} GFLOP/s of a matrix product, {100 * achieved / rate:.0f} %'
  )
  print(f'waiting for data {100 * waited:.1f} % of the time')
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'peak memory {peak:.2f} GiB (with JAX in the same process)')


if __name__ == '__main__':
  _COMMAND.run(main)
