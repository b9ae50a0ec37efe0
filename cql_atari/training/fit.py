"""A whole training run: from settings to a finished run folder."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from cql_atari.core import devices, gin_state, progress, settings
from cql_atari.core.errors import OtherSettingsError, UserError
from cql_atari.core.files import (
  absolute,
  exclusive_lock,
  output_folder,
  user_path,
)
from cql_atari.core.gin_text import Reference, binding, last_bindings, resolved
from cql_atari.replay import opening
from cql_atari.runs import checkpoints
from cql_atari.runs.folder import RunFolder, warn_of_unused
from cql_atari.training import loggers


def fit(
  base_dir: str | os.PathLike,
  gin_files: str | Sequence[str],
  gin_bindings: Sequence[str] = (),
  *,
  replay_dir: str | os.PathLike | None = None,
  rom_dir: str | os.PathLike | None = None,
  game: str | None = None,
  seed: int | None = None,
  parameters: Mapping[str, Any] | None = None,
) -> RunFolder:
  """Trains and evaluates in a run folder of its own, or goes on with it.

  It does what `python -m cql_atari.train` does, which calls it:

    fit('runs/pong', 'cql_1pct.gin', replay_dir='data/Pong/1',
        parameters={'CQLMixin.alpha': 2.0})

  Settings are checked, and without a GPU the data are opened, before TensorFlow
  is imported. Gin's own settings are afterwards as they were.

  Args:
    base_dir: the run folder, made where it is missing.
    gin_files: a config, or several, by path or name.
    gin_bindings: lines of gin, such as "CQLMixin.alpha=2.0", which override
      the files.
    replay_dir: the data; see `open_store` and `open_task_data`.
    rom_dir: a folder of other ROMs than ALE's.
    game: the game; by default the config's, or else the data's.
    seed: seeds the weights, the batches, and the play of evaluations.
    parameters: values by name, as Python objects; they override all others.

  Returns:
    The run folder.

  Raises:
    UserError: a mistake in the settings, broken data, or a full disk.
    BusyError: another process is training in the folder.
    Stopped: SIGTERM or Ctrl-C came; progress is saved.
  """
  if isinstance(gin_files, (str, os.PathLike)):
    gin_files = [gin_files]
  gin_files = [str(name) for name in gin_files]
  if isinstance(gin_bindings, str):
    gin_bindings = [gin_bindings]
  macros = {
    'REPLAY_DIR': None if replay_dir is None else absolute(str(replay_dir)),
    'ROM_DIR': None if rom_dir is None else absolute(str(rom_dir)),
    'GAME': game,
    'SEED': seed,
  }
  values = {name: value for name, value in macros.items() if value is not None}
  values |= parameters or {}
  lines = [*gin_bindings, *(binding(*item) for item in values.items())]
  bound = last_bindings(gin_files, lines)
  if 'GAME' in bound and bound['GAME'] is None:  # D4RL's have no such macro.
    lines.append(binding('GAME', _game_of_data(bound)))
  bound = settings.check(gin_files, lines, settings.AGENT)
  makers = bound.get('FixedReplayRunner.loggers', ())
  loggers.check(makers)
  of_loggers = [
    binding(name, value)
    for name, value in bound.items()
    if f'@{name.partition(".")[0]}' in makers
  ]
  digest = hashlib.sha256(repr(sorted(bound.items())).encode()).hexdigest()
  for name in ('replay_logs', 'frames.zst'):
    if user_path(base_dir, name).exists():
      raise UserError(
        f'--base_dir={base_dir} is a folder of data: give one for the run, '
        'such as runs/mine.'
      )
  with output_folder('--base_dir', base_dir) as folder:
    if _is_finished(RunFolder(folder), bound, digest):
      _check_data(RunFolder(folder), gin_files, lines)
      gone = '' if _saved(RunFolder(folder)) else ', and its checkpoints gone'
      print(f'all iterations of this run are done already{gone}.')
    else:
      _keep_results(RunFolder(folder))
      with gin_state.isolated():
        _fit(folder, gin_files, lines, digest, of_loggers)
  return RunFolder(folder)


def _game_of_data(bound: dict[str, Any]) -> str:
  data = resolved(bound.get('open_store.replay_dir'), bound)
  if isinstance(data, Reference):
    raise UserError(f'{data} does not tell the game: add --game=GAME.')
  return opening.game_of(data)


def _is_finished(run: RunFolder, bound: dict[str, Any], digest: str) -> bool:
  """Whether a run of just these settings has done all of its iterations.

  It is known without TensorFlow; where it can't be, the runner will find out.
  """
  iterations = bound.get('FixedReplayRunner.num_iterations', 0)
  length = bound.get('FixedReplayRunner.training_steps', 0)
  if not run.has_records or run.record.get('given') != digest:
    return False
  total = iterations * length
  if not 0 < total <= max(_evaluated(run), default=0):
    return False
  saved = _saved(run)  # The last may have been damaged, and put aside.
  return not saved or total <= max(saved)


def _keep_results(run: RunFolder) -> None:
  """Refuses to begin anew over what a run came to.

  Raises:
    UserError: it has results, but no checkpoint to go on from.
  """
  if len(_evaluated(run)) and not _saved(run):
    raise UserError(
      f'the run in {run.path} has results, but its checkpoints are gone: give '
      'another --base_dir, or delete its metrics.csv to begin it anew.'
    )


def _evaluated(run: RunFolder) -> Sequence[float]:
  """The gradient steps of the rows of its metrics; of damaged ones, none."""
  with contextlib.suppress(UserError):
    return run.metrics().get('gradient_steps', ())
  return ()


def _saved(run: RunFolder) -> list[int]:
  """The gradient steps of its checkpoints."""
  return checkpoints.steps(run.checkpoints)


def _check_data(
  run: RunFolder, gin_files: Sequence[str], lines: Sequence[str]
) -> None:
  """Refuses to call a run finished whose data, where they are, are others now.

  Raises:
    UserError: they are.
  """
  digest = run.record['manifest_digest']
  with gin_state.isolated(), contextlib.suppress(UserError):  # They are gone.
    lines = [*lines, "open_store.residence = 'mapped'"]
    settings.parse(gin_files, lines, lock=False)
    digest = opening.open_data().digest
  if digest != run.record['manifest_digest']:
    raise UserError(
      f'the run in {run.path} is finished, and its data have changed since: '
      'give another --base_dir to learn from what they are now.'
    )


def _fit(
  base_dir: pathlib.Path,
  gin_files: Sequence[str],
  gin_bindings: Sequence[str],
  digest: str,
  of_loggers: Sequence[str],
) -> None:
  # Twice: without TensorFlow for the data, and once everything is imported.
  settings.parse(gin_files, gin_bindings, lock=False)
  with exclusive_lock(base_dir, 'training'):
    progress.status('opening the data')
    data = opening.open_data()
    if 'residence_reason' in data.record:
      print(data.record['residence_reason'], flush=True)
    devices.start()
    from cql_atari.training import runner as runner_lib

    devices.warn_of_idle_gpus()
    settings.parse(gin_files, gin_bindings, lock=True)
    folder = RunFolder(base_dir)
    try:
      runner = runner_lib.FixedReplayRunner(base_dir, data)
    except OtherSettingsError:
      raise
    except UserError:
      with contextlib.suppress(UserError):  # A damaged run.json.
        if others := folder.other_settings():  # They may be why.
          logging.warning('In the run in %s, %s.', base_dir, others)
      raise
    warn_of_unused(gin_bindings)
    if runner.is_finished and folder.has_records:
      if others := folder.other_settings():
        raise UserError(
          f'the run in {base_dir} is finished, and {others}: give another '
          '--base_dir.'
        )
    else:
      record = {**runner.record, 'given': digest}
      folder.write_records(record, data.manifest, of_loggers)
    progress.status('compiling the first step')
    try:
      runner.run_experiment()
    except loggers.CannotBegin:
      if not checkpoints.steps(folder.checkpoints):
        folder.remove_records()
      raise
