"""downscaledem: coarse elevation models, further rasters and a model -> fine elevation model and its expected error."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterFile,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import DownscaleConfig
from .base import MAP, WaterAlgorithm, explain


class DownscaleDem(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "downscaledem", "Downscale DEM", MAP, DownscaleConfig, ("run",)
    TAGS = ("elevation", "terrain", "super-resolution", "dem", "onnx", "upsampling", "resolution")
    HELP = (
        "Makes an elevation model finer with a model file: a network adds to the interpolated heights what terrain of this form, and further "
        "rasters if it was trained with them, lead it to expect. Windows leave no seam, planes stay planes, voids stay voids, unit and vertical "
        "reference are kept, memory does not grow with the raster. A second raster says how large the error of each height is expected to be. "
        "Check the result with Assess DEM wherever you have a better one: a network knows the terrain that it was trained on."
    )

    def data_parameters(self):
        raster = QgsProcessing.SourceType.TypeRaster
        return [
            explain(QgsProcessingParameterMultipleLayers("INPUT", "Coarse elevation models", raster), "The first one, the base, is made finer; the others help, if the model was trained with them. Drag them into the order of training."),
            explain(QgsProcessingParameterFile("MODEL", "Model file", fileFilter="ONNX model (*.onnx);;All files (*)"), "Written by Train model from chips with fine elevations."),
            explain(QgsProcessingParameterMultipleLayers("STACK", "Further rasters", raster, optional=True), "Imagery, indices, land cover and so on, in the order of training; each is warped to the result's pixels."),
            explain(QgsProcessingParameterRasterLayer("GRID", "Grid of the result", optional=True), "A raster whose extent, pixels and CRS the result gets. Empty: the base's extent and CRS.", True),
        ], [
            explain(QgsProcessingParameterRasterDestination("OUTPUT", "Fine elevation model"), "Heights in the base's unit; -9999 is nodata, where the base has none."),
            explain(QgsProcessingParameterRasterDestination("ERROR", "Expected error", optional=True, createByDefault=False), "One standard deviation of the error that the network expects of each height, by its errors on the validation chips; -9999 is nodata."),
            QgsProcessingOutputNumber("MEAN_CHANGE", "Mean change of the interpolated base"),
            QgsProcessingOutputString("PROVIDER", "What ran the model"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine import styles
        from ..engine.dem.downscale import downscale

        heights, error = data.layer("OUTPUT", "Fine elevation model"), data.layer("ERROR", "Expected error")
        done = downscale(
            data.rasters("INPUT"), data.file("MODEL"), heights, config, others=data.rasters("STACK"), grid_path=data.raster("GRID"), error=error,
            progress=progress,
        )  # fmt: skip
        styles.for_heights(heights, done.zfactor)
        if error:
            styles.for_expected_error(error, done.high_error, done.unit)
        return {"MEAN_CHANGE": done.mean_change, "PROVIDER": done.provider}
