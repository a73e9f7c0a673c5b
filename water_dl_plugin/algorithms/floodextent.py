"""floodextent: elevation model -> water depth and flood extent."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ..engine.settings import FloodConfig
from .base import MAP, WaterAlgorithm, explain


class FloodExtent(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG = "floodextent", "Flood extent", MAP, FloodConfig
    TAGS = ("inundation", "bathtub", "hand", "height above nearest drainage", "depth", "elevation", "dem")
    HELP = (
        "Floods an elevation model, in one of two simple ways. Bathtub: a level water surface; with seeds (a river, a lake, the coast) only ground that "
        "hangs together with them is flooded, not every hollow behind a dam. HAND: each cell is compared with the stream cell that its water runs to "
        "(height above the nearest drainage, Renn\u00f3 et al. 2008, Nobre et al. 2011), and is flooded where it lies less than the stage above it. Neither knows how "
        "much water there is or how fast it flows: they show what an elevation model makes of a given level. Depths are in the unit of the elevation model."
    )

    def data_parameters(self):
        anything = [QgsProcessing.SourceType.TypeVectorAnyGeometry]
        return [
            explain(QgsProcessingParameterRasterLayer("INPUT", "Elevation model"), "Its first band. Voids stay nodata; water finds its way through those that data encloses."),
            explain(QgsProcessingParameterFeatureSource("SEEDS", "Seeds", anything, optional=True), "Only for bathtub: lines, polygons or points from which the water comes. Empty: all ground below the level is flooded."),
            explain(QgsProcessingParameterFeatureSource("STREAMS", "Streams", anything, optional=True), "Only for hand: lines or polygons of the drainage. Empty: the elevation model's own, from a contributing area on."),
        ], [
            explain(QgsProcessingParameterRasterDestination("OUTPUT", "Flood extent", optional=True), "Class raster: 0 dry, 1 water, 255 nodata. Vectorize water makes polygons of it."),
            explain(QgsProcessingParameterRasterDestination("DEPTH", "Water depth", optional=True), "In the unit of the elevation model; 0 is dry, -9999 nodata."),
            explain(QgsProcessingParameterRasterDestination("HAND", "Height above nearest drainage", optional=True, createByDefault=False), "Only for hand, which does not depend on the stage; -9999 is nodata."),
            QgsProcessingOutputNumber("AREA_KM2", "Flooded area in km²"),
            QgsProcessingOutputNumber("MEAN_DEPTH", "Mean depth of the flooded area"),
            QgsProcessingOutputNumber("MAX_DEPTH", "Greatest depth"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine import styles
        from ..engine.flood.extent import CLASSES, flood_extent

        extent, depth = data.layer("OUTPUT", "Flood extent"), data.layer("DEPTH", "Water depth")
        hand = data.layer("HAND", "Height above nearest drainage")
        done = flood_extent(
            data.raster("INPUT"), config, output=extent, depth=depth, hand=hand, seeds=data.vector("SEEDS"), streams=data.vector("STREAMS"),
            progress=progress,
        )  # fmt: skip
        if extent:
            styles.for_classes(extent, CLASSES)
        if depth:
            styles.for_water_depth(depth, done.max_depth, done.unit)
        if hand:
            styles.for_above_drainage(hand, config.stage, done.unit)
        for line in done.lines():
            progress(1, line)
        return done.numbers()
