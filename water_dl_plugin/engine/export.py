"""Scenes and labels -> chips folder."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from . import catalogue, split, targets
from .chips import SPLITS, Chip, ChipSet, Manifest, write_manifest
from .dates import day
from .errors import ChipsError, ConfigError, GridMismatchError, LabelError
from .labels import Area
from .normalise import Sketch
from .progress import Progress, part, silent
from .raster import Grid, write_small
from .settings import ChipsConfig
from .windows import Window

_FORMATS = {"TIFF": ("GTiff", ".tif"), "PNG": ("PNG", ".png"), "JPEG": ("JPEG", ".jpg")}


@dataclass(frozen=True)
class _Tile:
    scene: int
    grid: Grid
    window: Window
    rotation: float


def export(
    scenes: Sequence[str], labels: str, folder: str, config: ChipsConfig, *, stack: Sequence[str] = (), area: str = "", water: str = "",
    progress: Progress = silent,
) -> Manifest:  # fmt: skip
    """Cut chips out of `scenes` (each with the further rasters of `stack` on its grid) where `labels` are, into `folder`.

    With the target "values", `labels` is a fine elevation model, `scenes` are coarse ones, the first of them the base, and all of them and
    `stack` are laid on its grid; `water` (polygons, or a raster that is not 0 there) is left out.

    Returns the manifest. Raises `LabelError` where labels and scenes do not meet, `ChipsError` when no chip is left.
    What is written lies beside the folder until it is complete; when appending, chips that failed to get into the manifest are removed.
    """
    _check(scenes, config)
    config = dataclasses.replace(config, stride=config.stride or config.tile_size)
    kind = targets.TARGETS[config.target]
    existing = catalogue.existing(folder, config.append, kind.task)
    with ExitStack() as open_files:
        target = kind(labels, config, existing, water, open_files)
        opened = target.open(scenes, stack, open_files)
        scenes = target.sources(scenes)
        _alike(opened, existing, config)
        for line in _doubts(opened, scenes, existing):
            progress(0, line)
        areas = [Area(area, s.grid, everywhere=len(opened) == 1) if area else None for s in opened]
        if all(a is not None and a.missed for a in areas):
            raise LabelError("The area of interest lies outside all scenes.", "Check its CRS, or leave it empty.")
        target.check(opened, existing, part(progress, 0, 0.04))
        shares = split.Shares(
            [s.grid for s in opened], lambda i, grid: _marked(target, grid, areas[i])[0], target.classes, config,
            part(progress, 0.04, 0.15), target.nowhere,
        )  # fmt: skip
        with catalogue.Folder(folder, existing is not None) as place:
            manifest = _Cutter(opened, target, areas, shares, existing, config, scenes, part(progress, 0.15, 1)).run(place)
    return manifest


def _check(scenes: Sequence[str], config: ChipsConfig) -> None:
    if not scenes:
        raise ConfigError("No scene was chosen.", "Choose at least one raster.")
    if config.stride > config.tile_size:
        raise ConfigError(
            f"The stride ({config.stride} px) is larger than the tile ({config.tile_size} px): pixels between would be lost.",
            "Choose a stride of at most the tile size.",
        )
    if config.validation_share + config.test_share >= 1:
        raise ConfigError("Nothing is left to train with.", "Validation and test share together must stay below 1.")
    if 0 < config.rotation < 1:
        raise ConfigError(
            f"The rotation angle is {config.rotation:g} degrees: that is {360 / config.rotation:.0f} copies of each tile.",
            "Choose 0, or at least 1 degree.",
        )


class _Cutter:
    """Goes over all tiles, writes those that are worth it, and then the lists of them."""

    def __init__(
        self,
        opened: list,
        target: targets.Target,
        areas,
        shares: split.Shares,
        existing: Optional[ChipSet],
        config: ChipsConfig,
        scenes,
        progress: Progress,
    ):
        self.opened, self.target, self.areas, self.shares, self.existing = opened, target, areas, shares, existing
        self.config, self.scenes, self.progress = config, scenes, progress
        self.driver, self.suffix = _FORMATS[config.image_format]
        self.old = existing.manifest if existing else None
        self.index = max(
            [
                config.start_index,
                *(1 + int((re.findall(r"\d+", os.path.basename(c.image)) or ["-1"])[-1]) for c in (self.old.chips if self.old else ())),
            ]
        )
        self.first_source = len(self.old.sources) if self.old else 0
        self.sketches = [Sketch() for _ in opened[0].bands]
        self.chips: list[Chip] = []
        self.counts: list[np.ndarray] = []
        self.places: list[tuple] = []
        self.dropped = {"labels": 0, "nodata": 0}

    def run(self, place: catalogue.Folder) -> Manifest:
        number, total = 0, sum(_count(s.grid, self.config) for s in self.opened)
        for scene, source in enumerate(self.opened):
            for tile in _tiles(scene, source.grid, self.config):
                self.progress(number / total, "")
                self._tile(tile, place)
                number += 1
        if not self.chips:
            raise ChipsError(
                f"No chip is left: {self.dropped['labels']} tiles have too few labels, {self.dropped['nodata']} too much nodata.",
                "Lower the minimum labelled share or the tile size, or raise the maximum nodata share.",
            )
        self.chips = self.shares.by_chance(self.chips, self.places)
        counts = np.array(self.counts)
        if self.existing:
            counts = np.concatenate([self._before(), counts])
        manifest = self._manifest()
        write_manifest(place.path, manifest)  # from here on the chips are in: in a new folder nobody sees it before the rest is there, too
        place.keep()
        self.target.beside(place.path, manifest, counts)
        grids = [s.grid for s in self.opened]
        catalogue.write(place.path, manifest, list(self.shares.blocks(grids)), self.first_source)
        kinds = ", ".join(f"{sum(c.split == s for c in self.chips)} {s}" for s in SPLITS)
        self.progress(
            1,
            f"Written: {len(self.chips)} chips ({kinds}); left out: {self.dropped['labels']} with too few labels, {self.dropped['nodata']} with too much nodata.",
        )
        return manifest

    def _tile(self, tile: _Tile, place: catalogue.Folder) -> None:
        mask, content = _marked(self.target, tile.grid, self.areas[tile.scene])
        if not self._enough(mask):
            self.dropped["labels"] += 1
            return
        pixels, valid = _pixels(self.opened[tile.scene], tile)
        there = self.target.there(valid)
        holes = 1 - there.mean()
        if holes > self.config.max_nodata / 100 or (holes > 0 and self.driver != "GTiff"):
            self.dropped["nodata"] += 1
            return
        parts = [
            (k, mine)
            for k, mine in self.shares.parts(tile.scene, tile.grid, np.where(there, mask, 0).astype(mask.dtype))
            if self._enough(mine)
        ]
        if not parts:
            self.dropped["labels"] += 1
        for k, mine in parts:
            self._chip(tile, place, pixels, valid, mine, content, k)

    def _enough(self, mask: np.ndarray) -> bool:
        found = self._found(mask)
        features = found[1:] if self.target.background else found
        return found.sum() > 0 and (
            not self.config.only_with_labels or (features.sum() > 0 and found.sum() >= self.config.min_labelled / 100 * mask.size)
        )

    def _found(self, mask: np.ndarray) -> np.ndarray:
        return np.bincount(mask.ravel(), minlength=len(self.target.classes) + 1)[1:]

    def _chip(self, tile: _Tile, place: catalogue.Folder, pixels, valid, mask, content, which: int) -> None:
        image, label = f"images/{self.index:09d}{self.suffix}", f"labels/{self.index:09d}.tif"
        there, nodata = self.target.there(valid), self.target.nodata
        kept = valid if nodata is not None else there
        write_small(place.new(image), pixels, tile.grid, kept, self.driver, [b.name for b in self.opened[0].bands], nodata)
        write_small(place.new(label), self.target.label(content, mask)[None], tile.grid, nodata=nodata)
        for sketch, plane, ok in zip(self.sketches, pixels, np.broadcast_to(kept, pixels.shape)):
            sketch.update(plane[ok])
        found = self._found(mask)
        self.chips.append(Chip(
            image, label, SPLITS[which], self.first_source + tile.scene, tile.rotation, day(self.scenes[tile.scene]), round(float(1 - there.mean()), 4),
            tuple(round(float(n) / mask.size, 4) for n in found), None, tuple(tile.grid.corners),
        ))  # fmt: skip
        self.counts.append(found)
        self.places.append((tile.scene, tile.window.row, tile.window.col))
        self.index += 1

    def _before(self) -> np.ndarray:
        """Read the chips that are there already: their labels are counted, their pixels enter the statistics."""
        counts = []
        for chip in self.old.chips:
            self.progress(1, "")
            counts.append(self._found(self.target.mask_of(self.existing, chip)))
            for sketch, plane, ok in zip(self.sketches, *self.existing.image(chip)):
                sketch.update(plane[ok])
        return np.array(counts)

    def _manifest(self) -> Manifest:
        opened, config = self.opened, self.config
        sources = tuple(
            {
                "name": os.path.basename(path), "hash": catalogue.fingerprint(path), "crs": s.grid.crs, "epsg": catalogue.epsg(s.grid),
                **self.target.source(s),
            }
            for path, s in zip(self.scenes, opened)
        )  # fmt: skip
        made = Manifest(
            **self.target.told(opened), tile_size=config.tile_size, chips=tuple(self.chips), stride=config.stride, pixel_size=opened[0].grid.pixel_size,
            pixel_size_m=opened[0].grid.pixel_size_m, image_format=config.image_format, sources=sources, settings=config.to_json(), seed=config.seed,
            statistics=tuple(s.summary() for s in self.sketches),
        )  # fmt: skip
        if self.old is None:
            return made
        return replace(
            self.old, chips=(*self.old.chips, *made.chips), sources=(*self.old.sources, *made.sources), statistics=made.statistics,
            settings=made.settings, seed=made.seed,
        )  # fmt: skip


def _marked(target: targets.Target, grid: Grid, area: Optional[Area]) -> tuple:
    """The target's mask, inside the area of interest, and its content."""
    mask, content = target.read(grid)
    return (mask if area is None else np.where(area.on(grid), mask, 0).astype(mask.dtype)), content


def _starts(length: int, config: ChipsConfig) -> list[int]:
    """First pixels of the tiles along one axis; the last one is shifted back so that it ends at the border."""
    if length <= config.tile_size:
        return [0]
    return [*range(0, length - config.tile_size, config.stride), length - config.tile_size]


def _turns(config: ChipsConfig) -> list[float]:
    return [float(a) for a in np.arange(0, 360, config.rotation)] if config.rotation else [0.0]


def _count(grid: Grid, config: ChipsConfig) -> int:
    return len(_starts(grid.height, config)) * len(_starts(grid.width, config)) * len(_turns(config))


def _tiles(scene: int, grid: Grid, config: ChipsConfig) -> Iterator[_Tile]:
    for row in _starts(grid.height, config):
        for col in _starts(grid.width, config):
            window = Window(col, row, config.tile_size, config.tile_size)
            for angle in _turns(config):
                yield _Tile(scene, grid.part(window).rotated(angle) if angle else grid.part(window), window, angle)


def _pixels(scene, tile: _Tile) -> tuple[np.ndarray, np.ndarray]:
    """A tile's pixels; where it hangs over the raster's border there is nodata."""
    if tile.rotation:
        return scene.read_on(tile.grid)
    inside = tile.window.inside(scene.grid.width, scene.grid.height)
    pixels, valid = scene.read(inside)
    pad = ((0, 0), (0, tile.window.height - inside.height), (0, tile.window.width - inside.width))
    return np.pad(pixels, pad), np.pad(valid, pad)


def _alike(opened: list, existing: Optional[ChipSet], config: ChipsConfig) -> None:
    names = [len(s.bands) for s in opened] + ([len(existing.manifest.bands)] if existing else [])
    if len(set(names)) > 1:
        raise GridMismatchError(
            f"The scenes have different numbers of bands ({', '.join(map(str, names))}).",
            "Choose the same bands of each with the bands field.",
        )
    sizes = [s.grid.pixel_size_m for s in opened] + ([existing.manifest.pixel_size_m] if existing else [])
    known = [s for s in sizes if s]
    if known and max(known) > 1.2 * min(known):
        raise GridMismatchError(
            f"The scenes' pixels differ: {min(known):.3g} m and {max(known):.3g} m.", "Resample them to one pixel size first."
        )
    if existing and existing.manifest.tile_size != config.tile_size:
        raise ConfigError(
            f"The folder's chips are {existing.manifest.tile_size} px, the tile size is {config.tile_size} px.",
            "Append with the same tile size.",
        )
    if config.image_format != "TIFF":
        for scene in opened:
            if len(scene.bands) != 3 or scene.dtype != np.uint8:
                raise ConfigError(
                    f"{config.image_format} takes three 8-bit bands, not {len(scene.bands)} of {scene.dtype}.",
                    "Choose TIFF, or three bands.",
                )


def _doubts(opened: list, scenes: Sequence[str], existing: Optional[ChipSet]) -> list[str]:
    """Warnings: bands that call themselves masks, or that differ and should mean the same."""
    first = [(b["name"], b["dtype"]) for b in existing.manifest.bands] if existing else [(b.name, b.dtype) for b in opened[0].bands]
    lines = [line for scene in opened for line in scene.doubts()]
    for path, scene in zip(scenes, opened):
        here = [(b.name, b.dtype) for b in scene.bands]
        if here != first:
            told = (", ".join(f"{name} {dtype}" for name, dtype in bands) for bands in (here, first))
            lines.append(
                "Warning: the bands of {} are {}; those before are {}. They must mean the same, in the same units.".format(
                    os.path.basename(path), *told
                )
            )
    return lines
