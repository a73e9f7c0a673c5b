"""Chips as a network eats them: normalised, augmented, in batches. All chance comes from (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .chips import Chip, ChipSet
from .errors import ChipsError
from .infer import read_ahead
from .normalise import Normalisation, Sketch
from .progress import Progress, silent
from .settings import TrainConfig

_ORDER, _CHANGE, _VARY = 11, 12, 13
CACHE_BYTES = 1.5e9


class Samples:
    """Some chips of a folder with their targets; kept in memory while they fit, else read again each time."""

    def __init__(self, chips: ChipSet, chosen: list[Chip], task):
        self.chips, self.chosen, self.task = chips, chosen, task
        self._cache: dict[int, tuple] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.chosen)

    def raw(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels and valid `(bands, rows, cols)` in the chip's dtype, and the target. Raises `ChipsError` for a chip of another size."""
        if i in self._cache:
            return self._cache[i]
        pixels, valid = self.chips.image(self.chosen[i])
        target = self.task.target(self.chips, self.chosen[i])
        size = self.chips.manifest.tile_size
        if pixels.shape[1:] != (size, size) or (self.task.spatial and target.shape[-2:] != (size, size)):
            raise ChipsError(
                f"{self.chosen[i].image} is {pixels.shape[2]} x {pixels.shape[1]} px, the folder's chips are {size}.",
                "Export the chips with one tile size.",
            )
        item = (pixels, valid, target)
        weight = sum(a.nbytes for a in item)
        if weight <= self._room:
            self._room -= weight
            self._cache[i] = item
        return item

    def sketches(self, progress: Progress = silent) -> list[Sketch]:
        """Distribution of each band over all chips, nodata left out."""
        result = [Sketch() for _ in self.chips.manifest.bands]
        for i in range(len(self)):
            progress(i / len(self), "")
            pixels, valid, _ = self.raw(i)
            for sketch, plane, ok in zip(result, pixels, valid):
                sketch.update(plane[ok])
        return result

    def batches(
        self, size: int, normalisation: Normalisation, config: TrainConfig | None = None, epoch: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`(n, bands, rows, cols)` float32 and targets. With `config` (training): shuffled, augmented, each batch full; the last one is
        filled up with chips of the next round, since batch normalisation fails on one chip alone."""
        order = np.arange(len(self))
        if config is not None:
            order = np.random.default_rng([config.seed, _ORDER, epoch]).permutation(len(self))
            order = np.resize(order, -(-len(order) // size) * size if len(order) > size else max(len(order), min(size, 2)))
        places = [order[k : k + size] for k in range(0, len(order), size)]
        starts = range(0, len(order), size)

        def make(item):
            start, place = item
            parts = [self._one(i, normalisation, config, epoch, start + k) for k, i in enumerate(place)]
            return np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts])

        for _, batch in read_ahead(make, zip(starts, places), 2):
            yield batch

    def _one(self, i: int, normalisation: Normalisation, config, epoch: int, position: int):
        pixels, valid, target = self.raw(i)
        image = normalisation.apply(pixels, valid)
        if config is None:
            return image, target
        if hasattr(self.task, "vary"):
            image, target = self.task.vary(image, target, np.random.default_rng([config.seed, _VARY, epoch, position]))
        return augment(
            image,
            target,
            np.random.default_rng([config.seed, _CHANGE, epoch, position]),
            config,
            self.task.spatial,
            normalisation.elevations,
            getattr(self.task, "turned", True),
        )


def augment(
    image: np.ndarray,
    target: np.ndarray,
    rng: np.random.Generator,
    config: TrainConfig,
    spatial: bool = True,
    fixed=(),
    turned: bool = True,
):
    """A changed copy of a normalised image `(bands, rows, cols)`; a spatial target `(..., rows, cols)` is flipped and turned with it
    (neither is, if not `turned`).

    `brightness` scales and shifts each band, `noise` adds to it; both in normalised units (shares of the band's range). Bands numbered
    in `fixed` (elevations: the target depends on their very heights) keep their values.
    """
    if config.flips and turned:
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        image = np.rot90(image, turns, axes=(1, 2))
        image = image[:, :, ::-1] if flip else image
        if spatial:
            target = np.rot90(target, turns, axes=(-2, -1))
            target = target[..., ::-1] if flip else target
    image = np.array(image, np.float32, order="C")
    kept = image[list(fixed)]
    if config.brightness:
        change = rng.uniform(-config.brightness, config.brightness, (2, len(image), 1, 1)).astype(np.float32)
        image = image * (1 + change[0]) + change[1]
    if config.noise:
        image += config.noise * rng.standard_normal(image.shape, dtype=np.float32)
    image[list(fixed)] = kept
    return image, np.array(target, order="C")  # (ascontiguousarray would make an array of one number out of a number)
