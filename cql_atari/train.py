"""Trains an agent offline: python -m cql_atari.train --gin_files=cql_1pct.gin.

Flags and files are checked, and the split's store is built or found, before
TensorFlow is imported.
"""

import json
import pathlib

from absl import flags, logging

from cql_atari.core import errors, locks, quiet, settings
from cql_atari.core.files import make_folder, write_text, writing
from cql_atari.replay import open_store
from cql_atari.runs import provenance

_BASE_DIR = flags.DEFINE_string(
  'base_dir', None, 'The run folder: checkpoints, logs, metrics, config.'
)
_GIN_FILES = flags.DEFINE_multi_string(
  'gin_files', [], 'A gin file, by path or by name; repeatable.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
  'gin_bindings', [], 'A gin binding, such as "CQLMixin.alpha=2.0"; repeatable.'
)
_REPLAY_DIR = flags.DEFINE_string(
  'replay_dir', None, 'A run of the dataset: the folder with replay_logs in it.'
)

_RECORDS = ('config.gin', 'run.json', 'manifest.json')
_ROM_DIR = flags.DEFINE_string(
  'rom_dir', None, "A folder of other ROMs than ALE's, such as pong.bin."
)


def main() -> None:
  """Trains by the flags."""
  if not _GIN_FILES.value:
    raise errors.UserError(
      'no --gin_files given: try --gin_files=cql_demo.gin for the built-in '
      'data.'
    )
  bindings = list(_GIN_BINDINGS.value)
  for macro, flag in (('REPLAY_DIR', _REPLAY_DIR), ('ROM_DIR', _ROM_DIR)):
    if flag.value is not None:
      folder = pathlib.Path(flag.value).expanduser().absolute()
      bindings.append(f'{macro}={str(folder)!r}')
  settings.parse(_GIN_FILES.value, bindings, final=False)
  base_dir = _make_base_dir()
  with locks.alone_in(base_dir, 'training'):
    try:
      data = open_store.open_data()
    except TypeError as error:  # Gin names the parameter that is not bound.
      if 'missing' not in str(error):
        raise
      raise errors.UserError(settings.one_line(error)) from None
    with quiet.quiet():
      import tensorflow as tf

      from cql_atari.training import runner

      settings.import_all()
      quiet.share_cores()
      tf.constant(0)  # Starts the devices, which is noisy too.
    quiet.warn_of_idle_gpus()
    settings.parse(_GIN_FILES.value, bindings, final=True)
    runner = runner.FixedReplayRunner(base_dir, data)
    for name in provenance.unused(_GIN_BINDINGS.value):
      logging.warning('%s is bound, but nothing in this run uses it.', name)
    has_records = all((base_dir / name).is_file() for name in _RECORDS)
    if runner.is_finished and has_records:
      provenance.tell_of_other_settings(base_dir)
    else:
      runner.environments.check(data)
      with writing(base_dir):
        _write_records(base_dir, data, runner)
    runner.run_experiment()


def _make_base_dir() -> pathlib.Path:
  """The run folder, made and found writable."""
  if not _BASE_DIR.value:
    raise errors.UserError(
      'no --base_dir given: name the folder for this run, such as '
      '--base_dir=runs/first.'
    )
  return make_folder('base_dir', _BASE_DIR.value)


def _write_records(base_dir: pathlib.Path, data, runner) -> None:
  """Writes config.gin (the operative config) and run.json."""
  provenance.write_config(base_dir)
  record = {
    **runner.record,
    **runner.environments.record,
    'game': data.manifest['game'],
    'dataset_run': data.manifest.get('run'),
    'behavior_return': data.manifest['behavior_return'],
    'discounted_return': data.discounted_return(runner.gamma),
    'manifest_digest': data.digest,
    'split': data.manifest['split'],
    **provenance.provenance(base_dir / 'run.json'),
  }
  for name, content in (('run', record), ('manifest', data.manifest)):
    text = json.dumps(content, indent=1) + '\n'
    write_text(base_dir / f'{name}.json', text)


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
