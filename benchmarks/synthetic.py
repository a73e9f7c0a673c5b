"""Made scenes of glacial lakes at 0.5 m with a shoreline that is known exactly, and the rough map that a network would give.

Shapes are pieces of hand-drawn masks of real waters (10 m, ../shared/data/real_water_masks), magnified so that one of their pixels is
`ZOOM` pixels wide and smoothed by their signed distance, which gives a shore defined to a fraction of a pixel. All else is painted:
reflectances of debris, ice, snow, sparse vegetation and lakes of differing turbidity, light and shadow of a terrain, haze, the optics'
blur, noise, 8 bits. The rough map has what maps of networks have: blurred edges that wander, wrong confidence, false lakes, holes, missed
shallows. Neither knows anything of SLIC or CRF, and `SETTINGS` holds harder scenes beside the standard one.

    image, truth, probability = scene(seed=1, size=768)      # bands red, green, blue, near infrared

As a program it writes pictures to look at: `python benchmarks/synthetic.py [seed] [setting]` -> benchmarks/out/synthetic_*.png.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, replace

import numpy as np
from osgeo import gdal
from scipy import ndimage

gdal.UseExceptions()

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PIXEL_M = 0.5
ZOOM = 8  # the smallest shape kept, 10 pixels of a mask, becomes 640 px = 160 m2: the smallest lake that the paper's network found whole
SMALLEST = 640
EXCLUDED = ("RivGraph",)  # 30 m, one delta

# Reflectance in red, green, blue, near infrared; typical of the literature on glacial lakes and debris-covered glaciers.
CLEAR, MILKY, MUDDY = (0.030, 0.055, 0.060, 0.012), (0.120, 0.185, 0.170, 0.040), (0.190, 0.175, 0.130, 0.090)
DEBRIS, MORAINE = (0.150, 0.135, 0.115, 0.185), (0.270, 0.245, 0.205, 0.320)
ICE, SNOW, PLANTS = (0.420, 0.460, 0.480, 0.340), (0.780, 0.790, 0.800, 0.700), (0.070, 0.085, 0.050, 0.280)
SKYLIGHT = (0.15, 0.20, 0.28, 0.12)  # what remains of the light in shadow: blue most; near infrared is scattered back by slopes around
PATH = (0.020, 0.030, 0.050, 0.008)  # what the air itself adds
AIRLIGHT = (0.150, 0.160, 0.175, 0.130)  # colour of thick haze
FULL_SCALE = 0.60  # reflectance of 255: fresh snow saturates, as in most 8-bit imagery over mountains


@dataclass(frozen=True)
class Setting:
    """What makes a scene easy or hard. Lengths in pixels of 0.5 m.

    Image: `haze` share of the light that is airlight; `shadow` share of land that lies in it; `floating_ice` share of lake surface under
    bergs (which the truth counts as lake); `muddy` greatest share of MUDDY in a lake, which makes it look like debris; `psf` blur of the
    optics (0.7 px is usual for resampled satellite imagery), `noise` standard deviation in grey levels.

    Rough map: `blur` sigma of the edges (networks decide on maps 4 to 32 times coarser: several px), `wander` rms of the edges'
    displacement, `confidence` factor of the logit (networks are too sure of themselves: 1.5 to 2 is common), `false_lakes` and
    `holes` per megapixel (2 to 9 px in radius), `missed` dropouts per megapixel at shores (8 to 24 px), `fooled` how far shadow raises
    the logit. The standard values give an IoU of about 0.84, that of the paper's network before its SLIC + CRF (90.69 - 6.92 = 83.77 %).
    """

    haze: float = 0.10
    shadow: float = 0.08
    floating_ice: float = 0.0
    muddy: float = 0.25
    psf: float = 0.7
    noise: float = 1.5
    blur: float = 4.0
    wander: float = 2.5
    confidence: float = 1.6
    false_lakes: float = 70.0
    holes: float = 60.0
    missed: float = 9.0
    fooled: float = 1.5


STANDARD = Setting()
SETTINGS = {
    "standard": STANDARD,
    "haze": replace(STANDARD, haze=0.65, noise=2.5),
    "shadow": replace(STANDARD, shadow=0.35, fooled=3.0),
    "muddy lakes": replace(STANDARD, muddy=0.9),
    "floating ice": replace(STANDARD, floating_ice=0.05),
    "good map": replace(STANDARD, blur=1.5, wander=1.0, false_lakes=10, holes=8, missed=2, fooled=0.5),
}


def find(root: str = ROOT) -> str:
    """The folder of the masks, or "": WATER_DL_DATA, else `../shared/data` beside the checkout."""
    data = os.environ.get("WATER_DL_DATA") or os.path.join(os.path.dirname(root), "shared", "data")
    folder = os.path.join(data, "real_water_masks")
    return folder if glob.glob(os.path.join(folder, "*_Truth.tif")) else ""


def scene(seed: int, size: int = 768, setting: Setting = STANDARD, folder: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image uint8 `(4, size, size)` (red, green, blue, near infrared), truth bool and the rough map's probability float32 `(size, size)`.

    The same arguments give the same scene. Shapes, image and rough map draw from streams of their own, so a seed has the same shores in all
    settings; the rough map's errors depend on the image a little (false lakes in the dark). Raises `FileNotFoundError` without the masks.
    """
    inside = shore_distance(np.random.default_rng([seed, 0]), size, folder or find())
    image, shadow = paint(np.random.default_rng([seed, 1]), inside, setting)
    return image, inside > 0, rough_map(np.random.default_rng([seed, 2]), inside, shadow, image, setting)


def shore_distance(rng: np.random.Generator, size: int, folder: str) -> np.ndarray:
    """Distance to the shore in px, positive in water, float64 `(size, size)`: a piece of a real mask with 6 to 45 % water and
    three lakes that lie inside whole (fewer where `size` is below 510 px)."""
    paths = sorted(p for p in glob.glob(os.path.join(folder, "*.tif")) if not os.path.basename(p).startswith(EXCLUDED))
    if not folder or not paths:
        raise FileNotFoundError("The masks are not here: ../shared/data/real_water_masks beside the checkout, or WATER_DL_DATA=FOLDER.")
    cells = -(-size // ZOOM)
    margin = 6  # so that cubic interpolation and smoothing know what lies beyond the piece
    side = cells + 2 * margin
    for _ in range(1000):
        mask = gdal.Open(paths[rng.integers(len(paths))]).ReadAsArray() > 0
        if min(mask.shape) < side:
            continue
        top, left = (int(rng.integers(n - side + 1)) for n in mask.shape)
        piece = mask[top : top + side, left : left + side]
        inner = piece[margin:-margin, margin:-margin]
        labels, count = ndimage.label(inner)
        lakes = np.bincount(labels.ravel(), minlength=count + 1) >= SMALLEST / ZOOM**2
        lakes[0] = False
        lakes[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = False
        if 0.06 <= inner.mean() <= 0.45 and lakes.sum() >= min(3, max(1, size // 170)):
            break
    else:
        raise ValueError(f"No piece of {side} px with lakes inside is in the masks of {folder}: choose a larger size.")
    coarse = ndimage.distance_transform_edt(piece) - ndimage.distance_transform_edt(~piece)
    coarse = ndimage.gaussian_filter(coarse, 0.7) * ZOOM  # takes off the stairs of 10 m pixels
    at = (np.arange(size) + 0.5) / ZOOM - 0.5 + margin
    inside = ndimage.map_coordinates(coarse, np.meshgrid(at, at, indexing="ij"), order=3)
    inside += 1.2 * fractal(rng, size, 2.6, longest=40)  # bays and spits that a drawing at 10 m can't have
    small_removed = _without_small(_without_small(inside > 0, SMALLEST), 40, holes=True)
    away = ndimage.distance_transform_edt(small_removed) - ndimage.distance_transform_edt(~small_removed)
    changed = small_removed != (inside > 0)
    return np.where(changed | (np.abs(away) > 4), away - 0.5 * np.sign(away), inside)


def paint(rng: np.random.Generator, inside: np.ndarray, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 `(4, rows, cols)` and where shadow lies, bool."""
    size = inside.shape[0]
    dry = np.maximum(-inside, 0)
    relief = 9 * fractal(rng, size, 3.2) + 0.4 * fractal(rng, size, 2.0, longest=40) + 0.25 * np.minimum(dry, 60)  # rises from the shores
    cover = fractal(rng, size, 2.2)
    land = np.zeros((4, size, size)) + _column(DEBRIS)
    land += (_column(MORAINE) - _column(DEBRIS)) * _step(fractal(rng, size, 2.0), 0.6, 0.5)
    ice_share = _step(cover, 1.1, 0.25) * rng.uniform(0.5, 1.0)
    land += (_column(ICE) - land) * ice_share * (0.55 + 0.45 * _step(fractal(rng, size, 1.6), 0, 0.8))  # dirty ice
    land += (_column(PLANTS) - land) * _step(-cover, 1.0, 0.35) * 0.8
    rough = 0.35 + 0.65 * _step(fractal(rng, size, 2.4), 0, 1.0)  # fine sediment here, boulders there
    land *= np.exp(rough * (0.17 * fractal(rng, size, 1.8, longest=60) + 0.10 * fractal(rng, size, 0.4, longest=8)))
    land *= rng.uniform(0.5, 1.1)  # dark schist to pale granite
    wet = dry < 2 + 2 * fractal(rng, size, 2.0, longest=60)  # ground at the shore
    land *= 1 - 0.5 * ndimage.gaussian_filter(wet.astype(float), 0.7)
    land += (_column(SNOW) - land) * _step(fractal(rng, size, 2.4), 2.0, 0.08)

    sun = np.deg2rad(rng.uniform(0, 360))
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(relief, 1.0))
    light = np.clip(1 + 0.5 * (slope_x * np.cos(sun) + slope_y * np.sin(sun)), 0.4, 1.5)
    shadow = _shadow(rng, inside, sun, setting.shadow)
    lit = ndimage.gaussian_filter((~shadow).astype(float), 0.8)  # penumbra
    land *= light * (lit + (1 - lit) * _column(SKYLIGHT))

    water = _lakes(rng, inside, land, setting.muddy)
    water *= 0.35 + 0.65 * (lit + (1 - lit) * _column(SKYLIGHT))
    if setting.floating_ice:
        field = fractal(rng, size, 1.8, longest=50)
        bergs = (field > np.quantile(field, 1 - setting.floating_ice)) & (inside > 4)
        water += (_column(ICE) - water) * ndimage.gaussian_filter(bergs.astype(float), 0.7)
    share = np.clip(inside + 0.5, 0, 1)  # of the pixel that is water; exact for a shore along the grid
    seen = land + (water - land) * share + _column(PATH)
    seen = (1 - setting.haze) * seen + setting.haze * _column(AIRLIGHT)
    seen = ndimage.gaussian_filter(seen, (0, setting.psf, setting.psf))
    grey = seen / FULL_SCALE * 255
    grey += rng.normal(size=grey.shape) * np.sqrt(setting.noise**2 + 0.01 * np.maximum(grey, 0))  # read-out noise and shot noise
    return np.clip(np.rint(grey), 1, 255).astype(np.uint8), shadow


def _lakes(rng: np.random.Generator, inside: np.ndarray, land: np.ndarray, muddy: float) -> np.ndarray:
    """Reflectance of water, as if it were everywhere: each lake has its own turbidity, shallows show the ground."""
    size = inside.shape[0]
    labels, count = ndimage.label(inside > 0)
    milk, mud = rng.beta(0.8, 1.0, count + 1), rng.uniform(0, muddy, count + 1) * (rng.random(count + 1) < 0.5)
    near = labels[tuple(ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True))]  # the lake next by
    milk_here = np.clip(milk[near] + 0.10 * fractal(rng, size, 2.4), 0, 1)
    mud_here = np.clip(mud[near] * (1 + 0.3 * fractal(rng, size, 2.4)), 0, 1)
    water = _column(CLEAR) + (_column(MILKY) - _column(CLEAR)) * milk_here
    water += (_column(MUDDY) - water) * mud_here
    water *= 1 + 0.03 * fractal(rng, size, 0.8, longest=12)  # ripples
    water += 0.05 * _step(fractal(rng, size, 2.4), 1.2, 0.6) * (1 + 0.2 * fractal(rng, size, 1.0, longest=10))  # wind-roughened: glint
    depth = np.maximum(inside, 0) / rng.uniform(3, 10, count + 1)[near]  # shallows reach 3 to 10 px (1.5 to 5 m) from the shore
    ground = np.exp(-depth - 3 * milk_here) * _column((0.5, 0.6, 0.6, 0.10))  # water absorbs the near infrared within decimetres
    return water + land * ground * 0.7


def _shadow(rng: np.random.Generator, inside: np.ndarray, sun: float, share: float) -> np.ndarray:
    """Where cliffs stand between sun and ground, `share` of the land; their foot follows the sun's azimuth, so that shores get it too."""
    size = inside.shape[0]
    cliffs = fractal(rng, size, 3.4, longest=250) + 0.05 * fractal(rng, size, 2.0, longest=30)
    step = np.array([np.sin(sun), np.cos(sun)])
    behind = ndimage.shift(cliffs, step * 25, order=1, mode="nearest")
    field = cliffs - behind
    land = inside <= 0
    return field > np.quantile(field[land], 1 - share) if share else np.zeros(land.shape, bool)


def rough_map(rng: np.random.Generator, inside: np.ndarray, shadow: np.ndarray, image: np.ndarray, setting: Setting) -> np.ndarray:
    """What a network gives for the lakes, float32 `(rows, cols)` 0..1."""
    size = inside.shape[0]
    moved = inside + setting.wander * fractal(rng, size, 2.0, longest=120, shortest=12)
    share = ndimage.gaussian_filter((moved > 0).astype(float), setting.blur)
    logit = np.log(np.clip(share, 0.01, 0.99) / np.clip(1 - share, 0.01, 0.99))
    logit += 0.5 * fractal(rng, size, 2.0, longest=80, shortest=10) + rng.normal(0, 0.4)  # unsure here and there; too wet or too dry
    logit += setting.fooled * ndimage.gaussian_filter(shadow * np.maximum(fractal(rng, size, 2.0, longest=120) + 0.8, 0), 3)
    bright = ndimage.gaussian_filter(image[:3].mean(axis=0), 3)
    per_pixel = size * size / 1e6
    land, water = inside < -6, inside > 6
    # false lakes where it is dark, holes where the water is bright (glint, milk), dropouts in the shallows
    for number, where, weight, sign, radii in (
        (setting.false_lakes, land, 1 / (bright + 5) ** 2, 1, (2, 9)),
        (setting.holes, water, bright, -1, (2, 9)),
        (setting.missed, (inside > 0) & (inside < 10), np.ones_like(bright), -1, (8, 24)),
    ):
        for row, col in _drawn(rng, np.where(where, weight, 0), rng.poisson(number * per_pixel)):
            _blob(logit, row, col, rng.uniform(*radii), sign * rng.uniform(4.5, 8.0), rng)
    return (1 / (1 + np.exp(-setting.confidence * logit))).astype(np.float32)


def _drawn(rng: np.random.Generator, weight: np.ndarray, number: int) -> list:
    """(row, col) of `number` pixels, drawn with probability proportional to `weight`."""
    total = np.cumsum(weight.ravel())
    if not total[-1]:
        return []
    return [divmod(int(k), weight.shape[1]) for k in np.searchsorted(total, rng.random(number) * total[-1])]


def _blob(logit: np.ndarray, row: int, col: int, radius: float, height: float, rng: np.random.Generator) -> None:
    """Add a smooth bump of some ragged form to `logit`."""
    reach = int(2.5 * radius) + 2
    rows, cols = (slice(max(k - reach, 0), min(k + reach + 1, n)) for k, n in zip((row, col), logit.shape))
    y, x = np.mgrid[rows, cols]
    stretch, angle = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    u, v = (x - col) * np.cos(angle) + (y - row) * np.sin(angle), (y - row) * np.cos(angle) - (x - col) * np.sin(angle)
    distance = np.hypot(u, v / stretch) / radius
    around = np.arctan2(v, u)
    distance *= 1 + 0.12 * np.sin(2 * around + rng.uniform(0, 6)) + 0.08 * np.sin(3 * around + rng.uniform(0, 6))
    logit[rows, cols] += height * np.exp(-(distance**4))  # a flat top with a soft rim


def fractal(rng: np.random.Generator, size: int, power: float, longest: float = np.inf, shortest: float = 1) -> np.ndarray:
    """A random surface with mean 0 and standard deviation 1 whose power falls with frequency as f ** -power, float64 `(size, size)`.

    Waves longer than `longest` or shorter than `shortest` px are left out. The surface is periodic, which nobody sees in one scene.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    amplitude = frequency ** (-power / 2)
    amplitude[(frequency < 1 / longest) | (frequency > 1 / shortest)] = 0
    surface = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * amplitude, s=(size, size))
    return (surface - surface.mean()) / surface.std()


def _without_small(mask: np.ndarray, smallest: int, holes: bool = False) -> np.ndarray:
    """The mask without its parts (or holes) of fewer than `smallest` px; parts at the edge stay, whatever they go on as."""
    part = ~mask if holes else mask
    labels, count = ndimage.label(part)
    drop = np.bincount(labels.ravel(), minlength=count + 1) < smallest
    drop[0] = False
    drop[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = False
    return np.where(drop[labels], ~mask, mask)


def _column(reflectance: tuple) -> np.ndarray:
    return np.array(reflectance)[:, None, None]


def _step(field: np.ndarray, middle: float, width: float) -> np.ndarray:
    """0 below `middle`, 1 above it, with a smooth change over `width`."""
    return 1 / (1 + np.exp(-4 * (field - middle) / width))


def picture(image: np.ndarray, truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Natural colours, near infrared / red / green with the true shore, and the rough map, side by side; uint8 `(rows, cols, 3)`."""
    natural = np.moveaxis(np.clip(image[:3] * 1.8, 0, 255), 0, -1).astype(np.uint8)
    infrared = np.moveaxis(np.clip(image[[3, 0, 1]] * 1.8, 0, 255), 0, -1).astype(np.uint8)
    infrared[truth & ~ndimage.binary_erosion(truth, border_value=1)] = (255, 255, 0)
    grey = np.repeat((probability * 255).astype(np.uint8)[..., None], 3, axis=-1)
    wrong = (probability >= 0.5) != truth
    error = grey.copy()
    error[wrong & truth], error[wrong & ~truth] = (255, 60, 60), (60, 140, 255)
    return np.concatenate([np.concatenate([natural, infrared], 1), np.concatenate([grey, error], 1)])


if __name__ == "__main__":
    import sys

    import matplotlib.image

    out = os.path.join(ROOT, "benchmarks", "out")
    os.makedirs(out, exist_ok=True)
    number, name = (*sys.argv[1:], *("1", "standard")[len(sys.argv) - 1 :])[:2]
    path = os.path.join(out, f"synthetic_{name.replace(' ', '_')}_{number}.png")
    matplotlib.image.imsave(path, picture(*scene(int(number), 512, SETTINGS[name])))
    print(path)
