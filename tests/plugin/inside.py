"""A Python process with QGIS in it, which does what it is told line by line: started once, so that many tests cost one start of QGIS,
and in a process of its own, so that nothing that QGIS does to GDAL or Qt reaches other tests.

Each line in is JSON, {"algorithm": id, "parameters": {...}} or {"code": python}; each line out says what came of it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what libraries print must not get between
os.dup2(2, 1)

from qgis.core import QgsApplication, QgsProcessingContext, QgsProcessingException, QgsProcessingFeedback, QgsProject  # noqa: E402

application = QgsApplication([], True)  # with widgets: forms are looked at, too
application.initQgis()
sys.path.append(os.path.join(QgsApplication.pkgDataPath(), "python", "plugins"))

import processing  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402

from water_dl_plugin.plugin import WaterPlugin  # noqa: E402

Processing.initialize()
plugin = WaterPlugin(None)
plugin.initProcessing()


class Log(QgsProcessingFeedback):
    """Keeps what is told."""

    def __init__(self):
        super().__init__(False)
        self.lines, self.progress = [], []
        self.progressChanged.connect(self.progress.append)

    def pushInfo(self, text):
        self.lines.append(text)

    def pushWarning(self, text):
        self.lines.append(text)

    def reportError(self, text, fatal=False):
        self.lines.append(text)


def run(algorithm, parameters):
    log = Log()
    try:
        results = processing.run(algorithm, parameters, feedback=log)
    except QgsProcessingException as error:
        return {"refused": str(error), "log": log.lines}
    return {"results": results, "log": log.lines, "progress": log.progress}


def answer(task):
    if "code" not in task:
        return run(task["algorithm"], task["parameters"])
    names = dict(globals(), task=task, answer=None, context=QgsProcessingContext())
    exec(compile(task["code"], "<test>", "exec"), names)
    QgsProject.instance().clear()
    return {"answer": names["answer"]}


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            told = answer(json.loads(line))
        except BaseException:
            told = {"broken": traceback.format_exc()}
        answers.write(json.dumps(told, default=str) + "\n")
        answers.flush()
    plugin.unload()
    os._exit(0)  # QGIS is left as it is: taking it down is not what is tested here
