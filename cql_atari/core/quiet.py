"""A quiet terminal: third-party start-up noise is off unless asked for."""

import contextlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator

import gin
from absl import flags, logging


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Silences stderr while TensorFlow, JAX and Gym start up.

  Their C++ parts write to the file descriptor before any log level applies, so
  the descriptor itself is diverted. `--verbosity=1` lets everything through,
  and what was held back is shown when the block fails.
  """
  parsed = flags.FLAGS.is_parsed()
  if parsed and flags.FLAGS.verbosity > 0:
    yield
    return
  # Errors that matter are raised; the graph optimizer logs as errors what it
  # merely gives up on, such as fusing residual blocks.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  sys.stderr.flush()
  with tempfile.TemporaryFile() as held:
    stderr = os.dup(2)
    os.dup2(held.fileno(), 2)
    try:
      yield
    except Exception:
      sys.stderr.flush()
      held.seek(0)
      os.write(stderr, held.read())
      raise
    finally:
      sys.stderr.flush()
      os.dup2(stderr, 2)
      os.close(stderr)


def warn_of_idle_gpus() -> None:
  """Says so when the machine has a GPU that TensorFlow can't use."""
  import tensorflow as tf

  hidden = os.environ.get('CUDA_VISIBLE_DEVICES', '0') in ('', '-1')
  if hidden or not shutil.which('nvidia-smi'):
    return
  if not tf.config.list_physical_devices('GPU'):
    logging.warning(
      'This machine has nvidia-smi, but TensorFlow sees no GPU: it computes on '
      "the CPU. pip install 'cql_atari[gpu]' brings CUDA."
    )


@gin.configurable
def share_cores(networks: int = 1) -> None:
  """Gives every network its share of the cores; call before the first tensor.

  Products of small networks gain less from many cores each than from being
  computed side by side. TF_NUM_INTRAOP_THREADS goes first.

  Args:
    networks: how many of the same size a gradient step evaluates.
  """
  import tensorflow as tf

  if networks > 1 and 'TF_NUM_INTRAOP_THREADS' not in os.environ:
    cores = len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(
      max(1, cores // networks)
    )
