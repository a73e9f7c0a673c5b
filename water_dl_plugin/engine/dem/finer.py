"""The grid of a finer elevation model: how many of its pixels make one of the base."""

from __future__ import annotations

import math

from ..errors import ConfigError
from ..grid import Grid, horizontal, same_crs, spacing_m

MOST = 64  # times finer than the base: beyond it a resolution was typed in another unit
_SQUARE = 1.1
_WHOLE = 0.05


def finer(base: Grid, factor: float) -> Grid:
    """The base's grid with pixels `factor` times as fine, as in training: square on the ground.

    Where the base's are not (degrees away from the equator), theirs have the side of a square as large as the base's divided by `factor`.
    Numbers of pixels within 5 % of a whole one become whole, so that the two grids lie within each other. Both cover the same area.
    """
    dx, dy = spacing_m(base)
    aspect = dx / dy
    across, down = (factor, factor) if 1 / _SQUARE < aspect < _SQUARE else (factor * math.sqrt(aspect), factor / math.sqrt(aspect))
    return _divided(base, *(max(round(base_px * _whole(ratio)), 1) for base_px, ratio in ((base.width, across), (base.height, down))))


def at_resolution(base: Grid, resolution: float) -> Grid:
    """The base's area in pixels of `resolution` map units; the last ones may reach beyond it. Raises `ConfigError` for a resolution that
    must have been meant in another unit."""
    x, y = base.pixel_size
    if max(x, y) / resolution > MOST or resolution >= math.sqrt(x * y):
        raise ConfigError(
            f"A pixel size of {resolution:g} map units does not suit a base whose pixels are {x:g} x {y:g}.",
            "It must be smaller, in units of the base's CRS (degrees, if that is geographic). 0 takes the model's.",
        )
    width, height = (math.ceil(number * side / resolution - 1e-6) for number, side in ((base.width, x), (base.height, y)))
    t = base.transform
    return Grid(
        width, height, (t[0], t[1] * resolution / x, t[2] * resolution / y, t[3], t[4] * resolution / x, t[5] * resolution / y), base.crs
    )


def _whole(ratio: float) -> float:
    return round(ratio) if abs(ratio - round(ratio)) < _WHOLE * ratio and round(ratio) else ratio


def _divided(base: Grid, width: int, height: int) -> Grid:
    t, a, b = base.transform, base.width / width, base.height / height
    return Grid(width, height, (t[0], t[1] * a, t[2] * b, t[3], t[4] * a, t[5] * b), base.crs)


def place_in(base: Grid, fine: Grid) -> tuple[float, float, float, float]:
    """Where the fine grid's corner lies in the base, and the size of its pixels, all in pixels of the base: column, row, width, height.
    Raises `ConfigError` unless the two have one (horizontal) CRS and are parallel."""
    if not same_crs(horizontal(base.crs), horizontal(fine.crs)):
        raise ConfigError(
            "The grid has another CRS than the base, so the means over the base's pixels can't be kept.",
            "Switch 'Keep the coarse heights' off, or warp the base to the grid's CRS first.",
        )
    corner, right, below = (base.to_pixel(*fine.to_map(*p)) for p in ((0, 0), (fine.width, 0), (0, fine.height)))
    if abs(right[1] - corner[1]) > 0.01 or abs(below[0] - corner[0]) > 0.01 or right[0] <= corner[0] or below[1] <= corner[1]:
        raise ConfigError("The output's grid is turned against the base's.", "Switch 'Keep the coarse heights' off, or choose no grid.")
    return *corner, (right[0] - corner[0]) / fine.width, (below[1] - corner[1]) / fine.height
