"""The dated scenes that algorithms of water levels take: files, a folder, a table."""

from __future__ import annotations

from qgis.core import QgsProcessing, QgsProcessingParameterFile, QgsProcessingParameterMultipleLayers

from .base import Data, explain


def scene_inputs() -> list:
    """Definitions of INPUT, FOLDER and TABLE; `gathered` reads them."""
    kind = QgsProcessingParameterFile.Behavior
    return [
        explain(QgsProcessingParameterMultipleLayers("INPUT", "Scenes", QgsProcessing.SourceType.TypeRaster, optional=True), "Dated rasters with the same bands. The date is found in the name (Sentinel-1, Sentinel-2, Landsat, Planet, or like 2020-08-31), the folder's name, or the metadata."),
        explain(QgsProcessingParameterFile("FOLDER", "Folder of scenes", kind.Folder, optional=True), "Instead of, or with, single scenes: all rasters in it and in the folders below."),
        explain(QgsProcessingParameterFile("TABLE", "Table of scenes", kind.File, optional=True, fileFilter="Tables (*.csv *.tsv *.txt *.xlsx *.ods *.gpkg *.dbf);;All files (*)"), "Instead of, or with, the others: a table with the columns path (relative to the table, or absolute), date, and perhaps quality (path of a quality raster)."),
    ]  # fmt: skip


def gathered(data: Data) -> tuple[list[str], str, str]:
    """(files, folder, table), as `engine.level.inputs.scenes.gather` takes them."""
    return data.rasters("INPUT"), data.file("FOLDER"), data.file("TABLE")
