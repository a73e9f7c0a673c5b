"""Estimates as lines of a table, as features of a layer that the temporal controller can play, and that layer's style."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence

import numpy as np
from osgeo import ogr

from .. import styles
from ..tables import write_bytes
from ..tables import write_csv as write_rows
from .combine import METHODS
from .series import Estimate, Reservoir, iso

#: (name, Python type) of the layer's fields; names fit into a shapefile. `fill`: where the level lies between the lowest and the highest
#: of its reservoir and method in this layer, 0..1.
FIELDS = (
    ("reservoir", str), ("date", dt.datetime), ("level_m", float), ("low_m", float), ("high_m", float), ("spread_m", float), ("area_m2", float),
    ("observed_m", float), ("cloud", float), ("method", str), ("part", str), ("flags", str), ("source", str), ("sensor", str), ("fill", float),
)  # fmt: skip


def values(estimate: Estimate) -> dict:
    """By `FIELDS`, without `fill`; the date is a datetime in UTC."""
    told = {name: getattr(estimate, name) for name, _ in FIELDS if name not in ("date", "flags", "fill")}
    return {**told, "date": estimate.when, "flags": ", ".join(estimate.flags)}


def features(estimates: Sequence[Estimate], reservoirs: Sequence[Reservoir]) -> Iterator[tuple[bytes, dict]]:
    """(WKB of a multipolygon in the reservoirs' CRS, values by `FIELDS`): one feature per estimate, by reservoir, method and time."""
    shapes = {r.name: _multipolygon(r.polygon) for r in reservoirs}
    limits: dict = {}
    for e in estimates:
        if e.level_m is not None:
            low, high = limits.get((e.reservoir, e.method), (np.inf, -np.inf))
            limits[e.reservoir, e.method] = min(low, e.level_m), max(high, e.level_m)
    for e in sorted(estimates, key=lambda e: (e.reservoir, e.method, e.when)):
        fill = None
        if e.level_m is not None:
            low, high = limits[e.reservoir, e.method]
            fill = (e.level_m - low) / (high - low) if high > low else 1.0
        yield shapes[e.reservoir], {**values(e), "fill": fill}


def write_csv(path: str, estimates: Sequence[Estimate]) -> None:
    """A line per estimate, the date as ISO text in UTC. Raises `OutputError`."""
    lines = (values(e) for e in sorted(estimates, key=lambda e: (e.reservoir, e.method, e.when)))
    columns = [name for name, _ in FIELDS[:-1]]
    write_rows(path, [{name: line[name] if name != "date" else iso(line["date"]) for name in columns} for line in lines], columns)


def write_style(path: str, estimates: Sequence[Estimate]) -> None:
    """The layer's .qml: one method is drawn, the best that is there, brown to blue by how full the reservoir is; flagged levels with a dashed
    red outline. The temporal controller shows a level until the next one is usually due."""
    there = [m for m in ("combined", *METHODS) if any(e.method == m for e in estimates)]
    method = there[0] if there else "network"
    with open(os.path.join(styles.FOLDER, "levels.qml"), encoding="utf-8") as file:
        text = file.read()
    days = usual_gap([e for e in estimates if e.method == method])
    write_bytes(path, text.replace("@method@", method).replace("@days@", f"{days:g}").encode("utf-8"))


def usual_gap(estimates: Sequence[Estimate]) -> float:
    """Median time in days, at least one, from a level of a reservoir to its next one."""
    gaps: list = []
    for name in {e.reservoir for e in estimates}:
        times = sorted({e.when for e in estimates if e.reservoir == name})
        gaps += [(b - a).total_seconds() / 86400 for a, b in zip(times, times[1:])]
    return max(round(float(np.median(gaps)), 2), 1.0) if gaps else 1.0


def _multipolygon(polygon: bytes) -> bytes:
    whole = ogr.ForceToMultiPolygon(ogr.CreateGeometryFromWkb(polygon))
    whole.FlattenTo2D()
    return bytes(whole.ExportToWkb(ogr.wkbNDR))
