"""A report's parts, written as Markdown and as one HTML page."""

import base64
import dataclasses
import html
import pathlib
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph."""

  text: str

  def markdown(self) -> str:
    """As Markdown."""
    return self.text

  def html(self) -> str:
    """As HTML."""
    return f'<p>{html.escape(self.text)}</p>'


@dataclasses.dataclass(frozen=True)
class Heading(Text):
  """A section's title."""

  def markdown(self) -> str:
    """As Markdown."""
    return f'## {self.text}'

  def html(self) -> str:
    """As HTML."""
    return f'<h2>{html.escape(self.text)}</h2>'


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of texts."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]

  def markdown(self) -> str:
    """As Markdown."""
    lines = [self.header, ['---'] * len(self.header), *self.rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)

  def html(self) -> str:
    """As HTML."""

    def line(cells, tag):
      inside = ''.join(f'<{tag}>{html.escape(c)}</{tag}>' for c in cells)
      return f'<tr>{inside}</tr>'

    body = '\n'.join(line(row, 'td') for row in self.rows)
    return (
      f'<table><thead>{line(self.header, "th")}</thead>\n'
      f'<tbody>{body}</tbody></table>'
    )


@dataclasses.dataclass(frozen=True)
class Picture:
  """A PNG with its caption; the HTML page holds it itself."""

  path: pathlib.Path
  caption: str

  def markdown(self) -> str:
    """As Markdown."""
    return f'![{self.caption}]({self.path.name})'

  def html(self) -> str:
    """As HTML."""
    data = base64.b64encode(self.path.read_bytes()).decode()
    caption = html.escape(self.caption)
    return (
      f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
      f'<figcaption>{caption}</figcaption></figure>'
    )


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
figure {{ margin: 1em 0; }}
figcaption {{ color: #555; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def markdown(title: str, parts: Sequence) -> str:
  """The whole as Markdown; pictures lie beside it."""
  blocks = [f'# {title}', *(part.markdown() for part in parts)]
  return '\n\n'.join(blocks) + '\n'


def page(title: str, parts: Sequence) -> str:
  """The whole as one HTML page that needs no other file."""
  body = '\n'.join(part.html() for part in parts)
  return _PAGE.format(title=html.escape(title), body=body)
