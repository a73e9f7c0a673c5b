"""One HTML file that can be mailed, printed and opened in ten years: no outside link, no script, every text escaped.

Names of classes, files and settings come from strangers' files. They go through `text` (escape, control characters out), and the page
forbids its reader by a content security policy to load or run anything.
"""

from __future__ import annotations

import base64
import html
import io
import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, Union

import numpy as np

from .panels import hexadecimal
from .tables import write_bytes

FONT = "'Segoe UI', 'Source Sans 3', 'Noto Sans', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

STYLE = """
:root { color-scheme: light; --ink: #1c2833; --soft: #5b6b79; --line: #dfe5ea; --accent: #1d5f8a; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 FONT; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
header { border-bottom: 2px solid var(--accent); padding-bottom: 1rem; margin-bottom: 1.75rem; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 600; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 2.75rem 0 .5rem; color: var(--accent); break-after: avoid; }
h1, h2, p, td, th, dd, figcaption, summary { overflow-wrap: anywhere; }
p { margin: .4rem 0 1rem; max-width: 46rem; }
header p { color: var(--soft); margin: .4rem 0 0; }
.facts { display: flex; flex-wrap: wrap; gap: 1.1rem 1.9rem; margin: 0 0 1rem; }
.facts div { border-left: 2px solid var(--line); padding-left: .7rem; }
.facts dt { font-size: .8rem; color: var(--soft); }
.facts dd { margin: 0; font-size: 1.3rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums lining-nums; min-width: 50%; }
th { text-align: left; vertical-align: bottom;
  font-weight: 600; font-size: .8rem; color: var(--soft); border-bottom: 1px solid var(--soft); }
td { border-bottom: 1px solid var(--line); vertical-align: top; }
th, td { padding: .38rem 1.4rem .38rem 0; }
td:first-child { min-width: 8rem; }
th:last-child, td:last-child { padding-right: .2rem; }
table.numeric th:not(:first-child), table.numeric td:not(:first-child) { text-align: right; white-space: nowrap; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .55em; vertical-align: -.04em;
  box-shadow: inset 0 0 0 1px rgba(0, 0, 0, .18); print-color-adjust: exact; -webkit-print-color-adjust: exact; }
figure { margin: 1rem 0 1.5rem; break-inside: avoid; }
figure svg, figure img { display: block; max-width: 100%; height: auto; }
figure img { image-rendering: pixelated; }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .4rem; max-width: 46rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1.1rem 1.5rem; margin: .75rem 0 1.5rem; }
.gallery figure { margin: 0; }
.gallery img { width: 100%; }
.legend { font-size: .85rem; color: var(--soft); }
.legend span.entry { margin-right: 1.4em; white-space: nowrap; }
details { border-top: 1px solid var(--line); padding: .55rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { font: .8rem/1.5 Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: .6rem 0; }
@page { margin: 16mm; }
@media print { body { font-size: 10pt; } main { max-width: none; padding: 0; } tr { break-inside: avoid; } .wide { overflow: visible; }
  th, td { padding-right: .8rem; } .facts dd { font-size: 1.1rem; } .facts { gap: .8rem 1.2rem; } h2 { margin-top: 1.75rem; } }
""".replace("FONT", FONT)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Swatch(NamedTuple):
    """A table cell or legend entry: a name with its colour before it."""

    name: str
    colour: Any


class Report:
    """A page, filled from top to bottom and written at the end. Every method escapes what it gets."""

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self.parts: list[str] = []
        self.figures = 0

    def heading(self, heading: str) -> None:
        self.parts.append(f"<h2>{text(heading)}</h2>")

    def text(self, paragraph: str) -> None:
        self.parts.append(f"<p>{text(paragraph)}</p>")

    def facts(self, pairs: Sequence[tuple[str, Any]]) -> None:
        """The few numbers to see first, as (label, value)."""
        cells = "".join(f"<div><dt>{text(label)}</dt><dd>{cell(value)}</dd></div>" for label, value in pairs)
        self.parts.append(f'<dl class="facts">{cells}</dl>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: bool = True) -> None:
        """Cells are texts, numbers, `Swatch` or None; with `numeric` all columns but the first are set to the right."""
        self.parts.append(_table(header, rows, numeric))

    def legend(self, entries: Sequence[Swatch]) -> None:
        spans = "".join(f'<span class="entry">{cell(entry)}</span> ' for entry in entries)
        self.parts.append(f'<p class="legend">{spans}</p>')

    def figure(self, figure: Any, caption: str = "") -> None:
        """A `matplotlib.figure.Figure` as inline SVG: sharp in print, its text can be searched."""
        self.figures += 1
        self.parts.append(f'<figure role="img" aria-label="{text(caption)}">{svg(figure, f"f{self.figures}")}{_caption(caption)}</figure>')

    def image(self, picture: np.ndarray, caption: str = "", scale: float = 1) -> None:
        """An RGB array uint8 `(rows, cols, 3)`, shown `scale` times as large (never wider than the page)."""
        self.parts.append(_image(picture, caption, scale))

    def gallery(self, pictures: Sequence[tuple[np.ndarray, str]]) -> None:
        """Several (RGB array, caption), two beside each other."""
        self.parts.append(f'<div class="gallery">{"".join(_image(picture, caption, 1) for picture, caption in pictures)}</div>')

    def details(self, summary: str, content: str) -> None:
        """Folded, in fixed-width letters: settings, versions, logs."""
        self.parts.append(f"<details><summary>{text(summary)}</summary><pre>{text(content)}</pre></details>")

    def details_table(self, summary: str, header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: bool = True) -> None:
        """A table that is folded away."""
        self.parts.append(f"<details><summary>{text(summary)}</summary>{_table(header, rows, numeric)}</details>")

    def to_html(self) -> str:
        subtitle = f"<p>{text(self.subtitle)}</p>" if self.subtitle else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{text(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            f"<header><h1>{text(self.title)}</h1>{subtitle}</header>\n" + "\n".join(self.parts) + "\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: Union[str, os.PathLike]) -> None:
        """Writes the page whole or not at all. Raises `OutputError`."""
        write_bytes(path, self.to_html().encode("utf-8", "replace"))


def text(value: Any) -> str:
    """`value` escaped for HTML, in elements and attributes. Control characters, and those that turn the reading direction, become �."""
    return html.escape(re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "\ufffd", str(value)), quote=True)


def number(value: Real) -> str:
    """A number as people read it: 12 345 678, 0.9234, 123.46; an en dash for NaN."""
    if isinstance(value, Integral):
        return f"{int(value):,}".replace(",", "\u202f")
    value = float(value)
    if not math.isfinite(value):
        return "\u2013" if math.isnan(value) else str(value)
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}".replace(",", "\u202f")


def cell(value: Any) -> str:
    """One table cell as HTML."""
    if value is None:
        return "\u2013"
    if isinstance(value, Swatch):
        return f'<span class="swatch" style="background:{hexadecimal(value.colour)}"></span>{text(value.name)}'
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return text(number(value)) if isinstance(value, (Real, np.number)) else text(value)


def svg(figure: Any, prefix: str) -> str:
    """A matplotlib figure as an `<svg>` element for an HTML page: ids begin with `prefix`, nothing names an outside address."""
    import matplotlib

    written = io.StringIO()
    # Text stays text: it takes the page's font, can be searched, and shows scripts that matplotlib's own font lacks.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(written, format="svg", metadata={"Date": None})
    code = written.getvalue()
    head, body = code[code.index("<svg") :].split(">", 1)
    head = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", head)  # HTML knows these without
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'(<[^<>]*?\s)id="', rf'\1id="{prefix}-', body)
    body = re.sub(r'(<[^<>]*?\s)(?:xlink:)?href="#', rf'\1href="#{prefix}-', body)
    body = re.sub(r"(<[^<>]*?url\()#", rf"\1#{prefix}-", body)
    body = re.sub(r'(<text[^<>]*?style="font: )([^;"\']*?px) [^;"]*', rf"\1\2 {FONT}", body)
    return f'{head} style="stroke-linejoin:round">{body}'.strip()


def png(picture: np.ndarray) -> bytes:
    """An RGB array uint8 `(rows, cols, 3)` as a PNG file."""
    picture = np.ascontiguousarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"A picture is uint8 (rows, cols, 3), not {picture.dtype} {picture.shape}.")
    rows, cols = picture.shape[:2]
    lines = np.zeros((rows, 1 + cols * 3), np.uint8)  # each line begins with its filter, 0 = none
    lines[:, 1:] = picture.reshape(rows, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", cols, rows, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")


def _image(picture: np.ndarray, caption: str, scale: float) -> str:
    data = base64.b64encode(png(picture)).decode("ascii")
    width = max(1, round(picture.shape[1] * scale))
    return f'<figure><img alt="{text(caption)}" width="{width}" src="data:image/png;base64,{data}">{_caption(caption)}</figure>'


def _caption(caption: str) -> str:
    return f"<figcaption>{text(caption)}</figcaption>" if caption else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: bool) -> str:
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = "\n".join("<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    kind = ' class="numeric"' if numeric else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
