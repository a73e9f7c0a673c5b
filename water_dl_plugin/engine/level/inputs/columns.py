"""Tables as people have them: CSV of any kind, spreadsheets and layers that GDAL reads. Cells come out as text; columns are found by name."""

from __future__ import annotations

import codecs
import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Optional

from osgeo import ogr

from ...errors import ConfigError
from ...labels import open_layer

_TEXT = (".csv", ".tsv", ".txt", ".tab", ".dat", ".rdb", ".asc")
_SEPARATORS = (";", "\t", ",", "|")
_SAMPLE = 60  # lines that the separator and the head are found by
_LONGEST = 1_000_000  # characters of a line; more is no table


class Table:
    """A table, opened: `names` of the columns, `separator` ("" if it is no text), `above` what stood over the head.

    `source` is a path, or QGIS's `path|layername=...|subset=...`. Raises `ConfigError` or `LabelError`.
    """

    def __init__(self, source: str):
        self.source = source
        self.path, _, options = source.partition("|")
        self.separator, self.above = "", ""
        self._text = os.path.splitext(self.path)[1].lower() in _TEXT and "subset=" not in options
        if not self._text:
            self._dataset, self._layer = open_layer(source)
            defn = self._layer.GetLayerDefn()
            self.names = [defn.GetFieldDefn(i).GetName() for i in range(defn.GetFieldCount())]
            if not self.names:
                raise ConfigError(f"{source} has no columns.", "Choose a table, or a layer with fields.")
            return
        if not os.path.isfile(self.path):
            raise ConfigError(f"There is no file {self.path}.", "Check the path.")
        self._encoding = _encoding(self.path)
        lines = [line for line, _ in zip(self._lines(), range(_SAMPLE))]
        self.separator = _separator([line for _, line in lines])
        rows = [(number, cells) for number, cells in self._cells(iter(lines)) if any(cells) and not self._is_format(cells)]
        if not rows:
            raise ConfigError(f"The table {self.path} is empty.", "Choose one with a line of column names and a line per reading.")
        head = _head([cells for _, cells in rows])
        self._first = rows[head][0]
        self.names = ["".join(c for c in name if c.isprintable())[:80] for name in rows[head][1]]
        self.above = "\n".join(line for number, line in lines if number < self._first)
        if any(map(_BARE.fullmatch, self.names)):
            raise ConfigError(
                f"The table {self.path} seems to have no line with the names of its columns; its first line is {', '.join(self.names)[:80]!r}.",
                "Add one, e.g. reservoir,date,level.",
            )

    def rows(self, columns: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        """(number of the line or feature, the texts of these columns); empty lines are left out. A line with more cells than the head gives
        no texts at all: nobody knows which is which."""
        if not self._text:
            self._layer.ResetReading()
            for number, feature in enumerate(self._layer, 1):
                yield number, [_field(feature, i) for i in columns]
            return
        for number, cells in self._cells(self._lines()):
            if number <= self._first or not any(cells) or self._is_format(cells):
                continue
            surplus = len(cells) > len(self.names) and any(cells[len(self.names) :])
            yield number, [] if surplus else [cells[i] if i < len(cells) else "" for i in columns]

    @staticmethod
    def _is_format(cells: Sequence[str]) -> bool:
        """The line below the head of the USGS's tables: 5s 15s 20d."""
        return len(cells) > 1 and all(re.fullmatch(r"\d+[sdn]", c) for c in cells)

    def _lines(self) -> Iterator[tuple[int, str]]:
        with open(self.path, encoding=self._encoding, errors="replace", newline=None) as file:
            number = 0
            while True:
                line = file.readline(_LONGEST)
                if not line:
                    return
                if len(line) >= _LONGEST:
                    raise ConfigError(f"{self.path} is no table: its line {number + 1} is longer than {_LONGEST} characters.")
                number += 1
                yield number, line.rstrip("\n").replace("\0", "")

    def _cells(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        for number, line in lines:
            if not line.lstrip().startswith("#"):
                yield (
                    number,
                    [c.strip().strip("\u00a0") for c in next(csv.reader([line], delimiter=self.separator, skipinitialspace=True), [])],
                )


def column(
    table: Table, chosen: str, wanted: Sequence[str], setting: str, taken: Sequence[int] = (), optional: bool = False
) -> Optional[int]:
    """Number of the column that the user chose, or whose name says one of the `wanted` words (most wanted first; a name that says nothing
    else goes before one that does). None if there is none and it is `optional`. Raises `ConfigError`; `setting` names what to set."""
    told = f"Its columns are {', '.join(table.names)[:400]}."
    if chosen.strip():
        same = [i for i, n in enumerate(table.names) if n == chosen.strip()]
        same = same or [i for i, n in enumerate(table.names) if plain(n) == plain(chosen)]
        if len(same) != 1:
            raise ConfigError(f"{table.path} has {'no' if not same else 'more than one'} column {chosen!r} ({setting}).", told)
        return same[0]
    scores: dict[int, tuple] = {}
    for i, name in enumerate(table.names):
        words = tokens(name)
        for rank, word in enumerate(wanted):
            if words == word.split():
                scores[i] = min(scores.get(i, (9,)), (0, rank))
            elif not optional and f" {word} " in f" {' '.join(words)} ":
                scores[i] = min(scores.get(i, (9,)), (1, rank))
    scores = {i: score for i, score in scores.items() if i not in taken}
    best = [i for i in scores if scores[i] == min(scores.values())]
    if len(best) == 1 or (optional and not best):
        return best[0] if best else None
    if not best:
        raise ConfigError(f"No column of {table.path} is named like {', '.join(wanted[:4])}. {told}", f"Choose one with {setting}.")
    raise ConfigError(
        f"Several columns of {table.path} may be meant: {', '.join(table.names[i] for i in best)}.", f"Choose one with {setting}."
    )


def plain(name: str) -> str:
    """A name without case, accents, blanks and signs."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in letters if c.isalnum())


_UNITS = {
    "m",
    "cm",
    "mm",
    "ft",
    "feet",
    "meter",
    "meters",
    "metre",
    "metres",
    "masl",
    "asl",
    "amsl",
    "utc",
    "gmt",
    "local",
    "above",
    "sea",
    "mean",
}


def tokens(name: str) -> list[str]:
    """The words of a column's name, without what stands in brackets, and without units."""
    text = unicodedata.normalize("NFKD", re.sub(r"[(\[{].*?[)\]}]", " ", name))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).casefold()  # WaterLevel
    words = re.findall(r"[^\W_]+", "".join(c for c in text if not unicodedata.combining(c)))
    kept = [w for w in words if w not in _UNITS]
    return kept or words


def numbers(texts: Sequence[str], separator: str, missing: str) -> list[Optional[float]]:
    """A column of numbers with decimal points or commas, decided by all of it; None: missing or none (empty, or one of `missing`, is nan).

    Raises `ConfigError` where 1,234 may be both, one and a bit or a thousand.
    """
    marks = {m.strip().casefold() for m in missing.split(",")} | {""}
    values = {float(m) for m in marks if _POINT.fullmatch(m)}
    signed = [t.replace("\u2212", "-").replace("\u00a0", "").replace("\u202f", "").replace(" ", "").replace("'", "") for t in texts]
    commas = [t for t in signed if "," in t and _NUMBER.fullmatch(t)]
    comma = any(not _THOUSANDS.fullmatch(t) for t in commas)
    points = any("." in t and not re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d*", t) for t in signed if _NUMBER.fullmatch(t))
    if commas and not comma and not points:
        if separator == ",":
            raise ConfigError(
                f"It can't be told whether {commas[0]!r} has a decimal comma or is a thousand.", "Write levels with a decimal point."
            )
        comma = True
    result: list[Optional[float]] = []
    for text, raw in zip(signed, texts):
        number = text.replace(".", "").replace(",", ".") if comma and "," in text else text.replace(",", "")
        number = "" if comma and re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+", text) else number  # among decimal commas 1.234 may be a thousand
        if raw.strip().casefold() in marks:
            result.append(float("nan"))
        elif not _POINT.fullmatch(number):
            result.append(None)
        else:
            result.append(float("nan") if float(number) in values else float(number))
    return result


_BARE = re.compile(r"(?=.*\d)[-+\d.,:/T ]+Z?")  # a number or a date
_POINT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,2})?", re.I)
_NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(e[+-]?\d{1,2})?", re.I)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")


def _field(feature, i: int) -> str:
    if not feature.IsFieldSetAndNotNull(i):
        return ""
    kind = feature.GetFieldDefnRef(i).GetType()
    if kind == ogr.OFTReal:
        return repr(feature.GetFieldAsDouble(i))
    if kind not in (ogr.OFTDate, ogr.OFTDateTime):
        return feature.GetFieldAsString(i).strip()
    year, month, day, hour, minute, second, flag = feature.GetFieldAsDateTime(i)
    date = f"{year:04d}-{month:02d}-{day:02d}"
    if kind == ogr.OFTDate:
        return date
    quarters = abs(flag - 100)  # 100 is UTC, each step a quarter of an hour; 0 and 1 tell nothing
    zone = f"{'-' if flag < 100 else '+'}{quarters // 4:02d}:{quarters % 4 * 15:02d}" if flag > 1 else ""
    return f"{date}T{hour:02d}:{minute:02d}:{int(second):02d}{zone}"


def _encoding(path: str) -> str:
    with open(path, "rb") as file:
        start = file.read(4)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            while True:
                piece = file.read(1 << 20)
                decoder.decode(piece, not piece)
                if not piece:
                    return "utf-8-sig"
        except UnicodeDecodeError:
            return "cp1252"  # what spreadsheets write on Windows


def _head(rows: Sequence[Sequence[str]]) -> int:
    """Which row names the columns: the first without a number or date in it that one of data comes after; titles may stand above."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    for i, (row, below) in enumerate(zip(rows, rows[1:])):
        if abs(len(row) - width) <= 1 and not any(map(_BARE.fullmatch, row)) and any(cell[:1].isdigit() for cell in below):
            return i
    return next(i for i, row in enumerate(rows) if len(row) == width)


def _separator(lines: Sequence[str]) -> str:
    """The one that cuts most lines into the same number of cells, two or more."""
    lines = [line for line in lines if line.strip() and not line.startswith("#")]

    def agreement(separator: str) -> tuple:
        widths = Counter(len(next(csv.reader([line], delimiter=separator), [])) for line in lines)
        wide = {w: n for w, n in widths.items() if w > 1}
        return max(((n, w) for w, n in wide.items()), default=(0, 0))

    return max(_SEPARATORS, key=lambda s: (agreement(s)[0], -_SEPARATORS.index(s)))
