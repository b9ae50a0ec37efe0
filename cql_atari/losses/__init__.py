"""The losses, as pure functions of tensors, numbered by equation.

`conservative` has CQL's penalties, `temporal_difference` the losses of discrete
actions, `actor_critic` those of continuous ones.
"""

from cql_atari.losses import actor_critic, conservative, temporal_difference

__all__ = ['actor_critic', 'conservative', 'temporal_difference']
