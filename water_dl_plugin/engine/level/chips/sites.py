"""Reservoirs out of a polygon layer, and the fixed grids that their chips are cut on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import ogr

from ...errors import ConfigError, LabelError
from ...grid import Grid, spacing_m
from ...labels import open_layer, value_of
from ...progress import Progress, silent
from ...windows import Window
from .. import masks
from ..inputs.columns import plain
from ..series import Reservoir

STEP, SMALLEST, LARGEST, MOST = 16, 32, 96, 512  # px: sides of chips by themselves; the largest with a pixel size that was asked for


def read(layer: str, name_field: str = "", datum_field: str = "", progress: Progress = silent) -> list[Reservoir]:
    """The reservoirs of a polygon layer, in its order; polygons of one name (case, accents and blanks aside) are one reservoir.

    `layer`: path, or QGIS's `path|layername=...`. Without `name_field` they are "1", "2", ..., a single one "reservoir". `datum_field`: levels in
    m. Polygons without a name are left out with a warning. Raises `LabelError`.
    """
    _dataset, opened = open_layer(layer)
    reference = opened.GetSpatialRef()
    if reference and (reference.GetName() or "").lower().startswith("undefined"):
        reference = None  # how a GeoPackage says that there is none
    fields = [opened.GetLayerDefn().GetFieldDefn(i).GetName() for i in range(opened.GetLayerDefn().GetFieldCount())]
    for field in (name_field, datum_field):
        if field and field not in fields:
            raise LabelError(f"The reservoirs have no field {field!r}.", f"Their fields are {', '.join(fields) or 'none'}.")
    found: dict[str, tuple] = {}
    nameless = 0
    for number, feature in enumerate(opened, 1):
        polygons = _polygons(feature.GetGeometryRef(), layer)
        name = str(number) if not name_field else value_of(feature, name_field)
        if not polygons:
            continue
        if name is None:
            nameless += 1
            continue
        shown, datum = str(name), _datum(feature, datum_field, str(name))
        _, parts, datums = found.setdefault(plain(shown) or shown, (shown, [], []))
        parts += polygons
        datums += [datum] if datum is not None else []
    if nameless:
        progress(0, f"Warning: {nameless} polygon(s) without a name in {name_field!r} are left out.")
    if not found:
        raise LabelError(
            f"There is no polygon in {layer}{' with a name' if nameless else ''}.", "Choose a layer with the outlines of reservoirs."
        )
    crs = reference.ExportToWkt() if reference else ""
    made = []
    for shown, parts, datums in found.values():
        if datums and max(datums) - min(datums) > 0.001:
            raise LabelError(f"The polygons of {shown} have different datums: {min(datums):g} m and {max(datums):g} m.", "Give them one.")
        name = "reservoir" if not name_field and len(found) == 1 else shown
        made.append(Reservoir(name, _joined(parts), crs, datums[0] if datums else None))
    return made


def _polygons(geometry: Optional[ogr.Geometry], layer: str) -> list[ogr.Geometry]:
    if geometry is None or geometry.IsEmpty():
        return []
    if geometry.GetDimension() < 2:
        raise LabelError(
            f"{layer} holds {'points' if geometry.GetDimension() == 0 else 'lines'}, not polygons.",
            "Choose outlines of the reservoirs; closed lines become polygons with 'Lines to polygons', points with 'Buffer'.",
        )
    plain_one = geometry.GetLinearGeometry()  # a copy; curves become lines
    plain_one.FlattenTo2D()
    parts = (
        [plain_one]
        if plain_one.GetGeometryType() == ogr.wkbPolygon
        else [plain_one.GetGeometryRef(i).Clone() for i in range(plain_one.GetGeometryCount())]
    )
    return [p for p in parts if p.GetGeometryType() == ogr.wkbPolygon and not p.IsEmpty()]


def _datum(feature, field: str, name: str) -> Optional[float]:
    value = value_of(feature, field) if field else None
    try:
        number = None if value is None else float(str(value).replace(",", "."))
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise LabelError(f"The datum of {name} is no number: {str(value)[:40]!r}.", f"Write levels in m into {field!r}, or leave it empty.")
    return number


def _joined(parts: Sequence[ogr.Geometry]) -> bytes:
    """WKB of one multipolygon. Polygons that overlap are united: two of them would make a hole."""
    whole = ogr.Geometry(ogr.wkbMultiPolygon)
    for part in parts:
        whole.AddGeometry(part)
    united = whole.UnionCascaded() if len(parts) > 1 and all(p.IsValid() for p in parts) else None
    return bytes((united if united is not None and not united.IsEmpty() else whole).ExportToWkb())


def inside(reservoir: Reservoir, grid: Grid) -> np.ndarray:
    """bool `(rows, cols)`: pixels whose middle lies in the polygon; of a pond that meets no middle those that it lies nearest to."""
    found = masks.inside(reservoir, grid)
    return found if found.any() else masks.inside(reservoir, grid, 0.71 * max(spacing_m(grid)))


def touches(reservoir: Reservoir, grid: Grid) -> bool:
    """Does the polygon's box meet the grid? Raises `GridMismatchError` where one of them has no CRS."""
    left, right, bottom, top = masks.shape(reservoir, grid.crs).GetEnvelope()
    xmin, ymin, xmax, ymax = grid.bounds
    return left < xmax and right > xmin and bottom < ymax and top > ymin


@dataclass(frozen=True)
class Frame:
    """What all chips of a folder share: `size` in px, and how many pixels of the scenes, `factor`, make one of theirs."""

    size: int
    factor: int


def frame(reservoirs: Sequence[Reservoir], grids: Mapping[str, Grid], config: Any) -> Frame:
    """The frame that holds every reservoir with `config.buffer` m around; `grids`: a scene's by reservoir. All share it, since one network
    knows one scale. `config` has buffer, tile_size, resolution (m, 0: by itself). Raises `ConfigError` where they can't all be had."""
    wanted = {r.name: _needed(r, grids[r.name], config.buffer) for r in reservoirs}
    name = max(wanted, key=lambda n: wanted[n])
    needed, pixel_m = wanted[name], sum(spacing_m(grids[name])) / 2
    if 0 < config.tile_size < STEP:
        raise ConfigError(f"The tile size is {config.tile_size} px.", f"Choose at least {STEP}, or 0.")
    factor = max(round(config.resolution / pixel_m), 1)
    if config.resolution and config.resolution < 0.75 * pixel_m:
        raise ConfigError(
            f"The pixel size of the chips is {config.resolution:g} m, that of the scenes {pixel_m:.3g} m.", "Choose a coarser one, or 0."
        )
    if config.resolution:
        size = config.tile_size or _rounded(needed, factor)
        if needed > size * factor or size > 2 * MOST:
            raise ConfigError(
                f"{name} needs {-(-needed // factor)} px of {factor * pixel_m:.3g} m, more than a chip holds.",
                "Raise RESOLUTION or TILE_SIZE, leave both at 0, or lower BUFFER.",
            )
        return Frame(size, factor)
    factor = -(-needed // (config.tile_size or LARGEST))
    return Frame(config.tile_size or _rounded(needed, factor), factor)


def _needed(reservoir: Reservoir, grid: Grid, buffer_m: float) -> int:
    """Scene pixels along a side that hold the polygon and what is around it."""
    window = masks.around(reservoir, grid, buffer_m)[1]
    return max(window.width, window.height) + 1  # its middle may lie between two pixels


def _rounded(needed: int, factor: int) -> int:
    return max(-(-needed // (factor * STEP)) * STEP, SMALLEST)


def grid_for(reservoir: Reservoir, scene: Grid, chips: Frame) -> Grid:
    """The grid of a reservoir's chips: a square around its middle, with whole pixels of a scene's grid, in its CRS.

    The CRS is the scenes' own, be it UTM or degrees: so nothing is resampled, which would blur the shore, and a chip in degrees is as
    oblong in training as in use. Raises `GridMismatchError` where polygon and scene can't be brought together.
    """
    side = chips.size * chips.factor
    box = masks.around(reservoir, scene, 0.0)[1]
    col, row = (2 * box.col + box.width - side) // 2, (2 * box.row + box.height - side) // 2
    t = scene.part(Window(col, row, side, side)).transform
    steps = [k * chips.factor for k in (t[1], t[2], t[4], t[5])]
    return Grid(chips.size, chips.size, (t[0], steps[0], steps[1], t[3], steps[2], steps[3]), scene.crs)
