"""What a class or probability raster says: its classes, and the class of each pixel. Read by windows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Optional

import numpy as np

from . import classes as map_classes
from .classes import NODATA, MapClass
from .config import parse_json
from .errors import ConfigError, GridMismatchError
from .raster import Raster, Writer
from .windows import Window, blocks
from .writer import apart

CLASSES_KEY = "WATERDL_CLASSES"  # in a raster's metadata: its classes as JSON
PROBABILITY_NODATA = -1.0
BLOCK = 1024


def open_map(raster: Raster, classes: str = "", threshold: Optional[float] = None):
    """`ClassMap` or `ProbabilityMap` of a raster. `classes`: 'land=0, water=1' (of probabilities 'land, water'); "": as the raster's own
    metadata says, else what is found. `threshold` None: the one that the raster was made with, else 0.5.

    Floating-point numbers are probabilities, except in one band of whole numbers beyond 1: such a raster is a class raster that some
    calculator wrote. Whole-number types are classes.
    """
    tags = raster.tags()
    probabilities = raster.dtype.kind == "f" and not (len(raster.bands) == 1 and _whole_numbers(raster))
    named = _named(classes, probabilities)
    if not named and CLASSES_KEY in tags:
        try:
            named = map_classes.from_json(parse_json(tags[CLASSES_KEY], "The raster's classes"))
        except (ConfigError, KeyError, TypeError, ValueError):
            named = ()  # someone edited the metadata: go on with the values alone
    if probabilities:
        named = named or map_classes.make(("other", "water")) if len(raster.bands) == 1 else named
        if len(named) != max(len(raster.bands), 2):
            raise ConfigError(
                f"The probability raster has {len(raster.bands)} bands; the names of its classes are not known.",
                "Name them in the classes field, in order.",
            )
        threshold = threshold if threshold is not None else _threshold(tags)
        return ProbabilityMap(raster, named, threshold)
    if len(raster.bands) != 1:
        raise ConfigError(
            f"{raster.path} has {len(raster.bands)} bands: it is neither a class nor a probability raster.",
            "Choose the output of classifyraster.",
        )
    return ClassMap(raster, named or _found(raster))


class ClassMap:
    """A class raster: values to class indices. `classes` in the order of the indices."""

    threshold, probabilities = None, False

    def __init__(self, raster: Raster, classes: tuple):
        self._raster, self.classes = raster, classes
        self._lookup = np.full(256, -1, np.int16)
        for i, c in enumerate(classes):
            self._lookup[c.value] = i

    def read(self, window: Window):
        """Class index int16 `(rows, cols)`, -1 where there is none of the classes; and None for the probabilities."""
        pixels, valid = self._raster.read(window)
        inside = valid[0] & (pixels[0] >= 0) & (pixels[0] <= 255) & (pixels[0] == np.rint(pixels[0]))
        return np.where(inside, self._lookup[np.where(inside, pixels[0], 0).astype(np.uint8)], -1), None


class ProbabilityMap:
    """A probability raster: one band (class 1 from the threshold on), or one per class."""

    probabilities = True

    def __init__(self, raster: Raster, classes: tuple, threshold: float):
        self._raster, self.classes, self.threshold = raster, classes, threshold

    def read(self, window: Window):
        """Class index int16 `(rows, cols)`, -1 without data; and float `(classes, rows, cols)`. Raises `GridMismatchError` outside 0..1."""
        pixels, valid = self._raster.read(window)
        ok = valid.all(axis=0)
        if ok.any() and (pixels[:, ok].min() < -1e-3 or pixels[:, ok].max() > 1 + 1e-3):
            raise GridMismatchError(
                f"{self._raster.path} holds values outside 0..1: it is no probability raster.",
                "Choose a class raster. If these are a network's raw outputs (logits), turn them into probabilities first: 1 / (1 + exp(-x)).",
            )
        if len(pixels) == 1:
            pixels = np.stack([1 - pixels[0], pixels[0]])
        return np.where(ok, map_classes.classify(pixels, self.threshold), -1).astype(np.int16), pixels


def _whole_numbers(raster: Raster) -> bool:
    """Are all pixels whole numbers, and one beyond 1? Real probabilities show in the first block that holds data."""
    beyond = False
    for window in blocks(raster.grid.width, raster.grid.height, BLOCK):
        pixels, valid = raster.read(window)
        values = pixels[valid]
        if not np.array_equal(values, np.rint(values)):
            return False
        beyond |= bool(values.size and values.max() > 1)
    return beyond


def _threshold(tags: dict) -> float:
    try:
        found = float(tags.get("WATERDL_THRESHOLD", ""))
    except ValueError:
        return 0.5
    return found if 0 <= found <= 1 else 0.5


def _named(text: str, probabilities: bool) -> tuple[MapClass, ...]:
    """Classes out of 'land=0, water=1' or 'land, water'. The bands of probabilities are in the order of the values."""
    result = []
    for i, item in enumerate(t.strip() for t in text.split(",") if t.strip()):
        name, _, value = (t.strip() for t in item.partition("="))
        if not name or not re.fullmatch(r"[0-9]{0,3}", value) or int(value or i) > 254:
            raise ConfigError(f"The class {item[:40]!r} can't be understood.", "Write 'land=0, water=1'.")
        result.append(MapClass(int(value or i), name, map_classes.colour_of(name, i)))
    if len({c.value for c in result}) < len(result) or len({c.name for c in result}) < len(result):
        raise ConfigError(f"The classes {text[:100]!r} name one twice.", "Write 'land=0, water=1'.")
    return tuple(sorted(result, key=lambda c: c.value) if probabilities else result)


def _found(raster: Raster) -> tuple[MapClass, ...]:
    """Classes of a raster that names none: category names if there are any, else the values themselves."""
    values: set = set()
    for window in blocks(raster.grid.width, raster.grid.height, 2048):
        pixels, valid = raster.read(window)
        values |= {int(v) if v == int(v) else v for v in np.unique(pixels[valid]).tolist()}
        if len(values) > 255 or any(not 0 <= v <= 254 for v in values):
            masks = (
                " 255 is kept for nodata: if it stands for a class here, make it a 1 with the raster calculator." if 255 in values else ""
            )
            raise ConfigError(
                f"{raster.path} is no class raster: it has values beyond 0 to 254.", f"Choose the output of classifyraster.{masks}"
            )
    names = raster.categories()
    return tuple(
        MapClass(v, names[v] if v < len(names) and names[v] else str(v), map_classes.colour_of(names[v] if v < len(names) else str(v), i))
        for i, v in enumerate(sorted(values))
    )


def check_outputs(output: str, probability: str, inputs: Sequence[str]) -> None:
    """Raise `ConfigError` or `OutputError` unless the two rasters ("": not wanted) can be written, and are neither each other nor an input."""
    if not output and not probability:
        raise ConfigError("There is nothing to write.", "Choose a class raster, a probability raster, or both.")
    apart((output, probability), inputs)


def writers(
    files: ExitStack, grid, classes: Sequence[MapClass], channels: int, output: str, probability: str, compression: str, tags: dict
) -> tuple[Optional[Writer], Optional[Writer]]:
    """Open the class raster `output` (uint8, 255 nodata) and the raster of `channels` probabilities (float32, -1 nodata); "": none."""
    tags = {**tags, CLASSES_KEY: json.dumps([c.to_json() for c in classes])}
    first: Optional[Writer] = None
    second: Optional[Writer] = None
    if output:
        names = [""] * (max(c.value for c in classes) + 1)
        for c in classes:
            names[c.value] = c.name
        first = files.enter_context(Writer(
            output, grid, 1, np.uint8, NODATA, names=["class"], categories=names, colours={c.value: c.colour for c in classes},
            metadata=tags, compression=compression,
        ))  # fmt: skip
    if probability:
        shown = classes[-1:] if channels == 1 else classes
        second = files.enter_context(Writer(
            probability, grid, channels, np.float32, PROBABILITY_NODATA, names=[f"probability of {c.name}" for c in shown],
            metadata=tags, compression=compression,
        ))  # fmt: skip
    return first, second
