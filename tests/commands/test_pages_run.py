"""What the pages say can be typed, typed: page by page, at a small size.

Each command runs as it stands on the page, with flags after it that make it
small. Runs of which a page only shows the reports are made beforehand.
"""

import glob
import pathlib
import re
import shutil

import d4rl_files
import pytest
from pages import PAGES, ROOT, blocks, commands, load

import cql_atari
from cql_atari.continuous import tasks
from cql_atari.core import gin_state
from cql_atari.sweeps import reading, watching

GAMES = ('Pong', 'Breakout', 'Qbert', 'Seaquest', 'Asterix')
# Of a page that another computer, a download or hours would be needed for.
ELSEWHERE = {
  'scripts/benchmarks/': 'compares with peers; tests/scripts has what is ours',
  'minari:mujoco/pusher': 'downloads; tests/continuous makes such a dataset',
  'cql_atari.theorems': 'takes minutes; tests/tabular runs it',
  '--task=halfcheetah': 'learns nothing in a thousand steps, which it says',
  'SOURCE': 'stands for a recording',
  'my_agent.gin': 'test_pages writes it as the page says',
}
_RUN = (
  'FixedReplayRunner.num_iterations=2',
  'FixedReplayRunner.training_steps=4',
  'FixedReplayRunner.max_steps_per_episode=20',
  'FixedReplayRunner.evaluation_steps=10',
)
_ATARI = (
  *_RUN,
  'nature_trunk.filters=(4, 4, 4)',
  'nature_trunk.hidden_units=16',
  'quantile_network.num_quantiles=8',
  'AtariEnvironments.num_environments=2',
)
_D4RL = (
  *_RUN,
  'Critic.hidden_units=(8, 8)',
  'TanhGaussianPolicy.hidden_units=(8, 8)',
  'ContinuousAgent.batch_size=16',
  'D4RLEnvironments.num_environments=1',
)
_SAC = (
  *_D4RL[4:7],
  'SACCollector.rows=300',
  'SACCollector.random_steps=200',
  'SACCollector.snapshot_period=500',
  'SACCollector.snapshot_episodes=2',
)
_FINE_TUNER = (
  'FineTuner.learning_starts=200',
  'FineTuner.snapshot_period=500',
  'FineTuner.snapshot_episodes=2',
)
_COLLECTOR = ('Collector.num_shards=1', 'Collector.min_replay_history=3900')
_FLAGS = {
  '-m cql_atari.watch': ('--max_steps=4',),
  '-m cql_atari.value_gap': ('--episodes=2', '--states=4'),
  '-m cql_atari.select_checkpoint': ('--fqe_steps=2',),
  'scripts/verdicts.py': ('--steps=4',),
  'scripts/record_play.py': ('--shards=2', '--rows=200', '--distinct=200'),
}


def ran(page):
  """The commands of a page that can run here, each once, in its order."""
  typed = []
  for parameters in commands():
    name, words = parameters.values
    line = ' '.join((name, *words))
    is_here = not any(part in line for part in ELSEWHERE)
    # The page of all commands, and sentences, name what stands for a folder.
    is_whole = bool(words) and parameters.id.startswith(f'{page}: ')
    if is_here and is_whole and page.name != 'commands.md':
      typed.append((name, words))
  return [pair for i, pair in enumerate(typed) if pair not in typed[:i]]


PAGES_WITH_COMMANDS = [
  pytest.param(page, marks=() if page.name == 'README.md' else pytest.mark.slow)
  for page in (p.relative_to(ROOT) for p in PAGES)
  if ran(page)
]


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
  """The bucket and D4RL's server in small, and a run on each."""
  root = tmp_path_factory.mktemp('recorded')
  for game in GAMES[:2]:
    small = ('--shards=1', '--rows=4000', '--distinct=500')
    words = (f'--game={game}', f'--out={root / "bucket"}', *small)
    assert not call('scripts/record_play.py', words)
  for path in ('Qbert/1', 'Seaquest/1', 'Asterix/1', 'Asterix/2'):  # No matter.
    shutil.copytree(root / 'bucket/Breakout/1', root / 'bucket' / path)
  server = root / 'server' / tasks.task('hopper-medium-v2').path
  server.parent.mkdir(parents=True)
  d4rl_files.write(server, d4rl_files.columns(300))
  hopper = root / 'hopper'
  hopper.mkdir()
  for kind in ('medium', 'medium-replay', 'medium-expert'):
    shutil.copy(server, hopper / f'hopper-{kind}.hdf5')
  for name, config, data, small in (
    ('atari', 'cql_1pct.gin', root / 'bucket/Pong/1', _ATARI),
    ('d4rl', 'd4rl/cql.gin', hopper, (*_D4RL, "TASK='hopper-medium'")),
  ):
    cql_atari.fit(root / name, config, small, replay_dir=data)
  return root


def call(name, words):
  """Runs a command's `main` in this process; 0 is success."""
  module = load(name)
  values = module._COMMAND.flags
  values.unparse_flags()
  try:
    with gin_state.isolated():
      return module._COMMAND.call(module.main, [name, *words])
  finally:
    for flag in list(values):
      values[flag].unparse()
    values.mark_as_parsed()


def smaller(name, words, recorded):
  """Flags that make a command small, to come after its own."""
  given = ' '.join(words)
  if name == '-m cql_atari.fetch':
    source = 'server' if '--task' in given else 'bucket'
    return [f'--source={recorded / source}']
  if name == '-m cql_atari.train':
    return bindings(_D4RL if 'd4rl' in given else _ATARI)
  if name == '-m cql_atari.collect':
    if '--task' in given or 'hopper' in given:
      lines = _FINE_TUNER if '--init_from' in given else _SAC
      return ['--steps=1000', *bindings(lines)]
    return ['--steps=4000', *bindings((*_ATARI[4:6], *_COLLECTOR))]
  if name == '-m cql_atari.sweep' and '--dry_run' not in words:
    return smaller_sweep(words)
  if any(word.startswith('--values=') for word in words):
    return [*_FLAGS[name], '--fqe_steps=2']
  return _FLAGS.get(name, ())


def smaller_sweep(words):
  """Two configs, one game and one seed of a sweep."""
  values = load('-m cql_atari.sweep')._COMMAND.flags
  values(['sweep', *words])
  with gin_state.isolated():
    sweep = reading.read(
      values['gin_files'].value, values['gin_bindings'].value
    )
  lines = list(_D4RL if sweep.tasks else _ATARI)
  lines.append(f'Sweep.seeds={list(sweep.seeds[:1])}')
  if sweep.tasks:
    lines.append(f'Sweep.tasks={list(sweep.tasks[:1])}')
  else:
    lines.append(f'Sweep.games={list(sweep.games[-1:])}')
  configs = sorted(sweep.configs, key=lambda config: 'cql' not in config)
  lines.append(f'Sweep.configs={configs[:2]}')  # What pages compare with CQL.
  return bindings(lines)


def bindings(lines):
  return [f'--gin_bindings={line}' for line in lines]


def make_runs(words, recorded):
  """Trained runs where a command expects some and the page made none."""
  for word in words:
    flag, _, pattern = word.partition('=')
    if flag in ('--run', '--runs', '--init_from') and not glob.glob(pattern):
      if (ROOT / pattern).is_dir():  # Records that the pages bring along.
        shutil.copytree(ROOT / pattern, pattern)
        continue
      kind = 'd4rl' if 'hopper' in pattern else 'atari'
      path = re.sub(r'\[.*?\]|\*', '0', pattern)
      if 'online' in path:
        return make_online(recorded, pathlib.Path(path))
      shutil.copytree(recorded / kind, path)


@pytest.mark.parametrize('page', PAGES_WITH_COMMANDS, ids=str)
def test_commands_run(page, recorded, tmp_path, monkeypatch, capfd):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(watching, '_SECONDS_PER_LOOK', 0.1)
  (tmp_path / 'docs').mkdir()
  typed = ran(page)
  make_data([words for _, words in typed], recorded)
  if page.name == 'own_data.md':
    for name, code in blocks('python'):
      if name == page:
        exec(code.replace('1_000', '2'), {})
  for name, words in typed:
    make_runs(words, recorded)
    words = [*words, *smaller(name, words, recorded)]
    status = call(name, words)
    assert not status, (name, words, capfd.readouterr())


def make_data(typed, recorded):
  """What the page's commands learn from and do not make themselves."""

  def makes(*flags):
    return any(set(flags) <= set(words) for words in typed)

  for game in GAMES:
    for folder in ('data', 'own'):
      if not makes(f'--game={game}', f'--out={folder}'):
        shutil.copytree(recorded / 'bucket' / game, f'{folder}/{game}')
  if not makes('--task=hopper', '--out=data'):
    shutil.copytree(recorded / 'hopper', 'data/hopper/1')


def make_online(recorded, root):
  """The folder of scripts/online.sh, of one seed."""
  shutil.copytree(recorded / 'atari', root / 'offline-0')
  for arm in ('cql', 'qrdqn', 'nothing'):
    shutil.copytree('online/Pong/1', root / f'{arm}-0' / 'Breakout' / '1')
