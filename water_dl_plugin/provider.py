"""The Processing provider: id, name, icon, and the list of algorithms."""

from __future__ import annotations

import os

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms.assessclassification import AssessClassification
from .algorithms.assessdem import AssessDem
from .algorithms.assessflood import AssessFlood
from .algorithms.assesslevels import AssessLevels
from .algorithms.classifyraster import ClassifyRaster
from .algorithms.diagnostics import Diagnostics
from .algorithms.downscaledem import DownscaleDem
from .algorithms.estimatelevel import EstimateLevel
from .algorithms.exportchips import ExportChips
from .algorithms.exportlevelchips import ExportLevelChips
from .algorithms.floodextent import FloodExtent
from .algorithms.installpackages import InstallPackages
from .algorithms.lakestatistics import LakeStatistics
from .algorithms.modelinfo import ModelInfo
from .algorithms.refinewater import RefineWater
from .algorithms.trainmodel import TrainModel
from .algorithms.tunemodel import TuneModel
from .algorithms.vectorizewater import VectorizeWater

ALGORITHMS = (
    ExportChips,
    ExportLevelChips,
    TrainModel,
    TuneModel,
    ClassifyRaster,
    RefineWater,
    DownscaleDem,
    FloodExtent,
    EstimateLevel,
    VectorizeWater,
    AssessClassification,
    AssessDem,
    AssessFlood,
    AssessLevels,
    LakeStatistics,
    ModelInfo,
    InstallPackages,
    Diagnostics,
)


class WaterProvider(QgsProcessingProvider):
    def id(self) -> str:
        return "waterdl"

    def name(self) -> str:
        return "Water DL"

    def icon(self) -> QIcon:
        return QIcon(os.path.join(os.path.dirname(__file__), "resources", "icon.svg"))

    def svgIconPath(self) -> str:
        return os.path.join(os.path.dirname(__file__), "resources", "icon.svg")

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        return ["tif", "tiff"]

    def loadAlgorithms(self) -> None:
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
