"""Published scores that reports stand beside, each with its source."""

# Raw scores (random play, human) as Dopamine's and most papers' tables have
# them, of the human testers of Wang et al. (2016), not of Mnih et al. (2015).
RANDOM_AND_HUMAN = {
  'Pong': (-20.7, 14.6),
  'Breakout': (1.7, 30.5),
  'Qbert': (163.9, 13455.0),
  'Seaquest': (68.4, 42054.7),
  'Asterix': (210.0, 8503.3),
}

# The rounded pairs of the Decision Transformer's table (Chen et al., 2021,
# appendix), whose gamer-normalised scores are out of 100.
RANDOM_AND_GAMER = {
  'Pong': (-21.0, 15.0),
  'Breakout': (2.0, 30.0),
  'Qbert': (164.0, 13455.0),
  'Seaquest': (68.0, 42055.0),
}

# Kumar et al. (2020), Table 3.
PAPER_TABLE_3 = {
  '1 %': {
    'Pong': {'QR-DQN': -13.8, 'REM': -6.9, 'CQL': 19.3},
    'Breakout': {'QR-DQN': 7.9, 'REM': 11.0, 'CQL': 61.1},
    'Qbert': {'QR-DQN': 383.6, 'REM': 343.4, 'CQL': 14012.0},
    'Seaquest': {'QR-DQN': 672.9, 'REM': 499.8, 'CQL': 779.4},
    'Asterix': {'QR-DQN': 166.3, 'REM': 386.5, 'CQL': 592.4},
  },
  '10 %': {
    'Pong': {'QR-DQN': 15.1, 'REM': 8.9, 'CQL': 18.5},
    'Breakout': {'QR-DQN': 151.2, 'REM': 86.7, 'CQL': 269.3},
    'Qbert': {'QR-DQN': 7091.3, 'REM': 8624.3, 'CQL': 13855.6},
    'Seaquest': {'QR-DQN': 2984.8, 'REM': 3936.6, 'CQL': 3674.1},
    'Asterix': {'QR-DQN': 189.2, 'REM': 75.1, 'CQL': 156.3},
  },
}

# d3rlpy's published reproduction: 1 %, alpha 4, ten seeds, 12.5 million steps:
# mean final return, and mean of each seed's best, as reports here have them.
# Asterix is run 2 of the dataset there.
D3RLPY = {
  '1 %': {
    'Pong': {'CQL': (3.9, 16.3), 'QR-DQN': (-20.5, -16.6)},
    'Breakout': {'CQL': (22.0, 89.8), 'QR-DQN': (1.2, 9.0)},
    'Qbert': {'CQL': (8166.0, 15791.5), 'QR-DQN': (275.0, 695.8)},
    'Seaquest': {'CQL': (577.0, 820.5), 'QR-DQN': (108.0, 603.2)},
    'Asterix': {'CQL': (979.0, 1636.5), 'QR-DQN': (366.0, 533.5)},
  }
}


def human_normalized(game: str, score):
  """(score - random) / (human - random); None for a game that is not listed.

  Args:
    game: such as 'Pong'.
    score: raw score, a float or an array of any shape.
  """
  return _normalized(RANDOM_AND_HUMAN, game, score)


def gamer_normalized(game: str, score):
  """100 (score - random) / (gamer - random); None for a game not listed.

  Args:
    game: such as 'Pong'.
    score: raw score, a float or an array of any shape.
  """
  value = _normalized(RANDOM_AND_GAMER, game, score)
  return None if value is None else 100 * value


def _normalized(table, game, score):
  if game not in table:
    return None
  low, high = table[game]
  return (score - low) / (high - low)
