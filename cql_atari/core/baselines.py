"""The stand-in for OpenAI Baselines, and nothing else.

Dopamine 4.1.2's `atari_lib` imports `baselines.common.atari_wrappers` for PPO
preprocessing alone. Baselines is not on PyPI in an installable form, so where
it is missing an inert module takes its place, and says so if it is ever used.
"""

import importlib.machinery
import importlib.util
import sys
import types


class _AtariWrappers(types.ModuleType):
  """Raises a clear error when PPO preprocessing is asked for."""

  def __getattr__(self, name: str):
    if name.startswith('__'):
      raise AttributeError(name)
    raise ImportError(
      f'baselines.common.atari_wrappers.{name} was asked for, but OpenAI '
      'Baselines is not installed: Dopamine uses it for PPO preprocessing, '
      'which offline agents do not need. Leave '
      'create_atari_environment.use_ppo_preprocessing at False.'
    )


def provide_baselines() -> None:
  """Registers the stand-in where OpenAI Baselines is not installed."""
  if 'baselines' in sys.modules or importlib.util.find_spec('baselines'):
    return
  wrappers = 'baselines.common.atari_wrappers'
  for name in ('baselines', 'baselines.common'):
    sys.modules[name] = types.ModuleType(name)
  sys.modules['baselines.common'].atari_wrappers = _AtariWrappers(wrappers)
  sys.modules[wrappers] = sys.modules['baselines.common'].atari_wrappers
  for name in ('baselines', 'baselines.common', wrappers):  # For find_spec.
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
