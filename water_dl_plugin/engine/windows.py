"""Where windows lie: offsets, overlap and the rows in which they are worked off. Pure arithmetic on whole pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ConfigError


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: first column and row (may be negative: outside the raster), width and height in px."""

    col: int
    row: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """`(rows, cols)` to cut this window out of an array."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def inside(self, width: int, height: int) -> Window:
        """The part that lies inside a raster of that size; width or height is 0 when there is none."""
        left, top = min(max(self.col, 0), width), min(max(self.row, 0), height)
        right, bottom = min(max(self.col + self.width, 0), width), min(max(self.row + self.height, 0), height)
        return Window(left, top, max(right - left, 0), max(bottom - top, 0))

    def shifted(self, cols: int, rows: int) -> Window:
        return Window(self.col + cols, self.row + rows, self.width, self.height)

    @property
    def empty(self) -> bool:
        return self.width <= 0 or self.height <= 0


def offsets(length: int, size: int, overlap: int, align: int = 0) -> list[int]:
    """First pixels of windows of `size` that cover `length` pixels and share `overlap`.

    The first window begins half an overlap outside, the last one ends half an overlap outside (it is shifted back, not
    cut), so the border of the raster has the same context as a seam; what lies outside is filled by reflection.

    `align`: all begin at multiples of it, as a network that pools wants it whose result must not depend on where its windows lie. Then
    they share at least `overlap`, and the last one hangs over. `size` must be a multiple of it, too.
    """
    if not 0 <= overlap < size:
        raise ConfigError(
            f"The overlap ({overlap} px) must be smaller than the window ({size} px).", "Choose an overlap of a quarter of the window."
        )
    edge = overlap // 2
    if align:
        first, step = -edge // align * align, (size - overlap) // align * align
        if step <= 0:
            raise ConfigError(
                f"Windows of {size} px that share {overlap} px can't begin at multiples of {align} px.", "Choose larger windows."
            )
        return [first + k * step for k in range(1 + max(-(-(length + edge - size - first) // step), 0))]
    last = length + edge - size
    if last <= -edge:
        return [(length - size) // 2 if length < size else -edge]
    steps = list(range(-edge, last, size - overlap))
    return steps + [last]


def grid_rows(width: int, height: int, size: int, overlap: int, align: int = 0) -> list[list[Window]]:
    """All windows over a raster, as rows from top to bottom, each from left to right."""
    cols = offsets(width, size, overlap, align)
    return [[Window(col, row, size, size) for col in cols] for row in offsets(height, size, overlap, align)]


def blocks(width: int, height: int, size: int) -> Iterator[Window]:
    """Rectangles without overlap that cover a raster, cut at its borders: for reading everything once."""
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield Window(col, row, min(size, width - col), min(size, height - row))


def ramp(size: int, overlap: int, margin: int = 0):
    """Blend weights along one axis, float32 `(size,)`: 0 in the outer `margin` px, then rising over the overlap, 1 inside.

    Strictly positive inside the margin, so that every pixel of the raster has a weight (TerraTorch's lesson).
    Raises `ConfigError` when the margins eat the whole overlap.
    """
    import numpy as np

    if 2 * margin > overlap:
        raise ConfigError(
            f"The overlap ({overlap} px) is smaller than twice the model's margin ({margin} px).",
            f"Choose an overlap of at least {2 * margin} px.",
        )
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]).astype(np.float32) - margin
    width = max(overlap - 2 * margin, 1)
    return np.where(distance < 0, 0, np.clip((distance + 0.5) / width, 1e-3, 1)).astype(np.float32)
