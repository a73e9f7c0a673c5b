"""A class of a map: its value in class rasters, its name and its colour. Class k stands as k + 1 in chips (0 is ignored)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import LabelError

NODATA = 255  # of class rasters; so class values run from 0 to 254
_KNOWN = {
    "water": (31, 120, 180), "land": (222, 205, 176), "background": (235, 235, 230), "other": (235, 235, 230), "not water": (222, 205, 176), "ice": (166, 226, 235),
    "snow": (240, 248, 255), "cloud": (200, 200, 210), "shadow": (90, 90, 110), "vegetation": (90, 160, 80), "stream": (31, 120, 180),
}  # fmt: skip
_OTHERS = ((227, 119, 60), (117, 112, 179), (102, 166, 30), (230, 171, 2), (166, 118, 29), (231, 41, 138), (102, 102, 102), (27, 158, 119))


@dataclass(frozen=True)
class MapClass:
    """`value` 0..254 in class rasters, `name`, `colour` (red, green, blue) 0..255."""

    value: int
    name: str
    colour: tuple

    def to_json(self) -> dict:
        return {**asdict(self), "colour": list(self.colour)}


def from_json(data: Any) -> tuple[MapClass, ...]:
    """Classes out of a parsed JSON list from anyone. Raises `ValueError` when it is not one."""
    if not isinstance(data, list) or not 1 <= len(data) <= 255:
        raise ValueError("classes must be a list of 1 to 255")
    result = []
    for item in data:
        value, name, colour = item["value"], item["name"], item.get("colour", (128, 128, 128))
        numbers = [value, *colour]
        if (
            not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= 255 for n in numbers)
            or len(numbers) != 4
            or value == NODATA
        ):
            raise ValueError(f"class value or colour out of range: {str(item)[:80]}")
        if not isinstance(name, str) or not 0 < len(name) <= 200:
            raise ValueError("a class has no name")
        result.append(MapClass(value, name, tuple(colour)))
    if len({c.value for c in result}) < len(result):
        raise ValueError("two classes share a value")
    return tuple(result)


def make(found: Sequence, order: str = "") -> tuple[MapClass, ...]:
    """Classes from the values of a label field or raster, numbers or texts.

    Whole numbers 0..254 keep their number as value. Texts are numbered from 0 in the order given by `order` ("land, water"; the
    class of interest last), else so that names for water come last, then by alphabet. A class that `order` leaves out is left out: its
    labels are ignored. Raises `LabelError` for other numbers.
    """
    wanted = [o.strip() for o in order.split(",") if o.strip()]
    texts = {name_of(v) for v in found}
    missing = [name for name in wanted if name not in texts]
    if missing and found:
        raise LabelError(f"No label has the class {missing[0]!r}.", f"The labels' classes are {', '.join(sorted(texts)[:20])}.")
    if len(set(wanted)) < len(wanted):
        raise LabelError(f"The order of classes names one twice: {order[:100]}.", "Name each class once.")
    if all(isinstance(v, (int, float)) for v in found):
        bad = [v for v in found if v != int(v) or not 0 <= v < NODATA]
        if bad:
            raise LabelError(f"The class number {bad[0]} can't be used.", "Class numbers are whole, from 0 to 254; reclassify the others.")
        numbers = [int(w) for w in wanted] or sorted(int(v) for v in found)
        return tuple(MapClass(v, str(v), colour_of(str(v), i)) for i, v in enumerate(numbers))
    names = wanted or sorted(texts, key=lambda t: (is_water(t), t.lower()))
    if len(names) >= NODATA:
        raise LabelError(f"There are {len(names)} classes; 254 are possible.", "Is this the right class field?")
    return tuple(MapClass(i, name, colour_of(name, i)) for i, name in enumerate(names))


def name_of(value) -> str:
    """A label's value as the name of its class: 2.0 and 2 are both "2"."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def is_water(name: str) -> bool:
    """Does a class name speak of water? Only to choose a sensible order when the user gave none."""
    text = name.lower()
    negated = any(text.startswith(w) for w in ("no", "dry", "other", "under"))
    return not negated and any(w in text for w in ("water", "lake", "river", "stream", "flood", "pond", "sea", "wasser", "agua", "eau"))


def colour_of(name: str, position: int) -> tuple:
    text = name.lower()
    if text in _KNOWN:
        return _KNOWN[text]
    return _KNOWN["water"] if is_water(text) else _OTHERS[position % len(_OTHERS)]


def classify(given, threshold: float = 0.5):
    """Probabilities `(channels, rows, cols)` -> class index uint8 `(rows, cols)`.

    Two classes (one channel, or two of a softmax): class 1 where its probability reaches the threshold. More: the most probable.
    """
    return (given[-1] >= threshold).astype("uint8") if len(given) <= 2 else given.argmax(axis=0).astype("uint8")
