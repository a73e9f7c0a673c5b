"""The real desktop on a virtual screen: a dialog is opened, Run is pressed, the layers come in styled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import helpers, road
from tests.plugin.conftest import ROOT, small_model

pytestmark = [pytest.mark.qgis, pytest.mark.slow]


@pytest.fixture
def desktop(tmp_path):
    """Run desktop_script.py with a task; what it tells."""
    if not (shutil.which("xvfb-run") and shutil.which("xauth") and (shutil.which("qgis.bin") or shutil.which("qgis"))):
        pytest.skip("the desktop, or a virtual screen for it (qgis, xvfb, xauth), is not installed")

    def run(algorithm: str, layers: int, **parameters) -> dict:
        answer = tmp_path / "answer.json"
        task = {"algorithm": algorithm, "parameters": parameters, "layers": layers, "answer": str(answer), "seconds": 120}
        env = {
            **os.environ,
            "DESKTOP_TASK": json.dumps(task),
            "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "profile"),
            "LIBGL_ALWAYS_SOFTWARE": "1",
        }
        env.pop("QT_QPA_PLATFORM", None)
        script = Path(__file__).with_name("desktop_script.py")
        command = [
            "xvfb-run",
            "-a",
            "-s",
            "-screen 0 1400x900x24",
            str(ROOT / "scripts" / "qgis"),
            "--noversioncheck",
            "--nologo",
            "--code",
            str(script),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=240)
        assert answer.exists(), done.stderr[-3000:]
        told = json.loads(answer.read_text())
        assert not told["trouble"], told["trouble"]
        assert done.returncode == 0, done.stderr[-3000:]
        return told

    return run


def test_classify_raster_from_its_dialog(desktop, scene, tmp_path):
    model = small_model(tmp_path / "mean.onnx", 4, props={"waterdl": road.waterdl(4, classes=("dry land", "open water"), threshold=0.5)})
    told = desktop(
        "waterdl:classifyraster",
        2,
        INPUT=scene.raster,
        MODEL=model,
        OUTPUT=str(tmp_path / "map.tif"),
        PROBABILITY=str(tmp_path / "chance.tif"),
    )
    assert told["finished"] is True and told["title"] == "Classify raster"
    assert told["layers"] == {
        "Water map": {"renderer": "paletted", "classes": [[0, "dry land"], [1, "open water"]], "crs": "EPSG:32612"},
        "Probability of water": {"renderer": "singlebandpseudocolor", "classes": None, "crs": "EPSG:32612"},
    }


def test_export_chips_of_values_from_its_dialog(desktop, tmp_path):
    """A raster as labels: QGIS 3.22 died here while the class field was chosen from the labels' fields."""
    images, values = helpers.hills(1, 96)
    coarse = helpers.write_raster(tmp_path / "coarse.tif", images[0, 0].reshape(32, 3, 32, 3).mean(axis=(1, 3)), helpers.utm(32, 32, 30.0))
    fine = helpers.write_raster(tmp_path / "fine.tif", values[0], helpers.utm(96, 96))
    told = desktop(
        "waterdl:exportchips", 1, INPUT=[coarse], LABELS=fine, TARGET="values", TILE_SIZE=32, BLOCK_SIZE=32, OUTPUT=str(tmp_path / "chips")
    )
    assert told["finished"] is True and (tmp_path / "chips" / "chips.json").exists() and "Chips" in told["layers"]
