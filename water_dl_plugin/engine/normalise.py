"""From a band's own numbers to those a network likes: schemes, fitted in one pass, applied the same in training and mapping.

`val_out = (val_in - c) / (d - c)` for the linear schemes. The fit keeps a fixed-size histogram per band, never the pixels;
nodata enters neither the fit nor the network (it is replaced by the band's median first). Elevations have no range of their own: a window's
are taken relative to its mean level, in metres, and what scale the terrain has is the network's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ConfigError, ModelError
from .heights import filled_along_plane
from .settings import SCHEMES

EQUALIZE_BINS = 40_000
_KNOTS = 1001
_NUMBERS = {
    "percentile": ("low", "high"), "percentile_clipped": ("low", "high"), "minmax": ("low", "high"), "zscore": ("low", "high"),
    "dynamic_world": ("low", "high", "floor"), "dynamic_world_nolog": ("low", "high"), "equalize": ("low", "high"), "none": (),
}  # fmt: skip


_ELEVATION = {"elevation": True, "fill": 0.0}
_LARGEST = float(np.finfo(np.float32).max)


class Sketch:
    """Distribution of one band in 2**20 bins, fed piece by piece.

    A bin is the upper 20 bits of the number as float32 (ordered so that negative numbers sort first): relative width 2**-11 over
    the whole range of float32, so neither an outlier nor an unknown range spoils it, as it would bins of equal width.
    """

    SHIFT = 12

    def __init__(self):
        self.counts = np.zeros(1 << 20, np.int64)
        self.number, self.mean, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf
        self.whole = True  # so far only whole numbers came

    def update(self, values: np.ndarray) -> None:
        """Add values of any shape and real dtype; they must be finite and valid. Beyond float32 they count as its largest number."""
        values = np.clip(np.asarray(values, np.float64).ravel(), -_LARGEST, _LARGEST)
        if not values.size:
            return
        self.whole = self.whole and bool((values == np.rint(values)).all())
        keys, counts = np.unique(_ordered(values) >> self.SHIFT, return_counts=True)
        self.counts[keys] += counts
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        number, mean = values.size, float(values.mean())
        step, total = mean - self.mean, self.number + number
        self.squares += float(((values - mean) ** 2).sum()) + step**2 * self.number * number / total
        self.mean += step * number / total
        self.number = total

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.number)) if self.number else 0.0

    def quantiles(self, shares) -> np.ndarray:
        """Values below which these shares (0..1) of the pixels lie.

        Exact for whole numbers up to 2048; else linear inside a bin, so off by less than 1/1024 of the value (4 m at 4000 m),
        mostly by far less, and never outside of what was seen.
        """
        if not self.number:
            raise ConfigError("A band has no valid pixel to take statistics from.", "Check the nodata value and the chosen bands.")
        filled = np.flatnonzero(self.counts)
        ends = np.cumsum(self.counts[filled])
        low, high = (
            np.clip(_unordered(filled << self.SHIFT), self.low, self.high),
            np.clip(_unordered((filled + 1) << self.SHIFT), self.low, self.high),
        )
        rank = np.asarray(shares, np.float64) * self.number
        at = np.clip(np.searchsorted(ends, rank), 0, len(filled) - 1)
        count = self.counts[filled[at]]
        # a bin's values are spread over its width, but whole numbers up to 2**11 fill their bin alone: they are given exactly
        low, high = low[at], high[at]
        single = self.whole & (np.ceil(low) + 1 >= high)
        low, width = np.where(single, np.ceil(low), low), np.where(single, 0, high - low)
        return np.clip(low + width * np.clip((rank - (ends[at] - count)) / count, 0, 1), self.low, self.high)

    def summary(self) -> dict:
        """What a chips folder says of a band: min, max, mean, std, p1, p50, p99; of no pixel at all the first four as 0."""
        if not self.number:
            return {"min": 0.0, "max": 0.0, "mean": 0.0, "std": 0.0}
        percentiles = zip((1, 50, 99), self.quantiles([0.01, 0.5, 0.99]))
        return {"min": self.low, "max": self.high, "mean": self.mean, "std": self.std, **{f"p{p}": float(v) for p, v in percentiles}}


def _ordered(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32).astype(np.int64)
    return np.where(bits & 0x80000000, 0xFFFFFFFF - bits, bits | 0x80000000)


def _unordered(keys: np.ndarray) -> np.ndarray:
    keys = np.clip(keys, 0, 0xFFFFFFFF)
    bits = np.where(keys & 0x80000000, keys & 0x7FFFFFFF, 0xFFFFFFFF - keys).astype(np.uint32)
    return np.nan_to_num(bits.view(np.float32).astype(np.float64), nan=0.0, posinf=3.4e38, neginf=-3.4e38)


@dataclass(frozen=True)
class Normalisation:
    """A scheme and its numbers: one dict per band, with `fill`, the value that takes the place of nodata.

    `in_graph`: the network's own graph does it (so that a foreign program applies it, too); then `apply` only fills nodata.
    Elevation bands have `elevation` instead of numbers.
    """

    scheme: str
    bands: tuple
    in_graph: bool = False

    @property
    def linear(self) -> bool:
        """Is all of it done before the graph? So it is where there are elevations, whatever the scheme of the other bands."""
        return bool(self.elevations) or self.scheme in ("percentile", "minmax", "zscore", "none")

    @property
    def elevations(self) -> tuple[int, ...]:
        """Numbers (from 0) of the elevation bands; the first one is the base."""
        return tuple(i for i, numbers in enumerate(self.bands) if "elevation" in numbers)

    def apply(self, pixels: np.ndarray, valid: np.ndarray, dtype=np.float32) -> np.ndarray:
        """`(bands, rows, cols)` of any dtype -> float, nodata filled. `valid` has the same shape."""
        out = np.empty(pixels.shape, dtype)
        heights = self._relative(pixels, valid) if self.elevations else {}
        for i, numbers in enumerate(self.bands):
            if i in heights:
                out[i] = heights[i]
                continue
            plane = np.where(valid[i], pixels[i], numbers["fill"])
            out[i] = (
                plane
                if self.in_graph or self.scheme == "none"
                else transform(self.scheme, numbers, plane.astype(np.float64 if dtype == np.float64 else np.float32))
            )
        return out

    def _relative(self, pixels: np.ndarray, valid: np.ndarray) -> dict[int, np.ndarray]:
        """Elevation bands without voids, relative to the mean level of the base (a whole number: nothing is rounded by taking it away)."""
        base, *others = self.elevations
        level = np.rint(pixels[base][valid[base]].mean(dtype=np.float64)) if valid[base].any() else 0.0
        found = {base: filled_along_plane(pixels[base] - np.asarray(level, pixels.dtype), valid[base])}
        for i in others:  # what another elevation model does not know is taken from the base
            found[i] = np.where(valid[i], pixels[i] - level, found[base])
        return found

    def to_json(self) -> dict:
        return {"scheme": self.scheme, "in_graph": self.in_graph, "bands": [dict(b) for b in self.bands]}

    @classmethod
    def from_json(cls, data: Any, bands: int) -> Normalisation:
        """From a stranger's file. Raises `ModelError` if anything is missing or no finite number."""
        try:
            scheme, numbers, in_graph = data["scheme"], data["bands"], data.get("in_graph", False)
            if scheme not in SCHEMES or not isinstance(in_graph, bool) or not isinstance(numbers, list) or len(numbers) != bands:
                raise ValueError(f"scheme {str(scheme)[:40]!r} for {bands} bands")
            clean = tuple(_clean(scheme, item) for item in numbers)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ModelError(
                f"The model's normalisation can't be understood ({str(error)[:120]}).", "Get the model file again from its maker."
            ) from None
        return cls(scheme, clean, in_graph)

    @classmethod
    def identity(cls, bands: int) -> Normalisation:
        return cls("none", tuple({"fill": 0.0} for _ in range(bands)))


def _clean(scheme: str, item: dict) -> dict:
    if item.get("elevation") is True:
        return dict(_ELEVATION)
    numbers: dict = {}
    for key in ("fill", *_NUMBERS[scheme]):
        numbers[key] = _number(key, item[key])
    if "low" in numbers and not numbers["high"] - numbers["low"] > 1e-30:
        raise ValueError("low is not below high")
    if not numbers.get("floor", 1) > 0:
        raise ValueError("floor is not above 0")
    if scheme == "equalize":
        knots = item["knots"]
        if not isinstance(knots, list) or not 2 <= len(knots) <= _KNOTS:
            raise ValueError("knots")
        numbers["knots"] = [_number("knots", k) for k in knots]
        if np.any(np.diff(numbers["knots"]) < 0):
            raise ValueError("knots do not rise")
    return numbers


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(float(value)) <= _LARGEST:
        raise ValueError(f"{key} is no usable number")
    return float(value)


def transform(scheme: str, numbers: dict, x: np.ndarray) -> np.ndarray:
    """One band through one scheme (methods: Brown et al. 2022, 10.1038/s41597-022-01307-4, for `dynamic_world`)."""
    low, high = numbers["low"], numbers["high"]
    if scheme == "dynamic_world":
        x = np.log(np.maximum(x, numbers["floor"]))
    if scheme == "equalize":
        table = equalize_table(numbers).astype(x.dtype)
        return table[np.clip((x - low) / (high - low) * EQUALIZE_BINS, 0, EQUALIZE_BINS - 1).astype(np.int64)]
    scaled = (x - low) / (high - low)
    if scheme == "percentile_clipped":
        return np.clip(scaled, 0, 1)
    if scheme.startswith("dynamic_world"):
        return 1 / (1 + np.exp(-np.clip(5 * scaled - 1, -60, 60)))  # the published code's two points: sigmoid(-1), sigmoid(4)
    return scaled


def equalize_table(numbers: dict) -> np.ndarray:
    """Share of pixels below the middle of each of the 40 000 bins between low and high."""
    middles = numbers["low"] + (np.arange(EQUALIZE_BINS) + 0.5) / EQUALIZE_BINS * (numbers["high"] - numbers["low"])
    knots = np.asarray(numbers["knots"])
    return np.interp(middles, knots, np.linspace(0, 1, len(knots)))


def fit(scheme: str, sketches: list[Sketch], elevations=()) -> Normalisation:
    """The numbers of a scheme from one sketch per band, those numbered in `elevations` apart. Raises `ConfigError` for an unknown scheme or
    an empty band."""
    if scheme not in SCHEMES:
        raise ConfigError(f"There is no normalisation {scheme!r}.", f"Choose one of: {', '.join(SCHEMES)}.")
    return Normalisation(scheme, tuple(dict(_ELEVATION) if i in elevations else _fit_band(scheme, s) for i, s in enumerate(sketches)))


def _fit_band(scheme: str, sketch: Sketch) -> dict:
    numbers = {"fill": float(sketch.quantiles([0.5])[0])}
    if scheme == "none":
        return numbers
    if scheme == "zscore":
        low, high = sketch.mean, sketch.mean + sketch.std
    elif scheme in ("minmax", "equalize"):
        low, high = sketch.low, sketch.high
    elif scheme.startswith("dynamic_world"):
        low, high = sketch.quantiles([0.3, 0.7 if scheme == "dynamic_world" else 0.95])
    else:
        low, high = sketch.quantiles([0.01, 0.99])
    if scheme == "dynamic_world":
        numbers["floor"] = float(max(sketch.quantiles([0.001])[0], 1e-6))
        low, high = np.log(np.maximum([low, high], numbers["floor"]))
    if scheme == "equalize":
        numbers["knots"] = [float(k) for k in np.maximum.accumulate(sketch.quantiles(np.linspace(0, 1, _KNOTS)))]
    # a band that is constant here (a mask, a far-away elevation) has no spread: keep its unit instead of dividing by 0
    numbers.update(low=float(low), high=float(high if high > low else low + 1))
    return numbers
