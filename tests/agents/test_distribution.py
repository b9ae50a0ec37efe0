"""Two logical CPU devices, in a process of their own."""

import subprocess
import sys

_PROGRAM = """
import sys

import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
  tf.config.list_physical_devices('CPU')[0],
  [tf.config.LogicalDeviceConfiguration()] * 2,
)
from cql_atari.agents import distribution, networks
from cql_atari.agents import cql_agent
from cql_atari.replay import opening, shard_folder, split

store = opening.open_store(
  shard_folder.demo_replay_dir(), 'Breakout', 4, split.Split(shards=(10, 13)),
  sys.argv[1],
)


def network(num_actions, seed):
  return networks.quantile_network(
    num_actions,
    20,
    seed,
    lambda *x: networks.nature_trunk(*x, filters=(4, 8, 8), hidden_units=32),
  )


def curve(strategy):
  agent = cql_agent.CQLAgent(
    store, network=network, alpha=4.0, target_update_period=7, seed=1,
    strategy=strategy,
  )
  rows = []
  for _ in range(30):
    agent.train_steps(1)
    rows.append(list(agent.mean_scalars(reset=True).values()))
  saved = agent.state()
  agent.load_state(saved)
  return np.array(rows), saved, agent


mirrored = distribution.mirrored_strategy()
assert mirrored.num_replicas_in_sync == 2
one, two = curve(None), curve(mirrored)
np.testing.assert_allclose(one[0], two[0], rtol=2e-4, atol=1e-6)
for name, value in one[1].items():
  np.testing.assert_allclose(value, two[1][name], atol=2e-5, err_msg=name)
for variable in two[2]._variables + two[2]._target_variables:
  first, second = variable.values
  np.testing.assert_array_equal(first.numpy(), second.numpy())
assert one[1]['gradient_steps_0'] == two[1]['gradient_steps_0'] == 30
assert (one[0][0] != one[0][-1])[:3].all()
print('the same')
"""


def test_two_devices_learn_what_one_does(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout.endswith('the same\n'), done.stderr[-3000:]
