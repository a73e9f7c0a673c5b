"""assessdem through the real qgis_process, and its error raster as QGIS loads it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers
from tests.plugin.conftest import Refused

pytestmark = pytest.mark.qgis
GRID = helpers.utm(160, 120, 10.0)


@pytest.fixture(scope="module")
def dems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dems")
    col, row = np.arange(160), np.arange(120)[:, None]
    truth = 500 + 30 * np.sin(col / 9) * np.cos(row / 11) + 8 * np.sin((col + 2 * row) / 4)
    better = truth + 0.5 * np.cos(col / 2) + 0 * row
    coarse = truth.reshape(24, 5, 32, 5).mean(axis=(1, 3)).astype(np.float32)
    return {
        "truth": helpers.write_raster(folder / "truth.tif", truth.astype(np.float32), GRID, -9999),
        "dem": helpers.write_raster(folder / "fine dem.tif", better.astype(np.float32), GRID, -9999),
        "coarse": helpers.write_raster(folder / "coarse.tif", coarse, helpers.utm(32, 24, 50.0), -9999),
        "two": helpers.write_raster(folder / "two.tif", np.stack([truth, truth]).astype(np.float32), GRID),
        "truth array": truth, "dem array": better,
    }  # fmt: skip


LOADED = """
from qgis.core import QgsRasterLayer
layer = QgsRasterLayer(task["path"], "x")
layer.loadDefaultStyle()
shader = layer.renderer().shader().rasterShaderFunction()
answer = {"type": layer.renderer().type(), "values": [i.value for i in shader.colorRampItemList()], "colours": [i.color.name() for i in shader.colorRampItemList()]}
"""


def test_figures_files_and_style(dems, qgis_process, inside, tmp_path):
    out = {name: str(tmp_path / name) for name in ("r.html", "t.csv", "f.json", "error.tif")}
    done = qgis_process(
        "--json", "run", "waterdl:assessdem", INPUT=dems["dem"], REFERENCE=dems["truth"], BASELINES=dems["coarse"], REPORT=out["r.html"], CSV=out["t.csv"],
        JSON=out["f.json"], ERROR=out["error.tif"],
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    told, error = json.loads(done.stdout), dems["dem array"] - dems["truth array"]
    found = told["results"]
    assert found["RMSE"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-3) and found["PIXELS"] == error.size
    assert found["BASELINE_RMSE"] > found["RMSE"] and found["IMPROVEMENT"] > 20 and found["R2"] > 0.99
    assert abs(found["SHIFT_EAST_M"]) < 1 and found["ERROR"] == out["error.tif"]
    assert "less than the best plain interpolation (coarse.tif, cubic)" in str(told["log"])
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Assessment of fine dem.tif" in page and "coarse.tif, bilinear" in page and "://" not in page
    assert helpers.load_json(out["f.json"])["dem"]["rmse"] == found["RMSE"]
    assert len((tmp_path / "t.csv").read_text(encoding="utf-8-sig").splitlines()) > 4 * 3
    styled = inside.do(LOADED, path=out["error.tif"])
    assert styled["type"] == "singlebandpseudocolor" and styled["values"][3] == 0 and styled["values"][0] == -styled["values"][-1] < 0
    assert styled["colours"][0] == "#2166ac" and styled["colours"][-1] == "#b2182b"


def test_refused_with_a_remedy(dems, inside, tmp_path):
    with pytest.raises(Refused, match="(?s)has 2 bands.*Say which one under Band"):
        inside.run("assessdem", INPUT=dems["two"], REFERENCE=dems["truth"], REPORT=str(tmp_path / "r.html"))
    done = inside.run("assessdem", INPUT=dems["two"], BAND=2, REFERENCE=dems["truth"], REPORT=str(tmp_path / "r.html"))
    assert done.results["RMSE"] < 1e-3
    with pytest.raises(Refused, match="(?s)SLOPE|slope classes"):
        inside.run("assessdem", INPUT=dems["dem"], REFERENCE=dems["truth"], SLOPE_LIMITS="30, 5", REPORT=str(tmp_path / "r2.html"))
    assert not (tmp_path / "r2.html").exists()
