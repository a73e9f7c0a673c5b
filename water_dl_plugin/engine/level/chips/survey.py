"""A look at all scenes before chips are cut: which reservoirs they show, which of them go together, and on which grids chips will lie."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from ... import catalogue
from ...errors import GridMismatchError, WaterError
from ...grid import Grid, moved
from ...progress import Progress, silent
from .. import masks
from ..series import Dropped, Reservoir, Scene
from . import sites
from .cut import Opened, fits

_SAME_SIZE = 1.1  # pixels that differ by less are of one size
_BASELINE = re.compile(r"_N(\d{4})_")


@dataclass(frozen=True)
class Look:
    """A scene as it was found: its `grid`, all names of its bands and the `chosen` ones, whether it holds `whole` numbers, names of the
    reservoirs it `shows`."""

    scene: Scene
    grid: Grid
    names: tuple
    chosen: tuple
    whole: bool
    shows: tuple

    @property
    def pixel(self) -> float:
        """Side in m; in map units without a CRS."""
        return self.grid.pixel_size_m or sum(self.grid.pixel_size) / 2


@dataclass(frozen=True)
class View:
    """A scene of one reservoir; what `match` looks a reading up for."""

    look: Look
    reservoir: str

    @property
    def when(self):
        return self.look.scene.when

    @property
    def path(self) -> str:
        return self.look.scene.path


def look(
    scenes: Sequence[Scene], reservoirs: Sequence[Reservoir], config: Any, progress: Progress = silent
) -> tuple[list[Look], list[Dropped]]:
    """The scenes that can be used and show a reservoir; what was left out. `config` has bands, quality.

    Raises `ConfigError` or the first scene's error if none can be used, `GridMismatchError` if none shows a reservoir.
    """
    found, dropped, first = [], [], None
    for number, scene in enumerate(scenes):
        progress(number / len(scenes), "")
        name = os.path.basename(scene.path)
        try:
            with Opened(scene, config.bands, config.quality) as opened:
                shows = tuple(r.name for r in reservoirs if sites.touches(r, opened.grid))
                found.append(Look(
                    scene, opened.grid, tuple(opened.names), tuple(b.name for b in opened.bands), opened.dtype.kind in "iu", shows,
                ))  # fmt: skip
        except WaterError as error:
            first = first or error
            dropped.append(Dropped("scene", name, "", scene.when, error.message))
    if not found:
        raise type(first)(f"None of {len(scenes)} scenes can be used. The first: {first.message}", first.remedy)
    shown = {name for one in found for name in one.shows}
    if not shown:
        raise GridMismatchError(
            f"No reservoir lies on any scene. {_where('The first scene', found[0].grid.corners, found[0].grid.crs)}; "
            f"{_where(reservoirs[0].name, _corners(reservoirs[0]), reservoirs[0].crs)}.",
            "Check the CRS of both: one of them may be assigned wrongly.",
        )
    for reservoir in reservoirs:
        if reservoir.name not in shown:
            progress(1, f"Warning: {reservoir.name} lies outside all scenes.")
            dropped.append(Dropped("reservoir", "", reservoir.name, None, "lies outside all scenes"))
    dropped += [
        Dropped("scene", os.path.basename(one.scene.path), "", one.scene.when, "shows no reservoir") for one in found if not one.shows
    ]
    return [one for one in found if one.shows], dropped


def alike(looks: Sequence[Look], progress: Progress = silent) -> tuple[list[Look], tuple, list[Dropped]]:
    """The scenes that go together with most others, the names of their bands, and those left out: of other bands, pixels of another size,
    real numbers where others are whole ones. Raises `ConfigError` if there is none."""
    kept, dropped = list(looks), []

    def keep(fits: Callable[[Look], bool], reason: Callable[[Look], str]) -> None:
        odd = [one for one in kept if not fits(one)]
        if odd:
            progress(
                0, f"Warning: {len(odd)} of {len(kept)} scenes are left out: {reason(odd[0])} ({os.path.basename(odd[0].scene.path)})."
            )
            dropped.extend(Dropped("scene", os.path.basename(one.scene.path), "", one.scene.when, reason(one)) for one in odd)
            kept[:] = [one for one in kept if fits(one)]

    like = _most(one.chosen for one in kept)
    keep(lambda one: _fits(one, like), lambda one: f"its bands are {', '.join(one.chosen)}, those of most scenes {', '.join(like)}")
    sizes = np.array([one.pixel for one in kept])
    near = [np.count_nonzero((sizes < s * _SAME_SIZE) & (sizes > s / _SAME_SIZE)) for s in sizes]
    size = sizes[int(np.argmax(near))]
    keep(
        lambda one: size / _SAME_SIZE < one.pixel < size * _SAME_SIZE,
        lambda one: f"its pixels are of {one.pixel:.3g} m, those of most scenes of {size:.3g} m",
    )
    whole = _most(one.whole for one in kept)
    kinds = {True: "whole", False: "real"}
    keep(
        lambda one: one.whole == whole,
        lambda one: f"it holds {kinds[one.whole]} numbers, most scenes {kinds[whole]} ones, so its scale is another",
    )
    for line in _doubts(kept):
        progress(0, line)
    return kept, like, dropped


def _fits(one: Look, like: tuple) -> bool:
    """Has a scene these bands, under whatever names if it has none?"""
    return set(like) <= set(one.names) or fits(one.chosen, like)


def _most(values) -> Any:
    return Counter(values).most_common(1)[0][0]


def _doubts(looks: Sequence[Look]) -> list[str]:
    """Warnings: scenes whose numbers mean something else although they look alike."""
    marks = [_BASELINE.search(os.path.basename(one.scene.path)) for one in looks if one.scene.sensor == "sentinel-2"]
    later = [int(m[1]) >= 400 for m in marks if m]
    if any(later) and not all(later):
        return [
            f"Warning: {sum(later)} scenes are of Sentinel-2 processing baseline 04.00 or later, whose numbers are 1000 higher than those of the "
            f"{len(later) - sum(later)} others. Unless that was taken care of, subtract 1000 from the former, or take one collection."
        ]
    return []


def places(looks: Sequence[Look], reservoirs: Sequence[Reservoir], config: Any) -> tuple[dict[str, Grid], sites.Frame]:
    """The grid of the chips of each reservoir that a scene shows, on the pixels that most scenes of it have, and their common frame.

    `config` as `sites.frame` wants it. Raises `ConfigError`.
    """
    scenes: dict[str, Grid] = {}
    for reservoir in reservoirs:
        grids = [one.grid for one in looks if reservoir.name in one.shows]
        if grids:
            common = _most(map(_lattice, grids))
            scenes[reservoir.name] = next(g for g in grids if _lattice(g) == common)
    shown = [r for r in reservoirs if r.name in scenes]
    frame = sites.frame(shown, scenes, config)
    return {r.name: sites.grid_for(r, scenes[r.name], frame) for r in shown}, frame


def _lattice(grid: Grid) -> tuple:
    """The same for scenes whose pixels lie over each other, wherever they begin."""
    t = grid.transform
    col, row = grid.to_pixel(0.0, 0.0)
    phase = tuple(round(v % 1, 2) % 1 for v in (col, row))
    return (catalogue.epsg(grid) or grid.crs, *(f"{v:.7g}" for v in (t[1], t[2], t[4], t[5])), phase)


def tell(found: Mapping[str, Grid], frame: sites.Frame, looks: Sequence[Look], inside: Mapping[str, np.ndarray]) -> list[str]:
    """What was chosen, and warnings about reservoirs that are tiny in it."""
    size = next(iter(found.values())).pixel_size_m or 0
    coarser = f", each the mean of {frame.factor} x {frame.factor} of the scenes' pixels" if frame.factor > 1 else ""
    lines = [f"Chips: {frame.size} x {frame.size} px of {size:.3g} m{coarser}; bands {', '.join(looks[0].chosen)}."]
    for name, mask in inside.items():
        if mask.sum() < 30:
            lines.append(
                f"Warning: {name} is {int(mask.sum())} px large in its chips: its water hardly changes them."
                + (" Run small reservoirs apart from large ones, or set RESOLUTION." if frame.factor > 1 else "")
            )
    return lines


def _corners(reservoir: Reservoir) -> list:
    left, right, bottom, top = masks.shape(reservoir, reservoir.crs).GetEnvelope()
    return [(left, bottom), (right, top)]


def _where(who: str, corners: Sequence, crs: str) -> str:
    """A box in degrees, in words."""
    degrees: Optional[list] = moved(list(corners), crs, _DEGREES) if crs else None
    if not degrees or not np.all(np.isfinite(degrees)):
        return f"{who} lies at x {corners[0][0]:.0f}, y {corners[0][1]:.0f}"
    (west, east), (south, north) = ((min(v), max(v)) for v in zip(*degrees))
    return f"{who} lies at {west:.3f} to {east:.3f} degrees east, {south:.3f} to {north:.3f} north"


_DEGREES = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433],'
    'AUTHORITY["EPSG","4326"]]'
)
