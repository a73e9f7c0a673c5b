"""Where one DEM lies against another: the horizontal shift and the vertical offset between both.

A shift `s` makes an error of `gradient . s`: heights are too low on one side of every hill and too high on the other. Nuth and Kaeaeb (2011,
10.5194/tc-5-271-2011, eq. 2) fit that to the differences, move, and repeat. Here the same equation is solved in its linear form, without
dividing by the slope (level ground then weighs nothing instead of everything), over pixels that do not stand out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Callable

import numpy as np

from ...grid import Grid
from ...windows import Window, blocks

Heights = Callable[[Grid], tuple[np.ndarray, np.ndarray]]  # grid -> heights float64 (rows, cols) in m, valid
ENOUGH = 1 << 20  # pixels: more make neither shift nor offset better
FEW = 400  # pixels: fewer tell no shift
_STEPS, _FARTHEST, _CLOSE, _CERTAIN = 20, 10.0, 0.003, 0.2  # the last three in pixels of the coarser one
_TRIM, _SAME = 3.0, 0.5  # NMAD; share of the slopes that both must have in common


@dataclass(frozen=True)
class Block:
    """Heights of the reference on a piece of its grid: float64 `(rows, cols)` in m, NaN where void."""

    grid: Grid
    heights: np.ndarray


@dataclass(frozen=True)
class Shift:
    """A DEM lies `cols` to the right and `rows` below the reference, in pixels of the reference, and `offset` m too high.

    `cols_error`, `rows_error`: standard errors, from leaving out one block of the terrain at a time. `known` is False where the terrain is too
    level or too rough to tell the shift; then it is 0. `pixels` is the number of compared pixels, 0: nothing is known.
    """

    cols: float = 0.0
    rows: float = 0.0
    offset: float = 0.0
    cols_error: float = math.nan
    rows_error: float = math.nan
    known: bool = False
    pixels: int = 0

    def to_json(self) -> dict:
        return asdict(self)

    def moved(self, grid: Grid) -> Grid:
        """Where the DEM holds what the reference holds on `grid`."""
        return _moved(grid, (self.cols, self.rows))


def sample(reference: Heights, grid: Grid, inside: Window) -> list[Block]:
    """Blocks of the reference, spread over the part `inside` of its grid, about `ENOUGH` pixels with data."""
    size = int(np.clip(min(inside.width, inside.height) // 3, 32, 256))
    windows = [w.shifted(inside.col, inside.row) for w in blocks(inside.width, inside.height, size)]
    spread = np.argsort((np.arange(len(windows)) * 0.6180339887498949) % 1, kind="stable")  # any first part of this order is spread evenly
    found, pixels = [], 0
    for k in spread[: 8 * ENOUGH // size**2]:
        heights, valid = reference(grid.part(windows[k]))
        if valid.any():
            found.append(Block(grid.part(windows[k]), np.where(valid, heights, np.nan)))
            pixels += int(valid.sum())
        if pixels >= ENOUGH:
            break
    return found


def pairs(dem: Heights, reference: Sequence[Block], most: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """Heights of the DEM and of the reference in the same pixels, each `(n,)`."""
    mine, theirs = [np.zeros(0)], [np.zeros(0)]
    for block in reference:
        heights, valid = dem(block.grid)
        both = valid & np.isfinite(block.heights)
        mine.append(heights[both])
        theirs.append(block.heights[both])
    a, b = np.concatenate(mine), np.concatenate(theirs)
    step = max(1, -(-len(a) // most))
    return a[::step], b[::step]


def offset(difference: np.ndarray) -> Shift:
    """The median of height differences (DEM minus reference, `(n,)`), no shift."""
    return Shift(offset=float(np.median(difference)), pixels=len(difference)) if len(difference) else Shift()


def find(dem: Heights, reference: Sequence[Block], scale: float = 1.0, heard: Callable[[], None] = lambda: None) -> Shift:
    """Shift and offset of a DEM whose pixels are `scale` (at least 1) pixels of the reference wide. `heard` is called now and then."""
    place, slopes = np.zeros(2), [_slopes(block.heights) for block in reference]
    level = None  # the offset without a shift
    own = None  # whose gradients are used: the smoother ones, since noise in them makes steps too short
    for _ in range(_STEPS):
        heard()
        pieces = []
        for block, theirs in zip(reference, slopes):
            heights, valid = dem(_moved(block.grid, place))
            heights = np.where(valid, heights, np.nan)
            mine = _slopes(heights)
            difference = heights - block.heights
            there = np.isfinite(difference) & np.isfinite(mine).all(axis=0) & np.isfinite(theirs).all(axis=0)
            pieces.append((difference[there], mine[:, there], theirs[:, there]))
        differences = np.concatenate([p[0] for p in pieces]) if pieces else np.zeros(0)
        level = level or offset(differences)
        if len(differences) < FEW:
            return level
        if own is None:
            own = sum((p[1] ** 2).sum() for p in pieces) <= sum((p[2] ** 2).sum() for p in pieces)
        step, spread = _step([(p[0], p[1] if own else p[2]) for p in pieces])
        place = place - step
        if not np.abs(place).max() <= _FARTHEST * scale:  # also not a number
            return level
        if np.abs(step).max() < _CLOSE * scale:
            break
    smooth, rough = ([p[k] for p in pieces] for k in ((1, 2) if own else (2, 1)))
    # how much of a smooth DEM's rise the rougher one has, too: 1 if both show one terrain, whatever else the rough one shows; 0 for noise
    same = sum((a * b).sum() for a, b in zip(smooth, rough)) / sum((a**2).sum() for a in smooth)
    if np.abs(step).max() > 10 * _CLOSE * scale or not spread.max() <= _CERTAIN * scale or not same > _SAME:
        return level
    return Shift(float(place[0]), float(place[1]), offset(differences).offset, *map(float, spread), known=True, pixels=len(differences))


def _step(pieces: list) -> tuple[np.ndarray, np.ndarray]:
    """(cols, rows) of the remaining shift, and its standard errors. `pieces` are (differences `(n,)`, gradients `(2, n)` per px)."""
    difference = np.concatenate([p[0] for p in pieces])
    residual, found = difference, np.full(3, np.nan)
    for _ in range(3):
        middle = np.median(residual)
        limit = _TRIM * 1.4826 * np.median(np.abs(residual - middle)) + 1e-9
        sums, start = [], 0
        for d, gradient in pieces:
            keep = np.abs(residual[start : start + len(d)] - middle) <= limit
            start += len(d)
            design = np.stack([*gradient[:, keep], np.ones(int(keep.sum()))])
            sums.append(np.concatenate([design @ design.T, (design @ d[keep])[:, None]], axis=1))
        found = _solve(sum(sums))
        residual = np.concatenate([d - found[0] * g[0] - found[1] * g[1] for d, g in pieces]) if np.isfinite(found).all() else residual
    without = np.array([_solve(sum(sums) - one)[:2] for one in sums])
    n = len(without)
    spread = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0)) if n > 1 else np.full(2, np.nan)
    return found[:2], spread


def _solve(sums: np.ndarray) -> np.ndarray:
    """(cols, rows, offset) from normal equations `(3, 4)`; NaN where slopes do not vary in both directions."""
    number, total = sums[2, 2], sums[:2, 2]
    if number < FEW / 2 or not np.linalg.cond(sums[:2, :2] - np.outer(total, total) / number) < 1e8:
        return np.full(3, np.nan)
    return np.linalg.solve(sums[:, :3], sums[:, 3])


def _slopes(heights: np.ndarray) -> np.ndarray:
    """Height difference per pixel along columns and rows `(2, rows, cols)`, from the neighbours; NaN beside voids and at the border."""
    slopes = np.full((2, *heights.shape), np.nan)
    slopes[0, :, 1:-1] = (heights[:, 2:] - heights[:, :-2]) / 2
    slopes[1, 1:-1] = (heights[2:] - heights[:-2]) / 2
    return slopes


def _moved(grid: Grid, place) -> Grid:
    x, y = grid.to_map(*map(float, place))
    t = grid.transform
    return Grid(grid.width, grid.height, (x, t[1], t[2], y, t[4], t[5]), grid.crs)
