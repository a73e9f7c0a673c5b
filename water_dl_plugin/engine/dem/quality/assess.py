"""How good a DEM is: its heights against those of a reference, and beside what plain interpolation of coarser DEMs would give.

All on the reference's grid, window by window; all rasters are compared in the same pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from ...errors import BandError, ConfigError, GridMismatchError
from ...labels import Area
from ...progress import Progress, part, silent
from ...raster import Raster, Writer, aligned, small_cache, writable
from ...settings import AssessDemConfig
from ...styles import for_height_errors
from ...tables import write_csv, write_json
from ...windows import blocks
from ..resample import MUCH_FINER, ratio
from .assessment import DemAssessment
from .compare import AS_IT_IS, TILES, Frame, Groups, Overview, Sights, Surface, Tally, aspect_error, inside
from .position import coregister_all
from .strata import LandCover, slope_limits, slope_names

BLOCK = 4 * TILES
NODATA = -9999.0
SOME = 0.9  # below this share of common pixels people are told


def assess_dem(
    path: str, reference: str, config: AssessDemConfig, *, baselines: Sequence[str] = (), landcover: str = "", area: str = "", report: str = "",
    csv: str = "", json_path: str = "", error: str = "", title: str = "", progress: Progress = silent,
) -> DemAssessment:  # fmt: skip
    """Compare the heights of `path` with those of the raster `reference`, both in m, beside those of `baselines` interpolated.

    `landcover` is a class raster, `area` a polygon layer that limits the comparison, `error` a GeoTIFF for DEM minus reference. Raises
    `GridMismatchError` when rasters do not lie over each other, `BandError` when one has several bands and none is chosen, `ConfigError` for
    limits that don't rise.
    """
    limits = slope_limits(config)
    for wanted in filter(None, (report, csv, json_path, error)):
        writable(wanted)
        if os.path.realpath(wanted) in {os.path.realpath(p) for p in (path, reference, landcover, *baselines) if p}:
            raise ConfigError(f"{wanted} is an input.", "Choose another name for the output.")
    with ExitStack() as files:
        files.enter_context(small_cache())
        truth = files.enter_context(_open(reference, "reference"))
        dem = files.enter_context(_open(path, "DEM", config.band))
        coarse = [files.enter_context(_open(p, "baseline")) for p in baselines]
        cover = [files.enter_context(_open(landcover, "land cover"))] if landcover else []
        for other in (dem, *coarse, *cover):
            aligned(other, truth.grid, reference)
        land = LandCover(cover[0]) if cover else None
        limited = Area(area, truth.grid) if area else None
        frame = Frame(truth.grid, inside(truth.grid, dem.grid))
        result = DemAssessment(config, _surfaces(dem, truth)[-1], [s for raster in coarse for s in _surfaces(raster, truth)], frame)
        target = Surface(truth, os.path.basename(reference), AS_IT_IS)
        _doubts_of_grids(result, truth)
        coregister_all(result, target, part(progress, 0, 0.3))
        tallies = [(Tally(), Tally()) for _ in result.surfaces]
        writer = files.enter_context(Writer(error, truth.grid, 1, np.float32, NODATA, names=["DEM minus reference, m"])) if error else None
        counts = _by_windows(result, target, limits, land, limited, tallies, writer, part(progress, 0.3, 0.9))
        for surface, (by_slope, _) in zip(result.surfaces, tallies):
            surface.whole = by_slope.figures()
        result.atoms = [t.atoms() for t, _ in tallies]
        result.by_slope = [
            (name, [t.figures(k) for t, _ in tallies]) for k, name in enumerate(slope_names(limits)) if k in tallies[0][0].heights
        ]
        result.by_land = [(land.name(k), [t.figures(k) for _, t in tallies]) for k in sorted(tallies[0][1].heights)] if land else []
        _doubts_of_heights(result, counts, land)
        result.facts = [("DEM", result.dem.name), ("Reference", target.name), ("Pixels compared", result.dem.whole["pixels"])]
        for note in result.notes:
            progress(0.9, f"Warning: {note}")
        _write(result, target, report, csv, json_path, title or f"Assessment of {result.dem.name}")
    if error:
        for_height_errors(error, result.dem.whole["le90"])
    return result


def _by_windows(result: DemAssessment, target: Surface, limits, land, limited, tallies, writer, progress: Progress) -> tuple:
    """Fill the tallies. Returns the numbers of pixels: with a reference, with reference and DEM, with all rasters."""
    frame, surfaces = result.frame, result.surfaces
    result.sights, result.overviews = Sights(frame.inside), [Overview(frame.inside) for _ in surfaces]
    windows = [w.shifted(frame.inside.col, frame.inside.row) for w in blocks(frame.inside.width, frame.inside.height, BLOCK)]
    counts = np.zeros(3, np.int64)
    for number, window in enumerate(windows):
        heard = part(progress, number / len(windows), (number + 1) / len(windows))
        heard(0, "")
        truth = frame.read(target, window)
        known = np.isfinite(truth[1:-1, 1:-1])
        if limited is not None:
            known &= limited(window)
        if not known.any():
            continue
        found = []
        for k, surface in enumerate(surfaces):
            heard(0.5 * k / len(surfaces), "")
            found.append(frame.read(surface, window))
        inner = [a[1:-1, 1:-1] for a in found]
        both = known & np.isfinite(inner[0])
        there = np.logical_and.reduce([both, *(np.isfinite(a) for a in inner[1:])])
        counts += [known.sum(), both.sum(), there.sum()]
        height = truth[1:-1, 1:-1]
        if writer is not None:
            writer.write(window, np.where(both, inner[0] - height, NODATA).astype(np.float32))
        slope, aspect = frame.terrain(truth, window)
        steep = slope >= result.config.aspect_slope
        by_slope = Groups(np.where(np.isfinite(slope), np.searchsorted(limits, np.nan_to_num(slope), "right"), len(limits) + 1)[there])
        by_land = Groups(land.read(frame.grid.part(window))[there]) if land else None
        for k, (array, (slopes, lands)) in enumerate(zip(found, tallies)):
            heard(0.5 + 0.5 * k / len(surfaces), "")
            own_slope, own_aspect = frame.terrain(array, window)
            turned = aspect_error(own_aspect, aspect, steep)
            error = array[1:-1, 1:-1] - height
            pixels = error[there], height[there], (own_slope - slope)[there], turned[there]
            slopes.update(by_slope, *pixels)
            if by_land is not None:
                lands.update(by_land, *pixels)
            result.overviews[k].update(window, error, there)
            if k == 0:
                result.sights.update(window, there, height, inner[0], slope, own_slope - slope)
    if not counts[2]:
        raise GridMismatchError(
            "There is no pixel in which all rasters have data" + (" inside the area of interest." if limited is not None else "."),
            "Check their nodata values and CRS, and leave out baselines that lie elsewhere.",
        )
    return tuple(int(c) for c in counts)


def _open(path: str, what: str, band: int = 0) -> Raster:
    raster = Raster(path, str(band) if band else "")
    if len(raster.bands) != 1:
        raster.close()
        mend = (
            "Say which one under Band."
            if what == "DEM"
            else "Save the band with the heights as a file of its own (Raster, Conversion, Translate)."
        )
        raise BandError(f"The {what} {path} has {len(raster.bands)} bands; which one holds the heights?", mend)
    if what != "land cover":
        raster.as_heights()
    return raster


def _surfaces(raster: Raster, truth: Raster) -> list[Surface]:
    """The ways to bring a raster to the reference's grid: one for pixels that are the same or finer; nearest, bilinear, cubic for others."""
    name = os.path.basename(raster.path)
    if raster.grid.same_pixels(truth.grid):
        return [Surface(raster, name, AS_IT_IS)]
    methods = ("average",) if ratio(raster.grid, truth.grid) * MUCH_FINER < 1 else ("nearest", "bilinear", "cubic")
    return [Surface(raster, name, method) for method in methods]


def _doubts_of_grids(result: DemAssessment, truth: Raster) -> None:
    """Notes on pixels that are too coarse or too fine for what is asked."""
    pixels = ratio(result.dem.raster.grid, truth.grid)
    if pixels < 1 / MUCH_FINER:
        result.notes.append(
            f"The reference's pixels are {1 / pixels:.1f} times as wide as the DEM's: its heights are averaged over them, and what it knows of finer "
            "terrain is not judged."
        )
    elif pixels > MUCH_FINER:
        result.notes.append(
            f"The DEM's pixels are {pixels:.1f} times as wide as the reference's: it is interpolated (cubic) and can't hold the finer terrain."
        )


def _doubts_of_heights(result: DemAssessment, counts: tuple, land) -> None:
    """Notes on what the figures can't tell."""
    known, both, there = counts
    if both < SOME * known:
        result.notes.append(
            f"The DEM has heights in {both / known:.0%} of the reference's pixels only: where it has none, nothing is judged."
        )
    if there < SOME * both:
        result.notes.append(f"Not all baselines cover the DEM: {there / both:.0%} of its pixels are compared.")
    whole = result.dem.whole
    if math.isnan(whole["r2"]):
        result.notes.append("The reference has one height everywhere: R\u00b2 is not defined.")
    if not result.sights.samples[1].size or np.ptp(result.sights.samples[1]) == 0:
        result.notes.append(f"{result.dem.name} has one height everywhere: R\u00b2 tells nothing.")
    if math.isnan(whole["slope_rmse"]):
        result.notes.append("No pixel has eight neighbours with data: slope and aspect can't be compared.")


def _write(result: DemAssessment, target: Surface, report: str, csv: str, json_path: str, title: str) -> None:
    if json_path:
        write_json(json_path, result.to_json())
    if csv:
        write_csv(csv, result.rows())
    if report:
        from .report import dem_report

        dem_report(report, result, target, title)
