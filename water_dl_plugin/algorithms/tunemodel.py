"""tunemodel: chips folder -> the settings to train with, found by trying."""

from __future__ import annotations

from qgis.core import QgsProcessingOutputNumber, QgsProcessingParameterFile, QgsProcessingParameterFileDestination

from .. import packages
from ..engine.nets import TRAINERS
from ..engine.settings import TuneConfig
from ..pip_process import interpreter
from .base import TRAIN, WaterAlgorithm, explain


class TuneModel(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "tunemodel", "Tune model", TRAIN, TuneConfig, ("run", "train", "report", "tune")
    TAGS = ("optuna", "hyperparameter", "search", "settings", "learning rate")
    HELP = (
        "Finds good settings for Train model: it trains many times for a short while, each time with other settings, and looks at the "
        "validation chips. The first training has the defaults; the next ones are drawn at random; later ones are chosen near what "
        "worked. The result is a file of settings that Train model takes ('Settings file'), and a report that shows which settings "
        "mattered. Each training is a program of its own beside QGIS, so a training that runs out of memory does no harm. Cancel ends "
        "them at once and keeps the best settings so far. Keep the study, and a later run goes on where this one ended, also after a crash."
    )

    def data_parameters(self):
        chips = QgsProcessingParameterFile("CHIPS", "Chips folder", QgsProcessingParameterFile.Behavior.Folder)
        return [explain(chips, "Folder written by Export chips, or by ArcGIS ('Classified Tiles').")], [
            explain(QgsProcessingParameterFileDestination("OUTPUT", "Best settings", "Settings (*.json)"), "For 'Settings file' of Train model: the network, the fixed settings and those that were searched. The number of epochs is not among them: the final training may be longer."),
            explain(QgsProcessingParameterFileDestination("STUDY", "Study", "Study (*.sqlite)", optional=True), "All trials, a SQLite file. If it is there already, the search goes on with it; it must be of the same chips and settings."),
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "Course of the search, what mattered, every trial: one file to keep or send."),
            QgsProcessingOutputNumber("BEST_TRIAL", "Best trial"),
            QgsProcessingOutputNumber("FIGURE", "Monitored figure of the best trial"),
            QgsProcessingOutputNumber("TRIALS", "Trials in the study"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        if config.architecture in TRAINERS:
            packages.require("baselines")
        from ..engine.tune.search import tune

        paths = data.file("CHIPS"), data.output("OUTPUT")
        found = tune(*paths, config, progress, data.output("STUDY"), data.output("REPORT"), str(interpreter()))
        return {"BEST_TRIAL": found.best.number, "FIGURE": found.best.figure, "TRIALS": len(found.trials)}
