"""Settings that make no sense end in one sentence, before any work."""

import json
import pathlib

import gin
import pytest
import tensorflow as tf

from cql_atari.agents import (
  cql_agent,
  networks,
  optimizers,
)
from cql_atari.core import gin_text, settings
from cql_atari.core.errors import UserError
from cql_atari.environments import atari
from cql_atari.replay import opening
from cql_atari.runs import folder, provenance, trained
from cql_atari.sweeps import plan
from cql_atari.training import rom_check

ATARI = atari.AtariEnvironments


def small(**settings):
  """A trunk that builds at once."""

  def trunk(states, initializer):
    defaults = {'filters': (2, 2, 2), 'hidden_units': 4}
    return networks.nature_trunk(states, initializer, **defaults | settings)

  return trunk


def sweep(**settings):
  defaults = {'configs': ['cql_demo.gin'], 'seeds': [0], 'games': ['Breakout']}
  return plan.Sweep(**defaults | settings)


@pytest.mark.parametrize(
  ('sentence', 'make'),
  [
    ('Adam.beta_1 is 2', lambda: optimizers.Adam(beta_1=2)),
    ('Adam.epsilon is -1', lambda: optimizers.Adam(epsilon=-1)),
    ("Adam.epsilon is 'x'", lambda: optimizers.Adam(epsilon='x')),
    ('RMSProp.decay is 1.0', lambda: optimizers.RMSProp(decay=1.0)),
    ('give 3 numbers', lambda: networks.q_network(2, 0, small(filters=(2, 2)))),
    (
      r'filters is \[0, 0, 0\]',
      lambda: networks.q_network(2, 0, small(filters=[0] * 3)),
    ),
    ('units is 0', lambda: networks.q_network(2, 0, small(hidden_units=0))),
    ('num_quantiles is 0', lambda: networks.quantile_network(2, 0)),
    ("num_heads is 'a'", lambda: networks.multi_head_network(2, 'a')),
    ('num_atoms is 1', lambda: networks.categorical_network(2, 1)),
    ('num_environments is 0', lambda: ATARI('Pong', 0)),
    ("sticky_actions is 'no'", lambda: ATARI('Pong', sticky_actions='no')),
    ('did you mean Pong', lambda: ATARI('PONG')),
    ('did you mean MsPacman', lambda: ATARI('mspacman')),
    ('replay_dir is 3', lambda: opening.open_store(3, 'Pong', 6)),
    (
      "residence is 'no'",
      lambda: opening.open_store('x', 'Pong', 6, residence='no'),
    ),
    (r'Sweep.configs is \[1\]', lambda: sweep(configs=[1])),
    (r'Sweep.gin_bindings is \[1\]', lambda: sweep(gin_bindings=[1])),
    (r'Sweep.seeds is \[-1\]', lambda: sweep(seeds=[-1])),
    ('Sweep.replay_dir is 3', lambda: sweep(replay_dir=3)),
    ('Sweep.replay_dirs is 3', lambda: sweep(replay_dirs=3)),
    ('did you mean Asterix', lambda: sweep(replay_dirs={'Asterx': 'x'})),
    (
      'training_steps is 1.5',
      lambda: sweep(
        gin_bindings=['FixedReplayRunner.training_steps=1.5']
      ).runs('x'),
    ),
  ],
)  # fmt: skip
def test_a_setting_out_of_range_is_one_sentence(sentence, make):
  with pytest.raises(UserError, match=sentence):
    make()


@pytest.mark.parametrize(
  ('sentence', 'settings'),
  [
    ('batch_size is 0', {'batch_size': 0}),
    ('epsilon_eval is 2', {'epsilon_eval': 2}),
    ("epsilon_eval is 'a'", {'epsilon_eval': 'a'}),
    ("double_q is 'False'", {'double_q': 'False'}),
    ('kappa is 0', {'kappa': 0}),
    ('alpha is -1', {'alpha': -1}),
    ('not of 3 axes with 4 actions', {'network': networks.q_network}),
  ],
)
def test_an_agent_s_setting_out_of_range_is_one_sentence(
  demo_store, sentence, settings
):
  with pytest.raises(UserError, match=sentence):
    cql_agent.CQLAgent(demo_store, **settings)


def test_data_of_another_game_than_is_played_are_refused(demo_store):
  with pytest.raises(UserError, match='data are of Breakout'):
    rom_check.check(demo_store, ATARI('Pong'))
  rom_check.check(demo_store, ATARI('Breakout'))


def test_a_sweep_s_data_may_be_elsewhere_for_some_games():
  runs = sweep(
    games=['Breakout', 'Pong'],
    replay_dir='data/{game}/1',
    replay_dirs={'Pong': 'other/{game}/2'},
  ).runs('x')
  ends = [pathlib.Path(run.replay_dir).parts[-3:] for run in runs]
  assert ends == [('data', 'Breakout', '1'), ('other', 'Pong', '2')]
  assert "other/Pong/2'" in runs[1].gin_bindings[-1]


def test_python_given_as_a_gin_file_is_told(tmp_path):
  path = tmp_path / 'my_agents.py'
  path.write_text('class Mine:\n  pass\n')
  with pytest.raises(UserError, match='has the line "import my_agents"'):
    list(gin_text.statements([str(path)], ()))


def test_scopes_are_kept_apart():
  lines = (
    'policy/Adam.learning_rate=1e-4',
    'critic/Adam.learning_rate=3e-4',
    'FixedReplayRunner.create_agent_fn=@CQLAgent',
  )
  bound = settings.check((), lines, settings.AGENT)
  assert bound['policy/Adam.learning_rate'] == 1e-4
  assert bound['critic/Adam.learning_rate'] == 3e-4
  with pytest.raises(UserError, match='learning_rate'):
    settings.check((), (*lines, 'critic/Adam.learning_rat=1'), settings.AGENT)


def test_the_owner_of_a_parameter_is_the_class_that_has_it():
  for name, owner in (
    ('CQLAgent.alpha', 'CQLMixin'),
    ('CQLAgent.kappa', 'QRDQNAgent'),
    ('CQLAgent.gamma', 'FixedReplayAgent'),
    ('FixedReplayDQNAgent.optimizer', 'FixedReplayDQNAgent'),
    ('CQLSACAgent.entropy_backup', 'SACAgent'),
    ('OwnAgent.margin', 'OwnAgent'),
  ):
    assert settings.owner(*name.split('.')) == owner


def test_a_table_can_be_run_for_one_game():
  table = settings.check(('sweeps/table3.gin',), (), 'Sweep.configs')
  for game in table['Sweep.games']:
    sweep(games=[game], replay_dirs=table['Sweep.replay_dirs'])


def test_what_nothing_uses_is_found(caplog):
  gin.clear_config()
  with gin.unlock_config():
    gin.parse_config('Adam.learning_rate = 0.1\nRMSProp.decay = 0.5')
  optimizers.Adam()
  bindings = ['Adam.learning_rate=0.1', 'RMSProp.decay=0.5', "GAME='Pong'"]
  folder.warn_of_unused(bindings)
  assert [record.args[0] for record in caplog.records] == ['RMSProp.decay']
  gin.clear_config()


@pytest.mark.parametrize('text', ['{', '[]', ''])
def test_a_damaged_record_is_named(tmp_path, text):
  for name in ('config.gin', 'manifest.json', 'run.json'):
    (tmp_path / name).write_text(text)
  with pytest.raises(UserError, match=r'run\.json is damaged'):
    provenance.provenance(tmp_path / 'run.json')
  with pytest.raises(UserError, match=r'run\.json is damaged'):
    trained.TrainedRun(tmp_path, with_data=False)


def test_provenance_tells_of_earlier_starts_and_devices(tmp_path):
  path = tmp_path / 'run.json'
  first = provenance.provenance(path)
  assert first['devices'] == ['CPU'] or tf.config.list_physical_devices('GPU')
  path.write_text(json.dumps(first))
  (earlier,) = provenance.provenance(path)['earlier_starts']
  assert earlier == {k: v for k, v in first.items() if k != 'earlier_starts'}


def test_macros_of_macros_and_in_lists_are_followed(tmp_path):
  path = tmp_path / 'mine.gin'
  path.write_text(
    "include 'cql_1pct.gin'\n"
    'CQLMixin.alpha = %ALPHA\nALPHA = %BETA\nBETA = 2.5\n'
    'nature_trunk.filters = (%F, 64, 64)\nF = 16\n'
  )
  bound = settings.check([str(path)], ["GAME='Pong'"], settings.AGENT)
  assert bound['CQLMixin.alpha'] == 2.5
  assert bound['nature_trunk.filters'] == (16, 64, 64)
  with pytest.raises(UserError, match='%ALPHA is used, but nothing defines'):
    settings.check([str(path)], ["GAME='Pong'", 'BETA=%ALPHA'], settings.AGENT)


@pytest.mark.parametrize(
  ('binding', 'sentence'),
  [
    ('CQLMixin.alpha=1e999', 'CQLMixin.alpha is inf: give a number'),
    ('CQLMixin.target_gap=-1e999', 'target_gap is -inf: give a number'),
    ('TransitionSampler.max_chunk_size=4', 'has no parameter max_chunk_size'),
  ],
)
def test_what_is_no_setting_is_told_before_tensorflow(binding, sentence):
  with pytest.raises(UserError, match=sentence):
    settings.check(['cql_demo.gin'], [binding], settings.AGENT)
