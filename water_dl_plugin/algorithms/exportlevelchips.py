"""exportlevelchips: dated scenes, reservoirs and gauge readings -> chips folder."""

from __future__ import annotations

import os

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputNumber,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
)

from ..engine.settings import LevelChipsConfig
from .base import PREPARE, WaterAlgorithm, explain
from .level_inputs import gathered, scene_inputs


class ExportLevelChips(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG = "exportlevelchips", "Export level chips", PREPARE, LevelChipsConfig
    TAGS = ("reservoir", "dam", "gauge", "stage", "time series", "training data", "Sentinel-1", "Sentinel-2", "Landsat")
    HELP = (
        "Cuts what a network needs to learn water levels from satellite scenes: for each reservoir and each date that has a scene and a gauge reading, the "
        "piece of the scene around the reservoir, always on the same pixels, with the level beside it. Train model makes a model of it, Estimate water level "
        "applies that to new scenes.<ul>"
        "<li>Scenes are of one sensor: radar and optical scenes, or Landsat and Sentinel-2, go into folders of their own.</li>"
        "<li>Dates with too much cloud over a reservoir, or cut off by the scene's edge, are left out; what was left out, and why, is a table.</li>"
        "<li>Several reservoirs can teach one network: it learns depths above each one's datum. One with a short record gains by that.</li></ul>"
        "Some 50 dates are a start, 200 are good; they should show the reservoir full, empty and in between, in all seasons."
    )

    def data_parameters(self):
        polygons, vector = QgsProcessing.SourceType.TypeVectorPolygon, QgsProcessing.SourceType.TypeVector
        return [
            *scene_inputs(),
            explain(QgsProcessingParameterFeatureSource("RESERVOIRS", "Reservoirs", [polygons]), "Polygons of one or more reservoirs at their fullest, in any CRS."),
            explain(QgsProcessingParameterFeatureSource("GAUGE", "Gauge readings", [vector]), "Table (CSV, spreadsheet) or layer with date, level and, for several reservoirs, their names."),
        ], [
            explain(QgsProcessingParameterFolderDestination("OUTPUT", "Chips folder"), "A new folder; an older chips folder is replaced."),
            explain(QgsProcessingParameterFileDestination("DROPPED", "Left out", "CSV files (*.csv)", optional=True, createByDefault=False), "Table of the scenes, dates and readings that were left out, and why."),
            QgsProcessingOutputNumber("CHIPS", "Number of chips"),
            QgsProcessingOutputNumber("DROPPED_COUNT", "Left out"),
            QgsProcessingOutputVectorLayer("FOOTPRINTS", "Footprints of the chips"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine.level.chips.export import export

        folder = data.output("OUTPUT")
        manifest, dropped = export(
            *gathered(data),
            data.vector("RESERVOIRS"),
            data.vector("GAUGE"),
            folder,
            config,
            dropped_csv=data.output("DROPPED"),
            progress=progress,
        )
        footprints = f"{os.path.join(folder, 'chips.gpkg')}|layername=chips"
        data.offer("FOOTPRINTS", footprints, "Level chips", "chips.qml")
        return {"CHIPS": len(manifest.chips), "DROPPED_COUNT": len(dropped), "FOOTPRINTS": footprints}
