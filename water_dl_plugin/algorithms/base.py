"""From a config dataclass to a Processing algorithm: form, run, errors, progress, Cancel, layer names.

An algorithm is a thin class: its texts, its data parameters, its config class, and `work`, which calls the engine.
"""

from __future__ import annotations

import os
import re
from typing import Any

from qgis.core import (
    QgsFields,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QIcon

from .. import packages
from ..engine.config import Config, Param, check, params
from ..engine.errors import Cancelled, LabelError, RasterError, WaterError
from .layers import Styler, style_path, write_polygons

ROOT = os.path.dirname(os.path.dirname(__file__))
PREPARE, TRAIN, MAP, ASSESS, DEPLOY = "1 Prepare", "2 Train", "3 Map", "4 Assess", "5 Deploy"
_VECTOR_FORMATS = ["gpkg", "shp", "geojson", "json", "fgb", "gml", "kml", "sqlite", "tab", "dxf", "csv"]


class WaterAlgorithm(QgsProcessingAlgorithm):
    """Base of all algorithms. Subclasses set the class attributes and give `data_parameters` and `work`."""

    NAME = TITLE = GROUP = HELP = ""
    TAGS: tuple = ()
    PURPOSES: tuple = ()  # what must be installed, see packages.PURPOSES
    CONFIG: Any = Config

    def data_parameters(self) -> tuple[list, list]:
        """Definitions of what goes in and of what comes out; the settings stand between them in the form."""
        raise NotImplementedError

    def work(self, data: Data, config: Config, progress) -> dict:
        """Call the engine; returns the outputs by name."""
        raise NotImplementedError

    def name(self) -> str:
        return self.NAME

    def displayName(self) -> str:
        return self.tr(self.TITLE)

    def group(self) -> str:
        return self.tr(self.GROUP)

    def groupId(self) -> str:
        return self.GROUP.split()[1].lower()

    def tags(self) -> list[str]:
        return ["water", "deep learning", *self.TAGS]

    def icon(self) -> QIcon:
        return QIcon(os.path.join(ROOT, "resources", "icon.svg"))

    def tr(self, text: str) -> str:
        return QCoreApplication.translate("WaterDL", text)

    def createInstance(self):
        return type(self)()

    def shortHelpString(self) -> str:
        items = "".join(f"<li><b>{d.description()}</b>: {d.help()}</li>" for d in self.parameterDefinitions() if d.help())
        return f"{self.HELP}<h3>Parameters</h3><ul>{items}</ul>"

    def initAlgorithm(self, configuration=None):
        before, after = self.data_parameters()
        for definition in (*before, *map(form_field, params(self.CONFIG)), *after):
            if isinstance(definition, QgsProcessingParameterDefinition):
                self.addParameter(definition)
            else:
                self.addOutput(definition)

    def canExecute(self) -> tuple[bool, str]:
        names = packages.missing(*self.PURPOSES) if self.PURPOSES else []
        return (False, f"Missing Python packages: {', '.join(names)}. {packages.how_to_mend(*self.PURPOSES)}") if names else (True, "")

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        """As QGIS does, but its refusal ("Incorrect parameter value for OVERLAP") gets a reason and a remedy."""
        good, message = super().checkParameterValues(parameters, context)
        if good:
            return good, message
        named = [d for d in self.parameterDefinitions() if re.search(rf"\b{d.name()}\b", message)]
        settings = {item.name.upper(): item for item in params(self.CONFIG)}
        return False, "\n".join([message, *(why_refused(d, parameters.get(d.name()), settings.get(d.name())) for d in named)])

    def processAlgorithm(self, parameters, context, feedback) -> dict:
        data = Data(self, parameters, context, feedback)

        def progress(fraction: float, message: str = "") -> None:
            if message.startswith("Warning:"):
                feedback.pushWarning(message)
            elif message:
                feedback.pushInfo(message)
            feedback.setProgress(100 * fraction)
            if feedback.isCanceled():
                raise Cancelled()

        try:
            if self.PURPOSES:  # qgis_process and models do not ask canExecute
                packages.require(*self.PURPOSES)
            config = self.CONFIG(**{item.name: data.setting(item) for item in params(self.CONFIG)})
            results = self.work(data, config, progress)
        except WaterError as error:
            raise QgsProcessingException(f"{error.message}\n{error.remedy}".strip()) from error
        except MemoryError as error:
            raise QgsProcessingException("Memory ran out.\nHalve the batch size or the window size.") from error
        return {**data.destinations, **results}


class Data:
    """Parameter values as the engine wants them: paths and plain numbers. A destination that is asked for is an output of the run."""

    def __init__(self, algorithm: WaterAlgorithm, parameters: dict, context, feedback):
        self._algorithm, self._parameters, self._context, self._feedback = algorithm, parameters, context, feedback
        self.destinations: dict[str, str] = {}

    def setting(self, item: Param):
        name, algorithm, args = item.name.upper(), self._algorithm, (self._parameters, item.name.upper(), self._context)
        if item.choices:
            return algorithm.parameterAsEnumString(*args)
        if item.kind is bool:
            return algorithm.parameterAsBoolean(*args)
        if item.kind in (int, float):
            if item.optional and self._parameters.get(name) in (None, ""):
                return None
            return algorithm.parameterAsInt(*args) if item.kind is int else algorithm.parameterAsDouble(*args)
        if item.of_input:
            return (algorithm.parameterAsFields(*args) or [""])[0]
        return algorithm.parameterAsString(*args) or ""

    def file(self, name: str) -> str:
        return self._algorithm.parameterAsFile(self._parameters, name, self._context)

    def raster(self, name: str) -> str:
        """Path (or GDAL name) of a raster layer; "" if none was given."""
        layer = self._algorithm.parameterAsRasterLayer(self._parameters, name, self._context)
        given = self._parameters.get(name)
        if layer is None:  # not one that QGIS can open: the engine says why
            return given if isinstance(given, str) else ""
        return self._source(layer)

    def rasters(self, name: str) -> list[str]:
        layers = self._algorithm.parameterAsLayerList(self._parameters, name, self._context)
        given = self._parameters.get(name)
        if not layers and given:
            return [str(g) for g in (given if isinstance(given, (list, tuple)) else [given])]
        return [self._source(layer) for layer in layers]

    def vector(self, name: str) -> str:
        """Path of a vector layer as `path|layername=...`; "" if none was given. A layer that is no file, or filtered, or of which only
        the selected features are meant, is written to a file first."""
        given = self._parameters.get(name)
        source = given.source.staticValue() if isinstance(given, QgsProcessingFeatureSourceDefinition) else given
        if source in (None, ""):
            return ""
        layer = self._algorithm.parameterAsVectorLayer({**self._parameters, name: source}, name, self._context)
        if layer is None:  # not one that QGIS can open: the engine says why
            return str(source)
        if layer.isEditable() and layer.isModified():  # they are not in the file that the engine reads
            raise LabelError(f"The layer {layer.name()} has unsaved edits.", "Save them (Save Layer Edits), then run again.")
        fields = layer.fields()
        in_file = all(fields.fieldOrigin(i) == QgsFields.FieldOrigin.OriginProvider for i in range(fields.count()))
        path, table = self._algorithm.parameterAsCompatibleSourceLayerPathAndLayerName(  # no format will do: QGIS writes joined fields out
            self._parameters, name, self._context, _VECTOR_FORMATS if in_file else [], "gpkg", self._feedback
        )
        return f"{path}|layername={table}" if table else path

    def labels(self, name: str) -> str:
        """A vector layer or a raster layer."""
        layer = self._algorithm.parameterAsLayer(self._parameters, name, self._context)
        return self.vector(name) if layer is None or _is_vector(layer) else self._source(layer)

    def output(self, name: str) -> str:
        """Where a file shall go; "" if it was not asked for."""
        path = self._algorithm.parameterAsFileOutput(self._parameters, name, self._context)
        if path:
            self.destinations[name] = path
        return path

    def layer(self, name: str, title: str) -> str:
        """Where a raster layer shall go, and the name it gets in the layer tree; it is styled by the .qml that the run puts beside it."""
        path = self._algorithm.parameterAsOutputLayer(self._parameters, name, self._context)
        if path:
            self.destinations[name] = path
            self._load(name, path, title, os.path.splitext(path)[0] + ".qml")
        return path

    def polygons(self, name: str, title: str, features, fields, crs: str, style) -> str:
        """Write polygons through the sink of an output, see `layers.write_polygons`; `style(path)` writes a .qml."""
        args = (self._parameters, name, self._context)
        target = write_polygons(self._algorithm, args, features, fields, crs)
        if target:
            self.destinations[name] = target
            qml = style_path(target)
            style(qml)
            self._load(name, target, title, qml)
        return target

    def _load(self, name: str, target: str, title: str, style: str) -> None:
        """The name and the style that a layer gets in the desktop, if it is loaded there."""
        if self._context.willLoadLayerOnCompletion(target):
            details = self._context.layerToLoadOnCompletionDetails(target)
            if details.name in ("", self._algorithm.parameterDefinition(name).description()):  # else the user or a model named it
                details.name = title
            details.setPostProcessor(Styler(style))  # Processing itself does not look for it

    def offer(self, name: str, source: str, title: str, style: str) -> None:
        """Have the desktop load a vector layer that the run made beside its outputs, with a style of resources/styles."""
        project = self._context.project()
        if project is not None:
            details = QgsProcessingContext.LayerDetails(title, project, name)
            details.setPostProcessor(Styler(os.path.join(ROOT, "resources", "styles", style)))
            self._context.addLayerToLoadOnCompletion(source, details)

    @staticmethod
    def _source(layer) -> str:
        if layer.dataProvider() is None or layer.dataProvider().name() != "gdal":
            raise RasterError(f"The layer {layer.name()} is not a raster file.", "Export it to a GeoTIFF first.")
        return layer.source()


def why_refused(definition, value, item: Param | None) -> str:
    """Reason and remedy for a parameter value that QGIS does not accept; `item` if it is a setting."""
    label = f"{definition.description()} ({definition.name()})"
    if value in (None, "", []):
        return f"{label} is not set. {definition.help()}"
    if item is not None:
        try:
            check(item, float(value) if item.kind in (int, float) and isinstance(value, str) else value)
        except WaterError as error:
            return str(error)
        except ValueError:
            return f"{label} must be a number, not {str(value)[:60]!r}. The default is {item.default}."
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(one, str) and not os.path.exists(one.split("|")[0]):
            return f"{label}: there is no file {one[:300]}. Check the path."
    return f"{label}: QGIS can't use {str(value)[:300]}. Choose another one; if it is a file, see whether QGIS can open it."


def _is_vector(layer) -> bool:
    return hasattr(layer, "fields")


def form_field(item: Param) -> QgsProcessingParameterDefinition:
    """The form's field of one setting."""
    name, label = item.name.upper(), f"{item.label} [{item.unit}]" if item.unit else item.label
    if item.choices:
        field = QgsProcessingParameterEnum(name, label, list(item.choices), defaultValue=item.default, usesStaticStrings=True)
    elif item.kind is bool:
        field = QgsProcessingParameterBoolean(name, label, item.default)
    elif item.kind in (int, float):
        kind = QgsProcessingParameterNumber.Type.Integer if item.kind is int else QgsProcessingParameterNumber.Type.Double
        limits = {k: v for k, v in (("minValue", item.minimum), ("maxValue", item.maximum)) if v is not None}
        field = QgsProcessingParameterNumber(name, label, kind, item.default, item.optional, **limits)
        if item.kind is float:
            # a learning rate, or a distance in degrees, is rounded away by three decimals
            small = 0 < (item.default or 0) < 0.01 or 0 < (item.minimum or 0) < 0.001 or item.unit.startswith("map units")
            field.setMetadata({"widget_wrapper": {"decimals": 7 if small else 3}})
    elif item.of_input:
        field = QgsProcessingParameterField(name, label, None, item.of_input, optional=True)
    elif item.file:
        field = QgsProcessingParameterFile(name, label, fileFilter=f"{item.file};;All files (*)", optional=True)
    else:
        field = QgsProcessingParameterString(name, label, item.default, item.multiline, True)
    return explain(field, item.help, item.advanced)


def explain(definition, text: str, advanced: bool = False):
    """The same definition with its help text, folded away if advanced."""
    definition.setHelp(text)
    if advanced:
        definition.setFlags(definition.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
    return definition
