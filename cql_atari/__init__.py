"""Conservative Q-Learning on the DQN Replay dataset, in the Dopamine style."""

from cql_atari import compat

__version__ = '0.1.0'

compat.provide_baselines()
