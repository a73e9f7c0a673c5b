"""How many lakes, how large, how high; and against an inventory: which were found. The job behind `lakestatistics`."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from osgeo import ogr

from ..errors import LabelError
from ..progress import Progress, part, silent
from ..raster import writable
from ..settings import LakesConfig
from ..styles import FOLDER
from ..tables import write_json
from . import inventory
from .inventory import Inventory
from .match import Match, areas, match
from .overlay import Overlay, overlay
from .tables import KM2, size_class, size_classes, table, write_table

INSIDE = 0.5  # a lake belongs to the area of interest with at least half of its area
TWICE = 0.02  # share of a lake that must be covered twice to be told of
MATCH_FIELDS = (
    ("layer", str), ("number", int), ("match", str), ("area_m2", float), ("covered", float), ("partner", int), ("partner_m2", float),
    ("iou", float), ("pieces", int), ("whole", int), ("size_class", str), ("elevation_m", float),
)  # fmt: skip


@dataclass
class LakeStatistics:
    """The figures. `rows` are the lines of the table: all lakes, each size class, each elevation band; `cross` counts `(number, km2)` by
    (size class, band). `match` is None without an inventory. `counted` and `counted_reference` tell which lakes count."""

    lakes: Inventory
    counted: np.ndarray
    config: LakesConfig
    rows: list = field(default_factory=list)
    cross: list = field(default_factory=list)
    reference: Optional[Inventory] = None
    counted_reference: Optional[np.ndarray] = None
    match: Optional[Match] = None
    agreement: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    facts: list = field(default_factory=list)

    @property
    def crs(self) -> str:
        """Of `features`, WKT."""
        return self.lakes.crs if self.reference is None else self.reference.crs

    def numbers(self) -> dict:
        """The figures that a model or a shell may want, by the names of the outputs; None where undefined."""
        row, size = self.rows[0], self.lakes.area_m2[self.counted]
        found: dict[str, Any] = {"COUNT": row["number"], "AREA_KM2": row["area_km2"]}
        found.update(MEAN_KM2=_or_none(size, np.mean), MEDIAN_KM2=_or_none(size, np.median), LARGEST_KM2=_or_none(size, np.max))
        if self.match is not None:
            reference = self.reference.area_m2
            names = ("found", "missed", "split", "merged", "merging", "whole", "recall", "precision", "f1")
            found.update({name.upper(): row[name] for name in names}, FALSE_LAKES=row["false"], REFERENCE_COUNT=row["reference_number"])
            found.update({name.upper(): value for name, value in self.agreement.items()}, REFERENCE_AREA_KM2=row["reference_area_km2"])
            found["SMALLEST_WHOLE_M2"] = _or_none(reference[self.match.whole & self.counted_reference], np.min, 1)
            found["LARGEST_MISSED_M2"] = _or_none(reference[~self.match.found & self.counted_reference], np.max, 1)
        return {name: None if value is None or math.isnan(value) else value for name, value in found.items()}

    def lines(self) -> list[str]:
        """The figures in words, for the log."""
        told, number = [], self.numbers()
        told.append(f"{number['COUNT']} lakes, {number['AREA_KM2']:.6g} km²")
        for row in self.rows[1:]:
            told.append(f"{row['by']} {row['class']}: {row['number']} lakes, {row['area_km2']:.6g} km²")
        if self.match is not None:
            told.append(
                f"Inventory: {number['REFERENCE_COUNT']} lakes, {number['REFERENCE_AREA_KM2']:.6g} km²: {number['FOUND']} found "
                f"({number['WHOLE']} whole, {number['SPLIT']} split, {number['MERGED']} merged), {number['MISSED']} missed; {number['FALSE_LAKES']} false lakes"
            )
            told.append(", ".join(f"{name.lower()} {_percent(number[name])}" for name in ("RECALL", "PRECISION", "F1", "IOU", "AREA_BIAS")))
            small = number["SMALLEST_WHOLE_M2"]
            told.append("No lake was found whole" if small is None else f"Smallest lake found whole: {small:.6g} m²")
        return told

    def to_json(self) -> dict:
        return {
            **{name.lower(): value for name, value in self.numbers().items()}, "table": self.rows, "size_by_elevation": self.cross,
            "notes": self.notes, "settings": self.config.to_json(),
        }  # fmt: skip

    def features(self) -> Iterator[tuple]:
        """(WKB of a multipolygon in `crs`, values by `MATCH_FIELDS`) of all lakes that count: first the inventory's, then the map's.

        `match` is found, split, merged or missed for the inventory (a lake that is both merged and split is merged), right, merging or
        false for the map. Reference: `covered` by the map; map: `covered` by the inventory. `partner` is the other one's number."""
        found, names, size = self.match, size_classes(self.config), size_class(self.config, self.reference.area_m2)
        for k in np.flatnonzero(self.counted_reference):
            kind = "missed" if not found.found[k] else "merged" if found.merged[k] else "split" if found.split[k] else "found"
            p = found.partner[k]
            values = {"partner": self.lakes.numbers[p], "partner_m2": self.lakes.area_m2[p]} if p >= 0 else {}
            values.update(iou=found.iou[k], pieces=found.pieces[k], whole=found.whole[k], size_class=names[size[k]][0])
            yield _wkb(self.reference.geometries[k]), _values(self.reference, k, "reference", kind, found.covered[k], values)
        size = size_class(self.config, self.lakes.area_m2)
        for k in np.flatnonzero(self.counted):
            kind = "false" if not found.right[k] else "merging" if found.merging[k] else "right"
            yield _wkb(self.lakes.geometries[k]), _values(self.lakes, k, "map", kind, found.on[k], {"size_class": names[size[k]][0]})


def lake_statistics(
    path: str, config: LakesConfig, *, reference: str = "", dem: str = "", area: str = "", report: str = "", csv: str = "", json_path: str = "",
    title: str = "", progress: Progress = silent,
) -> LakeStatistics:  # fmt: skip
    """Count the lakes of the polygon layer `path`, and compare them with those of the layer `reference`.

    `dem` is an elevation raster in m; `area` a polygon layer: a lake counts when at least half of it lies inside, and counts as a whole.
    Raises `LabelError` when layers can't be read, lie apart or lack a CRS, `ConfigError` for limits that don't rise.
    """
    size_classes(config)
    for wanted in filter(None, (report, csv, json_path)):
        writable(wanted)
    lakes = _read(path, "lakes", config, config.elevation_field, part(progress, 0, 0.15))
    other = _read(reference, "inventory", config, "", part(progress, 0.15, 0.3)) if reference else None
    if other is not None and not len(other):
        raise LabelError("The inventory has no lakes.", "Choose another layer, or remove its filter.")
    if dem:
        if not config.elevation_field:
            lakes.elevation_m[:] = np.nan
        inventory.fill_elevation(lakes, dem, part(progress, 0.3, 0.4))
        if other is not None:
            other.elevation_m[:] = np.nan
            inventory.fill_elevation(other, dem, part(progress, 0.4, 0.5))
        known = lakes.elevation_m if other is None else np.concatenate([lakes.elevation_m, other.elevation_m])
        if len(known) and np.isnan(known).all():
            raise LabelError("The elevation model covers none of the lakes.", "Choose one of the same place, and check its CRS.")
    if other is not None:
        other = _on_the_map(other, lakes)
    result = LakeStatistics(lakes, lakes.area_m2 >= config.minimum_area, config, reference=other)
    if other is not None:
        result.counted_reference = other.area_m2 >= config.minimum_area
    if area:
        _limit(result, area, part(progress, 0.5, 0.6))
    if other is not None:
        _compare(result, bool(area), part(progress, 0.6, 0.95))
    result.rows, result.cross = table(lakes, result.counted, config, other, result.counted_reference, result.match)
    result.notes = [*(f"Lakes: {n}" for n in lakes.notes), *(f"Inventory: {n}" for n in (other.notes if other else ())), *result.notes]
    if not result.counted.any():
        result.notes.append(
            "No lake of the map counts: the layer is empty, or all lie outside the area of interest or below the minimum area."
        )
    result.facts = [("Lakes of", _name(path)), *([("Inventory", _name(reference))] if reference else [])]
    for note in result.notes:
        progress(0.95, f"Warning: {note}")
    _write(result, report, csv, json_path, title or f"Lakes of {_name(path)}")
    return result


def _tell_overlaps(result: LakeStatistics, over: Overlay) -> None:
    """A lake that several others cover together less than one by one tells that those overlap each other."""
    for place, covered, lakes, whose, theirs, makes in (
        (over.i, over.covered_i, result.reference, "inventory", "map", "split"),
        (over.j, over.covered_j, result.lakes, "map", "inventory", "merging"),
    ):
        twice = int((np.bincount(place, over.area_m2, minlength=len(lakes)) > (covered + TWICE) * lakes.area_m2).sum())
        if twice:
            result.notes.append(
                f"Lakes of the {theirs} overlap each other: they cover {twice} lakes of the {whose} twice, which may then count as {makes}."
            )


def match_style(path: str) -> None:
    """A style file for a layer of `features`. A file that is there already stays: someone may have made it."""
    if not os.path.exists(path):
        shutil.copyfile(os.path.join(FOLDER, "lake_matches.qml"), path)


def _read(source: str, what: str, config: LakesConfig, elevation: str, progress: Progress) -> Inventory:
    progress(0, f"Reading the {what}")
    try:
        return inventory.read(source, elevation, config.parts, progress)
    except LabelError as error:
        raise LabelError(f"The {what} can't be used: {error.message}", error.remedy) from error


def _on_the_map(reference: Inventory, lakes: Inventory) -> Inventory:
    return reference if not len(lakes) else reference.moved_to(lakes.crs)


def _limit(result: LakeStatistics, area: str, progress: Progress) -> None:
    """Only lakes count of which half lies in the area of interest."""
    zone = _read(area, "area of interest", result.config, "", part(progress, 0, 0.1))
    if not len(zone):
        raise LabelError("The area of interest is empty.", "Choose a layer with polygons, or none.")
    for lakes, name in ((result.lakes, "counted"), (result.reference, "counted_reference")):
        if lakes is not None and len(lakes):
            # lakes are moved, not the area: they are small, so that their edges stay where they are
            inside = overlay(lakes.moved_to(zone.crs), zone, part(progress, 0.1, 1)).covered_i >= INSIDE - 1e-6
            setattr(result, name, getattr(result, name) & inside)
    if len(result.lakes) and not result.counted.any() and (result.reference is None or not result.counted_reference.any()):
        raise LabelError("No lake lies in the area of interest.", "Check its CRS, or leave it empty.")


def _compare(result: LakeStatistics, limited: bool, progress: Progress) -> None:
    reference, lakes = result.reference, result.lakes
    progress(0, "Comparing with the inventory")
    if len(lakes):
        left, bottom, right, top = lakes.bounds
        box = reference.boxes
        near = (box[:, 0] <= right) & (box[:, 2] >= left) & (box[:, 1] <= top) & (box[:, 3] >= bottom)
        if not near.any() and not limited:
            raise LabelError(
                "The inventory lies elsewhere: none of its lakes meets the extent of the map's lakes.",
                "Choose one of the same place, and check the CRS of both layers.",
            )
        away = int((result.counted_reference & ~near).sum())
        if away and not limited:
            result.notes.append(
                f"{away} of {int(result.counted_reference.sum())} lakes of the inventory lie outside the extent of the map's lakes and count as "
                "missed. If the map ends there, choose its outline as area of interest."
            )
    over = overlay(reference, lakes, progress)
    if over.failed:
        result.notes.append(f"{over.failed} pairs of lakes could not be intersected. Run 'Fix geometries' on both layers.")
    _tell_overlaps(result, over)
    result.match = match(over, reference.area_m2, lakes.area_m2, result.counted_reference, result.config)
    result.agreement = areas(result.match, reference.area_m2, lakes.area_m2, result.counted_reference, result.counted)


def _values(lakes: Inventory, k: int, layer: str, kind: str, covered: float, more: dict) -> dict:
    height = None if math.isnan(lakes.elevation_m[k]) else lakes.elevation_m[k]
    known = {
        "layer": layer,
        "number": lakes.numbers[k],
        "match": kind,
        "area_m2": lakes.area_m2[k],
        "covered": covered,
        "elevation_m": height,
    }
    known.update(more)
    return {name: None if known.get(name) is None else python(known[name]) for name, python in MATCH_FIELDS}


def _wkb(geometry) -> bytes:
    return bytes(ogr.ForceToMultiPolygon(geometry.Clone()).ExportToWkb())


def _write(result: LakeStatistics, report: str, csv: str, json_path: str, title: str) -> None:
    if json_path:
        write_json(json_path, result.to_json())
    if csv:
        write_table(csv, result.rows)
    if report:
        from .report import lake_report

        lake_report(report, result, title)


def _or_none(values: np.ndarray, figure, unit: float = KM2) -> Optional[float]:
    return float(figure(values)) / unit if len(values) else None


def _percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _name(source: str) -> str:
    path, *options = source.split("|")
    layer = next((o[len("layername=") :] for o in options if o.startswith("layername=")), "")
    name = os.path.basename(path)
    return f"{name}, {layer}" if layer and layer != os.path.splitext(name)[0] else name
