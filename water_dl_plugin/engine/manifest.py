"""What `chips.json` says: the chips of a folder and what they are for. A file may come from a stranger: every value is checked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Optional

import numpy as np

from . import classes as map_classes
from . import strict
from .tables import write_bytes

MANIFEST = "chips.json"
REPLACING = ".replaced"  # MANIFEST with this ending: the folder was a whole one of ours, and new chips are being moved into it
SCHEMA = 1
# a stranger's chip must not be a VRT or a WMS file that reads other files or the network
CHIP_DRIVERS = ("GTiff", "PNG", "JPEG", "MRF")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Chip:
    """One chip. `image` and `label` are paths inside the folder; `split` one of `SPLITS`, or "" if none was made; `source` the number
    of its scene in the manifest's `sources`; `rotation` in degrees, counter-clockwise; `nodata` and `shares` (of each class; of a task
    without classes: of usable pixels) among its pixels, 0..1; `value` the target of a task with one number or class per chip; `corners` four (x, y) in map units of its source;
    `place`: the name of what a task with one number per chip tells it of, e.g. a reservoir; `held`: the drawings of the split in which the chip validates."""

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
    place: str = ""
    held: tuple = ()


@dataclass(frozen=True)
class Manifest:
    """What `chips.json` says. `bands`: dicts name, unit, dtype; `classes` those of the map, class k is k + 1 in `labels/`; `codes`: the
    label values if they are not 1, 2, ... (ArcGIS); `statistics` per band: min, max, mean, std; `crs` WKT per source.

    Task "regression": `labels/` hold numbers, there are no classes, each band has kind and resampling (`dem.predictors.Layer`), and
    `target` tells the numbers' name, unit, factor (`Predictors.base_factor`) and vertical (how levels were matched: `dem.vertical.fit`).

    Task "level": each chip has a `value`, the level in m, no label and a `place`; `target` tells name, unit, sensor, repeats (how often the
    split was drawn) and reservoirs: dicts name, datum_m (None: not given), and the grid of their chips as crs, transform, width, height."""

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
    target: dict = field(default_factory=dict)

    def to_json(self) -> dict:
        data = asdict(self)
        data.update(schema=SCHEMA, classes=[c.to_json() for c in self.classes])
        return data


def parse(data: Any) -> Manifest:
    """Out of parsed JSON. Raises `KeyError`, `TypeError` or `ValueError` when it is not as it should be."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {str(data['schema'])[:20]}, this version reads {SCHEMA}")
    bands = [
        {
            **strict.mapping(b),
            "name": strict.text(b["name"]),
            "unit": strict.text(b.get("unit", "")),
            **{k: strict.text(b[k]) for k in ("kind", "resampling") if k in b},
        }
        for b in strict.listing(data["bands"], 1000)
    ]
    if not bands:
        raise ValueError("no bands")
    classes = map_classes.from_json(data["classes"]) if data["classes"] else ()
    codes = tuple(strict.whole(c, 1, 255) for c in strict.listing(data.get("codes", []), 255))
    if codes and (len(codes) != len(classes) or len(set(codes)) < len(codes)):
        raise ValueError("codes and classes disagree")
    size = data.get("pixel_size_m")
    return Manifest(
        task=strict.text(data["task"]), bands=tuple(bands), classes=classes, codes=codes, tile_size=strict.whole(data["tile_size"], 1, 65536),
        chips=tuple(_chip(item) for item in strict.listing(data["chips"], 10**8)), stride=strict.whole(data.get("stride", 0), 0, 65536),
        pixel_size=tuple(strict.number(n) for n in strict.listing(data.get("pixel_size", [1, 1]), 2)), pixel_size_m=None if size is None else strict.number(size, 1e-9, 1e9),
        image_format=strict.text(data.get("image_format", "TIFF")), statistics=tuple(map(strict.mapping, strict.listing(data.get("statistics", []), 1000))),
        sources=tuple({**strict.mapping(s), "name": strict.text(s["name"]), "crs": strict.text(s["crs"], 100_000)} for s in strict.listing(data.get("sources", []), 10**6)),
        settings=strict.mapping(data.get("settings", {})), seed=strict.whole(data.get("seed", 0), 0, 2**63),
        target=_target(data.get("target", {})),
    )  # fmt: skip


def _target(item: Any) -> dict:
    told = {k: strict.text(v) for k, v in strict.mapping(item).items() if k in ("name", "unit", "vertical", "sensor")}
    if "factor" in item:
        told["factor"] = strict.number(item["factor"], 1e-3, 1e6)
    if "reservoirs" in item:
        told["reservoirs"] = [place(one) for one in strict.listing(item["reservoirs"], 10_000)]
        told["repeats"] = strict.whole(item.get("repeats", 1), 1, 1000)
    return told


def place(item: Any) -> dict:
    """A reservoir of a chips folder or a model file, out of parsed JSON. Raises `KeyError`, `TypeError` or `ValueError`."""
    transform = [strict.number(n) for n in strict.listing(item["transform"], 6)]
    if len(transform) == 6 and not all(abs(step) <= 1e5 for step in (*transform[1:3], *transform[4:])):
        raise ValueError("a grid of pixels that are too large")
    if len(transform) != 6 or not transform[1] * transform[5] - transform[2] * transform[4]:
        raise ValueError("a grid without extent")
    heights = {k: None if item.get(k) is None else strict.number(item[k], -1e5, 1e5) for k in ("datum_m", "low_m", "high_m")}
    return {
        "name": strict.text(item["name"]), **heights, "crs": strict.text(item["crs"], 100_000), "transform": transform,
        "width": strict.whole(item["width"], 1, 2048), "height": strict.whole(item["height"], 1, 2048),
    }  # fmt: skip


def _chip(item: Any) -> Chip:
    strict.mapping(item)
    for inside in (strict.text(item["image"], 1000), strict.text(item.get("label") or "", 1000)):
        if (
            os.path.isabs(inside)
            or inside[:1] in ("/", "\\")
            or ":" in inside
            or "\0" in inside
            or ".." in inside.replace("\\", "/").split("/")
        ):
            raise ValueError(f"a chip lies outside the folder: {inside[:80]}")
    if not item["image"] or item.get("split", "") not in ("", *SPLITS):
        raise ValueError(f"a chip without image, or of no split: {str(item)[:80]}")
    value = item.get("value")
    return Chip(**{
        **item, "label": item.get("label") or None, "source": strict.whole(item.get("source", 0), 0, 10**6), "rotation": strict.number(item.get("rotation", 0)),
        "date": strict.text(item.get("date", "")), "nodata": strict.number(item.get("nodata", 0), 0, 1), "value": None if value is None else strict.number(value),
        "shares": tuple(strict.number(n) for n in strict.listing(item.get("shares", []), 255)), "place": strict.text(item.get("place", "")),
        "held": tuple(strict.whole(n, 0, 999) for n in strict.listing(item.get("held", []), 1000)),
        "corners": tuple((strict.number(x), strict.number(y)) for x, y in strict.listing(item.get("corners", []), 4)),
    })  # fmt: skip


def write_manifest(folder: str, manifest: Manifest) -> None:
    write_bytes(os.path.join(folder, MANIFEST), json.dumps(manifest.to_json(), indent=1, allow_nan=False).encode())


def with_validation(manifest: Manifest, share: float, seed: int) -> Manifest:
    """The same chips with a random share set apart for validation, if none is (ArcGIS folders, `validation_share=0`)."""
    if any(c.split == "validation" for c in manifest.chips) or share <= 0:
        return replace(manifest, chips=tuple(replace(c, split=c.split or "train") for c in manifest.chips))
    free = [i for i, c in enumerate(manifest.chips) if c.split in ("", "train")]
    chosen = set(np.random.default_rng([seed, 7]).permutation(free)[: max(1, round(share * len(free)))] if len(free) > 1 else ())
    return replace(
        manifest, chips=tuple(replace(c, split="validation" if i in chosen else c.split or "train") for i, c in enumerate(manifest.chips))
    )
