"""A flood map, whatever it holds, as wet and dry pixels (and depths) on a given grid. Read by windows."""

from __future__ import annotations

import os
from typing import NamedTuple, Optional

import numpy as np
from osgeo import gdal

from ..errors import ConfigError
from ..grid import Grid
from ..maps import BLOCK, CLASSES_KEY, ClassMap, ProbabilityMap, open_map
from ..progress import Progress, silent
from ..raster import Raster, aligned
from ..settings import AssessFloodConfig
from ..windows import Window, blocks

UNLIKELY_DEPTH = 1.0  # m: a raster of fractions that never goes beyond may be one of probabilities


class Flood(NamedTuple):
    """`(rows, cols)`: wet and known, bool; depth in m, float64, or None. Where it is not known neither counts."""

    wet: np.ndarray
    known: np.ndarray
    depth: Optional[np.ndarray]


class FloodMap:
    """A depth, class or probability raster on `grid` (None: its own). `kind` as in `AssessFloodConfig`.

    Other grids are met by nearest neighbour, depths bilinearly. With "auto" a raster of whole numbers without a hint is read through once, by blocks,
    each told to `progress`. Raises `GridMismatchError` where it lies elsewhere, `ConfigError` for classes that
    it does not have.
    """

    def __init__(self, path: str, grid: Optional[Grid], kind: str, config: AssessFloodConfig, progress: Progress = silent):
        self._raster, self._config, self._footprint = Raster(path), config, ""
        self.path, self.grid, self._deepest, self._dry = path, grid or self._raster.grid, 0.0, False
        try:
            self._same = aligned(self._raster, self.grid, "the reference")
            self.kind, self._guessed = (kind, False) if kind != "auto" else _kind(self._raster, progress)
            if self.kind == "depth" and len(self._raster.bands) > 1:
                raise ConfigError(
                    f"{path} has {len(self._raster.bands)} bands: which one holds depths is not known.", "Save that band as a raster."
                )
            if self.kind == "extent":
                found = open_map(self._raster, "", config.threshold)
                self._wet = _wet_classes(found.classes, config.positive, path)
                self._reader = (
                    ProbabilityMap(self, found.classes, found.threshold) if found.probabilities else ClassMap(self, found.classes)
                )
        except BaseException:
            self.close()
            raise

    def flood(self, window: Window) -> Flood:
        """What the map says in a window of the grid."""
        if self.kind == "extent":
            index, _ = self._reader.read(window)
            known, wet, depth = index >= 0, np.isin(index, self._wet), None
        else:
            pixels, valid = self.read(window)
            known, depth = valid[0], np.where(valid[0], np.maximum(pixels[0].astype(np.float64), 0), 0)
            wet = (depth >= self._config.wet_depth) & (depth > 0)
            self._deepest = max(self._deepest, float(depth.max(initial=0)))
        if self._config.nodata_is_dry:
            known = known | self._inside(window)
        self._dry |= bool((known & ~wet).any())
        return Flood(wet & known, known, depth)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and valid on the grid, as `Raster.read`: what `maps` reads classes and probabilities from."""
        if self._same:
            return self._raster.read(window)
        return self._raster.read_on(self.grid.part(window), "bilinear" if self.kind == "depth" else "nearest")

    def _inside(self, window: Window) -> np.ndarray:
        """Pixels of the grid that lie on the raster, be there data or not."""
        if self._same:
            return np.ones((window.height, window.width), bool)
        if not self._footprint:  # a raster of the same pixels, empty, so that it takes no room
            mine = self._raster.grid
            self._footprint = f"/vsimem/water_dl_footprint_{id(self)}.tif"
            data = gdal.GetDriverByName("GTiff").Create(
                self._footprint, mine.width, mine.height, 1, gdal.GDT_Byte, ["SPARSE_OK=TRUE", "TILED=YES"]
            )
            data.SetGeoTransform(mine.transform)
            data.SetProjection(mine.crs)
            data = None
        with Raster(self._footprint) as whole:
            return whole.read_on(self.grid.part(window), "nearest")[1][0]

    def doubts(self) -> list[str]:
        """Warnings about what was read so far."""
        name, told = os.path.basename(self.path), []
        if self._guessed and self.kind == "depth" and self._deepest <= UNLIKELY_DEPTH:
            told.append(
                f"{name} was taken for depths in m, none above {UNLIKELY_DEPTH:g}. If it holds probabilities, say that it holds an extent."
            )
        if not self._dry:
            told.append(
                f"{name} has no dry pixel where it is compared. If its nodata means dry ground, say so (NODATA_IS_DRY): else false alarms are not seen."
            )
        return told

    def close(self) -> None:
        self._raster.close()
        if self._footprint:
            gdal.Unlink(self._footprint)
            self._footprint = ""


def _kind(raster: Raster, progress: Progress) -> tuple[str, bool]:
    """'depth' or 'extent', and whether that is a guess."""
    names = " ".join(b.name.lower() for b in raster.bands)
    if raster.dtype.kind != "f" or len(raster.bands) > 1 or CLASSES_KEY in raster.tags() or "prob" in names:
        return "extent", False
    if "depth" in names:
        return "depth", False
    for window in blocks(raster.grid.width, raster.grid.height, BLOCK):
        progress(0, "")
        pixels, valid = raster.read(window)
        if not np.array_equal(pixels[valid], np.rint(pixels[valid])):
            return "depth", True
    return "extent", True


def _wet_classes(classes: tuple, wanted: str, path: str) -> list[int]:
    """Places of the flooded classes."""
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    unnamed = all(c.name == str(c.value) for c in classes)
    if not names:
        return [] if unnamed and len(classes) == 1 and classes[0].value == 0 else [len(classes) - 1]
    places = [i for i, c in enumerate(classes) if {c.name, str(c.value)} & names]
    if not places and not unnamed:
        raise ConfigError(f"{path} has no class {wanted[:60]!r}.", f"Its classes are {', '.join(c.name for c in classes)}.")
    return places
