"""What a chips folder is to teach: classes that labels give, or the heights of a fine elevation model. One class each, for `export`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Optional, Protocol

import numpy as np

from . import arcgis
from .chips import Chip, ChipSet, Manifest
from .dem.target import ValueTarget
from .errors import ConfigError, LabelError
from .labels import choose_classes, open_labels
from .progress import Progress
from .raster import Grid, Stack
from .settings import ChipsConfig


class Target(Protocol):
    """Made of `(labels, config, existing, water, files)`: the source of labels, the settings, the chips to append to or None, a water mask
    or "", and an `ExitStack` for what is opened.

    `task` is the manifest's. `classes`: what 1, 2, ... in masks stand for; `background`: is the first of them what nobody labelled?
    `nodata`: the value that stands for no data in chips; None: they have a mask. `nowhere`: the error if nothing can be learnt, or None for
    the usual one.
    """

    task: str
    classes: tuple
    background: bool
    nodata: Optional[float]
    nowhere: Optional[LabelError]

    def open(self, scenes: Sequence[str], stack: Sequence[str], files: ExitStack) -> list:
        """What chips are cut from: each has what `raster.Stack` has."""

    def sources(self, scenes: Sequence[str]) -> list[str]:
        """The paths that the opened ones are told by."""

    def check(self, opened: list, existing: Optional[ChipSet], progress: Progress) -> None:
        """Tell what is doubtful; raise what makes an export useless."""

    def read(self, grid: Grid) -> tuple[np.ndarray, Any]:
        """Mask uint8 `(rows, cols)`, 0 where there is nothing to learn, and what `label` makes a label of."""

    def there(self, valid: np.ndarray) -> np.ndarray:
        """bool `(rows, cols)` out of the bands' `(bands, rows, cols)`: where a chip holds enough to be of use."""

    def label(self, content: Any, mask: np.ndarray) -> np.ndarray:
        """What is written into `labels/`, `(rows, cols)`."""

    def mask_of(self, chips: ChipSet, chip: Chip) -> np.ndarray:
        """The mask of a chip that is there already."""

    def told(self, opened: list) -> dict:
        """Fields of the manifest: task, bands, classes, target."""

    def source(self, scene: Any) -> dict:
        """What the manifest says about a source beyond its name and place."""

    def beside(self, folder: str, manifest: Manifest, counts: np.ndarray) -> None:
        """Write what other programs want to find in the folder. `counts` `(chips, classes)`: pixels."""


class ClassTarget:
    """Labels of classes: a vector layer or a class raster."""

    task, nodata, nowhere = "segmentation", None, None

    def __init__(self, labels: str, config: ChipsConfig, existing: Optional[ChipSet], water: str, files: ExitStack):
        if water:
            raise ConfigError("A water mask is for the target 'values' only.", "Leave it empty.")
        self._bands, self.background = config.bands, config.unlabelled == "background"
        self._labels = open_labels(labels, config.class_field, config.buffer)
        self.classes = choose_classes(self._labels, config.classes, self.background, existing.manifest.classes if existing else ())
        self._labels.use(self.classes, self.background)

    def open(self, scenes: Sequence[str], stack: Sequence[str], files: ExitStack) -> list[Stack]:
        return [files.enter_context(Stack(path, stack, self._bands)) for path in scenes]

    def sources(self, scenes: Sequence[str]) -> list[str]:
        return list(scenes)

    def check(self, opened: list[Stack], existing: Optional[ChipSet], progress: Progress) -> None:
        if not any(self._labels.touches(s.grid) for s in opened):
            raise LabelError("The labels lie outside the raster.", "Check the CRS of both: one of them may be assigned wrongly.")

    def read(self, grid: Grid) -> tuple[np.ndarray, None]:
        return self._labels.read(grid), None

    def there(self, valid: np.ndarray) -> np.ndarray:
        return valid.all(axis=0)

    def label(self, content: None, mask: np.ndarray) -> np.ndarray:
        return mask

    def mask_of(self, chips: ChipSet, chip: Chip) -> np.ndarray:
        return chips.label(chip)

    def told(self, opened: list[Stack]) -> dict:
        bands = tuple({"name": b.name, "unit": b.unit, "dtype": b.dtype, "nodata": _plain(b.nodata)} for b in opened[0].bands)
        return {"task": self.task, "bands": bands, "classes": self.classes}

    def source(self, scene: Stack) -> dict:
        return {}

    def beside(self, folder: str, manifest: Manifest, counts: np.ndarray) -> None:
        arcgis.write(folder, manifest, counts)


def _plain(number) -> Optional[float]:
    return None if number is None or not np.isfinite(number) else float(number)


TARGETS: dict = {"classes": ClassTarget, "values": ValueTarget}
