"""The page about the lakes of a map, and how they agree with an inventory."""

from __future__ import annotations

import math

import numpy as np

from ..report import Report, number
from ..tables import json_text
from . import plots as lake_plots
from .tables import BAND, SIZE

FEW = 5  # matched lakes: for fewer a plot says less than the table
_DASH = "\u2013"


def lake_report(path: str, result, title: str) -> None:
    """Writes the page of a `statistics.LakeStatistics`. Raises `OutputError`."""
    figures, page = result.numbers(), Report(title)
    head = [("Lakes", figures["COUNT"]), ("Area", _area(figures["AREA_KM2"]))]
    if figures["LARGEST_KM2"] is not None:
        head += [("Median", _area(figures["MEDIAN_KM2"])), ("Largest", _area(figures["LARGEST_KM2"]))]
    if result.match is not None:
        head += [("Recall", figures["RECALL"]), ("Precision", figures["PRECISION"]), ("F1", figures["F1"])]
    page.facts([*head, *result.facts])
    if result.notes:
        page.heading("To be known")
        for note in result.notes:
            page.text(note)
    for by, heading, upwards in ((SIZE, "By size", False), (BAND, "By elevation", True)):
        rows = [row for row in result.rows if row["by"] == by]
        if rows:
            page.heading(heading)
            page.figure(lake_plots.counts(rows, upwards), "Areas on the ellipsoid, computed from the outlines.")
            page.table(*_counts(rows[::-1] if upwards else rows, result))
    if result.cross:
        bands = list(dict.fromkeys(cell["band"] for cell in result.cross))
        classes = [row["class"] for row in result.rows if row["by"] == SIZE]
        for key, what in (("number", "Number"), ("area_km2", "Area in km²")):
            cells = {(cell["size_class"], cell["band"]): cell[key] for cell in result.cross}
            lines = [[band, *(cells[name, band] if key == "number" else _km2(cells[name, band]) for name in classes)] for band in bands]
            page.details_table(f"{what} of lakes by elevation and size", ["Elevation", *classes], lines)
    if result.match is not None:
        _agreement(page, result, figures)
    page.heading("How it was made")
    page.details("Settings", json_text(result.config.to_json()))
    page.write(path)


def _counts(rows: list, result) -> tuple[list, list]:
    total = max(result.rows[0]["area_km2"], 1e-300)
    header = ["Class", "Lakes", "Area (km²)", "Share of area"]
    lines = [[row["class"], row["number"], _km2(row["area_km2"]), f"{row['area_km2'] / total:.1%}"] for row in rows]
    if result.match is not None:
        header += ["Lakes, inventory", "Area, inventory (km²)"]
        lines = [[*line, row["reference_number"], _km2(row["reference_area_km2"])] for line, row in zip(lines, rows)]
    return header, lines


def _agreement(page: Report, result, figures: dict) -> None:
    config, every = result.config, result.rows[0]
    page.heading("Against the inventory")
    page.table(
        ["Lakes of the inventory", "Number", "Share"],
        [[name, every[key], _share(every[key], every["reference_number"])] for name, key in (
            ("found", "found"), ("\u2003found whole", "whole"), ("\u2003split", "split"), ("\u2003merged with others", "merged"), ("missed", "missed"),
            ("all", "reference_number"),
        )],
    )  # fmt: skip
    page.table(
        ["Lakes of the map", "Number", "Share"],
        [[name, every[key], _share(every[key], every["number"])] for name, key in (
            ("right", "right"), ("false", "false"), ("right or false, but over several lakes of the inventory", "merging"), ("all", "number"),
        )],
    )  # fmt: skip
    page.text(
        f"Found: the map's lakes cover at least {config.found_share:g} % of the lake; else missed. Split: two or more of them cover at least "
        f"{config.piece_share:g} % each. Merged: one lake of the map covers at least {config.found_share:g} % of this lake and of another "
        f"one. Found whole: one lake of the map covers at least {config.whole_share:g} % of it, and no other lake, and is right; the lake is "
        "neither split nor merged. A lake can be both split and merged. False: less "
        f"than {config.false_share:g} % of a lake of the map lies on the inventory; else right."
    )
    page.text(
        f"Smallest lake found whole: {_m2(figures['SMALLEST_WHOLE_M2'])}. Largest lake missed: {_m2(figures['LARGEST_MISSED_M2'])}. "
        "The one is the best case, the other the worst: between both, the share of found lakes by size tells what to expect."
    )
    rows = [row for row in result.rows if row["by"] == SIZE]
    some = result.counted_reference
    if some.any():
        caption = "Recall by the size in the inventory, precision by that in the map. Whiskers: 95% intervals (Wilson)."
        page.figure(lake_plots.detection(rows), caption)
    header = ["Class", "Found", "Missed", "Whole", "Split", "Merged", "False", "Recall", "Precision", "F1"]
    keys = ("found", "missed", "whole", "split", "merged", "false", "recall", "precision", "f1")
    page.table(header, [[row["class"], *(row[key] for key in keys)] for row in [*rows, every]])
    bands = [row for row in result.rows if row["by"] == BAND]
    if bands:
        page.details_table("The same by elevation", header, [[row["class"], *(row[key] for key in keys)] for row in bands])
    found, reference = result.match, result.reference
    if some.sum() >= 4 * FEW:
        smallest = figures["SMALLEST_WHOLE_M2"]
        page.figure(
            lake_plots.size_curve(
                reference.area_m2[some], found.found[some], found.whole[some], math.nan if smallest is None else smallest
            ),
            "Dotted: the smallest lake found whole.",
        )
    page.heading("Agreement of areas")
    page.table(
        ["Figure", "Value", "Best"],
        [
            ["IoU of all lakes: common area through that of both together", _number(figures["IOU"]), "1"],
            ["IoU of found and right lakes", _number(figures["MATCHED_IOU"]), "1"],
            ["Area bias: (map − inventory) / inventory", _percent(figures["AREA_BIAS"]), "0"],
            [f"Area bias of lakes that are one in both ({number(figures['ALONE'])})", _percent(figures["ALONE_AREA_BIAS"]), "0"],
            ["Median IoU of these", _number(figures["ALONE_IOU"]), "1"],
        ],
    )
    one = found.alone & some
    if one.sum() >= FEW:
        drawn = (
            f" {number(lake_plots.MANY_POINTS)} of {number(int(one.sum()))} lakes, drawn by chance."
            if one.sum() > lake_plots.MANY_POINTS
            else ""
        )
        figure = lake_plots.area_scatter(reference.area_m2[one], result.lakes.area_m2[found.partner[one]])
        page.figure(figure, f"Lakes that are one in both layers. Dashed: the same area.{drawn}")


def _km2(value: float) -> str:
    return "0" if not value else f"{value:.3g}" if value < 100 else number(np.round(value)).split(".")[0]


def _area(value: float) -> str:
    return f"{_km2(value)} km²" if value >= 0.01 or not value else _m2(value * 1e6)


def _m2(value) -> str:
    return "none" if value is None else f"{number(round(value))} m²" if value < 1e6 else f"{_km2(value / 1e6)} km²"


def _number(value) -> str:
    return _DASH if value is None else number(value)


def _percent(value) -> str:
    return _DASH if value is None else f"{value:+.1%}".replace("-", "\u2212")


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else _DASH
