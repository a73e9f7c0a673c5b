"""The models for QGIS's graphical modeler that ship with the plugin."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers, ponds
from tests.plugin.conftest import ROOT
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.level.model import LevelModel

pytestmark = pytest.mark.qgis
MODELS = ROOT / "water_dl_plugin" / "resources" / "models"
STAGES = '[{"loss": "bce_dice", "epochs": 45, "lr": 1e-4}, {"loss": "lovasz", "epochs": 25, "lr": 1e-5}]'
# the steps, and what the model sets itself; everything else must be as the algorithms have it today
OWN = {
    "map_water": {"exportchips": {"TEST_SHARE": 0.25}, "trainmodel": {}, "classifyraster": {}, "assessclassification": {}},
    "map_glacial_lakes": {
        "exportchips": {"CLASSES": "lake", "UNLABELLED": "background", "ROTATION": 90.0}, "trainmodel": {"ARCHITECTURE": "linknet", "BATCH_SIZE": 4, "OPTIMISER": "adam"},
        "classifyraster": {}, "refinewater": {"MODE": "slic_crf"}, "vectorizewater": {},
    },
    "reservoir_levels": {"exportlevelchips": {"TEST_SHARE": 0.2}, "trainmodel": {}, "estimatelevel": {}, "assesslevels": {}},
    "downscale_dem": {"exportchips": {"TARGET": "values", "TEST_SHARE": 0.25, "MIN_LABELLED": 20.0}, "trainmodel": {}, "downscaledem": {}, "assessdem": {}},
}  # fmt: skip

CONTENT = """
from qgis.core import QgsApplication, QgsProcessingModelAlgorithm, QgsProcessingModelChildParameterSource as Source
model = QgsProcessingModelAlgorithm()
assert model.fromFile(task["path"])
answer = {}
for key, child in model.childAlgorithms().items():
    algorithm = QgsApplication.processingRegistry().algorithmById(child.algorithmId())
    static = {name: sources[0].staticValue() for name, sources in child.parameterSources().items() if sources and sources[0].source() == Source.StaticValue}
    linked = [name for name, sources in child.parameterSources().items() if sources and sources[0].source() != Source.StaticValue]
    defaults = {d.name(): d.defaultValue() for d in algorithm.parameterDefinitions()}
    answer[key] = {"static": static, "linked": linked, "defaults": defaults, "complaints": model.validateChildAlgorithm(key)[1]}
"""


@pytest.mark.parametrize("name", OWN)
def test_the_models_values_are_the_algorithms_defaults(inside, name):
    """Fails when an algorithm's settings have changed: run scripts/make_model.py again."""
    found = inside.do(CONTENT, path=str(MODELS / f"{name}.model3"))
    assert set(found) == set(OWN[name])
    for step, child in found.items():
        assert not child["complaints"]
        wanted = {key: value for key, value in child["defaults"].items() if value is not None}
        wanted = {key: value for key, value in {**wanted, **OWN[name][step]}.items() if key not in child["linked"]}
        assert child["static"] == wanted, f"{step}: run scripts/make_model.py"
        assert not set(child["linked"]) - set(child["defaults"])


def test_the_model_maps_and_assesses_through_qgis_process(qgis_process, scene, tmp_path):
    outputs = {
        "trainmodel:Model file": tmp_path / "m.onnx", "trainmodel:Training report": tmp_path / "t.html", "classifyraster:Water map": tmp_path / "map.tif",
        "assessclassification:Assessment": tmp_path / "a.html",
    }  # fmt: skip
    given = {"INPUT": scene.raster, "LABELS": scene.labels, "CLASS_FIELD": "kind", "TILE_SIZE": 32, "EPOCHS": 1}
    done = qgis_process("--json", "run", str(MODELS / "map_water.model3"), **given, **outputs)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(path.exists() for path in outputs.values()) and (tmp_path / "map.qml").exists()
    classes, _, transform = helpers.read_raster(outputs["classifyraster:Water map"])
    assert classes.shape == (1, 160, 200) and set(np.unique(classes)) <= {0, 1} and transform == scene.grid.transform
    log = "\n".join(told["log"]["info"])
    assert "Executed 4 algorithms" in log and "IoU" in log and " test)" in log and " 0 test" not in log


def test_glacial_lakes_from_outlines_to_an_inventory(qgis_process, scene, tmp_path):
    helpers.write_raster(tmp_path / "dem.tif", np.full((160, 200), 4321, np.float32), scene.grid)
    outputs = {
        "trainmodel:Model file": tmp_path / "m.onnx", "trainmodel:Training report": tmp_path / "t.html",
        "refinewater:Refined water map": tmp_path / "map.tif", "vectorizewater:Lakes": tmp_path / "lakes.gpkg",
    }  # fmt: skip
    stages = '[{"loss": "bce_dice", "epochs": 3, "lr": 2e-3}, {"loss": "lovasz", "epochs": 1, "lr": 1e-4}]'
    given = {
        "INPUT": scene.raster, "LABELS": f"{scene.labels}|layername=labels|subset=kind = 'water'", "DEM": tmp_path / "dem.tif", "ENCODER": "resnet18",
        "TILE_SIZE": 32, "STAGES": stages,
    }  # fmt: skip
    done = qgis_process("--json", "run", str(MODELS / "map_glacial_lakes.model3"), **given, **outputs)
    assert done.returncode == 0, done.stderr
    assert all(path.exists() for path in outputs.values()) and (tmp_path / "map.qml").exists()
    classes, _, _ = helpers.read_raster(tmp_path / "map.tif")
    assert ((classes[0] == 1) & scene.water).sum() / ((classes[0] == 1) | scene.water).sum() > 0.9
    lakes = helpers.read_layer(tmp_path / "lakes.gpkg", "lakes")
    assert lakes and all(lake["elevation_m"] == 4321 and lake["area_m2"] > 0 for lake in lakes)
    info = OnnxModel(str(tmp_path / "m.onnx")).info  # what is chosen in the model reaches its steps
    assert info.arguments == {"encoder": "resnet18"} and [s["loss"] for s in json.loads(info.training["settings"]["stages"])] == [
        "bce_dice",
        "lovasz",
    ]
    assert sum(lake["area_m2"] for lake in lakes) == pytest.approx((classes == 1).sum() * 100, rel=0.02)


def test_a_coarse_elevation_model_becomes_finer_and_is_assessed(qgis_process, tmp_path):
    grid = helpers.utm(192, 160)
    images, values = helpers.hills(1, 192, bands=2, seed=3)
    fine, coarse = values[0, :160], images[0, :, :160].reshape(2, 40, 4, 48, 4).mean(axis=(2, 4))
    helpers.write_raster(tmp_path / "fine.tif", fine, grid, nodata=-9999)
    paths = [helpers.write_raster(tmp_path / f"coarse{i}.tif", plane, helpers.utm(48, 40, 40.0)) for i, plane in enumerate(coarse)]
    outputs = {
        "trainmodel:Model file": tmp_path / "m.onnx", "trainmodel:Training report": tmp_path / "t.html", "downscaledem:Fine elevation model": tmp_path / "dem.tif",
        "downscaledem:Expected error": tmp_path / "error.tif", "assessdem:Assessment": tmp_path / "a.html",
    }  # fmt: skip
    given = {"INPUT": paths, "TARGET": tmp_path / "fine.tif", "TILE_SIZE": 32, "STRIDE": 32, "EPOCHS": 3}
    done = qgis_process("--json", "run", str(MODELS / "downscale_dem.model3"), **given, **outputs)
    assert done.returncode == 0, done.stderr
    log = "\n".join(json.loads(done.stdout)["log"]["info"])
    assert "Executed 4 algorithms" in log and "rmse_base" in log and all(path.exists() for path in outputs.values())
    heights, valid, transform = helpers.read_raster(tmp_path / "dem.tif")
    errors, _, _ = helpers.read_raster(tmp_path / "error.tif")
    assert heights.shape == (1, 160, 192) and transform == grid.transform and valid.all() and heights.dtype == errors.dtype == np.float32
    assert (errors > 0).all() and np.abs(heights[0] - fine).mean() < np.abs(np.kron(coarse[0], np.ones((4, 4))) - fine).mean()
    assert (tmp_path / "dem.qml").exists() and (tmp_path / "error.qml").exists()
    assert OnnxModel(str(tmp_path / "m.onnx")).info.chip_size == 32
    text = (tmp_path / "a.html").read_text()
    assert "coarse0" in text and "coarse1" in text and "RMSE" in text


def test_levels_from_scenes_and_a_gauge_are_estimated_and_assessed(qgis_process, tmp_path):
    place = ponds.series(tmp_path, 24)
    outputs = {
        "trainmodel:Model file": tmp_path / "m.onnx", "trainmodel:Training report": tmp_path / "t.html", "estimatelevel:Water levels": tmp_path / "levels.gpkg",
        "estimatelevel:Levels": tmp_path / "l.html", "assesslevels:Assessment": tmp_path / "a.html",
    }  # fmt: skip
    given = {"FOLDER": place.scenes, "RESERVOIRS": place.polygons, "NAME_FIELD": "name", "GAUGE": place.gauge, "EPOCHS": 2, "MEMBERS": 2}
    done = qgis_process("--json", "run", str(MODELS / "reservoir_levels.model3"), **given, **outputs)
    assert done.returncode == 0, done.stderr
    log = "\n".join(json.loads(done.stdout)["log"]["info"])
    assert "Executed 4 algorithms" in log and "Member 2 of 2" in log and all(path.exists() for path in outputs.values())
    levels = helpers.read_layer(tmp_path / "levels.gpkg", "levels")
    assert (
        len(levels) == 48
        and {level["method"] for level in levels} == {"network"}
        and {level["part"] for level in levels} == {"train", "validation", "test"}
    )
    assert all(level["level_m"] and level["observed_m"] for level in levels)
    assert LevelModel(str(tmp_path / "m.onnx"), "cpu", 1).members == 2
