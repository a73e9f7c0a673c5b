"""The chips folder as a place on disk: it appears whole or not at all; and `chips.gpkg`, its catalogue of tiles to look at."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import Optional

from osgeo import gdal, ogr, osr

from .chips import MANIFEST, REPLACING, ChipSet, Manifest, read_manifest
from .errors import ChipsError, OutputError, WaterError
from .raster import Grid, spatial_reference

_OURS = (
    "images", "labels", "map.txt", "stats.txt", "esri_accumulated_stats.json", "esri_model_definition.emd", MANIFEST, MANIFEST + REPLACING,
    "chips.gpkg", "chips.gpkg-wal", "chips.gpkg-shm",
)  # fmt: skip
_CATALOGUE = "chips.gpkg"


def existing(folder: str, append: bool, task: str) -> Optional[ChipSet]:
    """The chips (of `task`) to append to; None for a folder to make or to replace. Raises `OutputError` where that can't or must not be done."""
    parent = os.path.dirname(os.path.abspath(folder))
    if not os.path.isdir(parent):
        raise OutputError(f"The folder {parent} does not exist.", "Create it, or choose another one.")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"Nothing can be written to {parent}.", "Choose a folder that is yours, on a disk that is not read-only.")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder} is a file.", "Choose the name of a folder.")
    if not os.path.isdir(folder) or not os.listdir(folder):
        return None
    _free(os.path.join(folder, _CATALOGUE))
    manifest = os.path.join(folder, MANIFEST)
    if append:
        chips = ChipSet(folder)
        if not os.path.exists(manifest):
            raise ChipsError(
                f"The chips in {folder} were made by another program.",
                "Export into a new folder; only a chips folder of Water DL can be appended to.",
            )
        if chips.manifest.task != task:
            raise ChipsError(f"The chips in {folder} are for the task {chips.manifest.task[:40]!r}.", "Choose another folder.")
        return chips
    if os.path.exists(manifest + REPLACING):  # an export into it was interrupted
        return None
    if not os.path.exists(manifest):
        raise OutputError(f"The folder {folder} holds other files.", "Choose a new folder; only a chips folder of Water DL is replaced.")
    try:
        read_manifest(folder)
    except ChipsError as error:
        raise OutputError(
            f"The folder {folder} is not replaced: its {MANIFEST} is not one of ours. {error.message}",
            "Delete the folder if it is of no use, or choose a new one.",
        ) from None
    return None


def _free(path: str) -> None:
    """Raise `OutputError` while another program holds the file: Windows would refuse to replace it only after all the work."""
    try:
        os.rename(path, path)
    except FileNotFoundError:
        pass
    except OSError:
        raise OutputError(f"{path} is open in QGIS or another program.", "Remove its layers from the project, then run again.") from None


class Folder:
    """Where to write chips, as a context: beside the target, which gets its name at the end; or, appending, into it.

    After an error or Cancel nothing new is left; after a kill a `.partial` folder may be, which the next export removes.
    """

    def __init__(self, folder: str, append: bool):
        self.folder, self._append = folder.rstrip("/" + os.sep) or folder, append
        self.path = self.folder if append else f"{self.folder}.partial"
        self._new: list[str] = []
        if not append and os.path.lexists(self.path) and (not os.path.isdir(self.path) or set(os.listdir(self.path)) - set(_OURS)):
            raise OutputError(f"{self.path} is in the way.", "Rename it, or choose another folder.")

    def new(self, inside: str) -> str:
        """The path to write a file of the folder to."""
        path = os.path.join(self.path, *inside.split("/"))
        self._new.append(path)
        return path

    def keep(self) -> None:
        """The files so far are listed in the manifest: an error from here on leaves them."""
        self._new = []

    def __enter__(self) -> Folder:
        try:
            if not self._append:
                shutil.rmtree(self.path, ignore_errors=True)
            for sub in ("images", "labels"):
                os.makedirs(os.path.join(self.path, sub), exist_ok=True)
        except OSError as error:
            raise self._failed(error) from None
        return self

    def __exit__(self, kind, error, _):
        try:
            if kind is None and not self._append:
                self._move()
        except OSError as problem:  # the new chips are whole: they stay where they are
            raise OutputError(
                f"The chips can't be put into {self.folder}: {problem.strerror or problem}. They are in {self.path}.",
                "Close the folder's files in other programs, then rename that folder yourself.",
            ) from None
        else:
            if not self._append:
                shutil.rmtree(self.path, ignore_errors=True)
        finally:
            for path in self._new if self._append else ():
                with suppress(OSError):
                    os.remove(path)
        if isinstance(error, OSError) and not isinstance(error, WaterError):
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(
            f"The chips can't be written to {self.folder}: {error.strerror or error}.",
            "Choose a folder that exists and is yours, on a disk with space.",
        )

    def _move(self) -> None:
        """Put the finished folder in its place. Of an older chips folder only what is ours goes; while that lasts, a mark stands in it."""
        if os.path.isdir(self.folder) and not os.listdir(self.folder):
            os.rmdir(self.folder)
        if not os.path.isdir(self.folder):
            os.replace(self.path, self.folder)
            return
        manifest = os.path.join(self.folder, MANIFEST)
        if os.path.exists(manifest):
            os.replace(manifest, manifest + REPLACING)
        for name in _OURS:
            path = os.path.join(self.folder, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif os.path.lexists(path) and name != MANIFEST + REPLACING:
                os.remove(path)
        for name in sorted(os.listdir(self.path), key=lambda n: n == MANIFEST):
            os.replace(os.path.join(self.path, name), os.path.join(self.folder, name))
        os.remove(manifest + REPLACING)


def write(folder: str, manifest: Manifest, blocks: Iterable[tuple], first_source: int, further: Optional[dict] = None) -> None:
    """chips.gpkg: one polygon per chip, and the blocks of the split, in the first source's CRS.

    `blocks` are those of the sources from `first_source` on: (scene, corners, crs, split); older blocks stay. `further`: fields of the chips
    beyond the usual ones, a list of texts or numbers each. Raises `OutputError`.
    """
    path = os.path.join(folder, _CATALOGUE)
    partial = os.path.join(folder, ".partial.gpkg")
    gdal.PushErrorHandler("CPLQuietErrorHandler")
    try:
        data = None
        if first_source and os.path.exists(path):
            shutil.copyfile(path, partial)
            data = gdal.OpenEx(partial, gdal.OF_VECTOR | gdal.OF_UPDATE)
        data = data or ogr.GetDriverByName("GPKG").CreateDataSource(partial)
        if data is None:
            raise RuntimeError(gdal.GetLastErrorMsg())
        _fill(data, manifest, blocks, first_source, further or {})
        data = None  # closes
        os.replace(partial, path)
    except (RuntimeError, OSError) as error:
        raise OutputError(
            f"{path} can't be written: {str(error)[:200]}.", "Close it in other programs; is there space on the disk?"
        ) from None
    finally:
        data = None
        gdal.PopErrorHandler()
        for ending in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.remove(partial + ending)


def _fill(data, manifest: Manifest, blocks: Iterable[tuple], first_source: int, further: dict) -> None:
    base = manifest.sources[0]["crs"]
    reference = spatial_reference(base) if base else None
    for i in range(data.GetLayerCount() - 1, -1, -1):
        if data.GetLayer(i).GetName() == "chips":
            data.DeleteLayer(i)
    layer = _layer(data, "chips", reference, [
        ("image", ogr.OFTString), ("split", ogr.OFTString), ("source", ogr.OFTString), ("date", ogr.OFTString), ("rotation", ogr.OFTReal),
        ("nodata", ogr.OFTReal), *((name, ogr.OFTReal) for name in [f"share_{c.name}" for c in manifest.classes] or ["usable"]),
        *((name, ogr.OFTString if any(isinstance(v, str) for v in values) else ogr.OFTReal) for name, values in further.items())])  # fmt: skip
    layer.StartTransaction()
    for chip, *more in zip(manifest.chips, *further.values()):
        source = manifest.sources[chip.source]
        _polygon(
            layer,
            chip.corners,
            source["crs"],
            base,
            [chip.image, chip.split, source["name"], chip.date, chip.rotation, chip.nodata, *chip.shares, *more],
        )
    _ok(layer.CommitTransaction())
    layer = data.GetLayerByName("blocks") or _layer(data, "blocks", reference, [("split", ogr.OFTString), ("source", ogr.OFTString)])
    layer.StartTransaction()
    for scene, corners, crs, which in blocks:
        _polygon(layer, corners, crs, base, [which, manifest.sources[first_source + scene]["name"]])
    _ok(layer.CommitTransaction())


def _layer(data, name: str, reference, fields):
    layer = data.CreateLayer(name, reference, ogr.wkbPolygon)
    if layer is None:
        raise RuntimeError(gdal.GetLastErrorMsg())
    for field, kind in fields:
        _ok(layer.CreateField(ogr.FieldDefn(field, kind)))
    return layer


def _polygon(layer, corners, crs: str, base: str, values) -> None:
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for x, y in (*corners, *corners[:1]):
        ring.AddPoint_2D(x, y)
    polygon = ogr.Geometry(ogr.wkbPolygon)
    polygon.AddGeometry(ring)
    if crs and base and crs != base:
        polygon.Transform(osr.CoordinateTransformation(spatial_reference(crs), spatial_reference(base)))
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometry(polygon)
    for i, value in enumerate(values):
        feature.SetField(i, value)
    _ok(layer.CreateFeature(feature))


def _ok(code) -> None:
    if code:
        raise RuntimeError(gdal.GetLastErrorMsg())


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


def epsg(grid: Grid) -> Optional[int]:
    """The EPSG number of a grid's CRS, if it has one."""
    code = spatial_reference(grid.crs).GetAuthorityCode(None) if grid.crs else None
    return int(code) if code and code.isdecimal() else None
