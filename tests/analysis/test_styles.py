"""One look a method, in every figure."""

from cql_atari.analysis import figures, plotting


def looks(*labels):
  return {
    label: (look['color'], look['marker'], look['ls'])
    for label, look in plotting.styles({'Pong': dict.fromkeys(labels)}).items()
  }


def test_a_method_looks_the_same_in_every_figure():
  first = looks('CQL', 'QR-DQN', 'REM', 'BC')
  second = looks('BC', 'C51', 'QR-DQN')
  assert first['BC'] == second['BC'] and first['QR-DQN'] == second['QR-DQN']
  assert looks('CQL, alpha 4')['CQL, alpha 4'] == first['CQL']


def test_a_variant_never_looks_like_another_method():
  plain = looks('CQL', 'QR-DQN', 'REM', 'BC', 'DQN', 'CQL-DQN', 'CQL(H)')
  variants = looks('CQL, alpha 1', 'CQL, alpha 4', 'CQL, alpha 9')
  others = {look for method, look in plain.items() if method != 'CQL'}
  assert not others & {*variants.values()}
  assert looks('CQL-DQN, alpha 1')['CQL-DQN, alpha 1'] == plain['CQL-DQN']
  assert looks('CQL(H), alpha 5')['CQL(H), alpha 5'] == plain['CQL(H)']


def test_a_variant_has_no_other_method_s_colour():
  for figure in (
    ('CQL, alpha 1', 'CQL, alpha 4', 'QR-DQN', 'REM', 'BC'),
    ('CQL, alpha 1', 'CQL, alpha 4', 'QR-DQN, kappa 1', 'QR-DQN, kappa 2'),
  ):
    colours = [colour for colour, _, _ in looks(*figure).values()]
    assert len(set(colours)) == len(figure)


def test_no_two_lines_of_a_figure_look_alike():
  labels = [f'CQL, alpha {alpha}' for alpha in range(12)]
  for figure in (labels, ['CQL', *labels, 'SAC', 'BEAR', 'an own one']):
    found = looks(*figure)
    assert len(set(found.values())) == len(figure)


def test_methods_of_one_benchmark_have_colours_of_their_own():
  atari = looks('CQL', 'QR-DQN', 'REM', 'BC', 'DQN', 'C51')
  of_paper = 'BC', 'SAC', 'BEAR', 'BRAC-v', 'CQL(H)', 'CQL(rho)'
  d4rl = looks(*of_paper, 'CQL(rho-code)')
  for found in (atari, d4rl):
    assert len({colour for colour, _, _ in found.values()}) == len(found)


def test_a_logarithmic_axis_ends_where_its_values_do():
  figure, panel = plotting.plt.subplots()
  panel.plot([0, 1], [50.0, 1e6])
  figures._symlog_beyond(panel, 100)
  low, high = panel.get_ylim()
  assert 10 < low < 50 and 1e6 < high < 1e7
  plotting.plt.close(figure)
