"""Conservative Q-Learning on the DQN Replay dataset, in the Dopamine style."""

from cql_atari.core import baselines

__version__ = '0.1.0'

baselines.provide_baselines()
