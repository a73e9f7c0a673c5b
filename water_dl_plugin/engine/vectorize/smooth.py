"""Pixel outlines -> smooth ones that keep every area and can't cross each other.

Between the centres of a pixel inside and a pixel outside runs a link; an outline is a chain of points, one on each link that it crosses, and
smoothing slides each point along its link (constrained elastic surface nets, Gibson 1998, 10.1007/BFb0056277; the chains are those of
marching squares, Lorensen and Cline 1987, 10.1145/37402.37422). Between four pixel centres there are one or two such segments, and two never
meet, wherever on their links the points lie short of the ends. So by construction no outline crosses itself or another one, a hole stays in
its lake, and what is one lake or two in the raster is so in the outline. The area of a ring grows with each point that slides outwards, so one
common shift gives it back exactly what it has in pixels. Coordinates are columns and rows; y points down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .outlines import BESIDE_CLASS, DX, DY, WAY

FARTHEST = 0.48  # px along a link: its ends, the centres of pixels, are at 0.5
TURNS = 8  # steps of smoothing: wiggles shorter than about eight pixels go
SPAN = 64  # points that one straight edge may replace
ENOUGH = 0.004  # of a ring's area: what simplification may change


@dataclass
class Chain:
    """Points of many closed rings, ring after ring. `base` `(n, 2)` is the middle of each link, `out` `(n, 2)` its direction, away from the
    class; `tied` the point whose shift counts; `fixed` points don't move; `needed` ones can't be left out; `first` `(rings + 1,)` where rings
    begin."""

    base: np.ndarray
    out: np.ndarray
    tied: np.ndarray
    fixed: np.ndarray
    needed: np.ndarray
    first: np.ndarray

    def of(self, rings: np.ndarray) -> tuple[Chain, np.ndarray]:
        """Some of the rings, and where their points are among all."""
        size = np.diff(self.first)[rings]
        first = np.concatenate([[0], np.cumsum(size)])
        inside = np.arange(first[-1]) + np.repeat(self.first[:-1][rings] - first[:-1], size)
        tied = self.tied[inside] - np.repeat(self.first[:-1][rings] - first[:-1], size)
        return Chain(self.base[inside], self.out[inside], tied, self.fixed[inside], self.needed[inside], first), inside

    def at(self, shift: np.ndarray) -> np.ndarray:
        return self.base + shift[:, None] * self.out


def corners(codes: np.ndarray, start: np.ndarray, length: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each edge begins, as columns and rows `(edges, 2)` of whole numbers, and its way, of rings laid end to end."""
    way = (codes & WAY).astype(np.int64)
    steps = np.stack([DX[way], DY[way]], axis=1)
    run = np.cumsum(steps, axis=0) - steps
    first = np.cumsum(length) - length
    row, col = np.divmod(start, width + 1)
    return run + np.repeat(np.stack([col, row], axis=1) - run[first], length, axis=0), way


def pixel_rings(codes, start, length, width: int) -> list[np.ndarray]:
    """The outlines as they are, `(corners, 2)` per ring, not closed: only corners at which they turn."""
    place, way = corners(codes, start, length, width)
    last = np.cumsum(length) - 1
    before = np.arange(len(way)) - 1
    before[last - length + 1] = last
    turns = way != way[before]
    return np.split(place[turns].astype(np.float64), np.cumsum(np.add.reduceat(turns, last - length + 1, dtype=np.int64))[:-1])


def smooth_rings(codes, start, length, width: int, height: int, reach: float = 0.5, tolerance: float = 0.05) -> list[np.ndarray]:
    """Smooth outlines of rings laid end to end: `(points, 2)` per ring, not closed. `reach` (0..0.5 px) bounds how far points slide,
    `tolerance` (px) how far edges may pass the points that they replace; each ring keeps its area within 0.4 % wherever its points may
    slide far enough (with a reach from 0.25 px on all do), but for points on the raster's frame and beside other classes, which stay."""
    chain = _chain(codes, start, length, width, height)
    reach = min(reach, 0.5) / 0.5 * FARTHEST
    place, _ = corners(codes, start, length, width)
    wanted = _areas(place.astype(np.float64), np.concatenate([[0], np.cumsum(length)]))
    shift = _keep_area(chain, _slide(chain, reach), wanted, reach)
    points = chain.at(shift)
    alive = _simplify(chain, shift, wanted, tolerance, reach) if tolerance > 0 else np.ones(len(points), bool)
    return np.split(points[alive], np.cumsum(np.add.reduceat(alive, chain.first[:-1], dtype=np.int64))[:-1])


def _chain(codes, start, length, width: int, height: int) -> Chain:
    """One point per edge, and one where an outline leaves the raster's frame: there it goes on straight to the frame."""
    place, way = corners(codes, start, length, width)
    step = np.stack([DX[way], DY[way]], axis=1)
    base, out = place + 0.5 * step, np.stack([step[:, 1], -step[:, 0]], axis=1).astype(np.float64)
    first = np.concatenate([[0], np.cumsum(length)])
    after = np.arange(len(way)) + 1
    after[first[1:] - 1] = first[:-1]
    x, y = base.T
    frame = (x == 0) | (x == width) | (y == 0) | (y == height)
    shared = (codes & BESIDE_CLASS) > 0  # both neighbours draw this point: it must be the same one
    extra = np.flatnonzero((frame | frame[after]) & (way != way[after]))
    free = np.where(frame[extra], after[extra], extra)  # the edge that is not on the frame, if only one is not: the point goes with it
    moved = np.arange(len(way)) + np.searchsorted(extra, np.arange(len(way)))  # where the edges' points come to lie
    base = np.insert(base, extra + 1, place[extra] + step[extra], axis=0)
    out = np.insert(out, extra + 1, out[free], axis=0)
    fixed, needed = np.insert(frame | shared, extra + 1, True), np.insert(shared, extra + 1, True)
    tied = np.arange(len(base))
    tied[moved[extra] + 1] = moved[free]
    return Chain(base, out, tied, fixed, needed, first + np.searchsorted(extra, first))


def _neighbours(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.arange(first[-1]) - 1, np.arange(first[-1]) + 1
    before[first[:-1]], after[first[1:] - 1] = first[1:] - 1, first[:-1]
    return before, after


def _slide(chain: Chain, reach: float) -> np.ndarray:
    """Shifts that make the chains short: each point towards the middle of its neighbours, as far as its link allows."""
    before, after = _neighbours(chain.first)
    shift = np.zeros(len(chain.base))
    for _ in range(TURNS):
        points = chain.at(shift)
        pull = ((points[before] + points[after]) / 2 - chain.base) * chain.out
        shift = np.clip(0.4 * shift + 0.6 * pull.sum(axis=1), -reach, reach)
        shift[chain.fixed] = 0
        shift = shift[chain.tied]
    return shift


def _areas(points: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Areas of rings, positive where the class is inside (clockwise as seen, y down)."""
    _, after = _neighbours(first)
    local = points - np.repeat(points[first[:-1]], np.diff(first), axis=0)
    x, y = local.T
    return np.add.reduceat(x * y[after] - x[after] * y, first[:-1]) / 2


def _keep_area(chain: Chain, shift: np.ndarray, wanted: np.ndarray, reach: float) -> np.ndarray:
    """Slide all points of a ring by the same distance, until it has its area again."""
    shift = shift.copy()
    todo = np.arange(len(wanted))
    by, low, high = np.zeros(len(todo)), np.full(len(todo), -2 * reach), np.full(len(todo), 2 * reach)
    for _ in range(20):  # Newton's steps; halves where they leave what is known. The area rises with the shift, nearly evenly
        part, inside = chain.of(todo)
        moved = np.clip(shift[inside] + np.repeat(by[todo], np.diff(part.first)), -reach, reach)
        moved[part.fixed] = 0
        free = (np.abs(moved) < reach) & ~part.fixed
        moved = moved[part.tied]
        points = part.at(moved)
        excess = _areas(points, part.first) - wanted[todo]
        before, after = _neighbours(part.first)
        (x, y), (u, v) = (points[after] - points[before]).T, part.out.T
        slope = np.add.reduceat(np.where(free | (part.tied != np.arange(len(moved))), u * y - v * x, 0) / 2, part.first[:-1])
        high[todo], low[todo] = np.where(excess > 0, by[todo], high[todo]), np.where(excess < 0, by[todo], low[todo])
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = by[todo] - excess / slope
        guess = np.where((guess > low[todo]) & (guess < high[todo]), guess, (low[todo] + high[todo]) / 2)
        done = (np.abs(excess) <= 1e-4 * np.abs(wanted[todo])) | (np.abs(guess - by[todo]) < 1e-7)
        by[todo] = guess
        shift[inside[np.repeat(done, np.diff(part.first))]] = moved[np.repeat(done, np.diff(part.first))]
        todo = todo[~done]
        if not len(todo):
            break
    return shift


def _simplify(chain: Chain, shift: np.ndarray, wanted: np.ndarray, tolerance: float, reach: float) -> np.ndarray:
    """Which points stay. A straight edge may replace points if it crosses their links in the same order, near them and short of the
    links' ends: that is a chain like any other, so it crosses no other one. Rings whose area would change are tried less boldly."""
    alive = np.ones(len(shift), bool)
    todo = np.arange(len(chain.first) - 1)
    points = chain.at(shift)
    for bold in (tolerance, tolerance / 3, tolerance / 12):
        part, inside = chain.of(todo)
        kept = _thin(part, points[inside], shift[inside], bold, reach)
        fewer = np.concatenate([[0], np.cumsum(np.add.reduceat(kept, part.first[:-1], dtype=np.int64))])
        off = np.abs(_areas(points[inside][kept], fewer) - wanted[todo]) > ENOUGH * np.abs(wanted[todo])
        good = np.repeat(~off, np.diff(part.first))
        alive[inside[good]] = kept[good]
        todo = todo[off]
        if not len(todo):
            break
    return alive


def _thin(chain: Chain, points, shift, tolerance: float, reach: float) -> np.ndarray:
    count = len(points)
    before, after = _neighbours(chain.first)
    gap = np.ones(count, np.int64)  # links from a point to the next one that stays
    ring = np.repeat(np.arange(len(chain.first) - 1), np.diff(chain.first))
    left = np.diff(chain.first).astype(np.int64)
    alive = np.ones(count, bool)
    trial = np.flatnonzero(~chain.needed & (np.diff(chain.first)[ring] > 4))
    cost = np.full(count, np.inf)
    size, begin = np.diff(chain.first)[ring], chain.first[:-1][ring]
    noise = (np.arange(count) * 2654435761 % 1021) * 1e-9  # breaks ties, the same way each time
    while len(trial):
        cost[trial] = _cost(chain, points, shift, before[trial], after[trial], gap, tolerance, reach, size, begin) + noise[trial]
        open_ = np.flatnonzero(alive & np.isfinite(cost) & (left[ring] > 4))
        lowest = (cost[open_] < cost[before[open_]]) & (cost[open_] < cost[after[open_]])
        gone = open_[lowest]
        if not len(gone):
            break
        many = left - np.bincount(ring[gone], minlength=len(left)) < 4  # a ring needs points: of the last few only one at a time
        if many.any():
            single = np.unique(ring[gone], return_index=True)[1]
            gone = np.sort(np.concatenate([gone[~many[ring[gone]]], gone[single][many[ring[gone[single]]]]]))
        left -= np.bincount(ring[gone], minlength=len(left))
        alive[gone] = False
        cost[gone] = np.inf
        one, other = before[gone], after[gone]
        gap[one] += gap[gone]
        after[one], before[other] = other, one
        near = np.zeros(count, bool)
        near[one] = near[other] = True
        trial = np.flatnonzero(near & alive & ~chain.needed)
    return alive


def _cost(chain: Chain, points, shift, one, other, gap, tolerance, reach, size, begin) -> np.ndarray:
    """How far, in px along the links, the edge from `one` to `other` passes the points between; infinite where it must not be."""
    middle = one + gap[one]
    middle = begin[one] + (middle - begin[one]) % size[one]
    span = gap[one] + gap[middle] - 1
    result = np.full(len(one), np.inf)
    fine = np.flatnonzero((span <= SPAN) & (one != other))
    if not len(fine):
        return result
    one, other, span = one[fine], other[fine], span[fine]
    stop = np.cumsum(span)
    within = np.arange(stop[-1]) - np.repeat(stop - span, span)
    source = np.repeat(one, span)
    link = begin[source] + (source - begin[source] + 1 + within) % size[source]
    a, step = points[source], np.repeat(points[other] - points[one], span, axis=0)
    base, out = chain.base[link], chain.out[link]
    down = out[:, 0] == 0  # the link runs up or down: the edge meets it where x is that of the link
    with np.errstate(divide="ignore", invalid="ignore"):  # an edge along a link never meets it
        share = np.where(down, (base[:, 0] - a[:, 0]) / step[:, 0], (base[:, 1] - a[:, 1]) / step[:, 1])
        meets = np.where(
            down, (a[:, 1] + share * step[:, 1] - base[:, 1]) * out[:, 1], (a[:, 0] + share * step[:, 0] - base[:, 0]) * out[:, 0]
        )
    earlier = np.where(within > 0, np.concatenate([[0], share[:-1]]), 0)
    off = np.abs(meets - shift[link])
    with np.errstate(invalid="ignore"):
        good = (share > earlier) & (share < 1) & (np.abs(meets) <= reach) & (off <= np.where(chain.fixed[link], 1e-9, tolerance))
    result[fine] = np.maximum.reduceat(np.where(good, off, np.inf), stop - span)
    return result
