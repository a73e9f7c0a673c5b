"""Means and least values of rasters inside polygons that were traced from pixels: each pixel counts where it belongs. Strip by strip."""

from __future__ import annotations

import numpy as np

from .outlines import NORTH, SOUTH, Rings
from .smooth import corners


class Zones:
    """The polygons of one class, to be painted on strips. `numbers` from 1, one per polygon."""

    def __init__(self, rings: Rings, polygons: list, numbers: np.ndarray, batch: int = 1_000_000):
        self._width, places, owners = rings.width, [], []
        ids = np.concatenate(polygons) if polygons else np.zeros(0, np.int64)
        owner = np.repeat(numbers, [len(p) for p in polygons]) if polygons else np.zeros(0, np.int64)
        cuts = np.flatnonzero(np.diff(np.cumsum(rings.length[ids]) // batch, prepend=-1))
        for a, b in zip(cuts, [*cuts[1:], len(ids)]):
            length = rings.length[ids[a:b]]
            place, way = corners(np.concatenate([rings.edges(i) for i in ids[a:b]]), rings.start[ids[a:b]], length, self._width)
            number = np.repeat(owner[a:b], length)
            for upright, back, sign in ((NORTH, 1, 1), (SOUTH, 0, -1)):
                some = way == upright
                places.append((place[some, 1] - back) * (self._width + 1) + place[some, 0])
                owners.append((sign * number[some]).astype(np.int32))
        self._place = np.concatenate(places) if places else np.zeros(0, np.int64)
        order = np.argsort(self._place)
        self._place = self._place[order]
        self._owner = np.concatenate(owners)[order] if owners else np.zeros(0, np.int32)

    def columns(self, row: int, rows: int) -> tuple[int, int]:
        """First column and the one behind the last of what lies in these rows; (0, 0) if nothing does."""
        a, b = np.searchsorted(self._place, [row * (self._width + 1), (row + rows) * (self._width + 1)])
        cols = self._place[a:b] % (self._width + 1)
        return (int(cols.min()), int(cols.max())) if b > a else (0, 0)

    def paint(self, row: int, rows: int) -> np.ndarray:
        """int32 `(rows, width)`: the number of the polygon at each pixel, else 0."""
        line = self._width + 1
        a, b = np.searchsorted(self._place, [row * line, (row + rows) * line])
        steps = np.zeros(rows * line, np.int32)
        steps[self._place[a:b] - row * line] = self._owner[a:b]
        return np.cumsum(steps.reshape(rows, line), axis=1, dtype=np.int32)[:, :-1]


class Sums:
    """Streamed mean and least value per number (from 1)."""

    def __init__(self, count: int):
        self._sum, self._pixels, self._least = np.zeros(count + 1), np.zeros(count + 1), np.full(count + 1, np.inf)

    def add(self, numbers: np.ndarray, values: np.ndarray, valid: np.ndarray) -> None:
        """Arrays of one shape; `numbers` 0 where nothing counts."""
        flat = np.where(valid, numbers, 0).ravel()
        if not flat.size:
            return
        runs = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
        values, owner = values.astype(np.float64).ravel(), flat[runs]
        values = np.where(flat > 0, values, 0.0)  # what is not data may be anything
        self._sum += np.bincount(owner, np.add.reduceat(values, runs), minlength=len(self._sum))
        self._pixels += np.bincount(owner, np.diff(runs, append=flat.size), minlength=len(self._sum))
        np.minimum.at(self._least, owner, np.minimum.reduceat(values, runs))

    def mean(self) -> np.ndarray:
        """Per number from 1; NaN where no pixel counted."""
        with np.errstate(invalid="ignore"):
            return np.where(self._pixels > 0, self._sum / self._pixels, np.nan)[1:]

    def least(self) -> np.ndarray:
        return np.where(self._pixels > 0, self._least, np.nan)[1:]
