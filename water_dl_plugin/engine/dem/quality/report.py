"""The page about a DEM and how far its heights can be trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...heights import gradient
from ...panels import shades
from ...report import Report, number
from ...tables import json_text
from ...windows import Window
from . import plots
from .assessment import DemAssessment, metres
from .compare import Surface
from .figures import improvement

SHARE = 0.99  # of the pixels that a histogram shows
_DASH, _MINUS = "\u2013", "\u2212"
_COLUMNS = (
    ("RMSE", "rmse"), ("MAE", "mae"), ("Bias", "bias"), ("Std. dev.", "std"), ("NMAD", "nmad"), ("LE90", "le90"), ("R²", "r2"), ("Min.", "minimum"),
    ("Max.", "maximum"), ("Slope RMSE (°)", "slope_rmse"), ("Slope MAE (°)", "slope_mae"), ("Slope bias (°)", "slope_bias"), ("Aspect MAE (°)", "aspect_mae"),
)  # fmt: skip
_SIGNED = ("bias", "minimum", "maximum", "slope_bias")


def dem_report(path: str, result: DemAssessment, target: Surface, title: str) -> None:
    """Writes the page; the rasters must still be open. Raises `OutputError`."""
    page, whole, best = Report(title), result.dem.whole, result.best
    head = [
        (name, _metres(whole[key], key in _SIGNED))
        for name, key in (("RMSE", "rmse"), ("MAE", "mae"), ("Bias", "bias"), ("LE90", "le90"), ("NMAD", "nmad"))
    ]
    head.append(("R²", _r2(whole["r2"])))
    if best is not None:
        head.append(("Against the best other", _gain(result.improvement(best))))
    page.facts([*head, *result.facts])
    page.text(result.headline())
    if result.notes:
        page.heading("To be known")
        for note in result.notes:
            page.text(note)
    _beside(page, result)
    shown = [result.dem, *([best] if best is not None else [])]
    places = [result.surfaces.index(s) for s in shown]
    titles = [s.title for s in shown]
    page.heading("Where it is off")
    limit = plots.error_limit([s.whole["le90"] for s in shown])
    size = (
        ""
        if result.overviews[0].factor == 1
        else f" Each dot is the mean of {result.overviews[0].factor} × {result.overviews[0].factor} pixels."
    )
    page.figure(
        plots.error_maps([result.overviews[k].mean() for k in places], titles, limit), f"DEM minus reference. Grey: not compared.{size}"
    )
    page.figure(
        plots.histogram([result.atoms[k] for k in places], titles, _limit([result.atoms[k] for k in places])),
        "A narrow, high hill around 0 is good. A hill beside 0: the whole DEM is too high or too low.",
    )
    for heading, classes, what in (("By slope", result.by_slope, "Slope"), ("By land class", result.by_land, "Class")):
        if classes:
            _by_class(page, result, heading, what, classes, places, titles)
    _sights(page, result, target, shown, titles)
    page.heading("Heights and errors of single pixels")
    samples = result.sights.samples
    page.figure(plots.scatter(samples), f"{number(samples.shape[1])} pixels, evenly drawn; the darker, the more of them. Dashed: no error.")
    _position(page, result)
    page.heading("How it was made")
    page.details("Settings", json_text(result.config.to_json()))
    page.write(path)


def _beside(page: Report, result: DemAssessment) -> None:
    page.heading("Beside plain interpolation" if result.baselines else "All figures")
    rows = [[s.title, *_cells(s.whole), None if s is result.dem else _gain(result.improvement(s))] for s in result.surfaces]
    header = ["Heights in m", *(name for name, _ in _COLUMNS), "The DEM is better by"]
    if not result.baselines:
        header, rows = header[:-1], [row[:-1] for row in rows]
    page.table(header, rows)
    page.text(
        "Error: height in the raster minus height in the reference, in the pixels in which all rasters have data. RMSE: root mean square; a few large "
        "errors rule it. MAE: mean size. Bias: mean; above 0 too high. Standard deviation: RMSE without the bias. LE90: 90 of 100 pixels are "
        "closer than this (90th percentile of the size of the error). NMAD: 1.4826 times the median distance from the median error; for errors "
        "without outliers it equals the standard deviation. R²: 1 minus the squared errors through the squared deviations of the reference from "
        f"its mean. Slopes after Horn (1981); directions are compared where the reference is at least {result.config.aspect_slope:g}° steep and both "
        "have one." + (" Better by: how much smaller the DEM's RMSE is than that of the line." if result.baselines else "")
    )


def _by_class(page: Report, result: DemAssessment, heading: str, what: str, classes: list, places: list, titles: list) -> None:
    page.heading(heading)
    total = max(sum(found[0]["pixels"] for _, found in classes), 1)
    shares = [found[0]["pixels"] / total for _, found in classes]
    page.figure(
        plots.class_bars([name for name, _ in classes], [[found[k]["rmse"] for _, found in classes] for k in places], titles, shares),
        "In brackets: share of the compared pixels. Slopes are those of the reference.",
    )
    header = [what, "Pixels", *(name for name, _ in _COLUMNS)]
    rows = [[name, found[0]["pixels"], *_cells(found[0])] for name, found in classes]
    if len(places) > 1:
        header.append(f"Better than {titles[1]} by")
        rows = [[*row, _gain(improvement(found[0]["rmse"], found[places[1]]["rmse"]))] for row, (_, found) in zip(rows, classes)]
    page.table(header, rows)


def _sights(page: Report, result: DemAssessment, target: Surface, shown: list, titles: list) -> None:
    """Profile and hillshades."""
    frame, sights = result.frame, result.sights
    line, tile = sights.line, sights.tile
    if line is not None:
        page.heading("A profile")
        distance = np.arange(line.width) * float(frame.spacing(line)[0][0, 0])
        heights = [frame.read(s, line)[1, 1:-1] for s in (target, *shown)]
        page.figure(
            plots.profile(distance, heights[0], heights[1:], titles),
            f"The most rugged line of the reference: row {line.row + 1}, columns {line.col + 1} to {line.col + line.width}.",
        )
    if tile is not None:
        page.heading("Hillshades side by side")
        outer = Window(tile.col - 1, tile.row - 1, tile.width + 2, tile.height + 2)
        dx, dy = frame.spacing(outer)
        rises = [tuple(a[1:-1, 1:-1] for a in gradient(frame.read(s, tile), dx, dy)) for s in (target, *shown)]
        picture, factor = shades(rises)
        raised = "" if factor == 1 else f" Heights are raised {factor:g} times."
        page.image(picture, f"From left: the reference, {', '.join(titles)}. The window with the steepest relief, lit from the north-west.{raised}",
                   scale=max(1, round(288 / max(tile.width, tile.height), 1)))  # fmt: skip


def _position(page: Report, result: DemAssessment) -> None:
    page.heading("Position")
    rows = [
        [s["name"], _signed(s["east_m"]), _signed(s["north_m"]), _plain(s["error_m"]), _plain(s["pixels_of_dem"]), _plain(s["pixels_of_reference"]),
         _signed(s["offset_m"]), s["applied"]]
        for s in result.shifts
    ]  # fmt: skip
    page.table(
        [
            "Raster",
            "East (m)",
            "North (m)",
            "± (m)",
            "Shift in its pixels",
            "… in the reference's",
            "Height (m)",
            "Taken away before comparing",
        ],
        rows,
    )
    page.text(
        "How far a raster lies to the east, to the north and above the reference, found from errors that grow with the slope and change sign with its "
        "direction (Nuth and Kääb 2011). A dash: the terrain does not tell. A shift of half a pixel usually comes from taking the corners of "
        "pixels for their centres. '±': standard error."
    )


def _cells(figures: dict) -> list:
    return [_r2(figures[key]) if key == "r2" else _signed(figures[key]) if key in _SIGNED else _plain(figures[key]) for _, key in _COLUMNS]


def _limit(atoms: list) -> float:
    """Half of the width of the histogram: some round number that nearly all errors are below."""
    widest = 0.0
    for values, counts in atoms:
        size = np.abs(values)
        order = np.argsort(size)
        widest = max(widest, float(size[order][np.searchsorted(np.cumsum(counts[order]), SHARE * counts.sum())]))
    return float(f"{1.05 * widest:.2g}") or 1.0


def _plain(value: float) -> Any:
    return None if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def _signed(value: float) -> Any:
    if math.isnan(value):
        return None
    written = f"{value:+.3f}" if abs(value) < 1 else f"{value:+.2f}"
    return written[1:] if not float(written) else written.replace("-", _MINUS)


def _r2(value: float) -> str:
    return _DASH if math.isnan(value) else f"{value:.4f}".replace("-", _MINUS)


def _metres(value: float, signed: bool) -> str:
    sign = "" if not signed or not value else "+" if value > 0 else _MINUS
    return _DASH if math.isnan(value) else sign + metres(abs(value))


def _gain(value) -> str:
    return _DASH if value is None else f"{value:+.1f} %".replace("-", _MINUS)
