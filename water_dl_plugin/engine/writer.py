"""Writing rasters: streamed by windows (`Writer`) or a chip in one go (`write_small`); never half-written. Part of the door `raster.py`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Optional

import numpy as np
from osgeo import gdal, gdal_array

from .errors import ConfigError, OutputError
from .grid import Grid
from .windows import Window

TILE = 256


def apart(outputs: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise `ConfigError` where two of the files to write, or one and one to read, are the same, `OutputError` where one can't be written. Empty
    names count as none; a name may end in `|layername=...`."""
    wanted = [p for p in outputs if p]
    read = {os.path.realpath(str(p).split("|")[0]) for p in inputs if p}
    if len({os.path.realpath(p) for p in wanted} - read) < len(wanted):
        raise ConfigError("Two outputs, or an output and an input, are the same file.", "Choose another name.")
    for path in wanted:
        writable(path)


def writable(path: str) -> None:
    """Raise `OutputError` unless a file can be made at this path."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise OutputError(f"The folder {folder} does not exist.", "Create it, or choose another one.")
    probe = f"{path}.{os.getpid()}.probe"
    try:
        open(probe, "wb").close()
        os.remove(probe)
    except OSError as error:
        raise OutputError(
            f"Nothing can be written to {folder}: {error.strerror}.", "Choose a folder that is yours, on a disk with space."
        ) from None
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder.", "Choose a file name.")
    if os.path.isfile(path):
        try:
            os.rename(path, path)  # fails on Windows while another program holds the file: better now than after the work
        except OSError:
            raise OutputError(
                f"{path} is open in QGIS or another program.", "Remove its layer from the project, or choose another name."
            ) from None


class Writer:
    """A GeoTIFF written by windows: tiled, compressed, BIGTIFF when needed, with overviews. Used as a context.

    GDAL gets whole tiles only, each once. Part of a tile would make it read the tile again, and that loses pixels when another
    thread (ours that reads ahead, QGIS' that draws) has just pushed the tile out of GDAL's common block cache.

    Written to `PATH.partial` and renamed when the context ends well; after an error, a cancel or a kill there is no file
    at PATH (and an older one is as it was).

    `categories` are the names of the values 0, 1, ...; `colours` maps value -> (r, g, b); `metadata` is text by key;
    `unit` that of the values.
    """

    def __init__(
        self, path: str, grid: Grid, count: int, dtype, nodata=None, *, names: Sequence[str] = (), categories: Sequence[str] = (),
        colours: Optional[dict] = None, metadata: Optional[dict] = None, compression: str = "DEFLATE", description: str = "",
        overviews: bool = True, unit: str = "",
    ):  # fmt: skip
        self.path, self.partial, self._dataset = str(path), f"{path}.partial", None
        if os.path.splitext(self.path)[1].lower() not in (".tif", ".tiff"):
            raise OutputError(f"{self.path} is not a GeoTIFF name.", "Let the name end in .tif.")
        writable(self.path)
        self._discard()  # what a killed run left
        self.grid, dtype = grid, np.dtype(dtype)
        self._dtype, self._fill, self._unfinished = dtype, 0 if nodata is None else nodata, {}
        self._discrete, self._named = bool(categories) or dtype.kind in "iu", bool(categories)
        self._overviews = overviews
        try:
            with _checked(self.path):
                self._dataset = gdal.GetDriverByName("GTiff").Create(
                    self.partial,
                    grid.width,
                    grid.height,
                    count,
                    gdal_array.NumericTypeCodeToGDALTypeCode(dtype.type),
                    _options(dtype, compression, count),
                )
                if self._dataset is None:
                    raise RuntimeError(gdal.GetLastErrorMsg())
                self._describe(nodata, names, categories, colours or {}, metadata or {}, description, unit)
        except BaseException:
            self._discard()
            raise

    def _describe(self, nodata, names, categories, colours, metadata, description, unit) -> None:
        if self.grid.georeferenced:
            self._dataset.SetGeoTransform(self.grid.transform)
            self._dataset.SetProjection(self.grid.crs)
        for key, text in metadata.items():
            self._dataset.SetMetadataItem(key, str(text))
        if description:
            self._dataset.SetMetadataItem("TIFFTAG_IMAGEDESCRIPTION", description)
        for i in range(self._dataset.RasterCount):
            band = self._dataset.GetRasterBand(i + 1)
            if nodata is not None:
                band.SetNoDataValue(float(nodata))
            if i < len(names):
                band.SetDescription(names[i])
            if unit:
                band.SetUnitType(unit)
        band = self._dataset.GetRasterBand(1)
        if colours:
            table = gdal.ColorTable()
            for value, colour in colours.items():
                table.SetColorEntry(int(value), (*colour, 255))
            band.SetColorTable(table)
        if categories:
            band.SetCategoryNames(list(categories))

    def write(self, window: Window, array: np.ndarray) -> None:
        """Write `(bands, rows, cols)` at the window's place; every pixel once, in any order."""
        array = array if array.ndim == 3 else array[None]
        for row in range(window.row // TILE, -(-(window.row + window.height) // TILE)):
            for col in range(window.col // TILE, -(-(window.col + window.width) // TILE)):
                tile = Window(col * TILE, row * TILE, TILE, TILE).inside(self.grid.width, self.grid.height)
                part = tile.shifted(-window.col, -window.row).inside(window.width, window.height)
                pixels = array[(slice(None), *part.slices)]
                if pixels.shape[1:] == (tile.height, tile.width):
                    self._put(tile, pixels)
                else:
                    self._gather(tile, part.shifted(window.col - tile.col, window.row - tile.row), pixels)
        with _checked(self.path):  # by this thread and now: so a full disk is heard of here
            for i in range(self._dataset.RasterCount):
                self._dataset.GetRasterBand(i + 1).FlushCache()

    def _gather(self, tile: Window, part: Window, pixels: np.ndarray) -> None:
        """Keep an unfinished tile until its last pixel comes."""
        if tile not in self._unfinished:
            shape = (tile.height, tile.width)
            self._unfinished[tile] = np.full((len(pixels), *shape), self._fill, self._dtype), np.zeros(shape, bool)
        kept, there = self._unfinished[tile]
        kept[(slice(None), *part.slices)], there[part.slices] = pixels, True
        if there.all():
            del self._unfinished[tile]
            self._put(tile, kept)

    def _put(self, tile: Window, pixels: np.ndarray) -> None:
        with _checked(self.path):
            for i, plane in enumerate(pixels):  # contiguous: GDAL misreads a stride of 0
                self._dataset.GetRasterBand(i + 1).WriteArray(np.ascontiguousarray(plane), tile.col, tile.row)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            try:
                self._finish()
                return
            except BaseException:
                self._discard()
                raise
        self._discard()

    def _finish(self) -> None:
        for tile, (pixels, _) in self._unfinished.items():
            self._put(tile, pixels)
        self._unfinished = {}
        with _checked(self.path):
            self._dataset.FlushCache()
            levels = [2**k for k in range(1, 16) if max(self.grid.width, self.grid.height) / 2**k >= 256]
            if levels and self._overviews:
                self._dataset.BuildOverviews("NEAREST" if self._discrete else "AVERAGE", levels)
                self._dataset.FlushCache()
        with _checked(self.path):
            self._dataset = None  # closes; a full disk may show only now
        if self._named and not _complete(self.partial + ".aux.xml"):  # GDAL only warns when the names of classes can't be written
            raise OutputError(f"The class names of {self.path} can't be written.", "Is the disk full?")
        try:
            for suffix in (".aux.xml", ""):  # the raster last: when it is there, all is there
                if os.path.exists(self.partial + suffix):
                    os.replace(self.partial + suffix, self.path + suffix)
                elif suffix and os.path.exists(self.path + suffix):
                    os.remove(self.path + suffix)
            for suffix in (".ovr", ".msk"):  # of an older file
                if os.path.exists(self.path + suffix):
                    os.remove(self.path + suffix)
        except OSError as error:
            raise OutputError(
                f"{self.path} can't be replaced: {error.strerror}.", "Close the layer in QGIS and other programs, or choose another name."
            ) from None

    def _discard(self) -> None:
        gdal.PushErrorHandler("CPLQuietErrorHandler")  # closing writes; on a full disk it fails once more
        self._dataset = None
        gdal.PopErrorHandler()
        for suffix in ("", ".aux.xml"):
            with contextlib.suppress(OSError):  # the error that matters is already on its way; a .partial never looks finished
                os.remove(self.partial + suffix)


def _complete(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read().rstrip().endswith(b"</PAMDataset>")
    except OSError:
        return False


def _options(dtype: np.dtype, compression: str, count: int = 1) -> list[str]:
    """Creation options of GDAL's GTiff driver. IF_SAFER takes BigTIFF where the pixels, uncompressed, exceed 2 GB."""
    options = [
        "TILED=YES",
        f"BLOCKXSIZE={TILE}",
        f"BLOCKYSIZE={TILE}",
        "INTERLEAVE=BAND",
        "BIGTIFF=IF_SAFER",
        "SPARSE_OK=TRUE",
        f"COMPRESS={compression}",
    ]
    if compression in ("DEFLATE", "LZW", "ZSTD"):
        options.append(f"PREDICTOR={3 if dtype.kind == 'f' else 2}")
    if count > 1:
        options += ["PHOTOMETRIC=MINISBLACK", "ALPHA=NO"]  # four bytes are not colours with alpha
    else:  # with several bands GDAL 3.6's threads report errors by the thousand while overviews are made, about nothing
        options.append("NUM_THREADS=2")
    return options + _signed(dtype)


def _signed(dtype: np.dtype) -> list[str]:
    return ["PIXELTYPE=SIGNEDBYTE"] if dtype == np.int8 and gdal.VersionInfo() < "3070000" else []


class _checked:
    """Turns what GDAL says while writing into `OutputError`, whether or not GDAL's exceptions are switched on."""

    def __init__(self, path: str):
        self.path = path

    def __enter__(self):
        gdal.ErrorReset()

    def __exit__(self, kind, error, trace):
        message = str(error) if kind is RuntimeError else gdal.GetLastErrorMsg() if gdal.GetLastErrorType() >= gdal.CE_Failure else ""
        if message and kind in (None, RuntimeError):
            gdal.ErrorReset()
            if error is not None:
                error.__traceback__ = None  # its frames would keep the dataset open, and what is open can't be cleaned up
                del trace
            raise OutputError(f"{self.path} can't be written: {message[:300]}.", "Is the disk full, or the folder read-only?") from None
        return False


def write_small(
    path: str, pixels: np.ndarray, grid: Grid, valid: Optional[np.ndarray] = None, driver: str = "GTiff", names: Sequence[str] = (),
    nodata: Optional[float] = None,
) -> None:  # fmt: skip
    """Write a chip `(bands, rows, cols)` in one go; `valid` (rows, cols) becomes its mask where it has holes (GeoTIFF only). With `nodata`
    that value is written there instead, and each band may have holes of its own: `valid` of the pixels' shape."""
    if nodata is not None and valid is not None:
        pixels, valid = np.where(valid, pixels, pixels.dtype.type(nodata)), None
    kind = gdal_array.NumericTypeCodeToGDALTypeCode(pixels.dtype.type)
    memory = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, len(pixels), kind, _signed(pixels.dtype))
    if grid.georeferenced:
        memory.SetGeoTransform(grid.transform)
        memory.SetProjection(grid.crs)
    for i, plane in enumerate(pixels):
        memory.GetRasterBand(i + 1).WriteArray(np.ascontiguousarray(plane))
        if nodata is not None:
            memory.GetRasterBand(i + 1).SetNoDataValue(nodata)
        if i < len(names):
            memory.GetRasterBand(i + 1).SetDescription(names[i])
    if valid is not None and not valid.all():
        memory.CreateMaskBand(gdal.GMF_PER_DATASET)
        memory.GetRasterBand(1).GetMaskBand().WriteArray(np.where(valid, 255, 0).astype(np.uint8))
    options = {
        "GTiff": ["COMPRESS=DEFLATE", "PREDICTOR=2" if pixels.dtype.kind in "iu" else "PREDICTOR=3"],
        "PNG": ["WORLDFILE=YES"],
        "JPEG": ["WORLDFILE=YES", "QUALITY=95"],
    }
    try:
        with _checked(path), _internal_mask():
            copy = gdal.GetDriverByName(driver).CreateCopy(
                path, memory, options=options[driver] + (_signed(pixels.dtype) if driver == "GTiff" else [])
            )
            if copy is not None:
                copy.FlushCache()
            copy = None
    except OutputError:
        with contextlib.suppress(OSError):  # half a chip is no chip
            os.remove(path)
        raise


class _internal_mask:
    """GDAL before 3.9 writes a mask into a file of its own unless told otherwise."""

    def __enter__(self):
        self.before = gdal.GetConfigOption("GDAL_TIFF_INTERNAL_MASK")
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")

    def __exit__(self, *_):
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", self.before)
