"""Collects data: from settings to a folder of recorded play."""

import pathlib
from collections.abc import Sequence

from cql_atari.core import devices, progress, settings
from cql_atari.core.errors import UserError
from cql_atari.core.files import absolute, exclusive_lock, write_json, writing
from cql_atari.core.gin_text import binding, last_bindings
from cql_atari.core.protocols import Benchmark, Collecting
from cql_atari.runs import folder, provenance
from cql_atari.runs.folder import RunFolder
from cql_atari.runs.trained import settings_of


def collect(
  benchmark: Benchmark,
  name: str,
  run_dir: pathlib.Path,
  steps: int | None,
  seed: int,
  gin_files: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  init_from: RunFolder | None = None,
  replay_dir: str | None = None,
) -> None:
  """Plays, learns and logs, or goes on with it.

  Args:
    benchmark: whose data are made.
    name: the game or task.
    run_dir: gets the data; it exists.
    steps: how much; the benchmark's own number where it is None.
    seed: seeds the weights, the games and the exploration.
    gin_files: paths or bare names; the benchmark's own file if there are none.
    gin_bindings: which override the files.
    init_from: an offline run whose agent goes on learning, by that run's
      settings where the files, which come after the benchmark's own, say
      nothing else.
    replay_dir: where that run's data are now; None where they were.

  Raises:
    UserError: a mistake in the settings, or a full disk.
    BusyError: another process is collecting in the folder.
    Stopped: SIGTERM or Ctrl-C came; progress is saved.
  """
  how = benchmark.fine_tuning if init_from else benchmark.collecting
  files = list(gin_files) or [how.gin_file]
  lines = [*gin_bindings, f'SEED={seed}', *how.bindings(name)]
  if init_from:
    if how.required in last_bindings(gin_files, gin_bindings):
      raise UserError(
        f'{how.required} is that of the run in --init_from: leave out what '
        f'binds it ({", ".join((*gin_files, *gin_bindings))}).'
      )
    of_run, of_agent = _settings_of(init_from, how, replay_dir)
    files = [*of_run, how.gin_file, *gin_files]
    lines = [*of_agent, *lines]
  bound = settings.check(files, lines, how.required, how.gin_file)
  if steps is not None:
    how.check_steps(steps, bound)
  settings.parse(files, lines, lock=False)
  with exclusive_lock(run_dir, 'collecting'):
    devices.start()
    settings.parse(files, lines, lock=True)
    progress.status('making the agent and the environments')
    collector = how.make(run_dir, name, steps)
    folder.warn_of_unused(gin_bindings)
    if collector.is_finished:
      if others := RunFolder(run_dir).other_settings():
        raise UserError(
          f'the run in {run_dir} is finished, and {others}: give another --out '
          'or --run.'
        )
    else:
      path = run_dir / 'collect.json'
      record = {
        **how.record(collector, name),
        'seed': seed,
        **provenance.provenance(path),
      }
      with writing(run_dir):
        folder.write_config(run_dir)
        write_json(path, record)
    collector.run()


def _settings_of(
  run: RunFolder, how: Collecting, replay_dir: str | None
) -> tuple[list[str], list[str]]:
  """The gin files and lines with which a run's agent goes on."""
  files, lines = settings_of(run)
  agent = run.bindings()[settings.AGENT]
  owner = how.required.split('.')[0]
  given = {
    how.required: agent,
    f'{owner}.init_from': run.path.resolve(),
    f'{owner}.replay_dir': replay_dir and absolute(replay_dir),
  }
  return files, [*lines, *(binding(*item) for item in given.items())]
