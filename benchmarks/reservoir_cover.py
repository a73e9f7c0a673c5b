"""What the ground of a simulated reservoir is covered with: fixed textures of the place, and what the days make of them.

Fixed: trees and shrubs in clumps (denser on slopes away from the sun), fields on level ground, bare rock on steep slopes, a soil whose brightness
varies from spot to spot. By the day: annual plants green and dry, wet and dry soil, and the bank: what the water leaves is bare wet mud; it dries
within two weeks and bleaches; herbs come after some weeks where it is not too dry, and drown when the water comes back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from reservoir_basins import CELL_M, Basin, Levels, Place, fractal, inner, key
from reservoir_seasons import Seasons
from scipy import ndimage
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Ground:
    """Shares 0..1 of the scene's cells `(n, n)` that do not change with the days: `trees`, `shrubs` (both evergreen), `rock`; `soil`: factor of
    the soil's brightness; `vigour`: factor of the annual plants; `delay`: days that they lag behind; `bank`: below the full level."""

    trees: np.ndarray
    shrubs: np.ndarray
    rock: np.ndarray
    soil: np.ndarray
    vigour: np.ndarray
    delay: np.ndarray
    bank: np.ndarray


@dataclass(frozen=True)
class Cover:
    """A day's cover, `(n, n)` each: `wet` share of water in the cell; `depth` m where there is any; shares of the land in the cell: `trees`, `shrubs`,
    `green` and `dry` herbs, `rock`, `wall`; the rest is soil. `moisture` of it, m3/m3; `bleach` 0..1: bank gone pale; `soil` brightness
    factor; `standing`: share of the water's surface with plants that stand out of it."""

    wet: np.ndarray
    depth: np.ndarray
    trees: np.ndarray
    shrubs: np.ndarray
    green: np.ndarray
    dry: np.ndarray
    rock: np.ndarray
    wall: np.ndarray
    moisture: np.ndarray
    bleach: np.ndarray
    soil: np.ndarray
    standing: np.ndarray


def ground(place: Place, basin: Basin, seed: int) -> Ground:
    rng = np.random.default_rng([seed, 3, key(place.name)])
    spill, east, south = (inner(a) for a in (basin.spill, basin.east, basin.south))
    side, slope = len(spill), np.hypot(east, south)
    shady = np.clip(south / 0.5, -1, 1)  # heights rise southwards: the slope faces north, to the sun of the southern hemisphere
    clumps, fine = fractal(rng, side, 2.4, longest=90), fractal(rng, side, 1.6, longest=24)
    moist = 0.7 * clumps + 0.8 * fine - 0.7 * shady - 0.4
    trees = _step(moist + 0.8 * np.minimum(slope / 0.4, 1) - 1.1, 0.35)
    shrubs = _step(moist + 0.5, 0.8) * (1 - trees) * 0.75
    rock = _step(slope / 0.85 - 1 + 0.25 * fine, 0.12)
    corners = rng.uniform(0, side, (45, 2))
    near, field = cKDTree(corners).query(np.indices((side, side)).reshape(2, -1).T, k=2)
    farmed = (rng.random(len(corners)) < 0.45)[field[:, 0]].reshape(side, side) * _step(0.10 - ndimage.gaussian_filter(slope, 8), 0.02)
    farmed *= (near[:, 1] - near[:, 0]).reshape(side, side) > 2  # a strip between the fields
    vigour = np.exp(0.25 * fractal(rng, side, 2.0, longest=60)) * (
        1 + farmed * (rng.uniform(-0.8, 0.5, len(corners))[field[:, 0]].reshape(side, side))
    )
    delay = np.rint(farmed * rng.uniform(-60, 90, len(corners))[field[:, 0]].reshape(side, side) + 8 * clumps).astype(int)
    soil = np.exp(0.16 * fractal(rng, side, 1.8, longest=120) + 0.07 * fine) * (
        1 + 0.25 * farmed * rng.uniform(-1, 1, len(corners))[field[:, 0]].reshape(side, side)
    )
    bank = _step((basin.full_m + 0.3 - spill) / np.maximum(inner(basin.rise), 0.1), 1.0)
    strip = 1 - ndimage.gaussian_filter(bank, 2.0)  # trees do not stand in the water's edge
    untouched = (1 - bank) * np.clip(2 * strip - 0.6, 0, 1) * (1 - 0.9 * farmed)
    return Ground(
        trees * untouched * (1 - rock), shrubs * untouched * (1 - rock), np.maximum(rock, 0), soil, np.clip(vigour, 0.1, 2), delay, bank
    )


def _step(x: np.ndarray, width: float) -> np.ndarray:
    return np.clip(0.5 + x / width / 2, 0, 1)


def cover(basin: Basin, ground: Ground, levels: Levels, seasons: Seasons, day: int) -> Cover:
    """The cover on day number `day` of the series."""
    spill, heights = inner(basin.spill), inner(basin.heights)
    level = levels.clean[day]
    wet = np.clip(0.5 + (level - spill) / inner(basin.rise), 0, 1)
    bare_days, wet_days = _since(levels.clean[: day + 1], spill)
    recent = seasons.green[max(day - 90, 0) : day + 1]
    grown = np.clip((bare_days - 15) / 70, 0, 1) * (0.25 + 0.75 * recent.mean())  # herbs on the bank: weeks, and rain
    green_now = np.interp(day - ground.delay, np.arange(len(seasons.green)), seasons.green).astype(np.float32)
    herbs = np.clip(np.where(ground.bank > 0.5, 0.7 * grown, 0.85) * ground.vigour, 0, 0.95)
    free = np.clip(1 - ground.trees - ground.shrubs - ground.rock, 0, 1)
    green = free * herbs * np.clip(0.08 + 0.9 * green_now * np.minimum(ground.vigour, 1.2), 0, 1)
    dry = free * herbs - green
    above = np.maximum(heights - level, 0)
    seeping = 0.38 * np.exp(-above / 0.35)  # the shore stays wet: capillary rise
    drying = 0.42 * np.exp(-np.maximum(bare_days, 0) / 12.0)
    moisture = np.maximum.reduce(
        [np.full_like(spill, seasons.moisture[day]), np.where(ground.bank > 0.5, drying, 0), np.where(above < 3, seeping, 0)]
    )
    bleach = ground.bank * np.clip(bare_days / 40.0, 0, 1)
    depth = np.maximum(level - heights, 0)
    stood = np.clip((wet_days < 45) & (wet > 0.5), 0, 1) * _was_grown(levels.clean[: day + 1], spill, wet_days)
    standing = stood * np.clip(1 - depth / 0.8, 0, 1) * 0.7
    wall = inner(basin.wall).astype(np.float32)
    shares = (ground.trees, ground.shrubs, green, dry, ground.rock)
    return Cover(wet, depth, *(s * (1 - wall) for s in shares), wall, moisture, bleach, ground.soil, standing)


_BINS = 400


def _since(history: np.ndarray, spill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days since each cell was last under water (0: it is; the whole record if never), and since it was last dry."""
    edges = np.linspace(history.min() - 0.05, history.max() + 0.05, _BINS)
    over = history[::-1, None] > edges[None]
    bare = np.where(over.any(axis=0), over.argmax(axis=0), len(history))
    under = np.where(over.all(axis=0), len(history), (~over).argmax(axis=0))
    finite = np.where(np.isfinite(spill), spill, edges[-1] + 1)
    at = np.clip(np.searchsorted(edges, finite), 0, _BINS - 1)
    top = finite > edges[-1]
    return np.where(top, len(history), bare[at]), np.where(top, 0, under[at])


def _was_grown(history: np.ndarray, spill: np.ndarray, wet_days: np.ndarray) -> np.ndarray:
    """How far herbs had grown when the water came, 0..1: the cell must have been bare for two months before."""
    edges = np.linspace(history.min() - 0.05, history.max() + 0.05, 60)
    finite = np.where(np.isfinite(spill), spill, edges[-1] + 1)
    grown = np.zeros(len(edges))
    for k, edge in enumerate(edges):
        dry = np.flatnonzero(history <= edge)
        if len(dry) and dry[-1] < len(history) - 1:
            wet = np.flatnonzero(history[: dry[-1]] > edge)
            grown[k] = np.clip((dry[-1] - (wet[-1] if len(wet) else 0) - 20) / 80, 0, 1)
    return grown[np.clip(np.searchsorted(edges, finite), 0, len(edges) - 1)]


def area_m2(cover: Cover) -> float:
    return float(cover.wet.sum() * CELL_M**2)
