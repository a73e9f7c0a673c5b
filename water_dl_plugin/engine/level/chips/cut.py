"""Cutting a reservoir's chip out of a scene: pixels on the reservoir's own grid, and how much of it the scene shows."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ...errors import BandError, GridMismatchError
from ...grid import Grid, same_crs
from ...progress import Progress, silent
from ...raster import Band, Raster, overlap, parse_bands
from ...windows import Window, blocks
from ..series import Place, Scene
from . import quality

_BLOCK = 2048  # px of a scene along a side that are read at once
_UNNAMED = re.compile(r"Band \d+")
_LARGEST = 200  # times finer than the chip's pixels: so many of the scene's would be read for each
_COARSER = 1.5  # times coarser than the chip's pixels: such a scene would show a blurred shore


@dataclass(frozen=True)
class Cut:
    """A chip: `pixels` float32 and `valid` bool, `(bands, rows, cols)`, 0 where not valid: no data, cloud or shadow. `cover`: share of the
    polygon that the scene holds data for; `cloud`: share of that which cloud or shadow hides. Both 0..1, `cloud` is 1 where nothing is covered.
    `marked`: a quality band told it; without one no cloud is known of."""

    pixels: np.ndarray
    valid: np.ndarray
    cloud: float
    cover: float
    marked: bool = True


class Opened:
    """A scene and its quality band, opened once for all its reservoirs.

    `bands` as in `raster.parse_bands`; "" takes `like`, the names of bands, in that order if the scene has them all, else all bands but
    quality bands. `kind`: see `settings.level_chips.quality`. `marked`: has the quality band hidden anything so far? Raises `RasterError` (`BandError`, `GridMismatchError`).
    """

    def __init__(self, scene: Scene, bands: str = "", kind: str = "auto", like: Sequence[str] = ()):
        self.scene, self._marks, self.marked = scene, None, False
        with Raster(scene.path) as whole:
            self.names = [b.name for b in whole.bands]
        chosen = self._chosen(bands, like)
        left = [i for i in range(1, len(self.names) + 1) if i not in chosen]
        self.quality = quality.find(scene, self.names, kind, left)
        if not bands.strip() and self.quality and not self.quality.path:
            chosen = [i for i in chosen if i not in self.quality.bands]
        if not chosen:
            raise BandError(f"{os.path.basename(scene.path)} has quality bands only.", "Choose its bands with BANDS.")
        self._raster = Raster(scene.path, ",".join(map(str, chosen)))
        try:
            self.bands: list[Band] = self._raster.bands
            self.grid, self.dtype = self._raster.grid, self._raster.dtype
            if self.quality:
                self._marks = Raster(self.quality.path or scene.path, ",".join(map(str, self.quality.bands)))
                if self.quality.path and not overlap(self.grid, self._marks.grid):
                    raise GridMismatchError(
                        f"The quality raster {os.path.basename(self.quality.path)} does not lie over the scene.", "Check the table."
                    )
        except BaseException:
            self.close()
            raise

    def _chosen(self, bands: str, like: Sequence[str]) -> list[int]:
        if bands.strip():
            return parse_bands(bands, self.names)
        if like and set(like) <= set(self.names):
            return [self.names.index(name) + 1 for name in like]
        return [i for i, name in enumerate(self.names, 1) if not quality.is_quality(name)]

    def cut(self, grid: Grid, inside: np.ndarray, progress: Progress = silent) -> Cut:
        """The chip on `grid`; `inside`, bool `(rows, cols)` on it, is the polygon.

        A scene whose pixels are the grid's, or a whole part of them, is read as it is, coarser pixels being the mean of what is valid in them;
        any other is brought to it bilinearly first, also out of another CRS. A pixel is valid where all bands are and no cloud is, in at least half
        of it. Numbers that are 0 in all of two or more bands are no data, as satellite products have it, unless they are bytes. Raises
        `RasterError`: `GridMismatchError` where scene and grid can't be brought together, or the scene's pixels are much coarser.
        """
        factor = self._factor(grid)
        shape = (len(self.bands), grid.height, grid.width)
        total, there, clear, hidden = np.zeros(shape), *(np.zeros(shape[1:]) for _ in range(3))
        for block in blocks(grid.width, grid.height, max(_BLOCK // factor, 1)):
            progress(block.row / grid.height, "")
            part = grid.part(block)
            t = part.transform
            fine = Grid(
                part.width * factor,
                part.height * factor,
                (t[0], t[1] / factor, t[2] / factor, t[3], t[4] / factor, t[5] / factor),
                grid.crs,
            )
            pixels, data, dark = self._read(fine)
            good = data & ~dark
            total[(slice(None), *block.slices)] = _sums(np.where(good, pixels, 0), factor)
            there[block.slices], clear[block.slices], hidden[block.slices] = (_sums(m, factor) for m in (data, good, data & dark))
        valid = clear >= 0.5 * factor**2
        mean = total / np.maximum(clear, 1)
        cover, cloud = there[inside].sum(), hidden[inside].sum()
        return Cut(
            np.where(valid, mean, 0).astype(np.float32), np.repeat(valid[None], shape[0], axis=0),
            float(cloud / cover) if cover else 1.0, float(cover / max(inside.sum() * factor**2, 1)),
            self.quality is not None,
        )  # fmt: skip

    def _factor(self, grid: Grid) -> int:
        """How many of the scene's pixels a pixel of the grid is wide."""
        own, wanted = sum(self.grid.pixel_size), sum(grid.pixel_size)
        if self.grid.crs and grid.crs and not same_crs(self.grid.crs, grid.crs):
            own, wanted = self.grid.pixel_size_m, grid.pixel_size_m
        if own > _COARSER * wanted:
            raise GridMismatchError(
                f"The pixels of {os.path.basename(self.scene.path)} are {own / wanted:.1f} times as large as those of the chips.",
                "Take scenes of the same pixel size.",
            )
        if wanted > _LARGEST * own:
            raise GridMismatchError(
                f"The chips' pixels are {wanted / own:.0f} times as large as those of {os.path.basename(self.scene.path)}.",
                "Choose smaller pixels (RESOLUTION), or another model.",
            )
        return max(round(wanted / own), 1)

    def _read(self, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels `(bands, rows, cols)`; where there are data, and where something hides them, `(rows, cols)`."""
        pixels, valid = _on(self._raster, grid, "bilinear")
        data = valid.all(axis=0)
        if len(pixels) > 1 and self.dtype.itemsize > 1:
            data &= (pixels != 0).any(axis=0)
        hidden = np.zeros(data.shape, bool)
        if self._marks is not None:
            marks, known = _on(self._marks, grid, "nearest")
            if marks.dtype.kind == "f":
                marks = np.where(known, marks, 0)
            quality.check(self.quality.kind, marks[0][known[0] & data], self._marks.path)
            known = known.all(axis=0)
            hidden = known & quality.unusable(self.quality.kind, marks)
            self.marked |= bool(hidden.any())
            data &= ~(known & quality.missing(self.quality.kind, marks))
        return pixels, data, hidden

    def close(self) -> None:
        for raster in (self._raster, self._marks):
            if raster is not None:
                raster.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def fits(names: Sequence[str], like: Sequence[str]) -> bool:
    """Are these the bands `like`, as far as names tell: the same ones, or as many where one of the two has no names?"""
    bare = all(map(_UNNAMED.fullmatch, names)) or all(map(_UNNAMED.fullmatch, like))
    return tuple(names) == tuple(like) or (bare and len(names) == len(like))


def cut(scene: Scene, place: Place, inside: np.ndarray, bands: str = "", kind: str = "auto", like: Sequence[str] = ()) -> Cut:
    """One chip of one scene, see `Opened`."""
    with Opened(scene, bands, kind, like) as opened:
        return opened.cut(place.grid, inside)


def _on(raster: Raster, grid: Grid, resampling: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and valid on a grid; without resampling where its pixels are the raster's own, some of which may lie beyond its border."""
    window = _window(raster.grid, grid)
    if window is None:
        return raster.read_on(grid, resampling)
    shape = (len(raster.bands), grid.height, grid.width)
    pixels, valid = np.zeros(shape, raster.dtype), np.zeros(shape, bool)
    part = window.inside(raster.grid.width, raster.grid.height)
    if not part.empty:
        to = (slice(None), *part.shifted(-window.col, -window.row).slices)
        pixels[to], valid[to] = raster.read(part)
    return pixels, valid


def _window(source: Grid, grid: Grid) -> Optional[Window]:
    """Where the grid lies in the raster's pixels, if it is made of them to a hundredth of a pixel at all corners."""
    if not same_crs(source.crs, grid.crs):
        return None
    corners = np.array([source.to_pixel(x, y) for x, y in grid.corners])
    first = np.rint(corners[0])
    away = corners - first - np.array([(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height)])
    return Window(int(first[0]), int(first[1]), grid.width, grid.height) if np.abs(away).max() < 0.01 else None


def _sums(array: np.ndarray, factor: int) -> np.ndarray:
    """Sums over squares of `factor` px, float64."""
    *first, rows, cols = array.shape
    return array.reshape(*first, rows // factor, factor, cols // factor, factor).sum(axis=(-3, -1), dtype=np.float64)
