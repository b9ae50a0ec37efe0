"""Short training runs of the built-in data, as a user starts them."""

import re
import subprocess
import sys

# The demo with a small network and few steps.
SMALL = (
  'nature_trunk.filters=(4, 8, 8)',
  'nature_trunk.hidden_units=32',
  'quantile_network.num_quantiles=20',
  'Split.shards=(10, 13)',
  'CQLMixin.alpha=2.0',  # Not the default.
  'FixedReplayAgent.target_update_period=7',
  'FixedReplayRunner.num_iterations=2',
  'FixedReplayRunner.training_steps=150',
  'FixedReplayRunner.evaluation_steps=1',
  'AtariEnvironments.num_environments=2',
)


# The least that trains, for `cql_atari.fit`.
TINY = {
  'nature_trunk.filters': (4, 4, 4),
  'nature_trunk.hidden_units': 16,
  'Split.shards': (10, 13),
  'FixedReplayRunner.training_steps': 20,
  'FixedReplayRunner.evaluation_steps': 0,
}


def command(base_dir, *bindings, gin_file='cql_demo.gin', flags=()):
  return [
    sys.executable,
    '-m',
    'cql_atari.train',
    f'--base_dir={base_dir}',
    f'--gin_files={gin_file}',
    *(f'--gin_bindings={binding}' for binding in bindings),
    *flags,
  ]


def call(arguments, **settings):
  """Runs a process to its end, and keeps what it says."""
  return subprocess.run(arguments, capture_output=True, text=True, **settings)


def python(*arguments, **settings):
  """As `call`, of this Python."""
  return call([sys.executable, *map(str, arguments)], **settings)


def without_progress(text):
  """What was said besides how far it is, which a slow machine says more of."""
  return re.sub(r'(?m)^.*( left|steps/s).*\n', '', text)
