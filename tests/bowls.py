"""Reservoirs whose shape is known by formula, and class rasters of the water in them: for levels out of areas and shorelines."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import numpy as np
from osgeo import ogr

from tests.helpers import utm, write_raster
from water_dl_plugin.engine.level.series import Reading, Reservoir, Scene

SIZE, PIXEL, FLOOR = 100, 10.0, 50.0


def config(**changed) -> SimpleNamespace:
    """The settings that the physical road reads."""
    told = {"water_class": "", "threshold": None, "buffer": 0.0, "max_hidden": 50.0, "coverage": 90.0, "tolerance": 0.0, "time_zone": ""}
    return SimpleNamespace(**{**told, **changed})


def cone(slope: float = 0.05, size: int = SIZE) -> np.ndarray:
    """Heights of a round basin float64 `(size, size)`, whose walls rise by `slope`; lowest point FLOOR m in the middle."""
    rows, cols = np.mgrid[:size, :size] - (size - 1) / 2
    return FLOOR + slope * PIXEL * np.hypot(rows, cols)


def reservoir(radius_m: float = 480.0, name: str = "Bowl", size: int = SIZE, grid=None) -> Reservoir:
    """A circle around the grid's middle."""
    grid = grid or utm(size, size, PIXEL)
    x, y = grid.to_map(size / 2, size / 2)
    angle = np.linspace(0, 2 * np.pi, 181)
    ring = ", ".join(f"{x + radius_m * np.cos(a)!r} {y + radius_m * np.sin(a)!r}" for a in angle[:-1])
    first = f"{x + radius_m!r} {y!r}"
    shape = ogr.CreateGeometryFromWkt(f"POLYGON(({ring}, {first}))")
    return Reservoir(name, bytes(shape.ExportToWkb()), grid.crs)


def levels(count: int, low: float = 54.0, high: float = 70.0) -> np.ndarray:
    """A year's rise and fall, repeated, that never comes to the same level twice."""
    return (low + high) / 2 + (high - low) / 2 * np.sin(np.arange(count) * 0.37 + 0.1)


def when(number: int) -> dt.datetime:
    return dt.datetime(2018, 1, 3, 8, 0) + dt.timedelta(days=10 * number)


def scenes(folder, z: np.ndarray, level_m, hidden=None, grid=None, dtype=np.uint8, **written) -> list[Scene]:
    """A raster per level: 1 where the ground lies below it, else 0; `hidden(number)` bool `(rows, cols)`, or None, becomes nodata (255)."""
    made = []
    for number, level in enumerate(level_m):
        pixels = (z <= level).astype(dtype)
        gaps = hidden(number) if hidden is not None else None
        if gaps is not None:
            pixels[gaps] = 255
        path = write_raster(folder / f"water_{number:03d}.tif", pixels, grid or utm(z.shape[1], z.shape[0], PIXEL), 255, **written)
        made.append(Scene(path, when(number), "sentinel-2"))
    return made


def readings(level_m, name: str = "Bowl") -> list[Reading]:
    return [Reading(name, when(number), float(level), False) for number, level in enumerate(level_m)]
