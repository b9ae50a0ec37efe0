"""CQL in finite MDPs, exactly: the paper's theorems as programs."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'mdp': ('MDP', 'bandit_chain', 'garnet', 'gridworld'),
    'checking': ('check_all',),
  },
)
