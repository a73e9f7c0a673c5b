"""The heights of a fine elevation model as what a chips folder teaches (`targets.Target`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Optional

import numpy as np

from ..chips import Chip, ChipSet, Manifest
from ..classes import MapClass
from ..errors import BandError, ConfigError, GridMismatchError, LabelError
from ..heights import LEVEL_PX, level_areas
from ..labels import Shapes, is_vector
from ..progress import Progress, part
from ..raster import RESAMPLING, Grid, Raster, aligned, parse_bands
from ..settings import ChipsConfig
from ..windows import Window
from .predictors import Layer, Predictors, guessed_kind
from .resample import heights_on
from .vertical import Offset, doubts, fit, pairs, raster_doubts, stepped_in

NODATA = -9999.0  # in chips: no height, or no value of a predictor
_ROUNDED = 4  # decimals: on a turned grid level water is level only up to rounding


class ValueTarget:
    """The fine elevation model `labels`, whose grid is the chips'. `water`: polygons, or a raster that is not 0 where water is."""

    task, nodata, background = "regression", NODATA, False
    classes = (MapClass(1, "usable", (0, 0, 0)),)

    def __init__(self, labels: str, config: ChipsConfig, existing: Optional[ChipSet], water: str, files: ExitStack):
        if is_vector(labels):
            raise LabelError(f"{labels} is a vector layer.", "With the target 'values' the labels are a raster: the fine elevation model.")
        self._config, self._path, self._name = config, labels, os.path.basename(labels)
        self._raster = files.enter_context(Raster(labels))
        self._raster.as_heights()
        if len(self._raster.bands) > 1:
            raise BandError(
                f"{labels} has {len(self._raster.bands)} bands; an elevation model has one.", "Choose the fine elevation model."
            )
        self._level = config.level_water
        self._water = _Water(water, self._raster.grid, files) if water else None
        self.nowhere = LabelError(
            f"No pixel of {self._name} can be learnt from: it is nodata, water or level.",
            "Check its place, the water mask and the area of interest"
            + (", or switch 'Leave out level areas' off." if self._level else "."),
        )

    def open(self, scenes: Sequence[str], stack: Sequence[str], files: ExitStack) -> list[Predictors]:
        return [files.enter_context(Predictors(self._raster.grid, _layers(scenes, stack, self._config)))]

    def sources(self, scenes: Sequence[str]) -> list[str]:
        return [self._path]

    def check(self, opened: list[Predictors], existing: Optional[ChipSet], progress: Progress) -> None:
        (scene,) = opened
        if existing:
            _alike(scene, existing.manifest)
        for line in raster_doubts(self._raster, self._raster.grid, elevation=True):
            progress(0, line)
        if self._level and stepped_in(self._raster, self._raster.grid):
            self._level = False
            progress(
                0, "Warning: in whole numbers every plain is level, so level areas are not taken for water. Give a water mask instead."
            )
        if self._water is not None and self._water.missed:
            progress(0, f"Warning: the water mask does not lie over {self._name}.")
        elevations = [layer for layer in scene.layers if layer.kind == "elevation"]
        if len(elevations) == 1:
            progress(
                0,
                "One coarse elevation model: what looks like terrain in it may be error, and nothing tells. A second one of another source "
                "helps more than anything else, above all outside the region of training.",
            )
        for i, layer in enumerate(elevations):  # they come first
            share = part(progress, i / len(elevations), (i + 1) / len(elevations))
            scene.set_offset(i, self._match(os.path.basename(layer.path), scene.member(i), share))

    def _match(self, name: str, raster: Raster, progress: Progress) -> Offset:
        """What brings an elevation model to the target's level; tells it, and what is odd."""
        both = pairs(raster, self._raster, self._raster.grid, seed=self._config.seed, progress=progress)
        if not len(both.a):
            raise GridMismatchError(
                f"{name} and {self._name} have no pixel with data in common.",
                "Choose elevation models of the same place, and check their nodata values.",
            )
        for line in doubts(both.a, both.b, name, both.x, both.y):
            progress(1, line)
        offset = fit(both.b - both.a, both.x, both.y, self._config.vertical)
        if self._config.vertical != "none":
            change = np.ptp(offset.a * (both.x - offset.x0) + offset.b * (both.y - offset.y0))
            tilted = f", tilted by {change:.2f} m across" if change else ""
            progress(1, f"{name} is {'raised' if offset.c >= 0 else 'lowered'} by {abs(offset.c):.2f} m{tilted} to meet {self._name}.")
        return offset

    def read(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Mask (1: usable) and heights, float32."""
        halo = LEVEL_PX - 1 if self._level else 0
        pixels, valid = heights_on(self._raster, grid.part(Window(-halo, -halo, grid.width + 2 * halo, grid.height + 2 * halo)))
        inner = Window(halo, halo, grid.width, grid.height).slices
        usable = valid[0][inner]
        if self._level:
            usable = usable & ~level_areas(np.round(pixels[0], _ROUNDED), valid[0])[inner]
        if self._water is not None:
            usable = usable & ~self._water.on(grid)
        return usable.astype(np.uint8), pixels[0][inner].astype(np.float32)

    def there(self, valid: np.ndarray) -> np.ndarray:
        return valid[0]  # of the base; what others lack is filled in training

    def label(self, content: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask > 0, content, np.float32(NODATA))

    def mask_of(self, chips: ChipSet, chip: Chip) -> np.ndarray:
        return chips.values(chip)[1].astype(np.uint8)

    def told(self, opened: list[Predictors]) -> dict:
        (scene,) = opened
        bands = tuple(
            {"name": b.name, "unit": b.unit, "dtype": b.dtype, "nodata": NODATA, "kind": kind, "resampling": resampling}
            for b, kind, resampling in zip(scene.bands, scene.kinds, scene.resamplings)
        )
        unit = self._raster.bands[0].unit or "m"
        target = {"name": "elevation", "unit": unit, "factor": round(scene.base_factor, 4), "vertical": self._config.vertical}
        return {"task": self.task, "bands": bands, "classes": (), "target": target}

    def source(self, scene: Predictors) -> dict:
        return {
            "layers": [os.path.basename(layer.path) for layer in scene.layers],
            "offsets": [offset.to_json() if offset else None for offset in scene.offsets],
        }

    def beside(self, folder: str, manifest: Manifest, counts: np.ndarray) -> None:
        """Nothing: ArcGIS' "Classified Tiles" know classes only."""


class _Water:
    """Where water is, on any grid."""

    def __init__(self, source: str, grid: Grid, files: ExitStack):
        self._shapes = self._raster = None
        if is_vector(source):
            self._shapes = Shapes(source, grid.crs)
            self.missed = not len(self._shapes.hits(grid))
        else:
            self._raster = files.enter_context(Raster(source, "1"))
            aligned(self._raster, grid, "the target")
            self.missed = False

    def on(self, grid: Grid) -> np.ndarray:
        if self._shapes is not None:
            return self._shapes.burn(grid, [1] * len(self._shapes)) > 0
        pixels, valid = heights_on(self._raster, grid, "nearest")
        return valid[0] & (pixels[0] != 0)


def _layers(scenes: Sequence[str], stack: Sequence[str], config: ChipsConfig) -> list[Layer]:
    """The rasters in order, with their chosen bands, kind and resampling."""
    given = [r.strip().lower() for r in config.resampling.split(",") if r.strip()]
    if given and len(given) != len(stack):
        raise ConfigError(
            f"There are {len(stack)} further raster(s), but {len(given)} resampling(s) ({config.resampling[:60]}).",
            "Name one for each, or none.",
        )
    unknown = [r for r in given if r not in RESAMPLING]
    if unknown:
        raise ConfigError(f"There is no resampling {unknown[0][:40]!r}.", f"Choose among {', '.join(RESAMPLING)}.")
    kinds = ["class" if r == "nearest" else "image" for r in given] or [guessed_kind(path) for path in stack]
    layers = [Layer(path, "", "elevation") for path in scenes]
    layers += [Layer(path, "", kind, way) for path, kind, way in zip(stack, kinds, given or [""] * len(stack))]
    return layers if not config.bands.strip() else _chosen(layers, config.bands)


def _chosen(layers: list[Layer], bands: str) -> list[Layer]:
    """Each layer with its share of the bands, which are counted through all of them."""
    names = []
    for layer in layers:
        with Raster(layer.path) as raster:
            names.append([b.name for b in raster.bands])
    wanted = set(parse_bands(bands, [name for several in names for name in several]))
    if not wanted & set(range(1, len(names[0]) + 1)):
        raise ConfigError("The bands leave out the elevation model that is to be made finer.", "It is band 1.")
    chosen, first = [], 1
    for layer, here in zip(layers, names):
        mine = [str(n - first + 1) for n in range(first, first + len(here)) if n in wanted]
        first += len(here)
        if mine:
            chosen.append(Layer(layer.path, ",".join(mine), layer.kind, layer.resampling))
    return chosen


def _alike(scene: Predictors, before: Manifest) -> None:
    """Raise `GridMismatchError` unless the chips can join those of a folder."""
    kinds, factor = tuple(b.get("kind", "") for b in before.bands), before.target.get("factor", scene.base_factor)
    if kinds != scene.kinds:
        raise GridMismatchError(
            f"The bands here are {', '.join(scene.kinds)}; those of the folder are {', '.join(kinds)}.",
            "Append with the same kinds of rasters in the same order.",
        )
    if max(factor, scene.base_factor) > 1.2 * min(factor, scene.base_factor):
        raise GridMismatchError(
            f"A pixel of the coarse elevation model is as wide as {scene.base_factor:.3g} of the target's; in the folder it is {factor:.3g}.",
            "Export into a new folder.",
        )
