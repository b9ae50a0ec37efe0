"""Made-up files in D4RL's layout, sound and broken."""

import h5py
import numpy as np

from cql_atari.continuous import tasks

HOPPER = tasks.task('hopper-medium-v2')
KITCHEN = tasks.task('kitchen-mixed')


def columns(count=40, task=HOPPER):
  rng = np.random.default_rng(0)
  terminals, timeouts = np.zeros(count, bool), np.zeros(count, bool)
  terminals[[9, 30]], timeouts[[19, 20]] = True, True
  return {
    'observations': rng.normal(size=(count, task.settings.state_size)),
    'actions': rng.uniform(-1, 1, (count, task.settings.action_size)),
    'rewards': rng.normal(size=count),
    'terminals': terminals,
    'timeouts': timeouts,
  }


def write(path, arrays):
  with h5py.File(path, 'w') as file:
    for name, values in arrays.items():
      file[name] = values
    file['infos/qpos'] = np.zeros(3)
    file['metadata/algorithm'] = 'SAC'
  return path


def broken(name):
  arrays = columns()
  if name == 'NaN':
    arrays['observations'][17, 3] = np.nan
  elif name == 'far':
    arrays['actions'][5, 0] = 1.5
  elif name == 'other':
    arrays['observations'] = arrays['observations'][:, :7]
  elif name == 'lacking':
    del arrays['rewards']
  elif name == 'empty':
    arrays = {name: values[:0] for name, values in arrays.items()}
  return arrays
