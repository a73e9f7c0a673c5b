"""Which pixels of a mask hang together (8 neighbours), in memory that follows the length of outlines, not the raster's size. numpy only."""

from __future__ import annotations

import numpy as np


class Runs:
    """The runs of a mask: unbroken pieces of its rows. Add strips of whole rows from top to bottom, then `join`."""

    def __init__(self, width: int):
        self._pitch = width + 2  # two columns between the rows, so that the end of one never meets the beginning of the next
        self._starts, self._ends, self._rows, self._count = [], [], 0, 0
        self.starts = self.ends = np.zeros(0, np.int64)

    def add(self, mask: np.ndarray, marked: np.ndarray) -> np.ndarray:
        """Add bool `(rows, width)`. Gives the numbers of the runs that hold a pixel of `marked`, bool of the same shape."""
        rows, width = mask.shape
        beside = np.zeros((rows, self._pitch), np.int8)
        beside[:, :width] = mask
        steps = np.diff(beside.ravel(), prepend=np.int8(0))
        first = self._rows * self._pitch
        starts, ends = np.flatnonzero(steps == 1) + first, np.flatnonzero(steps == -1) + first
        row, col = np.nonzero(mask & marked)
        found = np.unique(np.searchsorted(starts, (row + self._rows) * self._pitch + col, "right") - 1) + self._count
        self._starts.append(starts)
        self._ends.append(ends)
        self._rows, self._count = self._rows + rows, self._count + len(starts)
        return found

    def join(self) -> np.ndarray:
        """For each run the number of the first run that it hangs together with, int64 `(runs,)`."""
        self.starts, self.ends = np.concatenate(self._starts or [self.starts]), np.concatenate(self._ends or [self.ends])
        self._starts, self._ends = [], []
        low = np.searchsorted(self.ends, self.starts + self._pitch, "left")  # runs of the row below, from the first that touches ...
        high = np.searchsorted(self.starts, self.ends + self._pitch, "right")  # ... to the one behind the last
        number = np.maximum(high - low, 0)
        above = np.repeat(np.arange(len(low)), number)
        below = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + np.repeat(low, number)
        return _roots(len(low), above, below)

    def paint(self, row: int, rows: int, chosen: np.ndarray) -> np.ndarray:
        """bool `(rows, width)`: where the chosen runs (bool, one per run) lie. After `join`."""
        a, b = np.searchsorted(self.starts, [row * self._pitch, (row + rows) * self._pitch])
        some = chosen[a:b]
        steps = np.zeros(rows * self._pitch + 1, np.int8)
        steps[self.starts[a:b][some] - row * self._pitch] = 1
        steps[self.ends[a:b][some] - row * self._pitch] = -1
        return np.cumsum(steps[:-1], dtype=np.int8).reshape(rows, self._pitch)[:, :-2] > 0


def connected(mask: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """The part of a mask `(rows, cols)` that hangs together with marked pixels of it, bool of the same shape."""
    runs = Runs(mask.shape[1])
    found = runs.add(mask, marked)
    roots = runs.join()
    return runs.paint(0, len(mask), np.isin(roots, roots[found]))


def _roots(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least member of each one's component, for links between `a[i]` and `b[i]` (Shiloach and Vishkin 1982, 10.1016/0196-6774(82)90008-6)."""
    root = np.arange(count)
    while True:
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low < high
        if not apart.any():
            return root
        a, b, low, high = a[apart], b[apart], low[apart], high[apart]
        root[high] = low  # of several the last one counts; the others are met again in the next round
        while True:
            further = root[root]
            if np.array_equal(further, root):
                break
            root = further
