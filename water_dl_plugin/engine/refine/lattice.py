"""Gaussian filters over pixels: in colour and place by a permutohedral lattice, in place alone by a convolution.

Adams, Baek, Davis 2010, Fast High-Dimensional Filtering Using the Permutohedral Lattice, 10.1111/j.1467-8659.2009.01645.x.

Vertices are known by a hash that is linear in their coordinates, so that a neighbour's hash is the vertex's plus a constant: no coordinates
are kept. Arrays are split into a number of parts that does not depend on the number of threads, so that results don't either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# Odd 64-bit numbers of no structure: two vertices among millions share a hash with a probability of about 1e-7.
_PRIMES = np.random.default_rng(20100507).integers(0, 2**63, 64, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
PARTS = 8


def loops(compiled: bool):
    """The module with the inner loops."""
    if compiled:
        from . import loops_numba as chosen
    else:
        from . import loops_numpy as chosen
    return chosen


class Parts:
    """Runs a function on parts of a range in several threads."""

    def __init__(self, threads: int):
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(self, function: Callable, length: int, parts: int = PARTS, least: int = 1 << 14) -> list:
        """`[function(part, start, stop), ...]`, in order."""
        parts = max(min(parts, length // least), 1)
        edges = [length * k // parts for k in range(parts + 1)]
        items = [(k, edges[k], edges[k + 1]) for k in range(parts)]
        if self._pool is None or parts == 1:
            return [function(*item) for item in items]
        return list(self._pool.map(lambda item: function(*item), items))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Lattice:
    """The lattice of one image. Built once; then `splat`, `blur` and `take` filter any values that its pixels have.

    `bands` float32 `(bands, rows * cols)`, `srgb` their Gaussian's standard deviation; `where` int32: places of the pixels that take part
    (empty: all); `sxy` in px; `origin`: column and row of the first pixel in the whole raster.
    """

    def __init__(
        self, bands: np.ndarray, where: np.ndarray, cols: int, sxy: float, srgb: float, origin: tuple, parts: Parts, compiled: bool
    ):  # fmt: skip
        d = len(bands) + 2
        self.where, self._parts, self._loops = where, parts, loops(compiled)
        self.count = len(where) or bands.shape[1]
        sigma = np.array([sxy, sxy] + [srgb] * len(bands))
        order = np.arange(1, d + 1)
        scale = np.sqrt(2 / 3) * (d + 1) / np.sqrt(order * (order + 1.0)) / sigma
        at = phase(origin, sxy)
        primes = _PRIMES[: d + 1].copy()
        self.ids, self.weights = np.empty((self.count, d + 1), np.int32), np.empty((self.count, d + 1), np.float32)
        found = parts.run(
            lambda part, start, stop: self._loops.embed(bands, where, cols, start, stop, *at, scale, primes, self.ids, self.weights),
            self.count,
        )
        offsets = np.concatenate([[0], np.cumsum([len(f) for f in found])])
        unique, new_ids, *search = self._loops.join(np.concatenate(found))
        parts.run(lambda part, start, stop: self._loops.rename(self.ids, start, stop, new_ids, offsets[part]), self.count)
        self.vertices = len(unique)
        steps = np.uint64(d + 1) * primes - primes.sum()
        self.pairs = np.empty((d + 1, self.vertices, 2), np.int32)
        parts.run(lambda part, start, stop: self._loops.neighbours(unique, steps, start, stop, self.pairs, *search), self.vertices)
        self._matrices = []
        if not compiled:
            self._matrices = parts.run(
                lambda part, start, stop: self._loops.matrix(self.ids, self.weights, start, stop, self.vertices), self.count
            )

    def run(self, function: Callable) -> list:
        """`function(part, start, stop)` over the pixels."""
        return self._parts.run(function, self.count)

    def splat_part(self, part: int, start: int, stop: int, values: np.ndarray) -> np.ndarray:
        """Sums at the vertices, float32 `(vertices,)`, of what the pixels `start..stop` (values `(pixels,)` of all) give."""
        if self._matrices:
            return self._matrices[part][1] @ values[start:stop]
        result = np.empty(self.vertices, np.float32)
        self._loops.splat(self.ids, self.weights, values, start, stop, result)
        return result

    def take_part(self, part: int, start: int, stop: int, vertices: np.ndarray, result: np.ndarray) -> None:
        """What the pixels `start..stop` get back from the vertices."""
        if self._matrices:
            result[start:stop] = self._matrices[part][0] @ vertices[: self.vertices]
        else:
            self._loops.take(self.ids, self.weights, vertices, start, stop, result)

    def blur(self, sums: Sequence[np.ndarray]) -> np.ndarray:
        """Add up the parts' sums and blur them along all directions: float32 `(vertices + 1,)`, of which the last is a zero."""
        vertices, result = np.zeros(self.vertices + 1, np.float32), np.zeros(self.vertices + 1, np.float32)
        for item in sums:
            vertices[:-1] += item
        for pairs in self.pairs:
            self._parts.run(lambda part, start, stop, v=vertices, p=pairs, r=result: self._loops.blur(v, p, start, stop, r), self.vertices)
            vertices, result = result, vertices
        return vertices

    def filter(self, values: np.ndarray) -> np.ndarray:
        """The whole filter on float32 `(pixels,)`, not normalised."""
        blurred = self.blur(self.run(lambda part, start, stop: self.splat_part(part, start, stop, values)))
        result = np.empty(self.count, np.float32)
        self.run(lambda part, start, stop: self.take_part(part, start, stop, blurred, result))
        return result


class Smooth:
    """Gaussian over place alone: an exact separable convolution, cut at 4 standard deviations; zero outside the image."""

    def __init__(self, sxy: float, parts: Parts, compiled: bool):
        self._parts, self._loops = parts, loops(compiled)
        self._taps = np.exp(-0.5 * (np.arange(int(np.ceil(4 * sxy)) + 1) / sxy) ** 2).astype(np.float32)

    def filter(self, image: np.ndarray) -> np.ndarray:
        """float32 `(rows, cols)`, not normalised."""
        result = np.empty_like(image)
        self._parts.run(lambda part, start, stop: self._loops.smooth(image, self._taps, start, stop, result), len(image), least=64)
        return result


def phase(origin: tuple, sxy: float) -> tuple[float, float]:
    """Where a window (`origin`: column, row of its first pixel in the raster) begins in the lattice, which repeats every sqrt(3) sxy in x and
    3 sxy in y: counted from there, the lattices of all windows of a raster lie on each other."""
    return float(np.fmod(origin[0], np.sqrt(3) * sxy)), float(np.fmod(origin[1], 3 * sxy))


def inverse_root(sums: np.ndarray) -> Any:
    """1 / sqrt of the kernel's sums: on both sides of the kernel it makes it symmetric and of row sums about 1."""
    return (1 / np.sqrt(np.maximum(sums, 1e-20))).astype(np.float32)
