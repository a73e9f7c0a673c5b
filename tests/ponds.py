"""Small round reservoirs as a user would have them: dated scenes that show the water at a known level, polygons, a gauge table.

The basins are bowls: at `level_m` above its zero a pond's water reaches `radius_m * level_m / full_m` from its middle. Files are written with
GDAL directly, not with the code under test.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
import os
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from tests.helpers import utm, write_layer, write_raster
from water_dl_plugin.engine.raster import Grid

GRID = utm(120, 80)
START = dt.datetime(2019, 1, 3, 8, 13, 1)
#: Sentinel-2 L2A reflectance x 10000 of green, red, near infrared.
WATER, LAND = (600, 400, 200), (900, 1100, 3000)
CLOUD = (6000, 6100, 6300)


@dataclass(frozen=True)
class Pond:
    """`zero_m`: the level at which it is empty; `x`, `y`: its middle in GRID's CRS."""

    name: str
    x: float
    y: float
    radius_m: float = 200.0
    full_m: float = 10.0
    zero_m: float = 100.0

    def wkt(self, corners: int = 72) -> str:
        turns = [2 * math.pi * k / corners for k in (*range(corners), 0)]
        return (
            "POLYGON(("
            + ",".join(f"{self.x + self.radius_m * math.cos(t)!r} {self.y + self.radius_m * math.sin(t)!r}" for t in turns)
            + "))"
        )

    def away(self, grid: Grid) -> np.ndarray:
        """Metres from the middle, `(rows, cols)`, of the pixels of a grid in GRID's CRS."""
        x, y = grid.to_map(*np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5))
        return np.hypot(x - self.x, y - self.y)

    def water(self, grid: Grid, level_m: float) -> np.ndarray:
        return self.away(grid) < self.radius_m * (level_m - self.zero_m) / self.full_m


UPPER = Pond("Upper Dam", 400_300.0, 4_499_600.0)
LOWER = Pond("Lower Dam", 400_850.0, 4_499_550.0, radius_m=150.0, full_m=6.0, zero_m=40.0)
PONDS = (UPPER, LOWER)


def times(number: int, days: float = 10.0, start: dt.datetime = START) -> list[dt.datetime]:
    return [start + dt.timedelta(days=days * k) for k in range(number)]


def level_at(pond: Pond, when: dt.datetime) -> float:
    """The true level: a yearly wave and a slow draw-down, so that all dates differ. To a millimetre, as a gauge would give it."""
    days = (when - START).total_seconds() / 86400
    share = 0.6 + 0.3 * math.cos(2 * math.pi * days / 365.25) - 0.04 * days / 365.25
    return round(pond.zero_m + pond.full_m * share, 3)


def pixels(grid: Grid, levels: dict, seed: int = 0, noise: float = 40.0) -> np.ndarray:
    """uint16 `(3, rows, cols)`: green, red, near infrared of land with the ponds of `levels` (pond: level in m)."""
    water = np.zeros((grid.height, grid.width), bool)
    for pond, level in levels.items():
        water |= pond.water(grid, level)
    clear = np.where(water[None], np.array(WATER)[:, None, None], np.array(LAND)[:, None, None])
    return np.clip(clear + np.random.default_rng(seed).normal(0, noise, clear.shape), 1, 10_000).astype(np.uint16)


def name(when: dt.datetime, sensor: str = "sentinel-2", tile: str = "T12TUL") -> str:
    """A product's name, without ending."""
    stamp = when.strftime("%Y%m%dT%H%M%S")
    return {
        "sentinel-2": f"S2A_MSIL2A_{stamp}_N0213_R078_{tile}_{when:%Y%m%d}T110000",
        "sentinel-1": f"S1A_IW_GRDH_1SDV_{stamp}_{when:%Y%m%d}T172559_034155_03F7A1_7B2C",
        "landsat-8": f"LC08_L2SP_037032_{when:%Y%m%d}_{when:%Y%m%d}_02_T1",
    }[sensor]


def write_scene(
    folder, when: dt.datetime, ponds=PONDS, grid: Grid = GRID, cloud: float = 0.0, quality: str = "QA60", sensor: str = "sentinel-2", **more
) -> str:
    """One scene, the path of its file. The western share `cloud` of it is cloud, which the quality band tells ("" for none); sentinel-1: VV and VH in dB."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(str(folder), name(when, sensor) + ".tif")
    planes = pixels(grid, {p: level_at(p, when) for p in ponds}, seed=int(when.timestamp()) % 2**31)
    if sensor == "sentinel-1":
        return write_raster(path, (planes[[2, 0]] / 200.0 - 25).astype(np.float32), grid, names=("VV", "VH"), **more)
    hidden = np.zeros(planes.shape[1:], bool)
    hidden[:, : round(cloud * grid.width)] = True
    planes = np.where(hidden, np.array(CLOUD, np.uint16)[:, None, None], planes)
    names = ("B3", "B4", "B8")
    if quality:
        mark = {"QA60": (1 << 10, 0), "SCL": (9, 6), "QA_PIXEL": (22280, 21824)}[quality]
        planes, names = np.concatenate([planes, np.where(hidden, *mark)[None].astype(np.uint16)]), (*names, quality)
    return write_raster(path, planes.astype(np.uint16), grid, names=names, **more)


def write_polygons(path, ponds=PONDS, **fields) -> str:
    """A GeoPackage with the fields `name` and those given as lists of values."""
    return write_layer(
        path, [(p.wkt(), {"name": p.name, **{k: v[i] for k, v in fields.items()}}) for i, p in enumerate(ponds)], GRID.crs, layer="dams"
    )


def write_gauge(path, ponds=PONDS, first: dt.datetime = START, days: int = 1200) -> str:
    """A CSV of daily levels: reservoir, date, level_m."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("reservoir", "date", "level_m"))
        for pond in ponds:
            for k in range(days):
                day = first + dt.timedelta(days=k)
                writer.writerow((pond.name, day.strftime("%Y-%m-%d"), level_at(pond, day)))
    return str(path)


def series(folder, number: int = 24, ponds=PONDS, clouds=None, **scene) -> SimpleNamespace:
    """Everything in one folder: `scenes` (a folder with `number` of them), `polygons`, `gauge`, `times`. `clouds`: share by number of the date."""
    folder, clouds = str(folder), clouds or {}
    when = times(number)
    scenes = os.path.join(folder, "scenes")
    paths = [write_scene(scenes, t, ponds, cloud=clouds.get(k, 0.0), **scene) for k, t in enumerate(when)]
    polygons = write_polygons(os.path.join(folder, "dams.gpkg"), ponds)
    return SimpleNamespace(
        folder=folder, scenes=scenes, paths=paths, polygons=polygons, gauge=write_gauge(os.path.join(folder, "gauge.csv"), ponds), times=when, ponds=ponds
    )  # fmt: skip
