"""The whole road on one page: source -> window -> normalise -> model -> blend -> strip of finished rows.

`predict` is what everything that maps pixels goes through; `mapping.py` turns its strips into rasters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Callable, Optional

import numpy as np

from . import windows
from .blend import Blend
from .errors import ConfigError, ModelError
from .progress import Progress, silent
from .settings import InferConfig
from .windows import Window

TILE = 256  # side of the output's tiles
STRIP_BYTES = 250e6  # what the blend of one strip may take; wider rasters are mapped in several swaths of columns

Strip = tuple[Window, np.ndarray, np.ndarray]


def predict(source, model, config: InferConfig, progress: Progress = silent, area: Optional[Callable] = None) -> Iterator[Strip]:
    """Run `model` over `source`, strip by strip.

    `source` has `.grid` and `.read(window) -> pixels, valid` (a `raster.Stack`); `model` is an `OnnxModel` or anything with `.info`,
    `.channels`, `.dtype` and a call on batches; `area(window) -> bool (rows, cols)` limits where results are wanted.
    Yields `(window, values (channels, rows, cols), holds (rows, cols))` that cover the raster once, without overlap.

    A model that tells its margin (how far a pixel of it sees) gives the same numbers whatever the windows: they begin at multiples of what
    its layers pool, and their margins do not count.
    """
    grid, size = source.grid, window_size(model, config, source.grid)
    overlap = config.overlap if config.overlap < size else -1
    if overlap < 0:
        raise ConfigError(
            f"The overlap ({config.overlap} px) must be smaller than the window ({size} px).",
            "Choose an overlap of at most a quarter of the window.",
        )
    crop = config.blending == "crop"
    weights = windows.ramp(size, overlap, model.info.margin)
    if crop:
        weights = windows.ramp(size, size)  # a tent: who has a pixel nearest to its centre weighs most
    margin = model.info.margin
    rows = windows.grid_rows(grid.width, grid.height, size, overlap, model.info.multiple if margin else 0)
    swaths, together = _swaths(grid.width, size, model.channels), batch_size(model, config)
    total, done = len(swaths) * len(rows), 0
    for columns in swaths:
        blend = Blend(model.channels, columns, size + TILE, weights, model.dtype if model.dtype == np.float64 else np.float32, crop)
        for i, row in enumerate(rows):
            row = [w for w in row if w.col + margin < columns[1] and w.col + size - margin > columns[0]]
            # closed here, also after Cancel or an error: the caller closes the source next, and nobody may be reading it then
            with closing(read_ahead(lambda window: _read(source, model, config, area, window), row, 2 * together)) as reads:
                for batch in _batches(((w, r) for w, r in reads if r is not None), together):
                    values = _run(model, np.stack([pixels for _, (pixels, _) in batch]), config.flips)
                    for (window, (_, wanted)), value in zip(batch, values):
                        blend.add(window, value, wanted)
                    progress((done + (row.index(batch[-1][0]) + 1) / len(row)) / total, "")
            done += 1
            # whole rows of the output's tiles, one at a time: the writer need not gather parts, and a strip's copies stay small
            end = grid.height if i + 1 == len(rows) else max(rows[i + 1][0].row, 0) // TILE * TILE
            while blend.top < end:
                strip = Window(columns[0], blend.top, columns[1] - columns[0], min(TILE, end - blend.top))
                yield (strip, *blend.take(strip.height))
            progress(done / total, "")


def _read(source, model, config: InferConfig, area, window: Window):
    """A window as the network wants it `(bands, size, size)` and which of its pixels are wanted; None if none is."""
    inside = window.inside(source.grid.width, source.grid.height)
    pixels, valid = source.read(inside)
    base = model.info.nodata == "base"
    wanted = valid[0].copy() if base else valid.any(axis=0) if config.nodata == "all" else valid.all(axis=0)
    if area is not None and wanted.any():
        wanted &= area(inside)
    if not wanted.any():
        return None
    top, left = inside.row - window.row, inside.col - window.col
    pad = ((top, window.height - inside.height - top), (left, window.width - inside.width - left))
    numbers = model.info.normalisation.apply(pixels, valid, model.dtype if model.dtype == np.float64 else np.float32)
    return reflect(numbers, pad, model.info.normalisation.elevations), np.pad(wanted, pad)


def reflect(numbers: np.ndarray, pad, odd: Sequence[int] = ()) -> np.ndarray:
    """Mirror `(bands, rows, cols)` at its borders, as often as needed, also where there is one row or column only. The bands numbered in
    `odd`, elevations, are mirrored upside down as well: a slope goes on as a slope, and does not become a ridge."""
    for axis, width in ((1, pad[0]), (2, pad[1])):
        if width == (0, 0):
            continue  # np.pad would copy
        widths, mode = [width if k == axis else (0, 0) for k in range(3)], "reflect" if numbers.shape[axis] > 1 else "edge"
        mirrored = np.pad(numbers, widths, mode=mode)
        if odd and mode == "reflect":
            mirrored[list(odd)] = np.pad(numbers[list(odd)], widths, mode=mode, reflect_type="odd")
        numbers = mirrored
    return numbers


def _run(model, batch: np.ndarray, flips: bool) -> np.ndarray:
    mean = model(batch)
    for k, axes in enumerate(((2,), (3,), (2, 3)) if flips else (), start=2):
        # kept as in `blend.py`: where all agree nothing changes, and no sum can overflow
        mean = mean + (np.flip(model(np.ascontiguousarray(np.flip(batch, axes))), axes) - mean) / k
    return mean


def window_size(model, config: InferConfig, grid) -> int:
    """Side of the windows in px: the model's fixed one, the chosen one, or twice the chips it was trained on (more context, less
    overlap; ten margins, if that is more, so that most of a window counts), but not larger than the raster asks for; always a multiple of
    what the network needs."""
    fixed = getattr(model, "tile", None)
    if fixed:
        if config.window not in (0, fixed):
            raise ModelError(f"The model takes windows of {fixed} px only.", "Leave the window size at 0.")
        return fixed
    multiple = model.info.multiple
    size = config.window
    if not size:
        size = min(max(2 * model.info.chip_size, 10 * model.info.margin, 256), 1024)
        size = min(size, max(grid.width, grid.height) + 2 * (config.overlap // 2) + multiple - 1)
        size = max(size, 2 * config.overlap)
    return -(-size // multiple) * multiple


def batch_size(model, config: InferConfig) -> int:
    """Windows at once: the chosen number, else 8 on a GPU and 1 on a processor, where more take memory and no less time."""
    return config.batch_size or (8 if "CUDA" in getattr(model, "provider", "") else 1)


def _swaths(width: int, size: int, channels: int) -> list[tuple[int, int]]:
    """First and end columns of the swaths; their borders are those of the tiles of the output."""
    most = max(int(STRIP_BYTES / ((size + TILE) * (4 * channels + 5))), 4 * size)
    count = -(-width // most)
    edges = sorted({0, width, *(round(width * k / count / TILE) * TILE for k in range(1, count))})
    return list(zip(edges, edges[1:]))


def read_ahead(read: Callable, items: Iterable, depth: int) -> Iterator[tuple]:
    """`(item, read(item))` in order; up to `depth` are read in advance by one thread, so that the disk and the network work together."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(read, item)))
                if len(waiting) > depth:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _batches(items: Iterable, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
