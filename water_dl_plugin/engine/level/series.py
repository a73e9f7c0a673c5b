"""The records that everything here speaks in: dated scenes, reservoirs, gauge readings, estimates. Times are UTC, without a zone of their own."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Optional

from ..grid import Grid

#: Tiles of one pass of a satellite, which are one date.
ONE_PASS = dt.timedelta(minutes=2)

#: Of the range that a model or a curve knows: only further out is a level called outside of it.
BEYOND = 0.02

#: Which part of the training a date took: "" if none.
PARTS = ("train", "validation", "test")

#: What an estimate may be doubted for, and what that means. Estimates hold the keys.
FLAGS = {
    "outside_range": "outside the levels that the model or the curve has seen",
    "cloud": "more cloud and shadow over the reservoir than allowed",
    "partly_hidden": "part of the reservoir is hidden; the rest was filled in",
    "cut_off": "the scene covers only part of the reservoir",
    "disagreement": "the model's members, or the two roads, differ by more than the interval",
    "no_datum": "the reservoir's datum is unknown: the number is a depth",
    "unknown_reservoir": "the model was not trained on this reservoir",
    "few_pixels": "so little water that single pixels rule the area",
    "no_interval": "too few held-out dates to tell an interval",
    "seen": "this date was trained with: the network's number is no test of it",
}


@dataclass(frozen=True)
class Scene:
    """A dated raster. `sensor`: "sentinel-2", "sentinel-1", "landsat-8" ..., "" if unknown; `quality`: path of its own quality raster, or ""."""

    path: str
    when: dt.datetime
    sensor: str = ""
    quality: str = ""


@dataclass(frozen=True)
class Reservoir:
    """`polygon`: WKB in `crs` (WKT); `datum_m`: the level that depths count from, None if not given."""

    name: str
    polygon: bytes
    crs: str
    datum_m: Optional[float] = None


@dataclass(frozen=True)
class Reading:
    """What a gauge said. `dated`: True if only the day is known; `when` is then noon of the gauge's own day, told in UTC."""

    reservoir: str
    when: dt.datetime
    level_m: float
    dated: bool = True


@dataclass(frozen=True)
class Dropped:
    """What was left out, and why: a line of the table that the user gets. `what`: "scene", "reading", "chip", "reservoir", "estimate"."""

    what: str
    name: str
    reservoir: str
    when: Optional[dt.datetime]
    reason: str


@dataclass(frozen=True)
class Place:
    """A reservoir as a model knows it: `grid` that its chips are cut on; `datum_m`; lowest and highest level that training saw (m)."""

    name: str
    grid: Grid
    datum_m: Optional[float] = None
    low_m: Optional[float] = None
    high_m: Optional[float] = None


@dataclass(frozen=True)
class Estimate:
    """One level of one reservoir at one time by one `method` ("network", "area", "shoreline", "combined").

    `low_m` and `high_m` are the prediction interval; `spread_m`: standard deviation of the model's members, or of the
    heights along a shoreline; `area_m2`: water area that an
    area-level curve was asked with; `observed_m`: the gauge's level, if there is one; `part`: one of `PARTS` or ""; `flags`: keys of `FLAGS`.
    """

    reservoir: str
    when: dt.datetime
    level_m: Optional[float]
    low_m: Optional[float]
    high_m: Optional[float]
    method: str
    flags: tuple = ()
    source: str = ""
    sensor: str = ""
    spread_m: Optional[float] = None
    area_m2: Optional[float] = None
    observed_m: Optional[float] = None
    part: str = ""
    cloud: Optional[float] = None


def iso(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S")


def from_iso(text: str) -> dt.datetime:
    """The reverse of `iso`. Raises `ValueError`."""
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S")
