"""The configs of agents x splits bind what the sources say."""

import itertools

import gin
import pytest

from cql_atari.core import settings
from cql_atari.replay import split as split_lib

AGENTS = {
  'cql': 'CQLAgent',
  'qrdqn': 'QRDQNAgent',
  'dqn': 'FixedReplayDQNAgent',
  'c51': 'C51Agent',
  'rem': 'REMAgent',
  'bc': 'BCAgent',
}
SPLITS = {
  '1pct': (0.01, (0, 50), 4.0),
  '10pct': (0.1, (0, 50), 1.0),
  'first20pct': (1.0, (0, 10), 0.5),
  'demo': (1.0, (0, 50), 4.0),
}
# The authors' code's own readings of 10 % and of the first 20 %.
SECOND = {
  '10pct_10shards': (0.1, (0, 50), 1.0),
  'first20m': (1.0, (0, 5), 0.5),
}
CONFIGS = [
  *itertools.product(AGENTS, SPLITS),
  *itertools.product(('cql', 'qrdqn', 'rem'), SECOND),
]


@pytest.mark.parametrize(('agent', 'split'), CONFIGS)
def test_every_config_is_found_and_says_what_it_should(agent, split):
  """The bare name works from anywhere, and binds the published settings."""
  cls, (fraction, shards, alpha) = AGENTS[agent], (SPLITS | SECOND)[split]
  gin.clear_config()
  settings.parse([f'{agent}_{split}.gin'], [], lock=False)
  chosen = split_lib.Split()
  assert (chosen.fraction, chosen.shards) == (fraction, shards)
  assert chosen.convention == 'prefix'
  assert chosen.num_shards == (10 if split == '10pct_10shards' else None)
  settings.import_all()
  settings.parse([f'{agent}_{split}.gin'], [], lock=True)
  made = gin.query_parameter('FixedReplayRunner.create_agent_fn').selector
  assert made.split('.')[-1] == cls
  if agent == 'cql':
    assert gin.query_parameter('CQLMixin.alpha') == alpha
  expected = {
    'FixedReplayAgent.gamma': 0.99,
    'FixedReplayAgent.batch_size': 32,
    'QRDQNAgent.kappa': 1.0,
    'Adam.epsilon': 3.125e-4,
  }
  if split != 'demo':
    expected |= {
      'quantile_network.num_quantiles': 200,
      'Adam.learning_rate': 2.5e-4 if agent == 'c51' else 5e-5,
      'FixedReplayAgent.target_update_period': 2000,
      'FixedReplayRunner.training_steps': 62_500,
      'FixedReplayRunner.num_iterations': 200,
      'FixedReplayRunner.evaluation_steps': 125_000,
    }
  else:
    expected |= {
      'nature_trunk.hidden_units': 128,
      'quantile_network.num_quantiles': 16,
      'multi_head_network.num_heads': 16,
    }
  for name, value in expected.items():
    assert gin.query_parameter(name) == value, name
  gin.clear_config()
