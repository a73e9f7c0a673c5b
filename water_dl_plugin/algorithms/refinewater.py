"""refinewater: rough map and image -> refined map."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import RefineConfig
from .base import MAP, WaterAlgorithm, explain


class RefineWater(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "refinewater", "Refine water map", MAP, RefineConfig, ("refine",)
    TAGS = ("slic", "superpixel", "crf", "densecrf", "outline", "shoreline", "smooth", "lake")
    HELP = (
        "Makes the outlines of a water map follow the shores that the image shows, and removes specks: superpixels (SLIC), a fully connected "
        "conditional random field (DenseCRF), or one after the other. Takes a probability raster (better) or a class raster, of two or more "
        "classes. Rasters of any size are worked on in tiles without seams. All bands can take part; the near infrared helps most."
    )

    def data_parameters(self):
        raster = QgsProcessing.SourceType.TypeRaster
        return [
            explain(QgsProcessingParameterRasterLayer("INPUT", "Probability or class raster"), "The rough map: output of Classify raster. Probabilities give better results than classes."),
            explain(QgsProcessingParameterRasterLayer("IMAGE", "Image"), "The scene that shows the shores. If its grid differs from the map's, it is warped."),
            explain(QgsProcessingParameterMultipleLayers("STACK", "Further rasters of the stack", raster, optional=True), "Rasters whose bands join those of the image.", True),
        ], [
            explain(QgsProcessingParameterRasterDestination("OUTPUT", "Refined class raster", optional=True), "The class of each pixel, with names and colours; 255 is nodata."),
            explain(QgsProcessingParameterRasterDestination("PROBABILITY", "Refined probability raster", optional=True, createByDefault=False), "0 to 1; -1 is nodata."),
            QgsProcessingOutputNumber("CHANGED", "Pixels with another class"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine import styles
        from ..engine.refine import refine_raster

        classes, probability = data.layer("OUTPUT", "Refined water map"), data.layer("PROBABILITY", "Refined probability of water")
        done = refine_raster(
            data.raster("INPUT"),
            data.raster("IMAGE"),
            classes,
            config,
            stack=data.rasters("STACK"),
            probability=probability,
            progress=progress,
        )
        if classes:
            styles.for_classes(classes, done.classes)
        if probability:
            styles.for_probability(probability)
        return {"CHANGED": done.changed}
