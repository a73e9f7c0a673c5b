"""Classes of pixels that are assessed on their own: by slope and by land cover."""

from __future__ import annotations

import contextlib
import math

import numpy as np

from ... import classes as map_classes
from ...config import parse_json
from ...errors import ConfigError
from ...maps import CLASSES_KEY
from ...raster import Raster
from ...settings import AssessDemConfig

MANY_CLASSES = 60


class LandCover:
    """Classes on the reference's grid: whole numbers, by the nearest pixel."""

    def __init__(self, raster: Raster):
        self._raster = raster
        self._seen: set = set()
        categories, tags = raster.categories(), raster.tags()
        self._names = {k: name for k, name in enumerate(categories) if name}
        if CLASSES_KEY in tags:
            with contextlib.suppress(ConfigError, KeyError, TypeError, ValueError):  # someone edited the metadata: go on with the values
                self._names = {c.value: c.name for c in map_classes.from_json(parse_json(tags[CLASSES_KEY], "The raster's classes"))}

    def read(self, grid) -> np.ndarray:
        """int64 `(rows, cols)`; -1 where no class is known. Raises `ConfigError` for what is no class raster."""
        pixels, valid = self._raster.read_on(grid, "nearest")
        values = np.where(valid[0], pixels[0].astype(np.float64), -1)  # NumPy 2 puts no -1 among unsigned numbers
        self._seen |= set(np.unique(values).tolist())
        if len(self._seen) > MANY_CLASSES or any(v != int(v) for v in self._seen):
            raise ConfigError(
                f"{self._raster.path} is no class raster: it holds many values, or fractions.", "Choose a raster of land classes."
            )
        return values.astype(np.int64)

    def name(self, value: int) -> str:
        return "not known" if value < 0 else self._names.get(value, str(value))


def slope_limits(config: AssessDemConfig) -> list[float]:
    """Limits of the slope classes in degrees. Raises `ConfigError` unless they rise between 0 and 90."""
    try:
        limits = [float(token) for token in config.slope_limits.replace(";", ",").split(",") if token.strip()]
    except ValueError:
        limits = [math.nan]
    if not all(0 < a < 90 for a in limits) or any(b <= a for a, b in zip(limits, limits[1:])):
        raise ConfigError(
            f"The limits of the slope classes {config.slope_limits[:80]!r} are no rising numbers between 0 and 90.",
            "Write degrees with a point, separated by commas: '5, 15, 30'.",
        )
    return limits


def slope_names(limits: list[float]) -> list[str]:
    ends = [0.0, *limits]
    return [*(f"{a:g}\u2013{b:g}°" for a, b in zip(ends, limits)), f"\u2265 {ends[-1]:g}°", "slope not known"]
