"""lakestatistics: lake polygons -> figures by size and elevation, and how they agree with an inventory."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import LakesConfig
from .base import ASSESS, WaterAlgorithm, explain

_NUMBERS = (
    ("COUNT", "Number of lakes"), ("AREA_KM2", "Total area in km²"), ("MEAN_KM2", "Mean area in km²"), ("MEDIAN_KM2", "Median area in km²"),
    ("LARGEST_KM2", "Largest area in km²"), ("REFERENCE_COUNT", "Lakes of the inventory"), ("REFERENCE_AREA_KM2", "Their area in km²"),
    ("FOUND", "Found lakes"), ("WHOLE", "Lakes found whole"), ("SPLIT", "Split lakes"), ("MERGED", "Merged lakes"), ("MISSED", "Missed lakes"),
    ("MERGING", "Lakes of the map that cover several of the inventory"), ("FALSE_LAKES", "False lakes"), ("RECALL", "Recall of lakes"),
    ("PRECISION", "Precision of lakes"), ("F1", "F1 of lakes"), ("IOU", "IoU of areas"), ("MATCHED_IOU", "IoU of the areas of matched lakes"),
    ("AREA_BIAS", "Area bias as a share"), ("ALONE", "Lakes that are one in both layers"), ("ALONE_AREA_BIAS", "Area bias of these"),
    ("ALONE_IOU", "Median IoU of these"), ("SMALLEST_WHOLE_M2", "Smallest lake found whole in m²"), ("LARGEST_MISSED_M2", "Largest missed lake in m²"),
)  # fmt: skip


class LakeStatistics(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "lakestatistics", "Lake statistics", ASSESS, LakesConfig, ("report",)
    TAGS = ("inventory", "size class", "elevation", "glacial lakes", "omission", "commission")
    HELP = (
        "Number and area of lakes by size class and by elevation band. Against an inventory, another polygon layer: which lakes were found, "
        "missed, split or merged, which are false, recall, precision and F1 by size, the smallest lake found whole, and the bias of areas. "
        "Areas are those on the ellipsoid, whatever the projection; invalid outlines are made valid, the layers themselves stay as they are."
    )

    def data_parameters(self):
        polygons = [QgsProcessing.SourceType.TypeVectorPolygon]
        return [
            explain(QgsProcessingParameterFeatureSource("INPUT", "Lakes", polygons), "Output of Vectorize water, or any layer with the outlines of lakes."),
            explain(QgsProcessingParameterFeatureSource("REFERENCE", "Inventory", polygons, optional=True), "Lakes to compare with. May have another CRS."),
            explain(QgsProcessingParameterRasterLayer("DEM", "Elevation model", optional=True), "Heights in m, in any CRS. A lake has the mean of its pixels."),
            explain(QgsProcessingParameterFeatureSource("AREA", "Area of interest", polygons, optional=True), "Where map and inventory are both complete. A lake counts, as a whole, when at least half of it lies inside."),
        ], [
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "All figures and plots in one file."),
            explain(QgsProcessingParameterFileDestination("CSV", "Table", "CSV files (*.csv)", optional=True, createByDefault=False), "A line for all lakes, for each size class and each elevation band."),
            explain(QgsProcessingParameterFileDestination("JSON", "Figures as JSON", "JSON files (*.json)", optional=True, createByDefault=False), "All figures, for programs."),
            explain(QgsProcessingParameterFeatureSink("MATCHES", "Matched lakes", QgsProcessing.SourceType.TypeVectorPolygon, optional=True, createByDefault=False), "With an inventory: its lakes as found, split, merged or missed, those of the map as right, merging or false (field match), in the CRS of the map."),
            *(QgsProcessingOutputNumber(name, text) for name, text in _NUMBERS),
        ]  # fmt: skip

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        if parameters.get("MATCHES") and not parameters.get("REFERENCE"):
            return False, "Matched lakes need an inventory: choose one (REFERENCE), or leave the layer of matched lakes (MATCHES) out."
        return super().checkParameterValues(parameters, context)

    def work(self, data, config, progress):
        from ..engine.lakes.statistics import MATCH_FIELDS, lake_statistics, match_style

        reference = data.vector("REFERENCE")
        found = lake_statistics(
            data.vector("INPUT"), config, reference=reference, dem=data.raster("DEM"), area=data.vector("AREA"),
            report=data.output("REPORT"), csv=data.output("CSV"), json_path=data.output("JSON"), progress=progress,
        )  # fmt: skip
        if reference:
            data.polygons("MATCHES", "Matched lakes", found.features(), MATCH_FIELDS, found.crs, match_style)
        for line in found.lines():
            progress(1, line)
        return {name: value for name, value in found.numbers().items() if value is not None}
