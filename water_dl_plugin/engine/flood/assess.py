"""Flood maps against a reference: what was hit, missed and alarmed falsely. The job behind `assessflood`. Read in blocks, never as a whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from ..classes import NODATA, MapClass, name_of
from ..errors import ConfigError, GridMismatchError
from ..grid import Grid
from ..labels import Area, open_labels
from ..progress import Progress, silent
from ..raster import Writer, small_cache
from ..settings import AssessFloodConfig
from ..tables import write_csv, write_json
from ..windows import Window, blocks
from ..writer import apart
from .inputs import Flood, FloodMap
from .scores import AGREEMENT, FloodAssessment, Score

BLOCK = 1024
KM2 = 1e6
PICTURE = 800  # px, the longer side of a map in the report


def assess_flood(
    paths: Sequence[str], reference: str, config: AssessFloodConfig, *, area: str = "", permanent: str = "", agreement: str = "", report: str = "",
    csv: str = "", json_path: str = "", names: Sequence[str] = (), title: str = "", progress: Progress = silent,
) -> FloodAssessment:  # fmt: skip
    """Compare flood maps (depth, class or probability rasters) with a reference, on the reference's grid.

    A pixel counts where the reference and all maps have data, so that the maps' figures can be compared. `area`: polygons, only what lies inside
    counts. `permanent`: polygons or a raster (not 0: water) of rivers and lakes, left out. `agreement`: class raster of AGREEMENT, a band per map.
    `names` of the maps; (): their files'. Raises `GridMismatchError` when there is nothing to compare.
    """
    if not paths:
        raise ConfigError("There is no map to assess.", "Choose at least one.")
    apart((agreement, report, csv, json_path), (*paths, reference, permanent))
    with small_cache(), ExitStack() as files:
        truth = FloodMap(reference, None, config.reference_kind, config, progress)
        files.callback(truth.close)
        guesses = []
        for path in paths:
            guesses.append(FloodMap(path, truth.grid, config.map_kind, config, progress))
            files.callback(guesses[-1].close)
        grid, limits = truth.grid, Area(area, truth.grid) if area else None
        river = _Permanent(permanent, grid) if permanent else None
        step = _step(grid)
        scores = [
            Score(n, p, g.kind, picture=np.full((-(-grid.height // step), -(-grid.width // step)), NODATA, np.uint8))
            for n, p, g in zip(names or _names(paths), paths, guesses)
        ]
        result = FloodAssessment(scores, reference, config)
        for one in (truth, *guesses):
            progress(0, f"{os.path.basename(one.path)}: {one.kind}")
        writer = files.enter_context(_writer(agreement, grid, scores)) if agreement else None
        windows = list(blocks(grid.width, grid.height, BLOCK))
        for number, window in enumerate(windows):
            progress(number / len(windows), "")
            right = truth.flood(window)
            counted = right.known & limits(window) if limits is not None else right.known
            if river is not None:
                left_out = counted & river(window)
                result.permanent, counted = result.permanent + int(left_out.sum()), counted & ~left_out
            found = [guess.flood(window) for guess in guesses]
            for score, flood in zip(scores, found):
                score.unmapped += int((counted & ~flood.known).sum())
            counted = np.logical_and.reduce([counted, *(flood.known for flood in found)])
            planes = _compare(scores, found, right, counted, grid.areas_m2(window) / KM2)
            for score, plane in zip(scores, planes):
                _thin(score.picture, plane, window, step)
            if writer is not None:
                writer.write(window, planes)
        _check(result, (truth, *guesses), progress)
    _write(result, report, csv, json_path, title or f"Flood maps against {os.path.basename(reference)}")
    return result


def _compare(scores: list, found: list, right: Flood, counted: np.ndarray, areas_km2: np.ndarray) -> np.ndarray:
    """Add a window to the scores; `(maps, rows, cols)` uint8 of AGREEMENT."""
    planes = []
    for score, flood in zip(scores, found):
        kind = np.where(right.wet, np.where(flood.wet, 1, 2), np.where(flood.wet, 3, 0))
        score.add(kind, counted, areas_km2)
        if flood.depth is not None and right.depth is not None:
            some = counted & (right.wet | flood.wet)
            score.add_depths(flood.depth[some], right.depth[some])
        planes.append(np.where(counted, kind, NODATA).astype(np.uint8))
    return np.stack(planes)


class _Permanent:
    """Rivers and lakes: `on(window)` is True where they are."""

    def __init__(self, source: str, grid: Grid):
        self._labels, self._grid = open_labels(source), grid
        if not self._labels.touches(grid):
            raise GridMismatchError("The permanent water lies outside the reference.", "Check its CRS, or leave it empty.")
        if self._labels.found:  # a raster: all values but 0
            self._labels.use(tuple(MapClass(0, name_of(v), (0, 0, 0)) for v in self._labels.found if v != 0), False)
        else:
            self._labels.use(AGREEMENT[1:2], False)

    def __call__(self, window: Window) -> np.ndarray:
        return self._labels.read(self._grid.part(window)) > 0


def _check(result: FloodAssessment, inputs: tuple, progress: Progress) -> None:
    matrix = result.scores[0].matrix
    if not matrix.sum():
        raise GridMismatchError(
            "Reference and maps have no pixel in common.", "Check place and nodata of all, the area of interest, and the permanent water."
        )
    result.notes = [line for one in inputs for line in one.doubts()]
    if not matrix[1].sum():
        result.notes.append("The reference has no flooded pixel where it is compared: POD is not defined.")
    for score in result.scores:
        if score.unmapped:
            result.notes.append(f"{score.name} has no data on {score.unmapped} pixels of the reference: they are left out for all maps.")
    for note in result.notes:
        progress(1, f"Warning: {note}")


def _names(paths: Sequence[str]) -> list[str]:
    """File names without ending; told apart by a number where they are the same."""
    names = [os.path.splitext(os.path.basename(p))[0] or p for p in paths]
    return [f"{n} ({names[:i].count(n) + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _step(grid: Grid) -> int:
    """Each how-manieth pixel is in the report's pictures."""
    return max(-(-max(grid.width, grid.height) // PICTURE), 1)


def _thin(picture: np.ndarray, plane: np.ndarray, window: Window, step: int) -> None:
    """Put what a window's plane shows into a picture of each `step`th pixel."""
    part = plane[-window.row % step :: step, -window.col % step :: step]
    row, col = -(-window.row // step), -(-window.col // step)
    picture[row : row + part.shape[0], col : col + part.shape[1]] = part


def _writer(path: str, grid: Grid, scores: list) -> Writer:
    return Writer(
        path, grid, len(scores), np.uint8, NODATA, names=[s.name for s in scores], categories=[c.name for c in AGREEMENT],
        colours={c.value: c.colour for c in AGREEMENT} if len(scores) == 1 else None,  # GeoTIFF has a colour table for one band only
    )  # fmt: skip


def _write(result: FloodAssessment, report: str, csv: str, json_path: str, title: str) -> None:
    if json_path:
        write_json(json_path, result.to_json())
    if csv:
        write_csv(csv, result.rows())
    if report:
        from .report import flood_report

        flood_report(report, result, title)
