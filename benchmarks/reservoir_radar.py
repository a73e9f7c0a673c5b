"""Sentinel-1 scenes of a simulated reservoir: VV and VH in dB, as ground-range products corrected for terrain have them (sigma0 on the ellipsoid).

Open water: CMOD5.N for VV (Hersbach 2010, doi:10.1175/2009JTECHO698.1), a line in wind speed for VH (Vachon & Wolfe 2011, doi:10.1109/LGRS.2010.2085417),
never below the noise of the instrument, so calm water is dark and windy water looks like land. Soil: Oh 2004 (doi:10.1109/TGRS.2003.821065);
smooth wet mud is dark, too. Plants: water cloud model (Attema & Ulaby 1978, doi:10.1029/RS013i002p00357), with trunks and stalks over water brightened by
double bounce. Terrain: every cell's echo is put at its slant range and read back at the place that the elevation model tells, so slopes
towards the radar are bright, walls lie over the water at their foot, and lee sides are black. Speckle of 4.4 looks at 20 m resolution.
"""

from __future__ import annotations

import numpy as np
from reservoir_basins import CELL_M, FACTOR, PAD, PIXEL_M, Basin, fractal, horizon, inner
from reservoir_cover import Cover
from scipy import ndimage

BANDS = ("VV", "VH")
LOOK_DEG, INCIDENCE_DEG = 78.0, 38.0  # ascending, looking right: eastwards; middle of the swath
WAVENUMBER = 2 * np.pi * 5.405e9 / 2.998e8
FLOOR_DB = (-24.5, -27.0)  # noise equivalent of the interferometric wide swath, VV and VH, after the correction for it
LOOKS = 5  # complex images averaged, blurred to the resolution: 4.4 equivalent looks per pixel
#: water cloud model, per cover: strength (m2/m2) of the volume in VV and VH, attenuation
TREES, SHRUBS, HERBS, STRAW = (0.130, 0.034, 0.9), (0.075, 0.016, 0.6), (0.058, 0.010, 0.35), (0.026, 0.004, 0.12)
_C = (0, -0.6878, -0.7957, 0.3380, -0.1728, 0.0, 0.0040, 0.1103, 0.0159, 6.7329, 2.7713, -2.2885, 0.4971, -0.7250, 0.0450, 0.0066, 0.3222, 0.0120,
      22.7, 2.0813, 3.0, 8.3659, -3.3428, 1.3236, 6.2437, 2.3893, 0.3249, 4.1590, 1.6930)  # fmt: skip


def cmod5n(wind: np.ndarray, relative_deg: float, incidence_deg: float) -> np.ndarray:
    """Backscatter (linear) of open water in VV. `wind`: m/s at 10 m, neutral; `relative_deg`: 0 if it blows towards the radar."""
    c, v = _C, np.maximum(np.asarray(wind, np.float64), 0.2)
    x = (incidence_deg - 40) / 25
    a0 = c[1] + c[2] * x + c[3] * x**2 + c[4] * x**3
    a1, a2 = c[5] + c[6] * x, c[7] + c[8] * x
    gamma = c[9] + c[10] * x + c[11] * x**2
    s0 = c[12] + c[13] * x
    s = a2 * v
    grown = 1 / (1 + np.exp(-np.maximum(s, s0)))
    a3 = np.where(s < s0, grown * np.maximum(s / s0, 1e-9) ** (s0 * (1 - 1 / (1 + np.exp(-s0)))), grown)
    b0 = a3**gamma * 10 ** (a0 + a1 * v)
    b1 = c[15] * v * (0.5 + x - np.tanh(4 * (x + c[16] + c[17] * v)))
    b1 = (c[14] * (1 + x) - b1) / (np.exp(0.34 * (v - c[18])) + 1)
    v0, d1, d2 = c[21] + c[22] * x + c[23] * x**2, c[24] + c[25] * x + c[26] * x**2, c[27] + c[28] * x
    v2 = v / v0 + 1
    a = c[19] - (c[19] - 1) / c[20]
    b = 1 / (c[20] * (c[19] - 1) ** (c[20] - 1))
    v2 = np.where(v2 < c[19], a + b * np.maximum(v2 - 1, 0) ** c[20], v2)
    b2 = (-d1 + d2 * v2) * np.exp(-v2)
    phi = np.radians(relative_deg)
    return b0 * (1 + b1 * np.cos(phi) + b2 * np.cos(2 * phi)) ** 1.6


def open_water(wind: np.ndarray, relative_deg: float) -> np.ndarray:
    """VV and VH (linear), `(2, ...)`."""
    cross = 10 ** ((0.592 * wind - 35.6) / 10)
    return np.stack([cmod5n(wind, relative_deg, INCIDENCE_DEG), cross])


def soil(moisture: np.ndarray, rough_m: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """VV and VH (linear) of bare soil by Oh's model. `moisture` m3/m3, `rough_m`: rms height; `cosine` of the local incidence angle."""
    mv, ks = np.clip(moisture, 0.04, 0.4), np.clip(WAVENUMBER * rough_m, 0.05, 3.5)
    cosine = np.clip(cosine, 0.15, 0.985)
    sine = np.sqrt(1 - cosine**2)
    cross = 0.11 * mv**0.7 * cosine**2.2 * (1 - np.exp(-0.32 * ks**1.8))
    ratio = 0.095 * (0.13 + np.sin(1.5 * np.arcsin(sine))) ** 1.4 * (1 - np.exp(-1.3 * ks**0.9))
    return np.stack([np.minimum(cross / ratio, 0.8), cross])


def land(cover: Cover, cosine: np.ndarray) -> np.ndarray:
    """VV and VH (linear) of the cells' land, `(2, n, n)`, per area in level view."""
    rough = np.where(cover.bleach > 0, 0.0045 + 0.006 * cover.bleach, 0.011) * cover.soil**1.5  # mud is smooth, cracks as it dries
    rough = rough * (1 - np.minimum(cover.rock, 1)) + 0.02 * cover.rock
    ground = soil(np.where(cover.rock > 0.5, 0.06, cover.moisture), rough, cosine)
    parts = ((cover.trees, TREES), (cover.shrubs, SHRUBS), (cover.green, HERBS), (cover.dry, STRAW))
    covered = sum(share for share, _ in parts)
    result = np.clip(1 - covered, 0, 1) * ground
    cosine = np.clip(cosine, 0.15, 1)
    for share, (vv, vh, weakened) in parts:
        through = np.exp(-2 * weakened / cosine)
        volume = np.array([vv, vh])[:, None, None] * cosine * (1 - through) / (1 - np.exp(-2 * weakened / 0.8))
        result = result + share * (volume + through * ground)
    concrete = np.array([0.30, 0.05])[:, None, None]
    return result * (1 - cover.wall) + concrete * cover.wall


class View:
    """How the radar sees a basin: what does not change with the water."""

    def __init__(self, basin: Basin):
        self.basin = basin
        look = np.radians(LOOK_DEG)
        self.toward = np.array([np.sin(look), -np.cos(look)])  # range direction on the map: x right, y down
        sky = horizon(basin.heights, (LOOK_DEG + 180) % 360, reach_m=300)
        self.hidden = inner(sky) > np.tan(np.radians(90 - INCIDENCE_DEG))  # the skyline towards the radar is above it
        at = (np.arange(len(basin.heights)) + 0.5) * CELL_M
        x, y = np.meshgrid(at, at)  # with the padding: hills beside the scene lean into it
        self.ground = x * self.toward[0] + y * self.toward[1]
        self.along = -x * self.toward[1] + y * self.toward[0]

    def cosine(self) -> np.ndarray:
        """Of the local incidence angle."""
        east, south, t = inner(self.basin.east), inner(self.basin.south), np.radians(INCIDENCE_DEG)
        up = np.cos(t) + np.sin(t) * (east * self.toward[0] + south * self.toward[1])  # a rise in the look direction faces the radar
        return up / np.sqrt(1 + east**2 + south**2)

    def stretch(self, heights: np.ndarray) -> np.ndarray:
        """Ground range at which a cell's echo arrives: height brings it nearer."""
        return self.ground - heights / np.tan(np.radians(INCIDENCE_DEG))


def scene(rng: np.random.Generator, cover: Cover, view: View, level: float, wind: float) -> np.ndarray:
    """VV and VH in dB, float32 `(2, SIDE, SIDE)`."""
    basin = view.basin
    cosine = view.cosine()
    area = np.sqrt(1 + inner(basin.east) ** 2 + inner(basin.south) ** 2)  # true area per map area
    sine = np.sqrt(np.clip(1 - cosine**2, 0.01, 1))
    power = land(cover, cosine) * np.where(cosine > 0, area * np.maximum(cosine, 0.05) / np.cos(np.radians(INCIDENCE_DEG)), 0) ** 0.5
    power = power / sine**0.3 * np.sin(np.radians(INCIDENCE_DEG)) ** 0.3
    power[:, view.hidden & (cover.wet < 0.5)] = 0
    patches = fractal(rng, len(cover.wet), 2.8, longest=160)
    blowing = np.maximum(wind * 0.75 * np.exp(0.22 * patches), 0)  # in the lee of banks, over little water
    water = open_water(blowing, float(rng.uniform(0, 360)))
    bounce = cover.standing * np.array([0.16, 0.02])[:, None, None]
    power = power * (1 - cover.wet) + (water + bounce) * cover.wet * np.where(view.hidden, 0, 1)
    heights = basin.heights - level
    inner(heights)[cover.wet > 0.5] = 0
    echo = _ranged(np.pad(power, ((0, 0), (PAD, PAD), (PAD, PAD)), mode="reflect"), view, heights)
    echo = ndimage.gaussian_filter(echo, (0, 0.85, 0.85), mode="nearest")  # 20 x 22 m resolution on 10 m pixels
    floor = 10 ** (np.array(FLOOR_DB) / 10)[:, None, None]
    looked = (echo + floor) * np.stack([_speckle(rng, echo.shape[1:]) for _ in BANDS])
    image = _read_back(looked, view, heights, rng.normal(0, 0.25, 2))
    return (10 * np.log10(np.maximum(image - 0.6 * floor, 10**-3.2)) + rng.normal(0, 0.25)).astype(
        np.float32
    )  # calibration is stable to 0.25 dB


_MARGIN = 40  # px around the range image: tops of hills arrive early


def _frame(view: View, ground_range: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    origin = view.ground.min(), view.along.min()
    return (view.along - origin[1]) / PIXEL_M + _MARGIN, (ground_range - origin[0]) / PIXEL_M + _MARGIN


def _ranged(power: np.ndarray, view: View, heights: np.ndarray) -> np.ndarray:
    """Echoes summed where they arrive, `(2, azimuth, range)`, per area of level ground."""
    shape = tuple(int(v.max()) + 2 + _MARGIN for v in _frame(view, view.ground))
    rows, cols = _frame(view, view.stretch(heights))
    cols = np.clip(cols, 0, shape[1] - 2)
    result = np.zeros((2, *shape))
    i, j = rows.astype(int), cols.astype(int)
    a, b = rows - i, cols - j
    for down, right, weight in ((0, 0, (1 - a) * (1 - b)), (0, 1, (1 - a) * b), (1, 0, a * (1 - b)), (1, 1, a * b)):
        index = ((i + down) * shape[1] + j + right).ravel()
        for k, values in enumerate(power):
            result[k] += np.bincount(index, (values * weight).ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    return result / FACTOR**2


def _speckle(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Mean 1; neighbours are alike, since the resolution is two pixels."""
    total = np.zeros(shape)
    for _ in range(LOOKS):
        real, imaginary = (ndimage.gaussian_filter(rng.standard_normal(shape), 0.6, mode="wrap") for _ in range(2))
        total += real**2 + imaginary**2
    return total / total.mean()


def _read_back(image: np.ndarray, view: View, heights: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Terrain correction: each map pixel reads the echo at its own slant range. The elevation model used for that is the smooth one that everyone has."""
    smooth = ndimage.gaussian_filter(heights, 3.0 * FACTOR / 2, mode="nearest")
    rows, cols = (inner(a) for a in _frame(view, view.stretch(smooth)))
    pick = slice(FACTOR // 2, None, FACTOR)
    at = np.stack([rows[pick, pick] + shift[0], cols[pick, pick] + shift[1]])
    return np.stack([ndimage.map_coordinates(band, at, order=1, mode="nearest") for band in image])
