"""The only door to rasters: windows in, windows out.

The readers are here; `grid.py` says where pixels lie, `writer.py` writes. Other modules take all of it from this one.

GDAL's own Python binding is used, the one that every QGIS brings along, not rasterio: a wheel with a second libgdal inside
the QGIS process breaks warping and PROJ on Linux, and one package less has to be installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Optional

import numpy as np
from osgeo import gdal, gdal_array

from .errors import BandError, GridMismatchError, RasterError
from .grid import Grid, moved, overlap, same_crs, spatial_reference
from .windows import Window
from .writer import Writer, writable, write_small

__all__ = [
    "Band",
    "Grid",
    "Raster",
    "Rasters",
    "Stack",
    "Writer",
    "aligned",
    "overlap",
    "parse_bands",
    "same_crs",
    "small_cache",
    "spatial_reference",
    "writable",
    "write_small",
]

RESAMPLING = {"nearest": gdal.GRA_NearestNeighbour, "bilinear": gdal.GRA_Bilinear, "cubic": gdal.GRA_Cubic, "average": gdal.GRA_Average}


@dataclass(frozen=True)
class Band:
    """What is known of a band: name, unit, numpy dtype name, nodata value or None."""

    name: str
    unit: str
    dtype: str
    nodata: Optional[float]


def parse_bands(text: str, names: Sequence[str]) -> list[int]:
    """Band numbers (from 1) out of "1,2,5-7" or band names. "" means all. Raises `BandError`."""
    if not text.strip():
        return list(range(1, len(names) + 1))
    chosen: list[int] = []
    for token in (t.strip() for t in re.split(r"[,;]", text)):
        span = re.fullmatch(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?", token)
        if token in names:
            chosen.append(list(names).index(token) + 1)
        elif span:
            chosen += range(int(span[1]), int(span[2] or span[1]) + 1)
        elif token:
            raise BandError(
                f"There is no band {token[:40]!r}.", f"The bands are {', '.join(names)}; numbers from 1 to {len(names)} work, too."
            )
    missing = [b for b in chosen if not 1 <= b <= len(names)]
    if missing:
        raise BandError(f"Band {missing[0]} is missing: the raster has {len(names)} band(s).", f"Choose among 1 to {len(names)}.")
    if not chosen:
        raise BandError("No band was chosen.", "Name at least one, e.g. 1-4, or leave the field empty for all.")
    return chosen


class Raster:
    """One raster file, read by windows. `bands` as in `parse_bands`.

    An alpha band is a mask, unless it is chosen: many programs call the fourth of four 8-bit bands alpha although it is near infrared.
    """

    def __init__(self, path: str, bands: str = "", drivers: Sequence[str] = ()):
        self.path = str(path)
        self._dataset = _open(self.path, drivers)
        everything = [self._dataset.GetRasterBand(i + 1) for i in range(self._dataset.RasterCount)]
        alpha = [b.GetBand() for b in everything if b.GetColorInterpretation() == gdal.GCI_AlphaBand]
        names = [b.GetDescription() or f"Band {b.GetBand()}" for b in everything]
        chosen = parse_bands(bands, names) if bands.strip() else [b.GetBand() for b in everything if b.GetBand() not in alpha]
        if not chosen:
            raise BandError(f"{self.path} has no band with data.", "Choose a raster with at least one band.")
        self._bands = [everything[i - 1] for i in chosen]
        transform = self._dataset.GetGeoTransform(can_return_null=True)
        if not transform or transform[1] * transform[5] == transform[2] * transform[4]:  # none, or pixels without area
            transform = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
        self.grid = Grid(self._dataset.RasterXSize, self._dataset.RasterYSize, tuple(transform), self._dataset.GetProjection() or "")
        self.bands = [
            Band(names[i - 1], b.GetUnitType() or "", _dtype(b).name, b.GetNoDataValue()) for i, b in zip(chosen, self._bands)
        ]  # fmt: skip
        self.dtype = np.result_type(*[_dtype(b) for b in self._bands])
        self._alpha = everything[alpha[0] - 1] if alpha and alpha[0] not in chosen else None
        self.has_alpha = self._alpha is not None
        self._subset, self._known_scales, self._heights = None, {}, False

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels `(bands, rows, cols)` in the native dtype and `valid`, bool of the same shape. The window must lie inside."""
        box = (window.col, window.row, window.width, window.height)
        pixels = np.empty((len(self._bands), window.height, window.width), self.dtype)
        valid = np.ones(pixels.shape, bool)
        for i, band in enumerate(self._bands):
            plane = _array(band, box, self.path)
            pixels[i], valid[i] = plane, self._mask(band, plane, box)
        if self._alpha is not None:
            valid &= _array(self._alpha, box, self.path) > 0
        if self.dtype.kind == "f":
            valid &= np.isfinite(pixels)
        if self._heights:
            self._check_heights(pixels, valid)
        return pixels, valid

    def _check_heights(self, pixels: np.ndarray, valid: np.ndarray) -> None:
        odd = valid & ((pixels < _DEEPEST) | (pixels > _HIGHEST) | (pixels == -9999))
        if odd.any():
            value = f"{pixels[odd][0]:.7g}"
            raise RasterError(
                f"{self.path} holds the height {value}, which must be nodata that the file does not declare.",
                f"Declare it: gdal_edit.py -a_nodata {value} FILE, or Translate (convert format) in the Processing toolbox.",
            )

    def _mask(self, band, plane: np.ndarray, box):
        """Where a band holds data. GDAL knows one kind of mask per band and lets a nodata value, a mask and an alpha band
        hide each other; here a pixel must pass all of them."""
        flags, nodata = band.GetMaskFlags(), band.GetNoDataValue()
        if flags & gdal.GMF_ALPHA:  # read once, by `read`
            flags = gdal.GMF_ALL_VALID
        valid = True if flags & gdal.GMF_ALL_VALID else _array(band.GetMaskBand(), box, self.path) != 0
        if nodata is not None and not flags & gdal.GMF_NODATA:
            valid = valid & (plane != nodata)
        return valid

    def fits(self, grid: Grid) -> None:
        """Raise `GridMismatchError` or `BandError` unless `read_on` can lay this raster on the grid."""
        if bool(grid.crs) != bool(self.grid.crs):
            raise GridMismatchError(
                f"{self.path} {'has no' if grid.crs else 'has a'} CRS, the grid it should fit {'has one' if grid.crs else 'has none'}.",
                "Assign the missing CRS first.",
            )
        if "int8" in {_dtype(b).name for b in self._bands} and gdal.VersionInfo() < "3070000":
            raise BandError(f"{self.path} holds signed bytes, which this GDAL can't warp.", "Convert it to 16-bit integers first.")

    def read_on(self, grid: Grid, resampling: str = "bilinear") -> tuple[np.ndarray, np.ndarray]:
        """The same, warped to any grid (also a turned one). Raises as `fits`."""
        self.fits(grid)
        count = len(self._bands)
        target = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, count, gdal.GDT_Float64)
        target.SetGeoTransform(self._off_origin(grid.transform))
        target.SetProjection(grid.crs)
        for i in range(count):
            # a value that no raster holds marks what the warp did not reach; NaN is not kept apart from data by every GDAL
            target.GetRasterBand(i + 1).SetNoDataValue(_UNREACHED)
            target.GetRasterBand(i + 1).Fill(_UNREACHED)
        try:
            done = gdal.Warp(
                target, self._chosen(), resampleAlg=RESAMPLING[resampling], errorThreshold=0.0, workingType=gdal.GDT_Float64,
                dstNodata=_UNREACHED, warpOptions=["UNIFIED_SRC_NODATA=NO", "INIT_DEST=NO_DATA", *self._scales(grid)],
            )  # fmt: skip
        except RuntimeError:
            done = 0
        if not done:
            raise RasterError(f"{self.path} can't be warped: {gdal.GetLastErrorMsg()[:200]}", "Reproject it to the scene's CRS first.")
        pixels = np.stack([_array(target.GetRasterBand(i + 1), (0, 0, grid.width, grid.height), self.path) for i in range(count)])
        valid = np.isfinite(pixels) & (pixels != _UNREACHED)
        pixels = np.where(valid, pixels, 0)
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        return pixels.astype(self.dtype), valid

    def _scales(self, grid: Grid) -> list[str]:
        """How many pixels of the grid one of ours is wide and high, in the raster's middle. GDAL would guess it from each window,
        widen its kernel accordingly, and leave a seam between windows."""
        key = (grid.crs, grid.transform[1:3], grid.transform[4:])
        if key not in self._known_scales:
            col, row = self.grid.width / 2, self.grid.height / 2
            points = [self.grid.to_map(col + c, row + r) for c, r in ((0, 0), (1, 0), (0, 1))]
            centre, right, below = (np.array(grid.to_pixel(*p)) for p in moved(points, self.grid.crs, grid.crs))
            back = np.linalg.pinv(np.nan_to_num(np.stack([right - centre, below - centre], axis=1), posinf=0, neginf=0))
            scales = 1 / np.maximum(np.hypot(back[:, 0], back[:, 1]), 1e-9)
            self._known_scales[key] = [f"XSCALE={scales[0]:.9g}", f"YSCALE={scales[1]:.9g}"] if np.abs(back).max() > 0 else []
        return self._known_scales[key]

    def _chosen(self):
        """The chosen bands (and the alpha band, last, as the warp expects it) as a dataset of their own."""
        if self._subset is None:
            bands = [b.GetBand() for b in (*self._bands, *([self._alpha] if self._alpha is not None else []))]
            self._subset = gdal.Translate("", self._dataset, format="VRT", bandList=bands)
            for i in range(len(self._bands)):
                self._subset.GetRasterBand(i + 1).SetColorInterpretation(gdal.GCI_Undefined)  # a chosen alpha band is data
            self._subset.SetGeoTransform(self._off_origin(self.grid.transform))
        return self._subset

    def _off_origin(self, transform: tuple) -> tuple:
        """Without georeference: moved by a pixel, because GDAL takes (0, 1, 0, 0, 0, -1) for none and refuses to warp."""
        return transform if self.grid.georeferenced else (transform[0] + 1, *transform[1:])

    def tags(self, domain: str = "") -> dict[str, str]:
        """The file's own metadata; GDAL keeps what it found in files beside it, as a Landsat MTL, in the domains IMD and IMAGERY."""
        return dict(self._dataset.GetMetadata(domain) or {})

    def as_heights(self) -> None:
        """Take the numbers for heights from now on: reading raises `RasterError` where they can't be, as undeclared nodata can't. Raises `BandError`
        if they are not heights yet: stored with a scale or an offset, which nobody applies here."""
        self._heights = True
        if any((b.GetScale() or 1.0) != 1.0 or (b.GetOffset() or 0.0) != 0.0 for b in self._bands):
            raise BandError(
                f"{self.path} holds scaled numbers (scale {self._bands[0].GetScale():g}, offset {self._bands[0].GetOffset() or 0:g}), not heights.",
                "Write them out first: gdal_translate -unscale -ot Float32.",
            )

    @property
    def discrete(self) -> bool:
        """Does the file say that the first band's values are classes: by names of them, or a colour table?"""
        return bool(self.categories()) or self._bands[0].GetColorTable() is not None

    def categories(self) -> list[str]:
        """Names of the values 0, 1, ... of the first band; empty if it has none."""
        return list(self._bands[0].GetCategoryNames() or [])

    def close(self) -> None:
        self._bands, self._alpha, self._subset, self._dataset = [], None, None, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_UNREACHED = -1.7e308
_DEEPEST, _HIGHEST = -12_000, 40_000  # no sea is so deep in metres, no mountain so high in feet


def aligned(raster: Raster, grid: Grid, over: str) -> bool:
    """True if the raster has the grid's pixels, False if it must be warped. Raises `GridMismatchError` where it can't be, or lies elsewhere;
    `over` says whose grid it is."""
    same = grid.same_pixels(raster.grid)
    if not same:
        raster.fits(grid)
        if not (grid.georeferenced and raster.grid.georeferenced):
            raise GridMismatchError(
                f"{raster.path} has another size than {over}, and they are not georeferenced.",
                "Georeference them first, or choose rasters of the same size.",
            )
    if not overlap(grid, raster.grid):
        raise GridMismatchError(f"{raster.path} does not lie over {over}.", "Choose rasters of the same place, and check their CRS.")
    return same


class Rasters:
    """Several open rasters, `_members`, that are closed together."""

    _members: list[Raster]

    @property
    def alphas(self) -> list[str]:
        """Names of the files whose last band says that it is a mask, and takes no part, as the near infrared of many programs does."""
        return [os.path.basename(m.path) for m in self._members if m.has_alpha]

    def doubts(self) -> list[str]:
        """Warnings about the rasters by themselves."""
        return [
            f"Warning: {name} says that its last band is a mask (alpha), so it takes no part. If it is near infrared, choose the bands, e.g. '1-4'."
            for name in self.alphas
        ]

    def close(self) -> None:
        for member in self._members:
            member.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Stack(Rasters):
    """Several rasters as one, on the first one's grid; the others are warped window by window where they differ."""

    def __init__(self, path: str, others: Sequence[str] = (), bands: str = "", resampling: str = "bilinear"):
        if others:
            self._members = [Raster(p) for p in (path, *others)]
            names = [b.name for m in self._members for b in m.bands]
            self._chosen = [i - 1 for i in parse_bands(bands, names)]
        else:
            self._members = [Raster(path, bands)]
            self._chosen = list(range(len(self._members[0].bands)))
        self.path, self.grid, self._resampling = str(path), self._members[0].grid, resampling
        self.bands = [[b for m in self._members for b in m.bands][i] for i in self._chosen]
        self.dtype = np.result_type(*[m.dtype for m in self._members])
        self._aligned = [aligned(m, self.grid, self.path) for m in self._members]

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and valid `(bands, rows, cols)` of a window inside the first raster."""
        grid = self.grid.part(window)
        return self._join([m.read(window) if same else m.read_on(grid, self._resampling) for m, same in zip(self._members, self._aligned)])

    def read_on(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        return self._join([m.read_on(grid, self._resampling) for m in self._members])

    def _join(self, parts):
        if len(parts) == 1:
            return parts[0]
        return tuple(np.concatenate([p[k] for p in parts])[self._chosen] for k in (0, 1))


def _open(path: str, drivers: Sequence[str] = ()):
    plain = not path.startswith("/vsi") and not re.match(r"^[A-Za-z0-9_]{2,}:", path)
    if plain and not os.path.exists(path):
        raise RasterError(f"There is no file {path}.", "Check the path.")
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # what it says is told below, as an error with a remedy
    try:
        dataset = gdal.OpenEx(path, gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=list(drivers))
    except RuntimeError:
        dataset = None
    finally:
        gdal.PopErrorHandler()
    if dataset is None:
        raise RasterError(f"{path} can't be read as a raster.", "Open it in QGIS to see whether it is one; a download may be incomplete.")
    if dataset.RasterCount == 0:
        inside = [name for name, _ in dataset.GetSubDatasets()[:5]]
        raise BandError(
            f"{path} has no bands.", f"Choose one of its subdatasets: {', '.join(inside)}." if inside else "Choose a raster with bands."
        )
    return dataset


def _dtype(band) -> np.dtype:
    code = gdal_array.GDALTypeCodeToNumericTypeCode(band.DataType)
    dtype = np.dtype(code) if code else np.dtype(np.float64)
    if band.GetMetadataItem("PIXELTYPE", "IMAGE_STRUCTURE") == "SIGNEDBYTE":
        return np.dtype(np.int8)
    if dtype.kind == "c":
        raise BandError("The raster holds complex numbers.", "Convert it to amplitude or decibels first.")
    return dtype


def _array(band, box, path: str) -> np.ndarray:
    try:
        array = band.ReadAsArray(*box)
    except RuntimeError:
        array = None
    if array is None:
        raise RasterError(
            f"{path} can't be read at column {box[0]}, row {box[1]}: {gdal.GetLastErrorMsg()[:200]}",
            "The file may be damaged; copy or download it again.",
        )
    return array


@contextmanager
def small_cache(most: int = 128 << 20) -> Iterator[None]:
    """Bound GDAL's cache of blocks, in bytes: by default it grows to 5 % of the machine's memory, whatever that is."""
    before = gdal.GetCacheMax()
    gdal.SetCacheMax(min(before, most))
    try:
        yield
    finally:
        gdal.SetCacheMax(before)
