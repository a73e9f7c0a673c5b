"""Area-level curves: from pairs of both, fitted so that neither clouds in the areas nor typing errors in the levels bend them, or as a table
knows them. numpy only."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Callable, Optional

import numpy as np

from ... import tables
from ...errors import ConfigError
from ..inputs import columns
from ..series import BEYOND

FEWEST = 5  # pairs that a curve can be fitted on
KNOTS = (2, 3, 4, 6, 8, 12, 16)  # how many a fitted curve may have
PER_KNOT = 2  # pairs at least
ODD = 4.0  # robust standard deviations from the others, from which on a pair has no say
LEAST = 0.01  # of the range of levels: so far off a pair may be anyhow
_MOST = 1_000_000  # lines of a stage-area table
_AREA = {
    **dict.fromkeys(("km2", "sqkm", "km"), 1e6), **dict.fromkeys(("ha", "hectare", "hectares"), 1e4), **dict.fromkeys(("acre", "acres", "ac"), 4046.8564224),
    **dict.fromkeys(("m2", "sqm", "m"), 1.0), **dict.fromkeys(("ft2", "sqft", "ft"), 0.09290304), **dict.fromkeys(("mi2", "sqmi", "mi"), 2589988.110336),
}  # fmt: skip
_LEVEL = {"ft": 0.3048, "feet": 0.3048, "foot": 0.3048, "cm": 0.01, "mm": 0.001, "m": 1.0}


@dataclass(frozen=True)
class Curve:
    """Levels by water areas: knots `area_m2`, rising, and `level_m`, never falling.

    Between knots a monotone cubic (Fritsch and Butland 1984, 10.1137/0905021), beyond them the line through the outer two. `error_m`:
    standard deviation of the errors of pairs that were left out, those capped that lie far off; None where nothing tells it. `held_m`: the
    errors (estimated - observed) themselves, one per pair that the curve was fitted on, in their order.
    """

    area_m2: tuple
    level_m: tuple
    error_m: Optional[float] = None
    held_m: tuple = ()

    def level(self, area_m2: Any) -> tuple[Any, Any]:
        """(levels in m, bool: beyond what the curve knows) of areas, a number or an array of any shape."""
        x, y, area = np.array(self.area_m2), np.array(self.level_m), np.asarray(area_m2, np.float64)
        level = _between(x, y, np.clip(area, x[0], x[-1]))
        ends = np.diff(y)[[0, -1]] / np.diff(x)[[0, -1]]
        level = level + np.minimum(area - x[0], 0) * ends[0] + np.maximum(area - x[-1], 0) * ends[1]
        outside = _beyond(area, x) | _beyond(level, y)  # where the curve is flat only the area tells, where it is steep the level does
        return (float(level), bool(outside)) if area.ndim == 0 else (level, outside)

    def spread_m(self, area_m2: float, unsure_m2: float) -> float:
        """Half the range of levels of areas up to `unsure_m2` off."""
        (low, high), _ = self.level(np.array([area_m2 - unsure_m2, area_m2 + unsure_m2]))
        return float(high - low) / 2

    def raised(self, metres: float) -> Curve:
        """The curve above another zero."""
        return Curve(self.area_m2, tuple(v + metres for v in self.level_m), self.error_m, self.held_m)

    def rows(self, reservoir: str) -> list[dict]:
        """Lines of a stage-area table, as `read` takes them."""
        return [{"reservoir": reservoir, "level_m": round(h, 4), "area_m2": round(a, 2)} for a, h in zip(self.area_m2, self.level_m)]

    def to_json(self) -> dict:
        return tables.plain(asdict(self))

    @classmethod
    def from_json(cls, data: Any) -> Curve:
        """The reverse of `to_json`. Raises `ConfigError`."""
        try:
            numbers = {key: tuple(map(float, data.get(key, ()))) for key in ("area_m2", "level_m", "held_m")}
            error = None if data.get("error_m") is None else float(data["error_m"])
        except (TypeError, ValueError, AttributeError):
            raise ConfigError("This is no area-level curve.", "It has lists of numbers area_m2 and level_m.") from None
        _checked(numbers["area_m2"], numbers["level_m"], "The curve")
        return cls(numbers["area_m2"], numbers["level_m"], error, numbers["held_m"])


def fit(area_m2: Sequence[float], level_m: Sequence[float], when: Optional[Sequence[dt.datetime]] = None, pixel_m2: float = 0.0) -> Curve:
    """The curve of pairs of areas and levels `(n,)`, in any order. Raises `ConfigError` for fewer than `FEWEST` pairs, and areas or levels all alike.

    In three steps. Isotonic regression by medians: pairs that are far off the levels that others of like area have, in whichever of the two the
    error is, have no say from here on; a pair that only lies where there are no others keeps it. Isotonic regression by means of the rest
    (pool adjacent violators, both: Barlow et al. 1972, Statistical Inference under Order Restrictions). Its means by groups of as many pairs
    are the knots.

    How many knots is chosen by the errors of pairs that are left out, a calendar month at a time, since neighbours in time are alike; one by
    one without `when` or with fewer than five months. `pixel_m2`: areas that differ by less than two pixels are alike.
    """
    area, level = np.asarray(area_m2, np.float64), np.asarray(level_m, np.float64)
    if len(area) < FEWEST:
        raise ConfigError(f"{len(area)} pairs of area and level are too few for a curve.", f"It takes {FEWEST} or more.")
    if np.ptp(area) <= max(2 * pixel_m2, 1e-3 * np.median(area), 1e-3):
        raise ConfigError(
            f"The water area hardly changes ({area.min():.0f} to {area.max():.0f} m²): it tells no level.",
            "Walls are too steep for these pixels, or all dates are alike; train a network on the images instead.",
        )
    if np.ptp(level) < 0.01:
        raise ConfigError(
            f"All {len(level)} levels are alike ({level[0]:.2f} m).",
            "Is the column of levels the right one? A curve takes a series that rises and falls.",
        )
    groups, held = blocks(when, len(area)), {}
    for block in np.unique(groups):
        out = groups == block
        order = _kept(area[~out], level[~out])
        for count in _counts(len(area)):
            held.setdefault(count, np.empty(len(area)))[out] = _knots(*order, count).level(area[out])[0] - level[out]
    told = {count: float(np.mean(np.minimum(np.abs(e), ODD * _scale(e)))) for count, e in held.items()}
    count = next(c for c in sorted(told) if told[c] <= 1.02 * min(told.values()))  # the plainest among equals
    made = _knots(*_kept(area, level), count)
    return Curve(made.area_m2, made.level_m, error_of(held[count]), tuple(held[count].tolist()))


def error_of(errors: Sequence[float]) -> Optional[float]:
    """Root mean square of errors, those beyond `ODD` robust standard deviations capped there: a gauge's typing errors are not the curve's.
    None for fewer than three."""
    known = np.asarray(errors, np.float64)
    if len(known) < 3:
        return None
    most = max(ODD * _scale(known), 1e-9)
    return float(np.sqrt(np.mean(np.clip(known, -most, most) ** 2)))


def doubts(curve: Curve, level_m: Sequence[float], pixel_m2: float) -> list[str]:
    """What is weak about a fitted curve: areas that tell little of the levels `level_m` it was fitted on. `pixel_m2`: area of a pixel."""
    told, level = [], np.asarray(level_m, np.float64)
    middle = float(np.median(curve.area_m2))
    worth = curve.spread_m(middle, pixel_m2 / 2) * 2
    if worth >= 0.05:
        told.append(f"steep walls: one pixel of area ({pixel_m2:.0f} m²) is worth {worth:.2f} m of level")
    usual = float(np.std(level))
    if curve.error_m is not None and curve.error_m > 0.7 * usual:
        told.append(
            f"water area tells little about the level: the curve errs by {curve.error_m:.2f} m where levels themselves vary by {usual:.2f} m"
        )
    return told


def _counts(pairs: int) -> list[int]:
    most = max((pairs - 1) // PER_KNOT, 2)
    return [c for c in KNOTS if c <= most]


def blocks(when: Optional[Sequence[dt.datetime]], count: int) -> np.ndarray:
    """Numbers `(n,)` of the groups that are left out together."""
    if when is None:
        return np.arange(count)
    months = np.array([12 * t.year + t.month for t in when])
    return months if len(np.unique(months)) >= 5 else np.arange(count)


def _kept(area: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that have a say, by area, and their levels made monotone."""
    order = np.lexsort((-level, area))  # like areas from high to low levels: so they are pooled
    area, level = area[order], level[order]
    off = np.abs(level - isotonic(level, np.median))
    usual = float(np.subtract(*np.quantile(level, [0.95, 0.05])))
    good = off <= max(ODD * _scale(off), LEAST * usual)
    if good.sum() < FEWEST - 1 or np.ptp(area[good]) == 0:
        good = np.ones(len(area), bool)
    return area[good], isotonic(level[good])


def _knots(area: np.ndarray, level: np.ndarray, count: int) -> Curve:
    """The curve through means of `count` groups, as many pairs in each, of pairs sorted by area whose levels are monotone; it ends at the outer
    areas."""
    parts = np.array_split(np.arange(len(area)), count)
    inner = _made([area[p].mean() for p in parts], [level[p].mean() for p in parts])
    ends = np.array([area[0], area[-1]])
    low, high = inner.level(ends)[0]
    return _made([ends[0], *inner.area_m2, ends[1]], [low, *inner.level_m, high])


def _made(area: Sequence[float], level: Sequence[float]) -> Curve:
    """A curve through points of rising area; those of (nearly) the same area become one. Of a single one a curve without slope."""
    area, level = np.asarray(area, np.float64), np.asarray(level, np.float64)
    least = max(1e-6 * float(np.ptp(area)), 1e-9 * float(np.abs(area).max()), 1e-6)  # nearer ones differ by rounding
    group = np.cumsum(np.diff(area, prepend=area[0]) > least)
    number = np.bincount(group)
    area, level = np.bincount(group, area) / number, np.bincount(group, level) / number
    if len(area) == 1:
        area, level = np.array([area[0], area[0] + 1]), np.repeat(level, 2)
    return Curve(tuple(area.tolist()), tuple(np.maximum.accumulate(level).tolist()))


def isotonic(level: Sequence[float], middle: Callable = np.mean) -> np.ndarray:
    """The numbers `(n,)` that never fall and are nearest to the given ones: neighbours that fall are pooled, to their mean (least squares) or
    median (least absolute differences)."""
    level = np.asarray(level, np.float64)
    starts: list[int] = []
    values: list[float] = []
    for place, value in enumerate(level.tolist()):
        starts.append(place)
        values.append(value)
        while len(values) > 1 and values[-2] > values[-1]:
            del starts[-1], values[-1]
            values[-1] = float(middle(level[starts[-1] : place + 1]))
    return np.repeat(values, np.diff([*starts, len(level)]))


def _between(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone piecewise cubic through `(k,)` knots, at places among them."""
    step, slope = np.diff(x), np.diff(y) / np.diff(x)
    rise = np.empty(len(x))
    rise[[0, -1]] = slope[[0, -1]]  # at the ends as the line that goes on from there
    if len(x) > 2:
        w1, w2 = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
        flat = (slope[1:] <= 0) | (slope[:-1] <= 0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # nearly flat on one side: the sum is infinite, the slope 0
            rise[1:-1] = np.where(flat, 0, (w1 + w2) / (w1 / slope[:-1] + w2 / slope[1:]))
    k = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(step) - 1)
    t, h = (at - x[k]) / step[k], step[k]
    return (
        y[k] * (1 + 2 * t) * (1 - t) ** 2
        + h * rise[k] * t * (1 - t) ** 2
        + y[k + 1] * t**2 * (3 - 2 * t)
        + h * rise[k + 1] * t**2 * (t - 1)
    )


def _beyond(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    slack = BEYOND * (known[-1] - known[0])
    return (values < known[0] - slack - 1e-9) | (values > known[-1] + slack + 1e-9)


def _scale(errors: np.ndarray) -> float:
    """Robust standard deviation about 0."""
    return 1.4826 * float(np.median(np.abs(errors)))


def write(path: str, curves: Mapping[str, Curve]) -> None:
    """CSV of all curves by reservoir: reservoir, level_m, area_m2. Raises `OutputError`."""
    tables.write_csv(path, [row for name, curve in curves.items() for row in curve.rows(name)])


def read(source: str) -> dict[str, Curve]:
    """Curves by reservoir ("" without a column of reservoirs) of a stage-area table: CSV, spreadsheet or layer with a level (m, cm, ft) and an area (m²,
    ha, km², acres, ft², sq mi), the units in the columns' names; none there: m and m². Raises `ConfigError` or `LabelError`, with the lines that can't be."""
    table = columns.Table(source)
    area = columns.column(table, "", ("area m2", "area", "surface", "extent", "area ha", "area km2"), "a column area_m2")
    level = columns.column(table, "", ("level", "stage", "height", "elevation", "wse"), "a column level_m", taken=(area,))
    place = columns.column(table, "", ("reservoir", "dam", "lake", "name", "site"), "", taken=(area, level), optional=True)
    factor, unit_m = _factor(table.names[area], _AREA), _factor(table.names[level], _LEVEL)
    rows = [
        (line, cells) for (line, cells), _ in zip(table.rows([area, level, *([place] if place is not None else [])]), range(_MOST)) if cells
    ]
    numbers = [columns.numbers([cells[k] for _, cells in rows], table.separator, "") for k in (0, 1)]
    found: dict[str, list] = {}
    for (line, cells), a, h in zip(rows, *numbers):
        if a is None or h is None or math.isnan(a) or math.isnan(h):
            raise ConfigError(f"Line {line} of the stage-area table has no number for level or area.", "Correct or delete it.")
        found.setdefault(cells[2].strip() if place is not None else "", []).append((h * unit_m, a * factor))
    if not found:
        raise ConfigError(f"The stage-area table {source} has no lines.", "Give reservoir, level_m and area_m2 of two or more levels.")
    curves = {}
    for name, pairs in found.items():
        level_m, area_m2 = np.array(sorted(pairs)).T
        _checked(area_m2, level_m, f"The stage-area table of {name or 'the reservoir'}")
        curves[name] = _made(area_m2, level_m)
    return curves


def _factor(name: str, units: dict[str, float]) -> float:
    """m or m² per unit of a column, by the last word of its name that is one."""
    words = re.split(r"[^a-z0-9]+", name.casefold().replace("²", "2").replace("^", ""))
    return next((units[word] for word in reversed(words) if word in units), 1.0)


def _checked(area_m2: Sequence[float], level_m: Sequence[float], what: str) -> None:
    """Raise `ConfigError` unless there are two points or more, areas never fall with the level, and rise at all."""
    area, level = np.asarray(area_m2, np.float64), np.asarray(level_m, np.float64)
    if len(area) < 2 or len(area) != len(level):
        raise ConfigError(f"{what} has fewer than two points.", "Give level and area of two or more levels.")
    if not (np.isfinite(area).all() and np.isfinite(level).all()) or area.min() < 0:
        raise ConfigError(f"{what} has areas below 0, or numbers that are none.", "Correct it.")
    falls = np.flatnonzero((np.diff(area) < 0) | (np.diff(level) < 0))
    if len(falls):
        k = falls[0]
        raise ConfigError(f"{what} falls: {area[k]:g} m² at {level[k]:g} m, but {area[k + 1]:g} m² at {level[k + 1]:g} m.", "Correct it.")
    if area[-1] == area[0]:
        raise ConfigError(f"{what} has one area only.", "Give areas of two or more levels.")
