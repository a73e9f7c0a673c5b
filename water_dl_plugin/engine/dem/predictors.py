"""Elevation models and further rasters as one stack on the grid of a finer one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Optional

import numpy as np

from ..errors import BandError, ConfigError, GridMismatchError
from ..grid import Grid
from ..raster import Band, Raster, Rasters, aligned
from ..windows import Window, blocks
from .resample import heights_on, ratio, suited
from .vertical import Offset, raster_doubts

KINDS = {"elevation": "cubic", "image": "bilinear", "class": "nearest"}  # with the resampling of each
MOST_CLASSES = 32  # values of a byte raster that counts as classes
_LOOKED_AT = 64  # blocks of 2048 x 2048 px that are searched for further values
_FINER = 0.99  # of the target's pixel; a base whose pixel is smaller is finer


@dataclass(frozen=True)
class Layer:
    """One raster of the stack. `bands` as in `parse_bands`; `kind` one of `KINDS`; `resampling` "": the kind's own."""

    path: str
    bands: str = ""
    kind: str = "image"
    resampling: str = ""


class Predictors(Rasters):
    """Several rasters on one grid, window by window; the elevation models come first, the first of them is the base.

    Has what `raster.Stack` has. `kinds`, `resamplings` `(bands,)`; `base_factor`: side of a pixel of the base in pixels of the grid, on the
    ground; `layers`; `offsets` per layer, `Offset` or None. A layer much finer than the grid is averaged onto it (classes: nearest).

    Raises `GridMismatchError` for a layer that lies elsewhere or has no CRS, and for a base finer than the grid; `BandError` for an
    elevation model of several bands; `ConfigError` for kinds and orders that make no sense.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, grid: Grid, layers: Sequence[Layer]):
        self.grid, self.layers = grid, tuple(layers)
        if not self.layers or self.layers[0].kind != "elevation":
            raise ConfigError("The first raster must be an elevation model: the one to be made finer.", "Choose one.")
        if "elevation" in [b.kind for a, b in zip(self.layers, self.layers[1:]) if a.kind != "elevation"]:
            raise ConfigError("Elevation models must come before other rasters.", "Change their order.")
        self._members = []
        try:
            for layer in self.layers:
                self._members.append(Raster(layer.path, layer.bands))
            self._settle()
        except BaseException:
            self.close()
            raise

    def _settle(self) -> None:
        """Find out how each layer comes onto the grid."""
        self.path = self.layers[0].path
        self.offsets: list[Optional[Offset]] = [None] * len(self.layers)
        self._aligned = [aligned(m, self.grid, "the target's grid") for m in self._members]
        self._chosen = [layer.resampling or _own(layer.kind) for layer in self.layers]
        ratios = [ratio(m.grid, self.grid) for m in self._members]
        self._ways = [suited(*pair) for pair in zip(self._chosen, ratios)]
        self.base_factor = ratios[0]
        for layer, member in zip(self.layers, self._members):
            if layer.kind == "elevation":
                member.as_heights()
            if layer.kind == "elevation" and len(member.bands) > 1:
                raise BandError(
                    f"{layer.path} has {len(member.bands)} bands; an elevation model has one.",
                    "Choose the right raster, or its band with the heights.",
                )
        if self.base_factor < _FINER:
            raise GridMismatchError(
                f"The elevation model {self.path} is finer than the target: its pixel is {self.base_factor:.2g} times the target's.",
                "The coarse elevation model comes first, the fine one is the target. Are they mixed up?",
            )
        counts = [len(m.bands) for m in self._members]
        self.bands = [Band(_name(m, b), b.unit, "float32", None) for m in self._members for b in m.bands]
        self.kinds = tuple(k for layer, n in zip(self.layers, counts) for k in [layer.kind] * n)
        self.resamplings = tuple(r for way, n in zip(self._chosen, counts) for r in [way] * n)

    def set_offset(self, layer: int, offset: Optional[Offset]) -> None:
        """What to add to the heights of a layer (its number); `Offset`'s x and y are those of this grid's CRS."""
        self.offsets[layer] = offset

    def member(self, layer: int) -> Raster:
        """The raster of a layer, e.g. for `vertical.pairs`."""
        return self._members[layer]

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """float32 and valid, `(bands, rows, cols)`, of a window inside the grid."""
        return self._joined(self.grid.part(window), window)

    def read_on(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """The same on another grid with pixels of that size, e.g. a turned one."""
        return self._joined(grid, None)

    def base(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """float64 heights of the base and valid, `(rows, cols)`, not rounded to float32."""
        pixels, valid = self._part(0, self.grid.part(window), window)
        return pixels[0], valid[0]

    def _joined(self, grid: Grid, window: Optional[Window]):
        parts = [self._part(i, grid, window) for i in range(len(self._members))]
        return np.concatenate([p.astype(np.float32) for p, _ in parts]), np.concatenate([v for _, v in parts])

    def _part(self, i: int, grid: Grid, window: Optional[Window]) -> tuple[np.ndarray, np.ndarray]:
        member = self._members[i]
        if window is not None and self._aligned[i]:
            pixels, valid = member.read(window)
            pixels = np.where(valid, pixels, 0).astype(np.float64)
        else:
            pixels, valid = heights_on(member, grid, self._ways[i])
        offset = self.offsets[i]
        return (pixels if offset is None else np.where(valid, pixels + offset.at(grid), 0.0)), valid

    def doubts(self) -> list[str]:
        """Warnings about each layer by itself: bands that call themselves masks, heights in whole metres, bands of one value."""
        lines = super().doubts()
        for layer, member in zip(self.layers, self._members):
            lines += raster_doubts(member, self.grid, layer.kind == "elevation")
        return lines


def _name(raster: Raster, band: Band) -> str:
    """What a band calls itself; where it does not, the file's name says more than "Band 1"."""
    if not re.fullmatch(r"Band \d+", band.name):
        return band.name
    stem = os.path.splitext(os.path.basename(raster.path))[0]
    return stem if len(raster.bands) == 1 else f"{stem} {band.name}"


def _own(kind: str) -> str:
    if kind not in KINDS:
        raise ConfigError(f"There is no kind of layer {kind!r}.", f"Choose one of: {', '.join(KINDS)}.")
    return KINDS[kind]


def guessed_kind(path: str, bands: str = "") -> str:
    """ "class" for a raster with named values, a colour table, or one 8-bit band of at most 32 different values; else "image"."""
    with Raster(path, bands) as raster:
        if raster.discrete:
            return "class"
        if len(raster.bands) > 1 or raster.dtype != np.uint8:
            return "image"
        found: set = set()
        for window in islice(blocks(raster.grid.width, raster.grid.height, 2048), _LOOKED_AT):
            pixels, valid = raster.read(window)
            found |= set(np.flatnonzero(np.bincount(pixels[valid], minlength=256)).tolist())
            if len(found) > MOST_CLASSES:
                return "image"
        return "class"
