"""Run by the QGIS desktop (--code) for test_desktop.py: opens the dialog of an algorithm, presses Run, tells what was loaded, leaves."""

import json
import os
import time
import traceback

import processing
from qgis.core import QgsProject
from qgis.PyQt.QtCore import QTimer
from qgis.utils import iface

task = json.loads(os.environ["DESKTOP_TASK"])
told = {"finished": None, "layers": {}, "log": "", "trouble": ""}
started = time.time()


def guarded(step):
    def run():
        try:
            step()
        except Exception:
            told["trouble"] = traceback.format_exc()
            leave()

    return run


def open_dialog():
    global dialog
    dialog = processing.createAlgorithmDialog(task["algorithm"], task["parameters"])
    dialog.algorithmFinished.connect(lambda good, results: told.update(finished=bool(good)))
    dialog.show()
    QTimer.singleShot(500, guarded(press_run))


def press_run():
    told["title"] = dialog.windowTitle()
    dialog.runButton().click()
    wait()


def wait():
    done = told["finished"] is not None and (len(QgsProject.instance().mapLayers()) >= task["layers"] or told["finished"] is False)
    if not done and time.time() - started < task["seconds"]:
        return QTimer.singleShot(200, guarded(wait))
    for layer in QgsProject.instance().mapLayers().values():
        renderer = layer.renderer()
        classes = [[c.value, c.label] for c in renderer.classes()] if renderer.type() == "paletted" else None
        told["layers"][layer.name()] = {"renderer": renderer.type(), "classes": classes, "crs": layer.crs().authid()}
    dialog.close()
    leave()


def leave():
    with open(task["answer"], "w", encoding="utf-8") as file:
        json.dump(told, file)
    iface.newProject(False)  # leaving with layers loaded aborts QGIS 3.22
    QTimer.singleShot(300, iface.actionExit().trigger)


QTimer.singleShot(1500, guarded(open_dialog))
