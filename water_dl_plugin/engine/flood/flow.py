"""Where water runs on an elevation model: one priority flood gives every cell its receiver and an order in which nothing comes before what it
drains to. Backwards the order sums up contributing areas, forwards it hands on the height of the nearest drainage.

The whole raster is held in memory, since a river may cross all of it: `BYTES` per pixel at most, arrays and masks together.
"""

from __future__ import annotations

import math
from typing import Callable, Optional

import numpy as np

from .. import jit
from . import loops
from .loops import CLOSED, OUTLET, UNSEEN
from .runs import connected

BYTES = 26  # per pixel, measured by benchmarks/flood_figures.py
CHUNK = {True: 1_000_000, False: 100_000}  # cells between two looks at Cancel, with numba and without
STRIP = 1_000_000  # cells whose steepest descent is worked out at once
STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # (row, col) of the eight neighbours, opposites 4 apart
_LOWEST, _SIGN = np.int32(-(2**31)), np.int32(2**31 - 1)

Tick = Callable[[float], None]


def _ordered(bits: np.ndarray) -> np.ndarray:
    """The bits of float32 as int32 numbers of the same order, and back; in place."""
    for part in np.array_split(bits, max(bits.size // STRIP, 1)):
        part ^= (part >> 31) & _SIGN
    return bits


class Flow:
    """Directions and order of a raster `(rows, cols)`.

    `heights` float32 in any unit, NaN where void; `dx`, `dy` size of a pixel, in one unit. `lowered`, bool: drainage that is known, sunk into
    the ground (for the directions only) so that water finds and follows it.

    Priority flood after Barnes et al. (2014, 10.1016/j.cageo.2013.04.024, algorithm 2); a cell drains to its steepest lower neighbour (D8,
    O'Callaghan and Mark 1984, 10.1016/S0734-189X(84)80011-0) on the filled surface, in pits and on flats to the neighbour that the flood
    came from. Water leaves at the raster's border and where voids reach the border; a void enclosed by data is a pond: it takes water at all
    its shores and lets it out at the lowest. `compiled`: None takes numba where it works; the result is the same without.
    """

    def __init__(
        self, heights: np.ndarray, dx: float = 1.0, dy: float = 1.0, *, lowered: Optional[np.ndarray] = None,
        compiled: Optional[bool] = None, tick: Tick = lambda share: None,
    ):  # fmt: skip
        self.shape = heights.shape
        self.compiled = jit.works() if compiled is None else compiled
        self._pitch = heights.shape[1] + 2
        self._offsets = np.array([dr * self._pitch + dc for dr, dc in STEPS], np.int64)
        rank, self._code = self._prepared(heights, lowered, tick)
        self._order = np.empty(int(np.count_nonzero(self._code == UNSEEN)), np.int32)
        self._flood(rank, tick)
        self._steepest(rank, dx, dy, tick)

    def _prepared(self, heights: np.ndarray, lowered: Optional[np.ndarray], tick: Tick) -> tuple[np.ndarray, np.ndarray]:
        """Heights as whole numbers of the same order, and codes; both flat, with the frame."""
        void = np.isnan(heights)
        tick(0.0)
        outside = void
        if void.any():
            border = np.zeros(void.shape, bool)
            border[[0, -1]], border[:, [0, -1]] = True, True
            outside = connected(void, border)
        tick(0.0)
        ground = heights + np.float32(0)  # a copy, and no -0.0
        if lowered is not None:
            ground[lowered] -= np.float32(np.nanmax(ground) - np.nanmin(ground) + 1) if lowered.any() else 0
        tick(0.0)
        bits = _ordered(ground.view(np.int32))
        bits[void] = _LOWEST + 1
        tick(0.0)
        rank = self._framed(bits, _LOWEST)
        tick(0.0)
        code = self._framed(np.where(outside, CLOSED, UNSEEN).astype(np.uint8), CLOSED)
        return rank.ravel(), code.ravel()

    def _framed(self, inner: np.ndarray, frame, dtype=None) -> np.ndarray:
        whole = np.full((self.shape[0] + 2, self._pitch), frame, dtype or inner.dtype)
        whole[1:-1, 1:-1] = inner
        return whole

    def _flood(self, rank: np.ndarray, tick: Tick) -> None:
        code, offsets = self._code, self._offsets
        closed = (code == CLOSED).reshape(-1, self._pitch)
        beside = np.zeros_like(closed)
        for dr, dc in STEPS:
            tick(0.0)
            beside[1:-1, 1:-1] |= closed[1 + dr : closed.shape[0] - 1 + dr, 1 + dc : self._pitch - 1 + dc]
        seeds = np.flatnonzero(beside & ~closed)
        code[seeds] = OUTLET
        heap = np.sort(rank[seeds].astype(np.int64) << 32 | seeds)  # sorted is a heap
        size, done, there, count = len(heap), 0, 0, len(self._order)
        if self.compiled:
            from .loops_numba import flood

            while done < count:
                if size + 8 > len(heap):
                    heap = np.concatenate([heap[:size], np.empty(max(size, 4096), np.int64)])
                size, done, there = flood(rank, code, self._order, heap, size, done, there, offsets, CHUNK[True])
                tick(0.7 * done / count)
        else:
            keys, views = heap.tolist(), [memoryview(a) for a in (rank, code, self._order)]
            while done < count:
                done, there = loops.flood(*views, keys, done, there, offsets.tolist(), CHUNK[False])
                tick(0.7 * done / count)

    def _steepest(self, rank: np.ndarray, dx: float, dy: float, tick: Tick) -> None:
        """Direct each cell to its steepest lower neighbour on the filled surface: it comes earlier in the order, being lower."""
        rank, code = rank.reshape(-1, self._pitch), self._code.reshape(-1, self._pitch)
        rows = max(STRIP // self._pitch, 1)
        for top in range(1, len(rank) - 1, rows):
            bottom = min(top + rows, len(rank) - 1)
            tick(0.7 + 0.3 * top / len(rank))
            some = slice(top - 1, bottom + 1)
            filled = _ordered(rank[some].copy()).view(np.float32)
            filled[code[some] == CLOSED] = np.inf
            middle, chosen = filled[1:-1, 1:-1], code[top:bottom, 1:-1]
            best = np.zeros(middle.shape, np.float32)
            for k, (dr, dc) in enumerate(STEPS):
                with np.errstate(invalid="ignore"):
                    drop = (middle - filled[1 + dr : len(filled) - 1 + dr, 1 + dc : self._pitch - 1 + dc]) / np.float32(
                        math.hypot(dr * dy, dc * dx)
                    )
                better = (drop > best) & (chosen != CLOSED)
                best[better], chosen[better] = drop[better], k

    def accumulate(self, areas: np.ndarray, tick: Tick = lambda share: None) -> np.ndarray:
        """Contributing area of each cell, itself included: sums of `areas` `(rows, cols)`; float64, of voids outside 0."""
        total = self._framed(areas, 0.0, np.float64)
        total[self._code.reshape(total.shape) == CLOSED] = 0
        self._along("accumulate", [total.ravel()], tick, backwards=True)
        return total[1:-1, 1:-1]

    def corrected(self, heights: np.ndarray, pits: str = "fill", tick: Tick = lambda share: None) -> np.ndarray:
        """Heights `(rows, cols)` that never rise on the way down: 'fill' raises a pit to its rim, 'carve' lowers what bars the way to the height
        from which water comes (Soille 2004, 10.1029/2004WR003060). float32, NaN or infinite in voids."""
        void = np.isnan(heights)
        plane = self._framed(np.where(void, np.float32(np.inf if pits == "carve" else -np.inf), heights), np.nan)
        self._along(pits, [plane.ravel()], tick, backwards=pits == "carve")
        return plane[1:-1, 1:-1]

    def drainage_height(self, corrected: np.ndarray, streams: np.ndarray, tick: Tick = lambda share: None) -> np.ndarray:
        """Height of the stream cell (bool `(rows, cols)`) that each cell drains to, float32 `(rows, cols)`; NaN where the way leaves the
        raster before it meets a stream. The height above the nearest drainage is `corrected` minus this (Renno et al. 2008,
        10.1016/j.rse.2008.03.018; Nobre et al. 2011, 10.1016/j.jhydrol.2011.03.051): never negative, 0 on streams."""
        value = self._framed(np.where(streams, corrected, np.float32(np.nan)), np.nan)
        own = self._framed(streams.astype(np.uint8), 0)
        self._along("inherit", [value.ravel(), own.ravel()], tick)
        return value[1:-1, 1:-1]

    def receivers(self) -> np.ndarray:
        """For each cell the number (row * cols + col) of the one it drains to; -1 where water leaves, -2 outside. int64 `(rows, cols)`."""
        rows, cols = np.indices(self.shape)
        code = self._code.reshape(-1, self._pitch)[1:-1, 1:-1]
        steps = np.array([*STEPS, (0, 0), (0, 0)])[np.minimum(code, CLOSED)]
        number = (rows + steps[..., 0]) * self.shape[1] + cols + steps[..., 1]
        return np.where(code == OUTLET, -1, np.where(code >= CLOSED, -2, number))

    def _along(self, name: str, arrays: list, tick: Tick, backwards: bool = False) -> None:
        """Run a loop over the whole order, in pieces."""
        if self.compiled:
            from . import loops_numba

            loop, given = getattr(loops_numba, name), [self._order, self._code, self._offsets, *arrays]
        else:
            loop = getattr(loops, name)
            given = [memoryview(self._order), memoryview(self._code), self._offsets.tolist(), *map(memoryview, arrays)]
        count, piece = len(self._order), 5 * CHUNK[self.compiled]
        for first in range(0, count, piece):
            last = min(first + piece, count)
            loop(*given, *((count - first, count - last) if backwards else (first, last)))
            tick(last / count)
