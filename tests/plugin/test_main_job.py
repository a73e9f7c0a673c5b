"""The main job through real programs: qgis_process, processing.run, batch, Cancel."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers

pytestmark = pytest.mark.qgis
STEPS = ("exportchips", "trainmodel", "classifyraster", "assessclassification")


@pytest.mark.parametrize("name", STEPS)
def test_each_step_ends_well_and_its_json_is_json(job, name):
    done = job.steps[name]
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["algorithm_details"]["id"] == f"waterdl:{name}" and told["results"]
    assert "Traceback" not in done.stderr


def test_the_folder_holds_what_was_asked_for_and_nothing_else(job):
    names = {path.name for path in job.out.iterdir()}
    made = {"chips", "water.onnx", "water.safetensors", "training.html", "water map.tif", "water map.tif.aux.xml", "water map.qml"}
    made |= {"probability.tif", "probability.qml", "assessment.html", "assessment.csv", "assessment.json"}
    assert names - {"probability.tif.aux.xml"} == made  # QGIS may write statistics there when it opens a raster
    assert {path.name for path in job.chips.iterdir()} >= {"images", "labels", "map.txt", "chips.json", "chips.gpkg"}


def test_class_raster_agrees_with_the_truth_where_it_was_not_trained(job, scene):
    classes, valid, transform = helpers.read_raster(job.classes)
    assert classes.dtype == np.uint8 and classes.shape == (1, 160, 200) and transform == scene.grid.transform and valid.all()
    found, truth = classes[0, :, 133:] == 1, scene.water[:, 133:]
    iou = (found & truth).sum() / (found | truth).sum()
    assert iou > 0.9
    results = json.loads(job.steps["assessclassification"].stdout)["results"]
    assert results["IOU"] == pytest.approx(iou, abs=0.02)  # it is told of the probabilities at the model's threshold
    assert helpers.load_json(job.json)["iou"][1] == pytest.approx(results["IOU"])


def test_probabilities_and_classes_are_of_one_pass(job):
    chance, _, _ = helpers.read_raster(job.probability)
    classes, _, _ = helpers.read_raster(job.classes)
    assert chance.dtype == np.float32 and 0 <= chance.min() < 0.3 and 0.7 < chance.max() <= 1
    assert np.array_equal(chance >= 0.5, classes == 1)


LAYER = """
from qgis.core import QgsRasterLayer
layer = QgsRasterLayer(task["path"], "x")
renderer = layer.renderer()
answer = {"valid": layer.isValid(), "type": renderer.type(), "nodata": layer.dataProvider().sourceNoDataValue(1), "bands": layer.bandCount(), "crs": layer.crs().authid()}
if renderer.type() == "paletted":
    answer["classes"] = [[c.value, c.label, c.color.name()] for c in renderer.classes()]
"""


def test_class_raster_opens_in_qgis_with_names_and_colours(job, inside):
    found = inside.do(LAYER, path=str(job.classes))
    assert found["valid"] and found["type"] == "paletted" and found["nodata"] == 255 and found["crs"] == "EPSG:32612"
    assert found["classes"] == [[0, "land", "#decdb0"], [1, "water", "#1f78b4"]]


def test_probability_raster_opens_styled(job, inside):
    found = inside.do(LAYER, path=str(job.probability))
    assert found["valid"] and found["type"] == "singlebandpseudocolor" and found["nodata"] == -1


# --- layers as objects, as the toolbox gives them

SAME_CHIPS = """
import processing
from qgis.core import QgsFeature, QgsProject, QgsRasterLayer, QgsVectorLayer
stored = QgsVectorLayer(task["labels"] + "|layername=labels", "stored", "ogr")
scene = QgsRasterLayer(task["scene"], "a scene")
assert stored.isValid() and scene.isValid()
stored.setSubsetString("role = 'train'")
drawn = QgsVectorLayer("MultiPolygon?crs=EPSG:4326&field=kind:string", "drawn just now", "memory")
for feature in stored.getFeatures():
    copy = QgsFeature(drawn.fields())
    copy.setGeometry(feature.geometry())
    copy["kind"] = feature["kind"]
    assert drawn.dataProvider().addFeature(copy)
layer = {"filtered": stored, "memory": drawn}[task["which"]]
QgsProject.instance().addMapLayers([layer, scene])
given = {"INPUT": [scene], "LABELS": layer if task["by"] == "object" else layer.id(), "CLASS_FIELD": "kind", "TILE_SIZE": 32, "STRIDE": 16, "BLOCK_SIZE": 64, "OUTPUT": task["out"]}
answer = processing.run("waterdl:exportchips", given, feedback=Log())["NUMBER"]
"""


@pytest.mark.parametrize("which", ["filtered", "memory"])
@pytest.mark.parametrize("by", ["object", "id"])
def test_layers_of_the_project_give_the_same_chips_as_files(job, scene, inside, tmp_path, which, by):
    number = inside.do(SAME_CHIPS, labels=scene.labels, scene=scene.raster, which=which, by=by, out=str(tmp_path / "chips"))
    made, wanted = (helpers.load_json(folder / "chips.json") for folder in (tmp_path / "chips", job.chips))
    assert number == len(made["chips"]) > 50 and made["chips"] == wanted["chips"]


SELECTED = """
import processing
from qgis.core import QgsFeature, QgsGeometry, QgsProcessingFeatureSourceDefinition, QgsProject, QgsRasterLayer, QgsRectangle, QgsVectorLayer
scene = QgsRasterLayer(task["scene"], "a scene")
areas = QgsVectorLayer("Polygon?crs=EPSG:32612", "areas", "memory")
box = scene.extent()
middle = box.center().x()
for left, right in ((box.xMinimum(), middle), (middle, box.xMaximum())):
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, box.yMinimum(), right, box.yMaximum())))
    areas.dataProvider().addFeature(feature)
areas.selectByIds([1])
QgsProject.instance().addMapLayer(areas)
area = QgsProcessingFeatureSourceDefinition(areas.id(), selectedFeaturesOnly=True) if task["selected"] else areas
processing.run("waterdl:classifyraster", {"INPUT": scene, "MODEL": task["model"], "AREA": area, "OUTPUT": task["out"], "THREADS": 1}, feedback=Log())
"""


@pytest.mark.parametrize("selected", [True, False])
def test_area_of_interest_may_be_the_selected_features(model, scene, inside, tmp_path, selected):
    inside.do(SELECTED, scene=scene.raster, model=model, selected=selected, out=str(tmp_path / "part.tif"))
    classes, _, _ = helpers.read_raster(tmp_path / "part.tif")
    assert (classes[0, :, 100:] == 255).all() == selected and (classes[0, :, :100] < 2).all()


UNSAVED = """
import processing
from qgis.core import QgsProject, QgsVectorLayer
labels = QgsVectorLayer(task["labels"] + "|layername=labels", "my labels", "ogr")
QgsProject.instance().addMapLayer(labels)
labels.startEditing()
labels.deleteFeature(next(labels.getFeatures()).id())
answer = run("waterdl:exportchips", {"INPUT": [task["scene"]], "LABELS": labels, "CLASS_FIELD": "kind", "TILE_SIZE": 32, "OUTPUT": task["out"]})
labels.rollBack()
"""


def test_unsaved_edits_are_not_overlooked(scene, inside, tmp_path):
    told = inside.do(UNSAVED, labels=scene.labels, scene=scene.raster, out=str(tmp_path / "chips"))
    assert "my labels has unsaved edits" in told["refused"] and "Save" in told["refused"]
    assert not list(tmp_path.iterdir())


# --- batch mode runs one algorithm object again and again

BATCH = """
from qgis.core import QgsApplication, QgsProcessingContext
algorithm = QgsApplication.processingRegistry().createAlgorithmById("waterdl:classifyraster")
context, answer = QgsProcessingContext(), []
for out, bands, threshold in task["rows"]:
    log = Log()
    results, ok = algorithm.run({"INPUT": task["scene"], "MODEL": task["model"], "BANDS": bands, "THRESHOLD": threshold, "OUTPUT": out, "THREADS": 1}, context, log)
    answer.append([ok, results, log.lines])
"""


def test_batch_goes_on_after_a_bad_row_and_rows_do_not_touch_each_other(model, scene, inside, tmp_path):
    rows = [
        [str(tmp_path / "1.tif"), "", None],
        [str(tmp_path / "2.tif"), "1-3", None],
        [str(tmp_path / "3.tif"), "", 0.999],
        [str(tmp_path / "4.tif"), "", None],
    ]
    told = inside.do(BATCH, scene=scene.raster, model=model, rows=rows)
    assert [ok for ok, _, _ in told] == [True, False, True, True]
    assert "wants 4 bands" in " ".join(told[1][2])
    assert sorted(path.name for path in tmp_path.glob("*.tif*") if "aux" not in path.name) == ["1.tif", "3.tif", "4.tif"]
    first, third, fourth = (helpers.read_raster(tmp_path / f"{n}.tif")[0] for n in (1, 3, 4))
    assert np.array_equal(first, fourth) and (third == 1).sum() < (first == 1).sum()


LOADED = """
import processing
from qgis.core import QgsProject
results = processing.runAndLoadResults("waterdl:classifyraster", {"INPUT": task["scene"], "MODEL": task["model"], "OUTPUT": task["out"], "PROBABILITY": task["chance"], "THREADS": 1}, feedback=Log())
answer = {}
for layer in QgsProject.instance().mapLayers().values():
    renderer = layer.renderer()
    answer[layer.name()] = [c.label for c in renderer.classes()] if renderer.type() == "paletted" else renderer.type()
"""


def test_loaded_results_have_names_and_styles(model, scene, inside, tmp_path):
    found = inside.do(LOADED, scene=scene.raster, model=model, out=str(tmp_path / "a.tif"), chance=str(tmp_path / "b.tif"))
    assert found == {"Water map": ["land", "water"], "Probability of water": "singlebandpseudocolor"}


# --- Cancel

CANCEL = """
import threading, time
import processing
from qgis.core import QgsProcessingException

class Impatient(Log):
    pressed = None

    def press(self):
        if self.pressed is None:
            self.pressed = time.time()
            self.cancel()

    def pushInfo(self, text):
        super().pushInfo(text)
        if task["after"] and text.startswith(task["after"]):
            threading.Timer(0.05, self.press).start()  # from another thread, as the desktop's button does

log = Impatient()
if not task["after"]:
    log.progressChanged.connect(lambda percent: percent > 1 and log.press())
try:
    processing.run(task["algorithm"], task["parameters"], feedback=log)
    answer = {"refused": "", "seconds": 0}
except QgsProcessingException as error:
    answer = {"refused": str(error), "seconds": time.time() - log.pressed}
"""


def test_cancel_of_training_is_heard_and_keeps_the_best_model(job, model, scene, inside, tmp_path):
    given = {
        "CHIPS": str(job.chips),
        "ENCODER": "resnet18",
        "EPOCHS": 500,
        "BATCH_SIZE": 4,
        "LEARNING_RATE": 0.002,
        "THREADS": 1,
        "OUTPUT": str(tmp_path / "m.onnx"),
        "REPORT": str(tmp_path / "m.html"),
    }
    told = inside.do(CANCEL, algorithm="waterdl:trainmodel", parameters=given, after="Epoch 2/")
    assert "Cancelled" in told["refused"] and "best model so far" in told["refused"]
    assert told["seconds"] < 30  # a few seconds on a quiet machine
    assert {"m.onnx", "m.safetensors", "m.html"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads(inside.run("modelinfo", MODEL=str(tmp_path / "m.onnx")).results["INFO"])["training"]["epochs"] < 20


def test_cancel_of_training_keeps_nothing_if_told_so(job, inside, tmp_path):
    given = {"CHIPS": str(job.chips), "EPOCHS": 500, "BATCH_SIZE": 4, "THREADS": 1, "KEEP_BEST": False, "OUTPUT": str(tmp_path / "m.onnx")}
    told = inside.do(CANCEL, algorithm="waterdl:trainmodel", parameters=given, after="Epoch 1/")
    assert "Cancelled" in told["refused"]
    assert not list(tmp_path.glob("m.*t*x*")) and not list(tmp_path.glob("*.html"))


def test_cancel_of_mapping_leaves_no_file(model, scene, inside, tmp_path):
    pixels, _, _ = helpers.read_raster(scene.raster)
    large = helpers.write_raster(tmp_path / "large.tif", np.tile(pixels, (1, 8, 8)), helpers.utm(1600, 1280))
    out = tmp_path / "out"
    out.mkdir()
    given = {"INPUT": large, "MODEL": model, "OUTPUT": str(out / "a.tif"), "PROBABILITY": str(out / "b.tif"), "THREADS": 1, "BATCH_SIZE": 1}
    told = inside.do(CANCEL, algorithm="waterdl:classifyraster", parameters=given, after="")
    assert "Cancelled" in told["refused"] and told["seconds"] < 30
    assert not list(out.iterdir())


def test_progress_is_even_and_never_falls(model, scene, inside, tmp_path):
    done = inside.run(
        "classifyraster", INPUT=scene.raster, MODEL=model, WINDOW=64, OVERLAP=16, BATCH_SIZE=1, OUTPUT=str(tmp_path / "a.tif"), THREADS=1
    )
    steps = np.diff([0, *done.progress])
    assert done.progress[-1] == 100 and (steps >= 0).all() and len(done.progress) > 8 and steps.max() < 34
