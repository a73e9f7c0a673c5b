"""The provider, and the algorithms that are there for the plugin itself: packages, diagnostics, model information."""

from __future__ import annotations

import json
import re

import pytest

from tests.plugin.conftest import ROOT, small_model

pytestmark = pytest.mark.qgis

TWICE = """
from qgis.core import QgsApplication
from water_dl_plugin import classFactory
registry = QgsApplication.processingRegistry()
count = lambda: sum(p.id() == "waterdl" for p in registry.providers())
answer = [count()]
plugin.unload()
plugin.unload()
answer.append(count())
again = classFactory(None)
again.initProcessing()
again.initProcessing()
answer.append(count())
answer.append(len(registry.providerById("waterdl").algorithms()))
again.unload()
answer.append(count())
plugin.initProcessing()
answer.append(count())
"""


def test_provider_comes_and_goes(inside):
    assert inside.do(TWICE) == [1, 0, 1, 18, 0, 1]


def test_provider_has_a_name_and_an_icon(inside):
    code = "p = QgsApplication.processingRegistry().providerById('waterdl')\nanswer = [p.name(), p.icon().isNull(), p.svgIconPath()]"
    name, empty, path = inside.do(code)
    assert name == "Water DL" and not empty and path.endswith("icon.svg")


def test_what_would_be_installed(qgis_process, tmp_path):
    """Here all packages are there: nothing to install, nothing made, and no network asked."""
    env = {"WATER_DL_PACKAGES": str(tmp_path / "packages"), "PIP_NO_INDEX": "1"}
    done = qgis_process("--json", "run", "waterdl:installpackages", ONLY_SHOW="true", env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["results"]["NUMBER"] == 0 and "Nothing to install" in str(told["log"]) and not list(tmp_path.iterdir())


def test_diagnostics_can_be_shown_to_others(qgis_process, tmp_path):
    """Neither the home folder nor the user's name is in the text, wherever QGIS's files lie."""
    home = tmp_path / "jane"
    disk = tmp_path / "media" / "jane" / "disk"
    for folder in (home, disk):
        folder.mkdir(parents=True)
    env = {
        "HOME": str(home),
        "USER": "jane",
        "LOGNAME": "jane",
        "WATER_DL_PACKAGES": str(disk / "packages"),
        "QGIS_CUSTOM_CONFIG_PATH": str(home / "profile"),
    }
    done = qgis_process("--json", "run", "waterdl:diagnostics", OUTPUT=tmp_path / "text.txt", env=env)
    assert done.returncode == 0, done.stderr
    text = json.loads(done.stdout)["results"]["TEXT"]
    assert (tmp_path / "text.txt").read_text(encoding="utf-8") == text
    assert "jane" not in text and "not known" not in text
    for label in ("Water DL: 0", "QGIS: 3.", "GDAL: 3.", "Python: 3.", "onnxruntime: ", "torch: ", "numpy: ", "Memory: ", "Processors: "):
        assert label in text
    assert re.search(r"Packages folder: .*disk.packages \(not installed\)", text)


def test_modelinfo_of_our_model(inside, model, tmp_path):
    done = inside.run("modelinfo", MODEL=model, REPORT=str(tmp_path / "info.html"))
    info, log = json.loads(done.results["INFO"]), "\n".join(done.log)
    assert done.results["BANDS"] == 4 and done.results["CLASSES"] == 2
    assert [band["name"] for band in info["bands"]] == ["blue", "green", "red", "nir"] and [c["name"] for c in info["classes"]] == [
        "land",
        "water",
    ]
    assert info["pixel_size_m"] == pytest.approx(10, rel=0.01) and info["training"]["epochs"] == 4
    for words in ("Metadata: Water DL", "unet encoder=resnet18", "0 land, 1 water", "On its validation chips: accuracy"):
        assert words in log
    page = (tmp_path / "info.html").read_text(encoding="utf-8")
    assert "resnet18" in page and "://" not in page


def test_modelinfo_of_a_deepness_model(inside, tmp_path):
    keys = {
        "model_type": json.dumps("Segmentor"), "class_names": {"0": "background", "1": "roads"}, "resolution": 21, "tile_size": 512, "seg_thresh": 0.4,
        "standardization_mean": [0.4, 0.4, 0.4], "standardization_std": [0.2, 0.2, 0.2],
    }  # fmt: skip
    done = inside.run("modelinfo", MODEL=small_model(tmp_path / "roads.onnx", 3, props=keys))
    log = "\n".join(done.log)
    assert done.results["BANDS"] == 3 and done.results["CLASSES"] == 2
    for words in ("Metadata: Deepness metadata", "Trained at: 0.21 m", "0 background, 1 roads", "Threshold: 0.4", "Licence: not stated"):
        assert words in log


def test_modelinfo_of_a_model_without_metadata(inside, tmp_path):
    done = inside.run("modelinfo", MODEL=small_model(tmp_path / "bare.onnx", 5))
    assert done.results["BANDS"] == 5 and "no metadata" in "\n".join(done.log)


def test_nothing_here_names_a_path_of_this_machine():
    assert str(ROOT) not in "".join(path.read_text(encoding="utf-8") for path in (ROOT / "water_dl_plugin").rglob("*.py"))
