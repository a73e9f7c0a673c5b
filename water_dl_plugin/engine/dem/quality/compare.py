"""The parts of an assessment: a raster's heights on the reference's grid, and what is kept of their errors window by window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from ...grid import Grid, spacing_m
from ...heights import aspect_deg, slope_deg
from ...raster import Raster
from ...windows import Window
from ..resample import heights_on, source_window
from .coregister import Shift
from .figures import Angles, Errors, turn

OVERVIEW = 640  # px: the longer side of an error map
LINE, TILE = 480, 288  # px: longest profile, side of a hillshade
SCATTER = 400_000  # pixels in a scatter plot, at most
TILES = 256  # windows begin at whole tiles of what is written
AS_IT_IS = ""  # the method of a raster whose pixels are the reference's


@dataclass
class Surface:
    """A raster brought to the reference's grid by one method (`AS_IT_IS`: it is there already), moved by `applied`."""

    raster: Raster
    name: str
    method: str
    found: Shift = field(default_factory=Shift)
    applied: Shift = field(default_factory=Shift)
    whole: Optional[dict] = None  # figures of all pixels, in the end

    @property
    def title(self) -> str:
        return f"{self.name}, {self.method}" if self.method else self.name

    def raw(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Heights float64 `(rows, cols)` in m and valid on a grid, not moved."""
        heights, valid = heights_on(self.raster, grid, self.method or "cubic")
        return heights[0], valid[0]

    def on(self, part: Grid, window: Window) -> np.ndarray:
        """Heights on a window of the reference, whose grid is `part`; NaN where there is no data."""
        if not self.method and not (self.applied.cols or self.applied.rows):
            heights, valid = (a[0] for a in self.raster.read(window))
        else:
            heights, valid = self.raw(self.applied.moved(part))
        return np.where(valid, heights.astype(np.float64) - self.applied.offset, np.nan)


class Frame:
    """The reference's grid: which windows, and how far apart its pixels are."""

    def __init__(self, grid: Grid, inside: Window):
        self.grid, self.inside = grid, inside
        self._rows = np.unique(np.linspace(0, grid.height - 1, min(17, grid.height)).astype(int))
        self._spacings = np.array([spacing_m(grid.part(Window(0, int(row), grid.width, 1))) for row in self._rows])

    def spacing(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(dx, dy) in m of each row of a window, `(rows, 1)`: the same whatever the window."""
        rows = np.arange(window.row, window.row + window.height)
        return tuple(np.interp(rows, self._rows, self._spacings[:, k])[:, None] for k in (0, 1))

    def read(self, surface: Surface, window: Window) -> np.ndarray:
        """Heights `(rows + 2, cols + 2)` of a window and of one pixel around it; NaN outside and where there is no data."""
        outer = Window(window.col - 1, window.row - 1, window.width + 2, window.height + 2)
        there = outer.inside(self.grid.width, self.grid.height)
        heights = np.full((outer.height, outer.width), np.nan)
        heights[there.shifted(-outer.col, -outer.row).slices] = surface.on(self.grid.part(there), there)
        return heights

    def terrain(self, heights: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Slope and aspect in degrees `(rows, cols)` of what `read` gave; NaN unless all nine pixels have data."""
        outer = Window(window.col - 1, window.row - 1, window.width + 2, window.height + 2)
        dx, dy = self.spacing(outer)
        return slope_deg(heights, dx, dy)[1:-1, 1:-1], aspect_deg(heights, dx, dy)[1:-1, 1:-1]


def inside(grid: Grid, other: Grid) -> Window:
    """The part of a grid that `other` may cover, from whole tiles on."""
    near = source_window(grid, other).inside(grid.width, grid.height)
    if near.empty:  # can't be told by coordinates: the pixels will tell
        return Window(0, 0, grid.width, grid.height)
    left, top = near.col // TILES * TILES, near.row // TILES * TILES
    return Window(left, top, near.col + near.width - left, near.row + near.height - top)


@dataclass
class Tally:
    """Errors of one surface by a number that each pixel has: its slope class, or its land class."""

    heights: dict = field(default_factory=lambda: defaultdict(Errors))
    slope: dict = field(default_factory=lambda: defaultdict(Angles))
    aspect: dict = field(default_factory=lambda: defaultdict(Angles))

    def update(self, groups: Groups, error, height, slope, aspect) -> None:
        """All `(n,)`; NaN where slope or aspect is not known."""
        for key, some in groups:
            self.heights[key].update(error[some], height[some])
            for tally, angles in ((self.slope, slope[some]), (self.aspect, aspect[some])):
                tally[key].update(angles[np.isfinite(angles)])

    def atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """All errors of heights as (value, number of pixels)."""
        return Errors.merged(self.heights.values()).atoms

    def figures(self, key=None) -> dict:
        """Of one number, or of all."""
        if key is None:
            parts = Errors.merged(self.heights.values()), Angles.merged(self.slope.values()), Angles.merged(self.aspect.values())
        else:
            parts = self.heights[key], self.slope[key], self.aspect[key]
        aspect = parts[2].figures("aspect")
        return {**parts[0].figures(), **parts[1].figures("slope"), "aspect_mae": aspect["aspect_mae"], "aspect_rmse": aspect["aspect_rmse"]}


class Groups:
    """Pixels by number, sorted once for all surfaces: (number, indices of its pixels)."""

    def __init__(self, numbers: np.ndarray):
        order = np.argsort(numbers, kind="stable")
        self._keys, starts = np.unique(numbers[order], return_index=True)
        self._parts = np.split(order, starts[1:])

    def __iter__(self) -> Iterator[tuple]:
        return zip(self._keys.tolist(), self._parts)


class Overview:
    """Mean error of squares of pixels over the part of the grid that is compared."""

    def __init__(self, inside: Window):
        self._inside, self.factor = inside, -(-max(inside.width, inside.height) // OVERVIEW)
        shape = (-(-inside.height // self.factor), -(-inside.width // self.factor))
        self._sums, self._counts = np.zeros(shape), np.zeros(shape, np.int64)

    def update(self, window: Window, error: np.ndarray, there: np.ndarray) -> None:
        rows, cols = np.nonzero(there)
        rows, cols = (rows + window.row - self._inside.row) // self.factor, (cols + window.col - self._inside.col) // self.factor
        cells, size = rows * self._sums.shape[1] + cols, self._sums.size
        self._sums += np.bincount(cells, error[there], size).reshape(self._sums.shape)
        self._counts += np.bincount(cells, minlength=size).reshape(self._sums.shape)

    def mean(self) -> np.ndarray:
        """`(rows, cols)` m; NaN where nothing was compared."""
        return np.where(self._counts, self._sums / np.maximum(self._counts, 1), np.nan)


class Sights:
    """What is worth a picture: the most rugged line, the window with most relief, and pixels for the scatter plot."""

    def __init__(self, inside: Window):
        self.line: Optional[Window] = None
        self.tile: Optional[Window] = None
        self._best = [-1.0, -1.0]
        self._every = max(1, -(-inside.width * inside.height // SCATTER))
        self._samples: list = []

    def update(self, window: Window, there: np.ndarray, reference: np.ndarray, dem: np.ndarray, slope: np.ndarray, error_slope) -> None:
        """Arrays `(rows, cols)` of a window; `there` tells which pixels are compared."""
        chosen = np.flatnonzero(there)[:: self._every]
        self._samples.append(np.stack([a.ravel()[chosen] for a in (reference, dem, slope, error_slope)]).astype(np.float32))
        for part in _pieces(window, LINE, window.height):
            if part.width < 2:
                continue
            z, share = reference[part.slices], there[part.slices].mean(axis=1)
            rise = np.where(there[part.slices][:, 1:] & there[part.slices][:, :-1], np.diff(z, axis=1), 0)
            score = rise.std(axis=1) * share**4
            row = int(score.argmax())
            self._offer(0, float(score[row]), Window(window.col + part.col, window.row + part.row + row, part.width, 1))
        for part in _pieces(window, TILE, TILE):
            steep, share = np.where(np.isfinite(slope[part.slices]), slope[part.slices], 0), there[part.slices].mean()
            size = part.width * part.height / TILE**2
            self._offer(1, float(steep.mean() * share**4 * size), part.shifted(window.col, window.row))

    def _offer(self, which: int, score: float, window: Window) -> None:
        if score > self._best[which]:
            self._best[which] = score
            if which:
                self.tile = window
            else:
                self.line = window

    @property
    def samples(self) -> np.ndarray:
        """`(4, n)`: heights of the reference and of the DEM in m, slope of the reference and its error in degrees."""
        return np.concatenate(self._samples, axis=1) if self._samples else np.zeros((4, 0))


def _pieces(window: Window, width: int, height: int) -> Iterator[Window]:
    """Pieces of a window, in its own pixels, of at most that size; the last ones reach back, so that all have one size."""
    width, height = min(width, window.width), min(height, window.height)
    for row in _starts(window.height, height):
        for col in _starts(window.width, width):
            yield Window(col, row, width, height)


def _starts(length: int, size: int) -> list[int]:
    return sorted({*range(0, length - size + 1, size), length - size})


def aspect_error(mine: np.ndarray, theirs: np.ndarray, steep: np.ndarray) -> np.ndarray:
    """Degrees; NaN where the reference is not steep enough, or the other level."""
    return np.where(steep, turn(mine, theirs), np.nan)
