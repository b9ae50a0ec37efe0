"""Exports an agent: python -m cql_atari.export --run=DIR --out=MODEL.

Writes a SavedModel that acts with TensorFlow alone, and with --onnx also
MODEL/model.onnx. Both map uint8 states (B, 84, 84, 4), oldest frame first, to
`action`, int32 (B,), the greedy action's index in the game's minimal action
set, and `q_values`, float32 (B, A).
"""

import os
import pathlib
import shutil
import tempfile

from absl import flags

from cql_atari.core import errors, quiet
from cql_atari.core.files import through_tensorflow, writing
from cql_atari.runs import trained

_RUN = flags.DEFINE_string('run', None, 'A run folder.')
_OUT = flags.DEFINE_string('out', None, 'The model: RUN/export by default.')
_ONNX = flags.DEFINE_bool('onnx', False, 'Write model.onnx too.')


def main() -> None:
  """Exports by the flags."""
  if not _RUN.value:
    raise errors.UserError('give a run: --run=runs/demo/cql-0.')
  run_dir = pathlib.Path(_RUN.value).expanduser()
  out = pathlib.Path(_OUT.value or run_dir / 'export').expanduser()
  if out.exists():
    raise errors.UserError(f'{out} exists already: give another --out.')
  restored = trained.restore(run_dir)
  with writing(f'the model {out}', 'make room, or choose another --out'):
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
      model = pathlib.Path(folder) / 'model'
      save(restored, model, _ONNX.value)
      os.chmod(model, 0o755)
      shutil.move(model, out)
  print(
    f'{out}: {type(restored.agent).__name__} of {restored.game} after '
    f'{restored.gradient_steps:,} gradient steps.'
  )


def save(restored: trained.Restored, out: pathlib.Path, onnx: bool) -> None:
  """Writes the model.

  Args:
    restored: the agent.
    out: a folder that doesn't exist.
    onnx: whether to write model.onnx into it too.

  Raises:
    UserError: tf2onnx is not installed.
  """
  import tensorflow as tf

  agent = restored.agent
  signature = [tf.TensorSpec((None, 84, 84, 4), tf.uint8, 'states')]

  class Policy(tf.Module):
    """The online network's greedy policy."""

    def __init__(self):
      super().__init__()
      self.variables_ = agent.online_network.trainable_variables

    @tf.function(input_signature=signature)
    def act(self, states):
      outputs = agent.online_network(states)
      return {
        'action': agent.greedy_actions(outputs),
        'q_values': agent.q_values(outputs),
      }

  policy = Policy()
  with quiet.quiet():
    with through_tensorflow():
      tf.saved_model.save(policy, str(out), signatures=policy.act)
    if onnx:
      _save_onnx(policy.act, signature, out / 'model.onnx')


def _save_onnx(function, signature, path: pathlib.Path) -> None:
  try:
    import tf2onnx
  except ImportError:
    raise errors.UserError(
      "--onnx needs tf2onnx: pip install 'cql_atari[export]'."
    ) from None
  tf2onnx.convert.from_function(
    function, input_signature=signature, opset=17, output_path=str(path)
  )


def run() -> None:
  """The console script."""
  errors.run(main)


if __name__ == '__main__':
  run()
