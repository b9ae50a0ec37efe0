"""Offline agents for Atari, one file each."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'bc_agent': ('BCAgent',),
    'c51_agent': ('C51Agent',),
    'cql_agent': ('CQLAgent', 'CQLC51Agent', 'CQLDQNAgent', 'CQLMixin'),
    'dqn_agent': ('FixedReplayDQNAgent',),
    'fixed_replay_agent': ('FixedReplayAgent', 'Outputs'),
    'qrdqn_agent': ('QRDQNAgent',),
    'rem_agent': ('REMAgent',),
    'optimizers': ('Adam', 'RMSProp'),
  },
)
