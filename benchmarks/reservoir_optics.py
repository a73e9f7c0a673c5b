"""Sentinel-2 scenes of a simulated reservoir: reflectance in bands 3, 4, 8 (560, 665, 842 nm), clouds, and a QA60 band that misses some.

Water: Gordon et al. 1988 (doi:10.1029/JD093iD09p10909) for what comes back from deep water, Lee et al. 1998 (doi:10.1364/AO.37.006329) for how
much the ground below shallow water adds, with absorption and backscatter of water (Pope & Fry 1997, doi:10.1364/AO.36.008710; beyond 700 nm Hale & Querry 1973, doi:10.1364/AO.12.000555, mean over the band), suspended
matter (backscatter 0.011 m2/g; 0.012 for minerals: Neukermans et al. 2012, doi:10.4319/lo.2011.57.1.0124; absorption: Babin et al. 2003,
doi:10.1029/2001JC000882), algae and stain; sky mirrored by the surface and sun glint (Cox & Munk 1954, doi:10.1364/JOSA.44.000838). Land: shares of
typical spectra; soil darkens with water (Lobell & Asner 2002, doi:10.2136/sssaj2002.7220). Light: sun on slopes, cast shadow, the sky's
light in it. Air: what the atmospheric correction leaves. Camera: optics blur of 0.45 px, so that shore pixels are mixed; a shift per scene; noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from reservoir_basins import FACTOR, PIXEL_M, SIDE, Basin, fractal, horizon, inner
from reservoir_cover import Cover
from scipy import ndimage

BANDS, WAVE = ("B3", "B4", "B8"), np.array([560.0, 665.0, 842.0])
# Reflectance of covers in these bands; see docs/simulator.md
SOIL, WET_SOIL, MUD, PALE = (0.135, 0.185, 0.265), 0.46, (0.115, 0.140, 0.195), (0.205, 0.250, 0.310)
TREES, SHRUBS, GREEN, DRY = (0.042, 0.030, 0.245), (0.062, 0.058, 0.205), (0.082, 0.050, 0.390), (0.125, 0.160, 0.270)
ROCK, CONCRETE = (0.140, 0.165, 0.205), (0.235, 0.255, 0.285)
WATER_A, WATER_BB = np.array([0.0619, 0.429, 3.7]), np.array([0.00093, 0.00045, 0.00017])  # 1/m
DIFFUSE = np.array([0.19, 0.14, 0.09])  # share of the sky in the light, clear air
NOISE = np.array([0.0009, 0.0009, 0.0012])  # radiometric noise over dark ground (signal to noise of 142 to 172 at reference radiance)


@dataclass(frozen=True)
class Sky:
    """Light and air of a scene: `height`, `azimuth` of the sun (degrees); `wind` m/s; `shift` of the image (px, down
    and right); `haze`: left by the correction, at 560 nm; `gain`: error of calibration and aerosol; `overcast`: share of thick cloud wanted, `thin`: of
    cirrus; `base_m`: height of the clouds; `missing`: how much QA60 sees too little."""

    height: float
    azimuth: float
    wind: float
    shift: tuple
    haze: float
    gain: float
    overcast: float
    thin: float
    base_m: float
    missing: float


def sky(rng: np.random.Generator, height: float, azimuth: float, wind: float, cloudy: float) -> Sky:
    """Draws a scene's air: most are clear, a third has some clouds, the rain season more (so few scenes are wholly overcast: they are not kept)."""
    some = rng.random() < 0.25 + 0.55 * cloudy
    overcast = float(rng.beta(0.7, 2.0)) * min(1.0, 0.4 + cloudy) if some else 0.0
    thin = float(rng.beta(0.8, 3.0)) if rng.random() < 0.22 else 0.0
    hazy = rng.random() < 0.15
    return Sky(
        height, azimuth, wind, tuple(rng.normal(0, 0.32, 2)), float(rng.normal(0.003, 0.006) + hazy * rng.gamma(2, 0.008)), float(np.exp(rng.normal(0, 0.03))),
        overcast, thin, float(rng.uniform(700, 2600)), float(rng.beta(1.2, 3.0)),
    )  # fmt: skip


def deep_water(matter, algae: float, stain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Absorption, backscatter (1/m) and remote-sensing reflectance below the surface of deep water, `(3, ...)` each. `matter`: g/m3, any shape."""
    matter = np.asarray(matter, np.float64)
    shape = (3,) + (1,) * matter.ndim
    w = WAVE.reshape(shape)
    algal = np.array([0.009, 0.018, 0.0]).reshape(shape) * algae
    a = WATER_A.reshape(shape) + algal + stain * np.exp(-0.015 * (w - 440)) + 0.060 * matter * np.exp(-0.0123 * (w - 443))
    bb = WATER_BB.reshape(shape) + 0.011 * matter * (555 / w) ** 0.3 + 0.0010 * algae * (555 / w)
    u = bb / (a + bb)
    return a, bb, (0.0949 + 0.0794 * u) * u


def water(depth, matter, algae: float, stain: float, bottom, sun_height: float) -> np.ndarray:
    """Reflectance (pi times remote-sensing reflectance) of water `depth` m deep over a `bottom` of reflectance `(3, n)`; `(3, n)`. Without the surface."""
    a, bb, deep = deep_water(matter, algae, stain)
    k, u = a + bb, bb / (a + bb)
    path = 1 / np.cos(np.arcsin(np.cos(np.radians(sun_height)) / 1.34))  # of the sun's light in the water
    down = path + 1.03 * np.sqrt(1 + 2.4 * u)
    up = path + 1.04 * np.sqrt(1 + 5.4 * u)
    below = deep * (1 - np.exp(-down * k * depth)) + bottom / np.pi * np.exp(-up * k * depth)
    return np.pi * 0.5 * below / (1 - 1.5 * below)


def surface(wind: float, sun_height: float) -> float:
    """Sky light mirrored by the surface and glint, for a sensor 5 degrees off the vertical, on the side away from the sun."""
    s, v = np.radians(90 - sun_height), np.radians(5.0)
    half = np.cos(s) * np.cos(v) - np.sin(s) * np.sin(v)  # sun and sensor opposite: the worst half of the swath
    tilt = (np.cos(s) + np.cos(v)) / np.sqrt(2 + 2 * half)
    variance = 0.003 + 0.00512 * 0.6 * wind  # waves are small where the wind has come over little water
    slopes = (1 - tilt**2) / tilt**2
    glint = np.pi * 0.022 * np.exp(-slopes / variance) / (np.pi * variance) / (4 * np.cos(s) * np.cos(v) * tilt**4)
    return float(0.004 + 0.5 * glint)  # the correction takes part of the mirrored sky away


def land(cover: Cover) -> np.ndarray:
    """Reflectance of the cells' land, `(3, n, n)`, in level light."""
    col = lambda values: np.asarray(values, np.float32)[:, None, None]  # noqa: E731
    dryness = np.exp(-9.0 * np.clip(cover.moisture - 0.05, 0, None))
    bank = np.clip(cover.bleach, 0, 1)
    base = np.where(cover.bleach > 0, (1 - bank) * col(MUD) + bank * col(PALE), col(SOIL)) * cover.soil
    soil = base * (WET_SOIL + (1 - WET_SOIL) * dryness)
    bare = 1 - np.minimum(cover.trees + cover.shrubs + cover.green + cover.dry + cover.rock, 1)
    mix = bare * soil
    for share, spectrum in ((cover.trees, TREES), (cover.shrubs, SHRUBS), (cover.green, GREEN), (cover.dry, DRY)):
        mix = mix + share * col(spectrum)
    mix = mix + cover.rock * (col(ROCK) * (1 - 0.3 * (1 - dryness)) * cover.soil**0.7 * (1 + 0.25 * bank))
    return mix * (1 - cover.wall) + col(CONCRETE) * cover.wall


class Light:
    """Sun and shadow on a basin; skylines are kept, since they need the longest."""

    def __init__(self, basin: Basin):
        self.basin, self._skylines = basin, {}
        self._open = (1 + 1 / np.sqrt(1 + inner(basin.east) ** 2 + inner(basin.south) ** 2)) / 2

    def __call__(self, height: float, azimuth: float) -> tuple[np.ndarray, np.ndarray]:
        """Factor on reflectance per band `(3, n, n)` on land, and share of direct sun `(n, n)`: 0 in cast shadow."""
        step = 5
        low = int(azimuth // step) * step
        part = (azimuth - low) / step
        line = (1 - part) * self._skyline(low) + part * self._skyline(low + step)
        sun = np.clip(0.5 + (np.tan(np.radians(height)) - line) / 0.02, 0, 1)
        e, a = np.radians(height), np.radians(azimuth)
        east, south = inner(self.basin.east), inner(self.basin.south)
        normal = 1 / np.sqrt(1 + east**2 + south**2)
        facing = (np.sin(e) + np.cos(e) * (-east * np.sin(a) + south * np.cos(a))) * normal / np.sin(e)
        direct = sun * np.clip(facing, 0, 2.2)
        diffuse = DIFFUSE[:, None, None].astype(np.float32)
        return (1 - diffuse) * direct + diffuse * self._open, sun

    def _skyline(self, azimuth: int) -> np.ndarray:
        azimuth %= 360
        if azimuth not in self._skylines:
            self._skylines[azimuth] = inner(horizon(self.basin.heights, azimuth))
        return self._skylines[azimuth]


def scene(
    rng: np.random.Generator, cover: Cover, light: Light, sky: Sky, matter: float, algae: float, stain: float
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Reflectance x 10000 as uint16 `(3, SIDE, SIDE)`, QA60 uint16, and masks of the truth: `cloud`, `shadow` (bool)."""
    lit, sun = light(sky.height, sky.azimuth)
    dry = land(cover)
    rho = dry * lit
    at = np.nonzero(cover.wet > 0)
    depth = cover.depth[at]
    patches = fractal(rng, len(cover.wet), 2.6, longest=150)
    local = matter * np.exp(0.28 * patches[at]) * (1 + 1.2 * np.exp(-depth / 0.7) * min(sky.wind / 5, 2))  # waves stir the shallows
    body = water(depth, local, algae, stain, dry[(slice(None), *at)] * 0.75, sky.height)
    ruffled = np.clip(1 + 0.6 * patches[at], 0.1, 2.5)
    top = 0.004 + (surface(sky.wind, sky.height) - 0.004) * ruffled
    diffuse = DIFFUSE[:, None]
    body = body * (diffuse + (1 - diffuse) * sun[at]) + np.where(sun[at] > 0.5, top, 0.004)
    standing = cover.standing[at]
    green = np.asarray(GREEN)[:, None] * 0.7 + np.asarray(DRY)[:, None] * 0.3
    body = body * (1 - standing) + green * standing * (diffuse + (1 - diffuse) * sun[at])
    share = cover.wet[at]
    rho[(slice(None), *at)] = rho[(slice(None), *at)] * (1 - share) + body * share
    around = ndimage.gaussian_filter(rho, (0, 60, 60), mode="nearest", truncate=2.5)
    spread = (0.035 + 1.5 * max(sky.haze, 0)) * (842 / WAVE[:, None, None]) ** 0.3  # light from around, scattered into the view
    rho = rho + np.minimum(spread, 0.25) * (around - rho)
    image = _sampled(rng, rho, sky.shift)
    haze = sky.haze * (560 / WAVE[:, None, None]) ** 1.3 * (1 + 0.15 * fractal(rng, SIDE, 3.0))
    image = image * sky.gain + haze
    clouds, shadow = _clouds(rng, sky)
    image = _clouded(image, clouds, shadow, sky)
    thick, cirrus = clouds
    seen = _qa60(rng, thick, cirrus, image, sky)
    image = image + rng.normal(0, 1, image.shape) * (NOISE[:, None, None] + 0.0025 * image)
    masks = {"cloud": (thick > 0.06) | (cirrus > 0.10), "shadow": shadow > 0.25}
    return np.clip(np.rint(image * 10000), 1, 16000).astype(np.uint16), seen, masks


def _sampled(rng: np.random.Generator, fine: np.ndarray, shift: tuple) -> np.ndarray:
    """Pixels from cells: blur of the optics, shift of the scene and small ones of the bands, mean over the pixel."""
    result = np.empty((len(fine), SIDE, SIDE), np.float32)
    for k, band in enumerate(fine):
        blurred = ndimage.gaussian_filter(band.astype(np.float32), 0.45 * FACTOR, mode="nearest", truncate=3)
        moved = ndimage.shift(blurred, (np.asarray(shift) + rng.normal(0, 0.06, 2)) * FACTOR, order=1, mode="nearest")
        result[k] = moved.reshape(SIDE, FACTOR, SIDE, FACTOR).mean(axis=(1, 3))
    return result


def _clouds(rng: np.random.Generator, sky: Sky) -> tuple[tuple, np.ndarray]:
    """Reflectance 0..1 of thick cloud and of cirrus, `(SIDE, SIDE)` each, and the share of sunlight that thick cloud takes from the ground.

    Fractal fields (spectra of clouds fall with about the 5/3 to 3rd power: Cahalan & Snider 1989, Remote Sensing of Environment 28, 95) on a sheet of 4 km;
    reflectance by two streams, R = 0.15 t / (2 + 0.15 t). The shadow is the same sheet, moved by what the sun's height tells."""
    side, blank = 4 * SIDE, np.zeros((SIDE, SIDE), np.float32)
    if not (sky.overcast or sky.thin):
        return (blank, blank), blank
    away = sky.base_m / np.tan(np.radians(sky.height)) / PIXEL_M
    move = np.rint([np.cos(np.radians(sky.azimuth)) * away, -np.sin(np.radians(sky.azimuth)) * away]).astype(
        int
    )  # shadow lies down-sun: rows, cols
    thick, shadow, cirrus = blank, blank, blank
    if sky.overcast:
        field = fractal(rng, side, 3.5)
        excess = field - np.quantile(field, 1 - min(sky.overcast, 0.98))
        tau = 45 * np.logaddexp(0, excess / 0.04) * 0.04 * np.exp(0.5 * fractal(rng, side, 2.2))  # the rim thins out; billows
        albedo = 0.15 * tau / (2 + 0.15 * tau)
        thick = albedo[:SIDE, :SIDE]
        shadow = np.roll(albedo, tuple(move), (0, 1))[:SIDE, :SIDE] ** 0.6
    if sky.thin:
        stretched = ndimage.zoom(fractal(rng, side // 2, 3.6), (1.5, 4), order=1)
        turned = ndimage.rotate(stretched[:, : len(stretched)], float(rng.uniform(0, 180)), reshape=False, order=1, mode="mirror")
        cirrus = 0.10 * sky.thin * np.logaddexp(0, 2.5 * (turned[90 : 90 + SIDE, 90 : 90 + SIDE] + 0.3))
    return (thick.astype(np.float32), cirrus.astype(np.float32)), np.clip(shadow, 0, 1).astype(np.float32)


def _clouded(image: np.ndarray, clouds: tuple, shadow: np.ndarray, sky: Sky) -> np.ndarray:
    thick, cirrus = clouds
    diffuse = np.array([0.30, 0.25, 0.20])[:, None, None]  # clouds around brighten the shade
    image = image * (1 - shadow * (1 - diffuse))
    for veil in (cirrus, thick):
        image = image * (1 - veil) ** 2 + veil * np.array([0.97, 0.97, 0.94])[:, None, None]
    return image


def _qa60(rng: np.random.Generator, thick: np.ndarray, cirrus: np.ndarray, image: np.ndarray, sky: Sky) -> np.ndarray:
    """Bits 10 (clouds) and 11 (cirrus) in blocks of 60 m; misses rims, thin clouds and small ones, more in some scenes; knows no shadow; takes very bright
    ground for cloud now and then (Coluzzi et al. 2018, doi:10.1016/j.rse.2018.08.009: omissions are its main fault)."""
    block = 6
    rows = -(-SIDE // block)
    pad = rows * block - SIDE
    means = [
        np.pad(a, ((0, pad), (0, pad)), mode="edge").reshape(rows, block, rows, block).mean(axis=(1, 3)) for a in (thick, cirrus, image[1])
    ]
    cloud = means[0] > 0.16 + 0.30 * sky.missing
    cloud = ndimage.binary_dilation(cloud) if rng.random() < 0.5 else cloud
    cloud |= (means[2] > 0.30) & (rng.random() < 0.3)
    veil = (means[1] > 0.07 + 0.08 * sky.missing) & ~cloud
    bits = (cloud * 1024 + veil * 2048).astype(np.uint16)
    return np.repeat(np.repeat(bits, block, 0), block, 1)[:SIDE, :SIDE]
