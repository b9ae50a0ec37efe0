"""What evaluators and loggers cost an iteration.

  python scripts/benchmarks/logs.py

CQL at the paper's sizes on the built-in play, a tenth of whose games is held
out: the seconds of a gradient step, of the evaluators on the held-out games,
and of each logger whose package is installed, to begin and to keep an
iteration's numbers. Shares are of an iteration of 62,500 gradient steps.
"""

import functools
import importlib.util
import os
import pathlib
import statistics
import tempfile
import time

from cql_atari.core import command, quiet
from cql_atari.replay import opening, shard_folder

_COMMAND = command.Command(__doc__)
_STEPS = _COMMAND.integer('steps', 80, 'Gradient steps timed.')
_ROUNDS = _COMMAND.integer('rounds', 5, 'Turns of each, whose median counts.')
os.environ.setdefault('MLFLOW_ALLOW_FILE_STORE', 'true')
_ITERATION = 62_500
_RECORD = {
  'run_id': 'benchmark', 'game': 'Breakout', 'agent': 'CQL', 'data': '100 %',
  'seed': 0, 'settings': {},
}  # fmt: skip


def seconds(call):
  """The median seconds of a call; the first, which compiles, is left out."""
  call()
  taken = []
  for _ in range(_ROUNDS.value):
    began = time.perf_counter()
    call()
    taken.append(time.perf_counter() - began)
  return statistics.median(taken)


def loggers(folder):
  """Those that can be made here, by name."""
  from cql_atari.training import loggers as library

  if importlib.util.find_spec('wandb'):
    yield 'WandbLogger', library.WandbLogger, {'mode': 'offline'}
  if importlib.util.find_spec('mlflow'):
    yield 'MLflowLogger', library.MLflowLogger, {'tracking_uri': f'{folder}/m'}


def main():
  """Prints seconds, and shares of an iteration."""
  with quiet.quiet():
    from cql_atari.agents import cql_agent
    from cql_atari.replay import sampler

    store = opening.open_store(shard_folder.demo_replay_dir())
    agent = cql_agent.CQLAgent(
      store,
      alpha=4.0,
      sampler=functools.partial(sampler.TransitionSampler, held_out=0.1),
    )

    def learn():
      agent.train_steps(_STEPS.value)
      agent.mean_scalars()

    iteration = seconds(learn) * _ITERATION / _STEPS.value
    costs = {'evaluators': seconds(agent.held_out_scalars)}
    metrics = agent.mean_scalars() | agent.held_out_scalars()
    with tempfile.TemporaryDirectory() as folder:
      for name, make, settings in loggers(folder):
        began = time.perf_counter()
        logger = make(pathlib.Path(folder), _RECORD, **settings)
        print(f'{name} begins in {time.perf_counter() - began:.1f} s')
        steps = iter(range(1, 100))
        costs[name] = seconds(
          lambda logger=logger, steps=steps: logger.log(next(steps), metrics)
        )
        logger.close(failed=False)
  print(f'an iteration of {_ITERATION:,} steps takes {iteration:.0f} s')
  for name, cost in costs.items():
    print(f'{name:14}{1e3 * cost:8.1f} ms, {cost / iteration:.4%} of it')
  print(f'together {sum(costs.values()) / iteration:.4%}')


if __name__ == '__main__':
  _COMMAND.run(main)
