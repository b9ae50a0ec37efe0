"""Evaluation steps per second, against Dopamine's own loop.

  python scripts/benchmarks/evaluation.py [--game=Pong]

Dopamine's `Runner` plays one environment with the same agent and network.
"""

import statistics
import tempfile
import time

from cql_atari.core import command, quiet
from cql_atari.replay import games

_COMMAND = command.Command(__doc__)
_GAME = _COMMAND.string('game', 'Pong', 'The game to play.')
_ROUNDS = _COMMAND.integer('rounds', 5, 'Turns of either loop.')
_ENVIRONMENTS = _COMMAND.integer('environments', 32, 'Games side by side.')


def main():
  """Times both loops by turns."""
  with quiet.quiet():
    from dopamine.discrete_domains import atari_lib, run_experiment

    from cql_atari.agents import cql_agent
    from cql_atari.environments import atari, evaluation
  agent = cql_agent.CQLAgent(None, games.num_actions(_GAME.value))
  ours = atari.AtariEnvironments(_GAME.value, _ENVIRONMENTS.value)

  def our_turn():
    began, seed = time.perf_counter(), len(rates['ours'])
    episodes = evaluation.play(
      ours, agent.select_actions, 1000 * _ENVIRONMENTS.value, seed
    )
    return episodes.lengths.sum() / (time.perf_counter() - began)

  with tempfile.TemporaryDirectory() as base_dir:
    runner = run_experiment.Runner(
      base_dir,
      lambda sess, environment, summary_writer: agent,
      lambda: atari_lib.create_atari_environment(_GAME.value),
      fine_grained_print_to_console=False,
    )

    def their_turn():
      began = time.perf_counter()
      statistics_ = run_experiment.iteration_statistics.IterationStatistics()
      steps, _, _ = runner._run_one_phase(1000, statistics_, 'eval')
      return steps / (time.perf_counter() - began)

    turns = {'ours': our_turn, "Dopamine's loop": their_turn}
    rates = {name: [] for name in turns}
    for _ in range(_ROUNDS.value):
      for name, turn in turns.items():
        rates[name].append(turn())
  for name, values in rates.items():
    print(f'{name:16}{statistics.median(values):8.0f} agent steps/s')
  ratio = statistics.median(
    a / b for a, b in zip(rates['ours'], rates["Dopamine's loop"])
  )
  print(f'ours is {ratio:.1f} times as fast, median of paired turns')


if __name__ == '__main__':
  _COMMAND.run(main)
