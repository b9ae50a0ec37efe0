"""Valid transitions and whole episodes in consecutive rows of a replay."""

import numpy as np

from cql_atari.replay.frames import STACK_SIZE

CUT_OFF = 2  # The flag of a row that ends a game which was not over.
TAIL = 0.01  # Share of a value that a cut-off may leave unknown.


def valid_rows(
  terminals: np.ndarray, update_horizon: int, stack_size: int = STACK_SIZE
) -> np.ndarray:
  """Rows of a contiguous run whose stack and n-step next state lie inside it.

  Dopamine's rule (`OutOfGraphReplayBuffer.is_valid_transition`): row i is
  sampled only if rows i-3 .. i+n exist and rows i-3 .. i-1 hold no terminal,
  which also leaves out the padding rows. A game that was cut off has no next
  state: no n-step return reaches past its last row, nor a stack.

  Args:
    terminals: (R,) flags of consecutive rows: 0, 1 or CUT_OFF.
    update_horizon: n of the n-step return.
    stack_size: frames in a state.

  Returns:
    Sorted int64 indices into the run.
  """
  history = stack_size - 1
  if len(terminals) <= history + update_horizon:
    return np.zeros(0, np.int64)
  ended = np.concatenate([[0], np.cumsum(terminals != 0)])
  rows = np.arange(history, len(terminals) - update_horizon)
  rows = rows[ended[rows] == ended[rows - history]]
  cut = np.flatnonzero(terminals == CUT_OFF)
  if len(cut):
    rows = np.setdiff1d(rows, cut[:, None] - np.arange(update_horizon))
  return rows


def episode_returns(
  terminals: np.ndarray, rewards: np.ndarray, from_start: bool
) -> np.ndarray:
  """Summed rewards of the whole episodes in a contiguous run of rows.

  Args:
    terminals: (R,) flags: 0, 1 or CUT_OFF.
    rewards: (R,) rewards, clipped as stored.
    from_start: whether row 0 begins an episode.

  Returns:
    (E,) float64 returns, in the order of play.
  """
  total = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
  borders = np.append(0, np.flatnonzero(terminals) + 1)
  returns = np.diff(total[borders])
  return returns if from_start else returns[1:]


def num_known(length: int, gamma: float) -> int:
  """Steps of a cut-off episode whose discounted return is known.

  They are so long before its end that what would have followed weighs less than
  TAIL.

  Args:
    length: of the episode, in steps.
    gamma: discount per step.
  """
  return int(np.sum(gamma ** np.arange(length, 0, -1) <= TAIL))


def summed_returns(
  rewards: np.ndarray, gamma: float, first: int | None = None
) -> float:
  """The sum over steps of an episode of their discounted returns-to-go.

  A reward counts for its own step t and all earlier ones, that is,
  (1 - gamma^(t+1)) / (1 - gamma) times.

  Args:
    rewards: (T,).
    gamma: discount per step.
    first: the number of steps, from its beginning; all by default.
  """
  steps = np.arange(1.0, len(rewards) + 1)
  counts = earlier = np.minimum(steps, len(rewards) if first is None else first)
  if gamma != 1:
    counts = gamma ** (steps - earlier) * (1 - gamma**earlier) / (1 - gamma)
  return float(rewards @ counts)
