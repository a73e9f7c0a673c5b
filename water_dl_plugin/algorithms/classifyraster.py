"""classifyraster: raster and model -> class raster and probability raster."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputString,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import InferConfig
from .base import MAP, WaterAlgorithm, explain


class ClassifyRaster(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "classifyraster", "Classify raster", MAP, InferConfig, ("run",)
    TAGS = ("segmentation", "lake", "map", "onnx", "probability", "inference")
    HELP = (
        "Maps a raster of any size with a model file: a class raster, a raster of probabilities, or both. Windows overlap and are blended, so "
        "that no seam shows; nodata stays nodata; memory does not grow with the raster. Models of the Deepness plugin and other "
        "segmentation models in ONNX format can be used, too."
    )

    def data_parameters(self):
        raster = QgsProcessing.SourceType.TypeRaster
        return [
            explain(QgsProcessingParameterRasterLayer("INPUT", "Raster"), "The scene to map. Its bands must be those that the model was trained with."),
            explain(QgsProcessingParameterFile("MODEL", "Model file", fileFilter="ONNX model (*.onnx);;All files (*)"), "Written by Train model, or another segmentation model in ONNX format."),
            explain(QgsProcessingParameterMultipleLayers("STACK", "Further rasters of the stack", raster, optional=True), "Rasters whose bands join those of the scene, in the order of training; warped to its grid where they differ.", True),
            explain(QgsProcessingParameterFeatureSource("AREA", "Area of interest", [QgsProcessing.SourceType.TypeVectorPolygon], optional=True), "Only pixels inside these polygons are mapped; the others are nodata.", True),
        ], [
            explain(QgsProcessingParameterRasterDestination("OUTPUT", "Class raster", optional=True), "The class of each pixel, with names and colours; 255 is nodata."),
            explain(QgsProcessingParameterRasterDestination("PROBABILITY", "Probability raster", optional=True, createByDefault=False), "How sure the model is, 0 to 1; -1 is nodata."),
            QgsProcessingOutputString("PROVIDER", "What ran the model"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine import styles
        from ..engine.mapping import map_classes

        classes, probability = data.layer("OUTPUT", "Water map"), data.layer("PROBABILITY", "Probability of water")
        done = map_classes(
            data.raster("INPUT"), data.file("MODEL"), classes, config, stack=data.rasters("STACK"), area=data.vector("AREA"),
            probability=probability, progress=progress,
        )  # fmt: skip
        if classes:
            styles.for_classes(classes, done.classes)
        if probability:
            styles.for_probability(probability)
        return {"PROVIDER": done.provider}
