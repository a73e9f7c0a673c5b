"""Layers that a run leaves: polygons written through a sink, and the styles that they are loaded with."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterable, Sequence

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureSink,
    QgsField,
    QgsFields,
    QgsGeometry,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingUtils,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QMetaType, Qt, QTime, QVariant

from ..engine.errors import OutputError

_TYPES, _NAMES = (
    (QMetaType.Type, ("Int", "Double", "QString", "QDateTime"))
    if Qgis.QGIS_VERSION_INT >= 33800
    else (QVariant.Type, ("Int", "Double", "String", "DateTime"))
)
_FIELD_TYPES = {kind: getattr(_TYPES, name) for kind, name in zip((int, float, str, dt.datetime), _NAMES)}


def write_polygons(algorithm, args: tuple, features: Iterable, fields: Sequence, crs: str) -> str:
    """Write features, (WKB of a multipolygon, values by field name), through a sink: to a file, a database or a layer in memory.

    `args` are (parameters, name of the output, context), `fields` (name, Python type; a datetime is UTC), `crs` WKT. Returns what was written, "" if it was not
    asked for. A sink can't be taken back, so the features should be ready: then only the disk can fail, and a file that it cut off is removed.
    """
    known = QgsFields()
    for field, kind in fields:
        known.append(QgsField(field, _FIELD_TYPES[kind]))
    reference = QgsCoordinateReferenceSystem.fromWkt(crs) if crs else QgsCoordinateReferenceSystem()
    sink, target = algorithm.parameterAsSink(*args, known, QgsWkbTypes.Type.MultiPolygon, reference)
    if sink is None:
        if args[0].get(args[1]) in (None, ""):
            return ""
        raise OutputError(
            f"{args[0][args[1]]} can't be made as a layer.", "Is the folder there and writable, and no program holding the file?"
        )
    try:
        count = 0
        for wkb, values in features:
            feature, geometry = QgsFeature(known), QgsGeometry()
            geometry.fromWkb(wkb)
            feature.setGeometry(geometry)
            feature.setAttributes([_attribute(values.get(field)) for field, _ in fields])
            if not sink.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
                raise OutputError(f"A polygon can't be written: {sink.lastError()[:300]}", "Is the disk full?")
            count += 1
        sink = None  # closes the file
        if _is_file(target):  # a GeoPackage does not tell that it could not be written
            written = QgsVectorLayer(target, "", "ogr")
            if not written.isValid() or written.featureCount() not in (count, -1):
                raise OutputError(f"{target} can't be written whole.", "Is the disk full?")
    except BaseException:
        sink = written = None
        _discard(target)
        raise
    return target


def _attribute(value):
    """A value as Qt knows it."""
    if not isinstance(value, dt.datetime):
        return value
    day, time = QDate(value.year, value.month, value.day), QTime(value.hour, value.minute, value.second)
    return QDateTime(day, time, Qt.TimeSpec.UTC)


def _is_file(target: str) -> bool:
    """A file that is this layer's own, so no table in a database of others."""
    return "|" not in target and os.path.isfile(target)


def _discard(target: str) -> None:
    if _is_file(target):
        if target.lower().endswith(".shp"):
            QgsVectorFileWriter.deleteShapeFile(target)
        for path in (target, f"{target}-journal", f"{target}-wal", f"{target}-shm"):
            with contextlib.suppress(OSError):  # the error that matters is already on its way
                os.remove(path)


def style_path(target: str) -> str:
    """Where the style of a layer goes: beside a file that is the layer's own, else to a temporary file."""
    if _is_file(target):
        return os.path.splitext(target)[0] + ".qml"
    return QgsProcessingUtils.generateTempFilename("style.qml")


class Styler(QgsProcessingLayerPostProcessorInterface):
    """Gives a loaded layer its style. QGIS does not own it, so that `kept` does until the layer has been loaded."""

    kept: list = []

    def __init__(self, style: str):
        super().__init__()
        self._style = style
        Styler.kept.append(self)

    def postProcessLayer(self, layer, context, feedback):
        layer.loadNamedStyle(self._style)
        layer.triggerRepaint()
        Styler.kept.remove(self)
