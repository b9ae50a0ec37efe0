"""Many runs as one: what to run, and engines that run it."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'plan': ('Sweep',),
    'execute': ('LocalEngine',),
    'ray_engine': ('RayEngine',),
  },
)
