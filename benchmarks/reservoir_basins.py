"""Basins and levels of the simulated reservoirs: real terrain dammed by a virtual wall, real level series of other dams.

A basin is drawn on cells a third of a pixel wide. Everything there has one time-saving number, `spill`: the lowest level at which water from the
wall reaches a cell (the smallest maximum of heights on any way to it: greyscale reconstruction, Vincent 1993, doi:10.1109/83.217222). So
the water of any date is `spill < level`, and the day on which a cell last lay under water is a look-up in the level series.
"""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from dataclasses import dataclass

import numpy as np
from osgeo import gdal
from scipy import ndimage
from skimage.morphology import reconstruction

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PIXEL_M, FACTOR = 10.0, 3
CELL_M = PIXEL_M / FACTOR
SIDE = 104  # px of a scene
PAD = 30 * FACTOR  # cells around the scene: terrain there throws shadows into it
WALL_M, FREEBOARD_M = 16.0, 1.5  # thickness of the dam, its crest above the full level


@dataclass(frozen=True)
class Place:
    """A reservoir to be simulated. `dem`: path below the data folder, "" for a made valley; `centre`: of the scene, metres right and down from the
    corner of the elevation model; `wall_deg`: direction of the dam (0: east-west, 90: north-south); `upstream`: +1 or -1, the side of it that is
    flooded; `wall_m`: how far the dam lies from the centre; `depth_m`: depth at the dam when full; `relief`: heights are multiplied by it;
    `turned`: quarter turns of the terrain against the clock, which the wall's direction comes after;
    `dam`: whose levels; `first`, `last`: of its record; `scenes`: about how many are wanted, 0 for all of the calendar; `east_km`: where it
    is put on the map; `tile`: of Sentinel-2, for the names; `turbid`: factor of the suspended matter, as catchments differ."""

    name: str
    dem: str
    centre: tuple
    wall_deg: float
    upstream: int
    depth_m: float
    dam: str
    wall_m: float = 280.0
    relief: float = 1.0
    turned: int = 0
    first: str = "2013-01-01"
    last: str = "2017-12-05"
    scenes: int = 0
    east_km: float = 300.0
    tile: str = "T34HBH"
    turbid: float = 1.0


COLORADO, COPERNICUS = "lidar_dem/colorado_3dep_10m.tif", "dem_30m_pair/copernicus_glo30_dsm.tif"
PLACES = {
    place.name: place
    for place in (
        Place("shallow", COPERNICUS, (22120, 22220), 90.0, 1, 8.0, "Kleinplaats", turbid=1.4),
        Place("steep", COLORADO, (6090, 950), 22.5, -1, 45.0, "Woodhead", relief=1.5, turned=1, east_km=306.0, turbid=0.6),
        Place("middle", COPERNICUS, (31560, 15030), 135.0, 1, 17.0, "Voëlvlei", east_km=312.0),
        Place("short", COPERNICUS, (23730, 21340), 67.5, 1, 8.0, "Land-En Zeezicht", first="2015-07-15", scenes=40, east_km=318.0),
    )
}


@dataclass(frozen=True)
class Basin:
    """Cells of the scene with `PAD` around, `(n, n)` float32: `heights` (m above the gauge's zero, dry, with the dam), `spill` (m, inf where
    water never comes), `rise` (m that `spill` differs across a cell), `east`, `south`: slope components of the terrain (m/m); `wall` bool.
    `full_m`: full level; `bottom_m`: lowest ground at the dam; both on the gauge."""

    heights: np.ndarray
    spill: np.ndarray
    rise: np.ndarray
    east: np.ndarray
    south: np.ndarray
    wall: np.ndarray
    full_m: float
    bottom_m: float

    def wet(self, level: float) -> np.ndarray:
        """Share of each cell that is water, 0..1: the shore runs through cells as a line, so that decimetres count on steep walls, too."""
        return np.clip(0.5 + (level - self.spill) / self.rise, 0, 1)


@dataclass(frozen=True)
class Levels:
    """A level per day: `days` datetime64[D]; `raw` as the gauge has them (nan: none), `clean` without gaps and outliers, both m."""

    days: np.ndarray
    raw: np.ndarray
    clean: np.ndarray

    def at(self, day) -> float:
        return float(self.clean[self.index(day)])

    def index(self, day) -> int:
        return int(np.clip((np.datetime64(day, "D") - self.days[0]).astype(int), 0, len(self.days) - 1))


def key(name: str) -> int:
    """A number that is a place's own, for its chance."""
    return zlib.crc32(name.encode())


def find(root: str = ROOT) -> str:
    """The folder of the real data, or "": WATER_DL_DATA, else `../shared/data` beside the checkout."""
    data = os.environ.get("WATER_DL_DATA") or os.path.join(os.path.dirname(root), "shared", "data")
    return data if os.path.isdir(os.path.join(data, "dam_levels")) else ""


# ------------------------------------------------------------------------------------------------------------------------- levels


def levels(place: Place, data: str, seed: int = 0) -> Levels:
    """Levels of `place.dam` from 2012 on; without the data (`data` "") a made series of the same kind: seasons, drought, spikes, a gap."""
    days = np.arange(np.datetime64("2012-01-01"), np.datetime64("2017-12-07"))
    raw = np.full(len(days), np.nan)
    if not data:
        raw = _made_levels(len(days), np.random.default_rng([seed, 77]))
        return Levels(days, raw, cleaned(raw))
    path = os.path.join(data, "dam_levels", "cape_town_dams_daily_2012_2017.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["dam_name"] == place.dam and row["height_m"]:
                raw[(np.datetime64(row["date"]) - days[0]).astype(int)] = float(row["height_m"])
    if np.isnan(raw).all():
        raise ValueError(f"{path} has no levels of {place.dam}.")
    return Levels(days, raw, cleaned(raw))


def cleaned(raw: np.ndarray) -> np.ndarray:
    """Outliers out (further from the median of 11 days than 0.5 m and than five times the spread there: Hampel 1974,
    doi:10.1080/01621459.1974.10482962), gaps filled by straight lines."""
    known = np.flatnonzero(np.isfinite(raw))
    values = raw[known]
    median = ndimage.median_filter(values, 11, mode="nearest")
    spread = 1.4826 * ndimage.median_filter(np.abs(values - median), 11, mode="nearest")
    keep = np.abs(values - median) <= np.maximum(0.5, 5 * spread)
    return np.interp(np.arange(len(raw)), known[keep], values[keep])


def _made_levels(count: int, rng: np.random.Generator) -> np.ndarray:
    day = np.arange(count)
    level = 8 + 2.2 * np.sin(2 * np.pi * (day - 150) / 365) - 1.5 * day / count + 0.3 * np.cumsum(rng.normal(0, 0.05, count))
    level = np.minimum(level, 10.0).round(2)
    level[rng.integers(0, count, 6)] -= 3
    level[900:930] = np.nan
    return level


# ------------------------------------------------------------------------------------------------------------------------- terrain


def terrain(place: Place, data: str) -> np.ndarray:
    """Heights (m) of the padded scene's cells, float64: the real model by cubic interpolation, and what it is too coarse to hold: roughness
    of 1/f noise below its pixels, a few percent of the local relief (Mandelbrot's fractal terrain; Pentland 1984, doi:10.1109/TPAMI.1984.4767591)."""
    side = SIDE * FACTOR + 2 * PAD
    at = (np.arange(side) - side / 2 + 0.5) * CELL_M
    if not place.dem:
        return _valley(at, place)
    raster = gdal.Open(os.path.join(data, place.dem))
    _, dx, _, y0, _, dy = raster.GetGeoTransform()
    latitude = np.radians(y0 + dy * raster.RasterYSize / 2)
    px, py = dx * 111320 * np.cos(latitude), -dy * 110900  # both models are in degrees
    cols, rows = (place.centre[0] + at) / px, (place.centre[1] + at) / py
    if min(cols[0], rows[0]) < 0 or cols[-1] > raster.RasterXSize or rows[-1] > raster.RasterYSize:
        raise ValueError(f"The scene of {place.name} does not lie in {place.dem}.")
    left, top = max(int(cols[0]) - 8, 0), max(int(rows[0]) - 8, 0)
    part = raster.ReadAsArray(
        left, top, min(int(cols[-1] - left) + 16, raster.RasterXSize - left), min(int(rows[-1] - top) + 16, raster.RasterYSize - top)
    )
    grid = np.meshgrid(rows - top - 0.5, cols - left - 0.5, indexing="ij")
    heights = ndimage.map_coordinates(part.astype(np.float64), grid, order=3, mode="nearest")
    rough = fractal(np.random.default_rng([17, key(place.name)]), side, 2.2, longest=py / CELL_M * 2)
    local = ndimage.gaussian_filter(np.hypot(*np.gradient(heights, CELL_M)), 6)
    return np.rot90(place.relief * (heights + rough * (0.08 + 0.7 * np.minimum(local, 0.6))), place.turned)


def _valley(at: np.ndarray, place: Place) -> np.ndarray:
    """A valley 120 m wide with an end, for machines without the data: its floor rises northwards by 0.8 %, its banks by `relief` (m/m)."""
    x, y = np.meshgrid(at, at)
    banks = np.maximum(np.abs(x + 40 * np.sin(y / 150)) - 60, 0) + np.maximum(-250 - y, 0)
    return 0.008 * (at[-1] - y) + place.relief * banks


def fractal(rng: np.random.Generator, side: int, power: float, longest: float = 0.0) -> np.ndarray:
    """Noise of mean 0 and standard deviation 1 that repeats at its edges, its amplitude falling with frequency to the `power`/2; waves longer than
    `longest` cells are left out."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = 1
    filtered = np.fft.rfft2(rng.standard_normal((side, side))) * f ** (-power / 2)
    filtered[0, 0] = 0
    if longest:
        filtered[f < 1 / longest] = 0
    noise = np.fft.irfft2(filtered, (side, side))
    return noise / noise.std()


def basin(place: Place, data: str, full_m: float) -> Basin:
    """Dams the valley. Raises `ValueError` if the water would leave the scene."""
    heights = terrain(place, data)
    side = len(heights)
    at = (np.arange(side) - side / 2 + 0.5) * CELL_M
    angle = np.radians(place.wall_deg)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)]) * place.upstream  # x right, y down
    foot = across * place.wall_m
    x, y = at[None, :] - foot[0], at[:, None] - foot[1]
    t, off = x * along[0] + y * along[1], x * across[0] + y * across[1]
    bottom = heights[(np.abs(t) < 30) & (np.abs(off) < 15)].min()
    crest = bottom + place.depth_m + FREEBOARD_M
    line = (np.arange(-600, 601) * CELL_M / 2)[:, None] * along + foot
    height = heights[tuple(np.clip(np.rint((line[:, ::-1] / CELL_M) + side / 2 - 0.5).astype(int), 0, side - 1).T)]
    higher = np.flatnonzero(height > crest)
    ends = [
        line[higher[higher < 600].max()] if (higher < 600).any() else line[0],
        line[higher[higher > 600].min()] if (higher > 600).any() else line[-1],
    ]
    t_ends = sorted(float((end - foot) @ along) for end in ends)
    wall = (t > t_ends[0] - 15) & (t < t_ends[1] + 15) & (np.abs(off) < WALL_M / 2)
    natural, heights = heights, np.where(wall, np.maximum(heights, crest), heights)
    pool = (np.abs(t) < 40) & (off < -WALL_M / 2 - 2) & (off > -WALL_M / 2 - 40)
    seed = np.unravel_index(np.argmin(np.where(pool, heights, np.inf)), heights.shape)
    start = np.full(heights.shape, heights.max())
    start[seed] = heights[seed]
    spill = reconstruction(start, heights, method="erosion")
    full = float(heights[seed]) + place.depth_m
    wet, inner = spill < full, slice(PAD + FACTOR, -PAD - FACTOR)
    if wet.sum() != wet[inner, inner].sum():
        raise ValueError(f"The water of {place.name} leaves the scene.")
    shift = full_m - full
    near = ndimage.binary_dilation(spill < crest, iterations=2)
    rise = (ndimage.maximum_filter(natural, 3) - ndimage.minimum_filter(natural, 3)) / 2  # the dam itself is a wall, and no bank
    south, east = np.gradient(heights, CELL_M)
    spill = np.where(near, spill, np.inf) + shift
    as32 = [np.asarray(a, np.float32) for a in (heights + shift, spill, np.where(near, np.clip(rise, 0.02, 50), 1), east, south)]
    return Basin(*as32, wall, full_m, float(heights[seed]) + shift)


def horizon(heights: np.ndarray, azimuth_deg: float, reach_m: float = 700.0) -> np.ndarray:
    """Tangent of the elevation of the skyline towards `azimuth_deg` (clockwise from north), as seen from each cell."""
    dx, dy = np.sin(np.radians(azimuth_deg)), -np.cos(np.radians(azimuth_deg))
    result = np.full(heights.shape, -np.inf, np.float32)
    rows, cols = heights.shape
    step = 1.0
    while step * CELL_M < reach_m:
        i, j = round(step * dy), round(step * dx)
        if max(abs(i), abs(j)) >= min(rows, cols):
            break
        a, b = slice(max(0, -i), rows - max(0, i)), slice(max(0, -j), cols - max(0, j))
        c, d = slice(max(0, i), rows - max(0, -i)), slice(max(0, j), cols - max(0, -j))
        view = (heights[c, d] - heights[a, b]) / np.float32(np.hypot(i, j) * CELL_M)
        np.maximum(result[a, b], view, out=result[a, b])
        step *= 1.04 if step > 12 else 1.0
        step += 1.0 if step <= 12 else 0.5
    return result


def inner(array: np.ndarray) -> np.ndarray:
    """The scene's cells without the padding (last two axes)."""
    return array[..., PAD:-PAD, PAD:-PAD]
