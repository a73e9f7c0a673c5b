"""Writes the models for QGIS's graphical modeler that ship with the plugin, in resources/models: map_water.model3 (chips -> train -> classify ->
assess), map_glacial_lakes.model3 (chips -> train in two stages -> classify -> refine -> polygons), downscale_dem.model3 (chips of values
-> train -> fine elevation model and its expected error -> assess) and reservoir_levels.model3 (level chips -> train -> levels -> assess).

Run with QGIS's own Python after an algorithm's parameters have changed: PATH=.venv/bin:/usr/bin:/bin .venv/bin/python scripts/make_model.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsProcessing,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
)
from qgis.PyQt.QtCore import QPointF

ROOT = Path(__file__).resolve().parent.parent
Source = QgsProcessingModelChildParameterSource


class Builder:
    """A model in the making. Every parameter of a step that is not given gets the algorithm's default of today."""

    def __init__(self, name: str, title: str, description: str, parameters: list):
        self.model = QgsProcessingModelAlgorithm(title, "Water DL", name)
        self.model.setHelpContent({"ALG_DESC": description, "ALG_CREATOR": "Water DL"})
        for row, parameter in enumerate(parameters):
            component = QgsProcessingModelParameter(parameter.name())
            component.setPosition(QPointF(120, 80 + 90 * row))
            self.model.addModelParameter(parameter, component)

    def child(self, name: str, outputs: dict, **sources) -> None:
        """A step. A source is `given(...)`, `output(...)` or a plain value."""
        column = len(self.model.childAlgorithms())
        algorithm = QgsProcessingModelChildAlgorithm(f"waterdl:{name}")
        algorithm.setChildId(name)
        algorithm.setPosition(QPointF(420 + 300 * column, 170 + 60 * column))
        known = QgsApplication.processingRegistry().algorithmById(f"waterdl:{name}")
        wanted = {d.name(): d.defaultValue() for d in known.parameterDefinitions() if d.defaultValue() is not None}
        for parameter, source in {**wanted, **sources}.items():  # setParameterSources crashes 3.22
            algorithm.addParameterSources(parameter, [source if isinstance(source, Source) else Source.fromStaticValue(source)])
        algorithm.setDescription(known.displayName())
        listed = {}
        for output_name, label in outputs.items():
            made = QgsProcessingModelOutput(label, label)
            made.setChildOutputName(output_name)
            made.setChildId(name)
            made.setPosition(QPointF(420 + 300 * column, 380 + 90 * len(listed) + 60 * column))
            listed[label] = made
        algorithm.setModelOutputs(listed)
        self.model.addChildAlgorithm(algorithm)

    def write(self, path: Path) -> None:
        self.model.updateDestinationParameters()
        complaints = [text for name in self.model.childAlgorithms() for text in self.model.validateChildAlgorithm(name)[1]]
        if complaints or not self.model.toFile(str(path)):
            raise SystemExit(f"The model can't be written: {complaints}")
        print(f"{path.name}: {', '.join(d.name() for d in self.model.parameterDefinitions())}")


given, output = Source.fromModelParameter, Source.fromChildOutput


def chosen(name: str, default) -> Source:
    """A parameter of the model that has a default. qgis_process does not fill it in: the step would take its own default, and nobody is told."""
    return Source.fromExpression(f"coalesce(@{name}, {default!r})")


INTEGER = QgsProcessingParameterNumber.Type.Integer
ANY, POLYGONS = QgsProcessing.SourceType.TypeVectorAnyGeometry, QgsProcessing.SourceType.TypeVectorPolygon


def map_water(path: Path) -> None:
    model = Builder(
        "mapwater", "Map water from labels",
        "From one scene and label polygons to a water map: a quarter of the labels, by blocks of the map, is held out from training and only assesses the map.",
        [
            QgsProcessingParameterRasterLayer("INPUT", "Scene"),
            QgsProcessingParameterVectorLayer("LABELS", "Labels", [ANY]),
            QgsProcessingParameterField("CLASS_FIELD", "Class field", None, "LABELS"),
            QgsProcessingParameterNumber("TILE_SIZE", "Tile size [px]", INTEGER, 256, minValue=16, maxValue=4096),
            QgsProcessingParameterNumber("EPOCHS", "Epochs", INTEGER, 30, minValue=1, maxValue=10000),
        ],
    )  # fmt: skip
    model.child(
        "exportchips", {}, INPUT=given("INPUT"), LABELS=given("LABELS"), CLASS_FIELD=given("CLASS_FIELD"), TILE_SIZE=given("TILE_SIZE"),
        STRIDE=given("TILE_SIZE"), TEST_SHARE=0.25,
    )  # fmt: skip
    model.child(
        "trainmodel", {"OUTPUT": "Model file", "REPORT": "Training report"}, CHIPS=output("exportchips", "OUTPUT"), EPOCHS=given("EPOCHS")
    )
    model.child("classifyraster", {"OUTPUT": "Water map"}, INPUT=given("INPUT"), MODEL=output("trainmodel", "OUTPUT"))
    # the probabilities are no output of the model: QGIS makes them in any case then, because the next step needs them
    model.child(
        "assessclassification", {"REPORT": "Assessment"}, INPUT=output("classifyraster", "PROBABILITY"), LABELS=given("LABELS"),
        CLASS_FIELD=given("CLASS_FIELD"), AREA=output("exportchips", "TEST_AREA"),
    )  # fmt: skip
    model.write(path)


STAGES = '[{"loss": "bce_dice", "epochs": 45, "lr": 1e-4}, {"loss": "lovasz", "epochs": 25, "lr": 1e-5}]'


def map_glacial_lakes(path: Path) -> None:
    model = Builder(
        "mapglaciallakes", "Map glacial lakes",
        "From one scene and the outlines of its lakes to an inventory: LinkNet in two stages (cross entropy and Dice, then Lovasz hinge), map, superpixels and "
        "DenseCRF, polygons with area, elevation and size class. The outlines must be complete where they are: what has none is background. A fifth of "
        "the blocks validates. On a laptop choose the encoder resnet18 and fewer epochs in the stages.",
        [
            QgsProcessingParameterRasterLayer("INPUT", "Scene"),
            QgsProcessingParameterVectorLayer("LABELS", "Outlines of lakes", [POLYGONS]),
            QgsProcessingParameterVectorLayer("AREA", "Area where the outlines are complete", [POLYGONS], optional=True),
            QgsProcessingParameterRasterLayer("DEM", "Elevation model", optional=True),
            QgsProcessingParameterString("BANDS", "Bands (empty: all; 1-4 if the near infrared calls itself alpha)", "", optional=True),
            QgsProcessingParameterEnum("ENCODER", "Encoder", ["resnet18", "resnet34", "resnet50"], defaultValue="resnet50", usesStaticStrings=True),
            QgsProcessingParameterNumber("TILE_SIZE", "Tile size [px]", INTEGER, 256, minValue=16, maxValue=4096),
            QgsProcessingParameterString("STAGES", "Stages of training", STAGES, True),
        ],
    )  # fmt: skip
    model.child(
        "exportchips", {}, INPUT=given("INPUT"), LABELS=given("LABELS"), AREA=given("AREA"), BANDS=given("BANDS"), CLASSES="lake", UNLABELLED="background",
        TILE_SIZE=given("TILE_SIZE"), ROTATION=90.0,
    )  # fmt: skip
    model.child(
        "trainmodel", {"OUTPUT": "Model file", "REPORT": "Training report"}, CHIPS=output("exportchips", "OUTPUT"), ARCHITECTURE="linknet",
        ENCODER=chosen("ENCODER", "resnet50"), STAGES=chosen("STAGES", STAGES), BATCH_SIZE=4, OPTIMISER="adam",
    )  # fmt: skip
    model.child("classifyraster", {}, INPUT=given("INPUT"), MODEL=output("trainmodel", "OUTPUT"), BANDS=given("BANDS"))
    model.child(
        "refinewater", {"OUTPUT": "Refined water map"}, INPUT=output("classifyraster", "PROBABILITY"), IMAGE=given("INPUT"), MODE="slic_crf",
        BANDS=given("BANDS"),
    )  # fmt: skip
    model.child(
        "vectorizewater", {"OUTPUT": "Lakes"}, INPUT=output("refinewater", "OUTPUT"), PROBABILITY=output("refinewater", "PROBABILITY"),
        DEM=given("DEM"),
    )  # fmt: skip
    model.write(path)


def downscale_dem(path: Path) -> None:
    rasters = QgsProcessing.SourceType.TypeRaster
    model = Builder(
        "downscaledem", "Make an elevation model finer",
        "From coarse elevation models, and a fine one of a part of their area, to a fine elevation model of all of it, with its expected error: chips of "
        "values, demunet, map, assessment. A quarter of the fine model, by blocks of the map, is held out from training and only assesses the result; "
        "coarse models with an edge of nodata are mapped where the first one has heights. The first coarse model is the base.",
        [
            QgsProcessingParameterMultipleLayers("INPUT", "Coarse elevation models, the base first", rasters),
            QgsProcessingParameterMultipleLayers("STACK", "Further rasters (imagery, land cover)", rasters, optional=True),
            QgsProcessingParameterRasterLayer("TARGET", "Fine elevation model"),
            QgsProcessingParameterVectorLayer("WATER", "Water (left out)", [POLYGONS], optional=True),
            QgsProcessingParameterNumber("TILE_SIZE", "Tile size [px]", INTEGER, 128, minValue=16, maxValue=4096),
            QgsProcessingParameterNumber("STRIDE", "Stride [px]", INTEGER, 64, minValue=0, maxValue=4096),
            QgsProcessingParameterNumber("EPOCHS", "Epochs", INTEGER, 30, minValue=1, maxValue=10000),
        ],
    )  # fmt: skip
    model.child(
        "exportchips", {}, INPUT=given("INPUT"), STACK=given("STACK"), LABELS=given("TARGET"), WATER=given("WATER"), TARGET="values",
        TILE_SIZE=chosen("TILE_SIZE", 128), STRIDE=chosen("STRIDE", 64), TEST_SHARE=0.25, MIN_LABELLED=20.0,
    )  # fmt: skip
    model.child(
        "trainmodel", {"OUTPUT": "Model file", "REPORT": "Training report"}, CHIPS=output("exportchips", "OUTPUT"), EPOCHS=given("EPOCHS")
    )
    model.child(
        "downscaledem", {"OUTPUT": "Fine elevation model", "ERROR": "Expected error"}, INPUT=given("INPUT"), STACK=given("STACK"),
        MODEL=output("trainmodel", "OUTPUT"),
    )  # fmt: skip
    model.child(
        "assessdem", {"REPORT": "Assessment"}, INPUT=output("downscaledem", "OUTPUT"), REFERENCE=given("TARGET"), BASELINES=given("INPUT"),
        AREA=output("exportchips", "TEST_AREA"),
    )  # fmt: skip
    model.write(path)


def reservoir_levels(path: Path) -> None:
    rasters = QgsProcessing.SourceType.TypeRaster
    model = Builder(
        "reservoirlevels", "Water levels of reservoirs",
        "From dated scenes, reservoirs and gauge readings to a level for every scene, with its interval, also for those of which there is no reading: level "
        "chips, levelnet, levels, assessment. A fifth of the months is held out from training and calibrates the interval, another fifth only assesses.",
        [
            QgsProcessingParameterMultipleLayers("INPUT", "Scenes", rasters, optional=True),
            QgsProcessingParameterFile("FOLDER", "Folder of scenes", QgsProcessingParameterFile.Behavior.Folder, optional=True),
            QgsProcessingParameterVectorLayer("RESERVOIRS", "Reservoirs", [POLYGONS]),
            QgsProcessingParameterField("NAME_FIELD", "Name field", None, "RESERVOIRS", optional=True),
            QgsProcessingParameterVectorLayer("GAUGE", "Gauge readings", [QgsProcessing.SourceType.TypeVector]),
            QgsProcessingParameterNumber("EPOCHS", "Epochs", INTEGER, 60, minValue=1, maxValue=10000),
            QgsProcessingParameterNumber("MEMBERS", "Members", INTEGER, 5, minValue=1, maxValue=100),
        ],
    )  # fmt: skip
    same = {name: given(name) for name in ("INPUT", "FOLDER", "RESERVOIRS", "NAME_FIELD", "GAUGE")}
    model.child("exportlevelchips", {}, **same, TEST_SHARE=0.2)
    model.child(
        "trainmodel", {"OUTPUT": "Model file", "REPORT": "Training report"}, CHIPS=output("exportlevelchips", "OUTPUT"), EPOCHS=chosen("EPOCHS", 60),
        MEMBERS=chosen("MEMBERS", 5),
    )  # fmt: skip
    model.child("estimatelevel", {"OUTPUT": "Water levels", "REPORT": "Levels"}, **same, MODEL=output("trainmodel", "OUTPUT"))
    model.child("assesslevels", {"REPORT": "Assessment"}, ESTIMATES=output("estimatelevel", "OUTPUT"))
    model.write(path)


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    sys.path[:0] = [str(ROOT), os.path.join(QgsApplication.pkgDataPath(), "python", "plugins")]
    from processing.core.Processing import Processing

    from water_dl_plugin.provider import WaterProvider

    Processing.initialize()
    provider = WaterProvider()
    QgsApplication.processingRegistry().addProvider(provider)
    folder = ROOT / "water_dl_plugin" / "resources" / "models"
    map_water(folder / "map_water.model3")
    map_glacial_lakes(folder / "map_glacial_lakes.model3")
    downscale_dem(folder / "downscale_dem.model3")
    reservoir_levels(folder / "reservoir_levels.model3")
    application.exitQgis()
