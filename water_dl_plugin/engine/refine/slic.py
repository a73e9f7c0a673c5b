"""Superpixels by simple linear iterative clustering.

Achanta, Shaji, Smith, Lucchi, Fua, Süsstrunk 2012, SLIC Superpixels Compared to State-of-the-Art Superpixel Methods, 10.1109/TPAMI.2012.120.

Seeds lie on one grid over the whole raster, and a pixel looks at the nine superpixels that began in its own and the neighbouring cells of that
grid. So what a tile finds depends on a few cells around it, and not on where the tile begins.
"""

from __future__ import annotations

import os
from typing import Callable

import numpy as np

from .crf import compiled
from .lattice import Parts, loops

SMALLEST = 0.25  # pieces smaller than this share of a cell join a neighbour (as in scikit-image)


def slic(
    image: np.ndarray, valid: np.ndarray, step: int, compactness: float = 60.0, iterations: int = 10, *, origin: tuple = (0, 0),
    engine: str = "auto", threads: int = 0, tick: Callable[[float], None] = lambda share: None
) -> np.ndarray:  # fmt: skip
    """Superpixels of about `step` x `step` px: int32 `(rows, cols)`, numbered from 0, -1 where not `valid`; each is one connected piece.

    `image` float `(bands, rows, cols)`, scaled like 0..255; `compactness` in the same unit: colours that differ by it weigh as much as a distance of
    `step`. `origin`: column and row of the first pixel in the whole raster. `tick(share)` is called after each round and may raise.
    """
    fast = compiled(engine)
    inner, (bands, rows, cols) = loops(fast), image.shape
    left, top = origin[0] % step, origin[1] % step
    across, down = -(-(left + cols) // step), -(-(top + rows) // step)

    def blocked(plane, dtype):
        """`(rows, cols)` to `(cells down, cells across, pixels of a cell)`."""
        whole = np.zeros((down * step, across * step), dtype)
        whole[top : top + rows, left : left + cols] = plane
        return whole.reshape(down, step, across, step).transpose(0, 2, 1, 3).reshape(down, across, step * step)

    cells = np.empty((down, across, bands + 1, step * step), np.float32)
    for b in range(bands):
        cells[:, :, b] = blocked(np.where(valid, (image[b] - 128.0) / compactness, 0), np.float32)
    cells[:, :, bands] = blocked(valid, np.float32)
    middle = (np.arange(step, dtype=np.float32) + 0.5) / step
    place = np.stack([np.tile(middle, step), np.repeat(middle, step)])
    centres, alive = _seeds(cells, place, bands, step)
    nothing = np.zeros((0, 0, 0), np.uint8)
    with Parts(threads or os.cpu_count() or 1) as parts:
        for turn in range(iterations):
            sums = np.zeros((down, across, 9, bands + 3), np.float32)
            parts.run(lambda _, a, b, s=sums, c=centres, o=alive: inner.assign(cells, c, o, place, a, b, s, nothing), down, least=1)
            centres, alive = _moved(sums, centres, alive)
            tick((turn + 1) / (iterations + 2))
        chosen = np.empty((down, across, step * step), np.uint8)
        parts.run(lambda _, a, b: inner.assign(cells, centres, alive, place, a, b, sums[:0], chosen), down, least=1)
    number = np.arange(down * across, dtype=np.int32).reshape(down, across, 1)
    labels = number + (chosen // 3).astype(np.int32) * across + chosen % 3 - (across + 1)
    labels = labels.reshape(down, across, step, step).transpose(0, 2, 1, 3).reshape(down * step, across * step)
    labels = np.where(valid, labels[top : top + rows, left : left + cols], np.int32(-1))
    tick((iterations + 1) / (iterations + 2))
    return _connected(labels, inner, SMALLEST * step * step)


def _seeds(cells, place, bands: int, step: int):
    """Centres at the start: the mean of a cell's middle (half its side wide), or of all its data where there is none in the middle."""
    inside = (np.abs(place - 0.5) <= 0.25 + 0.5 / step).all(axis=0)
    data = cells[:, :, bands] * inside
    data = np.where(data.sum(axis=2, keepdims=True) > 0, data, cells[:, :, bands])
    count = data.sum(axis=2)
    centres = np.zeros((*count.shape, bands + 2), np.float32)
    for k in range(bands + 2):
        centres[..., k] = ((cells[:, :, k] if k < bands else place[k - bands]) * data).sum(axis=2) / np.maximum(count, 1)
    return centres, count > 0


def _moved(sums, centres, alive):
    """Centres as the means of their pixels; one that lost all its pixels stays where it was."""
    down, across = alive.shape
    total = np.zeros((down + 2, across + 2, sums.shape[-1]))
    for k in range(9):
        share = sums[:, :, k].astype(np.float64)
        above, left = k // 3, k % 3
        share[..., -3] -= (left - 1) * share[..., -1]  # x and y as seen from the cell that the pixels go to
        share[..., -2] -= (above - 1) * share[..., -1]
        total[above : above + down, left : left + across] += share
    total = total[1:-1, 1:-1]
    count = total[..., -1:]
    return np.where(count > 0, total[..., :-1] / np.maximum(count, 1), centres).astype(np.float32), alive


def _connected(labels: np.ndarray, inner, smallest: float) -> np.ndarray:
    """Each piece of a superpixel for itself; small pieces join the neighbour with which they share most of their border."""
    pieces, count = inner.components(labels)
    if not count:
        return pieces
    small = np.bincount(pieces[pieces >= 0], minlength=count) < smallest
    keys = []
    for one, other in ((pieces[:, 1:], pieces[:, :-1]), (pieces[1:], pieces[:-1])):
        both = (one != other) & (one >= 0) & (other >= 0)
        one, other = one[both], other[both]
        keys += [a[small[a]].astype(np.int64) * count + b[small[a]] for a, b in ((one, other), (other, one))]
    pairs, borders = np.unique(np.concatenate(keys), return_counts=True)
    pairs = pairs[np.argsort(borders, kind="stable")]  # the longest border last: what is written last holds
    piece, beside = pairs // count, pairs % count
    goes, settled = np.arange(count + 1, dtype=np.int32), ~small
    goes[count] = -1
    while True:  # a small piece among small ones waits until a neighbour knows where it belongs
        ready = ~settled[piece] & settled[beside]
        if not ready.any():
            return goes[pieces]
        goes[piece[ready]] = goes[beside[ready]]
        settled[piece[ready]] = True
