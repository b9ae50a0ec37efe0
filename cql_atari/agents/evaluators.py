"""An agent on episodes that it doesn't learn from, as d3rlpy's evaluators."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from cql_atari.agents.fixed_replay_agent import FixedReplayAgent

NAMES = ('held_out_match', 'held_out_td_error', 'held_out_value')


def scalars(agent: 'FixedReplayAgent', rows: np.ndarray) -> dict[str, float]:
  """Scalars of an agent's online network on transitions of its store.

  Args:
    agent: the agent.
    rows: (B,), the store rows.

  Returns:
    By NAMES: how often the greedy action is the data action, the mean squared
    TD error, and the mean of max_a Q(s, a).
  """
  batch = agent.sampler.transitions(rows)
  q_values = agent.predict_q_values(batch.state)
  q_data = q_values[np.arange(len(q_values)), batch.action]
  best = agent.predict_q_values(batch.next_state).max(axis=1)
  target = batch.reward + agent.cumulative_gamma * (1 - batch.terminal) * best
  measured = (
    float(np.mean(q_values.argmax(axis=1) == batch.action)),
    float(np.mean((q_data - target) ** 2)),
    float(np.mean(q_values.max(axis=1))),
  )
  return dict(zip(NAMES, measured))
