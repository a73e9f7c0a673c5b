"""diagnostics: a text to paste into a bug report."""

from __future__ import annotations

from qgis.core import QgsProcessingOutputString, QgsProcessingParameterFileDestination

from .. import report_bug
from ..engine.config import Config
from .base import DEPLOY, WaterAlgorithm, explain


class Diagnostics(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG = "diagnostics", "Diagnostics", DEPLOY, Config
    TAGS = ("bug", "versions", "gpu", "problem")
    HELP = "Versions, packages, processors and paths as a text to copy into a bug report. Your user name is left out of the paths."

    def data_parameters(self):
        output = QgsProcessingParameterFileDestination("OUTPUT", "Text file", "Text files (*.txt)", optional=True, createByDefault=False)
        return [], [explain(output, "The same text as a file."), QgsProcessingOutputString("TEXT", "The text")]

    def work(self, data, config, progress):
        from ..engine.tables import write_bytes

        text = report_bug.diagnostics()
        for line in text.splitlines():
            progress(1, line or " ")
        if path := data.output("OUTPUT"):
            write_bytes(path, text.encode("utf-8"))
        return {"TEXT": text}
