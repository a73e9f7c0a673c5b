"""Elevation model -> water depth and flood extent. The job behind `floodextent`.

The level surface ('bathtub') is worked off in strips; `hand` holds the whole raster in memory and refuses larger ones than its setting says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from .. import maps
from ..classes import MapClass, colour_of
from ..errors import ConfigError, LabelError, RasterError
from ..grid import Grid, spacing_m
from ..labels import Shapes
from ..progress import Progress, part, silent
from ..raster import Raster, Writer, small_cache
from ..settings import FloodConfig
from ..version import version
from ..windows import Window
from ..writer import apart
from .flow import BYTES, Flow
from .runs import Runs

CLASSES = (MapClass(0, "dry", colour_of("not water", 0)), MapClass(1, "water", colour_of("water", 1)))
NODATA = -9999.0
STRIP = 4_000_000  # px that are worked on at once
MILLION, KM2 = 1_000_000, 1e6


@dataclass
class Flooded:
    """What was found: flooded pixels, their area on the ellipsoid, their mean (by area) and greatest depth in the elevation model's `unit`, pixels
    for which nothing is known, the highest height above the nearest drainage (hand only)."""

    unit: str
    pixels: int = 0
    area_km2: float = 0.0
    mean_depth: float = 0.0
    max_depth: float = 0.0
    unknown: int = 0
    most_hand: float = 0.0

    def numbers(self) -> dict:
        return {"AREA_KM2": self.area_km2, "MEAN_DEPTH": self.mean_depth, "MAX_DEPTH": self.max_depth}

    def lines(self) -> list[str]:
        unit = f" {self.unit}" if self.unit else ""
        return [
            f"Flooded: {self.pixels} pixels, {self.area_km2:.6g} km², mean depth {self.mean_depth:.4g}{unit}, greatest {self.max_depth:.4g}{unit}"
        ]


def flood_extent(
    dem: str, config: FloodConfig, *, output: str = "", depth: str = "", hand: str = "", seeds: str = "", streams: str = "",
    progress: Progress = silent,
) -> Flooded:  # fmt: skip
    """Flood the elevation model `dem` (first band).

    `output`: class raster, 0 dry, 1 water, 255 nodata; `depth`: float32 in the model's unit, 0 dry, -9999 nodata; `hand`: height above the
    nearest drainage, likewise; "" for those not wanted. `seeds` (for bathtub): lines, polygons or points that the water must hang together with,
    over sides or corners of pixels; "": all ground below the level. `streams` (for hand): the same kinds of layers, the drainage; "": cells with a
    contributing area from `config.stream_area` on. Raises `ConfigError` when nothing would be flooded, `LabelError` for layers that don't fit.
    """
    _check_outputs([output, depth, hand], dem)
    bathtub = config.method == "bathtub"
    if bathtub and config.level is None:
        raise ConfigError(
            "The water level is not set.", "Give its height in the elevation model's unit (LEVEL), or choose the method hand."
        )
    if bathtub and hand:
        raise ConfigError("A raster of heights above drainage needs the method 'hand'.", "Choose that method, or leave the raster out.")
    for name, given in (("seeds", seeds and not bathtub), ("streams", streams and bathtub)):
        if given:
            progress(0, f"Warning: the method {config.method} does not use {name}.")
    with small_cache(), ExitStack() as files:
        raster = files.enter_context(Raster(dem, "1"))
        raster.as_heights()
        grid, unit = raster.grid, raster.bands[0].unit
        found = Flooded(unit)
        water = (
            _Bathtub(raster, config.level, seeds, part(progress, 0, 0.4))
            if bathtub
            else _Hand(raster, config, streams, part(progress, 0, 0.8))
        )
        tags = {"WATERDL_VERSION": version(), "WATERDL_SETTINGS": json.dumps(config.to_json()), "WATERDL_SOURCE": os.path.basename(dem)}
        extent, _ = maps.writers(files, grid, CLASSES, 1, output, "", config.compression, tags)
        written = [
            files.enter_context(
                Writer(p, grid, 1, np.float32, NODATA, names=[name], metadata=tags, compression=config.compression, unit=unit)
            ) if p else None
            for p, name in ((depth, "water depth"), (hand, "height above nearest drainage"))
        ]  # fmt: skip
        start, volume = 0.4 if bathtub else 0.8, 0.0
        for window in _strips(grid):
            progress(start + (1 - start) * window.row / grid.height, "")
            below, above = water.depth(window)
            known, wet = np.isfinite(below), below > 0
            areas = grid.areas_m2(window)[wet] / KM2
            found.pixels, found.area_km2 = found.pixels + int(wet.sum()), found.area_km2 + float(areas.sum())
            found.unknown += int((~known).sum())
            if wet.any():
                volume += float((areas * below[wet]).sum())
                found.max_depth = max(found.max_depth, float(below[wet].max()))
            if extent is not None:
                extent.write(window, np.where(known, wet, 255).astype(np.uint8))
            if written[0] is not None:
                written[0].write(window, np.where(known, below, NODATA).astype(np.float32))
            if above is not None:
                found.most_hand = max(found.most_hand, float(np.max(above, where=np.isfinite(above), initial=0)))
                if written[1] is not None:
                    written[1].write(window, np.where(np.isfinite(above), above, NODATA).astype(np.float32))
        if not found.pixels:
            raise ConfigError("Nothing is flooded.", water.why_dry())
        if found.pixels + found.unknown == grid.width * grid.height:
            progress(1, "Warning: all of the elevation model is flooded. Is the unit right, and the vertical datum?")
        found.mean_depth = volume / found.area_km2
        progress(1, "Writing overviews.")
    return found


class _Bathtub:
    """Water at a level; with seeds only where it hangs together with one of them."""

    def __init__(self, raster: Raster, level: float, seeds: str, progress: Progress):
        self._raster, self._level, self._seeds = raster, level, seeds
        self._low, self._high, self._runs = np.inf, -np.inf, None
        if seeds:
            self._connect(_shapes(seeds, raster.grid, "seeds"), progress)

    def _connect(self, shapes: Shapes, progress: Progress) -> None:
        grid, lowest, marked = self._raster.grid, np.inf, []
        runs = Runs(grid.width)
        for window in _strips(grid):
            progress(window.row / grid.height, "")
            depth, valid = self._below(window)
            seeded = shapes.burn(grid.part(window), [1] * len(shapes)) > 0
            lowest = min(lowest, float(np.min(self._level - depth, where=seeded & valid, initial=np.inf)))
            marked.append(runs.add(valid & (depth > 0), seeded))
        roots = runs.join()
        if not sum(map(len, marked)):
            why = "They lie on nodata." if np.isinf(lowest) else f"The lowest ground at a seed is {lowest:.6g}."
            raise LabelError(f"No seed lies on ground below the water level {self._level:g}. {why}", "Raise the level, or move the seeds.")
        self._runs, self._chosen = runs, np.isin(roots, np.unique(roots[np.concatenate(marked)]))

    def _below(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """How far the ground lies below the level, and where it is known."""
        pixels, valid = self._raster.read(window)
        ground, valid = pixels[0].astype(np.float64), valid[0]
        self._low = min(self._low, float(np.min(ground, where=valid, initial=np.inf)))
        self._high = max(self._high, float(np.max(ground, where=valid, initial=-np.inf)))
        return self._level - ground, valid

    def depth(self, window: Window) -> tuple:
        depth, valid = self._below(window)
        if self._runs is not None:
            depth[~self._runs.paint(window.row, window.height, self._chosen)] = 0
        return np.where(valid, np.maximum(depth, 0), np.nan), None

    def why_dry(self) -> str:
        if np.isinf(self._low):
            return "The elevation model holds nodata only: choose another one."
        return (
            f"The level {self._level:g} lies below the whole elevation model, which reaches from {self._low:.6g} to {self._high:.6g}: check its unit "
            "and vertical datum."
        )


class _Hand:
    """Water that stands by a stage above the drainage that a cell's water runs to."""

    def __init__(self, raster: Raster, config: FloodConfig, streams: str, progress: Progress):
        grid, self._stage, self._config = raster.grid, config.stage, config
        size = grid.width * grid.height
        if size > config.largest * MILLION:
            raise ConfigError(
                f"The elevation model has {size / MILLION:.0f} million pixels; {config.largest} are allowed, since hand holds all in memory.",
                f"Cut it to the catchment or make it coarser, or allow more (LARGEST): it takes {size * BYTES / 1e9:.1f} GB.",
            )
        shapes = _shapes(streams, grid, "streams") if streams else None
        self._ground = _all(raster, part(progress, 0, 0.1))
        drainage = None if shapes is None else shapes.burn(grid, [1] * len(shapes)) > 0
        share = part(progress, 0.1, 0.7)
        flow = Flow(self._ground, *spacing_m(grid), lowered=drainage, tick=lambda done: share(done, ""))
        if not flow.compiled:
            progress(0.7, "NumPy and Python did the work; numba makes it about 5 times faster (Install packages).")
        share = part(progress, 0.7, 1)
        if drainage is None:
            drainage = self._by_area(flow, grid, lambda done: share(done / 3, ""))
        self._bed = flow.corrected(self._ground, config.pits, lambda done: share((1 + done) / 3, ""))
        self._base = flow.drainage_height(self._bed, drainage, lambda done: share((2 + done) / 3, ""))
        self._tell(drainage, progress)

    def _by_area(self, flow: Flow, grid: Grid, tick) -> np.ndarray:
        areas = np.zeros((grid.height, grid.width), np.float32)
        for window in _strips(grid):
            tick(0.0)
            areas[window.slices] = grid.areas_m2(window) / KM2
        areas = flow.accumulate(areas, tick)
        if areas.max() < self._config.stream_area:
            raise ConfigError(
                f"No cell gathers {self._config.stream_area:g} km²: the largest contributing area is {areas.max():.3g} km².",
                "Let streams begin earlier (STREAM_AREA), give stream lines, or choose a larger part of the elevation model.",
            )
        return areas >= self._config.stream_area

    def _tell(self, drainage: np.ndarray, progress: Progress) -> None:
        known = np.isfinite(self._ground)
        if not (drainage & known).any():
            raise LabelError("The streams lie on nodata.", "Choose streams on the elevation model.")
        lost = int((known & np.isnan(self._base)).sum()) / int(known.sum())
        progress(1, f"Streams: {int((drainage & known).sum())} pixels.")
        if lost > 0.001:
            told = "Warning: " if lost > 0.1 else ""
            progress(
                1,
                f"{told}{100 * lost:.1f} % of the pixels drain out of the elevation model before they meet a stream: nothing is known there (nodata). An "
                "elevation model that holds the whole catchment has fewer.",
            )

    def depth(self, window: Window) -> tuple:
        """A barrier that is carved is taken to be open: water stands on the bed below it."""
        ground, bed, base = self._ground[window.slices], self._bed[window.slices], self._base[window.slices]
        with np.errstate(invalid="ignore"):  # voids are infinite
            above = np.where(np.isfinite(ground), bed - base, np.nan).astype(np.float64)
            depth = np.where(above < self._stage, self._stage - above + (bed - np.minimum(ground, bed)), 0.0)
        return np.where(np.isnan(above), np.nan, depth), above

    def why_dry(self) -> str:
        return f"The stage is {self._stage:g}: choose one above 0."


def _all(raster: Raster, progress: Progress) -> np.ndarray:
    """The whole raster, float32, NaN where void."""
    grid = raster.grid
    ground = np.empty((grid.height, grid.width), np.float32)
    for window in _strips(grid):
        progress(window.row / grid.height, "")
        pixels, valid = raster.read(window)
        ground[window.slices] = np.where(valid[0], pixels[0], np.nan)
    if np.isnan(ground).all():
        raise RasterError("The elevation model holds nodata only.", "Choose another one.")
    return ground


def _shapes(source: str, grid: Grid, what: str) -> Shapes:
    try:
        shapes = Shapes(source, grid.crs)
    except LabelError as error:
        raise LabelError(f"The {what} can't be used: {error.message}", error.remedy) from error
    if not len(shapes.hits(grid)):
        raise LabelError(f"The {what} lie outside the elevation model.", "Choose a layer of the same place, and check the CRS of both.")
    return shapes


def _strips(grid: Grid) -> Iterator[Window]:
    """Whole rows, in whole tiles of the files that are written."""
    rows = max(STRIP // grid.width // 256 * 256, 256)
    return (Window(0, row, grid.width, min(rows, grid.height - row)) for row in range(0, grid.height, rows))


def _check_outputs(outputs: list, dem: str) -> None:
    wanted = [p for p in outputs if p]
    if not wanted:
        raise ConfigError("There is nothing to write.", "Choose the flood extent, the water depth, or both.")
    apart(wanted, (dem,))
