"""Lake inventories: the polygons of any vector layer as lakes, mended where they must be, with areas on the ellipsoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from osgeo import gdal, ogr, osr

from ..errors import GridMismatchError, LabelError
from ..labels import moved_geometry, open_layer, value_of
from ..progress import Progress, silent
from ..raster import Raster, same_crs, spatial_reference
from ..windows import Window
from .ellipsoid import area_m2

ELEVATION = "elevation_m"  # the field that our own lake layers have
BLOCK = 1024  # px of the elevation model that are read at once
MANY_PARTS = 50  # a feature of more parts than that is hardly one lake


@dataclass
class Inventory:
    """Lakes of one layer. `geometries` are valid polygons or multipolygons in `crs` (WKT, "" if unknown), all other arrays have one
    entry per lake: `numbers` of the features, `area_m2` on the ellipsoid, `elevation_m` (NaN: not known), `boxes` `(lakes, 4)` as xmin,
    ymin, xmax, ymax. `notes` says what was done to the layer."""

    crs: str
    geometries: list
    numbers: np.ndarray
    area_m2: np.ndarray
    elevation_m: np.ndarray
    boxes: np.ndarray
    notes: list = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.geometries)

    @property
    def bounds(self) -> tuple:
        return (*self.boxes[:, :2].min(axis=0), *self.boxes[:, 2:].max(axis=0))

    def moved_to(self, crs: str) -> Inventory:
        """The same lakes in another CRS, with the areas that they had. Those that can't be drawn there (behind the earth, across the
        date line) become empty, so that they meet nothing. Raises `LabelError` when only one of both CRS is known."""
        if bool(crs) != bool(self.crs):
            raise LabelError("Only one of the two layers has a coordinate reference system.", "Assign the missing one in its properties.")
        if not crs or same_crs(self.crs, crs):
            return self
        move = osr.CoordinateTransformation(spatial_reference(self.crs), spatial_reference(crs))
        degrees = spatial_reference(crs).IsGeographic()
        geometries, lost = [], 0
        for geometry in self.geometries:
            geometry = geometry.Clone()
            if not moved_geometry(geometry, move) or (degrees and np.ptp(geometry.GetEnvelope()[:2]) > 180):
                geometry, lost = ogr.Geometry(ogr.wkbPolygon), lost + 1
            geometries.append(geometry)
        notes = [f"{lost} of its lakes can't be drawn in the CRS of the lakes: they meet none of them."] if lost else []
        return replace(self, crs=crs, geometries=geometries, boxes=_boxes(geometries), notes=[*self.notes, *notes])


def read(source: str, elevation: str = "", parts: bool = False, progress: Progress = silent) -> Inventory:
    """All polygons of a layer as lakes; `parts` makes each part of a multipolygon a lake of its own.

    `source` is a path, or QGIS's `path|layername=...|subset=...`; `elevation` names a field in m ("": `elevation_m`, if there is one).
    Invalid outlines are made valid, heights and curves dropped. A layer without features gives an empty inventory. In a layer of changes
    (`vectorizewater` with earlier polygons) the lakes that are gone are left out.
    Raises `LabelError` for a layer without polygons, or without that field.
    """
    _dataset, layer = open_layer(source)  # the layer lives as long as its dataset
    names = [layer.GetLayerDefn().GetFieldDefn(i).GetName() for i in range(layer.GetLayerDefn().GetFieldCount())]
    if elevation and elevation not in names:
        raise LabelError(f"The layer has no field {elevation!r}.", f"Its fields are {', '.join(names) or 'none'}.")
    elevation = elevation or (ELEVATION if ELEVATION in names else "")
    crs, total = _crs(layer), max(layer.GetFeatureCount(), 1)
    geometries, numbers, heights = [], [], []
    mended = others = empty = gone = most_parts = seen = 0
    changes = {"status", "change_m2"} <= {*names}
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # GEOS tells each self-intersection
    try:
        for seen, feature in enumerate(layer, 1):
            if seen % 1000 == 0:
                progress(min(seen / total, 1.0), "")
            if changes and value_of(feature, "status") == "gone":
                gone += 1
                continue
            shape = feature.GetGeometryRef()
            if shape is None or shape.IsEmpty():
                empty += 1
                continue
            shape = shape.GetLinearGeometry()  # a copy; curves become lines
            shape.FlattenTo2D()
            if shape.GetDimension() < 2:
                others += 1
                continue
            good = shape.IsValid()
            shape = polygons(shape if good else valid(shape))
            mended += not good
            if shape is None:
                empty += 1
                continue
            many = shape.GetGeometryCount() if shape.GetGeometryName() == "MULTIPOLYGON" else 1
            most_parts = max(most_parts, many)
            for one in [shape.GetGeometryRef(i).Clone() for i in range(many)] if parts and many > 1 else [shape]:
                geometries.append(one)
                numbers.append(feature.GetFID())
                heights.append(_number(value_of(feature, elevation)) if elevation else np.nan)
    finally:
        gdal.PopErrorHandler()
    if others and not geometries:
        raise LabelError(f"{source} has no polygons, only lines or points.", "Choose a layer with the outlines of lakes.")
    if seen > gone and not geometries:
        raise LabelError(f"None of the {seen} features of {source} has an outline with an area.", "Look at the layer in QGIS.")
    told = [(mended, "invalid outlines were made valid"), (empty, "features without an outline were left out"), (others, "lines or points were left out"), (gone, "lakes that are gone were left out")]  # fmt: skip
    notes = [f"{count} {what}." for count, what in told if count]
    if most_parts > MANY_PARTS and not parts:
        notes.append(f"One feature has {most_parts} parts and counts as one lake: if they are lakes, let each part be one (PARTS).")
    if geometries and not crs:
        notes.append("The layer has no coordinate reference system: its unit is taken as a metre.")
    areas = np.array([area_m2(geometry, crs) for geometry in geometries], np.float64)
    return Inventory(crs, geometries, np.array(numbers, np.int64), areas, np.array(heights, np.float64), _boxes(geometries), notes)


def valid(shape):
    """The outline without self-intersections; a part that is covered twice counts once."""
    try:
        made = shape.MakeValid()
    except RuntimeError:  # only where GDAL's exceptions are switched on
        made = None
    return made if made is not None else shape.Buffer(0)


def polygons(shape):
    """The parts with an area, as polygon or multipolygon; None if there are none."""
    if shape is None or shape.IsEmpty() or shape.GetDimension() < 2:
        return None
    if shape.GetGeometryName() in ("POLYGON", "MULTIPOLYGON"):
        return shape
    whole = ogr.Geometry(ogr.wkbMultiPolygon)
    for i in range(shape.GetGeometryCount()):
        part = polygons(shape.GetGeometryRef(i))
        if part is not None:
            single = part.GetGeometryName() == "POLYGON"
            for one in [part] if single else [part.GetGeometryRef(k) for k in range(part.GetGeometryCount())]:
                whole.AddGeometry(one)
    if whole.IsEmpty():
        return None
    return whole if whole.IsValid() else polygons(whole.UnionCascaded())


def fill_elevation(lakes: Inventory, dem: str, progress: Progress = silent) -> None:
    """Set the elevation of lakes that have none: the mean of the DEM's pixels (m) whose centre lies in the lake, or the pixel below a
    point inside it when there are none. Read block by block; what the DEM does not cover stays NaN."""
    todo = np.flatnonzero(np.isnan(lakes.elevation_m))
    if not len(todo):
        return
    with Raster(dem, "1") as raster:
        moved = replace(
            lakes, geometries=[lakes.geometries[i] for i in todo], boxes=lakes.boxes[todo], area_m2=lakes.area_m2[todo], notes=[]
        )
        if bool(lakes.crs) != bool(raster.grid.crs):
            raise GridMismatchError("Only one of lakes and elevation model has a CRS.", "Assign the missing one first.")
        moved = moved.moved_to(raster.grid.crs)
        total, count = np.zeros(len(todo)), np.zeros(len(todo))
        jobs = _by_block(raster, _pixel_boxes(raster, moved.boxes))
        for step, (window, numbers) in enumerate(jobs):
            progress(0.8 * step / len(jobs), "")
            height, known = raster.read(window)
            burnt = _burn(raster.grid.part(window), [moved.geometries[k] for k in numbers])
            burnt[~known[0]] = 0
            total[numbers] += np.bincount(burnt.ravel(), height[0].ravel(), minlength=len(numbers) + 1)[1:]
            count[numbers] += np.bincount(burnt.ravel(), minlength=len(numbers) + 1)[1:]
        missing = [k for k in np.flatnonzero(count == 0) if not moved.geometries[k].IsEmpty()]  # smaller than a pixel
        if missing:
            points = [moved.geometries[k].PointOnSurface() or moved.geometries[k].Centroid() for k in missing]
            places = np.floor([raster.grid.to_pixel(p.GetX(), p.GetY()) for p in points])
            jobs = _by_block(raster, np.column_stack([places, places]))
            for step, (window, numbers) in enumerate(jobs):
                progress(0.8 + 0.2 * step / len(jobs), "")
                height, known = raster.read(window)
                col, row = (places[numbers] - (window.col, window.row)).astype(int).T
                at = np.array(missing)[numbers]
                total[at], count[at] = np.where(known[0][row, col], height[0][row, col], 0), known[0][row, col]
        with np.errstate(invalid="ignore"):
            lakes.elevation_m[todo] = np.where(count > 0, total / count, np.nan)


def _crs(layer) -> str:
    reference = layer.GetSpatialRef()
    undefined = reference is None or (reference.GetName() or "").lower().startswith("undefined")  # a GeoPackage's way to say none
    return "" if undefined else reference.ExportToWkt()


def _boxes(geometries: Sequence) -> np.ndarray:
    """An empty geometry gets a box that meets no other."""
    nowhere = (np.inf, -np.inf, np.inf, -np.inf)
    boxes = np.array([nowhere if g.IsEmpty() else g.GetEnvelope() for g in geometries], np.float64).reshape(-1, 4)
    return boxes[:, [0, 2, 1, 3]]  # OGR gives xmin, xmax, ymin, ymax


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _pixel_boxes(raster: Raster, boxes: np.ndarray) -> np.ndarray:
    """First and last pixel that boxes touch, `(boxes, 4)` as col, row, col, row; not yet cut to the raster."""
    t = np.array(gdal.InvGeoTransform(raster.grid.transform))
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    with np.errstate(invalid="ignore"):
        col, row = np.floor(t[0] + t[1] * x + t[2] * y), np.floor(t[3] + t[4] * x + t[5] * y)
    return np.column_stack([col.min(axis=1), row.min(axis=1), col.max(axis=1), row.max(axis=1)])


def _by_block(raster: Raster, boxes: np.ndarray) -> list:
    """(window, numbers of the boxes that meet it) for the blocks that any box meets, from top to bottom."""
    width, height = raster.grid.width, raster.grid.height
    found: dict = {}
    for number, (left, top, right, bottom) in enumerate(boxes):
        if not (right >= 0 and bottom >= 0 and left < width and top < height):  # NaN is outside, too
            continue
        for row in range(int(max(top, 0)) // BLOCK, int(min(bottom, height - 1)) // BLOCK + 1):
            for col in range(int(max(left, 0)) // BLOCK, int(min(right, width - 1)) // BLOCK + 1):
                found.setdefault((row, col), []).append(number)
    return [
        (Window(c * BLOCK, r * BLOCK, min(BLOCK, width - c * BLOCK), min(BLOCK, height - r * BLOCK)), np.array(numbers))
        for (r, c), numbers in sorted(found.items())
    ]


def _burn(grid, geometries: Sequence) -> np.ndarray:
    """int32 `(rows, cols)`: place in the list + 1 where a pixel's centre lies inside, else 0."""
    target = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, 1, gdal.GDT_Int32)
    target.SetGeoTransform(grid.transform)
    memory = (ogr.GetDriverByName("Memory") or ogr.GetDriverByName("MEM")).CreateDataSource("")
    layer = memory.CreateLayer("lakes")
    layer.CreateField(ogr.FieldDefn("number", ogr.OFTInteger))
    for number, geometry in enumerate(geometries, 1):
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField("number", number)
        feature.SetGeometry(geometry)
        layer.CreateFeature(feature)
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # it warns that layer and raster have no CRS: they share one
    try:
        gdal.RasterizeLayer(target, [1], layer, options=["ATTRIBUTE=number"])
    finally:
        gdal.PopErrorHandler()
    return target.ReadAsArray()
