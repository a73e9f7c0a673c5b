"""Gauge tables: what was read at which reservoir, when; in metres and UTC.

Nothing is corrected silently: what can't be read is dropped with the reason, what looks odd is told (`doubts` in `plausible`) and kept.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Optional

from ... import clock
from ...errors import ConfigError
from ...progress import Progress, silent
from ...settings.series import UNITS
from ..series import Dropped, Reading, iso
from . import columns
from .plausible import doubts

__all__ = ["doubts", "read"]

SAME = 0.05  # m; readings of one time that differ by no more are one
_PLACES = ("reservoir", "dam", "lake", "gauge", "gage", "site", "station", "location")
RESERVOIR = (*(f"{p} name" for p in _PLACES), *_PLACES, *(f"name of {p}" for p in _PLACES), "name", "stausee", "embalse", "barragem", "barrage", "estacion",
             *(f"{p} {i}" for p in _PLACES for i in ("id", "no", "number", "code")), "id")  # fmt: skip
DATE = ("date time", "datetime", "timestamp", "date", "time", "day", "datum", "zeit", "fecha", "data")
TIME = ("time", "time of day", "hour", "uhrzeit", "hora")
LEVEL = (
    "water level", "waterlevel", "level", "water surface elevation", "wse", "stage", "gauge height", "gage height", "height", "elevation", "elev",
    "water elevation", "pool elevation", "wl", "wasserstand", "pegel", "pegelstand", "hohe", "hoehe", "hauteur", "nivel", "cota", "niveau", "reading",
    "depth", "value",
)  # fmt: skip
_SPOKEN = {
    "ft": re.compile(r"(?<![a-z])(ft|feet|foot)(?![a-z])", re.I), "cm": re.compile(r"(?<![a-z])(cm|centimet(er|re)s?|zentimeter)(?![a-z])", re.I),
    "mm": re.compile(r"(?<![a-z])(mm|millimet(er|re)s?|millimeter)(?![a-z])", re.I),
}  # fmt: skip


def read(source: str, config: Any, progress: Progress = silent) -> tuple[list[Reading], list[Dropped]]:
    """Readings sorted by reservoir and time, and what was left out. Raises `ConfigError`, `LabelError`.

    `source`: CSV (any separator, decimal comma or point), or a spreadsheet or layer that GDAL reads. `config` has gauge_reservoir, gauge_date,
    gauge_level, gauge_date_format, unit, time_zone, missing. Without a column of reservoirs the readings' reservoir is "", see `match`.
    Warnings about the table go to `progress`; those about its levels are told by `doubts`, which see.
    """
    table = columns.Table(source)
    date = columns.column(table, config.gauge_date, DATE, "GAUGE_DATE")
    level = columns.column(table, config.gauge_level, LEVEL, "GAUGE_LEVEL", taken=(date,))
    place = columns.column(table, config.gauge_reservoir, RESERVOIR, "GAUGE_RESERVOIR", taken=(date, level), optional=True)
    time = columns.column(table, "", TIME, "GAUGE_DATE", taken=(date, level, place), optional=True)
    used = [
        (what, table.names[i]) for what, i in (("reservoirs", place), ("dates", date), ("times", time), ("levels", level)) if i is not None
    ]
    pooled = "; no column of reservoirs, so all readings are of one" if place is None else ""
    progress(0, f"Gauge table: {', '.join(f'{what} from {name!r}' for what, name in used)}; levels in {config.unit}{pooled}.")
    for unit, spoken in _SPOKEN.items():
        if config.unit != unit and (spoken.search(table.names[level]) or spoken.search(table.above)):
            word = {"ft": "feet"}.get(unit, unit)
            progress(
                0,
                f"Warning: the gauge table speaks of {word}, but its levels are read as {config.unit}. If they are {word}, set UNIT to {unit}.",
            )
    for name in table.names:
        if " ".join(columns.tokens(name)) in ("tz", "tz cd", "time zone", "timezone") and not config.time_zone:
            progress(0, f"Warning: the gauge table's column {name!r} is not read: times are taken for UTC. Set TIME_ZONE if they are not.")
    rows = _rows(table, (place, date, time, level), progress)
    readings, dropped = _readings(rows, table.separator, config, progress)
    return _merged(readings, dropped, place is None, progress)


def _rows(table: columns.Table, wanted: Sequence[Optional[int]], progress: Progress) -> list[tuple]:
    """(line, reservoir, date, time, level) as text for every line; a line that can't be cut into cells has None for all."""
    chosen = [i for i in wanted if i is not None]
    where = [chosen.index(i) if i is not None else None for i in wanted]
    rows = []
    for number, cells in table.rows(chosen):
        rows.append((number, *(None if not cells else "" if k is None else cells[k] for k in where)))
        if len(rows) % 20_000 == 0:
            progress(0, "")
    broken = sum(row[1] is None for row in rows)
    if broken > len(rows) / 2:
        raise ConfigError(
            f"{broken} of {len(rows)} lines of {table.path} have more cells than the {len(table.names)} of its head: decimal commas in a table "
            "separated by commas?",
            "Save it with another separator or with decimal points.",
        )
    if not rows:
        raise ConfigError(f"The table {table.path} has no lines below its head.", "Choose one with a line per reading.")
    return rows


def _readings(rows: list[tuple], separator: str, config: Any, progress: Progress) -> tuple[list[Reading], list[Dropped]]:
    dropped = [Dropped("reading", f"line {row[0]}", "", None, "more cells than the head has") for row in rows if row[1] is None]
    rows = [row for row in rows if row[1] is not None]
    zone = clock.zone(config.time_zone)
    levels = columns.numbers([row[4] for row in rows], separator, config.missing)
    stamps, notes = clock.column([row[2] for row in rows], config.gauge_date_format)
    for note in notes:
        progress(0, note)
    factor, readings = UNITS[config.unit], []
    for k, (number, place, date, time, text) in enumerate(rows):
        if k % 20_000 == 0:
            progress(0.5, "")
        stamp, line = stamps[k], f"line {number}"
        at = clock.clock(time) if stamp is not None and stamp.dated and time else None
        if at is not None:
            stamp = clock.Stamp(stamp.local.replace(hour=at.hour, minute=at.minute, second=at.second), False)
        when = clock.utc(stamp, zone) if stamp is not None else None
        if when is None:
            dropped.append(Dropped("reading", line, place, None, f"no date: {date[:40]!r}"))
        elif levels[k] is None:
            dropped.append(Dropped("reading", line, place, when, f"no number: {text[:40]!r}"))
        elif math.isnan(levels[k]):
            dropped.append(Dropped("reading", line, place, when, "no level" + (f" ({text[:20]})" if text else "")))
        else:
            readings.append(Reading(place, when, round(levels[k] * factor, 6), stamp.dated))
    if not readings:
        raise ConfigError(
            f"None of {len(rows)} lines of the gauge table holds a date and a level: {dropped[0].reason}.",
            "Check GAUGE_DATE, GAUGE_LEVEL and the marks of missing levels.",
        )
    return readings, dropped


def _merged(readings: list[Reading], dropped: list[Dropped], nameless: bool, progress: Progress) -> tuple[list[Reading], list[Dropped]]:
    """One reading per reservoir and time: the mean of those that agree; none where they do not."""
    groups: dict[tuple, list[Reading]] = defaultdict(list)
    for reading in readings:
        groups[(reading.reservoir, reading.when)].append(reading)
    merged, odd = [], []
    for (name, when), group in groups.items():
        values = [r.level_m for r in group]
        if max(values) - min(values) <= SAME:
            merged.append(Reading(name, when, sum(values) / len(values), all(r.dated for r in group)))
            continue
        told = ", ".join(f"{v:.2f}" for v in values[:4])
        odd.append(Dropped("reading", "", name, when, f"{len(values)} different levels of one time: {told} m"))
    if nameless and len(odd) > max(1, 0.3 * len(groups)):
        raise ConfigError(
            f"{len(odd)} of {len(groups)} times of the gauge table have several different levels.",
            "If it holds several reservoirs, name the column of their names with GAUGE_RESERVOIR.",
        )
    if odd:
        first = f"{odd[0].reservoir} {iso(odd[0].when)[:10]}".strip()
        progress(
            1,
            f"Warning: {len(odd)} time(s) of the gauge table with several different levels (the first: {first}, {odd[0].reason}); none is used.",
        )
    if not merged:
        raise ConfigError("No reading of the gauge table is left: all times have several different levels.", "Keep one reading per time.")
    return sorted(merged, key=lambda r: (r.reservoir, r.when)), dropped + odd
