"""Lakes by size class and by elevation band, as lines of a table."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np

from ..errors import ConfigError
from ..settings import LakesConfig
from ..tables import write_csv
from .inventory import Inventory
from .match import Match, scores

KM2 = 1e6
SIZE, BAND = "size class", "elevation band"


def size_classes(config: LakesConfig) -> list[tuple]:
    """(name, from, to) in km2 of all size classes; the last one has no end. Raises `ConfigError` unless the limits are positive and rise."""
    try:
        steps = [float(token) for token in config.size_limits.replace(";", ",").split(",") if token.strip()]
    except ValueError:
        steps = []
    if not steps or steps[0] <= 0 or not math.isfinite(sum(steps)) or any(b <= a for a, b in zip(steps, steps[1:])):
        raise ConfigError(
            f"The limits of the size classes {config.size_limits[:80]!r} are no positive, rising numbers.",
            "Write km² with a point, separated by commas: '0.001, 0.01, 0.1, 1, 10'.",
        )
    between = [(f"{a:g}\u2013{b:g} km²", a, b) for a, b in zip(steps, steps[1:])]
    return [(f"< {steps[0]:g} km²", 0.0, steps[0]), *between, (f"\u2265 {steps[-1]:g} km²", steps[-1], None)]


def size_class(config: LakesConfig, area_m2: np.ndarray) -> np.ndarray:
    """Place of each area in `size_classes`. A lake on a limit belongs to the class that begins there."""
    return np.searchsorted([low * KM2 for _, low, _ in size_classes(config)[1:]], area_m2, "right")


def table(
    lakes: Inventory, counted: np.ndarray, config: LakesConfig, reference: Optional[Inventory], counted_reference, match: Optional[Match]
) -> tuple[list, list]:
    """Rows for all lakes, for each size class and, where an elevation is known, for each band; and the lakes of the map by size class and
    band. `counted` tells which lakes count."""

    def row(by: str, name: str, low, high, some: np.ndarray, others: Optional[np.ndarray]) -> dict:
        some = counted & some
        line = {"by": by, "class": name, "from": low, "to": high, **_sum(lakes, some)}
        if match is not None:
            others = counted_reference & others
            line.update({f"reference_{key}": value for key, value in _sum(reference, others).items()})
            line.update(_judged(match, some, others))
        return line

    every, size, band = np.ones(len(lakes), bool), size_class(config, lakes.area_m2), _band(lakes, config)
    every_other, size_other, band_other = None, None, None
    if match is not None:
        every_other = np.ones(len(reference), bool)
        size_other, band_other = size_class(config, reference.area_m2), _band(reference, config)
    classes = size_classes(config)
    rows = [row("all", "all lakes", None, None, every, every_other)]
    rows += [row(SIZE, *names, size == k, size_other == k) for k, names in enumerate(classes)]
    known = np.unique(np.concatenate([band[counted], band_other[counted_reference]] if match is not None else [band[counted]]))
    unknown = bool(np.isnan(known).any())
    known = known[np.isfinite(known)]
    cross = []
    for k in known.tolist():
        low, high = k * config.band_height, (k + 1) * config.band_height
        name = f"{low:g}\u2013{high:g} m"
        rows.append(row(BAND, name, low, high, band == k, band_other == k))
        cross += [
            {"size_class": names[0], "band": name, **_sum(lakes, counted & (band == k) & (size == c))} for c, names in enumerate(classes)
        ]
    if unknown and len(known):
        rows.append(row(BAND, "not known", None, None, np.isnan(band), None if match is None else np.isnan(band_other)))
    return rows, cross


def write_table(path: str, rows: list) -> None:
    """As CSV; the intervals take two columns each. Raises `OutputError`."""
    flat = []
    for row in rows:
        line = {key: value for key, value in row.items() if not key.endswith("_interval")}
        for key in ("recall", "precision"):
            if f"{key}_interval" in row:
                line[f"{key}_low"], line[f"{key}_high"] = row[f"{key}_interval"]
        flat.append(line)
    write_csv(path, flat)


def _band(lakes: Inventory, config: LakesConfig) -> np.ndarray:
    """Number of the elevation band of each lake; NaN where the elevation is not known."""
    return np.floor(lakes.elevation_m / config.band_height)


def _sum(lakes: Inventory, some: np.ndarray) -> dict:
    return {"number": int(some.sum()), "area_km2": float(lakes.area_m2[some].sum()) / KM2}


def _judged(match: Match, some: np.ndarray, others: np.ndarray) -> dict:
    found, right = int((others & match.found).sum()), int((some & match.right).sum())
    number, mapped = int(others.sum()), int(some.sum())
    return {
        "found": found, "missed": number - found, "whole": int((others & match.whole).sum()), "split": int((others & match.split).sum()),
        "merged": int((others & match.merged).sum()), "right": right, "false": mapped - right, "merging": int((some & match.merging).sum()),
        **scores(found, number, right, mapped),
    }  # fmt: skip
