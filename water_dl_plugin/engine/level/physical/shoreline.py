"""Water level out of where the shoreline lies on an elevation model. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ...heights import gradient, level_areas
from ..masks import largest

FEWEST = 10  # places along the shore
ODD = 3.0  # robust standard deviations from the median, from which on a place of the shore has no say
_OFF = 0.5  # px that the outline may lie aside
_HEIGHT_M = 0.5  # error of the elevation model itself, as far as weights go


@dataclass(frozen=True)
class Shore:
    """`level_m` above the elevation model's zero; `spread_m`: robust standard deviation of the heights along the shore, or that of a
    place between two pixels if it is larger; `places` that had a say;
    `flat`: share of the shore on level ground, which is water in the elevation model: the true level is at most as high. `misfit`: share of
    the water that stands on ground above its own level, as it can't."""

    level_m: float
    spread_m: float
    places: int
    flat: float
    misfit: float


def level(water: np.ndarray, known: np.ndarray, within: np.ndarray, z: np.ndarray, valid: np.ndarray, pixel_m: float) -> Optional[Shore]:
    """The level at which the shore of the largest water stands; None with fewer than `FEWEST` places.

    bool `(rows, cols)`: `water`, `known` (not hidden, nor filled in), `within` the reservoir; heights `z` in m, where `valid`, on the same
    pixels, whose side is `pixel_m`. A place of the shore is a side between a water and a land pixel, both known and in the reservoir, so
    that neither clouds nor the polygon's edge make shore; its height is the mean of both, for the shore runs between them. Where the
    ground is steep a shore drawn a little aside is far off in height, so that places weigh by the inverse of (0.5 m)^2 + (half a pixel * slope)^2;
    walls and specks of wrong water are left out by their distance from the median.
    """
    body = largest(water & within)
    slope = np.hypot(*gradient(np.where(valid, z, np.nan), pixel_m, pixel_m))
    usable = known & within & np.isfinite(slope)
    flat = level_areas(np.round(np.where(valid, z, 0.0), 3), valid)  # resampled heights of water differ by rounding
    heights, rises, levels = [], [], []
    for a, b in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        both = usable[a] & usable[b]
        side = both & ((body[a] & ~water[b]) | (body[b] & ~water[a]))
        heights.append((z[a][side] + z[b][side]) / 2)
        rises.append((slope[a][side] + slope[b][side]) / 2)
        levels.append(flat[a][side] & flat[b][side])
    height, rise, on_level = (np.concatenate(v) for v in (heights, rises, levels))
    if len(height) < FEWEST:
        return None
    weight = 1 / (_HEIGHT_M**2 + (_OFF * pixel_m * rise) ** 2)
    good, middle, spread = np.ones(len(height), bool), 0.0, 0.0
    for _ in range(5):
        middle = _median(height[good], weight[good])
        spread = 1.4826 * _median(np.abs(height[good] - middle), weight[good])
        chosen = np.abs(height - middle) <= max(ODD * spread, _HEIGHT_M)
        if np.array_equal(chosen, good):
            break
        good = chosen
    if good.sum() < FEWEST:
        return None
    least = pixel_m * _median(rise[good], weight[good]) / np.sqrt(12)  # anywhere between the two pixels' middles
    counted = body & usable
    misfit = float((counted & (z > middle)).sum() / max(counted.sum(), 1))
    return Shore(middle, float(max(spread, least)), int(good.sum()), float(on_level[good].mean()), misfit)


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    """Weighted median: the mean of both middle values where weights are halved between two."""
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weight[order])
    half = sums[-1] / 2
    low = np.searchsorted(sums, half * (1 - 1e-12), "left")
    high = np.searchsorted(sums, half * (1 + 1e-12), "left")
    return float(values[order][min(low, len(values) - 1)] + values[order][min(high, len(values) - 1)]) / 2
