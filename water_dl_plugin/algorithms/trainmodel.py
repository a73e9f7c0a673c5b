"""trainmodel: chips folder of any task -> model file and report."""

from __future__ import annotations

from qgis.core import QgsProcessingOutputNumber, QgsProcessingParameterFile, QgsProcessingParameterFileDestination

from .. import packages
from ..engine.nets import TRAINERS
from ..engine.settings import TrainConfig
from .base import TRAIN, WaterAlgorithm, explain


class TrainModel(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "trainmodel", "Train model", TRAIN, TrainConfig, ("run", "train", "report")
    TAGS = ("network", "unet", "linknet", "random forest", "svm", "onnx", "segmentation")
    HELP = (
        "Trains a network on a chips folder and writes it as one ONNX file that knows its bands, normalisation and classes. The log shows "
        "loss and agreement after each epoch. Cancel stops within a batch and keeps the best model so far; a run that was killed goes on "
        "where it was when started again with the same chips and settings. A random forest or a support vector machine on single pixels, to "
        "compare with, is trained, mapped and assessed in the same way."
    )

    def data_parameters(self):
        chips = QgsProcessingParameterFile("CHIPS", "Chips folder", QgsProcessingParameterFile.Behavior.Folder)
        settings = QgsProcessingParameterFile("SETTINGS", "Settings file", fileFilter="Settings (*.json);;All files (*)", optional=True)
        return [
            explain(chips, "Folder written by Export chips, or by ArcGIS ('Classified Tiles')."),
            explain(settings, "Settings as JSON, e.g. the best ones that Tune model found. Those in the file take the place of this form's; the log says which."),
        ], [
            explain(QgsProcessingParameterFileDestination("OUTPUT", "Model file", "ONNX model (*.onnx)"), "The weights of a network to go on training from are put beside it as .safetensors."),
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "Learning curves, confusion matrix, worst and best validation chips, settings: one file to keep or send."),
            QgsProcessingOutputNumber("BEST_EPOCH", "Best epoch"),
            QgsProcessingOutputNumber("FIGURE", "Monitored figure at the best epoch"),
        ]  # fmt: skip

    def work(self, data, config, progress):
        if data.file("SETTINGS"):
            config = config.replaced_by(data.file("SETTINGS"), progress)
        if config.architecture in TRAINERS:
            packages.require("baselines")
        from ..engine.train import train

        run = train(data.file("CHIPS"), data.output("OUTPUT"), config, progress, data.output("REPORT"))
        return {"FIGURE": run.best_figure, **({} if run.best_epoch is None else {"BEST_EPOCH": run.best_epoch})}
