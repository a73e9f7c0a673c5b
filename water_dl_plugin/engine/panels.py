"""Arrays to look at: image | truth | prediction as one RGB array. numpy only; images are (bands, rows, cols), pictures (rows, cols, 3)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from .errors import BandError, ConfigError, GridMismatchError

IGNORED = (236, 238, 240)
SEPARATOR = (255, 255, 255)
SUN = (-0.5, 0.5, math.sqrt(0.5))  # of hillshades, unit vector to the light: from the north-west, 45 degrees high
GENTLE = math.tan(math.radians(25))  # how steep the steeper slopes of a hillshade should look


def rgb(colour: Any) -> tuple[int, int, int]:
    """A colour given as `#rrggbb` or as three (four: alpha is dropped) numbers 0..255. Raises `ConfigError`."""
    if isinstance(colour, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
    try:
        red, green, blue = (int(part) for part in list(colour)[:3])
    except (TypeError, ValueError):
        raise ConfigError(f"{str(colour)[:40]!r} is not a colour.", "Write colours as #rrggbb or as three numbers 0..255.") from None
    if isinstance(colour, str) or not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ConfigError(f"{str(colour)[:40]!r} is not a colour.", "Write colours as #rrggbb or as three numbers 0..255.")
    return red, green, blue


def hexadecimal(colour: Any) -> str:
    """The colour as `#rrggbb`: safe inside HTML, whatever came in. Raises `ConfigError`."""
    return "#{:02x}{:02x}{:02x}".format(*rgb(colour))


def stretch(
    pixels: np.ndarray, valid: Optional[np.ndarray] = None, bands: Sequence[int] = (0, 1, 2), percent: tuple = (2, 98)
) -> np.ndarray:
    """Three bands `(bands, rows, cols)` of any type as uint8 `(rows, cols, 3)`, each stretched between two percentiles of its valid pixels.

    `valid` is `(rows, cols)`, True where there is data (None: everywhere); what is not, and what is not finite, is hatched in light
    grey. `bands` are indices from 0; one may be repeated (grey). A constant band becomes mid-grey. Raises `BandError`.
    """
    pixels = np.asarray(pixels)
    if len(bands) != 3 or not all(0 <= band < len(pixels) for band in bands):
        raise BandError(f"Bands {list(bands)} are not three of the {len(pixels)} there are.", "Name three indices; one may be repeated.")
    chosen = pixels[list(bands)].astype(np.float64)
    there = np.isfinite(chosen).all(axis=0)
    if valid is not None:
        there &= np.asarray(valid, dtype=bool)
    picture = hatch(*there.shape)
    for channel, band in enumerate(chosen):
        known = band[there]
        if known.size:
            low, high = np.percentile(known, percent)
            scaled = np.full(known.shape, 0.5) if high <= low else (known - low) / (high - low)
            picture[there, channel] = np.round(np.clip(scaled, 0, 1) * 255)
    return picture


def hatch(rows: int, cols: int, period: int = 8) -> np.ndarray:
    """Light grey with thin diagonal lines, `(rows, cols, 3)` uint8: here is no data."""
    line = (np.arange(rows)[:, None] + np.arange(cols)) % period == 0
    return np.where(line[..., None], np.uint8(214), np.uint8(240)).repeat(3, axis=2)


def colourise(index: np.ndarray, colours: Sequence[Any], ignored: Any = IGNORED) -> np.ndarray:
    """Class indices 0..n-1 `(rows, cols)` as uint8 `(rows, cols, 3)`; all other values, such as -1 or 255, get the `ignored` colour."""
    index = np.asarray(index)
    table = np.array([rgb(colour) for colour in [*colours, ignored]], np.uint8)
    known = (index >= 0) & (index < len(colours))
    return table[np.where(known, index, len(colours)).astype(np.intp)]


def panel(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, colours: Sequence[Any], separator: int = 4) -> np.ndarray:
    """image | truth | prediction side by side, uint8 `(rows, 3 cols + 2 separator, 3)`.

    `image` is RGB uint8 `(rows, cols, 3)` as `stretch` gives it, the others are class indices `(rows, cols)`, ignored = -1.
    Raises `GridMismatchError`.
    """
    shapes = [np.shape(image)[:2], np.shape(truth), np.shape(prediction)]
    if len(set(shapes)) > 1:
        raise GridMismatchError(f"Image, truth and prediction are {', '.join(map(str, shapes))} pixels.")
    gap = np.full((shapes[0][0], separator, 3), SEPARATOR, np.uint8)
    return np.concatenate([image, gap, colourise(truth, colours), gap, colourise(prediction, colours)], axis=1)


def shades(rises: Sequence[tuple], separator: int = 6) -> tuple[np.ndarray, float]:
    """Hillshades side by side, uint8 `(rows, cols, 3)`, and by how much heights were raised for it, the same for all.

    `rises` are (dz_dx, dz_dy) as `heights.gradient` gives; the first one, the reference, sets the exaggeration. NaN is hatched.
    """
    steep = np.hypot(*rises[0])
    usual = float(np.nanpercentile(steep, 90)) if np.isfinite(steep).any() else 1.0
    factor = float(np.clip(GENTLE / max(usual, 1e-6), 1, 20))
    factor = float(f"{factor:.2g}")
    pictures: list[np.ndarray] = []
    for dz_dx, dz_dy in rises:
        x, y = factor * dz_dx, factor * dz_dy
        light = np.clip((SUN[2] - SUN[0] * x - SUN[1] * y) / np.sqrt(1 + x**2 + y**2), 0, 1)
        there = np.isfinite(light)
        picture = hatch(*light.shape)
        picture[there] = np.round(35 + 220 * light[there])[:, None].astype(np.uint8)
        if pictures:
            pictures.append(np.full((len(light), separator, 3), 255, np.uint8))
        pictures.append(picture)
    return np.concatenate(pictures, axis=1), factor
