"""Which runs vary a setting of which, on runs made up by hand."""

import pathlib

import numpy as np
import pytest

from cql_atari.analysis import ablations, figures, loading, plotting, reporting
from cql_atari.core import benchmarks


def run(settings, finals=(5.0,), agent='CQL', data='1 %', **fields):
  """Runs of one kind, a seed each final score."""
  behavior = {'mean': 3.0, 'episodes': 9, 'source': 'x', 'is_clipped': False}
  record = {
    'benchmark': 'atari', 'game': 'Breakout', 'agent': agent,
    'agent_class': agent, 'has_values': True, 'data': data,
    'data_is_published': False, 'settings': settings, 'dataset_run': None,
    'behavior_return': behavior, 'discounted_return': None, **fields,
  }  # fmt: skip
  return [
    loading.LoadedRun(
      pathlib.Path(f'{settings}/{seed}'),
      benchmarks.load(record['benchmark']),
      {**record, 'seed': seed},
      {
        'gradient_steps': np.array([10.0, 20.0]),
        'eval_return_mean': np.array([7.0, final]),
      },
    )
    for seed, final in enumerate(finals)
  ]


def cql(alpha='4', penalty='H', fraction='0.01', **settings):
  values = {
    'CQLMixin.alpha': alpha,
    'CQLMixin.penalty': penalty,
    'Split.fraction': fraction,
  }
  data = f'{100 * float(fraction):g} %'
  return run(values, data=data, **settings)


RUNS = [
  *cql('16'),
  *cql('4', finals=(1.0, 2.0, 6.0)),
  *cql('0.25'),
  *cql(penalty='rho'),
  *cql(fraction='0.1'),
  # In two settings at once: part of no ablation.
  *cql('0.25', penalty='rho'),
  *run({'QRDQNAgent.kappa': '1.0'}, agent='QR-DQN'),
]


def test_each_setting_is_varied_while_the_others_are_common():
  (found,) = ablations.find(RUNS)
  assert (found.game, found.agent, found.data) == ('Breakout', 'CQL', '1 %')
  alpha, penalty, fraction = found.factors
  assert alpha.name == 'CQLMixin.alpha' and alpha.baseline == '4'
  assert list(alpha.groups) == ['0.25', '4', '16']
  assert [len(g.runs) for g in alpha.groups.values()] == [1, 3, 1]
  assert list(penalty.groups) == ['H', 'rho']
  assert list(fraction.groups) == ['0.01', '0.1']
  assert fraction.groups['0.01'].runs == alpha.groups['4'].runs


def test_two_kinds_of_runs_are_no_ablation():
  assert ablations.find([*cql('1'), *cql('4')]) == []
  assert len(ablations.find([*cql('1'), *cql('4'), *cql('16')])) == 1


def test_runs_of_other_data_are_not_pooled():
  runs = [run for a in ('1', '4', '16') for run in cql(a, manifest_digest='a')]
  ((factor,),) = (found.factors for found in ablations.find(runs))
  runs += cql('4', finals=(300.0,), manifest_digest='b')
  (found,) = ablations.find(runs)
  alpha, data = found.factors
  assert [len(group.runs) for group in alpha.groups.values()] == [1, 1, 1]
  assert alpha.name == factor.name and list(data.groups) == ['a', 'b']


def test_an_unset_value_comes_first():
  runs = [*run({}), *run({'A.tau': '5'}), *run({'A.tau': '10'})]
  ((factor,),) = (found.factors for found in ablations.find(runs))
  assert list(factor.groups) == ['unset', '5', '10']


def test_kinds_of_d4rl_s_data_are_ablated_apart():
  runs = []
  for name in ('hopper-medium', 'hopper-expert'):
    for penalty in ('H', 'rho', 'mu'):
      runs += run(
        {'CQLSACAgent.penalty': penalty},
        agent=f'CQL({penalty})',
        agent_class='CQLSACAgent',
        data=name,
        benchmark='d4rl',
        game='hopper',
      )
  found = ablations.find(runs)
  assert [one.data for one in found] == ['hopper-expert', 'hopper-medium']
  assert [len(one.factors[0].groups) for one in found] == [3, 3]


def test_the_figure_has_the_means_of_final_and_peak(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(
    plotting, 'save', lambda figure, *files: drawn.append((figure, files))
  )
  (found,) = ablations.find(RUNS)
  figures.ablation(found, tmp_path / 'ablation.png')
  ((figure, (png, pdf)),) = drawn
  assert (png.name, pdf.name) == ('ablation.png', 'ablation.pdf')
  panel = figure.axes[0]
  assert [panel.get_title() for panel in figure.axes] == [
    "alpha, the penalty's weight",
    'member of the family CQL(R)',
    'share of the rows',
  ]
  values = [
    [tick.get_text() for tick in panel.get_xticklabels()]
    for panel in figure.axes
  ]
  assert values == [['0.25', '4', '16'], ['H', '\u03c1'], ['1 %', '10 %']]
  points = {
    (line.get_marker(), *line.get_xydata()[0])
    for line in panel.lines
    if line.get_marker() in 'os'
  }
  assert points == {
    ('o', 0, 7), ('s', 0, 5), ('o', 1, 7), ('s', 1, 3), ('o', 2, 7), ('s', 2, 5)
  }  # fmt: skip


@pytest.mark.slow
def test_the_report_says_which_settings_are_common(tmp_path):
  runs = [r for r in RUNS if r.agent == 'CQL']
  reporting.write(runs, tmp_path, 'Ablations')
  text = (tmp_path / 'report.md').read_text()
  common = 'CQLMixin.alpha = 4, CQLMixin.penalty = H, Split.fraction = 0.01'
  assert '## What each setting does' in text and common in text
  assert (tmp_path / 'ablation_Breakout_CQL_1_pct.png').exists()
  reporting.write(cql('1'), tmp_path, 'One')
  assert 'each setting' not in (tmp_path / 'report.md').read_text()
