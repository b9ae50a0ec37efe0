"""Loggers for Weights & Biases and MLflow, with the same interface.

Bind one or more: --gin_bindings="FixedReplayRunner.loggers=[@WandbLogger]".
A logger of your own is a gin.configurable class with the methods of
`core.protocols.Logger`.
"""

import contextlib
import importlib.util
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from absl import logging

from cql_atari.core.constraints import configurable
from cql_atari.core.errors import UserError
from cql_atari.core.gin_text import Reference
from cql_atari.core.protocols import Logger, Record
from cql_atari.runs.folder import RunFolder
from cql_atari.training.signals import Stopped

_PACKAGES = {'WandbLogger': 'wandb', 'MLflowLogger': 'mlflow'}


class CannotBegin(UserError):
  """A logger cannot begin, so that the run doesn't."""


class Loggers:
  """The further logs of a run. What goes wrong in one is a warning."""

  def __init__(self, makers: Sequence[Callable[..., Logger]]):
    """Remembers what makes them, each called with (folder, record)."""
    self._makers = makers

  @contextlib.contextmanager
  def opened(self, run: RunFolder) -> Iterator[None]:
    """Opens them, and closes them however the run ends.

    Raises:
      CannotBegin: one of them can't.
    """
    self._loggers = []
    if self._makers and not run.has_records:
      raise CannotBegin(
        f'loggers need {run.path}/run.json, which cql_atari.fit writes: train '
        'by that.'
      )
    with contextlib.ExitStack() as stack:
      stack.push(self._close)
      for make in self._makers:
        try:
          logger = make(run.path, run.record)
          _ = logger.log, logger.close  # Else a mistake is told at the end.
        except Exception as error:  # Of whatever library.
          name = getattr(make, '__name__', make)
          raise CannotBegin(f'{name} cannot begin: {error}') from None
        self._loggers.append(logger)
      yield

  def _close(self, error: type[BaseException] | None, *_) -> None:
    for logger in self._loggers:
      with _warned_of(logger):
        logger.close(failed=error not in (None, Stopped))  # That can go on.

  def log(self, step: int, values: dict[str, float]) -> None:
    """Gives all of them the numbers of an iteration."""
    metrics = {
      name: value
      for name, value in values.items()
      if math.isfinite(value) and name not in ('iteration', 'gradient_steps')
    }
    for logger in self._loggers:
      with _warned_of(logger):
        logger.log(step, metrics)


def check(makers: Sequence[Any]) -> None:
  """Finds out whether loggers have what they need, before data are opened.

  Args:
    makers: references of gin's, such as '@WandbLogger'.

  Raises:
    UserError: it is no list of references, or a package is not installed.
  """
  if not isinstance(makers, (list, tuple)):
    makers = [str(makers)]
  for maker in makers:
    if not isinstance(maker, Reference) or maker.endswith('()'):
      name = str(maker).strip('@()')
      raise UserError(f'FixedReplayRunner.loggers: give [@{name}], no text.')
    if maker.removeprefix('@') in _PACKAGES:
      _check_installed(_PACKAGES[maker.removeprefix('@')])


def _check_installed(package: str) -> None:
  if importlib.util.find_spec(package) is None:
    raise UserError(
      f"{package} is not installed: pip install 'cql_atari[{package}]'."
    )


@contextlib.contextmanager
def _warned_of(logger: Logger) -> Iterator[None]:
  try:
    yield
  except Exception as error:
    logging.warning('%s failed: %s', type(logger).__name__, error)


@configurable(denylist=['folder', 'record'])
class WandbLogger:
  """Weights & Biases; needs `pip install 'cql_atari[wandb]'`."""

  def __init__(
    self,
    folder: pathlib.Path,
    record: Record,
    project: str = 'cql_atari',
    mode: Literal['online', 'offline', 'disabled'] | None = None,
  ):
    """Begins a run there, or goes on with it.

    Args:
      folder: the run folder, whose name and place name the run.
      record: the fields of run.json, which become its config.
      project: where it is filed.
      mode: 'online', 'offline' or 'disabled'; WANDB_MODE by default.

    Raises:
      UserError: the package is not installed.
    """
    _check_installed('wandb')
    import wandb

    self._run = wandb.init(
      project=project,
      mode=mode,
      dir=str(folder),
      id=record['run_id'],
      name=_name(record),
      config=record,
      resume='allow',
    )

  def log(self, step: int, metrics: dict[str, float]) -> None:
    """Keeps what an iteration came to, by gradient step."""
    self._run.log(metrics, step=step)

  def close(self, failed: bool) -> None:
    """Ends the log; an exit code of 1 marks a failed run."""
    self._run.finish(exit_code=int(failed))


@configurable(denylist=['folder', 'record'])
class MLflowLogger:
  """MLflow; needs `pip install 'cql_atari[mlflow]'`."""

  def __init__(
    self,
    folder: pathlib.Path,
    record: Record,
    experiment: str = 'cql_atari',
    tracking_uri: str | None = None,
  ):
    """Begins a run there, or goes on with it.

    Args:
      folder: the run folder.
      record: the fields of run.json, which become its parameters.
      experiment: where it is filed.
      tracking_uri: a server, or a database such as 'sqlite:///mlflow.db';
        MLFLOW_TRACKING_URI, or else MLflow's own default, by default.

    Raises:
      UserError: the package is not installed.
    """
    _check_installed('mlflow')
    # A server that is gone would be asked eight times, for minutes.
    os.environ.setdefault('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '2')
    import mlflow

    del folder
    self._client = mlflow.MlflowClient(tracking_uri)
    existing = self._client.get_experiment_by_name(experiment)
    place = (
      existing.experiment_id
      if existing
      else self._client.create_experiment(experiment)
    )
    tag = 'cql_atari.run_id'
    runs = self._client.search_runs(
      [place], f"tags.`{tag}` = '{record['run_id']}'"
    )
    if runs:
      self._id = runs[0].info.run_id
      self._client.update_run(self._id, status='RUNNING')
      return
    tags = {tag: record['run_id']}
    run = self._client.create_run(place, tags=tags, run_name=_name(record))
    self._id = run.info.run_id
    fields = {n: v for n, v in record.items() if n != 'settings'}
    for name, value in {**fields, **record['settings']}.items():
      self._client.log_param(self._id, name, str(value)[:500])

  def log(self, step: int, metrics: dict[str, float]) -> None:
    """Keeps what an iteration came to, by gradient step."""
    for name, value in metrics.items():
      self._client.log_metric(self._id, name, value, step=step)

  def close(self, failed: bool) -> None:
    """Ends the log, with the status of the run."""
    status = 'FAILED' if failed else 'FINISHED'
    self._client.set_terminated(self._id, status)


def _name(record: Record) -> str:
  return f'{record["game"]} {record["agent"]} {record["data"]} {record["seed"]}'
