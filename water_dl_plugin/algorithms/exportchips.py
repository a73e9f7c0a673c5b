"""exportchips: scenes and labels -> chips folder."""

from __future__ import annotations

import os

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMultipleLayers,
)

from ..engine.settings import ChipsConfig
from .base import PREPARE, WaterAlgorithm, explain


class ExportChips(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG = "exportchips", "Export chips", PREPARE, ChipsConfig
    TAGS = ("training data", "tiles", "samples", "labels")
    HELP = (
        "Cuts scenes and their labels into chips to train a network with. Labels are polygons, lines or points with a class field, or a "
        "class raster. A few dozen polygons of each class are a good start: draw what is easy and what is hard, and leave unlabelled what "
        "you can't tell. The folder can also be opened in ArcGIS ('Classified Tiles'). Its chips.gpkg is a layer with one footprint per chip.\n\n"
        "With the target 'values' the chips teach how a coarse elevation model becomes a fine one: the scenes are coarse elevation models of "
        "one place, the labels are the fine one, further rasters (imagery, indices, radar, rasterised maps) may help. All of them are brought to the "
        "fine one's grid and level. Water, where heights are no terrain, is left out."
    )

    def data_parameters(self):
        raster, anything = QgsProcessing.SourceType.TypeRaster, QgsProcessing.SourceType.TypeVectorAnyGeometry
        return [
            explain(QgsProcessingParameterMultipleLayers("INPUT", "Scenes, or coarse elevation models", raster), "One or several rasters with the same bands. Chips are cut from each. With the target 'values': coarse elevation models of one place; the first one is the one to be made finer."),
            explain(QgsProcessingParameterMapLayer("LABELS", "Labels, or fine elevation model", types=[anything, raster]), "Polygons, lines or points, or a class raster, in any CRS. With the target 'values': the fine elevation model."),
            explain(QgsProcessingParameterMultipleLayers("STACK", "Further rasters of the stack", raster, optional=True), "Rasters whose bands join those of each scene, e.g. a DEM; warped to the scene's grid where they differ.", True),
            explain(QgsProcessingParameterMapLayer("WATER", "Water mask", types=[QgsProcessing.SourceType.TypeVectorPolygon, raster], optional=True), "Only with the target 'values': polygons of water, or a raster that is not 0 there. Heights there are not learnt from.", True),
            explain(QgsProcessingParameterFeatureSource("AREA", "Area of interest", [QgsProcessing.SourceType.TypeVectorPolygon], optional=True), "Only labels inside these polygons are used.", True),
        ], [
            explain(QgsProcessingParameterFolderDestination("OUTPUT", "Chips folder"), "A new folder; an older chips folder is replaced unless you append."),
            QgsProcessingOutputNumber("NUMBER", "Number of chips"),
            QgsProcessingOutputVectorLayer("FOOTPRINTS", "Footprints of the chips"),
            QgsProcessingOutputVectorLayer("TEST_AREA", "Blocks held out for test"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine.export import export

        folder = data.output("OUTPUT")
        manifest = export(
            data.rasters("INPUT"),
            data.labels("LABELS"),
            folder,
            config,
            stack=data.rasters("STACK"),
            area=data.vector("AREA"),
            water=data.labels("WATER"),
            progress=progress,
        )
        catalogue = os.path.join(folder, "chips.gpkg")
        footprints = f"{catalogue}|layername=chips"
        data.offer("FOOTPRINTS", footprints, "Chips", "chips.qml")
        return {
            "NUMBER": len(manifest.chips),
            "FOOTPRINTS": footprints,
            "TEST_AREA": f"{catalogue}|layername=blocks|subset=\"split\"='test'",
        }
