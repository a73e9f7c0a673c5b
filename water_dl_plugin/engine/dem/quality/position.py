"""How the rasters of an assessment lie against the reference: found, told in words, and taken away where the setting asks for it."""

from __future__ import annotations

import math

import numpy as np

from ...grid import Grid, spacing_m
from ...progress import Progress, part
from .. import vertical
from ..resample import ratio
from . import coregister
from .assessment import DemAssessment
from .compare import AS_IT_IS, Surface
from .coregister import Shift

HALF = (0.4, 0.6)  # px: a shift in between is the usual mistake of taking corners of pixels for their centres
SHIFTED = 0.25  # px: from here on a shift is told as a warning
FAR_M = 3.0  # a median offset of more is told


def coregister_all(result: DemAssessment, target: Surface, progress: Progress) -> None:
    """Find how each raster lies against the reference, tell it, and apply what the setting asks for."""
    frame, mode = result.frame, result.config.coregister
    progress(0, "Comparing the position of the rasters")
    reference = coregister.sample(target.raw, frame.grid, frame.inside)
    groups: dict = {}
    for surface in result.surfaces:
        groups.setdefault(id(surface.raster), []).append(surface)
    for number, surfaces in enumerate(groups.values()):
        heard = part(progress, number / len(groups), (number + 1) / len(groups))
        lead = surfaces[-1]  # cubic: it has neither steps nor kinks
        dem, other = coregister.pairs(lead.raw, reference)
        if not len(dem):
            result.shifts.append(position(lead, Shift(), Shift(), frame.grid))
            continue
        result.notes += _doubts_of_level(lead, dem, other, mode)
        scale = max(1.0, ratio(lead.raster.grid, frame.grid))
        found = coregister.find(lead.raw, reference, scale, lambda heard=heard: heard(0.5, ""))
        level = coregister.offset(dem - other)
        applied = Shift() if mode == "none" else found if mode == "full" and found.known else level
        for surface in surfaces:
            surface.found, surface.applied = found, applied
        told = position(lead, found, applied, frame.grid)
        result.shifts.append(told)
        progress(0, told["told"])
        if told["doubt"]:
            result.notes.append(told["doubt"])
        if mode == "full" and not found.known:
            result.notes.append(f"{lead.name} is only moved in height: its horizontal shift can't be told.")


def _doubts_of_level(surface: Surface, heights: np.ndarray, reference: np.ndarray, mode: str) -> list[str]:
    """Notes on units, offset and steps, from heights in the same pixels."""
    notes = [line.removeprefix("Warning: ") for line in vertical.doubts(heights, reference, surface.name) if "Vertical offset" not in line]
    level = float(np.median(heights - reference))
    if abs(level) > FAR_M and not notes:
        mend = "" if mode != "none" else " 'Coregister: vertical' takes it away."
        notes.append(
            f"{surface.name} lies {abs(level):.2f} m {'above' if level > 0 else 'below'} the reference (median). Heights above another geoid, or "
            f"above the ellipsoid, differ by such a constant.{mend}"
        )
    if surface.raster.dtype.kind in "iu" or (surface.method == AS_IT_IS and bool((heights == np.rint(heights)).all())):
        notes.append(
            f"The heights of {surface.name} are whole metres: up to half a metre of each error, and much of the slope error on level ground, is rounding."
        )
    return notes


def position(surface: Surface, found: Shift, applied: Shift, grid: Grid) -> dict:
    """A shift in metres and pixels, in words, and what is doubtful about it ("" if nothing)."""
    (dx, dy), t = spacing_m(grid), grid.transform
    width, height = grid.pixel_size
    east, north = (found.cols * dx * t[k] / width + found.rows * dy * t[k + 1] / height for k in (1, 4))
    own = spacing_m(surface.raster.grid)
    size = math.hypot(found.cols * dx, found.rows * dy)
    result = {
        "name": surface.name, "known": found.known, "east_m": east if found.known else math.nan, "north_m": north if found.known else math.nan,
        "error_m": math.hypot(found.cols_error * dx, found.rows_error * dy), "pixels_of_dem": size / math.sqrt(own[0] * own[1]) if found.known else math.nan,
        "pixels_of_reference": size / math.sqrt(dx * dy) if found.known else math.nan, "offset_m": found.offset, "pixels": found.pixels,
        "applied": "nothing" if not applied.pixels else "shift and offset" if applied.known else "offset", "doubt": "",
    }  # fmt: skip
    if not found.pixels:
        result["told"] = f"{surface.name}: hardly lies over the reference, so that no shift can be told"
        return result
    if not found.known:
        result["told"] = (
            f"{surface.name}: no horizontal shift can be told here (level terrain, or too rough); median offset {found.offset:+.2f} m"
        )
        return result
    where = (
        f"{abs(east):.2f} m {'east' if east >= 0 else 'west'} and {abs(north):.2f} m {'north' if north >= 0 else 'south'} of the reference"
    )
    result["told"] = (
        f"{surface.name}: lies {where} (\u00b1 {result['error_m']:.2f} m; {result['pixels_of_dem']:.2f} of its pixels), {found.offset:+.2f} m in height"
    )
    coarse, a, b = ("its", *own) if own[0] * own[1] >= dx * dy else ("the reference's", dx, dy)
    parts = (abs(found.cols) * dx / a, abs(found.rows) * dy / b)
    if max(parts) >= SHIFTED and size > 3 * result["error_m"]:
        half = HALF[0] <= max(parts) <= HALF[1]
        mend = "" if applied.known else " Mend its georeference, or choose 'full' under Coregister."
        why = "about half a pixel: the usual mistake when corners of pixels were taken for their centres" if half else "more than chance"
        result["doubt"] = (
            f"{surface.name} lies {where}: {parts[0]:.2f} and {parts[1]:.2f} of {coarse} pixels across and along, {why}. On slopes this makes "
            f"errors that are not those of the heights.{mend}"
        )
    return result
