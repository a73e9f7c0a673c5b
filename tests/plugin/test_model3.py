"""The model for QGIS's graphical modeler that ships with the plugin."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers
from tests.plugin.conftest import ROOT

pytestmark = pytest.mark.qgis
MODEL = ROOT / "water_dl_plugin" / "resources" / "models" / "map_water.model3"
CHILDREN = {"exportchips", "trainmodel", "classifyraster", "assessclassification"}
# what the model sets itself; everything else must be as the algorithms have it today
OWN = {("exportchips", "TEST_SHARE"): 0.25}

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


def test_the_models_values_are_the_algorithms_defaults(inside):
    """Fails when settings.py has changed: run scripts/make_model.py again."""
    found = inside.do(CONTENT, path=str(MODEL))
    assert set(found) == CHILDREN
    for name, child in found.items():
        assert not child["complaints"]
        wanted = {
            key: OWN.get((name, key), value) for key, value in child["defaults"].items() if value is not None and key not in child["linked"]
        }
        assert child["static"] == wanted, f"{name}: run scripts/make_model.py"
        assert not set(child["linked"]) - set(child["defaults"])


def test_the_model_maps_and_assesses_through_qgis_process(qgis_process, scene, tmp_path):
    outputs = {
        "trainmodel:Model file": tmp_path / "m.onnx", "trainmodel:Training report": tmp_path / "t.html", "classifyraster:Water map": tmp_path / "map.tif",
        "assessclassification:Assessment": tmp_path / "a.html",
    }  # fmt: skip
    given = {"INPUT": scene.raster, "LABELS": scene.labels, "CLASS_FIELD": "kind", "TILE_SIZE": 32, "EPOCHS": 1}
    done = qgis_process("--json", "run", str(MODEL), **given, **outputs)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(path.exists() for path in outputs.values()) and (tmp_path / "map.qml").exists()
    classes, _, transform = helpers.read_raster(outputs["classifyraster:Water map"])
    assert classes.shape == (1, 160, 200) and set(np.unique(classes)) <= {0, 1} and transform == scene.grid.transform
    log = "\n".join(told["log"]["info"])
    assert "Executed 4 algorithms" in log and "IoU" in log and " test)" in log and " 0 test" not in log
