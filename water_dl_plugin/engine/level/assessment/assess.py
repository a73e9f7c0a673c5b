"""How good estimated levels are, against a gauge: the job behind `assesslevels`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import numpy as np

from ... import clock
from ...errors import ConfigError
from ...progress import Progress, part, silent
from ...settings import AssessLevelsConfig
from ...tables import write_csv, write_json
from ...writer import apart
from ..inputs import columns, gauge
from ..inputs.match import by_name, match
from ..series import Dropped, Estimate
from . import scores
from .report import assess_report, doubts

NAMELESS = "estimated"  # the method of a table that names none
_NUMBERS = ("low_m", "high_m", "spread_m", "area_m2", "observed_m", "cloud")
_TEXTS = ("method", "part", "flags", "source", "sensor")
OUTPUTS = ("n", "r2", "rmse", "mae", "bias", "nse", "days_off", "coverage")
FEET = 1 / 0.3048


@dataclass
class LevelAssessment:
    """`compared`: estimates that gauge and estimate have a level for; `method` and `part` (a key of `scores.GROUPS`) that `figures` are of;
    `rows`: figures of all; `by_flag`: (flag or "" for none, figures) of `method` and `part`; `gauge`: all readings by reservoir."""

    config: AssessLevelsConfig
    compared: list
    method: str
    part: str
    figures: dict
    rows: list
    by_flag: list
    notes: list
    source: str = ""
    gauge_source: str = ""
    gauge: dict = field(default_factory=dict)
    dropped: list = field(default_factory=list)

    @property
    def counted(self) -> list:
        """The estimates that `figures` are of."""
        return chosen(self.compared, self.method, self.part)

    def subtitle(self) -> str:
        return f"Method: {self.method}; dates: {scores.GROUPS[self.part][1]}"

    def numbers(self) -> dict:
        """By the names of the outputs; None where undefined."""
        return {k.upper(): None if math.isnan(self.figures[k]) else float(self.figures[k]) for k in OUTPUTS}

    def lines(self) -> list[str]:
        """The figures in words, for the log: each method's on the same part of the dates."""
        told = []
        for row in self.rows:
            if row["part"] == self.part and (not row["reservoir"] or len({r["reservoir"] for r in self.rows}) == 1):
                inside = f", {row['coverage']:.0%} inside the interval" if row["with_interval"] else ""
                told.append(
                    f"{row['method']}, dates: {scores.GROUPS[self.part][1]}: {row['n']} levels, NSE {row['nse']:.3f}, R² {row['r2']:.3f}, RMSE {row['rmse']:.3f} m, "
                    f"MAE {row['mae']:.3f} m, bias {row['bias']:+.3f} m, {row['days_off']} off by more than {self.config.limit:g} m{inside}"
                )
        return told

    def settings(self) -> dict:
        return {"estimates": os.path.basename(self.source), "gauge": os.path.basename(self.gauge_source), **self.config.to_json()}

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method, "part": self.part, "figures": self.figures, "rows": self.rows,
            "by_flag": [{"flag": flag, **row} for flag, row in self.by_flag], "notes": self.notes, "settings": self.settings(),
        }  # fmt: skip


def assess_levels(
    estimates: str, config: AssessLevelsConfig, *, gauge_table: str = "", report: str = "", csv: str = "", json_path: str = "", title: str = "",
    progress: Progress = silent,
) -> LevelAssessment:  # fmt: skip
    """Compare the table or layer `estimates` (of `estimatelevel`, or any with columns of dates and levels in m) with `gauge_table`; "": with the
    observed levels that the table itself holds.

    Raises `ConfigError` when there is nothing to compare, `LabelError` when a table can't be read, `OutputError`.
    """
    apart((report, csv, json_path), (estimates, gauge_table))
    notes: list[str] = []
    found, dropped = read_estimates(estimates, config, part(progress, 0, 0.3))
    readings: dict = {}
    if gauge_table:
        found, readings, lost = _observed(found, gauge_table, config, part(progress, 0.3, 0.6), notes)
        dropped += lost
    usable = [e for e in found if scores.comparable(e)]
    sound = [e for e in usable if not config.sound_only or not set(doubts(e)) - {"no_interval"}]
    usable, without = sound, len(usable) - len(sound)
    if not usable:
        raise ConfigError(_nothing(found, without), "Choose a gauge table (GAUGE), or estimates that were made with one.")
    progress(0.6, "")
    result = judged(usable, config, notes)
    result.source, result.gauge_source, result.gauge, result.dropped = estimates, gauge_table, readings, dropped
    _doubts(result, found, without)
    for note in notes:
        progress(0.7, f"Warning: {note}")
    progress(0.7, "")
    if csv:
        write_csv(csv, result.rows)
    if json_path:
        write_json(json_path, result.to_json())
    if report:
        assess_report(
            report, result, title or f"Levels of {os.path.basename(estimates.split('|')[0])} against the gauge", part(progress, 0.7, 1)
        )
    return result


def judged(usable: list[Estimate], config: AssessLevelsConfig, notes: list) -> LevelAssessment:
    """All figures of estimates that are `scores.comparable`. Raises `ConfigError` where none is of the method or the dates asked for."""
    there = scores.methods_of(usable)
    method = config.method.strip() or there[0]
    if method not in there:
        raise ConfigError(f"No level to compare is of the method {method!r}.", f"METHOD may be {', '.join(there)}, or empty.")
    dates = _part(usable, method, config.dates, notes)
    counted = chosen(usable, method, dates)
    flags = sorted({flag for e in counted for flag in doubts(e)})
    by_flag = [(flag, scores.of([e for e in counted if flag in e.flags], config.limit)) for flag in flags]
    rest = [e for e in counted if not doubts(e)]
    if flags and rest:
        by_flag.insert(0, ("", scores.of(rest, config.limit)))
    rows = scores.grouped(usable, config.limit)
    return LevelAssessment(config, usable, method, dates, scores.of(counted, config.limit), rows, by_flag, notes)


def chosen(estimates: Sequence[Estimate], method: str, group: str) -> list[Estimate]:
    return [e for e in estimates if e.method == method and e.part in scores.GROUPS[group][0]]


def read_estimates(source: str, config: Any, progress: Progress = silent) -> tuple[list[Estimate], list[Dropped]]:
    """Estimates of a table or layer, and lines without date or level. `config` has estimate_reservoir, estimate_date, estimate_level; the other
    columns are found by the names that `estimatelevel` gives them. Levels are in m, times in UTC unless they tell their own zone."""
    table = columns.Table(source)
    date = columns.column(table, config.estimate_date, gauge.DATE, "ESTIMATE_DATE")
    level = columns.column(table, config.estimate_level, gauge.LEVEL, "ESTIMATE_LEVEL", taken=(date,))
    place = columns.column(table, config.estimate_reservoir, gauge.RESERVOIR, "ESTIMATE_RESERVOIR", taken=(date, level), optional=True)
    known = {columns.plain(name): i for i, name in enumerate(table.names)}
    others = {key: known.get(columns.plain(key)) for key in (*_NUMBERS, *_TEXTS)}
    others = {key: i for key, i in others.items() if i is not None and i not in (date, level, place)}
    wanted = [date, level, *([place] if place is not None else []), *others.values()]
    lines, dropped = [], []
    for count, (number, cells) in enumerate(table.rows(wanted)):
        if count % 20_000 == 0:
            progress(0.2, "")
        if cells:
            lines.append((number, cells))
        else:
            dropped.append(Dropped("estimate", f"line {number}", "", None, "more cells than the head has"))
    if not lines:
        raise ConfigError(f"The table of estimates {source} has no lines.", "Choose the layer or CSV of estimatelevel.")
    stamps, _ = clock.column([cells[0] for _, cells in lines], "", "estimates", "Write them as 2020-08-31 or 2020-08-31T07:56:11.")
    first = 2 if place is None else 3
    numbers = {1: columns.numbers([cells[1] for _, cells in lines], table.separator, "")}
    for at, key in enumerate(others, first):
        if key in _NUMBERS:
            numbers[at] = columns.numbers([cells[at] for _, cells in lines], table.separator, "")
    result, zone = [], clock.zone("")
    for k, (number, cells) in enumerate(lines):
        name = cells[2] if place is not None else ""
        when = clock.utc(stamps[k], zone) if stamps[k] is not None else None
        value = _finite(numbers[1][k])
        if when is None or value is None:
            dropped.append(Dropped("estimate", f"line {number}", name, when, "no date" if when is None else "no level"))
            continue
        more: dict[str, Any] = {"low_m": None, "high_m": None, "method": NAMELESS}
        for at, key in enumerate(others, first):
            if key in _NUMBERS:
                more[key] = _finite(numbers[at][k])
            elif cells[at]:
                more[key] = tuple(f.strip() for f in cells[at].split(",") if f.strip()) if key == "flags" else cells[at]
        more["part"] = more.get("part", "") if more.get("part") in scores.PARTS else ""
        result.append(Estimate(name, when, value, **more))
    if any(e.reservoir for e in result):  # else all are of one
        dropped += [Dropped("estimate", "", "", e.when, "no reservoir") for e in result if not e.reservoir]
        result = [e for e in result if e.reservoir]
    return result, dropped


def _observed(found: list, source: str, config: Any, progress: Progress, notes: list) -> tuple[list, dict, list]:
    """The estimates with the gauge's levels in place of any they had, all readings by reservoir, and what was left out."""
    readings, dropped = gauge.read(source, config, progress)
    names = list(dict.fromkeys(e.reservoir for e in found))
    theirs = {r.reservoir for r in readings}
    if names == [""] and len(theirs) == 1:
        names = list(theirs)
        found = [replace(e, reservoir=names[0]) for e in found]
    series, lost = by_name(readings, names)
    own = [replace(reading, reservoir=name) for name, some in series.items() for reading in some]
    pairs, without = match(found, own, names, config)
    dropped += [d for d in lost if d.reservoir in names]  # other reservoirs of the gauge's are none of our business
    dropped += [replace(d, what="estimate") for d in without if d.what == "scene"]
    levels = {id(pair.scene): pair.reading.level_m for pair in pairs}
    notes += [_sentence(told) for told in gauge.doubts(own)]
    return [replace(e, observed_m=levels.get(id(e))) for e in found], series, dropped


def _part(usable: list, method: str, wanted: str, notes: list) -> str:
    """The group of dates whose figures stand at the top."""
    if chosen(usable, method, wanted):
        return wanted
    if wanted != "unseen":
        there = [key for key in scores.GROUPS if chosen(usable, method, key)]
        raise ConfigError(f"No level of the method {method!r} is of the dates {wanted!r}.", f"DATES may be {', '.join(there)}.")
    notes.append("All dates were trained with: the figures don't tell how good levels of new dates are.")
    return "train"


def _doubts(result: LevelAssessment, found: list, without: int) -> None:
    """What people should know before they believe the figures."""
    head, notes = result.figures, result.notes
    own = chosen(result.compared, result.method, result.part)
    observed, estimated = (np.array([getattr(e, key) for e in own]) for key in ("observed_m", "level_m"))
    scatter = float(np.std(estimated - observed))
    lacking = [n for n in dict.fromkeys(e.reservoir for e in result.compared) if n not in {e.reservoir for e in own}]
    if lacking:
        notes.append(
            f"The method {result.method} has no such level of {', '.join(lacking[:8])}{' and others' if len(lacking) > 8 else ''}."
        )
    depths = sum("no_datum" in e.flags for e in found)
    if depths:
        notes.append(f"{depths} estimates are depths above an unknown datum: they are left out.")
    if without:
        notes.append(f"{without} flagged levels are left out, as asked for.")
    missing = sum(e.observed_m is None for e in found)
    if missing:
        notes.append(f"{missing} of {len(found)} estimates have no observed level.")
    if head["n"] < 10:
        notes.append(f"Only {head['n']} levels are compared: the figures are rough.")
    if head["n"] >= 5 and abs(head["bias"]) > max(3 * scatter, 0.1):
        notes.append(f"The estimates lie {head['bias']:+.2f} m off throughout: do gauge and estimates count from the same zero?")
    ratio = float(np.std(observed) / np.std(estimated)) if np.std(estimated) > 0 else 1.0
    if head["n"] >= 10 and head["pearson_r2"] > 0.8 and min(abs(ratio * f - 1) for f in (FEET, 1 / FEET)) < 0.1:
        notes.append(
            f"The observed levels vary {ratio:.2f} times as much as the estimated ones: is one of both in feet? The gauge's unit is UNIT."
        )


def _nothing(found: list, without: int) -> str:
    if without:
        return f"All {without} levels that could be compared are flagged."
    if all("no_datum" in e.flags for e in found):
        return "All estimates are depths above an unknown datum, which no gauge tells."
    return "None of the estimates has an observed level."


def _sentence(warning: str) -> str:
    told = warning.replace("Warning:", "", 1).strip()
    return told[:1].upper() + told[1:]


def _finite(value: Optional[float]) -> Optional[float]:
    return None if value is None or math.isnan(value) else value
