"""Water areas of a reservoir over time, out of a series of class or probability rasters; what clouds hide is filled in by the other dates."""

from __future__ import annotations

import datetime as dt
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from ...errors import Cancelled, ConfigError, WaterError
from ...grid import Grid, overlap, same_crs
from ...progress import Progress, silent
from ..masks import WaterMap, around, inside
from ..series import ONE_PASS, Dropped, Reservoir, Scene

LAND, WATER, HIDDEN = 0, 1, 2
MOST = 200_000_000  # pixels of a series, over all dates, that are held in memory: one byte each and one more while they are filled in
ODD = 0.2  # share of the visible pixels that may contradict the other dates
ROUNDS = 3  # of placing pixels among dates and dates among pixels
CHUNK = 4_000_000  # pixels times dates that are placed at once, some 20 bytes each
_RING = 2  # px around the reservoir, where water should not go on


@dataclass(frozen=True)
class Area:
    """Water area of a reservoir at one time, m² on the ellipsoid. Shares 0..1: `filled_share` of the water was filled in, `hidden_share` of
    the reservoir was hidden. `pixels` of water; `unsure_m2`: by how much the filled-in part may be larger or smaller."""

    reservoir: str
    when: dt.datetime
    area_m2: float
    filled_share: float
    hidden_share: float
    pixels: int
    source: str
    sensor: str = ""
    unsure_m2: float = 0.0


@dataclass
class Series:
    """All dates of a reservoir on one `grid`: `inside` (bool `(rows, cols)`), `ground_m2` (`(n,)`, its pixels in order of rows), and by
    date `scenes` and `seen` (uint8 `(n,)`: LAND, WATER or HIDDEN); `water` (bool `(n,)`), filled in, once `fill` has run. `paths`: all
    rasters around it."""

    reservoir: Reservoir
    grid: Grid
    inside: np.ndarray
    ground_m2: np.ndarray
    scenes: list[Scene] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)
    water: list[np.ndarray] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    paths: frozenset = frozenset()

    @property
    def pixel_m2(self) -> float:
        return float(np.median(self.ground_m2))

    def plane(self, values: np.ndarray, outside: Any) -> np.ndarray:
        """`(n,)` values of the inside on the grid."""
        result = np.full(self.inside.shape, outside, values.dtype)
        result[self.inside] = values
        return result


def water(rasters: Sequence[Scene], reservoir: Reservoir, config: Any, progress: Progress = silent) -> tuple[list[Area], list[Dropped]]:
    """Water areas by time, and what was left out. `config` has water_class, threshold, buffer (m), max_hidden (%)."""
    series, dropped = read(rasters, reservoir, config, progress)
    if series is None:
        return [], dropped
    found, more = measured(series, config.max_hidden / 100, progress)
    return found, dropped + more


def read(
    rasters: Sequence[Scene], reservoir: Reservoir, config: Any, progress: Progress = silent
) -> tuple[Optional[Series], list[Dropped]]:
    """The series of a reservoir, and rasters that can't be used; None if there is none left. Tiles of one pass become one date.

    The grid is the one of most rasters around the polygon and `config.buffer` m; others are laid on it.
    """
    usable, dropped = [], []
    for number, scene in enumerate(rasters):
        progress(0.1 * number / len(rasters), "")
        try:
            with WaterMap(scene.path, config.water_class, config.threshold) as found:
                part, window = around(reservoir, found.grid, config.buffer, _RING)
                if not overlap(part, found.grid) or window.inside(found.grid.width, found.grid.height).empty:
                    continue  # another reservoir's
                usable.append((scene, found.grid))
        except Cancelled:
            raise
        except WaterError as error:
            dropped.append(Dropped("scene", os.path.basename(scene.path), reservoir.name, scene.when, error.message))
    if not usable:
        return None, dropped
    usual = Counter((g.crs, *(round(s, 9) for s in g.pixel_size)) for _, g in usable).most_common(1)[0][0]
    base = next(g for _, g in usable if (g.crs, *(round(s, 9) for s in g.pixel_size)) == usual)
    grid, _ = around(reservoir, base, config.buffer, _RING)
    pixels = grid.width * grid.height
    if pixels * len(usable) > MOST:
        raise _too_large(reservoir, pixels, len(usable))
    within = inside(reservoir, grid, config.buffer)
    if not within.any():
        reason = "the polygon is smaller than a pixel"
        return None, [*dropped, *(Dropped("scene", os.path.basename(s.path), reservoir.name, s.when, reason) for s, _ in usable)]
    series, ring, wet = (
        Series(reservoir, grid, within, grid.areas_m2()[within], paths=frozenset(s.path for s, _ in usable)),
        _ring(within),
        [],
    )
    coarse = [s for s, g in usable if not _alike(g, base)]
    if coarse:
        series.notes.append(
            f"{len(coarse)} of {len(usable)} water rasters have other pixels than most (e.g. {os.path.basename(coarse[0].path)})."
        )
    for number, (scene, _) in enumerate(sorted(usable, key=lambda item: item[0].when)):
        progress(0.1 + 0.6 * number / len(usable), "")
        try:
            with WaterMap(scene.path, config.water_class, config.threshold) as found:
                is_water, known = found.on(grid)
        except Cancelled:
            raise
        except WaterError as error:
            dropped.append(Dropped("scene", os.path.basename(scene.path), reservoir.name, scene.when, error.message))
            continue
        if not known[within].any():
            dropped.append(Dropped("scene", os.path.basename(scene.path), reservoir.name, scene.when, "no data on the reservoir"))
            continue
        seen = np.where(known, np.where(is_water, WATER, LAND), HIDDEN).astype(np.uint8)[within]
        wet.append((is_water & ring).sum() / max((known & ring).sum(), 1))
        last = series.scenes[-1] if series.scenes else None
        if last is not None and scene.when - last.when <= ONE_PASS:
            first = series.seen[-1]
            if (seen != HIDDEN).sum() > (first != HIDDEN).sum():  # named after the tile that shows more
                series.scenes[-1] = scene
            series.seen[-1] = np.where(first == HIDDEN, seen, first)
            continue
        series.scenes.append(scene)
        series.seen.append(seen)
    if wet and np.quantile(wet, 0.9) > 0.4:
        series.notes.append(
            "water goes on beyond the polygon on many dates: areas are cut off when the reservoir is full. Draw a larger polygon, or set a larger buffer."
        )
    return (series if series.scenes else None), dropped


def measured(series: Series, most_hidden: float, progress: Progress = silent) -> tuple[list[Area], list[Dropped]]:
    """Fill in what is hidden and measure. Dates of which more than `most_hidden` (share) is hidden are left out, and those that contradict the
    others; `series` then holds those that are left."""
    dropped: list[Dropped] = []

    def keep(chosen: Sequence[bool], reasons: Sequence[str]) -> None:
        for scene, good, reason in zip(series.scenes, chosen, reasons):
            if not good:
                dropped.append(Dropped("scene", os.path.basename(scene.path), series.reservoir.name, scene.when, reason))
        series.scenes = [s for s, good in zip(series.scenes, chosen) if good]
        series.seen = [s for s, good in zip(series.seen, chosen) if good]

    hidden = [_share(s == HIDDEN, series.ground_m2) for s in series.seen]
    keep([h <= most_hidden for h in hidden], [f"{h:.0%} of the reservoir is hidden" for h in hidden])
    if not series.scenes:
        return [], dropped
    bounds = fill(series.seen, series.ground_m2, progress)
    odd = [b.odd for b in bounds]
    if max(odd) > ODD:
        keep(
            [o <= ODD for o in odd],
            [f"{o:.0%} of what it shows contradicts the other dates: cloud, shadow or ice that is not masked?" for o in odd],
        )
        if not series.scenes:
            return [], dropped
        bounds = fill(series.seen, series.ground_m2, progress)
    series.water = [b.water for b in bounds]
    return [_area(series, number, b) for number, b in enumerate(bounds)], dropped


@dataclass(frozen=True)
class Filled:
    """`water` bool `(n,)`; `unsure_m2`: see `Area`; `odd`: share of the visible area that contradicts the other dates; `level` 0..1, only
    to tell the order of dates."""

    water: np.ndarray
    unsure_m2: float
    odd: float
    level: float


def fill(seen: Sequence[np.ndarray], ground_m2: np.ndarray, progress: Progress = silent) -> list[Filled]:
    """Water of each date, with what was hidden filled in. `seen`: uint8 `(n,)` per date, see `Series`; `ground_m2` `(n,)`.

    Water stands on the lowest ground, and ground is low where water often stands: on each date water is what was water more often than some
    threshold (Zhao and Gao 2018, 10.1029/2018GL078343). Theirs stands out in the histogram of the visible water; here it is the one that
    divides visible water and land with the least area on the wrong side, and what is visible stays as it is. Thresholds that do so equally well
    tell how sure the filled-in area is.

    How often water stood on two pixels can only be compared on dates that show both; a side that clouds hid in the wet season would else seem
    dry. So occurrence is only the beginning: each pixel gets the height that divides its wet and dry dates, by their levels, best, and each
    date the level that divides its wet and dry pixels, by their heights, best, in turn. Both are numbers from 0 to 1 that only tell an order.
    """
    occurrence = _occurrence(seen)
    result = _dates(seen, ground_m2, 1 - occurrence)
    if any((plane == HIDDEN).any() for plane in seen):
        for turn in range(ROUNDS):
            progress(0.7 + 0.3 * turn / ROUNDS, "")
            heights = _heights(seen, np.array([r.level for r in result]), progress)
            result = _dates(seen, ground_m2, np.where(occurrence < 0, 2.0, heights))
    return result


def _occurrence(seen: Sequence[np.ndarray]) -> np.ndarray:
    """Share of the dates that show a pixel on which it is water, `(n,)`; -1 where none does: that is taken for land."""
    wet, known = np.zeros(len(seen[0])), np.zeros(len(seen[0]))
    for plane in seen:
        wet += plane == WATER
        known += plane != HIDDEN
    return np.where(known > 0, wet / np.maximum(known, 1), -1.0)


def _heights(seen: Sequence[np.ndarray], levels: np.ndarray, progress: Progress) -> np.ndarray:
    """Heights 0..1 `(n,)` of the pixels by the levels 0..1 of the dates: in the middle of where the fewest dates are on the wrong side."""
    order = np.argsort(levels, kind="stable")
    edges = np.concatenate([[0.0], levels[order], [1.0]])
    count, result = len(order), np.empty(len(seen[0]))
    step = max(CHUNK // count, 1)
    for first in range(0, len(result), step):
        progress(0.8, "")
        planes = np.stack([seen[k][first : first + step] for k in order])
        # wrong[k]: the pixel stands above the first k levels and below the others
        wrong = np.zeros((count + 1, planes.shape[1]), np.int32)
        np.cumsum(planes == WATER, axis=0, out=wrong[1:])
        dry = np.cumsum(planes == LAND, axis=0, dtype=np.int32)
        wrong[1:] += dry[-1] - dry
        wrong[0] += dry[-1]
        low, high = wrong.argmin(axis=0), count - wrong[::-1].argmin(axis=0)
        result[first : first + step] = (edges[low] + edges[high + 1]) / 2
    return result


def _dates(seen: Sequence[np.ndarray], ground_m2: np.ndarray, heights: np.ndarray) -> list[Filled]:
    order = np.argsort(heights, kind="stable")
    ends = np.flatnonzero(np.append(heights[order][1:] != heights[order][:-1], True))  # the last pixel of each height
    return [_filled(plane, ground_m2, heights, order, ends) for plane in seen]


def _filled(plane: np.ndarray, ground_m2: np.ndarray, heights: np.ndarray, order: np.ndarray, ends: np.ndarray) -> Filled:
    sorted_plane, sorted_m2 = plane[order], ground_m2[order]
    land, wet, hidden = (np.concatenate([[0.0], np.cumsum(np.where(sorted_plane == k, sorted_m2, 0))[ends]]) for k in (LAND, WATER, HIDDEN))
    wrong = land + wet[-1] - wet  # if all up to a height were water
    least = wrong.min()
    good = np.flatnonzero(wrong <= least + 1e-9 * sorted_m2.sum())
    steps = np.concatenate([[0.0], np.minimum(heights[order[ends]], 1.0), [1.0]])
    level = float(steps[good[0]] + steps[good[-1] + 1]) / 2
    water = (plane == WATER) | ((plane == HIDDEN) & (heights <= level))
    visible = float(land[-1] + wet[-1])
    return Filled(water, float(hidden[good[-1]] - hidden[good[0]]) / 2, float(least / visible) if visible > 0 else 1.0, level)


def _area(series: Series, number: int, filled: Filled) -> Area:
    scene, seen, ground = series.scenes[number], series.seen[number], series.ground_m2
    area = float(ground[filled.water].sum())
    added = float(ground[filled.water & (seen == HIDDEN)].sum())
    return Area(
        series.reservoir.name, scene.when, area, added / area if area > 0 else 0.0, _share(seen == HIDDEN, ground), int(filled.water.sum()),
        os.path.basename(scene.path), scene.sensor, filled.unsure_m2,
    )  # fmt: skip


def _share(chosen: np.ndarray, ground_m2: np.ndarray) -> float:
    return float(ground_m2[chosen].sum() / ground_m2.sum())


def _ring(within: np.ndarray) -> np.ndarray:
    """Pixels up to `_RING` px around the reservoir."""
    wide = within.copy()
    for _ in range(_RING):
        grown = wide.copy()
        grown[1:] |= wide[:-1]
        grown[:-1] |= wide[1:]
        grown[:, 1:] |= wide[:, :-1]
        grown[:, :-1] |= wide[:, 1:]
        wide = grown
    return wide & ~within


def _alike(grid: Grid, base: Grid) -> bool:
    return same_crs(grid.crs, base.crs) and np.allclose(grid.pixel_size, base.pixel_size, rtol=1e-6)


def _too_large(reservoir: Reservoir, pixels: int, dates: int) -> WaterError:
    factor = math.ceil(math.sqrt(pixels * dates / MOST))
    return ConfigError(
        f"{reservoir.name}: {dates} water rasters of {pixels} pixels are too many to be held in memory.",
        f"Give rasters with pixels {factor} times as large.",
    )
