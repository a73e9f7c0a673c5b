"""What a dated class or probability raster says of one reservoir: where there is water, where land, and where nobody knows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
from osgeo import gdal, ogr, osr

from .. import classes
from ..classes import MapClass
from ..config import parse_json
from ..errors import ConfigError, GridMismatchError
from ..flood.runs import Runs
from ..grid import Grid, same_crs, spacing_m, spatial_reference
from ..labels import moved_geometry
from ..lakes.ellipsoid import rings
from ..maps import CLASSES_KEY, ProbabilityMap
from ..raster import Raster
from ..windows import Window
from .series import Reservoir

_HIDING = ("cloud", "shadow", "nodata", "no data", "unknown", "unclassified", "fill")


class WaterMap:
    """A class or probability raster, read on any grid. Raises `ConfigError` where its classes can't be told, `RasterError`.

    `water_class`: names or numbers of the classes that are water, with commas; "": those that are called water (else the last one), in
    rasters without names 1. Classes called cloud, shadow or the like hide the ground. `threshold` of probabilities; None: the raster's own,
    else 0.5. Pixels are counted from the threshold on, and not summed up by probability: so classes and probabilities give the same areas,
    and the small probabilities that a network gives to all land add up to nothing.
    """

    def __init__(self, path: str, water_class: str = "", threshold: Optional[float] = None):
        self._raster = Raster(path)
        self.path, self.grid, self._wanted = path, self._raster.grid, [w.strip() for w in water_class.split(",") if w.strip()]
        tags, real = self._raster.tags(), self._raster.dtype.kind == "f"
        named = _named(tags, self._raster.categories())
        self._probabilities: Optional[ProbabilityMap] = None
        self._water: Optional[set] = None
        self._hiding: set = set()
        if len(self._raster.bands) > 1 and (not real or len(named) != len(self._raster.bands)):
            raise ConfigError(
                f"{path} has {len(self._raster.bands)} bands: it is neither a class raster nor probabilities of named classes.",
                "Choose rasters of water, e.g. outputs of classifyraster.",
            )
        if real and (len(self._raster.bands) > 1 or len(named) in (0, 2)):
            pair = named or (MapClass(0, "other", (0, 0, 0)), MapClass(1, "water", (0, 0, 255)))
            self._probabilities = ProbabilityMap(self, pair, threshold if threshold is not None else _threshold(tags))
            self._places = [i for i, c in enumerate(pair) if c.value in self._of(pair)] if named else [1]
        if named:
            self._water = self._of(named)
            self._hiding = {c.value for c in named if any(word in c.name.casefold() for word in _HIDING)} - self._water

    def _of(self, named: Sequence[MapClass]) -> set:
        """Values of the classes of water."""
        if self._wanted:
            wanted = {w.casefold() for w in self._wanted}
            chosen = {c.value for c in named if {c.name.casefold(), str(c.value)} & wanted}
            if not chosen:
                raise ConfigError(
                    f"{self.path} has no class {', '.join(self._wanted)[:60]!r}.",
                    f"Set WATER_CLASS to one of {', '.join(c.name for c in named)[:200]}.",
                )
            return chosen
        return {c.value for c in named if classes.is_water(c.name)} or {named[-1].value}

    def on(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """(water, known), bool `(rows, cols)`, on any grid: classes by the nearest pixel, probabilities bilinearly. Raises `ConfigError`
        for values that don't say what they are."""
        if self._probabilities is not None:
            self._read = self._raster.read_on(grid, "bilinear")
            if not _whole(self._read[0][self._read[1]]):
                index, _ = self._probabilities.read(Window(0, 0, grid.width, grid.height))
                return np.isin(index, self._places), index >= 0
        pixels, valid = self._raster.read_on(grid, "nearest")
        values, known = pixels[0], valid[0]
        if self._water is None and self._wanted and not all(map(_is_number, self._wanted)):
            raise ConfigError(
                f"{self.path} has no class {', '.join(self._wanted)[:60]!r}: its classes have no names.",
                "Give the number of water (WATER_CLASS).",
            )
        water = self._water if self._water is not None else {float(w) for w in self._wanted} or {1}
        found = set(np.unique(values[known]).tolist())
        if self._water is None and not self._wanted and not found <= {0, 1}:
            told = ", ".join(f"{v:g}" for v in sorted(found)[:8])
            raise ConfigError(
                f"{self.path} holds the values {told} and does not say which of them is water.",
                "Give its number (WATER_CLASS). Probabilities must lie in 0..1: divide percentages by 100.",
            )
        known = known & ~np.isin(values, list(self._hiding))
        return np.isin(values, list(water)) & known, known

    def read(self, _window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and valid of the grid that was asked for: what `ProbabilityMap` reads from."""
        return self._read

    def close(self) -> None:
        self._raster.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _named(tags: dict, categories: Sequence[str]) -> tuple[MapClass, ...]:
    """The classes that a raster names; () if it names none."""
    found: tuple = ()
    if CLASSES_KEY in tags:
        try:
            found = classes.from_json(parse_json(tags[CLASSES_KEY], "The raster's classes"))
        except (ConfigError, KeyError, TypeError, ValueError):  # someone edited the metadata
            found = ()
    if not found:
        found = tuple(MapClass(v, name, (128, 128, 128)) for v, name in enumerate(categories[:255]) if name)
    return () if all(c.name == str(c.value) for c in found) else found


def _threshold(tags: dict) -> float:
    try:
        found = float(tags.get("WATERDL_THRESHOLD", ""))
    except ValueError:
        return 0.5
    return found if 0 <= found <= 1 else 0.5


def _whole(values: np.ndarray) -> bool:
    """Whole numbers beyond 1: classes that some calculator wrote as reals."""
    return bool(values.size) and values.max() > 1 and np.array_equal(values, np.rint(values))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def shape(reservoir: Reservoir, crs: str) -> ogr.Geometry:
    """The reservoir's polygon in another CRS (WKT). Raises `GridMismatchError` where it can't be."""
    geometry = ogr.CreateGeometryFromWkb(reservoir.polygon)
    if bool(reservoir.crs) != bool(crs):
        raise GridMismatchError("Reservoirs and raster do not both have a CRS.", "Assign the missing one first.")
    if crs and not same_crs(reservoir.crs, crs):
        move = osr.CoordinateTransformation(spatial_reference(reservoir.crs), spatial_reference(crs))
        if not moved_geometry(geometry, move):
            raise GridMismatchError(f"The polygon of {reservoir.name} can't be brought to the raster's CRS.", "Check both.")
    return geometry


def around(reservoir: Reservoir, grid: Grid, metres: float, margin: int = 0) -> tuple[Grid, Window]:
    """(the part of `grid`, or what continues it, that holds the polygon with `metres` and `margin` px around; where that begins and ends)."""
    geometry = shape(reservoir, grid.crs)
    left, right, bottom, top = geometry.GetEnvelope()
    places = np.array([grid.to_pixel(x, y) for x in (left, right) for y in (bottom, top)])
    edge = np.array([metres / s for s in _spacing(geometry, grid)]) + margin
    first, last = np.floor(places.min(0) - edge).astype(int), np.ceil(places.max(0) + edge).astype(int)
    window = Window(int(first[0]), int(first[1]), max(int(last[0] - first[0]), 1), max(int(last[1] - first[1]), 1))
    return grid.part(window), window


def inside(reservoir: Reservoir, grid: Grid, metres: float = 0.0) -> np.ndarray:
    """bool `(rows, cols)`: pixels whose middle lies in the polygon, or at most `metres` outside it."""
    geometry = shape(reservoir, grid.crs)
    dx, dy = spacing_m(grid)
    whole = ogr.Geometry(ogr.wkbMultiPolygon)
    for polygon in rings(geometry):
        made = ogr.Geometry(ogr.wkbPolygon)
        for points in polygon:  # in metres from the grid's corner, along its rows and columns: there a distance is one
            col, row = _to_pixels(points, grid)
            ring = ogr.Geometry(ogr.wkbLinearRing)
            for x, y in zip((col * dx).tolist(), (row * dy).tolist()):
                ring.AddPoint_2D(x, y)
            made.AddGeometry(ring)
        whole.AddGeometry(made)
    # a buffer of 0 also mends an outline that crosses itself
    flat = whole.Buffer(metres)
    target = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, 1, gdal.GDT_Byte)
    target.SetGeoTransform((0.0, dx, 0.0, 0.0, 0.0, dy))
    holder = (ogr.GetDriverByName("Memory") or ogr.GetDriverByName("MEM")).CreateDataSource("")
    layer = holder.CreateLayer("reservoir")
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometry(flat)
    layer.CreateFeature(feature)
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # it warns that layer and raster have no CRS: they share one
    gdal.RasterizeLayer(target, [1], layer, burn_values=[1])
    gdal.PopErrorHandler()
    return target.ReadAsArray() > 0


def _to_pixels(points: np.ndarray, grid: Grid) -> np.ndarray:
    back = gdal.InvGeoTransform(grid.transform)
    x, y = points.T
    return np.stack([back[0] + x * back[1] + y * back[2], back[3] + x * back[4] + y * back[5]])


def _spacing(geometry: ogr.Geometry, grid: Grid) -> tuple[float, float]:
    """Metres from pixel to pixel where the polygon is."""
    left, right, bottom, top = geometry.GetEnvelope()
    col, row = grid.to_pixel((left + right) / 2, (bottom + top) / 2)
    return spacing_m(grid.part(Window(math.floor(col), math.floor(row), 1, 1)))


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask that hangs together (8 neighbours), bool `(rows, cols)`."""
    runs = Runs(mask.shape[1])
    runs.add(mask, np.zeros_like(mask))
    roots = runs.join()
    if not len(roots):
        return mask
    sizes = np.bincount(roots, runs.ends - runs.starts)
    return runs.paint(0, len(mask), roots == sizes.argmax())
