"""vectorizewater: class raster -> lake polygons."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import VectorizeConfig
from .base import MAP, WaterAlgorithm, explain


class VectorizeWater(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG = "vectorizewater", "Vectorize water", MAP, VectorizeConfig
    TAGS = ("polygonize", "lake", "outline", "shore", "smooth", "inventory", "area", "change")
    HELP = (
        "Makes polygons of the water in a class raster (or in a raster of probabilities, by a threshold): smooth outlines that keep each lake's "
        "area and never cross, islands as holes, a lake in one piece however large the raster is. Each polygon knows its area and perimeter on the "
        "ellipsoid, compactness (4 pi area / perimeter\u00b2, Polsby and Popper 1991), size class, whether it touches the raster's edge or nodata, and "
        "with further rasters its elevation and how sure the model was. With earlier polygons it tells what is new, grown, shrunk, the same and gone."
    )

    def data_parameters(self):
        polygons = QgsProcessing.SourceType.TypeVectorPolygon
        return [
            explain(QgsProcessingParameterRasterLayer("INPUT", "Class or probability raster"), "Output of Classify raster or Refine water, or another class raster."),
            explain(QgsProcessingParameterRasterLayer("PROBABILITY", "Probability raster", optional=True), "For the mean and least probability of each polygon. A probability raster as input needs none."),
            explain(QgsProcessingParameterRasterLayer("DEM", "Elevation model", optional=True), "In metres; for the mean elevation of each polygon. Any grid and CRS."),
            explain(QgsProcessingParameterFeatureSource("PREVIOUS", "Earlier polygons", [polygons], optional=True), "Say last year's: each polygon is then new, grown, shrunk or the same, and those that are gone are written, too. Where lakes split or merge, each inherits its share of the old areas."),
        ], [
            explain(QgsProcessingParameterFeatureSink("OUTPUT", "Lakes", QgsProcessing.SourceType.TypeVectorPolygon), "A GeoPackage, another vector file, a database table or a layer in memory."),
            QgsProcessingOutputNumber("COUNT", "Number of polygons"),
            QgsProcessingOutputNumber("AREA_M2", "Their area in m\u00b2"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine import styles
        from ..engine.lakes.tables import size_classes
        from ..engine.vectorize.run import vectorize

        previous = data.vector("PREVIOUS")
        lakes = vectorize(
            data.raster("INPUT"),
            config,
            probability=data.raster("PROBABILITY"),
            dem=data.raster("DEM"),
            previous=previous,
            progress=progress,
        )
        data.polygons(
            "OUTPUT", "Lake changes" if previous else "Lakes", lakes, lakes.fields, lakes.crs,
            lambda path: styles.for_lakes(path, size_classes(config), bool(previous)),
        )  # fmt: skip
        return {"COUNT": lakes.count, "AREA_M2": lakes.area_m2}
