"""Writes resources/models/map_water.model3: chips -> train -> classify -> assess, for QGIS's graphical modeler.

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
    QgsProcessingParameterField,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorLayer,
)
from qgis.PyQt.QtCore import QPointF

ROOT = Path(__file__).resolve().parent.parent
Source = QgsProcessingModelChildParameterSource


def main(path: Path) -> None:
    model = QgsProcessingModelAlgorithm("Map water from labels", "Water DL", "mapwater")
    integer = QgsProcessingParameterNumber.Type.Integer
    for row, parameter in enumerate((
        QgsProcessingParameterRasterLayer("INPUT", "Scene"),
        QgsProcessingParameterVectorLayer("LABELS", "Labels", [QgsProcessing.SourceType.TypeVectorAnyGeometry]),
        QgsProcessingParameterField("CLASS_FIELD", "Class field", None, "LABELS"),
        QgsProcessingParameterNumber("TILE_SIZE", "Tile size [px]", integer, 256, minValue=16, maxValue=4096),
        QgsProcessingParameterNumber("EPOCHS", "Epochs", integer, 30, minValue=1, maxValue=10000),
    )):  # fmt: skip
        component = QgsProcessingModelParameter(parameter.name())
        component.setPosition(QPointF(120, 80 + 90 * row))
        model.addModelParameter(parameter, component)
    given = {name: [Source.fromModelParameter(name)] for name in ("INPUT", "LABELS", "CLASS_FIELD", "TILE_SIZE", "EPOCHS")}

    def child(name: str, column: int, sources: dict, outputs: dict) -> None:
        algorithm = QgsProcessingModelChildAlgorithm(f"waterdl:{name}")
        algorithm.setChildId(name)
        algorithm.setPosition(QPointF(420 + 300 * column, 170 + 60 * column))
        known = QgsApplication.processingRegistry().algorithmById(f"waterdl:{name}")
        defaults = {
            d.name(): [Source.fromStaticValue(d.defaultValue())] for d in known.parameterDefinitions() if d.defaultValue() is not None
        }
        for parameter, source in {**defaults, **sources}.items():  # setParameterSources crashes 3.22
            algorithm.addParameterSources(parameter, source)
        algorithm.setDescription(known.displayName())
        listed = {}
        for output, label in outputs.items():
            made = QgsProcessingModelOutput(label, label)
            made.setChildOutputName(output)
            made.setChildId(name)
            made.setPosition(QPointF(420 + 300 * column, 380 + 90 * len(listed) + 60 * column))
            listed[label] = made
        algorithm.setModelOutputs(listed)
        model.addChildAlgorithm(algorithm)

    chips = {key: given[key] for key in ("INPUT", "LABELS", "CLASS_FIELD", "TILE_SIZE")}
    child("exportchips", 0, {**chips, "STRIDE": given["TILE_SIZE"], "TEST_SHARE": [Source.fromStaticValue(0.25)]}, {})
    child(
        "trainmodel",
        1,
        {"CHIPS": [Source.fromChildOutput("exportchips", "OUTPUT")], "EPOCHS": given["EPOCHS"]},
        {"OUTPUT": "Model file", "REPORT": "Training report"},
    )
    child(
        "classifyraster", 2, {"INPUT": given["INPUT"], "MODEL": [Source.fromChildOutput("trainmodel", "OUTPUT")]}, {"OUTPUT": "Water map"}
    )
    # the probabilities are no output of the model: QGIS makes them in any case then, because the next step needs them
    truth = {
        "INPUT": [Source.fromChildOutput("classifyraster", "PROBABILITY")],
        "LABELS": given["LABELS"],
        "CLASS_FIELD": given["CLASS_FIELD"],
        "AREA": [Source.fromChildOutput("exportchips", "TEST_AREA")],
    }
    child("assessclassification", 3, truth, {"REPORT": "Assessment"})
    model.setHelpContent({
        "ALG_DESC": "From one scene and label polygons to a water map: a quarter of the labels, by blocks of the map, is held out from training and only assesses the map.",
        "ALG_CREATOR": "Water DL",
    })  # fmt: skip
    model.updateDestinationParameters()
    complaints = [text for name in model.childAlgorithms() for text in model.validateChildAlgorithm(name)[1]]
    if complaints or not model.toFile(str(path)):
        raise SystemExit(f"The model can't be written: {complaints}")
    print(f"{path.name}: {', '.join(d.name() for d in model.parameterDefinitions())}")


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    sys.path[:0] = [str(ROOT), os.path.join(QgsApplication.pkgDataPath(), "python", "plugins")]
    from processing.core.Processing import Processing

    from water_dl_plugin.provider import WaterProvider

    Processing.initialize()
    provider = WaterProvider()
    QgsApplication.processingRegistry().addProvider(provider)
    main(ROOT / "water_dl_plugin" / "resources" / "models" / "map_water.model3")
    application.exitQgis()
