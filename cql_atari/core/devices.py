"""The devices TensorFlow computes on."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from absl import logging

from cql_atari.core import progress, quiet, settings
from cql_atari.core.constraints import PositiveInt, configurable


def start() -> None:
  """Imports all that has settings, and has TensorFlow start its devices."""
  progress.status('starting TensorFlow')
  settings.import_all()
  with quiet.quiet():
    import tensorflow as tf

    share_cores()
    tf.constant(0)


def warn_of_idle_gpus() -> None:
  """Says so when the machine has a GPU that TensorFlow can't use."""
  hidden = os.environ.get('CUDA_VISIBLE_DEVICES', '0') in ('', '-1')
  if not hidden and shutil.which('nvidia-smi') and not has_gpu():
    logging.warning(
      'This machine has nvidia-smi, but TensorFlow sees no GPU: it computes on '
      "the CPU. pip install 'cql_atari[gpu]' brings CUDA."
    )


def cores() -> int:
  """Processors that this process may use."""
  try:
    return len(os.sched_getaffinity(0))
  except AttributeError:  # Not Linux.
    return os.cpu_count() or 1


@configurable
def share_cores(networks: PositiveInt = 1) -> None:
  """Gives every network its share of the cores; call before the first tensor.

  Products of small networks gain less from many cores each than from being
  computed side by side. TF_NUM_INTRAOP_THREADS goes first.

  Args:
    networks: how many of the same size a gradient step evaluates.
  """
  import tensorflow as tf

  if networks > 1 and 'TF_NUM_INTRAOP_THREADS' not in os.environ:
    # Too late where TensorFlow has computed before: only speed suffers.
    with contextlib.suppress(RuntimeError):
      tf.config.threading.set_intra_op_parallelism_threads(
        max(1, cores() // networks)
      )


@contextlib.contextmanager
def asynchronous() -> Iterator[None]:
  """Lets Python queue the next steps while TensorFlow computes one.

  Reading a tensor waits for it. An operation's error stays in TensorFlow's
  queue, where all later ones of the process would meet it: it is taken out.
  """
  import tensorflow as tf

  mode = tf.config.experimental
  before = mode.get_synchronous_execution()
  mode.set_synchronous_execution(False)
  try:
    yield
  except BaseException:
    tf.experimental.async_clear_error()
    raise
  finally:
    mode.set_synchronous_execution(before)


def has_gpu() -> bool:
  """Whether TensorFlow computes on a GPU."""
  import tensorflow as tf

  return bool(tf.config.list_physical_devices('GPU'))


def devices() -> list[str]:
  """The devices TensorFlow computes on: GPUs by name, or ['CPU']."""
  import tensorflow as tf

  gpus = tf.config.list_physical_devices('GPU')
  details = map(tf.config.experimental.get_device_details, gpus)
  return [gpu.get('device_name', 'GPU') for gpu in details] or ['CPU']
