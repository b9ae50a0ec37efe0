"""Dopamine's own Runner, unmodified, plays and saves our agents."""

import functools

import numpy as np

from cql_atari.agents import cql_agent, networks
from cql_atari.core import quiet

with quiet.quiet():
  from dopamine.discrete_domains import atari_lib, run_experiment

TRUNK = functools.partial(
  networks.nature_trunk, filters=(4, 8, 8), hidden_units=32
)
NETWORK = functools.partial(
  networks.quantile_network, num_quantiles=10, trunk=TRUNK
)


def runner(base_dir, agent, iterations):
  return run_experiment.Runner(
    str(base_dir),
    lambda sess, environment, summary_writer: agent,
    functools.partial(
      atari_lib.create_atari_environment, 'Breakout', sticky_actions=True
    ),
    num_iterations=iterations,
    training_steps=1,
    evaluation_steps=10,
    max_steps_per_episode=20,
  )


def test_dopamine_s_runner_evaluates_our_agents(demo_store, tmp_path):
  agent = cql_agent.CQLAgent(demo_store, network=NETWORK, seed=1)
  agent.train_steps(5)
  agent.eval_mode = None
  runner(tmp_path, agent, 1).run_experiment()
  assert agent.eval_mode is True  # The runner's last phase.
  # Another agent goes on from what the runner saved.
  other = cql_agent.CQLAgent(demo_store, network=NETWORK, seed=2)
  resumed = runner(tmp_path, other, 2)
  assert resumed._start_iteration == 1
  assert other.gradient_steps == 5
  for name, value in agent.state().items():
    np.testing.assert_array_equal(other.state()[name], value, err_msg=name)
  resumed.run_experiment()
  statistics = resumed._logger.data
  assert len(statistics['iteration_1']['eval_episode_returns']) == 1
  assert statistics['iteration_1']['eval_episode_lengths'] == [20]
