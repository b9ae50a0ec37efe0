"""Exports an agent: python -m cql_atari.export --run=DIR --out=MODEL.

Writes a SavedModel that acts with TensorFlow alone, and with --onnx also
MODEL/model.onnx. On Atari both map uint8 `states` (B, 84, 84, 4), oldest frame
first, to `action`, int32 (B,), the greedy action's index in the game's minimal
action set, and `q_values`, float32 (B, A). On D4RL they map float32 `states`
(B, S) as observed to `action` (B, A), what evaluations play, and, where the
agent has values, its `q_value` (B,).
"""

import os
import pathlib
import shutil
import tempfile

from cql_atari.core import command
from cql_atari.core.errors import UserError
from cql_atari.core.files import user_path, writing
from cql_atari.runs import exporting, trained

_COMMAND = command.Command(__doc__)
_RUN = _COMMAND.run_folder()
_OUT = _COMMAND.string('out', None, 'The model: RUN/export by default.')
_ONNX = _COMMAND.switch('onnx', 'Write model.onnx too.')


def main() -> None:
  """Exports by the flags."""
  if not _RUN.value:
    raise UserError('give a run: --run=runs/demo/cql-0.')
  run_dir = user_path(_RUN.value)
  out = user_path(_OUT.value or run_dir / 'export')
  if out.exists():
    raise UserError(f'{out} exists already: give another --out.')
  opened = trained.TrainedRun(run_dir, with_data=None)
  with writing(f'the model {out}', 'make room, or choose another --out'):
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
      model = pathlib.Path(folder) / 'model'
      exporting.save(opened, model, _ONNX.value)
      os.chmod(model, 0o755)
      shutil.move(model, out)
  print(
    f'{out}: {opened.agent.label} of {opened.name} after '
    f'{opened.gradient_steps:,} gradient steps.'
  )


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
