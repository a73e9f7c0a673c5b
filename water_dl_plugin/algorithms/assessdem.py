"""assessdem: a DEM and a reference -> figures of its heights, beside those of plain interpolation."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import AssessDemConfig
from .base import ASSESS, WaterAlgorithm, explain

_NUMBERS = (
    ("PIXELS", "Pixels compared"), ("RMSE", "RMSE in m"), ("MAE", "Mean absolute error in m"), ("BIAS", "Mean error in m"), ("STD", "Standard deviation of the errors in m"),
    ("NMAD", "NMAD in m"), ("LE90", "90th percentile of the absolute error in m"), ("R2", "R²"), ("MINIMUM", "Lowest error in m"), ("MAXIMUM", "Highest error in m"),
    ("SLOPE_RMSE", "RMSE of the slope in degrees"), ("SLOPE_MAE", "Mean absolute error of the slope in degrees"), ("SLOPE_BIAS", "Mean error of the slope in degrees"),
    ("ASPECT_RMSE", "RMSE of the aspect in degrees"), ("ASPECT_MAE", "Mean absolute error of the aspect in degrees"),
    ("BASELINE_RMSE", "RMSE of the best interpolation in m"), ("IMPROVEMENT", "By how many per cent the RMSE is smaller than that"),
    ("SHIFT_EAST_M", "Shift of the DEM to the east in m"), ("SHIFT_NORTH_M", "Shift of the DEM to the north in m"), ("SHIFT_PX", "Shift in pixels of the DEM"),
    ("OFFSET_M", "Median height above the reference in m"),
)  # fmt: skip


class AssessDem(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "assessdem", "Assess DEM", ASSESS, AssessDemConfig, ("report",)
    TAGS = ("dem", "elevation", "accuracy", "rmse", "le90", "nmad", "slope", "coregistration")
    HELP = (
        "Compares an elevation model with a better one, the reference, pixel by pixel on the grid of the reference: RMSE, MAE, bias, standard "
        "deviation, LE90, NMAD, R², errors of slope and aspect, for all pixels, by slope and by land class. Beside it stand the coarse elevation "
        "models that it was made from, interpolated in the plain ways (nearest, bilinear, cubic): a finer model that is no better than these has "
        "added nothing. Tells how far the rasters are shifted against each other, sideways and in height. Heights are in metres."
    )

    def data_parameters(self):
        raster, polygons = QgsProcessing.SourceType.TypeRaster, [QgsProcessing.SourceType.TypeVectorPolygon]
        return [
            explain(QgsProcessingParameterRasterLayer("INPUT", "DEM"), "The elevation model to assess, e.g. the output of Downscale DEM. On another grid than the reference's it is interpolated (cubic), or averaged where it is finer."),
            explain(QgsProcessingParameterRasterLayer("REFERENCE", "Reference DEM"), "Heights that count as true, e.g. from lidar, which the training has not seen. All figures are for its pixels."),
            explain(QgsProcessingParameterMultipleLayers("BASELINES", "DEMs to compare with", raster, optional=True), "The coarse elevation models that went in, and others: each is interpolated to the reference's grid and assessed in the same pixels."),
            explain(QgsProcessingParameterRasterLayer("LANDCOVER", "Land cover", optional=True), "A class raster, in any CRS: figures are given for each class, too."),
            explain(QgsProcessingParameterFeatureSource("AREA", "Area of interest", polygons, optional=True), "Only pixels inside these polygons count.", True),
        ], [
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "All figures, maps and plots in one file."),
            explain(QgsProcessingParameterFileDestination("CSV", "Table", "CSV files (*.csv)", optional=True, createByDefault=False), "A line for each raster, for all pixels, each slope class and each land class."),
            explain(QgsProcessingParameterFileDestination("JSON", "Figures as JSON", "JSON files (*.json)", optional=True, createByDefault=False), "All figures, for programs."),
            explain(QgsProcessingParameterRasterDestination("ERROR", "Error raster", optional=True, createByDefault=False), "DEM minus reference in m: above 0 the DEM is too high."),
            *(QgsProcessingOutputNumber(name, text) for name, text in _NUMBERS),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine.dem.quality.assess import assess_dem

        found = assess_dem(
            data.raster("INPUT"), data.raster("REFERENCE"), config, baselines=data.rasters("BASELINES"), landcover=data.raster("LANDCOVER"),
            area=data.vector("AREA"), report=data.output("REPORT"), csv=data.output("CSV"), json_path=data.output("JSON"),
            error=data.layer("ERROR", "Height error"), progress=progress,
        )  # fmt: skip
        for line in found.lines():
            progress(1, line)
        return {name: value for name, value in found.numbers().items() if value is not None}
