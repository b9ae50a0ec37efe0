"""Every gin file of the package says only what the package understands."""

import pytest

from cql_atari.core import gin_text, settings
from cql_atari.core.errors import UserError
from cql_atari.sweeps import plan  # noqa: F401

FILES = sorted(
  str(path.relative_to(gin_text.config_dir()))
  for path in gin_text.config_dir().rglob('*.gin')
)
# Parts, which others include.
PARTS = (
  'atari.gin', 'small.gin', 'small_network.gin', 'tiny_network.gin',
  'd4rl/d4rl.gin', 'd4rl/antmaze.gin', 'd4rl/small.gin', 'd4rl/ensemble.gin',
)  # fmt: skip
AGENT = 'FixedReplayRunner.create_agent_fn'


def required(name):
  if name.startswith('sweeps/'):
    return 'Sweep.configs'
  if name == 'd4rl/collect.gin':
    return 'SACCollector.create_agent_fn'
  return 'Collector.create_agent_fn' if 'collect' in name else AGENT


@pytest.mark.parametrize('name', FILES)
def test_a_file_binds_what_there_is(name):
  is_for_any_game = gin_text.last_bindings([name], []).get('GAME', '') is None
  game = ["GAME = 'Pong'"] if is_for_any_game else []
  if name in PARTS or name.startswith(('agents/', 'splits/')):
    bound = settings.check(
      [name], [f'{AGENT}=@CQLAgent', 'CQLMixin.alpha=1.0', *game], AGENT
    )
  else:
    agent = [f'{required(name)}=@CQLAgent'] if 'finetune' in name else []
    bound = settings.check([name], [*game, *agent], required(name))
  assert bound


def test_what_is_parsed_is_what_is_checked():
  text = (
    "GAME = 'Pong'\n"
    "A.names = ('x', \"it's\", None)\nA.table = {'b': [1, -2.5]}\n"
    'a/A.fn = @scope/make()\nA.game = %GAME\n'
  )
  bound = gin_text.bindings(text)
  assert bound['A.names'] == ('x', "it's", None)
  assert bound['A.table'] == {'b': [1, -2.5]}
  again = '\n'.join(
    gin_text.line(statement)
    for _, statement in gin_text._statements(text, 'here')
  )
  assert gin_text.bindings(again) == bound
  assert 'a/A.fn = @scope/make()' in again and 'A.game = %GAME' in again


def test_a_missing_file_is_suggested():
  with pytest.raises(UserError, match=r'did you mean cql_1pct\.gin'):
    gin_text.find_config('cql_1pc.gin')


@pytest.mark.parametrize(
  ('line', 'said'),
  [
    ('CQLMixin.alpha=', 'needs a value, as in "CQLMixin.alpha=VALUE"'),
    ('CQLMixin.alpha 3', 'needs a value, as in "CQLMixin.alpha=VALUE"'),
  ],
)
def test_a_binding_without_a_value_is_told_what_to_type(line, said):
  with pytest.raises(UserError, match=said):
    list(gin_text.statements([], [line]))


def test_values_of_python_are_told_to_gin_or_refused():
  assert gin_text.binding('A.b', range(3)) == 'A.b = (0,1,2,)'
  for value in (float('nan'), [float('inf')], {1, 2}, object()):
    with pytest.raises(UserError, match='cannot be told to gin: give a finite'):
      gin_text.binding('A.b', value)
