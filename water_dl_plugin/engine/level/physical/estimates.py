"""The physical road to a level: water area and an area-level curve, or the shoreline's heights on an elevation model."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Optional

import numpy as np

from ...dem.resample import heights_on, ratio, suited
from ...errors import ConfigError, WaterError
from ...progress import Progress, part, silent
from ..conformal import half_width
from ..inputs import match
from ..inputs.columns import plain
from ..series import Dropped, Estimate, Reading, Reservoir, Scene
from . import areas, hypsometry, shoreline
from . import curve as curves
from .areas import HIDDEN, WATER, Area, Series
from .curve import Curve

FEW_PIXELS = 25  # of water, below which single ones rule the area
HIDDEN_SHARE = 0.01  # of the reservoir, from which on an estimate is flagged
FLAT_SHARE = 0.5  # of a shoreline on ground that is level in the elevation model, from which on it is flagged
MISFIT = 0.4  # share of the water above its own level, from which on the shoreline tells none: on simulated basins fair ones have up to 0.3
MOSTLY = 0.9  # of the areas with a reading, that an elevation model's curve must hold to be judged by its errors
APART = 3.0  # robust standard deviations between gauge and a stage-area table that are told

#: Errors (estimated - observed, m) with their times, of dates that had no part in what estimated them.
Errors = list[tuple[dt.datetime, float]]


@dataclass(frozen=True)
class Fitted:
    """An area-level curve and where it is from: `origin` "gauge", "table" or "dem"; `told`: a line for people. `errors` of the curve on dates
    with a gauge reading that it had not seen; `fitted_on`: times of the readings that had a part in it."""

    curve: Curve
    origin: str
    told: str
    errors: Errors = field(default_factory=list)
    fitted_on: frozenset = frozenset()


@dataclass
class Physical:
    """What the physical road came to. `curves` by reservoir; `errors` by reservoir and method, for `combine.combined`; `notes`: what people
    should know, each told to progress, too."""

    estimates: list[Estimate] = field(default_factory=list)
    curves: dict[str, Fitted] = field(default_factory=dict)
    errors: dict[str, dict[str, Errors]] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def estimates(
    water: Sequence[Scene], reservoirs: Sequence[Reservoir], config: Any, *, readings: Sequence[Reading] = (), dem: str = "", table: str = "",
    progress: Progress = silent,
) -> Physical:  # fmt: skip
    """Levels of `reservoirs` by the methods "area" and "shoreline", as far as the inputs allow; see `Physical`. Raises `ConfigError`,
    `RasterError`, `LabelError` for a table or an elevation model that can't be read.

    `water`: dated class or probability rasters; `readings` of the gauge, to fit the curve with; `dem`: elevation model of the (dry) basin;
    `table`: known stage-area pairs, see `curve.read`. `config` has water_class, threshold, buffer, max_hidden, coverage (%), tolerance, time_zone.

    A date whose own reading had a part in a curve, or in the shift of the elevation model to the gauge's zero, gets the level that is told
    without the readings of its month (or without its own, where the series is short), and part "validation": so it may be compared.
    """
    found, tabled, used = Physical(), curves.read(table) if table else {}, set()
    raster, metres = hypsometry.heights(dem) if dem else (None, 1.0)
    try:
        for number, reservoir in enumerate(reservoirs):
            share = part(progress, number / len(reservoirs), (number + 1) / len(reservoirs))

            def note(text: str, name: str = reservoir.name, share: Progress = share) -> None:
                found.notes.append(f"{name}: {text}")
                share(0.9, f"Warning: {found.notes[-1]}")

            series, dropped = areas.read(water, reservoir, config, part(share, 0, 0.6))
            measured: list[Area] = []
            if series is not None:
                used |= series.paths
                measured, more = areas.measured(series, config.max_hidden / 100, part(share, 0.6, 0.8))
                dropped = dropped + more
                for text in series.notes:
                    note(text)
            found.dropped += dropped
            if not measured:
                note("no water raster shows it" if not dropped else f"no water raster can be used: {dropped[0].reason}")
                continue
            pairs = paired(measured, readings, reservoir.name, config)
            fitted = curve_for(
                reservoir, series, measured, pairs, _of(tabled, reservoir.name, len(reservoirs)), dem, note, part(share, 0.8, 0.9)
            )
            if fitted is not None:
                found.curves[reservoir.name] = fitted
                share(0.9, f"{reservoir.name}: {fitted.told}.")
                found.estimates += by_area(measured, pairs, fitted, config.coverage / 100)
                found.errors.setdefault(reservoir.name, {})["area"] = fitted.errors
            if raster is not None:
                made, errors = by_shoreline(
                    series, measured, pairs, raster, metres, config.coverage / 100, found.dropped, note, part(share, 0.9, 1)
                )
                found.estimates += made
                found.errors.setdefault(reservoir.name, {})["shoreline"] = errors
    finally:
        if raster is not None:
            raster.close()
    told = {d.name for d in found.dropped}
    for scene in water:
        if scene.path not in used and os.path.basename(scene.path) not in told:
            found.dropped.append(Dropped("scene", os.path.basename(scene.path), "", scene.when, "outside all reservoirs"))
    return found


def paired(measured: Sequence[Area], readings: Sequence[Reading], name: str, config: Any) -> dict[dt.datetime, float]:
    """The gauge's level at the times that it tells one for."""
    own = [r for r in readings if plain(r.reservoir) in ("", plain(name))]
    if not own:
        return {}
    try:
        pairs, _ = match.match(measured, [replace(r, reservoir=name) for r in own], [name], config)
    except ConfigError:  # the gauge ended before the first water raster
        return {}
    return {pair.scene.when: pair.reading.level_m for pair in pairs}


def curve_for(
    reservoir: Reservoir, series: Series, measured: Sequence[Area], pairs: dict, known: Optional[Curve], dem: str, note, progress: Progress
) -> Optional[Fitted]:
    """The area-level curve: a `known` one; else one fitted on gauge pairs or one of the elevation model `dem` ("": none), whichever errs less on
    dates left out. None if there is neither; why is told by `note`."""
    used = [a for a in measured if a.when in pairs]
    area, level = np.array([a.area_m2 for a in used]), np.array([pairs[a.when] for a in used])
    when = [a.when for a in used]
    if known is not None:
        off = known.level(area)[0] - level if used else np.zeros(0)
        if len(off) >= curves.FEWEST and abs(np.median(off)) > APART * 1.4826 * np.median(np.abs(off - np.median(off))) + 0.05:
            note(f"levels of the stage-area table are {np.median(off):+.2f} m off the gauge's. Is it the same zero?")
        told = f"curve from the stage-area table{_told(off.tolist())}"
        return Fitted(replace(known, error_m=curves.error_of(off)), "table", told, [*zip(when, off.tolist())])
    made: list[Fitted] = []
    try:
        fitted = curves.fit(area, level, when, series.pixel_m2) if pairs else None
        if fitted is not None:
            told = f"curve fitted on {len(used)} dates with gauge readings{_told(fitted.held_m)}"
            made.append(Fitted(fitted, "gauge", told, [*zip(when, fitted.held_m)], frozenset(when)))
    except ConfigError as error:
        note(f"no curve from the gauge: {error}")
    if dem:
        try:
            made.append(_from_dem(dem, reservoir, when, area, level, note, progress))
        except WaterError as error:
            note(f"no curve from the elevation model: {error}")
    if not made:
        if not pairs and not dem:
            note("no gauge reading of the dates of the water rasters: no area-level curve")
        return None
    best = min(made, key=lambda f: np.inf if f.curve.error_m is None else f.curve.error_m)
    if best.fitted_on:
        best = replace(best, told=f"{best.told}; a date with a reading gets the level that is told without the readings of its month")
    if best.origin == "gauge":
        for text in curves.doubts(best.curve, level, series.pixel_m2):
            note(text)
    return best


def _from_dem(dem: str, reservoir: Reservoir, when: Sequence, area: np.ndarray, level: np.ndarray, note, progress: Progress) -> Fitted:
    """The basin's curve, brought to the gauge's zero by the median of what readings there are."""
    basin = hypsometry.curve(dem, reservoir, progress)
    for text in basin.notes:
        note(text)
    inside = ~basin.curve.level(area)[1] if len(area) else np.zeros(0, bool)
    off = basin.curve.level(area)[0] - level if len(area) else np.zeros(0)
    told = "curve from the elevation model"
    if not inside.any():
        return Fitted(basin.curve, "dem", f"{told}; levels are heights of the elevation model")
    shift, left_out = float(np.median(off[inside])), (off - without_own(off, inside, when))[inside]
    used = [t for t, good in zip(when, inside) if good]
    errors = [*zip(used, left_out.tolist())] if len(used) > 1 else []
    told = f"{told}, {-shift:+.2f} m to the gauge's zero, from {len(used)} readings{_told([e for _, e in errors])}"
    known = curves.error_of(left_out) if inside.mean() >= MOSTLY else None  # beyond its ends nobody knows how it errs
    shifted = replace(basin.curve.raised(-shift), error_m=known)
    return Fitted(shifted, "dem", told, errors, frozenset(used))


def without_own(off: np.ndarray, good: np.ndarray, when: Sequence[dt.datetime]) -> np.ndarray:
    """For each of `(n,)` differences the median of the `good` ones of other months; of other dates, where there are no other months."""
    blocks, result = curves.blocks(when, len(off)), np.empty(len(off))
    for i in range(len(off)):
        others = good & (blocks != blocks[i])
        result[i] = np.median(off[others] if others.any() else off[good])
    return result


def by_area(measured: Sequence[Area], pairs: dict, fitted: Fitted, coverage: float) -> list[Estimate]:
    """Estimates of all areas with an interval that holds the share `coverage` of the levels, as far as errors tell; the part of a reservoir that
    was filled in widens it by what it may be off. Beyond the curve there is none."""
    half, made = _half(fitted.errors, coverage), []
    for a in measured:
        level, outside = fitted.curve.level(a.area_m2)
        flags = ["outside_range"] if outside else []
        if a.hidden_share > HIDDEN_SHARE:
            flags.append("partly_hidden")
        if a.pixels < FEW_PIXELS:
            flags.append("few_pixels")
        # beyond the curve's ends its errors are not those of the dates that were left out
        own = None if half is None or outside else half + fitted.curve.spread_m(a.area_m2, a.unsure_m2)
        made.append(_estimate("area", a, level, own, pairs, fitted.errors, fitted.fitted_on, flags))
    return made


def by_shoreline(
    series: Series, measured: Sequence[Area], pairs: dict, raster, metres: float, coverage: float, dropped: list, note, progress: Progress
) -> tuple[list[Estimate], Errors]:
    """Estimates out of the shoreline's heights; and their errors, once brought to the gauge's zero. `raster`: the elevation model, `metres` per
    unit of it.

    The interval is that of errors on other dates. Without a gauge there is none: how much heights vary along the shore (`spread_m`) says nothing
    of water that is drawn too small everywhere. Shores that the water stands above, such as the visible end at a dam, are `dropped`.
    """
    grid = series.grid
    try:
        z, valid = heights_on(raster, grid, suited("cubic", ratio(raster.grid, grid)))
    except WaterError as error:
        note(f"no shoreline on the elevation model: {error}")
        return [], []
    z, valid, pixel_m = z[0] * metres, valid[0], float(np.sqrt(series.pixel_m2))
    found = []
    for number, (a, seen) in enumerate(zip(measured, series.seen)):
        progress(number / len(measured), "")
        shore = shoreline.level(series.plane(seen == WATER, False), series.plane(seen != HIDDEN, False), series.inside, z, valid, pixel_m)
        if shore is not None and shore.misfit > MISFIT:
            reason = f"shoreline: {shore.misfit:.0%} of the water would stand above its level"
            dropped.append(Dropped("estimate", a.source, a.reservoir, a.when, reason))
        elif shore is not None:
            found.append((a, shore))
    if not found:
        note("no date has a shoreline on the elevation model")
        return [], []
    on_flat = np.array([shore.flat > FLAT_SHARE for _, shore in found])
    if on_flat.any():
        note(f"{on_flat.sum()} of {len(found)} shorelines lie on water in the elevation model: the level was at most as high as told")
    off = np.array([shore.level_m - pairs.get(a.when, np.nan) for a, shore in found])
    good, when = np.isfinite(off) & ~on_flat, [a.when for a, _ in found]
    used, shift, errors, half = [t for t, g in zip(when, good) if g], 0.0, [], None
    if used:
        shift, left_out = float(np.median(off[good])), off - without_own(off, good, when)
        errors = [*zip(used, left_out[good].tolist())] if len(used) > 1 else []
        half = _half(errors, coverage)
        told = f"{-shift:+.2f} m to the gauge's zero, from {len(used)} readings{_told([e for _, e in errors])}"
        progress(1, f"{series.reservoir.name}: shorelines brought {told}.")
        known, levels = curves.error_of([e for _, e in errors]), [pairs[t] for t in used]
        if known is not None and known > np.std(levels):
            note(f"the shoreline tells little about the level: it errs by {known:.2f} m where levels vary by {np.std(levels):.2f} m")
    else:
        progress(1, f"{series.reservoir.name}: levels of shorelines are heights of the elevation model.")
    made = []
    for (a, shore), flat in zip(found, on_flat):
        flags = ["outside_range"] if flat else []
        if a.hidden_share > HIDDEN_SHARE:
            flags.append("partly_hidden")
        estimate = _estimate("shoreline", a, shore.level_m - shift, None if flat else half, pairs, errors, used, flags)
        made.append(replace(estimate, spread_m=shore.spread_m))
    return made, errors


def _estimate(
    method: str, a: Area, level: float, half: Optional[float], pairs: dict, errors: Errors, used: Collection, flags: list
) -> Estimate:
    """`level` is told if the date's reading had no part in it; of dates that were `used` the one without that reading, if `errors` know it,
    else they are flagged."""
    observed, held, told = pairs.get(a.when), dict(errors), ""
    if a.when in used:
        told = "validation" if a.when in held else "train"
        if told == "train":
            flags = [*flags, "seen"]
        else:
            level = observed + held[a.when]
    if half is None:
        flags = [*flags, "no_interval"]
    return Estimate(
        a.reservoir, a.when, float(level), None if half is None else level - half, None if half is None else level + half, method, tuple(flags),
        a.source, a.sensor, area_m2=a.area_m2, observed_m=observed, part=told, cloud=a.hidden_share,
    )  # fmt: skip


def _half(errors: Errors, coverage: float) -> Optional[float]:
    """Half an interval's width: by rank of the errors where they are enough, else as of a normal distribution whose width is known from that
    many (Student's t, its expansion in 1/n); None for fewer than `curve.FEWEST`."""
    values = [e for _, e in errors]
    half = half_width(values, coverage)
    if half is None and len(values) >= curves.FEWEST:
        z = NormalDist().inv_cdf(0.5 + coverage / 2)
        half = z * (1 + (z**2 + 1) / (4 * (len(values) - 1))) * curves.error_of(values)
    return half


def _told(errors: Sequence[float]) -> str:
    found = curves.error_of(errors)
    return "" if found is None else f"; error on dates left out {found:.2f} m"


def _of(tabled: dict[str, Curve], name: str, reservoirs: int) -> Optional[Curve]:
    """The table's curve of a reservoir; one without a name belongs to the only one."""
    own = next((c for key, c in tabled.items() if plain(key) == plain(name)), None)
    return own if own is not None else tabled.get("") if reservoirs == 1 else None
