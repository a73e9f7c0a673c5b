"""How far heights are off: figures of errors that come piece by piece. Arrays in, numbers out.

A DEM has many small errors and a few large ones, so beside RMSE, which the few rule, stand figures of the many: NMAD and LE90
(Hoehle & Hoehle 2009, 10.1016/j.isprsjprs.2009.02.003).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Optional

import numpy as np

NAMES = ("rmse", "mae", "bias", "std", "median", "nmad", "le90", "r2", "minimum", "maximum")
_FINE, _PER_STEP, _FAR = 1e-3, 512, 1e6  # m, bins per e-fold, m
_HALF = int(math.asinh(_FAR / _FINE) * _PER_STEP) + 1


class Errors:
    """Errors (DEM minus reference, m) in bins: about 2 um wide at 0, 1/512 of the error from some mm on, whatever its size.

    Each bin keeps its number and its sum, so that quantiles are exact where a bin holds one value only (whole metres, few pixels) and else
    within 1/1000 of themselves, mostly far closer. A twentieth of the memory of `normalise.Sketch`: there is one per DEM and class.
    """

    def __init__(self):
        self._counts, self._sums = np.zeros(2 * _HALF + 1, np.int64), np.zeros(2 * _HALF + 1)
        self.error, self.height = Moments(), Moments()
        self.absolute = 0.0

    def update(self, error: np.ndarray, height: np.ndarray) -> None:
        """Add errors `(n,)` and the reference's heights `(n,)`; all finite."""
        if not error.size:
            return
        error = np.asarray(error, np.float64)
        bins = np.rint(np.arcsinh(np.clip(error, -_FAR, _FAR) / _FINE) * _PER_STEP).astype(np.int64) + _HALF
        self._counts += np.bincount(bins, minlength=len(self._counts))
        self._sums += np.bincount(bins, error, minlength=len(self._sums))
        self.absolute += float(np.abs(error).sum())
        self.error.update(error)
        self.height.update(np.asarray(height, np.float64))

    @classmethod
    def merged(cls, parts: Iterable[Errors]) -> Errors:
        """All of several parts that have no pixel in common."""
        whole = cls()
        for part in parts:
            whole._counts += part._counts
            whole._sums += part._sums
            whole.absolute += part.absolute
            whole.error.add(part.error)
            whole.height.add(part.height)
        return whole

    @property
    def number(self) -> int:
        return self.error.number

    @property
    def atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """The errors as (value, number of pixels), rising."""
        filled = np.flatnonzero(self._counts)
        return self._sums[filled] / self._counts[filled], self._counts[filled]

    def figures(self) -> dict:
        """`pixels` and `NAMES`; NaN where undefined. LE90 is the 90th percentile of |error|, NMAD 1.4826 times the median of
        |error - median error|, R2 the share 1 - sum(error^2) / sum((reference - its mean)^2), undefined on a level reference."""
        n = self.number
        if not n:
            return {"pixels": 0, **dict.fromkeys(NAMES, math.nan)}
        values, counts = self.atoms
        squares = self.error.squares + n * self.error.mean**2
        width = np.maximum(np.abs(values), _FINE) / _PER_STEP
        median = quantile(values, counts, 0.5, width)
        level = self.height.squares <= n * (1e-6 * max(1.0, abs(self.height.mean))) ** 2
        return {
            "pixels": n, "rmse": math.sqrt(squares / n), "mae": self.absolute / n, "bias": self.error.mean, "std": math.sqrt(self.error.squares / n),
            "median": median, "nmad": 1.4826 * quantile(np.abs(values - median), counts, 0.5, width), "le90": quantile(np.abs(values), counts, 0.9, width),
            "r2": math.nan if level else 1 - squares / self.height.squares, "minimum": self.error.low, "maximum": self.error.high,
        }  # fmt: skip


class Moments:
    """Number, mean, sum of squared deviations and range, added up piece by piece without loss (Chan et al. 1983, 10.1080/00031305.1983.10483115)."""

    def __init__(self):
        self.number, self.mean, self.squares, self.low, self.high = 0, 0.0, 0.0, math.inf, -math.inf

    def update(self, values: np.ndarray) -> None:
        piece = Moments()
        piece.number, piece.mean = values.size, float(values.mean())
        piece.squares = float(((values - piece.mean) ** 2).sum())
        piece.low, piece.high = float(values.min()), float(values.max())
        self.add(piece)

    def add(self, other: Moments) -> None:
        if other.number:
            total, step = self.number + other.number, other.mean - self.mean
            self.squares += other.squares + step**2 * self.number * other.number / total
            self.mean += step * other.number / total
            self.number, self.low, self.high = total, min(self.low, other.low), max(self.high, other.high)


class Angles:
    """Errors of slope or aspect, degrees: root mean square, mean size, mean."""

    def __init__(self):
        self.number, self._sum, self._absolute, self._squares = 0, 0.0, 0.0, 0.0

    def update(self, error: np.ndarray) -> None:
        self.number += error.size
        self._sum += float(error.sum(dtype=np.float64))
        self._absolute += float(np.abs(error).sum(dtype=np.float64))
        self._squares += float((np.asarray(error, np.float64) ** 2).sum())

    @classmethod
    def merged(cls, parts: Iterable[Angles]) -> Angles:
        whole = cls()
        for part in parts:
            for name in vars(whole):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
        return whole

    def figures(self, name: str) -> dict:
        n = self.number
        return {
            f"{name}_rmse": math.sqrt(self._squares / n) if n else math.nan, f"{name}_mae": self._absolute / n if n else math.nan,
            f"{name}_bias": self._sum / n if n else math.nan,
        }  # fmt: skip


def quantile(values: np.ndarray, counts: np.ndarray, share: float, width: np.ndarray) -> float:
    """Quantile of values that occur `counts` times, linear between neighbours in rank (as numpy's default does). A value stands for a bin of
    that `width`; where bins are neighbours their values are spread evenly, where they are not each is one value."""
    order = np.argsort(values, kind="stable")
    values, counts, width = values[order], counts[order], width[order]
    ends = np.cumsum(counts)
    rank = share * (ends[-1] - 1)
    middles = ends - (counts + 1) / 2
    at = int(np.clip(np.searchsorted(middles, rank), 1, max(len(middles) - 1, 1)))
    if len(values) > 1 and values[at] - values[at - 1] <= 2 * max(width[at], width[at - 1]):
        return float(np.interp(rank, middles, values))
    low, high = values[np.searchsorted(ends, [math.floor(rank), math.ceil(rank)], "right")]
    return float(low + (high - low) * (rank - math.floor(rank)))


def turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Directions `a` minus `b` in degrees, the short way round: from -180 to 180."""
    return (a - b + 180) % 360 - 180


def improvement(rmse: float, other: float) -> Optional[float]:
    """By how many per cent `rmse` is smaller than `other`; None where that is undefined."""
    return 100 * (1 - rmse / other) if other > 0 and math.isfinite(rmse) else None
