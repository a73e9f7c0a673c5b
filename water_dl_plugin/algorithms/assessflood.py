"""assessflood: flood maps and a reference -> figures."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import AssessFloodConfig
from .base import ASSESS, WaterAlgorithm, explain

_NUMBERS = (
    ("POD", "Probability of detection"), ("FAR", "False alarm ratio"), ("CSI", "Critical success index (IoU)"), ("BIAS", "Bias: map through reference"),
    ("F1", "F1"), ("MAP_KM2", "Flooded area of the map in km²"), ("REFERENCE_KM2", "Flooded area of the reference in km²"),
    ("DEPTH_RMSE_M", "RMSE of depths in m"), ("DEPTH_MAE_M", "MAE of depths in m"), ("DEPTH_BIAS_M", "Bias of depths in m"),
)  # fmt: skip


class AssessFlood(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "assessflood", "Assess flood map", ASSESS, AssessFloodConfig, ("report",)
    TAGS = ("inundation", "pod", "far", "csi", "verification", "hits", "misses", "false alarms", "depth")
    HELP = (
        "Compares flood maps with a reference: another model's depths, a map from a satellite scene, a flood made with a better elevation model. Each may be a "
        "raster of depths, classes or probabilities, on any grid. Gives hits, misses and false alarms, probability of detection, false alarm ratio, "
        "critical success index, bias, F1, the flooded areas on the ellipsoid, and the errors of depth where both have depths. Several maps are compared on the "
        "same pixels, so that their figures can be set side by side. Leave permanent water out: it is easily hit and makes figures look good."
    )

    def data_parameters(self):
        raster, polygons = QgsProcessing.SourceType.TypeRaster, QgsProcessing.SourceType.TypeVectorPolygon
        return [
            explain(QgsProcessingParameterMultipleLayers("MAPS", "Flood maps", raster), "One or more rasters of depths in m, classes or probabilities. Other grids are brought to the reference's: extents by the nearest pixel, depths bilinearly."),
            explain(QgsProcessingParameterRasterLayer("REFERENCE", "Reference"), "What is taken for true, as depths in m, classes or probabilities."),
            explain(QgsProcessingParameterMapLayer("PERMANENT", "Permanent water", optional=True, types=[polygons, raster]), "Rivers and lakes, polygons or a raster that is not 0 there: left out."),
            explain(QgsProcessingParameterFeatureSource("AREA", "Area of interest", [polygons], optional=True), "Only what lies inside these polygons counts."),
        ], [
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "All figures, and a map of hits, misses and false alarms for each flood map."),
            explain(QgsProcessingParameterFileDestination("CSV", "Table", "CSV files (*.csv)", optional=True, createByDefault=False), "A line per map."),
            explain(QgsProcessingParameterFileDestination("JSON", "Figures as JSON", "JSON files (*.json)", optional=True, createByDefault=False), "All figures, for programs."),
            explain(QgsProcessingParameterRasterDestination("OUTPUT", "Agreement", optional=True, createByDefault=False), "Class raster on the reference's grid, a band per map: 0 correct negative, 1 hit, 2 miss, 3 false alarm, 255 not compared."),
            QgsProcessingOutputString("BEST", "Map with the highest critical success index"),
            *(QgsProcessingOutputNumber(name, f"{text} (first map)") for name, text in _NUMBERS),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine import styles
        from ..engine.flood.assess import assess_flood
        from ..engine.flood.scores import AGREEMENT

        agreement = data.layer("OUTPUT", "Flood map agreement")
        found = assess_flood(
            data.rasters("MAPS"), data.raster("REFERENCE"), config, area=data.vector("AREA"), permanent=data.labels("PERMANENT"), agreement=agreement,
            report=data.output("REPORT"), csv=data.output("CSV"), json_path=data.output("JSON"), progress=progress,
        )  # fmt: skip
        if agreement:
            styles.for_classes(agreement, AGREEMENT)
        for score in found.scores:
            progress(1, score.line())
        return {"BEST": found.best.name, **{name: value for name, value in found.numbers().items() if value is not None}}
