"""Tables, figures and reports of runs."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'loading': ('LoadedRun', 'load_runs'),
    'grouping': ('Group', 'group_by_data', 'group_by_game'),
  },
)
