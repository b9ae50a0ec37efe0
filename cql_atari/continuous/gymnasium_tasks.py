"""Any task of continuous control in gymnasium, as a benchmark.

Agents for D4RL train on it unchanged. Scores are raw returns; there are no
published scores to compare them with.
"""

from typing import Any

import numpy as np

from cql_atari.continuous import d4rl_benchmark
from cql_atari.core.protocols import ScoreTable


class Gymnasium(d4rl_benchmark.D4RLBenchmark):
  """See `core.protocols.Benchmark`."""

  name = 'gymnasium'
  return_label = 'evaluation return'
  table = ScoreTable('returns', 'Returns', 'Returns of evaluations.')
  columns = ()

  def score(self, record: dict[str, Any], returns: np.ndarray) -> np.ndarray:
    """The returns themselves, also where the task cannot be made."""
    del record
    return returns

  def normalized(self, game: str, scores: np.ndarray) -> np.ndarray | None:
    """Not known."""
    del game, scores
    return None


BENCHMARK = Gymnasium()
