"""A whole training run: from settings to a finished run folder."""

import pathlib
from collections.abc import Sequence

from absl import logging

from cql_atari.core import benchmarks, devices, quiet, settings
from cql_atari.core.files import alone_in
from cql_atari.replay import open_store
from cql_atari.runs import folder as folder_lib

_REQUIRED = 'FixedReplayRunner.create_agent_fn'


def fit(
  base_dir: pathlib.Path,
  gin_files: Sequence[str],
  gin_bindings: Sequence[str] = (),
) -> None:
  """Trains by gin files, in a folder of its own, or goes on with it.

  Settings are checked, and without a GPU the data are opened, before TensorFlow
  is imported.

  Args:
    base_dir: the run folder, which exists.
    gin_files: paths or bare names, such as 'cql_1pct.gin'.
    gin_bindings: such as "GAME='Breakout'", which override the files.

  Raises:
    UserError: a mistake in the settings, broken data, or a full disk.
    BusyError: another process is training in the folder.
    Stopped: SIGTERM or Ctrl-C came; progress is saved.
  """
  settings.check(gin_files, gin_bindings, _REQUIRED)
  settings.parse(gin_files, gin_bindings, final=False)
  with alone_in(base_dir, 'training'):
    data = open_store.open_data()
    if 'residence_reason' in data.record:
      print(data.record['residence_reason'], flush=True)
    with quiet.quiet():
      quiet.import_tensorflow()
      import tensorflow as tf

      from cql_atari.training import runner as runner_lib

      settings.import_all()
      devices.share_cores()
      tf.constant(0)  # Starts the devices, which is noisy too.
    devices.warn_of_idle_gpus()
    settings.parse(gin_files, gin_bindings, final=True)
    runner = runner_lib.FixedReplayRunner(base_dir, data)
    for name in folder_lib.unused(gin_bindings):
      logging.warning('%s is bound, but nothing in this run uses it.', name)
    folder = folder_lib.RunFolder(base_dir)
    if runner.is_finished and folder.has_records:
      folder.warn_of_other_settings()
    else:
      benchmark = benchmarks.load(runner.environments.benchmark)
      benchmark.check(data, runner.environments)
      folder.write_records(runner.record, data.manifest)
    runner.run_experiment()
