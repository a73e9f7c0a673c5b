"""The only door to rasters: windows in, windows out.

GDAL's own Python binding is used, the one that every QGIS brings along, not rasterio: a wheel with a second libgdal inside
the QGIS process breaks warping and PROJ on Linux, and one package less has to be installed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np
from osgeo import gdal, gdal_array, osr

from .errors import BandError, GridMismatchError, OutputError, RasterError
from .windows import Window

RESAMPLING = {"nearest": gdal.GRA_NearestNeighbour, "bilinear": gdal.GRA_Bilinear, "cubic": gdal.GRA_Cubic, "average": gdal.GRA_Average}


@dataclass(frozen=True)
class Grid:
    """Where pixels lie: size in px, GDAL geotransform (x0, dx, rx, y0, ry, dy) in map units, CRS as WKT ("" if unknown)."""

    width: int
    height: int
    transform: tuple = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    crs: str = ""

    def part(self, window: Window) -> "Grid":
        x, y = self.to_map(window.col, window.row)
        t = self.transform
        return Grid(window.width, window.height, (x, t[1], t[2], y, t[4], t[5]), self.crs)

    def to_map(self, col: float, row: float) -> tuple[float, float]:
        t = self.transform
        return t[0] + col * t[1] + row * t[2], t[3] + col * t[4] + row * t[5]

    def to_pixel(self, x: float, y: float) -> tuple[float, float]:
        return gdal.ApplyGeoTransform(gdal.InvGeoTransform(self.transform), x, y)

    def rotated(self, degrees: float) -> "Grid":
        """The same size and pixel, turned counter-clockwise about the centre."""
        angle, t = np.deg2rad(degrees), self.transform
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        axes = turn @ np.array([[t[1], t[2]], [t[4], t[5]]])
        centre = np.array(self.to_map(self.width / 2, self.height / 2)) - axes @ [self.width / 2, self.height / 2]
        return Grid(self.width, self.height, (centre[0], *axes[0], centre[1], *axes[1]), self.crs)

    @property
    def corners(self) -> list[tuple[float, float]]:
        return [self.to_map(c, r) for c, r in ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """xmin, ymin, xmax, ymax in map units."""
        xs, ys = zip(*self.corners)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a pixel in map units."""
        t = self.transform
        return float(np.hypot(t[1], t[4])), float(np.hypot(t[2], t[5]))

    @property
    def pixel_size_m(self) -> Optional[float]:
        """Side in metres of a square as large as the pixel in the raster's middle; None without a CRS."""
        if not self.crs:
            return None
        return float(np.sqrt(self.areas_m2(Window(self.width // 2, self.height // 2, 1, 1))[0, 0]))

    @property
    def georeferenced(self) -> bool:
        return bool(self.crs) or self.transform not in ((0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))

    def same_pixels(self, other: "Grid") -> bool:
        """True if the other grid has the same pixels, to a hundredth of a pixel at all corners, and the same CRS."""
        if (self.width, self.height) != (other.width, other.height):
            return False
        if not np.allclose(self.corners, other.corners, rtol=0, atol=0.01 * min(self.pixel_size)):
            return False
        return same_crs(self.crs, other.crs)

    def areas_m2(self, window: Optional[Window] = None) -> np.ndarray:
        """Area of each pixel on the ellipsoid, float64 `(rows, cols)` in m2, whatever the projection.

        Corners are projected to a Lambert azimuthal equal-area plane (Snyder 1987, 10.3133/pp1395) around the raster at up to
        17 x 17 places and the area between them is interpolated; without a CRS a map unit is taken as a metre.
        """
        window = window or Window(0, 0, self.width, self.height)
        rows, cols = _samples(window.row, window.height, self.height), _samples(window.col, window.width, self.width)
        if not self.crs:
            return np.full((window.height, window.width), float(np.prod(self.pixel_size)))
        col, row = np.meshgrid(cols, rows)
        to_plane = _equal_area(self)
        xy = []
        for dc, dr in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
            x, y = self.to_map(col + 0.5 + dc, row + 0.5 + dr)
            xy.append(np.array(to_plane.TransformPoints(np.column_stack([x.ravel(), y.ravel()]).tolist()))[:, :2])
        x, y = (np.array(xy)[..., k] for k in (0, 1))
        area = 0.5 * np.abs(sum(x[k] * y[(k + 1) % 4] - x[(k + 1) % 4] * y[k] for k in range(4))).reshape(col.shape)
        by_row = np.array([np.interp(np.arange(window.col, window.col + window.width), cols, line) for line in area])
        wanted = np.arange(window.row, window.row + window.height)
        below = np.clip(np.searchsorted(rows, wanted, "right") - 1, 0, max(len(rows) - 2, 0))
        if len(rows) == 1:
            return np.repeat(by_row, window.height, axis=0)
        share = ((wanted - rows[below]) / (rows[below + 1] - rows[below]))[:, None]
        return by_row[below] * (1 - share) + by_row[below + 1] * share


def _samples(first: int, length: int, whole: int) -> np.ndarray:
    """Places along one axis: on the raster's own 17-step lattice around the window, so that windows agree with the whole."""
    lattice = np.unique(np.linspace(0, whole - 1, min(17, whole)))
    inside = (lattice > first) & (lattice < first + length - 1)
    return np.unique(np.concatenate([lattice[_near(lattice, first, length)], lattice[inside]]))


def _near(lattice: np.ndarray, first: int, length: int) -> list[int]:
    left = int(np.clip(np.searchsorted(lattice, first, "right") - 1, 0, len(lattice) - 1))
    right = int(np.clip(np.searchsorted(lattice, first + length - 1, "left"), 0, len(lattice) - 1))
    return sorted({left, right})


def spatial_reference(wkt: str) -> osr.SpatialReference:
    """An OSR reference with x before y. Raises `RasterError` for a CRS that PROJ can't read."""
    reference = osr.SpatialReference()
    try:
        failed = reference.ImportFromWkt(wkt) if wkt else 1
    except RuntimeError:
        failed = 1
    if failed:
        raise RasterError("The coordinate reference system can't be read.", "Assign a CRS to the layer first.")
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return reference


def same_crs(a: str, b: str) -> bool:
    return a == b or bool(a and b and spatial_reference(a).IsSame(spatial_reference(b)))


def _equal_area(grid: Grid) -> osr.CoordinateTransformation:
    source, plane = spatial_reference(grid.crs), osr.SpatialReference()
    geographic = source.CloneGeogCS()
    geographic.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    lon, lat, _ = osr.CoordinateTransformation(source, geographic).TransformPoint(*grid.to_map(grid.width / 2, grid.height / 2))
    plane.CopyGeogCSFrom(geographic)
    plane.SetLAEA(float(np.clip(lat, -90, 90)), lon, 0, 0)
    return osr.CoordinateTransformation(source, plane)


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
            raise BandError(f"There is no band {token[:40]!r}.", f"The bands are {', '.join(names)}; numbers from 1 to {len(names)} work, too.")
    missing = [b for b in chosen if not 1 <= b <= len(names)]
    if missing:
        raise BandError(f"Band {missing[0]} is missing: the raster has {len(names)} band(s).", f"Choose among 1 to {len(names)}.")
    if not chosen:
        raise BandError("No band was chosen.", "Name at least one, e.g. 1-4, or leave the field empty for all.")
    return chosen


class Raster:
    """One raster file, read by windows. `bands` as in `parse_bands`; the alpha band, if any, is a mask, never a band."""

    def __init__(self, path: str, bands: str = ""):
        self.path = str(path)
        self._dataset = _open(self.path)
        everything = [self._dataset.GetRasterBand(i + 1) for i in range(self._dataset.RasterCount)]
        coloured = [b for b in everything if b.GetColorInterpretation() != gdal.GCI_AlphaBand]
        if not coloured:
            raise BandError(f"{self.path} has no band with data.", "Choose a raster with at least one band.")
        names = [b.GetDescription() or f"Band {b.GetBand()}" for b in coloured]
        chosen = parse_bands(bands, names)
        self._bands = [coloured[i - 1] for i in chosen]
        transform = self._dataset.GetGeoTransform(can_return_null=True) or (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
        self.grid = Grid(self._dataset.RasterXSize, self._dataset.RasterYSize, tuple(transform), self._dataset.GetProjection() or "")
        self.bands = [
            Band(names[i - 1], b.GetUnitType() or "", _dtype(b).name, b.GetNoDataValue()) for i, b in zip(chosen, self._bands)
        ]  # fmt: skip
        self.dtype = np.result_type(*[_dtype(b) for b in self._bands])
        self._masked = [not b.GetMaskFlags() & gdal.GMF_ALL_VALID for b in self._bands]

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels `(bands, rows, cols)` in the native dtype and `valid`, bool of the same shape. The window must lie inside."""
        box = (window.col, window.row, window.width, window.height)
        pixels = np.empty((len(self._bands), window.height, window.width), self.dtype)
        valid = np.ones(pixels.shape, bool)
        for i, band in enumerate(self._bands):
            plane = _array(band, box, self.path)
            pixels[i] = plane.view(np.int8) if self.bands[i].dtype == "int8" else plane
            if self._masked[i]:
                valid[i] = _array(band.GetMaskBand(), box, self.path) != 0
        if self.dtype.kind == "f":
            valid &= np.isfinite(pixels)
        return pixels, valid

    def read_on(self, grid: Grid, resampling: str = "bilinear") -> tuple[np.ndarray, np.ndarray]:
        """The same, warped to any grid (also a turned one). Raises `GridMismatchError` when a CRS is missing."""
        if bool(grid.crs) != bool(self.grid.crs):
            raise GridMismatchError(f"{self.path} {'has no' if grid.crs else 'has a'} CRS, the grid it should fit {'has one' if grid.crs else 'has none'}.", "Assign the missing CRS first.")
        target = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, self._dataset.RasterCount, gdal.GDT_Float64)
        target.SetGeoTransform(grid.transform)
        target.SetProjection(grid.crs)
        for i in range(target.RasterCount):
            # a value that no raster holds marks what the warp did not reach; NaN is not kept apart from data by every GDAL
            target.GetRasterBand(i + 1).SetNoDataValue(_UNREACHED)
            target.GetRasterBand(i + 1).Fill(_UNREACHED)
        done = gdal.Warp(
            target, self._dataset, resampleAlg=RESAMPLING[resampling], errorThreshold=0.0, workingType=gdal.GDT_Float64,
            dstNodata=_UNREACHED, warpOptions=["UNIFIED_SRC_NODATA=NO", "INIT_DEST=NO_DATA"],
        )  # fmt: skip
        if not done:
            raise RasterError(f"{self.path} can't be warped: {gdal.GetLastErrorMsg()[:200]}", "Reproject it to the scene's CRS first.")
        pixels = np.stack([_array(target.GetRasterBand(b.GetBand()), (0, 0, grid.width, grid.height), self.path) for b in self._bands])
        valid = np.isfinite(pixels) & (pixels != _UNREACHED)
        pixels = np.where(valid, pixels, 0)
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        return pixels.astype(self.dtype), valid

    def tags(self) -> dict[str, str]:
        """The file's own metadata."""
        return dict(self._dataset.GetMetadata() or {})

    def categories(self) -> list[str]:
        """Names of the values 0, 1, ... of the first band; empty if it has none."""
        return list(self._bands[0].GetCategoryNames() or [])

    def close(self) -> None:
        self._bands, self._dataset = [], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_UNREACHED = -1.7e308


class Stack:
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
        self._aligned = [self.grid.same_pixels(m.grid) for m in self._members]
        for member in self._members[1:]:
            if not overlap(self.grid, member.grid):
                raise GridMismatchError(f"{member.path} does not lie over {self.path}.", "Choose rasters of the same place, and check their CRS.")

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

    def close(self) -> None:
        for member in self._members:
            member.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def overlap(a: Grid, b: Grid) -> bool:
    """Do two grids touch? Compared in the CRS of `a`; grids without CRS are taken to share theirs."""
    points = b.corners + [b.to_map(b.width / 2, b.height / 2)]
    if a.crs and b.crs and not same_crs(a.crs, b.crs):
        move = osr.CoordinateTransformation(spatial_reference(b.crs), spatial_reference(a.crs))
        points = [p[:2] for p in move.TransformPoints([list(p) for p in points])]
    xs, ys = zip(*points)
    if not np.all(np.isfinite(xs + ys)):
        return True  # can't be told by corners (poles, the date line): the pixels will tell
    left, bottom, right, top = a.bounds
    return min(xs) < right and max(xs) > left and min(ys) < top and max(ys) > bottom


def _open(path: str):
    plain = not path.startswith("/vsi") and not re.match(r"^[A-Za-z0-9_]{2,}:", path)
    if plain and not os.path.exists(path):
        raise RasterError(f"There is no file {path}.", "Check the path.")
    gdal.ErrorReset()
    try:
        dataset = gdal.OpenEx(path, gdal.OF_RASTER | gdal.OF_READONLY)
    except RuntimeError:
        dataset = None
    if dataset is None:
        raise RasterError(f"{path} can't be read as a raster.", "Open it in QGIS to see whether it is one; a download may be incomplete.")
    if dataset.RasterCount == 0:
        inside = [name for name, _ in dataset.GetSubDatasets()[:5]]
        raise BandError(f"{path} has no bands.", f"Choose one of its subdatasets: {', '.join(inside)}." if inside else "Choose a raster with bands.")
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
        raise RasterError(f"{path} can't be read at column {box[0]}, row {box[1]}: {gdal.GetLastErrorMsg()[:200]}", "The file may be damaged; copy or download it again.")
    return array


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
        raise OutputError(f"Nothing can be written to {folder}: {error.strerror}.", "Choose a folder that is yours, on a disk with space.") from None
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder.", "Choose a file name.")


class Writer:
    """A GeoTIFF written by windows: tiled, compressed, BIGTIFF when needed, with overviews. Used as a context.

    Written to `PATH.partial` and renamed when the context ends well; after an error, a cancel or a kill there is no file
    at PATH (and an older one is as it was).

    `categories` are the names of the values 0, 1, ...; `colours` maps value -> (r, g, b); `metadata` is text by key.
    """

    def __init__(
        self, path: str, grid: Grid, count: int, dtype, nodata=None, *, names: Sequence[str] = (), categories: Sequence[str] = (),
        colours: Optional[dict] = None, metadata: Optional[dict] = None, compression: str = "DEFLATE", description: str = "",
    ):  # fmt: skip
        self.path, self.partial = str(path), f"{path}.partial"
        if os.path.splitext(self.path)[1].lower() not in (".tif", ".tiff"):
            raise OutputError(f"{self.path} is not a GeoTIFF name.", "Let the name end in .tif.")
        writable(self.path)
        self.grid, self._discrete = grid, bool(categories) or np.dtype(dtype).kind in "iu"
        dtype = np.dtype(dtype)
        predictor = "3" if dtype.kind == "f" else "2"
        options = ["TILED=YES", "BLOCKXSIZE=256", "BLOCKYSIZE=256", "BIGTIFF=IF_SAFER", "SPARSE_OK=TRUE", f"COMPRESS={compression}", "NUM_THREADS=2"]
        if compression in ("DEFLATE", "LZW", "ZSTD"):
            options.append(f"PREDICTOR={predictor}")
        with _checked(self.path):
            self._dataset = gdal.GetDriverByName("GTiff").Create(
                self.partial, grid.width, grid.height, count, gdal_array.NumericTypeCodeToGDALTypeCode(dtype.type), options
            )
            if self._dataset is None:
                raise RuntimeError(gdal.GetLastErrorMsg())
            if grid.georeferenced:
                self._dataset.SetGeoTransform(grid.transform)
                self._dataset.SetProjection(grid.crs)
            for key, text in (metadata or {}).items():
                self._dataset.SetMetadataItem(key, str(text))
            if description:
                self._dataset.SetMetadataItem("TIFFTAG_IMAGEDESCRIPTION", description)
            for i in range(count):
                band = self._dataset.GetRasterBand(i + 1)
                if nodata is not None:
                    band.SetNoDataValue(float(nodata))
                if i < len(names):
                    band.SetDescription(names[i])
            band = self._dataset.GetRasterBand(1)
            if colours:
                table = gdal.ColorTable()
                for value, colour in colours.items():
                    table.SetColorEntry(int(value), (*colour, 255))
                band.SetColorTable(table)
            if categories:
                band.SetCategoryNames(list(categories))

    def write(self, window: Window, array: np.ndarray) -> None:
        """Write `(bands, rows, cols)` at the window's place."""
        with _checked(self.path):
            for i, plane in enumerate(array if array.ndim == 3 else array[None]):
                self._dataset.GetRasterBand(i + 1).WriteArray(plane, window.col, window.row)

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
        with _checked(self.path):
            self._dataset.FlushCache()
            levels = [2**k for k in range(1, 16) if max(self.grid.width, self.grid.height) / 2**k >= 256]
            if levels:
                self._dataset.BuildOverviews("NEAREST" if self._discrete else "AVERAGE", levels)
                self._dataset.FlushCache()
        with _checked(self.path):
            self._dataset = None  # closes; a full disk may show only now
        try:
            for suffix in (".aux.xml", ""):  # the raster last: when it is there, all is there
                if os.path.exists(self.partial + suffix):
                    os.replace(self.partial + suffix, self.path + suffix)
                elif suffix and os.path.exists(self.path + suffix):
                    os.remove(self.path + suffix)
            if os.path.exists(self.path + ".ovr"):
                os.remove(self.path + ".ovr")
        except OSError as error:
            raise OutputError(f"{self.path} can't be replaced: {error.strerror}.", "Close the layer in QGIS and other programs, or choose another name.") from None

    def _discard(self) -> None:
        self._dataset = None
        for suffix in ("", ".aux.xml"):
            if os.path.exists(self.partial + suffix):
                os.remove(self.partial + suffix)


class _checked:
    """Turns what GDAL says while writing into `OutputError`, whether or not GDAL's exceptions are switched on."""

    def __init__(self, path: str):
        self.path = path

    def __enter__(self):
        gdal.ErrorReset()

    def __exit__(self, kind, error, _):
        message = str(error) if kind is RuntimeError else gdal.GetLastErrorMsg() if gdal.GetLastErrorType() >= gdal.CE_Failure else ""
        if message and kind in (None, RuntimeError):
            gdal.ErrorReset()
            raise OutputError(f"{self.path} can't be written: {message[:300]}.", "Is the disk full, or the folder read-only?") from None
        return False


def write_small(path: str, pixels: np.ndarray, grid: Grid, valid: Optional[np.ndarray] = None, driver: str = "GTiff", names: Sequence[str] = ()) -> None:
    """Write a chip `(bands, rows, cols)` in one go; `valid` (rows, cols) becomes its mask where it has holes (GeoTIFF only)."""
    memory = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, len(pixels), gdal_array.NumericTypeCodeToGDALTypeCode(pixels.dtype.type))
    if grid.georeferenced:
        memory.SetGeoTransform(grid.transform)
        memory.SetProjection(grid.crs)
    for i, plane in enumerate(pixels):
        memory.GetRasterBand(i + 1).WriteArray(plane)
        if i < len(names):
            memory.GetRasterBand(i + 1).SetDescription(names[i])
    if valid is not None and not valid.all():
        memory.CreateMaskBand(gdal.GMF_PER_DATASET)
        memory.GetRasterBand(1).GetMaskBand().WriteArray(np.where(valid, 255, 0).astype(np.uint8))
    options = {"GTiff": ["COMPRESS=DEFLATE", "PREDICTOR=2" if pixels.dtype.kind in "iu" else "PREDICTOR=3"], "PNG": ["WORLDFILE=YES"], "JPEG": ["WORLDFILE=YES", "QUALITY=95"]}
    with _checked(path), _internal_mask():
        copy = gdal.GetDriverByName(driver).CreateCopy(path, memory, options=options[driver])
        if copy is not None:
            copy.FlushCache()
        copy = None


class _internal_mask:
    """GDAL before 3.9 writes a mask into a file of its own unless told otherwise."""

    def __enter__(self):
        self.before = gdal.GetConfigOption("GDAL_TIFF_INTERNAL_MASK")
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")

    def __exit__(self, *_):
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", self.before)
