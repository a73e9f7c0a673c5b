"""Which gauge reading belongs to which scene."""

from __future__ import annotations

import bisect
import datetime as dt
import difflib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ... import clock
from ...errors import ConfigError
from ..series import Dropped, Reading
from .columns import plain

_SLACK = dt.timedelta(days=1.6)  # from one end of a day to the other end of the next, in any zone


@dataclass(frozen=True)
class Pair:
    """A scene (or anything else with `when`), a reservoir's name as its polygon has it, and the gauge's reading for it."""

    scene: Any
    reservoir: str
    reading: Reading


def match(scenes: Sequence[Any], readings: Sequence[Reading], reservoirs: Sequence[str], config: Any) -> tuple[list[Pair], list[Dropped]]:
    """The nearest reading of each scene and reservoir within `config.tolerance` days, and what has none. `config` has tolerance, time_zone.

    `scenes`: anything with `when`; what has a `reservoir` of its own, as an `Estimate`, is matched with that one only. With tolerance 0 a
    reading must be of the same day in the gauge's zone. Readings that tell only the day count whole days: 1 allows yesterday and tomorrow,
    whatever the hour. Pairs are in the order of scenes, then reservoirs. Raises `ConfigError` when nothing matches.
    """
    zone = clock.zone(config.time_zone)
    series, dropped = by_name(readings, reservoirs)
    times = {name: [r.when for r in group] for name, group in series.items()}
    pairs: list[Pair] = []
    for scene in scenes:
        own = plain(getattr(scene, "reservoir", ""))
        for name in reservoirs:
            if name not in series or (own and own != plain(name)):
                continue
            found, off = _nearest(scene.when, series[name], times[name], config.tolerance, zone)
            if found is not None:
                pairs.append(Pair(scene, name, replace(found, reservoir=name)))
                continue
            path = getattr(scene, "path", "") or getattr(scene, "source", "")
            what = f"within {config.tolerance:g} days" if config.tolerance else "of its day"
            dropped.append(
                Dropped("scene", os.path.basename(path), name, scene.when, f"no gauge reading {what}; the nearest is {off:.1f} days off")
            )
    if not pairs:
        _refuse(scenes, series, dropped, config)
    return pairs, dropped


def by_name(readings: Sequence[Reading], reservoirs: Sequence[str]) -> tuple[dict[str, list[Reading]], list[Dropped]]:
    """The readings of each reservoir, sorted by time, under the name that its polygon has, and which names have no counterpart.

    Names are compared without case, accents, blanks and signs. Readings without a name are the single reservoir's.
    Raises `ConfigError` if two reservoirs have the same name, no name fits, or nameless readings could be of several.
    """
    keys = {plain(name): name for name in reservoirs}
    if len(keys) < len(reservoirs):
        twice = sorted({name for name in reservoirs if keys[plain(name)] != name or list(reservoirs).count(name) > 1})
        raise ConfigError(f"Two reservoirs have the same name: {', '.join(twice)}.", "Give each a name of its own.")
    groups: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        groups[reading.reservoir].append(reading)
    if "" in groups and len(reservoirs) > 1:
        raise ConfigError(
            f"{len(groups[''])} gauge readings tell no reservoir, and there are {len(reservoirs)}: {_told(reservoirs)}.",
            "Choose the column of the reservoirs' names with GAUGE_RESERVOIR, or run with one polygon.",
        )
    series: dict[str, list[Reading]] = defaultdict(list)
    unknown = []
    for name, group in groups.items():
        own = reservoirs[0] if name == "" and reservoirs else keys.get(plain(name))
        if own is None:
            unknown.append(name)
        else:
            series[own] += group
    if not series:
        near = _near(unknown, reservoirs)
        raise ConfigError(
            f"No name of the gauge table is that of a reservoir. The gauge table has {_told(unknown)}; the polygons have {_told(reservoirs)}.",
            f"Near are {near}: make them alike."
            if near
            else "Choose the columns of names (NAME_FIELD, GAUGE_RESERVOIR), or make the names alike.",
        )
    dropped = []
    for name in reservoirs:
        if name not in series:
            near = _near(unknown, [name])
            reason = f"no gauge reading of this reservoir{f'; near is {near}' if near else ''}"
            dropped.append(Dropped("reading", "", name, None, reason))
    for name in unknown:
        dropped.append(
            Dropped("reading", "", name, None, f"{len(groups[name])} gauge readings of a reservoir without a polygon of that name")
        )
    return {name: sorted(group, key=lambda r: r.when) for name, group in series.items()}, dropped


def _nearest(
    when: dt.datetime, series: Sequence[Reading], times: Sequence[dt.datetime], tolerance: float, zone: dt.tzinfo
) -> tuple[Optional[Reading], float]:
    """The nearest reading that is allowed, or None and how many days off the nearest one is."""
    day = clock.local_day(when, zone)
    first, last = bisect.bisect_left(times, when - _SLACK), bisect.bisect_right(times, when + _SLACK)
    best, best_off = None, (float("inf"), float("inf"))
    for k in range(max(first - 1, 0), min(last + 1, len(times))):  # the next ones on both sides, and all near enough for days to matter
        hours = abs((times[k] - when).total_seconds()) / 86400
        days = abs((clock.local_day(times[k], zone) - day).days)
        # a bare day is as far off as its date; of readings with times the hours count, but with tolerance 0 only that day's
        off = float(days) if series[k].dated else hours
        if (days == 0 if tolerance == 0 else off <= tolerance) and (off, hours) < best_off:
            best, best_off = series[k], (off, hours)
    if best is not None:
        return best, best_off[0]
    k = bisect.bisect_left(times, when)
    return None, min(abs((times[i] - when).total_seconds()) / 86400 for i in (k - 1, k) if 0 <= i < len(times))


def _refuse(scenes: Sequence[Any], series: dict[str, list[Reading]], dropped: Sequence[Dropped], config: Any) -> None:
    if not scenes:
        raise ConfigError("There is no scene to look up gauge readings for.")
    when = sorted(s.when for s in scenes)
    read = sorted(r.when for group in series.values() for r in group)
    nearest = next((d.reason for d in dropped if d.what == "scene"), "they are of other reservoirs")
    raise ConfigError(
        f"No scene has a gauge reading. Scenes: {when[0]:%Y-%m-%d} to {when[-1]:%Y-%m-%d}; readings of {_told(list(series))}: {read[0]:%Y-%m-%d} to "
        f"{read[-1]:%Y-%m-%d}. The first scene: {nearest}.",
        f"Raise TOLERANCE (now {config.tolerance:g} days), or check the dates of both.",
    )


def _near(unknown: Sequence[str], reservoirs: Sequence[str]) -> str:
    """Names that are alike but not equal: one holds the other, or few letters differ."""
    pairs = []
    for name in reservoirs:
        for other in unknown:
            a, b = plain(name), plain(other)
            if a and b and (a in b or b in a or difflib.SequenceMatcher(None, a, b).ratio() >= 0.8):
                pairs.append(f"{other!r} (gauge) and {name!r} (polygon)")
    return ", ".join(pairs[:5])


def _told(names: Sequence[str]) -> str:
    return ", ".join(repr(n) for n in list(names)[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
