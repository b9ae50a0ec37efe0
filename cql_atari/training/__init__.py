"""Long resumable work: the offline runner and the collector."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'runner': ('FixedReplayRunner',),
    'collector': ('Collector',),
    'job': ('Job',),
  },
)
