"""Published D4RL scores that reports stand beside, each with its source."""

import csv
import pathlib

_TABLES = pathlib.Path(__file__).parents[1] / 'data' / 'scores'


def _read(name: str) -> dict[str, dict[str, float]]:
  """{task: {agent: score}} of a table in the package."""
  with (_TABLES / f'{name}.csv').open(newline='') as file:
    return {
      row.pop('task'): {agent: float(row[agent]) for agent in row if row[agent]}
      for row in csv.DictReader(file)
    }


# Kumar et al. (2020), Tables 1 and 2, on the first version of the data.
PAPER = _read('d4rl_paper')
# CORL (Tarasov et al., 2023), final scores of its README: gym and AntMaze on
# v2 of the data, Adroit on v1.
CORL = _read('d4rl_corl')
