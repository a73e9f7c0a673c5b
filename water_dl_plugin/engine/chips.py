"""The chips folder: ArcGIS' "Classified Tiles" on disk, and our manifest `chips.json`, which is written last.

A folder with `chips.json` is complete. A folder that ArcGIS made has none; it is read from `map.txt` and Esri's own JSON files.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Optional

import numpy as np

from . import classes as map_classes
from .classes import MapClass
from .config import parse_json
from .errors import ChipsError, ConfigError, RasterError
from .raster import Raster
from .windows import Window

MANIFEST = "chips.json"
REPLACING = ".replaced"  # MANIFEST with this ending: the folder was a whole one of ours, and new chips are being moved into it
SCHEMA = 1
SPLITS = ("train", "validation", "test")
_REMEDY = "Run exportchips again."


@dataclass(frozen=True)
class Chip:
    """One chip. `image` and `label` are paths inside the folder; `split` one of `SPLITS`, or "" if none was made; `source` the number
    of its scene in the manifest's `sources`; `rotation` in degrees, counter-clockwise; `nodata` and `shares` (of each class) among
    its pixels, 0..1; `value` the target of a task with one number or class per chip; `corners` four (x, y) in map units of its source."""

    image: str
    label: Optional[str]
    split: str = ""
    source: int = 0
    rotation: float = 0.0
    date: str = ""
    nodata: float = 0.0
    shares: tuple = ()
    value: Optional[float] = None
    corners: tuple = ()


@dataclass(frozen=True)
class Manifest:
    """What `chips.json` says. `bands`: dicts name, unit, dtype; `classes` those of the map, class k is k + 1 in `labels/`; `codes`: the
    label values if they are not 1, 2, ... (ArcGIS); `statistics` per band: min, max, mean, std; `crs` WKT per source."""

    task: str
    bands: tuple
    classes: tuple
    tile_size: int
    chips: tuple
    stride: int = 0
    pixel_size: tuple = (1.0, 1.0)
    pixel_size_m: Optional[float] = None
    image_format: str = "TIFF"
    codes: tuple = ()
    statistics: tuple = ()
    sources: tuple = ()
    settings: dict = field(default_factory=dict)
    seed: int = 0

    def to_json(self) -> dict:
        data = asdict(self)
        data.update(schema=SCHEMA, classes=[c.to_json() for c in self.classes])
        return data


class ChipSet:
    """A chips folder, opened for reading. Raises `ChipsError` when it is empty, half-written or not one."""

    def __init__(self, folder: str):
        self.folder = str(folder)
        self.manifest = read_manifest(self.folder)
        if not self.manifest.chips:
            raise ChipsError(f"The chips folder {folder} holds no chip.", _REMEDY)
        missing = [p for c in self.manifest.chips for p in (c.image, c.label) if p and not os.path.isfile(self.path(p))]
        if missing:
            raise ChipsError(f"The chips folder is incomplete: {len(missing)} file(s) are missing, e.g. {missing[0]}.", _REMEDY)
        codes = self.manifest.codes or tuple(range(1, len(self.manifest.classes) + 1))
        self._lookup = np.zeros(256, np.uint8)
        for index, code in enumerate(codes):
            self._lookup[code] = index + 1

    def path(self, inside: str) -> str:
        return os.path.join(self.folder, *inside.replace("\\", "/").split("/"))

    def split(self, name: str) -> list[Chip]:
        return [c for c in self.manifest.chips if c.split == name]

    def image(self, chip: Chip) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and valid `(bands, rows, cols)`, native dtype. A file with other bands raises `ChipsError`."""
        pixels, valid = self.read(chip.image)
        if len(pixels) != len(self.manifest.bands):
            raise ChipsError(f"{chip.image} has {len(pixels)} bands, the folder's chips have {len(self.manifest.bands)}.", _REMEDY)
        return pixels, valid

    def label(self, chip: Chip) -> np.ndarray:
        """uint8 `(rows, cols)`: class index + 1, 0 where ignored."""
        if not chip.label:
            raise ChipsError(f"The chip {chip.image} has no label file.", _REMEDY)
        pixels, valid = self.read(chip.label)
        return np.where(valid[0], self._lookup[np.clip(pixels[0], 0, 255).astype(np.uint8)], 0).astype(np.uint8)

    def read(self, inside: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and valid `(bands, rows, cols)` of any file of the folder, e.g. a label raster that holds no classes."""
        try:
            with Raster(self.path(inside)) as raster:
                return raster.read(Window(0, 0, raster.grid.width, raster.grid.height))
        except RasterError as error:
            raise ChipsError(f"The chip {inside} can't be read: {error.message}", _REMEDY) from None


def read_manifest(folder: str) -> Manifest:
    """The manifest of a chips folder, of our own or of ArcGIS. Raises `ChipsError`."""
    if not os.path.isdir(folder):
        raise ChipsError(f"There is no chips folder {folder}.", "Check the path, or run exportchips first.")
    path = os.path.join(folder, MANIFEST)
    if os.path.exists(path + REPLACING):
        raise ChipsError(f"The chips folder {folder} is half-written: a new export into it was interrupted.", _REMEDY)
    if not os.path.exists(path):
        from . import arcgis

        if os.path.exists(os.path.join(folder, "map.txt")):
            return arcgis.read(folder)
        if os.path.isdir(os.path.join(folder, "images")):
            raise ChipsError(f"The chips folder {folder} is half-written: its list of chips is missing.", _REMEDY)
        raise ChipsError(f"{folder} is not a chips folder.", "Choose the folder that exportchips wrote: it holds chips.json.")
    try:
        with open(path, encoding="utf-8") as file:
            return _manifest(parse_json(file.read(), MANIFEST, limit=500_000_000))
    except ConfigError as error:
        raise ChipsError(error.message, _REMEDY) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise ChipsError(f"{path} can't be understood ({type(error).__name__}: {str(error)[:120]}).", _REMEDY) from None


def _manifest(data: Any) -> Manifest:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {str(data['schema'])[:20]}, this version reads {SCHEMA}")
    bands = [{**_object(b), "name": _text(b["name"]), "unit": _text(b.get("unit", ""))} for b in _list(data["bands"], 1000)]
    if not bands:
        raise ValueError("no bands")
    classes = map_classes.from_json(data["classes"]) if data["classes"] else ()
    codes = tuple(_number(c, 1, 255, int) for c in _list(data.get("codes", []), 255))
    if codes and (len(codes) != len(classes) or len(set(codes)) < len(codes)):
        raise ValueError("codes and classes disagree")
    size = data.get("pixel_size_m")
    return Manifest(
        task=_text(data["task"]), bands=tuple(bands), classes=classes, codes=codes, tile_size=_number(data["tile_size"], 1, 65536, int),
        chips=tuple(_chip(item) for item in _list(data["chips"], 10**8)), stride=_number(data.get("stride", 0), 0, 65536, int),
        pixel_size=tuple(_number(n) for n in _list(data.get("pixel_size", [1, 1]), 2)), pixel_size_m=None if size is None else _number(size, 1e-9, 1e9),
        image_format=_text(data.get("image_format", "TIFF")), statistics=tuple(map(_object, _list(data.get("statistics", []), 1000))),
        sources=tuple({**_object(s), "name": _text(s["name"]), "crs": _text(s["crs"], 100_000)} for s in _list(data.get("sources", []), 10**6)),
        settings=_object(data.get("settings", {})), seed=_number(data.get("seed", 0), 0, 2**63, int),
    )  # fmt: skip


def _chip(item: Any) -> Chip:
    _object(item)
    for inside in (_text(item["image"], 1000), _text(item.get("label") or "", 1000)):
        if os.path.isabs(inside) or inside[:1] in ("/", "\\") or ":" in inside or "\0" in inside or ".." in inside.replace("\\", "/").split("/"):
            raise ValueError(f"a chip lies outside the folder: {inside[:80]}")
    if not item["image"] or item.get("split", "") not in ("", *SPLITS):
        raise ValueError(f"a chip without image, or of no split: {str(item)[:80]}")
    value = item.get("value")
    return Chip(**{
        **item, "label": item.get("label") or None, "source": _number(item.get("source", 0), 0, 10**6, int), "rotation": _number(item.get("rotation", 0)),
        "date": _text(item.get("date", "")), "nodata": _number(item.get("nodata", 0), 0, 1), "value": None if value is None else _number(value),
        "shares": tuple(_number(n) for n in _list(item.get("shares", []), 255)),
        "corners": tuple((_number(x), _number(y)) for x, y in _list(item.get("corners", []), 4)),
    })  # fmt: skip


def _object(value: Any) -> dict:
    if not isinstance(value, dict):
        raise TypeError(f"an object is expected, not {str(value)[:40]!r}")
    return value


def _list(value: Any, most: int) -> list:
    if not isinstance(value, list) or len(value) > most:
        raise TypeError(f"a list of at most {most} is expected, not {str(value)[:40]!r}")
    return value


def _text(value: Any, limit: int = 300) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise TypeError(f"text of at most {limit} characters is expected, not {str(value)[:40]!r}")
    return value


def _number(value: Any, low: float = -1e300, high: float = 1e300, kind: type = float):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or (kind is int and value != int(value)):
        raise TypeError(f"a number from {low:g} to {high:g} is expected, not {str(value)[:40]!r}")
    return kind(value)


def write_manifest(folder: str, manifest: Manifest) -> None:
    from .tables import write_bytes

    write_bytes(os.path.join(folder, MANIFEST), json.dumps(manifest.to_json(), indent=1, allow_nan=False).encode())


def with_validation(manifest: Manifest, share: float, seed: int) -> Manifest:
    """The same chips with a random share set apart for validation, if none is (ArcGIS folders, `validation_share=0`)."""
    if any(c.split == "validation" for c in manifest.chips) or share <= 0:
        return replace(manifest, chips=tuple(replace(c, split=c.split or "train") for c in manifest.chips))
    free = [i for i, c in enumerate(manifest.chips) if c.split in ("", "train")]
    chosen = set(np.random.default_rng([seed, 7]).permutation(free)[: max(1, round(share * len(free)))] if len(free) > 1 else ())
    return replace(manifest, chips=tuple(replace(c, split="validation" if i in chosen else c.split or "train") for i, c in enumerate(manifest.chips)))


def ordered_classes(pairs: list[tuple[int, str, Optional[tuple]]]) -> tuple[tuple[MapClass, ...], tuple[int, ...]]:
    """Classes and label codes out of (value, name, colour) as ArcGIS lists them; 0 is left out, it means unlabelled there."""
    kept = sorted({v: (v, n, c) for v, n, c in pairs if 0 < v < 255}.values())
    return tuple(MapClass(v, n, tuple(c) if c else map_classes.colour_of(n, i)) for i, (v, n, c) in enumerate(kept)), tuple(v for v, _, _ in kept)
