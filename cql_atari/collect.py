"""Makes data: python -m cql_atari.collect --game=Pong --steps=1000000.

An online agent plays, learns and logs every transition as the DQN Replay
dataset does: OUT/GAME/RUN/replay_logs. Its learning curve is in metrics.csv
beside them, the raw scores of its games in episodes.json.
"""

import hashlib
import json

from absl import flags

from cql_atari import (
  configuration,
  environments,
  errors,
  locks,
  records,
  startup,
)
from cql_atari.files import make_folder

_GAME = flags.DEFINE_string('game', 'Pong', 'The game.')
_STEPS = flags.DEFINE_integer(
  'steps', 1_000_000, 'Rows to log, padding rows included; 50 shards of them.'
)
_OUT = flags.DEFINE_string('out', 'data', 'The run becomes OUT/GAME/RUN.')
_RUN = flags.DEFINE_integer('run', 1, 'Number of the run.', lower_bound=1)
_SEED = flags.DEFINE_integer('seed', 0, 'Of everything random.', lower_bound=0)
_GIN_FILES = flags.DEFINE_multi_string(
  'gin_files',
  ['collect.gin'],
  "A gin file: collect.gin (Dopamine's DQN) or collect_small.gin (for CPUs).",
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
  'gin_bindings', [], 'A gin binding, such as "Adam.learning_rate=1e-4".'
)


def main() -> None:
  """Collects by the flags."""
  environments.rom_name(_GAME.value)
  for binding in _GIN_BINDINGS.value:
    macro = binding.split('=')[0].strip()
    if macro in ('GAME', 'SEED'):
      raise errors.UserError(
        f'--gin_bindings="{binding}" is given by a flag here: '
        f'--{macro.lower()}=...'
      )
  bindings = [
    *_GIN_BINDINGS.value,
    f'GAME={_GAME.value!r}',
    f'SEED={_SEED.value}',
  ]
  configuration.parse(_GIN_FILES.value, bindings, final=False)
  run_dir = make_folder('out', _OUT.value, _GAME.value, str(_RUN.value))
  with locks.alone_in(run_dir, 'collecting'):
    has_data = (run_dir / 'replay_logs').is_dir() and any(
      (run_dir / 'replay_logs').iterdir()
    )
    if has_data and not (run_dir / 'checkpoints').is_dir():
      raise errors.UserError(
        f'{run_dir} holds data that nothing here can go on with: give another '
        '--run or --out.'
      )
    with startup.quiet():
      import tensorflow as tf

      from cql_atari import collector

      configuration.import_all('cql_atari.collector')
      tf.constant(0)
    configuration.parse(_GIN_FILES.value, bindings, final=True)
    collecting = collector.Collector(
      run_dir, _STEPS.value, environments.num_actions()
    )
    if not collecting.is_finished:
      records.write_config(run_dir)
      record = {
        'game': _GAME.value,
        'seed': _SEED.value,
        'rom_md5': hashlib.md5(collecting.rom.read_bytes()).hexdigest(),
        **records.provenance(),
      }
      text = json.dumps(record, indent=1) + '\n'
      (run_dir / 'collect.json').write_text(text)
    collecting.run()


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
