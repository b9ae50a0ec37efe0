"""The Atari benchmark: what differs from others, in one place."""

import pathlib
from typing import Any

import numpy as np

from cql_atari.core.errors import UserError
from cql_atari.core.protocols import (
  Agent,
  Collecting,
  Column,
  Data,
  Panel,
  ScoreTable,
)
from cql_atari.environments import atari, published_scores
from cql_atari.replay import games, recorder
from cql_atari.runs import checkpoints
from cql_atari.runs.folder import RunFolder
from cql_atari.training import rom_check

# Published numbers stand beside runs of the published method alone. No source
# states the alpha of the first 20 %.
_PUBLISHED_ALPHAS = {'1 %': 4, '10 %': 1}
_PUBLISHED_SETTINGS = {
  'CQLMixin.penalty': 'H',
  'CQLMixin.target_gap': None,
  'nature_trunk.filters': [32, 64, 64],
  'nature_trunk.hidden_units': 512,
  'quantile_network.num_quantiles': 200,
  'multi_head_network.num_heads': 200,
  'quantile_network.trunk': '@nature_trunk',
  'multi_head_network.trunk': '@nature_trunk',
  'FixedReplayAgent.batch_size': 32,
  'FixedReplayAgent.compute_dtype': 'float32',
  'FixedReplayAgent.double_q': False,
  'FixedReplayAgent.gamma': 0.99,
  'FixedReplayAgent.optimizer': '@Adam',
  'FixedReplayAgent.target_update_period': 2000,
  'FixedReplayAgent.update_horizon': 1,
  'QRDQNAgent.kappa': 1.0,
  'Adam.learning_rate': 5e-5,
  'Adam.epsilon': 3.125e-4,
  'TransitionSampler.held_out': 0.0,
  'AtariEnvironments.sticky_actions': True,
}


def _published(table, column: int | None = None):
  """Looks a run up in a table of {data: {game: {agent: score or scores}}}."""

  def look_up(record: dict[str, Any], final: float):
    del final
    if not record['data_is_published']:
      return None
    of_game = table.get(record['data'], {}).get(record['game'], {})
    score = of_game.get(record['agent'])
    if score is None or not _is_published_method(record):
      return None
    return score if column is None else score[column]

  return look_up


def _is_published_method(record: dict[str, Any]) -> bool:
  settings, published = record['settings'], dict(_PUBLISHED_SETTINGS)
  if record['data'] in _PUBLISHED_ALPHAS:
    published['CQLMixin.alpha'] = _PUBLISHED_ALPHAS[record['data']]
  return all(settings.get(name, v) == v for name, v in published.items())


def _make_collector(run_dir: pathlib.Path, game: str, steps: int | None):
  from cql_atari.training import collector

  del game  # Which gin has.
  logs = run_dir / 'replay_logs'
  has_data = logs.is_dir() and any(logs.iterdir())
  if has_data and not checkpoints.steps(RunFolder(run_dir).checkpoints):
    raise UserError(
      f'{run_dir} holds data, and no checkpoint to go on from: give another '
      '--run or --out.'
    )
  return collector.Collector(run_dir, steps or 1_000_000, games.num_actions())


class AtariBenchmark:
  """See `core.protocols.Benchmark`."""

  name = 'atari'
  macro = 'GAME'
  needs_data_to_act = False
  steps_per_second = 15  # Agent steps of four frames at 60 a second.
  usual_episode = 27_000  # Machado et al. (2018).
  data_share_is_hyperparameter = True
  return_label = 'evaluation return'
  policy_metric = 'q_max'  # The policy takes the best action.
  checkpoint_bytes = 420e6  # Six of 70 MB.
  table = ScoreTable(
    'table3',
    'Scores (Table 3)',
    'Numbers of the paper and of d3rlpy are of the DQN Replay dataset at 12.5 '
    'million gradient steps: compare with them only what was trained on that. '
    "d3rlpy's Asterix is of the dataset's run 2.",
  )
  columns = (
    Column(
      'human-normalised final',
      lambda record, final: published_scores.human_normalized(
        record['game'], final
      ),
      2,
    ),
    Column(
      'gamer-normalised final',
      lambda record, final: published_scores.gamer_normalized(
        record['game'], final
      ),
      0,
    ),
    Column('paper', _published(published_scores.PAPER_TABLE_3), 1),
    Column('d3rlpy final', _published(published_scores.D3RLPY, 0), 1),
    Column('d3rlpy peak', _published(published_scores.D3RLPY, 1), 1),
  )
  create_environments = atari.AtariEnvironments
  collecting = Collecting(
    gin_file='collect.gin',
    required='Collector.create_agent_fn',
    bindings=lambda game: [f'GAME={game!r}'],
    check_steps=lambda rows, bound: recorder.check_steps(
      rows, bound.get('Collector.num_shards', recorder.NUM_SHARDS)
    ),
    make=_make_collector,
    record=lambda collector, game: {
      'game': game,
      **collector.environment.record,
    },
  )

  fine_tuning = collecting._replace(gin_file='collect_finetune.gin')

  def check_name(self, name: str) -> None:
    """Raises a UserError where there is no such game."""
    games.rom_name(name)

  def path_fields(self, name: str) -> dict[str, str]:
    """The fields that a sweep's paths can have in braces."""
    return {'game': name}

  def check(self, data: Data, environments: atari.AtariEnvironments) -> None:
    """Raises a UserError unless the data are of what is played."""
    rom_check.check(data, environments)

  def score(self, record: dict[str, Any], returns: np.ndarray) -> np.ndarray:
    """Raw scores, as they are."""
    del record
    return returns

  def normalized(self, game: str, scores: np.ndarray) -> np.ndarray | None:
    """Human-normalised scores; None where a human's is not known."""
    return published_scores.human_normalized(game, scores)

  def panel(
    self,
    agent: Agent,
    environments: atari.AtariEnvironments,
    states: np.ndarray,
    actions: np.ndarray,
  ) -> Panel:
    """The Q-values of all actions, and the chosen one's distribution."""
    names = games.action_names(environments.rom)
    q_values = agent.predict_q_values(states)[0]
    low, high = float(q_values.min()), float(q_values.max())
    # From the least to the greatest: what tells actions apart is small.
    shares = (q_values - low) / (high - low) if high > low else q_values * 0 + 1
    chosen = int(actions[0])
    rows = [
      (name, float(share), f'{value:.2f}', index == chosen)
      for index, (name, share, value) in enumerate(zip(names, shares, q_values))
    ]
    distribution = agent.predict_distribution(states)
    return Panel(
      rows,
      'Q-values; bars from the least to the greatest',
      float(q_values[chosen]),
      distribution and tuple(part[0, chosen] for part in distribution),
    )

  def fitted_q(
    self, agent: Agent, data: Data, seed: int, **penalty: Any
  ) -> Agent:
    """Fitted Q evaluation of an agent's greedy policy."""
    from cql_atari.agents import fqe_agent

    return fqe_agent.FQEAgent(agent, data, seed=seed, **penalty)


BENCHMARK = AtariBenchmark()
