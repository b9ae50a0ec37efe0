"""Makes data: python -m cql_atari.collect --game=Pong, or --task=hopper.

An online agent plays, learns and logs its play. For a game, it logs every
transition in the format of the DQN Replay dataset: OUT/GAME/RUN/replay_logs.
For a task, it writes datasets in D4RL's format: OUT/TASK/RUN/TASK-medium.hdf5
and others. The learning curve is in metrics.csv beside them. --init_from=RUN
fine-tunes the agent of an offline run online.
"""

from cql_atari.continuous import tasks
from cql_atari.core import benchmarks, command, gin_text
from cql_atari.core.errors import UserError
from cql_atari.core.files import output_folder, user_path
from cql_atari.core.protocols import Benchmark
from cql_atari.runs.folder import RunFolder
from cql_atari.training import collecting

_COMMAND = command.Command(__doc__)
_GAME = _COMMAND.string('game', None, 'An Atari game.')
_TASK = _COMMAND.choice(
  'task', None, tasks.GYM, 'A task of continuous control instead.'
)
_INIT_FROM = _COMMAND.string(
  'init_from',
  None,
  'Goes on with the agent of an offline run, such as runs/pong, its data in '
  "every batch; the game is that run's.",
)
_REPLAY_DIR = _COMMAND.string(
  'replay_dir', None, "With --init_from: where that run's data are now."
)
_STEPS = _COMMAND.integer(
  'steps',
  None,
  'For a game, rows to log, padding rows included, in 50 shards; 1,000,000 by '
  'default. For a task, steps to play; 150,000 by default, 100,000 with '
  '--init_from.',
  least=1,
)
_OUT = _COMMAND.string('out', 'data', 'The run becomes OUT/GAME/RUN.')
_RUN = _COMMAND.integer('run', 1, 'Number of the run.', least=1)
_SEED = _COMMAND.seed('the weights, the games and the exploration')
_GIN_FILES, _GIN_BINDINGS = _COMMAND.gin(
  "A gin file: collect.gin (Dopamine's DQN; the default of a game), "
  'collect_small.gin (for CPUs), d4rl/collect.gin (SAC; that of a task), or '
  'those after collect_finetune.gin and d4rl/collect_finetune.gin, which are '
  'those of --init_from.'
)


def main() -> None:
  """Collects by the flags."""
  if _TASK.value and _GAME.value:
    raise UserError('give --game or --task, not both.')
  run = None
  if _INIT_FROM.value is not None:
    run = RunFolder(user_path(_INIT_FROM.value))
  elif _REPLAY_DIR.value:
    raise UserError('--replay_dir is the data of the run in --init_from.')
  name, benchmark = _of_run(run) if run else _of_flags()
  for binding in _GIN_BINDINGS.value:
    for macro in gin_text.bindings(binding):
      if macro in ('GAME', 'TASK', 'SEED'):
        flag = 'init_from' if run and macro != 'SEED' else macro.lower()
        raise UserError(
          f'--gin_bindings="{binding}" is given by a flag here: --{flag}=...'
        )
  with output_folder('--out', _OUT.value, name, str(_RUN.value)) as folder:
    collecting.collect(
      benchmark,
      name,
      folder,
      _STEPS.value,
      _SEED.value,
      _GIN_FILES.value,
      _GIN_BINDINGS.value,
      run,
      _REPLAY_DIR.value,
    )
  if run:
    print(f'The agent that it ended with: {folder / "agent.npz"}')
    if not (folder / 'replay_logs').is_dir():
      return
  config = 'cql_1pct.gin'
  if _TASK.value:
    config = f'd4rl/cql.gin --gin_bindings="TASK=\'{name}-medium\'"'
  print(
    f'The data are in {folder}. To train on them: python -m cql_atari.train '
    f'--base_dir=runs/first --replay_dir={folder} --gin_files={config}'
  )


def _of_flags() -> tuple[str, Benchmark]:
  if _TASK.value:
    return _TASK.value, benchmarks.load('d4rl')
  if not _GAME.value:
    raise UserError(
      'no --game given, nor a --task: name one of them, such as --game=Pong or '
      '--task=hopper.'
    )
  benchmark = benchmarks.load('atari')
  benchmark.check_name(_GAME.value)
  return _GAME.value, benchmark


def _of_run(run: RunFolder) -> tuple[str, Benchmark]:
  run.check()
  name, given = run.record['game'], _TASK.value or _GAME.value
  if given not in (None, name):
    raise UserError(
      f'the run in {run.path} is of {name}, not {given}: leave that out.'
    )
  return name, benchmarks.load(run.record['benchmark'])


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
