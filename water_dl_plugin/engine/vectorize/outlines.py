"""Outlines of one class in a raster of any size: traced strip by strip on the edges of its pixels, exact and in one piece.

An outline is a closed path on the lattice of pixel corners with the class on its right: clockwise around an area, counter-clockwise around
a hole. It is kept as one byte per pixel edge, so that memory follows the length of the outlines and not the size of the raster. Inside a
strip all paths are joined at once by pointer jumping (Wyllie 1979, "The complexity of parallel computations", list ranking); what leaves
a strip is joined at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EAST, SOUTH, WEST, NORTH = range(4)  # way along an edge, in the lower two bits of its byte
WAY, BESIDE_NODATA, BESIDE_CLASS = 3, 4, 8  # the upper ones tell what lies on its other side
DX, DY = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])


@dataclass
class Rings:
    """Closed outlines. Arrays have one entry per ring: `area` in px (below 0: a hole), `top` its highest place (row * (width + 1)
    + col), `scale` m2 of a pixel there, `start` the corner of its first edge, `chunk`, `offset` and `length` where its edges lie in `chunks`, and `around`: for a hole
    the ring that it is in, for an area the hole that it lies in, else -1. A ring that was too small to be kept has no edges."""

    width: int
    chunks: list
    area: np.ndarray
    top: np.ndarray
    scale: np.ndarray
    start: np.ndarray
    chunk: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    around: np.ndarray

    def edges(self, ring: int) -> np.ndarray:
        """uint8: the edges in their order."""
        first = self.offset[ring]
        return self.chunks[self.chunk[ring]][first : first + self.length[ring]]

    def polygons(self, min_area: float, min_hole: float) -> list[np.ndarray]:
        """Each polygon as its rings, the outer one first, from top to bottom. Sizes in m2. A hole stays, however small, if a polygon lies in it."""
        size, hole = np.abs(self.area) * self.scale, self.area < 0
        large = hole & (self.length > 0) & (size >= min_hole)
        net = size - np.bincount(self.around[large], size[large], minlength=len(size))
        kept = ~hole & (self.length > 0) & (net >= min_area)
        inhabited = np.zeros(len(size), bool)
        inhabited[self.around[kept & (self.around >= 0)]] = True
        holes = np.flatnonzero((large | (hole & inhabited)) & (self.length > 0))
        holes = holes[kept[self.around[holes]]]
        holes = holes[np.argsort(self.around[holes], kind="stable")]
        outer = np.flatnonzero(kept)
        outer = outer[np.argsort(self.top[outer])]
        cuts = np.searchsorted(self.around[holes], outer, "left"), np.searchsorted(self.around[holes], outer, "right")
        return [np.concatenate([[o], holes[a:b]]) for o, a, b in zip(outer, *cuts)]


class Tracer:
    """Takes the strips of a raster from top to bottom; `finish` gives the outlines.

    `joined`: areas that share a corner are one (8-connected), else two (4-connected). Outer rings below `min_area` and holes below
    `min_hole` (m2) are forgotten early, where they lie in one strip.
    """

    def __init__(self, width: int, height: int, joined: bool, min_area: float = 0.0, min_hole: float = 0.0):
        self._width, self._height, self._joined, self._least = width, height, joined, (min_area, min_hole)
        self._row, self._above, self._beside = 0, np.zeros((1, width), bool), np.zeros((1, width), np.uint8)
        self._chunks: list = []
        self._tables: list = []
        self._parted: list = []
        self._count = 0

    def add(self, mask: np.ndarray, beside: np.ndarray, pixel_m2: np.ndarray, parted=()) -> None:
        """The next rows: `mask` `(rows, cols)`, True where the class is; `beside`, uint8 of that shape, what a pixel is for its neighbours
        (BESIDE_NODATA, BESIDE_CLASS or 0); `pixel_m2` `(cols,)`; `parted`: corners at which areas are not joined."""
        rows, width, top = len(mask), self._width, self._row
        last = top + rows == self._height
        line = np.zeros((1, width), bool)
        grid = np.concatenate([self._above, mask, *([line] if last else [])])
        flags = np.concatenate([self._beside, beside, *([line.astype(np.uint8)] if last else [])])
        self._above, self._beside, self._row = mask[-1:].copy(), beside[-1:].copy(), top + rows
        self._parted.append(np.asarray(parted, np.int64))

        sides = np.pad(grid[1 : rows + 1], ((0, 0), (1, 1)))
        sides_flags = np.pad(flags[1 : rows + 1], ((0, 0), (1, 1)))
        row, col = np.divmod(np.flatnonzero(sides[:, 1:] != sides[:, :-1]), width + 1)
        left = sides[row, col + 1]  # the class is on the right of the edge: its left side, walked northwards
        upright = (np.where(left, NORTH, SOUTH), row + left, col, np.where(left, sides_flags[row, col], sides_flags[row, col + 1]))
        place = (row + top) * (width + 1) + col
        row, col = np.divmod(np.flatnonzero(grid[1:] != grid[:-1]), width)
        under = grid[row + 1, col]  # the class is below the edge
        level = (np.where(under, EAST, WEST), row, col + ~under, np.where(under, flags[row, col], flags[row + 1, col]))
        way, row, col, flag = (np.concatenate(pair) for pair in zip(upright, level))

        row = row + top
        start = row * (width + 1) + col
        end = start + DX[way] + DY[way] * (width + 1)
        follower = _followers(start, way, end, way, self._joined, self._parted[-1])
        end_row = end // (width + 1)
        follower[((end_row == top) & (top > 0)) | ((end_row == top + rows) & (not last))] = -1  # for `finish` to join
        order, first, closed = _paths(follower)
        self._keep(order, first, closed, way, flag, row, start, end, place, pixel_m2)

    def _keep(self, order, first, closed, way, flag, row, start, end, place, pixel_m2) -> None:
        if not len(order):
            return
        size, width = np.diff(first), self._width
        owner = np.empty(len(order), np.int64)
        owner[order] = np.repeat(np.arange(len(size)), size)
        area = np.bincount(owner, np.where(way == WEST, row, 0) - np.where(way == EAST, row, 0), minlength=len(size)).astype(np.int64)
        top, before = np.full(len(size), np.iinfo(np.int64).max), np.full(len(size), -1)
        highest, which = np.unique(owner[: len(place)], return_index=True)  # upright edges come in the order of their places
        top[highest] = place[which]
        behind = (which > 0) & (place[which] // (width + 1) == place[which - 1] // (width + 1))
        before[highest] = np.where(behind, owner[which - 1] + self._count, -1)
        scale = pixel_m2[np.where(top < np.iinfo(np.int64).max, np.minimum(top % (width + 1), width - 1), 0)]
        codes = (way | flag).astype(np.uint8)[order]
        small = np.where(area > 0, area * scale < self._least[0], -area * scale < self._least[1])
        keep = ~(closed & small)
        codes = codes[np.repeat(keep, size)]
        size = np.where(keep, size, 0)
        self._tables.append({
            "area": area, "scale": scale, "start": start[order[first[:-1]]], "way": way[order[first[:-1]]], "end": end[order[first[1:] - 1]],
            "last": way[order[first[1:] - 1]], "closed": closed, "top": top, "before": before, "length": size,
            "offset": np.cumsum(size) - size, "chunk": np.full(len(size), len(self._chunks)),
        })  # fmt: skip
        self._chunks.append(codes)
        self._count += len(size)

    def finish(self) -> Rings:
        """All outlines, once the last strip has been added."""
        names = ("area", "scale", "start", "way", "end", "last", "closed", "top", "before", "length", "offset", "chunk")
        t = {name: np.concatenate([table[name] for table in self._tables] or [np.zeros(0, np.int64)]) for name in names}
        self._tables = []
        closed = t["closed"].astype(bool)
        open_ = np.flatnonzero(~closed)
        parted = np.unique(np.concatenate(self._parted)) if self._parted else np.zeros(0, np.int64)
        follower = _followers(t["start"][open_], t["way"][open_], t["end"][open_], t["last"][open_], self._joined, parted)
        order, first, _ = _paths(follower)
        pieces, count = open_[order], np.diff(first)
        whole = np.flatnonzero(closed)
        ring_of = np.empty(len(closed), np.int64)
        ring_of[whole] = np.arange(len(whole))
        owner = np.repeat(np.arange(len(count)), count)
        ring_of[pieces] = len(whole) + owner
        head = pieces[first[:-1]]
        highest = np.lexsort((t["top"][pieces], owner))[first[:-1]]  # the piece that reaches up highest knows what is before it
        highest = pieces[highest]
        joined = [
            np.concatenate([self._chunks[t["chunk"][p]][t["offset"][p] : t["offset"][p] + t["length"][p]] for p in pieces[a:b]])
            for a, b in zip(first[:-1], first[1:])
        ]
        lengths = np.array([len(codes) for codes in joined], np.int64)
        before = np.concatenate([t["before"][whole], t["before"][highest]]).astype(np.int64)
        before = np.where(before >= 0, ring_of[before], -1) if len(before) else before
        area = np.concatenate([t["area"][whole], np.bincount(owner, t["area"][pieces], minlength=len(count))]).astype(np.int64)
        return Rings(
            self._width, [*self._chunks, np.concatenate(joined) if joined else np.zeros(0, np.uint8)], area,
            np.concatenate([t["top"][whole], t["top"][highest]]).astype(np.int64), np.concatenate([t["scale"][whole], t["scale"][highest]]),
            np.concatenate([t["start"][whole], t["start"][head]]).astype(np.int64),
            np.concatenate([t["chunk"][whole], np.full(len(head), len(self._chunks))]).astype(np.int64),
            np.concatenate([t["offset"][whole], np.cumsum(lengths) - lengths]).astype(np.int64),
            np.concatenate([t["length"][whole], lengths]).astype(np.int64), _around(area, before),
        )  # fmt: skip


def _around(area: np.ndarray, before: np.ndarray) -> np.ndarray:
    """For each ring the first one of the other kind among those before it. `before` is the ring left of a ring's highest place in that row:
    for a hole another ring of its own area, for an area its neighbour or the hole that it lies in."""
    jump = np.where((before >= 0) & ((area > 0) == (area > 0)[before]), before, np.arange(len(area)))
    while True:
        further = jump[jump]
        if np.array_equal(further, jump):
            return before[jump] if len(jump) else before
        jump = further


def _followers(start, way, end, last, joined: bool, parted: np.ndarray) -> np.ndarray:
    """The path that goes on where each path ends, -1 if there is none. Where two paths cross, areas stay apart by turning right."""
    order = np.argsort(start * 4 + way, kind="stable")
    sorted_start = start[order]
    low = np.searchsorted(sorted_start, end, "left")
    high = np.searchsorted(sorted_start, end, "right")
    if not len(order):
        return np.zeros(0, np.int64)
    first = order[np.minimum(low, len(order) - 1)]
    second = order[np.minimum(low + 1, len(order) - 1)]
    apart = np.isin(end, parted) if joined else True
    wanted = np.where(apart, (last + 1) % 4, (last + 3) % 4)
    chosen = np.where((high - low == 2) & (way[first] != wanted), second, first)
    return np.where(high > low, chosen, -1)


def _paths(follower: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order of the items along their paths, path by path; where each path begins (and where the last one ends); which are closed."""
    count = len(follower)
    here = np.arange(count)
    ends = follower < 0
    jump, least, active = np.where(ends, here, follower), here.copy(), np.flatnonzero(~ends)
    while len(active):  # the least item of each closed path
        ahead = jump[active]
        lower = np.minimum(least[active], least[ahead])
        changed = bool((lower < least[active]).any())
        further = jump[ahead]
        least[active], jump[active] = lower, further
        still = ~ends[further]
        if still.all() and not changed:
            break
        active = active[still]
    follower = follower.copy()
    round_ = np.zeros(count, bool)
    round_[active] = True
    follower[active[follower[active] == least[active]]] = -1  # closed paths are cut before it
    jump, distance = np.where(follower < 0, here, follower), (follower >= 0).astype(np.int64)
    active = np.flatnonzero(follower >= 0)
    while len(active):
        ahead = jump[active]
        gain, further = distance[ahead], jump[ahead]
        distance[active] += gain
        jump[active] = further
        active = active[follower[further] >= 0]
    tails = np.flatnonzero(follower < 0)
    size = np.bincount(jump, minlength=count)[tails]
    first = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    path = np.empty(count, np.int64)
    path[tails] = np.arange(len(tails))
    order = np.empty(count, np.int64)
    order[first[path[jump] + 1] - 1 - distance] = here
    return order, first, round_[tails]
