"""Where the time of a gradient step goes, or that of collecting.

  python scripts/benchmarks/profile_steps.py [--gin_files=small.gin]
  python scripts/benchmarks/profile_steps.py --collect=Breakout

The first is TensorFlow's profile of CQL's steps on the built-in play: the
operations that take most, in ms a step, as they run on one thread or side by
side on several. The second plays with `collect_small.gin` and adds up acting,
the games, learning and the rest.
"""

import collections
import functools
import pathlib
import tempfile
import time

import learner

from cql_atari.core import benchmarks, command, quiet, settings
from cql_atari.replay import opening, shard_folder

_COMMAND = command.Command(__doc__)
_GIN_FILES, _GIN_BINDINGS = _COMMAND.gin('Settings, such as small.gin.')
_STEPS = _COMMAND.integer('steps', 80, 'Gradient steps profiled.')
_COLLECT = _COMMAND.string('collect', None, 'A game: profiles collecting.')
_ROWS = _COMMAND.integer('rows', 20_000, 'Rows collected.')
_SHOWN = 28
# Spans of the executor and of Python that hold the operations' own.
_OUTER = ('Execut', 'Eager', 'Kernel', 'Function', '_train', '<lambda>', 'TFE')


def steps():
  """The operations of a gradient step, by time."""
  with quiet.quiet():
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    from cql_atari.agents import cql_agent

    settings.import_all()
  settings.parse(_GIN_FILES.value, _GIN_BINDINGS.value, lock=False)
  store = opening.open_store(shard_folder.demo_replay_dir())
  agent = cql_agent.CQLAgent(store, alpha=4.0)
  agent.train_steps(16)  # Compiles.
  agent.mean_scalars()
  began = time.perf_counter()
  agent.train_steps(_STEPS.value)
  agent.mean_scalars()
  each = (time.perf_counter() - began) / _STEPS.value
  rate, product = 1.0 / each, learner.matrix_product_rate()
  print(f'{rate:.1f} steps/s, {1e3 * each:.1f} ms a step')
  if not _GIN_FILES.value:
    size = learner.gigaflop_per_step()
    print(
      f'{size:.2f} GFLOP a step are {size * rate:.0f} GFLOP/s, '
      f"{size * rate / product:.0%} of a matrix product's {product:.0f}"
    )
  with tempfile.TemporaryDirectory() as folder:
    tf.profiler.experimental.start(folder)
    agent.train_steps(_STEPS.value)
    agent.mean_scalars()
    tf.profiler.experimental.stop()
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
  (plane,) = (plane for plane in space.planes if plane.name == '/host:CPU')
  spent = collections.Counter()
  for line in plane.lines:
    for event in line.events:
      name = plane.event_metadata[event.metadata_id].name
      if ':' in name and not name.startswith(_OUTER):
        spent[name] += event.duration_ps / 1e9 / _STEPS.value
  print(f'{"ms":>7}  operation, of {sum(spent.values()):.1f} ms in all')
  for name, milliseconds in spent.most_common(_SHOWN):
    path, kind = name.rsplit(':', 1)
    print(f'{milliseconds:7.2f}  {kind}, {"/".join(path.split("/")[-3:])}')


def collect(folder):
  """The parts of collecting, each as long as Python waits for it."""
  with quiet.quiet():
    from cql_atari.agents import dqn_agent
    from cql_atari.environments import atari
    from cql_atari.training import collecting

  spent = collections.Counter()

  def timed(owner, name, after=lambda self: None):
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(self, *args, **kwargs):
      began = time.perf_counter()
      result = inner(self, *args, **kwargs)
      after(self)
      spent[name] += time.perf_counter() - began
      return result

    setattr(owner, name, outer)

  agent = dqn_agent.FixedReplayDQNAgent
  timed(agent, 'train_steps', after=agent.mean_scalars)
  timed(agent, 'select_actions')
  timed(atari.AtariEnvironments, 'step')
  began = time.perf_counter()
  collecting.collect(
    benchmarks.load('atari'), _COLLECT.value, folder, _ROWS.value, 0,
    ['collect_small.gin'],
    ['Collector.min_replay_history=2000', *_GIN_BINDINGS.value],
  )  # fmt: skip
  whole = time.perf_counter() - began
  print(f'{_ROWS.value / whole:.0f} rows/s; ms for 8 agent steps:')
  spent['start and the rest'] = whole - sum(spent.values())
  for name, seconds in spent.most_common():
    print(f'{8e3 * seconds / _ROWS.value:7.2f}  {name}')


def main():
  """Prints the one or the other."""
  if not _COLLECT.value:
    steps()
    return
  with tempfile.TemporaryDirectory() as folder:
    collect(pathlib.Path(folder))


if __name__ == '__main__':
  _COMMAND.run(main)
