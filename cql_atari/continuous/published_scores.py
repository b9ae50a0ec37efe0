"""Published D4RL scores that reports stand beside, each with its source."""

_AGENTS_1 = ('SAC', 'BC', 'BEAR', 'BRAC-p', 'BRAC-v', 'CQL(H)')
_AGENTS_2 = ('BC', 'SAC', 'BEAR', 'BRAC-p', 'BRAC-v', 'CQL(H)', 'CQL(rho)')


def _rows(agents, rows):
  return {task: dict(zip(agents, scores)) for task, scores in rows.items()}


# Kumar et al. (2020), Tables 1 and 2, on the first version of the data.
PAPER = _rows(
  _AGENTS_1,
  {
    'halfcheetah-random': (30.5, 2.1, 25.5, 23.5, 28.1, 35.4),
    'hopper-random': (11.3, 9.8, 9.5, 11.1, 12.0, 10.8),
    'walker2d-random': (4.1, 1.6, 6.7, 0.8, 0.5, 7.0),
    'halfcheetah-medium': (-4.3, 36.1, 38.6, 44.0, 45.5, 44.4),
    'walker2d-medium': (0.9, 6.6, 33.2, 72.7, 81.3, 74.5),
    'hopper-medium': (0.8, 29.0, 47.6, 31.2, 32.3, 86.6),
    'halfcheetah-expert': (-1.9, 107.0, 108.2, 3.8, -1.1, 104.8),
    'hopper-expert': (0.7, 109.0, 110.3, 6.6, 3.7, 109.9),
    'walker2d-expert': (-0.3, 125.7, 106.1, -0.2, -0.0, 121.6),
    'halfcheetah-medium-expert': (1.8, 35.8, 51.7, 43.8, 45.3, 62.4),
    'walker2d-medium-expert': (1.9, 11.3, 10.8, -0.3, 0.9, 98.7),
    'hopper-medium-expert': (1.6, 111.9, 4.0, 1.1, 0.8, 111.0),
    'halfcheetah-random-expert': (53.0, 1.3, 24.6, 30.2, 2.2, 92.5),
    'walker2d-random-expert': (0.8, 0.7, 1.9, 0.2, 2.7, 91.1),
    'hopper-random-expert': (5.6, 10.1, 10.1, 5.8, 11.1, 110.5),
    'halfcheetah-medium-replay': (-2.4, 38.4, 36.2, 45.6, 45.9, 46.2),
    'hopper-medium-replay': (3.5, 11.8, 25.3, 0.7, 0.8, 48.6),
    'walker2d-medium-replay': (1.9, 11.3, 10.8, -0.3, 0.9, 32.6),
  },
) | _rows(
  _AGENTS_2,
  {
    'antmaze-umaze': (65.0, 0.0, 73.0, 50.0, 70.0, 74.0, 73.5),
    'antmaze-umaze-diverse': (55.0, 0.0, 61.0, 40.0, 70.0, 84.0, 61.0),
    'antmaze-medium-play': (0.0, 0.0, 0.0, 0.0, 0.0, 61.2, 4.6),
    'antmaze-medium-diverse': (0.0, 0.0, 8.0, 0.0, 0.0, 53.7, 5.1),
    'antmaze-large-play': (0.0, 0.0, 0.0, 0.0, 0.0, 15.8, 3.2),
    'antmaze-large-diverse': (0.0, 0.0, 0.0, 0.0, 0.0, 14.9, 2.3),
    'pen-human': (34.4, 6.3, -1.0, 8.1, 0.6, 37.5, 55.8),
    'hammer-human': (1.5, 0.5, 0.3, 0.3, 0.2, 4.4, 2.1),
    'door-human': (0.5, 3.9, -0.3, -0.3, -0.3, 9.9, 9.1),
    'relocate-human': (0.0, 0.0, -0.3, -0.3, -0.3, 0.20, 0.35),
    'pen-cloned': (56.9, 23.5, 26.5, 1.6, -2.5, 39.2, 40.3),
    'hammer-cloned': (0.8, 0.2, 0.3, 0.3, 0.3, 2.1, 5.7),
    'door-cloned': (-0.1, 0.0, -0.1, -0.1, -0.1, 0.4, 3.5),
    'relocate-cloned': (-0.1, -0.2, -0.3, -0.3, -0.3, -0.1, -0.1),
    'kitchen-complete': (33.8, 15.0, 0.0, 0.0, 0.0, 43.8, 31.3),
    'kitchen-partial': (33.8, 0.0, 13.1, 0.0, 0.0, 49.8, 50.1),
    'kitchen-mixed': (47.5, 2.5, 47.2, 0.0, 0.0, 51.0, 52.4),
  },
)

# CORL (Tarasov et al., 2023), final scores of its README: gym and AntMaze on
# v2 of the data, Adroit on v1.
CORL = _rows(
  ('BC', 'CQL(H)'),
  {
    'halfcheetah-medium': (42.40, 47.04),
    'halfcheetah-medium-replay': (35.66, 45.04),
    'halfcheetah-medium-expert': (55.95, 95.63),
    'hopper-medium': (53.51, 59.08),
    'hopper-medium-replay': (29.81, 95.11),
    'hopper-medium-expert': (52.30, 99.26),
    'walker2d-medium': (63.23, 80.75),
    'walker2d-medium-replay': (21.80, 73.09),
    'walker2d-medium-expert': (98.96, 109.56),
    'antmaze-umaze': (55.25, 92.75),
    'antmaze-umaze-diverse': (47.25, 37.25),
    'antmaze-medium-play': (0.00, 65.75),
    'antmaze-medium-diverse': (0.75, 67.25),
    'antmaze-large-play': (0.00, 20.75),
    'antmaze-large-diverse': (0.00, 20.50),
    'pen-human': (71.03, 13.71),
    'pen-cloned': (51.92, 1.04),
    'door-human': (2.34, 5.53),
    'door-cloned': (-0.09, -0.33),
    'hammer-human': (3.03, 0.14),
    'hammer-cloned': (0.55, 0.30),
    'relocate-human': (0.04, 0.06),
    'relocate-cloned': (-0.06, -0.29),
  },
)
