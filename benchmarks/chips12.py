"""The real chips of `accuracy.py`: read, written as a chips folder of ours, and held out by place."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass

import numpy as np

from water_dl_plugin.engine import chips, split
from water_dl_plugin.engine.chips import Chip, Manifest
from water_dl_plugin.engine.classes import MapClass
from water_dl_plugin.engine.raster import Grid, Raster, write_small
from water_dl_plugin.engine.windows import Window

BANDS = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")  # 1 to 7; surface reflectance x 10000
SIZE = 128
CLASSES = (MapClass(0, "land", (222, 205, 176)), MapClass(1, "water", (31, 120, 180)))
LARGE = 45  # a place with more chips than this is a fold of its own


@dataclass(frozen=True)
class Chips12:
    """`names`: of the files; `places` `(n,)`; `pixels` `(n, 7, 128, 128)` int16; `water` `(n, 128, 128)` bool; `valid` likewise."""

    names: list
    places: np.ndarray
    pixels: np.ndarray
    water: np.ndarray
    valid: np.ndarray


def find(root: str) -> str:
    """The folder of the chips, or "": WATER_DL_DATA, else `../shared/data` beside the checkout `root`."""
    data = os.environ.get("WATER_DL_DATA") or os.path.join(os.path.dirname(root), "shared", "data")
    folder = os.path.join(data, "chips12")
    return folder if os.path.isfile(os.path.join(folder, "index.csv")) else ""


def read(folder: str) -> Chips12:
    """All chips. The optical bands hold no nodata (-9999 is in the elevation only); their few negative values are dark water that
    the atmospheric correction overshot, so they stay in."""
    with open(os.path.join(folder, "index.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [f"{int(row['id']):03d}.tif" for row in rows]
    read = [[_read(os.path.join(folder, part, name), bands) for name in names] for part, bands in (("images", "1-7"), ("labels", "1"))]
    pixels = np.stack([p for p, _ in read[0]])
    valid = np.stack([v.all(axis=0) for _, v in read[0]]) & (pixels != -9999).all(axis=1)
    return Chips12(names, np.array([int(row["place_group"]) for row in rows]), pixels, np.stack([p[0] > 0 for p, _ in read[1]]), valid)


def _read(path: str, bands: str):
    with Raster(path, bands) as raster:
        return raster.read(Window(0, 0, raster.grid.width, raster.grid.height))


def folds(data: Chips12, number: int) -> np.ndarray:
    """Fold of each chip, int `(n,)`; a place lies in one fold whole.

    A place with more than `LARGE` chips (one river has half of all) is a fold of its own; the other places are dealt out, the largest
    first, each to the fold that has fewest chips yet. No chance is in it.
    """
    unique, counts = np.unique(data.places, return_counts=True)
    result = np.zeros(len(data.places), int)
    large = [p for p, n in zip(unique, counts) if n > LARGE]
    sizes = [0] * (number - len(large))
    for k, place in enumerate(large):
        result[data.places == place] = k
    for count, place in sorted(((n, p) for p, n in zip(unique, counts) if n <= LARGE), key=lambda item: (-item[0], item[1])):
        k = int(np.argmin(sizes))
        sizes[k] += count
        result[data.places == place] = len(large) + k
    return result


def write(folder: str, data: Chips12) -> None:
    """Images and labels of a chips folder; `hold_out` writes its manifest."""
    grid = Grid(SIZE, SIZE)
    for part in ("images", "labels"):
        os.makedirs(os.path.join(folder, part), exist_ok=True)
    for i, name in enumerate(data.names):
        write_small(os.path.join(folder, "images", name), data.pixels[i], grid, data.valid[i], names=BANDS)
        label = np.where(data.valid[i], data.water[i] + 1, 0).astype(np.uint8)
        write_small(os.path.join(folder, "labels", name), label[None], grid)


def hold_out(folder: str, data: Chips12, test: np.ndarray, seed: int, share: float = 0.2) -> Manifest:
    """Write the manifest in which the chips where `test` is True are for test, and whole places of the others, about `share` of both
    classes, for validation (chosen by `split.choose`, as exportchips does it with scenes)."""
    places = np.unique(data.places[~test])
    counts = np.array(
        [[np.count_nonzero(data.valid[k] & (data.water[k] == c)) for c in (False, True)] for k in (data.places == p for p in places)]
    )
    parts = dict(zip(places, split.choose(counts, (share, 0.0), seed)))
    listed = []
    for i, name in enumerate(data.names):
        part = chips.SPLITS[split.TEST if test[i] else parts[data.places[i]]]
        water = float(data.water[i].mean())
        listed.append(Chip(f"images/{name}", f"labels/{name}", part, int(data.places[i]), shares=(1 - water, water)))
    bands = tuple({"name": name, "unit": "reflectance x 10000", "dtype": "int16"} for name in BANDS)
    manifest = Manifest("segmentation", bands, CLASSES, SIZE, tuple(listed), stride=SIZE, seed=seed)
    chips.write_manifest(folder, manifest)
    return manifest


def otsu_threshold(values: np.ndarray) -> float:
    """The cut that separates two groups with the largest variance between them (Otsu 1979, 10.1109/TSMC.1979.4310076)."""
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts)[:-1], np.cumsum(counts * middles)
    above = len(values) - below
    between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(middles[int(np.argmax(between))])
