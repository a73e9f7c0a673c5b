"""assessclassification: map and truth -> figures."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import AssessConfig
from .base import ASSESS, WaterAlgorithm, explain

_NUMBERS = (
    ("IOU", "IoU of the class of interest"), ("F1", "F1 of the class of interest"), ("RECALL", "Recall of the class of interest"),
    ("PRECISION", "Precision of the class of interest"), ("MEAN_IOU", "Mean IoU"), ("ACCURACY", "Accuracy"), ("KAPPA", "Kappa"),
    ("MCC", "Matthews correlation"), ("BEST_THRESHOLD", "Best threshold (probability raster)"),
)  # fmt: skip


class AssessClassification(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "assessclassification", "Assess classification", ASSESS, AssessConfig, ("report",)
    TAGS = ("accuracy", "confusion matrix", "iou", "f1", "pod", "far", "csi")
    HELP = (
        "Compares a class or probability raster with truth that the training has not seen: polygons, lines or points with a class field, or a "
        "class raster. Gives recall, precision, F1 and IoU per class, accuracy, kappa, Matthews correlation, POD, FAR, CSI, areas, and for a "
        "probability raster the best threshold. Intervals are drawn from whole truth features, since pixels of one feature are alike."
    )

    def data_parameters(self):
        raster, anything = QgsProcessing.SourceType.TypeRaster, QgsProcessing.SourceType.TypeVectorAnyGeometry
        return [
            explain(QgsProcessingParameterRasterLayer("INPUT", "Class or probability raster"), "Output of Classify raster, or another class raster."),
            explain(QgsProcessingParameterMapLayer("LABELS", "Truth", types=[anything, raster]), "Polygons, lines or points with the classes' names or numbers, or a class raster."),
            explain(QgsProcessingParameterFeatureSource("AREA", "Area of interest", [QgsProcessing.SourceType.TypeVectorPolygon], optional=True), "Only truth inside these polygons counts.", True),
        ], [
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "All figures and plots in one file."),
            explain(QgsProcessingParameterFileDestination("CSV", "Table", "CSV files (*.csv)", optional=True, createByDefault=False), "Figures per class."),
            explain(QgsProcessingParameterFileDestination("JSON", "Figures as JSON", "JSON files (*.json)", optional=True, createByDefault=False), "All figures, for programs."),
            *(QgsProcessingOutputNumber(name, text) for name, text in _NUMBERS),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine.assess import assess

        found = assess(
            data.raster("INPUT"), data.labels("LABELS"), config, area=data.vector("AREA"), report=data.output("REPORT"),
            csv=data.output("CSV"), json_path=data.output("JSON"), progress=progress,
        )  # fmt: skip
        for line in found.lines():
            progress(1, line)
        return {name: value for name, value in found.numbers().items() if value is not None}
