"""What the pages say can be typed: README and the site."""

import importlib.util
import pathlib
import re
import shlex

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


def blocks(*languages):
  """The fenced blocks of all pages, with the page."""
  for page in PAGES:
    language, lines = None, []
    for line in page.read_text().splitlines():
      if not line.startswith('```'):
        lines.append(line)
      elif language is None:
        language, lines = line[3:], []
      else:
        if language in languages:
          yield page.relative_to(ROOT), '\n'.join(lines)
        language = None


def commands():
  """Every command of ours on the pages, as a list of words."""
  for page, line in typed_lines():
    found = re.match(r'\s*python (-m cql_atari\.\w+|scripts/\S+\.py)(.*)', line)
    if found:
      words = shlex.split(
        found[2].replace('$game', 'Pong').replace('$seed', '0')
      )
      yield pytest.param(found[1], words, id=f'{page}: {line.strip()[:70]}')


def typed_lines():
  """Lines of the blocks, and what stands in backticks within a sentence."""
  for page, block in blocks('', 'bash'):
    for line in block.replace('\\\n', ' ').splitlines():
      for command in line.split('&&'):
        yield page, command
  for page in PAGES:
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    for command in re.findall(r'`(python [^`]+)`', text):
      yield page.relative_to(ROOT), command.replace('\n', ' ')


def load(name):
  """The module of a command, or of a script."""
  if name.startswith('-m '):
    return importlib.import_module(name.removeprefix('-m '))
  path = ROOT / name
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(path.parent)
    spec.loader.exec_module(module)
  return module
