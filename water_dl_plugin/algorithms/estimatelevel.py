"""estimatelevel: dated scenes and a model, or dated water rasters and a curve or elevation model -> water levels."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import EstimateLevelConfig
from .base import MAP, WaterAlgorithm, explain
from .level_inputs import gathered, scene_inputs


class EstimateLevel(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "estimatelevel", "Estimate water level", MAP, EstimateLevelConfig, ("report",)
    TAGS = ("reservoir", "dam", "gauge", "stage", "time series", "area-level curve", "hypsometry", "shoreline", "temporal")
    HELP = (
        "Tells the water level of reservoirs at the date of every scene, with an interval. Give what you have, each alone or together:<ul>"
        "<li>scenes and a model of Train model: levels by the network;</li>"
        "<li>water rasters of many dates (from Classify raster) and gauge readings, a known stage-area table, or an elevation model of the dry basin: levels from "
        "the water's area;</li>"
        "<li>water rasters and an elevation model: levels from its heights along the shoreline.</li></ul>"
        "Where two of these tell a level of the same day, their mean is given, too, weighted by how far each was off before (method 'combined'). The layer holds one "
        "feature per reservoir, date and method; its dates are real ones: QGIS's temporal controller plays it. Levels that are to be doubted, say outside the range that "
        "the model has learnt, say why in the field 'flags'."
    )

    def data_parameters(self):
        polygons, raster, vector = (
            QgsProcessing.SourceType.TypeVectorPolygon,
            QgsProcessing.SourceType.TypeRaster,
            QgsProcessing.SourceType.TypeVector,
        )
        table = "CSV files (*.csv)"
        return [
            *scene_inputs(),
            explain(QgsProcessingParameterFile("MODEL", "Model file", optional=True, fileFilter="ONNX model (*.onnx);;All files (*)"), "Written by Train model from chips of Export level chips. It needs scenes of the sensor that it was trained with."),
            explain(QgsProcessingParameterFeatureSource("RESERVOIRS", "Reservoirs", [polygons]), "Polygons, with the names that the model and the gauge table use. A reservoir that the model does not know is estimated, too, and flagged."),
            explain(QgsProcessingParameterMultipleLayers("WATER", "Water rasters", raster, optional=True), "Class or probability rasters of many dates, with the date in their names, e.g. from Classify raster."),
            explain(QgsProcessingParameterFile("WATER_FOLDER", "Folder of water rasters", QgsProcessingParameterFile.Behavior.Folder, optional=True), "Instead of, or with, single water rasters."),
            explain(QgsProcessingParameterFeatureSource("GAUGE", "Gauge readings", [vector], optional=True), "Table or layer with date, level and, for several reservoirs, their names. For the curve of area and level, for charts and figures; the network's levels do not depend on it."),
            explain(QgsProcessingParameterRasterLayer("DEM", "Elevation model", optional=True), "Of the basin when it was dry, or nearly so. With gauge readings its heights are brought to the gauge's zero; without, levels are heights of the elevation model. Needs water rasters."),
            explain(QgsProcessingParameterFile("CURVES", "Stage-area table", optional=True, fileFilter=table), "Known curves: a CSV with the columns reservoir (not for a single one), level_m and area_m2. Needs water rasters."),
        ], [
            explain(QgsProcessingParameterFeatureSink("OUTPUT", "Water levels", QgsProcessing.SourceType.TypeVectorPolygon, optional=True), "The reservoirs' polygons, one feature per reservoir, date and method."),
            explain(QgsProcessingParameterFileDestination("CSV", "Table", table, optional=True, createByDefault=False), "The same as a table."),
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "Charts of levels over time with intervals and, where a gauge is known, errors and figures."),
            explain(QgsProcessingParameterFileDestination("CURVES_OUT", "Curves", table, optional=True, createByDefault=False), "The curves of area and level that were used, as CSV; can be given as stage-area table the next time."),
            explain(QgsProcessingParameterFileDestination("DROPPED", "Left out", table, optional=True, createByDefault=False), "What was left out, and why."),
            QgsProcessingOutputNumber("COUNT", "Number of levels"),
            QgsProcessingOutputNumber("FLAGGED", "Of these, flagged for more than having been trained with"),
            QgsProcessingOutputNumber("DROPPED_COUNT", "Left out"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine.level import layer
        from ..engine.level.estimate import Inputs, estimate

        files, folder, table = gathered(data)
        inputs = Inputs(
            files, folder, table, data.file("MODEL"), data.rasters("WATER"), data.file("WATER_FOLDER"), data.vector("GAUGE"), data.raster("DEM"), data.file("CURVES"),
        )  # fmt: skip
        found = estimate(
            data.vector("RESERVOIRS"), inputs, config, csv=data.output("CSV"), report=data.output("REPORT"), curves=data.output("CURVES_OUT"),
            dropped=data.output("DROPPED"), progress=progress,
        )  # fmt: skip
        data.polygons(
            "OUTPUT", "Water levels", layer.features(found.estimates, found.reservoirs), layer.FIELDS, found.crs,
            lambda path: layer.write_style(path, found.estimates),
        )  # fmt: skip
        return {
            "COUNT": len(found.estimates),
            "FLAGGED": sum(bool(set(e.flags) - {"seen"}) for e in found.estimates),
            "DROPPED_COUNT": len(found.dropped),
        }
