"""Which chips train, validate and test: by blocks of the map, by scene, or by chance. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Callable, Optional

import numpy as np

from .errors import LabelError
from .manifest import SPLITS
from .progress import Progress, silent
from .settings import ChipsConfig
from .windows import Window, blocks

TRAIN, VALIDATION, TEST = 0, 1, 2
_STREAM = 3


def choose(counts: np.ndarray, shares: tuple[float, float], seed: int, tries: int = 500) -> np.ndarray:
    """Assign units (blocks, scenes) to training, validation and test so that each class is shared out as wished.

    `counts` `(units, classes)`: labelled pixels; `shares`: of validation and of test. Returns int `(units,)`. Of many random assignments
    the one nearest to the wished shares of every class is taken. Units without labels train. With a single labelled unit all train.
    """
    rng = np.random.default_rng([seed, _STREAM])
    result = np.zeros(len(counts), int)
    used = np.flatnonzero(counts.sum(axis=1) > 0)
    wished = np.array([1 - sum(shares), *shares])
    if len(used) < 1 + np.count_nonzero(wished[1:]):
        return result
    part = counts[used] / np.maximum(counts[used].sum(axis=0), 1)
    held = counts.sum(axis=0) > 0
    best = None
    for _ in range(tries):
        draw = rng.permutation(len(used))
        size = counts[used][draw].sum(axis=1) / counts.sum()
        middle = np.cumsum(size) - size / 2
        cut = np.array([VALIDATION, TEST, TRAIN])[np.digitize(middle, np.cumsum(shares))]
        assigned = np.empty(len(used), int)
        assigned[draw] = cut
        got = np.array([part[assigned == k].sum(axis=0) for k in (TRAIN, VALIDATION, TEST)])[:, held]
        empty = np.count_nonzero((got == 0) & (wished[:, None] > 0))
        score = empty + np.abs(got - wished[:, None]).mean()
        if best is None or score < best[0]:
            best = (score, assigned)
    result[used] = best[1]
    return result


def by_chance(number: int, shares: tuple[float, float], seed: int) -> np.ndarray:
    """Assign `number` units at random, int `(number,)`."""
    result = np.zeros(number, int)
    order = np.random.default_rng([seed, _STREAM]).permutation(number)
    first, second = round(shares[0] * number), round(sum(shares) * number)
    result[order[:first]], result[order[first:second]] = VALIDATION, TEST
    return result


class Shares:
    """The split of the chips of some scenes: says which labels of a tile train, and which validate or test.

    `labels(scene, grid)` gives the labels on any grid; `grids` are the scenes'. With `blocks` and `source` each place of the map belongs to
    one split for good, so a tile across a border gives a chip to either side, each with its own labels only. Raises `nowhere`, a
    `LabelError`, when there is no label at all.
    """

    def __init__(
        self, grids, labels: Callable, classes, config: ChipsConfig, progress: Progress = silent, nowhere: Optional[LabelError] = None
    ):
        self.by, self._grids, self._seed = config.split, grids, config.seed
        self._wanted = (config.validation_share, config.test_share)
        self._sizes = [config.block_size or max(-(-max(g.width, g.height) // 8), 64) for g in grids]
        counts, self._maps, first = [], [], 0
        for i, (grid, size) in enumerate(zip(grids, self._sizes)):
            here = []
            for window in blocks(grid.width, grid.height, size):
                found = np.zeros(len(classes) + 1, np.int64)
                for piece in blocks(window.width, window.height, 1024):  # a block may be a large part of a large scene
                    pixels = labels(i, grid.part(piece.shifted(window.col, window.row)))
                    found += np.bincount(pixels.ravel(), minlength=len(found))
                    progress((i + window.row / grid.height) / len(grids), "")
                here.append(found[1:])
            counts.append(np.array(here))
            self._maps.append(np.arange(first, first + len(here)).reshape(-(-grid.height // size), -(-grid.width // size)))
            first += len(here)
        labelled = np.concatenate(counts)
        if labelled.sum() == 0:
            raise nowhere or LabelError(
                "No labelled pixel lies on the raster.", "Check the labels' place, CRS, class field and the area of interest."
            )
        absent = [c.name for c, n in zip(classes, labelled.sum(axis=0)) if n == 0]
        if absent:
            progress(1, f"Warning: there is no label of class {', '.join(absent)} on these scenes.")
        if self.by == "source":
            self._of = np.repeat(choose(np.array([c.sum(axis=0) for c in counts]), self._wanted, self._seed), [len(c) for c in counts])
        else:
            self._of = choose(labelled, self._wanted, self._seed)
        if self.by != "random" and config.validation_share and not (self._of == VALIDATION).any():
            progress(
                1,
                f"Warning: there are too few {'blocks with labels' if self.by == 'blocks' else 'scenes'} to set any apart for validation. Choose a smaller block size, or another split.",
            )

    def parts(self, scene: int, grid, labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """For each split that has labels on the tile `grid`: its number, and `labels` `(rows, cols)` with the others' set to 0."""
        if self.by == "random":
            yield TRAIN, labels
            return
        col, row = np.meshgrid(np.arange(labels.shape[1]) + 0.5, np.arange(labels.shape[0]) + 0.5)
        x, y = grid.to_map(col, row)
        x0, dx, rx, y0, ry, dy = self._grids[scene].transform
        u, v = np.linalg.solve([[dx, rx], [ry, dy]], np.stack([(x - x0).ravel(), (y - y0).ravel()])).reshape(2, *labels.shape)
        units, size = self._maps[scene], self._sizes[scene]
        which = self._of[units[tuple(np.clip(p // size, 0, n - 1).astype(int) for p, n in zip((v, u), units.shape))]]
        for k in (TRAIN, VALIDATION, TEST):
            mine = np.where(which == k, labels, 0).astype(labels.dtype)
            if mine.any():
                yield k, mine

    def by_chance(self, chips: list, places: list[tuple]) -> list:
        """For `random`: `places` says where each chip was cut; turned copies of one tile stay together."""
        if self.by != "random":
            return chips
        known = sorted(set(places))
        of = dict(zip(known, by_chance(len(known), self._wanted, self._seed)))
        return [replace(c, split=SPLITS[of[place]]) for c, place in zip(chips, places)]

    def blocks(self, grids) -> Iterator[tuple]:
        """(scene, corners, crs, split's name) of each block of the map, for the catalogue."""
        for i, grid in enumerate(grids if self.by == "blocks" else []):
            size = self._sizes[i]
            for (row, col), unit in np.ndenumerate(self._maps[i]):
                place = grid.part(Window(col * size, row * size, size, size).inside(grid.width, grid.height))
                yield i, place.corners, grid.crs, SPLITS[self._of[unit]]
