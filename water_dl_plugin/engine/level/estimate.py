"""Scenes, water rasters, gauges, curves and elevation models, as far as they are there -> levels. The job behind `estimatelevel`."""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from ..errors import ConfigError
from ..progress import Progress, part, silent
from ..settings import EstimateLevelConfig
from ..version import version
from ..writer import apart
from . import combine, layer, network
from . import dropped as left_out
from .assessment.report import estimate_report
from .chips import sites
from .inputs import gauge, match, plausible, scenes
from .model import LevelModel
from .physical import curve
from .physical import estimates as physical
from .series import Estimate, Reading


@dataclass(frozen=True)
class Inputs:
    """What levels are made from; whatever is not there is empty. `files`, `folder`, `table`: the scenes, see `scenes.gather`; `model`: file
    of the network; `water`, `water_folder`: dated class or probability rasters; `gauge`: table of readings; `dem`: elevation model; `curves`:
    table of known stages and areas."""

    files: Sequence[str] = ()
    folder: str = ""
    table: str = ""
    model: str = ""
    water: Sequence[str] = ()
    water_folder: str = ""
    gauge: str = ""
    dem: str = ""
    curves: str = ""

    def check(self) -> None:
        """Raise `ConfigError` unless something can be made of them."""
        watered = bool(self.water or self.water_folder)
        scened = bool(self.files or self.folder or self.table)
        if self.model and not scened:
            raise ConfigError("There is a model, but no scenes.", "Choose scenes (INPUT), a folder of them (FOLDER) or a table (TABLE).")
        if scened and not self.model:
            raise ConfigError(
                "There are scenes, but no model.",
                "Choose a model file (MODEL); rasters that show the water already belong to WATER or WATER_FOLDER.",
            )
        if (self.dem or self.curves) and not watered:
            raise ConfigError("A curve or an elevation model needs water rasters.", "Choose them with WATER or WATER_FOLDER.")
        if not (self.model or watered):
            raise ConfigError(
                "There is nothing to estimate levels from.",
                "Choose scenes and a model (INPUT or FOLDER, and MODEL), or water rasters (WATER) with a gauge, a stage-area table or an elevation model.",
            )
        if watered and not (self.dem or self.curves or self.gauge):
            raise ConfigError(
                "Nothing tells which level a water area belongs to.",
                "Add gauge readings (GAUGE), a stage-area table (CURVES) or an elevation model (DEM).",
            )


@dataclass
class Estimated:
    """`estimates` sorted by reservoir, method and time; `reservoirs`; what was left out; `curves` by reservoir (`physical.Fitted`); `notes`
    for people, and `observed`: the gauge's readings by reservoir."""

    estimates: list = field(default_factory=list)
    reservoirs: list = field(default_factory=list)
    dropped: list = field(default_factory=list)
    curves: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    observed: dict = field(default_factory=dict)

    @property
    def crs(self) -> str:
        """Of the reservoirs, WKT."""
        return self.reservoirs[0].crs if self.reservoirs else ""

    def note(self, text: str, progress: Progress) -> None:
        self.notes.append(text)
        progress(1, f"Warning: {text}")


def estimate(
    reservoirs: str, inputs: Inputs, config: EstimateLevelConfig, *, csv: str = "", report: str = "", curves: str = "", dropped: str = "",
    progress: Progress = silent,
) -> Estimated:  # fmt: skip
    """Levels of the reservoirs of a polygon layer by all methods that the inputs allow, and their mean where there are several.

    `csv`, `report` (HTML), `curves` and `dropped` (CSV) are files to write, "" for none. Raises `ConfigError`, `LabelError`, `ModelError`,
    `RasterError`, `OutputError`; `ConfigError` if no level could be told at all.
    """
    inputs.check()
    apart(
        (csv, report, curves, dropped),
        (reservoirs, *inputs.files, inputs.table, inputs.model, *inputs.water, inputs.gauge, inputs.dem, inputs.curves),
    )
    found, facts = Estimated(), []

    found.reservoirs = sites.read(reservoirs, config.name_field, config.datum_field, progress)
    names = [r.name for r in found.reservoirs]
    readings = _readings(inputs.gauge, names, config, found, part(progress, 0.01, 0.05))
    errors: dict = {name: {} for name in names}
    watered = bool(inputs.water or inputs.water_folder)
    if inputs.model:
        facts += _by_network(inputs, readings, config, found, errors, part(progress, 0.05, 0.6 if watered else 0.95))
    if watered:
        _by_water(inputs, readings, config, found, errors, part(progress, 0.6 if inputs.model else 0.05, 0.95))
    if not found.estimates:
        if dropped:
            left_out.write(dropped, found.dropped)
        reasons = Counter(d.reason for d in found.dropped if d.what != "reading").most_common(3)
        told = [text.rstrip(".") for text in found.notes[-4:]] + [f"{reason} ({n})" for reason, n in reasons]
        raise ConfigError(
            "No level can be told: " + ("; ".join(dict.fromkeys(told)) or "no scene shows a reservoir") + ".",
            "The log above says more. Check whether scenes or water rasters show the reservoirs, and whether gauge, curve or elevation model are of them.",
        )
    found.estimates = _observed(found.estimates, readings, names, config)
    joined, weights = combine.combined(found.estimates, errors, config.coverage / 100, dt.timedelta(days=config.together))
    found.estimates = sorted(found.estimates + joined, key=lambda e: (e.reservoir, e.method, e.when))
    for (name, _), told in weights.items():
        found.notes.append(f"{name}, combined: {told.line()}.")
        progress(0.95, found.notes[-1])
    if csv:
        layer.write_csv(csv, found.estimates)
    if curves:
        curve.write(curves, {name: fitted.curve for name, fitted in found.curves.items()})
    if dropped:
        left_out.write(dropped, found.dropped)
    if report:
        estimate_report(
            report, found.estimates, found.observed, facts=facts, dropped=found.dropped, notes=found.notes, settings=config.to_json(),
            versions={"Water DL": version()}, coverage=config.coverage / 100,
        )  # fmt: skip
    for line in (*left_out.counts(found.dropped), *lines(found.estimates)):
        progress(1, line)
    return found


def lines(estimates: Sequence[Estimate]) -> list[str]:
    """What was estimated, in words, for the log."""
    told = []
    for (name, method), n in Counter((e.reservoir, e.method) for e in estimates).items():
        own = [e for e in estimates if (e.reservoir, e.method) == (name, method) and e.level_m is not None]
        low, high, flags = min(own, key=lambda e: e.level_m), max(own, key=lambda e: e.level_m), Counter(f for e in own for f in e.flags)
        flagged = f"; flagged: {', '.join(f'{flag} {count}' for flag, count in flags.most_common())}" if flags else ""
        told.append(
            f"{name}, {method}: {n} levels from {own[0].when:%Y-%m-%d} to {own[-1].when:%Y-%m-%d}, lowest {low.level_m:.2f} m ({low.when:%Y-%m-%d}), "
            f"highest {high.level_m:.2f} m ({high.when:%Y-%m-%d}){flagged}."
        )
    return told


def _readings(source: str, names: Sequence[str], config, found: Estimated, progress: Progress) -> list[Reading]:
    """The gauge's readings of the reservoirs, under the polygons' names."""
    if not source:
        return []
    readings, dropped = gauge.read(source, config, progress)
    series, others = match.by_name(readings, names)
    found.dropped += [*dropped, *others]
    found.observed = series
    own = [replace(r, reservoir=name) for name, group in series.items() for r in group]
    for doubt in plausible.doubts(own, {r.name: r.datum_m for r in found.reservoirs if r.datum_m}):
        found.note(doubt.replace("Warning: ", "", 1), progress)
    return own


def _by_network(inputs: Inputs, readings, config, found: Estimated, errors: dict, progress: Progress) -> list[tuple]:
    """Levels by the model; returns facts for the report."""
    model = LevelModel(inputs.model, config.device, config.threads)
    listed, dropped = scenes.gather(inputs.files, inputs.folder, inputs.table, config, part(progress, 0, 0.1))
    for name, place in model.places.items():
        levels = [r.level_m for r in readings if r.reservoir == name]
        if levels and place.low_m is not None and place.high_m is not None:
            middle, span = median(levels), max(place.high_m - place.low_m, 1.0)
            known = any(name in note and "UNIT" in note for note in found.notes)
            if not known and not place.low_m - 2 * span <= middle <= place.high_m + 2 * span:
                text = f"{name}: the gauge reads about {middle:.2f} m, the model was trained with {place.low_m:.2f} to {place.high_m:.2f} m. Another unit (UNIT), or another zero?"
                found.note(text, progress)
    told = network.estimates(listed, found.reservoirs, model, config, part(progress, 0.1, 1))
    found.estimates += told.estimates
    found.dropped += [*dropped, *told.dropped]
    for text in told.notes:
        found.note(text, progress)
    for name, known in told.errors.items():
        errors[name]["network"] = known
    return [("Model", os.path.basename(inputs.model)), ("Its networks", model.members), ("Sensor", model.sensor or "not told")]


def _by_water(inputs: Inputs, readings, config, found: Estimated, errors: dict, progress: Progress) -> None:
    """Levels by area and shoreline."""
    listed, dropped = scenes.gather(inputs.water, inputs.water_folder, "", replace(config, sensor="any"), part(progress, 0, 0.05))
    told = physical.estimates(
        listed, found.reservoirs, config, readings=readings, dem=inputs.dem, table=inputs.curves, progress=part(progress, 0.05, 1)
    )
    found.estimates += told.estimates
    found.dropped += [*dropped, *told.dropped]
    found.curves = told.curves
    found.notes += told.notes
    for name, known in told.errors.items():
        errors[name].update(known)


def _observed(estimates: Sequence[Estimate], readings, names, config) -> list[Estimate]:
    """Estimates with the gauge's level of their day, where there is one."""
    if not readings:
        return list(estimates)
    try:
        pairs, _ = match.match(estimates, readings, names, config)
    except ConfigError:  # new scenes may well be later than the gauge's last reading
        return list(estimates)
    levels = {id(pair.scene): pair.reading.level_m for pair in pairs}
    return [replace(e, observed_m=levels.get(id(e), e.observed_m)) for e in estimates]
