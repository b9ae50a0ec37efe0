"""Any task of continuous control in gymnasium, as a benchmark.

What trains on D4RL trains on it; scores are returns, and nobody's numbers stand
beside.
"""

import numpy as np

from cql_atari.continuous import d4rl


class Gymnasium(d4rl.D4RL):
  """See `core.protocols.Benchmark`."""

  name = 'gymnasium'
  return_label = 'evaluation return'
  table = ('returns', 'Returns', 'Returns of evaluations.')
  columns = {}  # noqa: RUF012

  def normalized(self, game: str, scores: np.ndarray) -> np.ndarray | None:
    """Not known."""
    del game, scores
    return None


BENCHMARK = Gymnasium()
