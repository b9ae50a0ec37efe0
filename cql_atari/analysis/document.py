"""A report's blocks of Markdown, and the same as one HTML page."""

import base64
import html
import pathlib
import re
from collections.abc import Sequence

import markdown
import tabulate

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72em;
  margin: 2em auto; padding: 0 1em; color: #222; background: #fff; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd;
  white-space: nowrap; }}
th:nth-child(-n+3), td:nth-child(-n+3) {{ text-align: left; }}
img {{ max-width: 100%; }}
em {{ color: #555; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table of texts."""
  return tabulate.tabulate(
    rows, header, tablefmt='github', disable_numparse=True
  )


def picture(path: pathlib.Path, caption: str) -> str:
  """A picture that lies beside the report, with its caption below."""
  return f'![]({path.name})\n\n*{caption}*'


def page(title: str, text: str, folder: pathlib.Path) -> str:
  """Turns a report into one HTML page that needs no other file.

  Args:
    title: the page's title.
    text: the report as Markdown, its title first; the page gets a table of
      contents below it.
    folder: where its pictures are, which the page holds itself.
  """

  def embed(source: re.Match) -> str:
    data = base64.b64encode((folder / source[1]).read_bytes()).decode()
    return f'src="data:image/png;base64,{data}"'

  heading, _, rest = html.escape(text, quote=False).partition('\n')
  body = markdown.markdown(
    f'{heading}\n\n[TOC]\n{rest}',
    extensions=['tables', 'toc'],
    extension_configs={'toc': {'toc_depth': '2'}},
  )
  body = re.sub(r'src="([^"]+)"', embed, body)
  return _PAGE.format(title=html.escape(title), body=body)
