"""Lists the commands: python -m cql_atari."""

import ast
import pathlib
import runpy
import sys

_ORDER = (
  'train', 'collect', 'sweep', 'fetch', 'convert', 'prepare', 'verify', 'show',
  'report', 'plot', 'watch', 'value_gap', 'select_checkpoint', 'theorems',
  'export',
)  # fmt: skip


def commands() -> dict[str, str]:
  """Every command and the first line of its help, in the order of use."""
  lines = {}
  for path in pathlib.Path(__file__).parent.glob('*.py'):
    if not path.name.startswith('_'):
      text = ast.get_docstring(ast.parse(path.read_text()))
      lines[path.stem] = text.splitlines()[0].rstrip('.')
  return {name: lines[name] for name in sorted(lines, key=_ORDER.index)}


if __name__ == '__main__':
  if sys.argv[1:2] and sys.argv[1] in commands():
    name = f'cql_atari.{sys.argv.pop(1)}'
    runpy.run_module(name, run_name='__main__', alter_sys=True)
  elif sys.argv[1:] and sys.argv[1] not in ('-h', '--help'):
    sys.stderr.write(f'error: no command {sys.argv[1]}: python -m cql_atari\n')
    sys.exit(2)
  print(
    'Commands of cql_atari; each has --help. First: what it is, what to type.'
  )
  for line in commands().values():
    print(f'  {line}')
