"""Scenes and labels -> chips folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Optional, Sequence

import numpy as np
from osgeo import gdal, ogr, osr

from . import arcgis, split
from .chips import MANIFEST, SPLITS, Chip, ChipSet, Manifest, write_manifest
from .errors import ChipsError, ConfigError, GridMismatchError, LabelError, OutputError
from .labels import Area, choose_classes, open_labels
from .normalise import Sketch
from .progress import Progress, part, silent
from .raster import Grid, Stack, spatial_reference, write_small
from .settings import ChipsConfig
from .windows import Window, blocks

_OURS = ("images", "labels", "map.txt", "stats.txt", "esri_accumulated_stats.json", "esri_model_definition.emd", MANIFEST, "chips.gpkg")
_FORMATS = {"TIFF": ("GTiff", ".tif"), "PNG": ("PNG", ".png"), "JPEG": ("JPEG", ".jpg")}


@dataclass(frozen=True)
class _Tile:
    scene: int
    grid: Grid
    window: Window
    rotation: float


def export(
    scenes: Sequence[str], labels: str, folder: str, config: ChipsConfig, *, stack: Sequence[str] = (), area: str = "", progress: Progress = silent
) -> Manifest:  # fmt: skip
    """Cut chips out of `scenes` (each with the further rasters of `stack` on its grid) where `labels` are, into `folder`.

    Returns the manifest. Raises `LabelError` where labels and scenes do not meet, `ChipsError` when no chip is left.
    What is written lies beside the folder until it is complete.
    """
    if not scenes:
        raise ConfigError("No scene was chosen.", "Choose at least one raster.")
    if config.stride > config.tile_size:
        raise ConfigError(f"The stride ({config.stride} px) is larger than the tile ({config.tile_size} px): pixels between would be lost.", "Choose a stride of at most the tile size.")
    if config.validation_share + config.test_share >= 1:
        raise ConfigError("Nothing is left to train with.", "Validation and test share together must stay below 1.")
    existing = _existing(folder, config)
    target = open_labels(labels, config.class_field, config.buffer)
    background = config.unlabelled == "background"
    target.use(choose_classes(target, config.classes, background, existing.manifest.classes if existing else ()), background)
    with ExitStack() as open_files:
        opened = [open_files.enter_context(Stack(path, stack, config.bands)) for path in scenes]
        _alike(opened, existing, config)
        areas = [Area(area, s.grid) if area else None for s in opened]
        if not any(target.touches(s.grid) for s in opened):
            raise LabelError("The labels lie outside the raster.", "Check the CRS of both: one of them may be assigned wrongly.")
        shares = _Split(opened, target, areas, config, part(progress, 0, 0.15))
        return _write(opened, target, areas, shares, folder, existing, config, scenes, part(progress, 0.15, 1))


class _Split:
    """Says for a chip which split it belongs to, and which of its labels it may keep."""

    def __init__(self, opened: list[Stack], target, areas, config: ChipsConfig, progress: Progress):
        self.by, self._opened = config.split, opened
        wanted = (config.validation_share, config.test_share)
        self._sizes = [config.block_size or max(-(-max(s.grid.width, s.grid.height) // 8), 64) for s in opened]
        counts, self._maps, first = [], [], 0
        for i, scene in enumerate(opened):
            grid, size = scene.grid, self._sizes[i]
            here = []
            for window in blocks(grid.width, grid.height, size):
                labels = _labels(target, grid.part(window), areas[i])
                here.append(np.bincount(labels.ravel(), minlength=len(target.classes) + 1)[1:])
                progress((i + window.row / grid.height) / len(opened), "")
            shape = (-(-grid.height // size), -(-grid.width // size))
            counts.append(np.array(here))
            self._maps.append(np.arange(first, first + len(here)).reshape(shape))
            first += len(here)
        labelled = np.concatenate(counts)
        if labelled.sum() == 0:
            raise LabelError("No labelled pixel lies on the raster.", "Check the labels' place, CRS, class field and the area of interest.")
        absent = [c.name for c, n in zip(target.classes, labelled.sum(axis=0)) if n == 0]
        if absent:
            progress(1, f"Warning: there is no label of class {', '.join(absent)} on these scenes.")
        if self.by == "source":
            chosen = split.choose(np.array([c.sum(axis=0) for c in counts]), wanted, config.seed)
            self._of = np.repeat(chosen, [len(c) for c in counts])
        else:
            self._of = split.choose(labelled, wanted, config.seed)
        if self.by != "random" and config.validation_share and not (self._of == split.VALIDATION).any():
            progress(1, f"Warning: there are too few {'blocks with labels' if self.by == 'blocks' else 'scenes'} to set any apart for validation. Choose a smaller block size, or another split.")
        self._wanted, self._seed = wanted, config.seed

    def map(self, scene: int) -> tuple[np.ndarray, int]:
        """Split number of each block `(block rows, block cols)` of a scene, and the block's side in px."""
        return self._of[self._maps[scene]], self._sizes[scene]

    def keep(self, tile: _Tile, labels: np.ndarray) -> tuple[int, np.ndarray]:
        """The chip's split (that of its centre's block), and its labels without those that belong to another one."""
        if self.by == "random":
            return split.TRAIN, labels
        grid, size = self._opened[tile.scene].grid, self._sizes[tile.scene]
        col, row = np.meshgrid(np.arange(labels.shape[1]) + 0.5, np.arange(labels.shape[0]) + 0.5)
        x, y = tile.grid.to_map(col, row)
        t = gdal.InvGeoTransform(grid.transform)
        blocks_here = self._maps[tile.scene]
        i = np.clip((t[3] + x * t[4] + y * t[5]) // size, 0, blocks_here.shape[0] - 1).astype(int)
        j = np.clip((t[0] + x * t[1] + y * t[2]) // size, 0, blocks_here.shape[1] - 1).astype(int)
        which = self._of[blocks_here[i, j]]
        centre = int(which[labels.shape[0] // 2, labels.shape[1] // 2])
        return centre, np.where(which == centre, labels, 0).astype(labels.dtype)

    def by_chance(self, chips: list[Chip]) -> list[Chip]:
        """For `random`: turned copies of one tile stay together."""
        if self.by != "random":
            return chips
        places = sorted({(c.source, c.corners[0] if c.rotation == 0 else c.corners[4]) for c in chips})
        of = dict(zip(places, split.by_chance(len(places), self._wanted, self._seed)))
        return [replace(c, split=SPLITS[of[(c.source, c.corners[0] if c.rotation == 0 else c.corners[4])]]) for c in chips]


def _labels(target, grid: Grid, area: Optional[Area]) -> np.ndarray:
    labels = target.read(grid)
    return labels if area is None else np.where(area.on(grid), labels, 0).astype(labels.dtype)


def _tiles(scene: int, grid: Grid, config: ChipsConfig):
    size = config.tile_size
    turns = [0.0] if not config.rotation else list(np.arange(0, 360, config.rotation))

    def starts(length: int) -> list[int]:
        if length <= size:
            return [0]
        return [*range(0, length - size, config.stride), length - size]

    for row in starts(grid.height):
        for col in starts(grid.width):
            window = Window(col, row, size, size)
            for angle in turns:
                yield _Tile(scene, grid.part(window).rotated(float(angle)) if angle else grid.part(window), window, float(angle))


def _write(opened, target, areas, shares: _Split, folder, existing, config: ChipsConfig, scenes, progress: Progress) -> Manifest:
    driver, suffix = _FORMATS[config.image_format]
    work = folder if existing else f"{folder.rstrip('/' + os.sep)}.partial"
    index = config.start_index
    if existing:
        index = max([index, *(int(re.findall(r"\d+", os.path.basename(c.image))[-1]) + 1 for c in existing.manifest.chips)])
    first_source = len(existing.manifest.sources) if existing else 0
    sketches = [Sketch() for _ in opened[0].bands]
    chips, counts, dropped = [], [], {"labels": 0, "nodata": 0}
    try:
        if not existing:
            shutil.rmtree(work, ignore_errors=True)
        for sub in ("images", "labels"):
            os.makedirs(os.path.join(work, sub), exist_ok=True)
        tiles = [t for i, s in enumerate(opened) for t in _tiles(i, s.grid, config)]
        for number, tile in enumerate(tiles):
            progress(number / len(tiles), "")
            labels = _labels(target, tile.grid, areas[tile.scene])
            where, labels = shares.keep(tile, labels)
            found = np.bincount(labels.ravel(), minlength=len(target.classes) + 1)[1:]
            only_background = config.unlabelled == "background" and found[1:].sum() == 0
            if found.sum() == 0 or (config.only_with_labels and (only_background or found.sum() < config.min_labelled / 100 * labels.size)):
                dropped["labels"] += 1
                continue
            pixels, valid = _pixels(opened[tile.scene], tile)
            holes = 1 - valid.all(axis=0).mean()
            if holes > config.max_nodata / 100 or (holes > 0 and driver != "GTiff"):
                dropped["nodata"] += 1
                continue
            labels[~valid.all(axis=0)] = 0
            found = np.bincount(labels.ravel(), minlength=len(target.classes) + 1)[1:]
            if found.sum() == 0:
                dropped["labels"] += 1
                continue
            name = f"{index:09d}"
            write_small(os.path.join(work, "images", name + suffix), pixels, tile.grid, valid.all(axis=0), driver, [b.name for b in opened[0].bands])
            write_small(os.path.join(work, "labels", name + ".tif"), labels[None], tile.grid)
            if where == split.TRAIN:
                for sketch, plane, ok in zip(sketches, pixels, valid):
                    sketch.update(plane[ok])
            corners = tuple(tile.grid.corners) + (opened[tile.scene].grid.part(tile.window).corners[0],)
            chips.append(Chip(
                f"images/{name}{suffix}", f"labels/{name}.tif", SPLITS[where], first_source + tile.scene, tile.rotation,
                date_in(scenes[tile.scene]), round(float(holes), 4), tuple(round(float(n) / labels.size, 4) for n in found), None, corners,
            ))  # fmt: skip
            counts.append(found)
            index += 1
        if not chips:
            raise ChipsError(
                f"No chip is left: {dropped['labels']} tiles have too few labels, {dropped['nodata']} too much nodata.",
                "Lower the minimum labelled share or the tile size, or raise the maximum nodata share.",
            )
        chips = [replace(c, corners=c.corners[:4]) for c in shares.by_chance(chips)]
        manifest = _manifest(opened, target, chips, config, scenes, sketches, existing)
        counts = np.array(counts)
        if existing:
            before = np.array([np.bincount(existing.label(c).ravel(), minlength=len(target.classes) + 1)[1:] for c in existing.manifest.chips])
            counts = np.concatenate([before, counts])
        arcgis.write(work, manifest, counts)
        _footprints(os.path.join(work, "chips.gpkg"), manifest, opened, shares, first_source, bool(existing))
        write_manifest(work, manifest)
        if not existing:
            _move(work, folder)
    except OSError as error:
        raise OutputError(f"The chips can't be written: {error.strerror or error}.", "Choose a folder that exists and is yours, on a disk with space.") from None
    finally:
        if not existing:
            shutil.rmtree(work, ignore_errors=True)
    kinds = ", ".join(f"{sum(c.split == s for c in chips)} {s}" for s in SPLITS)
    progress(1, f"{len(chips)} chips ({kinds}); left out: {dropped['labels']} with too few labels, {dropped['nodata']} with too much nodata.")
    return manifest


def _pixels(scene: Stack, tile: _Tile) -> tuple[np.ndarray, np.ndarray]:
    """A tile's pixels; where it hangs over the raster's border there is nodata."""
    if tile.rotation:
        return scene.read_on(tile.grid)
    inside = tile.window.inside(scene.grid.width, scene.grid.height)
    pixels, valid = scene.read(inside)
    pad = ((0, 0), (0, tile.window.height - inside.height), (0, tile.window.width - inside.width))
    return np.pad(pixels, pad), np.pad(valid, pad)


def _manifest(opened, target, chips, config: ChipsConfig, scenes, sketches, existing) -> Manifest:
    sources = tuple(
        {"name": os.path.basename(path), "hash": fingerprint(path), "crs": s.grid.crs, "epsg": _epsg(s.grid.crs)} for path, s in zip(scenes, opened)
    )
    made = Manifest(
        task="segmentation", bands=tuple({"name": b.name, "unit": b.unit, "dtype": b.dtype, "nodata": _plain(b.nodata)} for b in opened[0].bands),
        classes=target.classes, tile_size=config.tile_size, chips=tuple(chips), stride=config.stride, pixel_size=opened[0].grid.pixel_size,
        pixel_size_m=opened[0].grid.pixel_size_m, image_format=config.image_format, sources=sources, settings=config.to_json(), seed=config.seed,
        statistics=tuple(
            {"min": s.low, "max": s.high, "mean": s.mean, "std": s.std, **{f"p{p}": float(v) for p, v in zip((1, 50, 99), s.quantiles([0.01, 0.5, 0.99]))}}
            if s.number else {"min": 0.0, "max": 0.0, "mean": 0.0, "std": 0.0} for s in sketches
        ),
    )  # fmt: skip
    if not existing:
        return made
    old = existing.manifest
    return replace(made, chips=(*old.chips, *made.chips), sources=(*old.sources, *made.sources), statistics=old.statistics)


def _existing(folder: str, config: ChipsConfig) -> Optional[ChipSet]:
    parent = os.path.dirname(os.path.abspath(folder))
    if not os.path.isdir(parent):
        raise OutputError(f"The folder {parent} does not exist.", "Create it, or choose another one.")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"Nothing can be written to {parent}.", "Choose a folder that is yours.")
    if not os.path.isdir(folder) or not os.listdir(folder):
        return None
    if config.append:
        return ChipSet(folder)
    if not os.path.exists(os.path.join(folder, MANIFEST)):
        raise OutputError(f"The folder {folder} holds other files.", "Choose a new folder; only a chips folder of Water DL is replaced.")
    return None


def _alike(opened: list[Stack], existing: Optional[ChipSet], config: ChipsConfig) -> None:
    names = [len(s.bands) for s in opened] + ([len(existing.manifest.bands)] if existing else [])
    if len(set(names)) > 1:
        raise GridMismatchError(f"The scenes have different numbers of bands ({', '.join(map(str, names))}).", "Choose the same bands of each with the bands field.")
    sizes = [s.grid.pixel_size_m for s in opened] + ([existing.manifest.pixel_size_m] if existing else [])
    known = [s for s in sizes if s]
    if known and max(known) > 1.2 * min(known):
        raise GridMismatchError(f"The scenes' pixels differ: {min(known):.3g} m and {max(known):.3g} m.", "Resample them to one pixel size first.")
    if existing and existing.manifest.tile_size != config.tile_size:
        raise ConfigError(f"The folder's chips are {existing.manifest.tile_size} px, the tile size is {config.tile_size} px.", "Append with the same tile size.")
    if config.image_format != "TIFF":
        for scene in opened:
            if len(scene.bands) != 3 or scene.dtype != np.uint8:
                raise ConfigError(f"{config.image_format} takes three 8-bit bands, not {len(scene.bands)} of {scene.dtype}.", "Choose TIFF, or three bands.")


def _move(work: str, folder: str) -> None:
    """Put the finished folder in its place; of an older chips folder only what is ours goes."""
    if os.path.isdir(folder):
        for name in _OURS:
            path = os.path.join(folder, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
        for name in sorted(os.listdir(work), key=lambda n: n == MANIFEST):  # the manifest last: it says "complete"
            os.replace(os.path.join(work, name), os.path.join(folder, name))
    else:
        os.replace(work, folder)


def _footprints(path: str, manifest: Manifest, opened, shares: _Split, first_source: int, append: bool) -> None:
    """chips.gpkg: one polygon per chip, and the blocks of the split, in the first scene's CRS. A catalogue to look at."""
    keep = "" if not append or not os.path.exists(path) else path
    data = gdal.OpenEx(path, gdal.OF_VECTOR | gdal.OF_UPDATE) if keep else ogr.GetDriverByName("GPKG").CreateDataSource(path)
    if data is None:
        raise OutputError(f"{path} can't be written.", "Close it in other programs.")
    base = manifest.sources[0]["crs"]
    reference = spatial_reference(base) if base else None
    layer = data.GetLayerByName("chips") or _layer(data, "chips", reference, [
        ("image", ogr.OFTString), ("split", ogr.OFTString), ("source", ogr.OFTString), ("date", ogr.OFTString), ("rotation", ogr.OFTReal),
        ("nodata", ogr.OFTReal), *((f"share_{c.name}", ogr.OFTReal) for c in manifest.classes)])  # fmt: skip
    layer.StartTransaction()
    for chip in manifest.chips:
        if chip.source >= first_source:
            _polygon(layer, chip.corners, manifest.sources[chip.source]["crs"], base, [
                chip.image, chip.split, manifest.sources[chip.source]["name"], chip.date, chip.rotation, chip.nodata, *chip.shares])  # fmt: skip
    layer.CommitTransaction()
    layer = data.GetLayerByName("blocks") or _layer(data, "blocks", reference, [("split", ogr.OFTString), ("source", ogr.OFTString)])
    for i, scene in enumerate(opened if shares.by == "blocks" else []):
        of, size = shares.map(i)
        for (row, col), which in np.ndenumerate(of):
            window = Window(col * size, row * size, size, size).inside(scene.grid.width, scene.grid.height)
            _polygon(layer, scene.grid.part(window).corners, scene.grid.crs, base, [SPLITS[which], manifest.sources[first_source + i]["name"]])


def _layer(data, name: str, reference, fields):
    layer = data.CreateLayer(name, reference, ogr.wkbPolygon)
    for field, kind in fields:
        layer.CreateField(ogr.FieldDefn(field, kind))
    return layer


def _polygon(layer, corners, crs: str, base: str, values) -> None:
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for x, y in (*corners, corners[0]):
        ring.AddPoint_2D(x, y)
    polygon = ogr.Geometry(ogr.wkbPolygon)
    polygon.AddGeometry(ring)
    if crs and base and crs != base:
        polygon.Transform(osr.CoordinateTransformation(spatial_reference(crs), spatial_reference(base)))
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometry(polygon)
    for i, value in enumerate(values):
        feature.SetField(i, value)
    layer.CreateFeature(feature)


def date_in(path: str) -> str:
    """An ISO date out of a file name (20200831, 2020-08-31, 2020_08_31), or ""."""
    found = re.search(r"(?<!\d)(19[7-9]\d|20[0-4]\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)", os.path.basename(path))
    return "-".join(found.groups()) if found else ""


def fingerprint(path: str) -> str:
    """sha256 (16 hex digits) of a source's size, first and last 4 MiB: tells whether it is the same file without reading all of it."""
    if not os.path.isfile(path):
        return ""
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        digest.update(file.read(4 << 20))
        file.seek(max(size - (4 << 20), 0))
        digest.update(file.read())
    return digest.hexdigest()[:16]


def _epsg(crs: str) -> Optional[int]:
    code = spatial_reference(crs).GetAuthorityCode(None) if crs else None
    return int(code) if code and code.isdigit() else None


def _plain(number) -> Optional[float]:
    return None if number is None or not np.isfinite(number) else float(number)
