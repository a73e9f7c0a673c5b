"""Coarse elevation models as satellites give them, derived from fine ones. A mean over blocks alone would be too easy: global models have noise.

What the noise is like was read off two real models of one place, Copernicus GLO-30 and NASADEM (../shared/data/dem_30m_pair): their
difference has a normalised median absolute deviation of 2.2 m on level ground, 4.5 m on slopes of 0.3; neighbouring pixels correlate by 0.73,
the ones after by 0.31, which is white noise blurred with a standard deviation of 0.9 pixels; nothing beyond four. The better model is taken
to hold a third of that variance (1.1 m + 2.3 m times the slope), the other one the rest (1.5 m + 3 m). For other pixel sizes the numbers
are scaled with the pixel. Both get a slow undulation (0.4 m, 15 pixels) as well; the better is rounded to 0.1 m and lies 0.7 m too low,
the other to whole metres, 1.8 m too high and half a pixel aside, since such is life.
"""

from __future__ import annotations

import os

import numpy as np
from osgeo import gdal

REAL_PX = 30.0  # m: what the numbers below were measured at
NOISE = {"glo": (1.1, 2.3), "nasa": (1.5, 3.0)}  # m on level ground, m per unit of slope
BLUR, SLOW, SLOW_M = 0.9, 15.0, 0.4
LEVEL = {"glo": -0.7, "nasa": 1.8}
STEP = {"glo": 0.1, "nasa": 1.0}


def read(path: str) -> tuple[np.ndarray, tuple, str]:
    """Heights float64 with NaN where there are none, geotransform and CRS."""
    data = gdal.Open(path)
    heights, nodata = data.ReadAsArray().astype(np.float64), data.GetRasterBand(1).GetNoDataValue()
    return np.where(heights == nodata, np.nan, heights) if nodata is not None else heights, data.GetGeoTransform(), data.GetProjection()


def write(path: str, heights: np.ndarray, transform: tuple, crs: str) -> str:
    data = gdal.GetDriverByName("GTiff").Create(path, heights.shape[1], heights.shape[0], 1, gdal.GDT_Float32, ["COMPRESS=DEFLATE"])
    data.SetGeoTransform(transform)
    data.SetProjection(crs)
    data.GetRasterBand(1).SetNoDataValue(-9999)
    data.GetRasterBand(1).SetUnitType("m")
    data.GetRasterBand(1).WriteArray(np.where(np.isfinite(heights), heights, -9999).astype(np.float32))
    data = None
    return path


def averaged(heights: np.ndarray, transform: tuple, factor: int, aside: float = 0.0) -> tuple[np.ndarray, tuple]:
    """Means over `factor` x `factor` pixels (NaN if one is); `aside`: shifted by so many coarse pixels to the right and down."""
    step = round(aside * factor)
    heights = heights[step:, step:]
    rows, cols = (n // factor for n in heights.shape)
    means = heights[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor).mean(axis=(1, 3))
    x, dx, rx, y, ry, dy = transform
    return means, (x + step * (dx + rx), dx * factor, rx * factor, y + step * (ry + dy), ry * factor, dy * factor)


def noisy(means: np.ndarray, pixel_m: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """The means as the model `kind` would have measured them."""
    from scipy import ndimage

    filled = np.where(np.isfinite(means), means, np.nanmean(means))
    slope = np.minimum(np.hypot(*np.gradient(filled, pixel_m)), 1)
    fast, slow = (ndimage.gaussian_filter(rng.standard_normal(means.shape), s) for s in (BLUR, SLOW))
    level, rise = NOISE[kind]
    share = pixel_m / REAL_PX
    heights = means + share * ((level + rise * slope) * fast / fast.std() + SLOW_M * slow / slow.std()) + LEVEL[kind] * share
    return np.round(heights / (STEP[kind] * share)) * STEP[kind] * share


def derive(fine: str, factor: int, folder: str, seed: int, pixel_m: float) -> dict[str, str]:
    """Paths of the two coarse models of a fine one, whose pixels are `pixel_m` metres."""
    heights, transform, crs = read(fine)
    name, made = os.path.splitext(os.path.basename(fine))[0], {}
    for number, (kind, aside) in enumerate((("glo", 0.0), ("nasa", 0.5))):
        means, place = averaged(heights, transform, factor, aside)
        rng = np.random.default_rng([seed, number])
        made[kind] = write(os.path.join(folder, f"{name}_{kind}{factor}.tif"), noisy(means, pixel_m * factor, kind, rng), place, crs)
    return made
