"""Run folders as training leaves them, with made-up records."""

import csv
import json

import pytest

from cql_atari.runs import folder as folder_lib


@pytest.fixture(scope='session')
def write_run():
  """Writes a run folder of these metrics and fields of run.json."""

  def write(folder, columns, rows, behavior=None, clipped=False, **fields):
    folder.mkdir(parents=True)
    record = {
      'format': folder_lib.FORMAT,
      'benchmark': 'atari',
      'agent': 'CQL',
      'agent_class': 'CQLAgent',
      'has_values': True,
      'data': '1 %',
      'data_is_published': True,
      'game': 'Pong',
      'seed': 0,
      'settings': {},
      'dataset_run': None,
      'behavior_return': behavior
      and {
        'mean': behavior, 'episodes': 9, 'source': 'x', 'is_clipped': clipped,
      },
      'discounted_return': 0.25,
      **fields,
    }  # fmt: skip
    (folder / 'run.json').write_text(json.dumps(record))
    with open(folder / 'metrics.csv', 'w', newline='') as file:
      csv.writer(file).writerows([columns, *rows])

  return write
