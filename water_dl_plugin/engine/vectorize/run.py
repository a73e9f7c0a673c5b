"""Class or probability raster -> lake polygons with their figures. One pass traces, one sums up; memory follows the length of outlines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from osgeo import ogr

from ..classes import MapClass
from ..errors import ConfigError, GridMismatchError
from ..lakes import inventory
from ..lakes.ellipsoid import measure
from ..lakes.inventory import Inventory
from ..lakes.tables import size_class, size_classes
from ..maps import open_map
from ..progress import Progress, part, silent
from ..raster import Grid, Raster, aligned, small_cache
from ..settings import VectorizeConfig
from ..windows import Window
from .changes import FIELDS as CHANGE_FIELDS
from .changes import compare, lost
from .outlines import BESIDE_CLASS, BESIDE_NODATA, Rings, Tracer
from .polygons import shapes
from .spool import Spool
from .zones import Sums, Zones

STRIP = 6_000_000  # px that are traced at once
FIELDS = (
    ("id", int), ("class", str), ("class_value", int), ("area_m2", float), ("perimeter_m", float), ("compactness", float), ("size_class", str),
    ("elevation_m", float), ("elevation_band", str), ("probability_mean", float), ("probability_min", float), ("islands", int),
    ("touches_edge", int), ("touches_nodata", int),
)  # fmt: skip


@dataclass
class Lakes:
    """The polygons, waiting in a file: iterate for (WKB of a multipolygon, values by field name). `fields` are (name, Python type); `count` and
    `area_m2` are of the lakes now."""

    fields: tuple
    crs: str
    count: int
    classes: tuple
    features: Spool
    area_m2: float = 0.0

    def __iter__(self) -> Iterator[tuple[bytes, dict]]:
        return iter(self.features)


def vectorize(
    path: str, config: VectorizeConfig, *, probability: str = "", dem: str = "", previous: str = "", progress: Progress = silent
) -> Lakes:
    """Polygons of the classes of interest of the raster `path`.

    `probability`: raster of probabilities, for their mean and least value; `dem`: elevation in m; both on any grid. `previous`: layer of
    earlier polygons, for what is new, grown, shrunk, the same and gone. A raster without a pixel of the class gives no polygons, which is no
    error. Raises `ConfigError`, `RasterError`, `GridMismatchError` and `LabelError`.
    """
    size_classes(config)
    with small_cache(), ExitStack() as files:
        raster = files.enter_context(Raster(path))
        reader = open_map(raster, config.classes, config.threshold)
        chosen = _chosen(reader.classes, config)
        extra = [_Extra(p, raster.grid, what) if p else None for p, what in ((probability, "probability raster"), (dem, "elevation model"))]
        for other in filter(None, extra):
            files.callback(other.close)
        then = _earlier(previous, raster.grid.crs) if previous else None
        traced = _trace(raster.grid, reader, chosen, config, part(progress, 0.0, 0.5))
        polygons = [
            rings.polygons(config.min_area, config.min_hole if len(chosen) == 1 else min(config.min_hole, config.min_area))
            for rings in traced
        ]
        count = sum(map(len, polygons))
        last = 0.8 if previous else 1.0
        progress(0.5, f"Found {count} polygons of class {', '.join(reader.classes[k].name for k in chosen)}.")
        sums = _zonal(raster, reader, chosen, traced, polygons, extra, part(progress, 0.5, 0.65))
        lakes = Lakes(FIELDS + (CHANGE_FIELDS if previous else ()), raster.grid.crs, count, reader.classes, Spool())
        outlines = _outlines(raster.grid, reader.classes, chosen, traced, polygons, sums, config, part(progress, 0.65, last))
        if previous:
            outlines = _with_changes(outlines, then, raster, reader, config, part(progress, last, 1.0))
        for wkb, values in outlines:
            lakes.features.add(wkb, values)
            lakes.area_m2 += values["area_m2"] or 0.0
    if not count:
        progress(
            1,
            f"Warning: no pixel of {os.path.basename(path)} is of the class of interest and part of a polygon large enough: the layer is empty.",
        )
    return lakes


def _chosen(classes: tuple, config: VectorizeConfig) -> list[int]:
    """Places of the classes of interest."""
    names = [name.strip() for name in config.positive.split(",") if name.strip()]
    if not names:
        unnamed = len(classes) == 1 and classes[0] == MapClass(0, "0", classes[0].colour)  # a raster of zeros holds background
        return [] if unnamed or not classes else [len(classes) - 1]
    found = []
    for name in names:
        places = [i for i, c in enumerate(classes) if name in (c.name, str(c.value))]
        if not places and name.isdigit() and all(c.name == str(c.value) for c in classes):
            continue  # the raster names no classes, and has none of this one
        if not places:
            raise ConfigError(f"There is no class {name[:40]!r}.", f"The raster's classes are {', '.join(c.name for c in classes)}.")
        found.append(places[0])
    return list(dict.fromkeys(found))


def _strips(grid: Grid) -> list[Window]:
    """Whole rows, as many as make a good piece of work, in whole blocks of most files."""
    rows = max(STRIP // grid.width // 256 * 256, 64)
    return [Window(0, row, grid.width, min(rows, grid.height - row)) for row in range(0, grid.height, rows)]


def _trace(grid: Grid, reader, chosen: list, config: VectorizeConfig, progress: Progress) -> list[Rings]:
    joined, several = config.connectivity == "8", len(chosen) > 1
    early = config.min_hole if config.min_hole <= config.min_area else 0.0
    tracers = [Tracer(grid.width, grid.height, joined, config.min_area, early) for _ in chosen]
    interest = np.zeros(len(reader.classes) + 1, bool)
    interest[chosen] = True  # the last place stands for -1, no class
    above = np.full((1, grid.width), -1, np.int16)
    strips = _strips(grid)
    for number, window in enumerate(strips):
        progress(number / len(strips), "")
        index, _ = reader.read(window)
        pixel_m2 = grid.areas_m2(Window(0, window.row + window.height // 2, grid.width, 1))[0]
        nodata = np.where(index < 0, BESIDE_NODATA, 0).astype(np.uint8)
        both = np.concatenate([above, index])
        for place, (k, tracer) in enumerate(zip(chosen, tracers)):
            mask = index == k
            beside = np.where(interest[index] & ~mask, BESIDE_CLASS, nodata).astype(np.uint8) if several else nodata
            tracer.add(mask, beside, pixel_m2, _parted(both, k, chosen[:place], window.row, grid.width) if several and joined else ())
        above = index[-1:].copy()
    progress(1, "")
    return [tracer.finish() for tracer in tracers]


def _parted(index: np.ndarray, k: int, earlier: list, row: int, width: int) -> np.ndarray:
    """Corners at which areas of class k are not joined, because those of an earlier class are."""
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    crossing = ((a == d) & (a == k) & (b == c) & np.isin(b, earlier)) | ((b == c) & (b == k) & (a == d) & np.isin(a, earlier))
    rows, cols = np.nonzero(crossing)
    return (rows + row) * (width + 1) + cols + 1


class _Extra:
    """Another raster below the polygons, on their pixels."""

    def __init__(self, path: str, grid: Grid, what: str):
        self._raster, self._grid, self._what = Raster(path), grid, what
        self._same = aligned(self._raster, grid, "the class raster")

    def close(self) -> None:
        self._raster.close()

    @property
    def bands(self) -> int:
        return len(self._raster.bands)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        return self._raster.read(window) if self._same else self._raster.read_on(self._grid.part(window))

    def probability(self, window: Window, k: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Of class k of so many. Raises `GridMismatchError` for what is no probability."""
        pixels, valid = self.read(window)
        if self.bands != classes and not (self.bands == 1 and (k == classes - 1 or classes <= 2)):
            raise GridMismatchError(
                f"The {self._what} has {self.bands} bands, the map {classes} classes.",
                "Choose the one that was made together with the map.",
            )
        pixels, valid = (pixels[k], valid[k]) if self.bands == classes > 1 else (pixels[0], valid[0])
        if valid.any() and (pixels[valid].min() < -1e-3 or pixels[valid].max() > 1 + 1e-3):
            raise GridMismatchError(f"The {self._what} holds values outside 0..1.", "Choose a raster of probabilities from 0 to 1.")
        return (1 - pixels if self.bands == 1 and classes == 2 and k == 0 else pixels), valid


def _zonal(raster: Raster, reader, chosen, traced, polygons, extra, progress: Progress) -> tuple[Sums, Sums]:
    """(probability, elevation) per polygon, numbered through the classes."""
    count = sum(map(len, polygons))
    chance, height = Sums(count), Sums(count)
    if not count or not (any(extra) or reader.probabilities):
        return chance, height
    first = np.cumsum([0, *map(len, polygons)])
    zones = [Zones(r, p, np.arange(len(p)) + 1 + a) for r, p, a in zip(traced, polygons, first)]
    strips = _strips(raster.grid)
    for step, window in enumerate(strips):
        progress(step / len(strips), "")
        for k, zone in zip(chosen, zones):
            left, right = zone.columns(window.row, window.height)
            if left == right:
                continue
            box = Window(left, window.row, right - left, window.height)
            index, chances = reader.read(box)
            numbers = np.where(index == k, zone.paint(window.row, window.height)[:, left:right], 0)
            if extra[0] is not None:
                chance.add(numbers, *extra[0].probability(box, k, len(reader.classes)))
            elif chances is not None:
                chance.add(numbers, chances[k], numbers > 0)
            if extra[1] is not None:
                pixels, valid = extra[1].read(box)
                height.add(numbers, pixels[0], valid[0])
    return chance, height


def _outlines(grid, classes, chosen, traced, polygons, sums, config: VectorizeConfig, progress: Progress) -> Iterator[tuple[bytes, dict]]:
    mean, least, height = sums[0].mean(), sums[0].least(), sums[1].mean()
    names, number, count = size_classes(config), 0, sum(map(len, polygons))
    for k, rings, members in zip(chosen, traced, polygons):
        for geometry, islands, edge, nodata in shapes(rings, members, grid, config):
            if number % 256 == 0:
                progress(number / count, "")
            area, perimeter = measure(geometry, grid.crs)
            up = None if np.isnan(height[number]) else float(height[number])
            low = None if up is None else np.floor(up / config.band_height) * config.band_height
            yield bytes(geometry.ExportToWkb(ogr.wkbNDR)), {
                "id": number + 1, "class": classes[k].name, "class_value": classes[k].value, "area_m2": area, "perimeter_m": perimeter,
                "compactness": 4 * np.pi * area / perimeter**2, "size_class": names[int(size_class(config, np.array([area]))[0])][0],
                "elevation_m": up, "elevation_band": None if low is None else f"{low:g}\u2013{low + config.band_height:g} m",
                "probability_mean": None if np.isnan(mean[number]) else float(mean[number]),
                "probability_min": None if np.isnan(least[number]) else float(least[number]),
                "islands": islands, "touches_edge": int(edge), "touches_nodata": int(nodata),
            }  # fmt: skip
            number += 1
    progress(1, "")


def _earlier(previous: str, crs: str) -> Inventory:
    return inventory.read(previous).moved_to(crs)


def _with_changes(outlines, then: Inventory, raster: Raster, reader, config: VectorizeConfig, progress: Progress) -> Iterator[tuple]:
    """The lakes with what changed, and then those that are no more."""
    found = list(outlines)
    geometries = [ogr.CreateGeometryFromWkb(wkb) for wkb, _ in found]
    boxes = np.array([g.GetEnvelope() for g in geometries], np.float64).reshape(-1, 4)[:, [0, 2, 1, 3]]
    area, perimeter = (np.array([v[name] for _, v in found], np.float64) for name in ("area_m2", "perimeter_m"))
    now = Inventory(raster.grid.crs, geometries, np.arange(len(found)) + 1, area, np.full(len(found), np.nan), boxes)
    grid = raster.grid
    pixel = float(np.sqrt(grid.areas_m2(Window(grid.width // 2, grid.height // 2, 1, 1))[0, 0]))
    changes = compare(now, then, perimeter, pixel, config, progress)
    for (wkb, values), more in zip(found, changes.now):
        yield wkb, {**values, **more}
    for number, place in enumerate(changes.gone, len(found) + 1):
        geometry = then.geometries[place]
        point = None if geometry.IsEmpty() else geometry.PointOnSurface() or geometry.Centroid()
        col, row = (-1, -1) if point is None else map(int, np.floor(grid.to_pixel(point.GetX(), point.GetY())))
        inside = 0 <= col < grid.width and 0 <= row < grid.height
        mapped = inside and bool(reader.read(Window(col, row, 1, 1))[0][0, 0] >= 0)
        whole = ogr.ForceToMultiPolygon(geometry.Clone())
        yield bytes(whole.ExportToWkb(ogr.wkbNDR)), {"id": number, "area_m2": 0.0 if mapped else None, **lost(then, place, mapped)}
