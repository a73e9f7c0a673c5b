"""Levels of elevation models against each other: what one must be raised by to meet another, and signs that something is wrong.

Heights above different geoids or the ellipsoid differ by up to 100 m, nearly the same over some kilometres and slightly tilted over more:
a constant or a plane takes that away.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Optional

import numpy as np

from ..errors import ConfigError
from ..grid import Grid
from ..progress import Progress, silent
from ..raster import Raster
from ..windows import Window, blocks
from .resample import heights_on, ratio, source_window, suited

KINDS = ("constant", "plane", "none")
FOOT = 0.3048
_PIECE = 64  # px: side of the squares that pixels are compared in
_TRIM, _ROUNDS = 3.0, 10
_LARGE_M = 3.0  # an offset or tilt of so much is told
_FEW = 30  # pixels: fewer tell nothing


@dataclass(frozen=True)
class Offset:
    """Metres to ADD to an elevation model: `c + a * (x - x0) + b * (y - y0)`, x and y in map units of the grid it was found on."""

    c: float = 0.0
    a: float = 0.0
    b: float = 0.0
    x0: float = 0.0
    y0: float = 0.0

    def at(self, grid: Grid) -> np.ndarray:
        """float64 `(rows, cols)`, at the middles of the grid's pixels."""
        if not (self.a or self.b):
            return np.full((grid.height, grid.width), self.c)
        x, y = grid.to_map(np.arange(grid.width) + 0.5, np.arange(grid.height)[:, None] + 0.5)
        return self.c + self.a * (x - self.x0) + self.b * (y - self.y0)

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> Offset:
        """Raises `ConfigError` for anything that is no offset."""
        try:
            numbers = {name: float(data[name]) for name in ("c", "a", "b", "x0", "y0")}
        except (KeyError, TypeError, ValueError):
            raise ConfigError("An offset between elevation models can't be understood.", "Export the chips again.") from None
        if not np.all(np.isfinite(list(numbers.values()))):
            raise ConfigError("An offset between elevation models is no finite number.", "Export the chips again.")
        return cls(**numbers)


def fit(difference: np.ndarray, x: np.ndarray, y: np.ndarray, kind: str = "constant") -> Offset:
    """The offset that explains `difference` (reference minus elevation model, m, `(n,)`) at map coordinates `x` and `y`.

    "constant": the median. "plane": least squares, in rounds that leave out what lies more than three NMAD away, as buildings, forests
    and errors do; with too few or too narrow a place for a plane, the constant. "none", or nothing to compare: 0.
    Raises `ConfigError` for another kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no vertical offset {kind!r}.", f"Choose one of: {', '.join(KINDS)}.")
    if kind == "none" or not len(difference):
        return Offset()
    difference = np.asarray(difference, np.float64)
    constant = Offset(float(np.median(difference)))
    if kind == "constant" or len(difference) < _FEW:
        return constant
    x0, y0, spread = float(np.mean(x)), float(np.mean(y)), float(max(np.std(x), np.std(y)))
    if spread == 0:
        return constant
    terms = np.stack([np.ones(len(x)), (np.asarray(x) - x0) / spread, (np.asarray(y) - y0) / spread], axis=1)
    if np.linalg.cond(terms.T @ terms) > 1e8:  # all in one line
        return constant
    solution = np.array([constant.c, 0.0, 0.0])
    for _ in range(_ROUNDS):
        rest = difference - terms @ solution
        rest -= np.median(rest)
        kept = np.abs(rest) <= max(_TRIM * 1.4826 * np.median(np.abs(rest)), 1e-9)
        found = np.linalg.lstsq(terms[kept], difference[kept], rcond=None)[0]
        if np.allclose(found, solution, rtol=0, atol=1e-9):
            break
        solution = found
    c, a, b = solution
    return Offset(float(c), float(a / spread), float(b / spread), x0, y0)


@dataclass(frozen=True)
class Pairs:
    """Heights of two elevation models at the same places: `a` and `b` float64 `(n,)` in m, map coordinates `x`, `y` `(n,)`."""

    a: np.ndarray
    b: np.ndarray
    x: np.ndarray
    y: np.ndarray


def pairs(a: Raster, b: Raster, grid: Grid, limit: int = 200_000, seed: int = 0, progress: Progress = silent) -> Pairs:
    """Heights (first bands) of two rasters at up to `limit` of the grid's pixels where both hold data, spread over the grid.

    Squares of pixels are read, one at random inside each of equal parts of the grid, so memory is small whatever its size. A raster finer
    than the grid is averaged, a coarser one laid on it by cubic convolution. Raises as `heights_on`.
    """
    rng = np.random.default_rng([seed, 5])
    found: list[list[np.ndarray]] = []
    squares = _squares(grid.width, grid.height, limit, rng)
    ways = [(raster, suited("cubic", ratio(raster.grid, grid))) for raster in (a, b)]
    for number, window in enumerate(squares):
        progress(number / len(squares), "")
        part = grid.part(window)
        (za, va), (zb, vb) = (heights_on(raster, part, way) for raster, way in ways)
        x, y = part.to_map(*np.meshgrid(np.arange(window.width) + 0.5, np.arange(window.height) + 0.5))
        chosen = np.flatnonzero(va[0] & vb[0])
        most = max(limit // len(squares), 1)
        if len(chosen) > most:
            chosen = rng.choice(chosen, most, replace=False)
        found.append([plane.ravel()[chosen] for plane in (za[0], zb[0], x, y)])
    return Pairs(*(np.concatenate([f[k] for f in found]) for k in range(4)))


def _squares(width: int, height: int, limit: int, rng: np.random.Generator) -> list[Window]:
    """Squares that hold about four times `limit` pixels together (voids are left out later), or all of a small raster."""
    most = max(4 * limit // _PIECE**2, 16)
    if -(-width // _PIECE) * -(-height // _PIECE) <= most:
        return list(blocks(width, height, _PIECE))
    side = np.sqrt(width * height / most)
    cols, rows = (max(int(n / side), 1) for n in (width, height))
    result = []
    for row in range(rows):
        for col in range(cols):
            u, v = (np.array([col, row]) + rng.random(2)) / [cols, rows]
            result.append(Window(int(u * max(width - _PIECE, 0)), int(v * max(height - _PIECE, 0)), _PIECE, _PIECE).inside(width, height))
    return result


def doubts(
    heights: np.ndarray, reference: np.ndarray, name: str, x: Optional[np.ndarray] = None, y: Optional[np.ndarray] = None
) -> list[str]:
    """Warnings about an elevation model `name` out of its heights and those of what it is put beside (`pairs`): feet against metres,
    another level, and with map coordinates a tilt."""
    if len(heights) < _FEW:
        return [f"Warning: {name} and the elevation model that it is put beside have hardly a pixel in common ({len(heights)})."]
    for unit, other, factor in (("feet", "metres", FOOT), ("metres", "feet", 1 / FOOT)):
        if _scaled(heights, reference, factor):
            return [
                f"Warning: {name} seems to be in {unit}, the elevation model that it is put beside in {other}: its heights are about "
                f"{1 / factor:.2f} times the other's. Bring both to the same unit first (raster calculator: feet * {FOOT} = metres)."
            ]
    lines = []
    offset = float(np.median(reference - heights))
    if abs(offset) > _LARGE_M:
        lines.append(
            f"Warning: {name} lies {abs(offset):.2f} m {'below' if offset > 0 else 'above'} the elevation model that it is put beside. "
            "Heights above another geoid, or above the ellipsoid? The setting 'Vertical offset' takes that away, as a constant or a plane."
        )
    if x is not None and y is not None:
        tilt = fit(reference - heights, x, y, "plane")
        change = float(np.ptp(tilt.a * (x - tilt.x0) + tilt.b * (y - tilt.y0)))
        if change > _LARGE_M:
            lines.append(
                f"Warning: {name} is tilted against the elevation model that it is put beside, by {change:.1f} m across. With the setting "
                "'Vertical offset' a plane takes that away."
            )
    return lines


def _scaled(heights: np.ndarray, reference: np.ndarray, factor: float) -> bool:
    """Is the reference `factor` times the heights? By the slope of the regression; on level ground, which has none, by the level."""
    spread, other = np.std(heights), np.std(reference)
    middle = np.median(heights)
    level = abs(middle) > 30 and abs(np.median(reference) / middle / factor - 1) < 0.03
    if min(spread, other) < 1e-6:
        return bool(level)
    alike = float(np.corrcoef(heights, reference)[0, 1])
    slope = other / spread  # of the reduced major axis: errors of either side do not flatten it
    if alike > 0.9:
        return bool(abs(slope / factor - 1) < 0.1)
    return bool(level)


def raster_doubts(raster: Raster, grid: Grid, elevation: bool) -> list[str]:
    """Warnings about a raster by itself, where it lies over a grid: heights in whole numbers, and bands that hold one value only."""
    name, lines = os.path.basename(raster.path), []
    for band, values in zip(raster.bands, _samples(raster, grid)):
        if not len(values):
            lines.append(f"Warning: {band.name} of {name} holds hardly any data here. Leave it out, or check its nodata value.")
        elif values.min() == values.max():
            lines.append(
                f"Warning: {band.name} of {name} holds one value only here ({values[0]:g}): nothing can be learnt from it. Leave it out."
            )
        elif elevation and _stepped(values):
            lines.append(
                f"Warning: the heights of {name} are whole numbers, so level ground has steps that are none. Choose a version with decimals if "
                "there is one (SRTM, NASADEM and ASTER have none)."
            )
    return lines


def stepped_in(raster: Raster, grid: Grid) -> bool:
    """Are the first band's heights whole numbers, where the raster lies over a grid? Not asked of one that holds one value only."""
    values = _samples(raster, grid)[0]
    return len(values) > 0 and values.min() < values.max() and _stepped(values)


def _samples(raster: Raster, grid: Grid) -> list[np.ndarray]:
    """Values of each band, `(n,)`, out of squares spread over what lies below the grid."""
    there = source_window(raster.grid, grid).inside(raster.grid.width, raster.grid.height)
    squares = _squares(there.width, there.height, 50_000, np.random.default_rng(6))
    parts = [raster.read(w.shifted(there.col, there.row)) for w in squares]
    return [np.concatenate([pixels[i][valid[i]] for pixels, valid in parts] or [[]]) for i in range(len(raster.bands))]


def _stepped(values: np.ndarray) -> bool:
    return float(np.mean(np.abs(values - np.rint(values)) < 1e-4)) > 0.99
