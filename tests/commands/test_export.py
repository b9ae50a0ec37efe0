"""What a trained run gives away: films, and models that need no package."""

import os

import cv2
import numpy as np
import pytest
from training_runs import python, without_progress

from cql_atari.analysis import film
from cql_atari.environments import atari
from cql_atari.training import atari_benchmark


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A short run of the demo with a small network."""
  folder = tmp_path_factory.mktemp('trained')
  done = python(
    '-m', 'cql_atari.train', f'--base_dir={folder / "run"}',
    '--gin_files=cql_demo.gin',
    *(
      f'--gin_bindings={binding}'
      for binding in (
        'nature_trunk.filters=(4, 8, 8)',
        'nature_trunk.hidden_units=32',
        'quantile_network.num_quantiles=20',
        'Split.shards=(10, 15)',
        'CQLMixin.target_gap=1.0',  # Part of the network's state.
        f"open_store.cache_dir='{folder / 'cache'}'",
        'FixedReplayRunner.num_iterations=1',
        'FixedReplayRunner.training_steps=200',
        'FixedReplayRunner.evaluation_steps=0',
        'FixedReplayAgent.epsilon_eval=0.5',  # It moves.
      )
    ),
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return folder / 'run'


def test_exports_act_without_the_package(trained, tmp_path, demo_store):
  """Both models, in processes of their own, against the agent itself."""
  model = tmp_path / 'model'
  done = python(
    '-m', 'cql_atari.export', f'--run={trained}', f'--out={model}', '--onnx'
  )
  assert done.returncode == 0 and without_progress(done.stderr) == '', (
    done.stderr
  )
  assert 'CQL of Breakout after 200 gradient steps' in done.stdout
  frames = demo_store.read_frames(np.arange(100, 140), 4)
  np.save(tmp_path / 'states.npy', frames.transpose(0, 2, 3, 1))
  programs = {
    'tf': """
import tensorflow as tf
model = tf.saved_model.load('model').signatures['serving_default']
out = {k: v.numpy() for k, v in model(states=tf.constant(states)).items()}
""",
    'onnx': """
import onnxruntime
session = onnxruntime.InferenceSession('model/model.onnx')
names = [output.name for output in session.get_outputs()]
out = dict(zip(names, session.run(None, {'states': states})))
""",
    'agent': f"""
import sys
from cql_atari.runs import trained
agent = trained.TrainedRun({str(trained)!r}, with_data=False).agent
agent.epsilon_eval = 0.0
out = {{
  'action': agent.select_actions(states),
  'q_values': agent.predict_q_values(states),
}}
""",
  }
  answers = {}
  for name, program in programs.items():
    (tmp_path / f'{name}.py').write_text(
      "import sys\nimport numpy as np\nstates = np.load('states.npy')\n"
      f"{program}\nnp.savez('{name}.npz', **out)\n"
      f"assert ('cql_atari' in sys.modules) == {name == 'agent'}\n"
    )
    done = python(f'{name}.py', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers[name] = np.load(tmp_path / f'{name}.npz')
  q_values = answers['agent']['q_values']
  assert q_values.shape == (40, 4) and q_values.std() > 0
  for name in ('tf', 'onnx'):
    np.testing.assert_allclose(
      answers[name]['q_values'], q_values, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(
      answers[name]['action'], answers['agent']['action']
    )


@pytest.mark.parametrize('name', ['play.mp4', 'play.gif'])
def test_a_film_shows_the_play(trained, tmp_path, name):
  out = tmp_path / 'films' / name
  done = python(
    '-m', 'cql_atari.watch', f'--run={trained}', f'--out={out}',
    '--episodes=2', '--max_steps=40',
  )  # fmt: skip
  assert done.returncode == 0 and without_progress(done.stderr) == '', (
    done.stderr
  )
  assert 'Breakout after 200 gradient steps. Returns: ' in done.stdout
  video = cv2.VideoCapture(str(out))
  pictures = []
  while True:
    there, picture = video.read()
    if not there:
      break
    pictures.append(picture)
  assert len(pictures) == 80
  assert pictures[0].shape == (420, 640, 3)
  assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(15, abs=2)
  assert (pictures[0].max(axis=2) != pictures[0].min(axis=2)).mean() > 0.1
  # The game moves, and a new one begins as the first did.
  left = [picture[:, :320].astype(int) for picture in pictures]
  assert np.abs(left[30] - left[10]).max() > 100
  assert np.abs(left[40] - left[0]).max() < 50
  assert [path.name for path in out.parent.iterdir()] == [name]


class Valued:
  """What the panel asks of an agent."""

  def __init__(self, q_values):
    self._q_values = np.array([q_values])

  def predict_q_values(self, states):
    return self._q_values

  def predict_distribution(self, states):
    returns = self._q_values[..., None] + np.arange(4)
    return returns, np.full(returns.shape, 0.25)


def draw(game, q_values, chosen, values=()):
  games = atari.AtariEnvironments(game, 1)
  screen, states = np.zeros((420, 320, 3), np.uint8), np.zeros((1, 84, 84, 4))
  panel = atari_benchmark.BENCHMARK.panel(
    Valued(q_values), games, states, np.array([chosen])
  )
  assert [name for name, *_ in panel.rows][:2] == ['NOOP', 'FIRE']
  np.testing.assert_allclose(
    panel.distribution[0], q_values[chosen] + np.arange(4)
  )
  return film.draw(screen, panel, '', values)


def test_the_chosen_action_stands_out():
  pictures = [draw('Breakout', [0.1, 0.2, 0.3, 0.4], i) for i in (1, 3)]
  rows = [picture[40:150, 320:].astype(int) for picture in pictures]
  differing = np.flatnonzero((rows[0] != rows[1]).any(axis=(1, 2)))
  # The rows of the two actions, 26 pixels each; not those of the others.
  assert 26 < differing.min() < 2 * 26 < 3 * 26 < differing.max() < 4 * 26
  assert not np.isin(np.arange(2 * 26 + 6, 3 * 26 - 2), differing).any()


@pytest.mark.parametrize(
  ('game', 'actions'), [('Breakout', 4), ('Seaquest', 18)]
)
def test_the_panel_fits_its_frame(game, actions):
  """Bars, the distribution and the curve change the picture, each its part."""
  q_values = np.linspace(0, 1, actions)
  bare = draw(game, q_values, 0)
  drawn = draw(game, q_values, 0, np.sin(np.arange(50)))
  assert bare.shape == drawn.shape == (420, 640, 3)
  assert (bare[200:] != 24).any()
  if actions == 4:
    assert (bare != drawn).any()


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['-m', 'cql_atari.export'], 'give a run'),
    (['-m', 'cql_atari.export', '--run=/nowhere'], 'no run folder'),
    (['-m', 'cql_atari.watch', '--run=x'], 'give a run and a film'),
    (
      ['-m', 'cql_atari.watch', '--run=/nowhere', '--out=a.mp4'],
      'no run folder',
    ),
    (
      ['-m', 'cql_atari.watch', '--run=/nowhere', '--out=a.avi'],
      'neither .mp4 nor .gif',
    ),
  ],
)
def test_mistakes_end_in_one_sentence(tmp_path, arguments, sentence):
  done = python(*arguments, cwd=tmp_path, env={**os.environ})
  assert done.returncode == 2
  assert sentence in done.stderr and done.stderr.count('\n') == 1, done.stderr


def test_an_export_is_not_overwritten(trained, tmp_path):
  done = python(
    '-m', 'cql_atari.export', f'--run={trained}', f'--out={tmp_path}'
  )
  assert done.returncode == 2 and 'exists already' in done.stderr
