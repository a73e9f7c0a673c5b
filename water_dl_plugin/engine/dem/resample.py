"""Heights on another grid: to finer pixels by cubic convolution that keeps planes, to coarser ones by the mean of the area."""

from __future__ import annotations

import numpy as np
from osgeo import gdal

from ..errors import RasterError
from ..grid import Grid, horizontal, moved, spacing_m
from ..raster import RESAMPLING, Raster
from ..windows import Window

MOST_PX = 4 << 20  # of a source that are read at once: 32 MiB for each band as float64
REACH, AROUND = 2, 2  # px: how far the kernel of cubic convolution reaches, and how far beyond that a void's neighbours are looked at
MUCH_FINER = 1.5  # times finer than the grid: from here on a source is averaged
_GAPS = 4096  # void pixels that are continued into at once
_LATTICE = 9  # points along each side of a grid that tell where it lies in another CRS


def heights_on(raster: Raster, grid: Grid, resampling: str = "cubic") -> tuple[np.ndarray, np.ndarray]:
    """The raster's bands on any grid: float64 `(bands, rows, cols)` and `valid`, bool of the same shape.

    As `Raster.read_on`, but nothing is rounded to the raster's own numbers, and beyond its border and in its voids the surface goes on as
    it is beside them, so that constants and planes come back exactly, up to the border. `valid` where the nearest pixel is; with "average"
    where data cover at least half of the pixel. No pixel depends on how a larger grid is cut into windows.

    `resampling`: nearest, bilinear, cubic (Keys 1981, 10.1109/TASSP.1981.1163711, a = -0.5) or average. The first three take the value at
    the pixel's middle and are for grids as fine as the raster or finer; average is for coarser ones. Memory is bounded: of a raster that
    is much finer only pieces are read at once. Raises as `Raster.fits`, `RasterError` where the warp fails.
    """
    raster.fits(grid)
    shape = (len(raster.bands), grid.height, grid.width)
    pixels, valid = np.zeros(shape), np.zeros(shape, bool)
    _lay(raster, grid, resampling, pixels, valid)
    return pixels, valid


def _lay(raster: Raster, grid: Grid, resampling: str, pixels: np.ndarray, valid: np.ndarray) -> None:
    """Fill `pixels` and `valid`, views `(bands, rows, cols)`; in halves as long as the source's part is too large."""
    window = source_window(raster.grid, grid)
    inside = window.inside(raster.grid.width, raster.grid.height)
    if inside.empty:
        return
    if inside.width * inside.height > MOST_PX and grid.width * grid.height > 1:
        for part in _halves(grid):
            cut = (slice(None), *part.slices)
            _lay(raster, grid.part(part), resampling, pixels[cut], valid[cut])
        return
    edge = REACH  # beyond the raster's border; what lies further out reaches no pixel
    window = window.shifted(edge, edge).inside(raster.grid.width + 2 * edge, raster.grid.height + 2 * edge).shifted(-edge, -edge)
    source, known = raster.read(inside)
    top, left = inside.row - window.row, inside.col - window.col
    pad = ((0, 0), (top, window.height - inside.height - top), (left, window.width - inside.width - left))
    source, known = np.pad(source.astype(np.float64), pad), np.pad(known, pad)
    there = raster.grid.part(window)
    if resampling == "average":
        pixels[...], valid[...] = average_on(source, known, there, grid)
        return
    if resampling != "nearest":
        source = np.stack([continued(plane, ok) for plane, ok in zip(source, known)])
    pixels[...] = _warped(source, there, grid, resampling)
    valid[...] = True if known.all() else _warped(known.astype(np.float64), there, grid, "nearest") > 0
    np.copyto(pixels, 0, where=~valid)


def _halves(grid: Grid) -> tuple[Window, Window]:
    if grid.width >= grid.height:
        half = grid.width // 2
        return Window(0, 0, half, grid.height), Window(half, 0, grid.width - half, grid.height)
    half = grid.height // 2
    return Window(0, 0, grid.width, half), Window(0, half, grid.width, grid.height - half)


def ratio(source: Grid, grid: Grid) -> float:
    """Side of a pixel of `source` in pixels of `grid`, on the ground, in the grid's middle; above 1 if the grid is finer."""
    ((x, y, *_),) = moved([grid.to_map(grid.width / 2, grid.height / 2)], grid.crs, source.crs)
    if not np.all(np.isfinite([x, y])):
        x, y = source.to_map(source.width / 2, source.height / 2)
    col, row = source.to_pixel(x, y)
    pixel = source.part(Window(int(np.clip(col, 0, source.width - 1)), int(np.clip(row, 0, source.height - 1)), 1, 1))
    return float(np.sqrt(np.prod(spacing_m(pixel)) / np.prod(spacing_m(grid))))


def suited(resampling: str, ratio: float) -> str:
    """What lays a source on a grid whose pixels it measures by `ratio`: `resampling`, but the mean where the source is much finer."""
    return "average" if ratio * MUCH_FINER < 1 and resampling != "nearest" else resampling


def source_window(source: Grid, grid: Grid) -> Window:
    """The source's pixels that the grid's need, also beyond the source's border; empty where PROJ knows no way."""
    sides = [np.linspace(0, n, _LATTICE) for n in (grid.width, grid.height)]
    points = [grid.to_map(c, r) for r in sides[1] for c in sides[0]]
    places = np.array([source.to_pixel(*p) for p in moved(points, grid.crs, source.crs) if np.all(np.isfinite(p[:2]))])
    if not len(places):
        return Window(0, 0, 0, 0)
    low, high = places.min(axis=0), places.max(axis=0)
    edge = 2 * REACH + AROUND  # also more than the sides bend between the points, of windows that are read at once
    first, last = np.floor(np.clip(low, -1e9, 1e9)).astype(int) - edge, np.ceil(np.clip(high, -1e9, 1e9)).astype(int) + edge
    return Window(int(first[0]), int(first[1]), int(last[0] - first[0]), int(last[1] - first[1]))


def continued(plane: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """float64 `(rows, cols)` in which pixels without data, up to `REACH` px away from data, hold what the surface beside them leads to.

    Each gets the plane through its neighbours with data, weighted by distance**-6; so a plane goes on as itself. Other voids are 0.
    """
    if valid.all() or not valid.any():
        return np.where(valid, plane, 0.0)
    reach = REACH + AROUND
    near = np.pad(valid, REACH)
    for axis in (0, 1):
        length = near.shape[axis] - 2 * REACH
        near = np.logical_or.reduce([np.take(near, np.arange(k, k + length), axis) for k in range(2 * REACH + 1)])
    rows, cols = np.nonzero(near & ~valid)
    result = np.where(valid, plane, 0.0)
    wide, there = np.pad(result, reach), np.pad(valid, reach)
    y, x = (a.ravel() for a in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    weight = 1 / np.maximum(x**2 + y**2, 1) ** 3.0
    for k in range(0, len(rows), _GAPS):
        r, c = rows[k : k + _GAPS, None], cols[k : k + _GAPS, None]
        w = weight * there[r + reach + y, c + reach + x]
        z = wide[r + reach + y, c + reach + x]
        total = w.sum(axis=1)
        middle = (w * z).sum(axis=1) / total
        # the point itself is the origin; the ridge decides where all neighbours lie in one line, and is far below what planes need
        terms = np.stack([np.ones_like(w), np.broadcast_to(x, w.shape), np.broadcast_to(y, w.shape)], axis=1)
        normal = np.einsum("nik,njk,nk->nij", terms, terms, w) + np.diag([0, 1e-10, 1e-10]) * total[:, None, None]
        right = np.einsum("nik,nk->ni", terms, w * (z - middle[:, None]))
        result[r[:, 0], c[:, 0]] = middle + np.linalg.solve(normal, right[..., None])[:, 0, 0]
    return result


def average_on(array: np.ndarray, valid: np.ndarray, from_grid: Grid, to_grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Mean of `array` `(bands, rows, cols)` over each pixel of a coarser grid, by the share of area: float64 and `valid`.

    Only valid pixels count; a mean is valid where they cover at least half of the pixel. The arrays are held whole.
    """
    reached = source_window(from_grid, to_grid)
    # GDAL takes what lies outside for as good as inside
    edge = 2 + int(max(reached.width / to_grid.width, reached.height / to_grid.height))
    array, valid = (np.pad(a, ((0, 0), (edge, edge), (edge, edge))) for a in (array, valid))
    from_grid = from_grid.part(Window(-edge, -edge, array.shape[2], array.shape[1]))
    share = _warped(valid.astype(np.float64), from_grid, to_grid, "average")
    total = _warped(np.where(valid, array, 0.0), from_grid, to_grid, "average")
    enough = share >= 0.5 - 1e-6
    return np.where(enough, total / np.where(enough, share, 1), 0.0), enough


def _warped(planes: np.ndarray, there: Grid, grid: Grid, resampling: str) -> np.ndarray:
    """GDAL's warp of float64 planes in memory. Vertical parts of the CRSs are left out: gdalwarp shifts heights from datum to datum, where it can."""
    shift = 0 if there.georeferenced and grid.georeferenced else 1  # GDAL takes the plain transform for none and refuses to warp
    source, target = (_memory(len(planes), g, shift) for g in (there, grid))
    for i, plane in enumerate(planes):
        source.GetRasterBand(i + 1).WriteArray(np.ascontiguousarray(plane))
    options = ["XSCALE=1", "YSCALE=1"] if resampling != "average" else []
    try:
        done = gdal.Warp(
            target, source, resampleAlg=RESAMPLING[resampling], errorThreshold=0.0, workingType=gdal.GDT_Float64, warpOptions=options
        )
    except RuntimeError:
        done = 0
    if not done:
        raise RasterError(f"An elevation model can't be warped: {gdal.GetLastErrorMsg()[:200]}", "Reproject it to the target's CRS first.")
    return target.ReadAsArray().reshape(len(planes), grid.height, grid.width)


def _memory(count: int, grid: Grid, shift: int):
    dataset = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, count, gdal.GDT_Float64)
    dataset.SetGeoTransform((grid.transform[0] + shift, *grid.transform[1:]))
    dataset.SetProjection(horizontal(grid.crs))
    return dataset
