"""Writes an agent as a model that acts without this package."""

import pathlib

from cql_atari.core import quiet
from cql_atari.core.errors import UserError
from cql_atari.core.files import tensorflow_errors_as_os_errors
from cql_atari.runs.trained import TrainedRun


def save(run: TrainedRun, out: pathlib.Path, onnx: bool) -> None:
  """Writes the model.

  Args:
    run: whose agent.
    out: a folder that doesn't exist.
    onnx: whether to write model.onnx into it too.

  Raises:
    UserError: tf2onnx is not installed.
  """
  import tensorflow as tf

  exported = run.agent.exported()
  signature, policy = [exported.states], tf.Module()
  policy.weights = list(exported.variables)
  policy.act = tf.function(
    exported.act, input_signature=signature, autograph=False
  )
  with quiet.quiet():
    with tensorflow_errors_as_os_errors():
      tf.saved_model.save(policy, str(out), signatures=policy.act)
    if onnx:
      _save_onnx(policy.act, signature, out / 'model.onnx')


def _save_onnx(function, signature, path: pathlib.Path) -> None:
  try:
    import tf2onnx
  except ImportError:
    raise UserError(
      "--onnx needs tf2onnx: pip install 'cql_atari[export]'."
    ) from None
  tf2onnx.convert.from_function(
    function, input_signature=signature, opset=17, output_path=str(path)
  )
