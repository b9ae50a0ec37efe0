"""Makes data: python -m cql_atari.collect --game=Pong, or --task=hopper.

An online agent plays, learns and logs what it does. Of a game, every transition
as the DQN Replay dataset has it: OUT/GAME/RUN/replay_logs. Of a task, datasets
as D4RL has them: OUT/TASK/RUN/TASK-medium.hdf5 and others. The learning curve
is in metrics.csv beside them.
"""

import hashlib
import json
import pathlib

from absl import flags

from cql_atari.continuous import tasks
from cql_atari.core import errors, locks, quiet, settings
from cql_atari.core.files import make_folder, write_text
from cql_atari.environments import atari
from cql_atari.runs import provenance

_GAME = flags.DEFINE_string('game', None, 'An Atari game; Pong by default.')
_TASK = flags.DEFINE_enum(
  'task',
  None,
  tasks.GYM,
  'A task of continuous control instead.',
)
_STEPS = flags.DEFINE_integer(
  'steps',
  None,
  'Of a game: rows to log, padding rows included, 50 shards of them; 1,000,000 '
  'by default. Of a task: steps to learn for; 150,000 by default.',
  lower_bound=1,
)
_OUT = flags.DEFINE_string('out', 'data', 'The run becomes OUT/GAME/RUN.')
_RUN = flags.DEFINE_integer('run', 1, 'Number of the run.', lower_bound=1)
_SEED = flags.DEFINE_integer('seed', 0, 'Of everything random.', lower_bound=0)
_GIN_FILES = flags.DEFINE_multi_string(
  'gin_files',
  [],
  "A gin file: collect.gin (Dopamine's DQN; the default of a game), "
  'collect_small.gin (for CPUs), or d4rl/collect.gin (SAC; that of a task).',
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
  'gin_bindings', [], 'A gin binding, such as "Adam.learning_rate=1e-4".'
)


def main() -> None:
  """Collects by the flags."""
  if _TASK.value and _GAME.value:
    raise errors.UserError('give --game or --task, not both.')
  game = None if _TASK.value else _GAME.value or 'Pong'
  if game:
    atari.rom_name(game)
  for binding in _GIN_BINDINGS.value:
    macro = binding.split('=')[0].strip()
    if macro in ('GAME', 'SEED'):
      raise errors.UserError(
        f'--gin_bindings="{binding}" is given by a flag here: '
        f'--{macro.lower()}=...'
      )
  bindings = [*_GIN_BINDINGS.value, f'SEED={_SEED.value}']
  if game:
    bindings.append(f'GAME={game!r}')
  gin_files = _GIN_FILES.value or [
    'collect.gin' if game else 'd4rl/collect.gin'
  ]
  required = f'{"" if game else "SAC"}Collector.create_agent_fn'
  settings.parse(gin_files, bindings, final=False, required=required)
  run_dir = make_folder('out', _OUT.value, game or _TASK.value, str(_RUN.value))
  with locks.alone_in(run_dir, 'collecting'):
    with quiet.quiet():
      import tensorflow as tf

      module = 'cql_atari.' + ('' if game else 'continuous.') + 'collector'
      settings.import_all(module)
      quiet.share_cores()
      tf.constant(0)
    settings.parse(gin_files, bindings, final=True, required=required)
    if game:
      _collect_game(game, run_dir)
    else:
      _collect_task(run_dir)


def _collect_game(game: str, run_dir: pathlib.Path) -> None:
  from cql_atari.training import collector

  has_data = (run_dir / 'replay_logs').is_dir() and any(
    (run_dir / 'replay_logs').iterdir()
  )
  if has_data and not (run_dir / 'checkpoints').is_dir():
    raise errors.UserError(
      f'{run_dir} holds data that nothing here can go on with: give another '
      '--run or --out.'
    )
  collecting = collector.Collector(
    run_dir, _STEPS.value or 1_000_000, atari.num_actions()
  )
  if not collecting.is_finished:
    rom_md5 = hashlib.md5(collecting.rom.read_bytes()).hexdigest()
    _write_records(run_dir, game=game, rom_md5=rom_md5)
  collecting.run()


def _collect_task(run_dir: pathlib.Path) -> None:
  from cql_atari.continuous import collector

  task = tasks.task(f'{_TASK.value}-medium')
  collecting = collector.SACCollector(run_dir, task, _STEPS.value or 150_000)
  if not collecting.is_finished:
    _write_records(run_dir, task=_TASK.value)
  collecting.run()


def _write_records(run_dir: pathlib.Path, **what: str) -> None:
  provenance.write_config(run_dir)
  path = run_dir / 'collect.json'
  record = {**what, 'seed': _SEED.value, **provenance.provenance(path)}
  write_text(path, json.dumps(record, indent=1) + '\n')


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
