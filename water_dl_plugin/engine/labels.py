"""Labels and areas: the door to vector layers, and class rasters as labels. Everything comes out as pixels on a given grid."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np
from osgeo import gdal, ogr, osr

from . import classes as map_classes
from .classes import MapClass
from .errors import LabelError, RasterError
from .raster import Grid, Raster, overlap, same_crs, spatial_reference
from .windows import blocks

BACKGROUND = "background"


class Shapes:
    """The features of one vector layer in a raster's CRS, with a value each, ready to be burnt into any part of it.

    `source` is a path, or QGIS's `path|layername=...|subset=...`; `field` gives the values (None: 1 for all); `buffer` widens lines and
    points, in map units of `crs` (WKT). Raises `LabelError`.
    """

    def __init__(self, source: str, crs: str, field: str = "", buffer: float = 0.0):
        _dataset, layer = open_layer(source)  # the layer lives as long as its dataset
        reference = layer.GetSpatialRef()
        if reference and (reference.GetName() or "").lower().startswith("undefined"):
            reference = None  # how a GeoPackage says that there is none
        if bool(reference) != bool(crs):
            who = "The labels have no" if crs else "The raster has no"
            raise LabelError(
                f"{who} coordinate reference system ({source}).", "Assign it in the layer's properties, then export the layer once."
            )
        move = None
        if reference and not same_crs(reference.ExportToWkt(), crs):
            move = osr.CoordinateTransformation(spatial_reference(reference.ExportToWkt()), spatial_reference(crs))
        self._geometries, self.values = [], []
        names = [layer.GetLayerDefn().GetFieldDefn(i).GetName() for i in range(layer.GetLayerDefn().GetFieldCount())]
        if field and field not in names:
            raise LabelError(f"The labels have no field {field!r}.", f"Their fields are {', '.join(names) or 'none'}.")
        for feature in layer:
            geometry = feature.GetGeometryRef()
            value = value_of(feature, field) if field else 1
            if geometry is None or geometry.IsEmpty() or value is None:
                continue
            geometry = geometry.GetLinearGeometry()  # a copy; curves become lines
            geometry.FlattenTo2D()
            if move is not None and not moved_geometry(geometry, move):
                continue  # a geometry outside the raster's projection can't lie on the raster
            if buffer > 0 and geometry.GetDimension() < 2:
                geometry = geometry.Buffer(buffer)
            self._geometries.append(geometry)
            self.values.append(value)
        if not self._geometries:
            raise LabelError(
                f"There is no feature with a {f'value in {field!r}' if field else 'geometry'} in {source}.",
                "Check the layer, its filter and the class field.",
            )
        boxes = np.array([g.GetEnvelope() for g in self._geometries])
        self._boxes = boxes[:, [0, 2, 1, 3]]  # OGR gives xmin, xmax, ymin, ymax

    def __len__(self) -> int:
        return len(self._geometries)

    @property
    def bounds(self) -> tuple:
        return (*self._boxes[:, :2].min(axis=0), *self._boxes[:, 2:].max(axis=0))

    def hits(self, grid: Grid) -> np.ndarray:
        """Numbers of the features whose box meets the grid."""
        left, bottom, right, top = grid.bounds
        box = self._boxes
        return np.flatnonzero((box[:, 0] <= right) & (box[:, 2] >= left) & (box[:, 1] <= top) & (box[:, 3] >= bottom))

    def burn(self, grid: Grid, numbers: Sequence[int], dtype=np.uint8) -> np.ndarray:
        """`(rows, cols)`: number of the feature's value, `numbers[i]` for feature i, 0 elsewhere. Pixels whose centre lies inside; lines
        and points take every pixel they touch. Where features overlap, the later one holds; lines and points lie above polygons."""
        found = self.hits(grid)
        if not len(found):
            return np.zeros((grid.height, grid.width), dtype)
        kind = gdal.GDT_Byte if dtype == np.uint8 else gdal.GDT_Int32
        target = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, 1, kind)
        target.SetGeoTransform(grid.transform)
        for thin in (False, True):
            layer_set = (ogr.GetDriverByName("Memory") or ogr.GetDriverByName("MEM")).CreateDataSource("")
            layer = layer_set.CreateLayer("labels")
            layer.CreateField(ogr.FieldDefn("number", ogr.OFTInteger))
            for i in found:
                if (self._geometries[i].GetDimension() < 2) == thin:
                    feature = ogr.Feature(layer.GetLayerDefn())
                    feature.SetField("number", int(numbers[i]))
                    feature.SetGeometry(self._geometries[i])
                    layer.CreateFeature(feature)
            if layer.GetFeatureCount():
                gdal.PushErrorHandler("CPLQuietErrorHandler")  # it warns that layer and raster have no CRS: they share one
                failed = gdal.RasterizeLayer(target, [1], layer, options=["ATTRIBUTE=number", f"ALL_TOUCHED={'TRUE' if thin else 'FALSE'}"])
                gdal.PopErrorHandler()
                if failed:
                    raise LabelError(
                        f"The labels can't be drawn on the raster: {gdal.GetLastErrorMsg()[:200]}", "Run 'Fix geometries' on them first."
                    )
        return target.ReadAsArray().astype(dtype)


class Area:
    """An area of interest: `area(window)` is True where a pixel of the raster lies inside one of the polygons.

    Raises `LabelError` if it lies outside the raster; with `everywhere=False` (one of several scenes) it is then just empty: `missed`.
    """

    def __init__(self, source: str, grid: Grid, everywhere: bool = True):
        self._shapes, self._grid = Shapes(source, grid.crs), grid
        self.missed = not len(self._shapes.hits(grid))
        if self.missed and everywhere:
            raise LabelError("The area of interest lies outside the raster.", "Check its CRS, or leave it empty.")

    def on(self, grid: Grid) -> np.ndarray:
        return self._shapes.burn(grid, [1] * len(self._shapes)) > 0

    def __call__(self, window) -> np.ndarray:
        return self.on(self._grid.part(window))


class VectorLabels:
    """Polygons, lines or points as labels of classes, on pixels."""

    def __init__(self, source: str, field: str = "", buffer: float = 0.0):
        self.source, self._field, self._buffer = source, field, buffer
        self._shapes: dict[str, Shapes] = {}
        _dataset, layer = open_layer(source)
        names = [layer.GetLayerDefn().GetFieldDefn(i).GetName() for i in range(layer.GetLayerDefn().GetFieldCount())]
        if field and field not in names:
            raise LabelError(f"The labels have no field {field!r}.", f"Their fields are {', '.join(names) or 'none'}.")
        values = {value_of(f, field) for f in layer} - {None} if field else set()
        if field and not values:
            raise LabelError(f"The field {field!r} is empty in all labels.", "Fill it, or choose another field.")
        self.found = sorted(values, key=lambda v: (isinstance(v, str), v))
        self.classes: tuple = ()
        self._index: dict = {}

    def use(self, classes: tuple, background: bool) -> None:
        """Fix the classes; with `background` the first one takes all unlabelled pixels."""
        self.classes, self._background = classes, background
        self._index = {c.name: i + 1 for i, c in enumerate(classes)}

    def read(self, grid: Grid) -> np.ndarray:
        """uint8 `(rows, cols)`: class index + 1, 0 where there is no label, or one of a class that is not among `classes`."""
        shapes = self._for(grid.crs)
        last = len(self.classes)
        numbers = [self._index.get(map_classes.name_of(v), _OTHER) if self._field else last for v in shapes.values]
        return _finished(shapes.burn(grid, numbers, np.int32 if _OTHER in numbers else np.uint8), self._background)

    def touches(self, grid: Grid) -> bool:
        return len(self._for(grid.crs).hits(grid)) > 0

    def _for(self, crs: str) -> Shapes:
        if crs not in self._shapes:
            self._shapes[crs] = Shapes(self.source, crs, self._field, self._buffer)
        return self._shapes[crs]


class RasterLabels:
    """A class raster as labels; other grids are met by nearest neighbour."""

    def __init__(self, path: str):
        self.source, self._raster = path, Raster(path, "1")
        self.found = sorted(self._values())
        self.classes: tuple = ()

    def _values(self) -> set:
        found: set = set()
        grid = self._raster.grid
        for window in blocks(grid.width, grid.height, 2048):
            pixels, valid = self._raster.read(window)
            found |= set(np.unique(pixels[valid]).tolist())
            if len(found) > 255:
                raise LabelError(
                    f"{self.source} has more than 255 different values.",
                    "Choose a class raster, or reclassify it first; if it is a fine elevation model to learn from, set TARGET to values.",
                )
        if not found:
            raise LabelError(f"{self.source} holds nodata only.", "Choose another label raster.")
        return found

    def use(self, classes: tuple, background: bool) -> None:
        self.classes, self._background = classes, background
        self._index = {c.name: i + 1 for i, c in enumerate(classes)}

    def read(self, grid: Grid) -> np.ndarray:
        pixels, valid = self._raster.read_on(grid, "nearest")
        labels = np.zeros(valid.shape[1:], np.int32)
        for value in self.found:
            labels[valid[0] & (pixels[0] == value)] = self._index.get(map_classes.name_of(value), _OTHER)
        return _finished(labels, self._background)

    def touches(self, grid: Grid) -> bool:
        if bool(grid.crs) != bool(self._raster.grid.crs):
            raise LabelError("The label raster and the scene do not both have a CRS.", "Assign the missing one first.")
        return overlap(grid, self._raster.grid)


_OTHER = -1  # burnt for a class that is not wanted: such a pixel is labelled, so it is no background, but it is ignored


def _finished(labels: np.ndarray, background: bool) -> np.ndarray:
    labels = np.where(labels == 0, 1, labels) if background else labels
    return np.where(labels == _OTHER, 0, labels).astype(np.uint8) if labels.dtype != np.uint8 else labels


def open_labels(source: str, field: str = "", buffer: float = 0.0):
    """`VectorLabels` or `RasterLabels`, whichever the source is. Raises `LabelError` when it is neither."""
    try:
        return RasterLabels(source) if not is_vector(source) else VectorLabels(source, field, buffer)
    except RasterError as error:
        raise LabelError(f"The labels can't be opened: {error.message}", "Choose a vector layer or a class raster.") from None


def choose_classes(labels, order: str, background: bool, existing: tuple = ()) -> tuple[MapClass, ...]:
    """The classes of these labels, or `existing` ones (of a chips folder to append to) if the labels fit them. Raises `LabelError`."""
    names = {map_classes.name_of(v) for v in labels.found}
    if existing:
        if background and existing[0].name not in (BACKGROUND, "0"):
            raise LabelError(
                f"The first class of the chips folder is {existing[0].name!r}, not the background.",
                "Append with unlabelled pixels ignored, as the folder was made.",
            )
        unknown = sorted(names - {c.name for c in existing})
        if unknown:
            raise LabelError(
                f"The class {unknown[0]!r} is not in the chips folder.", f"Its classes are {', '.join(c.name for c in existing)}."
            )
        return existing
    if not labels.found:  # all features are one class
        found = ("labelled",) if not order else tuple(o.strip() for o in order.split(",") if o.strip())[-1:]
        made = map_classes.make(found)
    else:
        made = map_classes.make(labels.found, order)
    if background and BACKGROUND in {c.name for c in made[1:]}:  # labelled as such by the user: that class takes the unlabelled pixels, too
        if order:
            raise LabelError(
                f"Unlabelled pixels shall be {BACKGROUND!r}, which must be the first class.",
                f"Name {BACKGROUND!r} first in the order of classes.",
            )
        made = tuple(MapClass(i, c.name, c.colour) for i, c in enumerate(sorted(made, key=lambda c: c.name != BACKGROUND)))
    if background and made[0].name not in (BACKGROUND, "0"):
        keep_values = all(isinstance(v, (int, float)) for v in labels.found) and bool(labels.found)
        if keep_values and 0 in {c.value for c in made}:
            raise LabelError(
                "Unlabelled pixels shall be background, which takes the number 0, but a class has it.",
                "Put that class first, or renumber it.",
            )
        others = [c if keep_values else MapClass(c.value + 1, c.name, c.colour) for c in made]
        made = (MapClass(0, BACKGROUND, map_classes.colour_of(BACKGROUND, 0)), *others)
    if len(made) < 2:
        raise LabelError(
            f"The labels have one class only ({made[0].name}).",
            "Choose the class field, add labels of another class, or let unlabelled pixels be background if the labels are complete.",
        )
    return made


def value_of(feature, field: str):
    index = feature.GetFieldIndex(field)
    if not feature.IsFieldSetAndNotNull(index):
        return None
    kind = feature.GetFieldDefnRef(index).GetType()
    if kind in (ogr.OFTInteger, ogr.OFTInteger64):
        return feature.GetFieldAsInteger64(index)
    if kind == ogr.OFTReal:
        number = feature.GetFieldAsDouble(index)
        return None if not np.isfinite(number) else int(number) if number == int(number) else number
    return feature.GetFieldAsString(index).strip() or None


def moved_geometry(geometry, move) -> bool:
    """Transform in place; False where PROJ can't."""
    gdal.PushErrorHandler("CPLQuietErrorHandler")
    try:
        return geometry.Transform(move) == 0 and bool(np.all(np.isfinite(geometry.GetEnvelope())))
    except RuntimeError:
        return False
    finally:
        gdal.PopErrorHandler()


def is_vector(source: str) -> bool:
    """Can the source (a path, or QGIS's `path|layername=...`) be opened as vector data?"""
    gdal.PushErrorHandler("CPLQuietErrorHandler")
    try:
        dataset = gdal.OpenEx(source.split("|")[0], gdal.OF_VECTOR | gdal.OF_READONLY)
        return dataset is not None and dataset.GetLayerCount() > 0
    except RuntimeError:
        return False
    finally:
        gdal.PopErrorHandler()


def open_layer(source: str):
    """(dataset, layer) of a path or of QGIS's `path|layername=...|subset=...`; keep the dataset as long as the layer."""
    source, _, subset = source.partition("|subset=")  # QGIS puts it last; a filter may hold | and =
    path, *options = source.split("|")
    wanted = dict(o.split("=", 1) for o in options if "=" in o)
    plain = not path.startswith("/vsi") and not re.match(r"^[A-Za-z0-9_]{2,}:", path)
    if plain and not os.path.exists(path):
        raise LabelError(f"There is no file {path}.", "Check the path.")
    try:
        dataset = gdal.OpenEx(path, gdal.OF_VECTOR | gdal.OF_READONLY)
    except RuntimeError:
        dataset = None
    if dataset is None or dataset.GetLayerCount() == 0:
        raise LabelError(f"{path} can't be read as a vector layer.", "Open it in QGIS to see whether it is one.")
    name, number = wanted.get("layername"), wanted.get("layerid", "0")
    layer = dataset.GetLayerByName(name) if name else dataset.GetLayer(int(number) if number.isdecimal() else -1)
    if layer is None:
        raise LabelError(
            f"{path} has no layer {name or number!r}.",
            f"It has {', '.join(dataset.GetLayer(i).GetName() for i in range(dataset.GetLayerCount()))}.",
        )
    if subset and not _filtered(layer, subset):
        raise LabelError(f"The filter {subset!r} can't be used.", "Check the field names in it.")
    return dataset, layer


def _filtered(layer, subset: str) -> bool:
    gdal.PushErrorHandler("CPLQuietErrorHandler")
    try:
        gdal.ErrorReset()
        failed = layer.SetAttributeFilter(subset)
        layer.GetFeatureCount()  # databases look at a filter no sooner
        return failed == 0 and gdal.GetLastErrorType() < gdal.CE_Failure
    except RuntimeError:
        return False
    finally:
        gdal.PopErrorHandler()
