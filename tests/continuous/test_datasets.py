"""D4RL's files and Minari's datasets, and what is wrong with broken ones."""

import types

import h5py
import numpy as np
import pytest
from d4rl_files import HOPPER, KITCHEN, broken, columns, write

from cql_atari.continuous import datasets, files, tasks
from cql_atari.core.errors import UserError
from cql_atari.replay import sources


def published_semantics(arrays, limit=None):
  """D4RL's qlearning_dataset as it is described, one row at a time.

  Without timeouts an episode is cut off after `limit` steps.
  """
  found, length = [], 0
  for row in range(len(arrays['rewards']) - 1):
    length += 1
    if 'timeouts' in arrays:
      cut_off = arrays['timeouts'][row]
    else:
      cut_off = length == limit and not arrays['terminals'][row]
    if cut_off:
      length = 0
      continue
    found.append(
      (
        arrays['observations'][row],
        arrays['actions'][row],
        arrays['rewards'][row],
        arrays['observations'][row + 1],
        arrays['terminals'][row],
      )
    )
    if arrays['terminals'][row]:
      length = 0
  return [np.array(column, np.float32) for column in zip(*found)]


FIELDS = ('state', 'action', 'reward', 'next_state', 'terminal')


@pytest.mark.parametrize('next_observations', [False, True])
def test_transitions_are_those_of_d4rl(tmp_path, next_observations):
  arrays = columns()
  expected = published_semantics(arrays)
  if next_observations:
    arrays['next_observations'] = arrays['observations'] + 1.0
  path = write(tmp_path / 'any.hdf5', arrays)
  data = datasets.open_task_data('hopper-medium-v2', str(path))
  assert len(data) == 40 - 1 - 2
  for name, values in zip(FIELDS, expected):
    np.testing.assert_array_equal(getattr(data, name), values, err_msg=name)


def test_without_timeouts_episodes_are_cut_off_at_the_tasks_length(tmp_path):
  count = 3 * 280 + 50
  arrays = columns(count, KITCHEN)
  arrays['terminals'] = arrays['terminals'].astype(np.float32)
  arrays['rewards'] = arrays['rewards'][:, None]
  del arrays['timeouts']
  path = write(tmp_path / 'kitchen.hdf5', arrays)
  data = datasets.open_task_data('kitchen-mixed', str(path))
  arrays['rewards'] = arrays['rewards'][:, 0]
  expected = published_semantics(arrays, 280)
  for name, values in zip(FIELDS, expected):
    np.testing.assert_array_equal(getattr(data, name), values, err_msg=name)


# Of `columns()`: first and last + 1.
EPISODES = [(0, 10), (10, 20), (20, 21), (21, 31)]


def test_returns_are_those_of_episodes_that_end(tmp_path):
  arrays = columns()
  path = write(tmp_path / 'any.hdf5', arrays)
  data = datasets.open_task_data('hopper-medium-v2', str(path))
  rewards = arrays['rewards']
  expected = [rewards[first:stop].sum() for first, stop in EPISODES]
  behavior = data.manifest['behavior_return']
  assert behavior['episodes'] == 4
  assert behavior['mean'] == pytest.approx(np.mean(expected), rel=1e-5)
  to_go = []
  for first, stop in EPISODES:
    if not arrays['terminals'][stop - 1]:
      continue  # Too short for what follows its cut-off to weigh nothing.
    later = 0.0
    for reward in rewards[first:stop][::-1]:
      later = reward + 0.9 * later
      to_go.append(later)
  assert data.discounted_return(0.9) == pytest.approx(np.mean(to_go), rel=1e-5)


def test_returns_that_a_cut_off_leaves_unknown_do_not_count(tmp_path):
  arrays = columns(1000)
  arrays['terminals'][:] = arrays['timeouts'][:] = False
  arrays['rewards'][:] = 1.0
  arrays['timeouts'][-1] = True
  path = write(tmp_path / 'any.hdf5', arrays)
  data = datasets.open_task_data('hopper-medium-v2', str(path))
  # Play that goes on is worth 10; known to a hundredth, and less counting on.
  assert data.discounted_return(0.9) == pytest.approx(10, rel=0.001)
  assert data.discounted_return(0.999) is None  # 0.37 of it is left.


def test_states_and_rewards_are_normalized_where_asked_for(tmp_path):
  arrays = columns()
  path = write(tmp_path / 'any.hdf5', arrays)
  plain = datasets.open_task_data('hopper-medium-v2', str(path))
  data = datasets.open_task_data(
    'hopper-medium-v2',
    str(path),
    normalize_states=True,
    reward_scale=4.0,
    reward_shift=-0.5,
  )
  np.testing.assert_allclose(data.state.mean(axis=0), 0, atol=1e-5)
  np.testing.assert_allclose(data.state.std(axis=0), 1, rtol=1e-4)
  np.testing.assert_allclose(
    data.next_state * data.state_std + data.state_mean,
    plain.next_state,
    rtol=1e-3,
    atol=1e-5,
  )
  np.testing.assert_allclose(data.reward, 4 * plain.reward - 0.5, rtol=1e-6)
  assert data.digest != plain.digest
  spread = datasets.open_task_data(
    'hopper-medium-v2', str(path), return_spread=1000.0
  )
  steps = arrays['rewards'] * spread.manifest['reward_scale']
  returns = [steps[first:stop].sum() for first, stop in EPISODES]
  assert np.ptp(returns) == pytest.approx(1000, rel=1e-4)


def test_what_is_written_is_read_again(tmp_path):
  arrays = columns()
  steps = files.Steps(
    *(
      arrays[name].astype(np.float32)
      for name in ('observations', 'actions', 'rewards')
    ),
    arrays['terminals'],
    arrays['timeouts'],
  )
  path = tmp_path / 'hopper-medium.hdf5'
  files.write_hdf5(path, steps, seed=3)
  again = files.read_hdf5(path, HOPPER)
  for name in arrays:
    np.testing.assert_array_equal(getattr(again, name), getattr(steps, name))
  assert datasets.open_task_data('hopper-medium', str(tmp_path))
  twice = files.concatenate(steps, again)
  assert len(twice) == 80 and twice.timeouts[39] and twice.timeouts[79]


def test_minari_datasets_are_read_as_well(tmp_path, monkeypatch):
  minari = pytest.importorskip('minari')
  import gymnasium
  from minari import DataCollector

  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
  collector = DataCollector(gymnasium.make('Hopper-v4', max_episode_steps=20))
  lengths, seen = [], []
  for episode in range(3):
    state, _ = collector.reset(seed=episode)
    collector.action_space.seed(episode)
    rows, over = [], False
    while not over:
      action = collector.action_space.sample()
      following, reward, terminal, cut_off, _ = collector.step(action)
      rows.append((state, action, reward, following, terminal))
      state, over = following, terminal or cut_off
    lengths.append(len(rows))
    seen += rows
  collector.create_dataset(
    'own/hopper-v0', algorithm_name='random', author='us', author_email='us',
    code_permalink='none',
  )  # fmt: skip
  del minari
  data = datasets.open_task_data('hopper-medium', 'minari:own/hopper-v0')
  assert 20 in lengths and any(row[-1] for row in seen)
  for name, column in zip(FIELDS, zip(*seen)):
    expected = np.array(column, np.float32)
    found = getattr(data, name)
    if name == 'next_state':  # A terminal row's is never looked at.
      keep = data.terminal == 0
      expected, found = expected[: len(found)][keep], found[keep]
    # The last row of all has none after it where it is terminal.
    np.testing.assert_array_equal(found, expected[: len(found)], err_msg=name)
  assert len(data) >= len(seen) - 1


@pytest.mark.parametrize('name', ['antmaze-umaze', 'door-human'])
def test_what_is_other_than_d4rl_s_in_minari_is_refused(name):
  with pytest.raises(UserError, match='other coordinates or rewards'):
    datasets.open_task_data(name, 'minari:D4RL/any/v1')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('NaN', r'observations that are no numbers .* in 1 rows, such as 17'),
    ('far', r'actions outside \[-1, 1\] in 1 rows, such as 5'),
    ('other', r'observations of shape \(40, 7\).*another task'),
    ('lacking', 'has no rewards'),
    ('empty', 'holds no transition'),
  ],
)
def test_broken_files_are_named(tmp_path, name, message):
  path = write(tmp_path / 'any.hdf5', broken(name))
  with pytest.raises(UserError, match=message):
    datasets.open_task_data('hopper-medium', str(path))


def test_truncated_and_missing_files_are_named(tmp_path):
  path = write(tmp_path / 'any.hdf5', columns())
  path.write_bytes(path.read_bytes()[:-3000])
  with pytest.raises(UserError, match=r'any.hdf5 cannot be read .*truncated'):
    datasets.open_task_data('hopper-medium', str(path))
  path.write_text('<html>not found</html>')
  with pytest.raises(UserError, match='cannot be read'):
    datasets.open_task_data('hopper-medium', str(path))
  for where in (None, str(tmp_path), str(tmp_path / 'nowhere')):
    with pytest.raises(UserError, match='fetch --task=hopper'):
      datasets.open_task_data('hopper-medium', where)


def test_a_file_called_after_another_domain_is_refused(tmp_path):
  """A walker's states have as many numbers as a halfcheetah's."""
  for name in ('walker2d_medium-v2', 'walker_mixed', 'hopper-medium'):
    path = write(tmp_path / f'{name}.hdf5', columns())
    with pytest.raises(UserError, match='but the task is halfcheetah-medium'):
      datasets.open_task_data('halfcheetah-medium', str(path))


def test_what_the_kitchen_pays_is_no_true_value(tmp_path):
  size = tasks.task('kitchen-mixed').settings
  arrays = columns()
  arrays['observations'] = np.zeros((40, size.state_size), np.float32)
  arrays['actions'] = np.zeros((40, size.action_size), np.float32)
  path = write(tmp_path / 'any.hdf5', arrays)
  data = datasets.open_task_data('kitchen-mixed', str(path))
  assert data.manifest['behavior_return'] is None
  with pytest.raises(UserError, match='pay for finished tasks'):
    data.learned_rewards(np.ones(3))


def test_every_task_has_a_published_file_or_is_mixed():
  paths = {name: tasks.task(name).path for name in tasks.names()}
  assert {name for name, path in paths.items() if path is None} == {
    f'{domain}-random-expert'
    for domain in ('halfcheetah', 'hopper', 'walker2d')
  }
  found = [path for path in paths.values() if path]
  assert len(set(found)) == len(found) == 32
  assert tasks.task('walker2d-medium-replay-v0').path == (
    'gym_mujoco/walker_mixed.hdf5'
  )
  assert tasks.task('antmaze-large-play-v2').path == (
    'ant_maze_v2/Ant_maze_hardest-maze_noisy_multistart_True'
    '_multigoal_False_sparse_fixed.hdf5'
  )
  assert tasks.task('hopper-mixed').name == 'hopper-medium-replay-v2'
  assert tasks.task('kitchen-undirected').data == 'mixed'


def test_scores_are_normalized_as_d4rl_does():
  assert HOPPER.normalized_score(-20.272305) == pytest.approx(0)
  assert HOPPER.normalized_score(3234.3) == pytest.approx(100)
  assert tasks.task('antmaze-umaze').normalized_score(0.5) == 50


def test_unknown_tasks_are_named():
  with pytest.raises(UserError, match='did you mean hopper-medium'):
    tasks.task('hopper-medum-v2')
  with pytest.raises(UserError, match='versions are v0, v1 and v2'):
    tasks.task('hopper-medium-v7')
  with pytest.raises(UserError, match="no D4RL task 'Pong'"):
    tasks.task('Pong')


def test_no_file_is_left_half_written(tmp_path, monkeypatch):
  def full(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(h5py.Group, 'create_dataset', full)
  steps = files.Steps(*(np.zeros((3, 2)) for _ in range(5)))
  with pytest.raises(OSError, match='space'):
    files.write_hdf5(tmp_path / 'a.hdf5', steps)
  assert not list(tmp_path.iterdir())


def test_a_maze_s_episodes_end_where_d4rl_cuts_them_off(tmp_path):
  """The ant stays at the goal, where every row is terminal."""
  task = tasks.task('antmaze-umaze')
  arrays = columns(40, task)
  arrays['terminals'][:] = arrays['rewards'][:] = 0
  arrays['terminals'][[5, 6, 7]] = arrays['rewards'][[5, 6, 7]] = 1
  arrays['timeouts'][:] = False
  arrays['timeouts'][[9, 19, 29, 39]] = True
  write(tmp_path / 'antmaze-umaze-v0.hdf5', arrays)
  data = datasets.open_task_data('antmaze-umaze', str(tmp_path))
  assert data.manifest['behavior_return']['mean'] == 0.25
  assert data.manifest['behavior_return']['episodes'] == 4
  first = np.flatnonzero(np.isin(np.flatnonzero(~arrays['timeouts'][:-1]),
                                 [0, 10, 20, 30]))  # fmt: skip
  np.testing.assert_array_equal(data.starts, first)
  assert data.terminal.sum() == 3  # As D4RL's `qlearning_dataset` keeps them.
  # Values end where the goal is reached, and so do the returns beside them;
  # what would follow the cut-offs is not known.
  to_go = [0.9**t for t in range(6)] + [1.0, 1.0]
  assert data.discounted_return(0.9) == pytest.approx(np.mean(to_go))


class Recorded:
  """A Minari dataset of one episode."""

  def __init__(self, environment, observations):
    self.env_spec = types.SimpleNamespace(id=environment)
    self._observations = observations

  def iterate_episodes(self):
    yield types.SimpleNamespace(
      observations=self._observations,
      actions=np.zeros((3, 6)),
      rewards=np.zeros(3),
      terminations=np.zeros(3, bool),
    )


@pytest.mark.parametrize(
  ('recorded', 'sentence'),
  [
    (
      Recorded('HalfCheetah-v5', np.zeros((4, 17))),
      'is of HalfCheetah-v5, but',
    ),
    (Recorded('Walker2d-v5', (np.zeros(4), np.zeros(4))), 'of another kind'),
    (Recorded('Walker2d-v5', {'pixels': np.zeros(4)}), 'of another kind'),
  ],
)
def test_minari_datasets_of_another_kind_are_refused(
  monkeypatch, recorded, sentence
):
  pytest.importorskip('gymnasium')
  monkeypatch.setattr(sources, 'load_minari', lambda name: recorded)
  with pytest.raises(UserError, match=sentence):
    datasets.open_task_data('walker2d-medium', 'minari:x/y-v0')


@pytest.mark.parametrize('where', ['metadata', 'attributes'])
def test_files_that_name_another_environment_are_refused(tmp_path, where):
  """HalfCheetah's and Walker2d's states and actions are of the same sizes."""
  cheetah = tasks.task('halfcheetah-medium')
  path = write(tmp_path / 'play.hdf5', columns(task=cheetah))
  walker = datasets.open_task_data('walker2d-medium', str(path))
  assert len(walker)  # Nothing tells them apart.
  with h5py.File(path, 'a') as file:
    if where == 'metadata':
      file['metadata/environment'] = 'HalfCheetah-v4'
    else:
      file.attrs['env_id'] = 'halfcheetah-medium-v2'
  with pytest.raises(UserError, match=r'is of [hH]alf[cC]heetah-'):
    datasets.open_task_data('walker2d-medium', str(path))
  assert len(datasets.open_task_data('halfcheetah-medium', str(path)))


@pytest.mark.parametrize(
  ('name', 'task', 'is_refused'),
  [
    ('antmaze-umaze-v0', 'antmaze-large-play', True),
    ('antmaze-large-diverse-v0', 'antmaze-large-play', False),
    ('AntMaze_UMaze-v4', 'antmaze-large-play', False),
  ],
)
def test_the_size_of_a_recorded_maze_counts(tmp_path, name, task, is_refused):
  task = tasks.task(task)
  path = write(tmp_path / 'play.hdf5', columns(task=task))
  with h5py.File(path, 'a') as file:
    file.attrs['env_id'] = name
  if is_refused:
    with pytest.raises(UserError, match=f'is of {name}'):
      datasets.open_task_data(task.name, str(path))
  else:
    assert len(datasets.open_task_data(task.name, str(path)))


def test_metadata_of_another_kind_do_not_matter(tmp_path):
  path = write(tmp_path / 'play.hdf5', columns())
  with h5py.File(path, 'a') as file:
    del file['metadata']
    file['metadata'] = 'sac'
  assert len(datasets.open_task_data('hopper-medium', str(path)))


def test_minari_datasets_of_a_newer_version_are_read(monkeypatch):
  recorded = Recorded('Walker2d-v5', np.zeros((4, 17)))
  monkeypatch.setattr(sources, 'load_minari', lambda name: recorded)
  data = datasets.open_task_data('walker2d-medium', 'minari:x/y-v0')
  assert len(data) == 3


def test_a_file_called_after_another_task_is_refused(tmp_path):
  path = write(tmp_path / 'hopper_expert-v2.hdf5', columns())
  with pytest.raises(UserError, match=r"called after hopper-expert.*TASK='hop"):
    datasets.open_task_data('hopper-medium-v2', str(path))
  data = datasets.open_task_data('hopper-expert-v2', str(path))
  assert repr(data) == f'<Dataset: hopper-expert-v2, {len(data)} transitions>'


@pytest.mark.parametrize(
  ('task', 'sentence'),
  [
    ('pen-human-v1', 'no address of that version .* leave the version out'),
    ('hopper-medium-v2', r'cql_atari\.fetch --task=hopper-medium-v2'),
    ('hopper-random-expert-v2', r'fetch --task=hopper-random-expert-v2'),
  ],
)
def test_only_what_can_be_fetched_is_said_to_be(task, sentence):
  with pytest.raises(UserError, match=sentence):
    datasets.open_task_data(task, None)
