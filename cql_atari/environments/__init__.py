"""The games, and the protocol by which agents are evaluated in them."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {'atari': ('AtariEnvironments',), 'evaluation': ('Episodes', 'evaluate')},
)
