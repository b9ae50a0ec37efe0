"""Breakout as users of gymnasium make it."""

import ale_py
import gymnasium

gymnasium.register_envs(ale_py)


def preprocessed(**settings):
  """With gymnasium's preprocessing, from the first frame on."""
  env = gymnasium.make('ALE/Breakout-v5', frameskip=1, **settings)
  return gymnasium.wrappers.AtariPreprocessing(env, noop_max=0)
