"""Random forest and support vector machine through the real programs: chips, training, map, assessment; and in GeoDeep."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers
from tests.plugin.conftest import Refused, scene_pixels
from tests.plugin.test_geodeep import geodeep, tiled

pytestmark = pytest.mark.qgis
QUICK = {"TREES": 30, "PIXELS_PER_CLASS": 1000, "THREADS": 1}


@pytest.fixture(scope="module")
def chips(scene, qgis_process, tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines") / "chips"
    done = qgis_process(
        "run", "waterdl:exportchips", INPUT=scene.raster, LABELS=scene.train, CLASS_FIELD="kind", TILE_SIZE=32, OUTPUT=folder
    )
    assert done.returncode == 0, done.stderr
    return str(folder)


def test_from_scene_to_assessment_with_a_forest(scene, chips, qgis_process, tmp_path):
    def step(name, **parameters):
        done = qgis_process("--json", "run", f"waterdl:{name}", **parameters)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        return json.loads(done.stdout)["results"]

    model, classes, chance = (tmp_path / name for name in ("forest.onnx", "map.tif", "chance.tif"))
    figure = step("trainmodel", CHIPS=chips, ARCHITECTURE="random_forest", **QUICK, OUTPUT=model, REPORT=tmp_path / "r.html")["FIGURE"]
    assert figure > 0.9 and (tmp_path / "r.html").exists() and not list(tmp_path.glob("*.safetensors"))
    info = json.loads(step("modelinfo", MODEL=model)["INFO"])
    assert info["architecture"] == {"name": "random_forest", "arguments": {"trees": 30, "features": 2}}
    assert "scikit-learn" in info["training"]["versions"] and sum(info["training"]["pixels"].values()) == 2000
    step("classifyraster", INPUT=scene.raster, MODEL=model, OUTPUT=classes, PROBABILITY=chance)
    found, truth = helpers.read_raster(classes)[0][0, :, 133:] == 1, scene.water[:, 133:]
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    assert step("assessclassification", INPUT=chance, LABELS=scene.check, CLASS_FIELD="kind", JSON=tmp_path / "a.json")["IOU"] > 0.9


def test_a_machine_from_python(scene, chips, inside, tmp_path):
    done = inside.run("trainmodel", CHIPS=chips, ARCHITECTURE="svm", **QUICK, OUTPUT=str(tmp_path / "m.onnx"))
    assert done.results["FIGURE"] > 0.9 and "BEST_EPOCH" not in done.results
    inside.run("classifyraster", INPUT=scene.raster, MODEL=str(tmp_path / "m.onnx"), OUTPUT=str(tmp_path / "map.tif"), THREADS=1)
    assert ((helpers.read_raster(tmp_path / "map.tif")[0][0] == 1) == scene.water).mean() > 0.97


def test_what_is_for_networks_is_refused(chips, inside, tmp_path):
    with pytest.raises(Refused, match="'Stages' is for networks"):
        inside.run("trainmodel", CHIPS=chips, ARCHITECTURE="svm", STAGES='[{"epochs": 2}]', OUTPUT=str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("kind", ["random_forest", "svm"])
def test_geodeep_gives_our_map(scene, inside, tmp_path, kind):
    """At 64 px, one window of the graph's size: the same pixels through both programs (GeoDeep ends with a 5 x 5 median)."""
    from scipy.ndimage import median_filter

    water = scene.water[:64, :64]
    pixels = np.clip(scene_pixels(water)[[1, 2, 3]] // 16, 0, 255).astype(np.uint8)
    picture = tiled(tmp_path / "scene.tif", pixels, helpers.utm(64, 64))
    labels = np.stack([water + 1, water + 1]).astype(np.uint8)
    folder = helpers.chips_folder(tmp_path / "chips", np.stack([pixels, pixels]), labels, ["train", "validation"])
    model = str(tmp_path / "m.onnx")
    inside.run("trainmodel", CHIPS=folder, ARCHITECTURE=kind, PORTABLE=True, **QUICK, OUTPUT=model)
    inside.run("classifyraster", INPUT=picture, MODEL=model, OUTPUT=str(tmp_path / "map.tif"), OVERLAP=0, THREADS=1)
    ours = helpers.read_raster(tmp_path / "map.tif")[0][0]
    theirs = geodeep(picture, model, tmp_path / "theirs.npy")
    assert 0.05 < ours.mean() < 0.95 and (median_filter(ours, 5) == theirs).mean() > 0.995
