"""The run folder: what it holds, and a trained run back from it."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__, {'folder': ('RunFolder',), 'trained': ('TrainedRun',)}
)
