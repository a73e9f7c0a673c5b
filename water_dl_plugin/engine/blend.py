"""Putting overlapping windows together without a seam, in memory that is a few windows high."""

from __future__ import annotations

import numpy as np

from .windows import Window


class Blend:
    """Weighted mean of overlapping windows over a band of rows, handed out from the top as it is finished.

    The mean is kept incrementally, `mean += (x - mean) * w / sum(w)` (West 1979, 10.1145/359146.359153): where all windows
    agree the difference is exactly 0, so a constant field stays constant and an identity model returns the image bit for bit,
    which `sum(w x) / sum(w)` does not.

    With `crop` a pixel is taken, unmixed, from the window in which it weighs most.

    `columns` is the first and the end column of the raster that this blend covers; `height` the rows it must hold;
    `weights` `(size,)` those along one axis of a window.
    """

    def __init__(self, channels: int, columns: tuple[int, int], height: int, weights: np.ndarray, dtype=np.float32, crop: bool = False):
        self.first_col, self.top, self.crop = columns[0], 0, crop
        self._base = 0  # the raster's row that is the first of the arrays
        shape = (height, columns[1] - columns[0])
        self.mean = np.zeros((channels, *shape), dtype)
        self.total = np.zeros(shape, np.float32)
        self.wanted = np.zeros(shape, bool)
        self.weights = np.outer(weights, weights).astype(np.float32)

    def add(self, window: Window, values: np.ndarray, wanted: np.ndarray) -> None:
        """Add a window's values `(channels, rows, cols)` and the pixels wanted of it, bool `(rows, cols)`; what lies outside is dropped."""
        self._shift()
        here = window.shifted(-self.first_col, -self.top).inside(self.mean.shape[2], self.mean.shape[1])
        if here.empty:
            return
        rows, cols = here.slices
        cut = Window(here.col + self.first_col - window.col, here.row + self.top - window.row, here.width, here.height).slices
        weight = self.weights[cut]
        total, mean, values = self.total[rows, cols], self.mean[:, rows, cols], values[(slice(None), *cut)]
        if self.crop:
            np.copyto(mean, values, where=weight > total)
            np.maximum(total, weight, out=total)
        else:
            total += weight
            mean += (values - mean) * np.divide(weight, total, out=np.zeros_like(weight), where=weight > 0)
        self.wanted[rows, cols] |= wanted[cut]

    def take(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `rows` rows: mean `(channels, rows, cols)` and where it holds `(rows, cols)`. They are given up here."""
        if self.top - self._base + rows > self.total.shape[0]:
            self._shift()
        here = slice(self.top - self._base, self.top - self._base + rows)
        self.top += rows
        return self.mean[:, here].copy(), self.wanted[here] & (self.total[here] > 0)

    def _shift(self) -> None:
        """Make room for new rows where taken ones were."""
        gone = self.top - self._base
        if not gone:
            return
        for array in (self.mean, self.total, self.wanted):
            keep = array.shape[-2] - gone
            for plane in array.reshape(-1, *array.shape[-2:]):  # one by one: the overlapping copy goes through a buffer
                plane[:keep] = plane[gone:]
                plane[keep:] = 0
        self._base = self.top
