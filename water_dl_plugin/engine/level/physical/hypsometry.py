"""Area-level curve of a reservoir's basin out of an elevation model of the dry ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ...dem.vertical import FOOT
from ...dem.wanted import FEET
from ...errors import ConfigError, GridMismatchError
from ...flood.runs import connected
from ...heights import level_areas
from ...progress import Progress, silent
from ...raster import Raster
from ..masks import around, inside, largest
from ..series import Reservoir
from .curve import Curve

MOST = 16_000_000  # px of an elevation model around one reservoir, some 30 bytes each
STEPS = 120  # levels at which the area is measured
FLAT = 25  # px: a level bottom of that many is water, not ground
_VOID = 0.01  # share of the reservoir without heights that is told


@dataclass(frozen=True)
class Basin:
    """The curve, levels in m above the elevation model's zero; `water_m`: height of the water that the model shows, below which nothing is
    known, None for a dry basin; `notes` for people."""

    curve: Curve
    water_m: Optional[float]
    notes: tuple


def heights(dem: str) -> tuple[Raster, float]:
    """(elevation model, metres per unit of its heights). Raises `RasterError`, `BandError`."""
    raster = Raster(dem, "1")
    raster.as_heights()
    return raster, FOOT if raster.bands[0].unit.strip().lower() in FEET else 1.0


def curve(dem: str, reservoir: Reservoir, progress: Progress = silent) -> Basin:
    """Areas below levels inside the polygon, as far as they hang together with the basin's deepest part (8 neighbours).

    The curve ends where half of the polygon's edge is under water: further up it would be the polygon that is measured. The part of the
    elevation model around the polygon is held in memory. Raises `GridMismatchError` if the model does not cover the polygon, `ConfigError` if
    it is too fine for memory or shows no basin there.
    """
    raster, metres = heights(dem)
    with raster:
        grid, window = around(reservoir, raster.grid, 0.0, 1)
        cut = window.inside(raster.grid.width, raster.grid.height)
        if cut.empty:
            raise GridMismatchError(f"The elevation model does not cover {reservoir.name}.", "Choose one that does.")
        if cut.width * cut.height > MOST:
            raise ConfigError(
                f"The elevation model has {cut.width * cut.height / 1e6:.0f} million pixels around {reservoir.name}.",
                f"Resample it to larger pixels: {MOST / 1e6:.0f} million are possible.",
            )
        z, valid = raster.read(cut)
        part = raster.grid.part(cut)
    z, valid = np.where(valid[0], z[0].astype(np.float64) * metres, np.inf), valid[0]
    within = inside(reservoir, part)
    covered = within.sum() / max(inside(reservoir, grid).sum(), 1)
    if covered < 0.99 or not (within & valid).any():
        raise GridMismatchError(
            f"The elevation model covers {covered:.0%} of {reservoir.name}{'' if (within & valid).any() else ', and holds no heights there'}.",
            "Choose one that covers all of it.",
        )
    found = of(z, valid, within, part.areas_m2(), progress)
    if found is None:
        raise ConfigError(
            f"The elevation model is level all over {reservoir.name}: it shows its water, not its ground.", "Choose one of the dry basin."
        )
    return found


def of(z: np.ndarray, valid: np.ndarray, within: np.ndarray, ground_m2: np.ndarray, progress: Progress = silent) -> Optional[Basin]:
    """The same of arrays `(rows, cols)`: heights in m, where they are known, where the reservoir is, and the pixels' areas. None without relief."""
    void = float((within & ~valid).sum() / within.sum())
    within, notes = within & valid, []
    if void > _VOID:
        notes.append(f"the elevation model has no heights on {void:.0%} of the reservoir: areas are too small by up to that")
    edge = _edge(within)
    top = float(np.median(z[edge]))
    # of the pool that fills half of the polygon, and not of a hollow at the foot of the dam
    deepest = np.unravel_index(np.argmin(np.where(largest(within & (z <= np.median(z[within]))), z, np.inf)), z.shape)
    bottom = float(z[deepest])
    mark = np.zeros(z.shape, bool)
    mark[deepest] = True
    flat = (
        connected(level_areas(z, valid) & within & (z == bottom), mark) if (z[within] == bottom).sum() >= FLAT else np.zeros(z.shape, bool)
    )
    water = bottom if flat.sum() >= FLAT else None
    if water is not None:
        share = float(ground_m2[flat].sum() / ground_m2[within].sum())
        notes.append(
            f"below {water:.2f} m the elevation model shows water ({share:.0%} of the reservoir), not ground: the curve begins there"
        )
    usable = np.sort(z[within & (z >= bottom) & (z <= top)])
    if not len(usable) or usable[-1] <= bottom:
        return None
    by_area = usable[np.linspace(0, len(usable) - 1, STEPS).astype(int)]
    levels = np.unique(np.concatenate([[bottom], by_area, np.linspace(bottom, top, STEPS // 4)[1:]]))
    areas = []
    for number, level in enumerate(levels):
        progress(number / len(levels), "")
        areas.append(float(ground_m2[connected(within & (z <= level), mark)].sum()))
    area_m2, first = np.unique(areas, return_index=True)  # the lowest level of each area
    if len(area_m2) < 2:
        return None
    return Basin(Curve(tuple(area_m2.tolist()), tuple(levels[first].tolist())), water, tuple(notes))


def _edge(within: np.ndarray) -> np.ndarray:
    """Pixels of the reservoir with a neighbour outside it."""
    padded = np.pad(within, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return within & ~inner
