"""modelinfo: what is inside a model file."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
)

from ..engine.config import Config
from .base import DEPLOY, WaterAlgorithm, explain


class ModelInfo(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "modelinfo", "Model information", DEPLOY, Config, ("run",)
    TAGS = ("onnx", "metadata", "model card")
    HELP = "Tells what a model file wants (bands, pixel size, normalisation), what it gives (classes, elevations, water levels of which reservoirs), how it was trained and how good it was."

    def data_parameters(self):
        model = QgsProcessingParameterFile("MODEL", "Model file", fileFilter="ONNX model (*.onnx);;All files (*)")
        return [explain(model, "A model of Water DL or of Deepness, or any segmentation model in ONNX format.")], [
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "The same as a page."),
            QgsProcessingOutputString("INFO", "Everything as JSON"),
            QgsProcessingOutputNumber("BANDS", "Number of bands"),
            QgsProcessingOutputNumber("CLASSES", "Number of classes"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        import json

        from ..engine import describe
        from ..engine.backends import OnnxModel

        model = OnnxModel(data.file("MODEL"), "cpu", gives="any")
        for line in describe.lines(model):
            progress(1, line)
        if report := data.output("REPORT"):
            describe.report(model, report)
        return {"INFO": json.dumps(model.info.to_json()), "BANDS": len(model.info.bands), "CLASSES": len(model.info.classes)}
