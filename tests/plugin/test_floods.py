"""Floods through the real programs: from an elevation model to depth, polygons and figures; styles; refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers
from tests.plugin.conftest import Refused

pytestmark = pytest.mark.qgis
GRID = helpers.utm(120, 90)


@pytest.fixture(scope="module")
def valley(tmp_path_factory):
    """A valley at 10 m, the same with noise, a seed in the valley and one on the hill."""
    folder = tmp_path_factory.mktemp("valley")
    rows, cols = np.mgrid[:90, :120]
    heights = (100 + 0.5 * np.abs(cols - 60 - 10 * np.sin(rows / 15)) + 0.05 * (89 - rows)).astype(np.float32)
    noisy = (heights + np.random.default_rng(0).normal(0, 0.5, heights.shape)).astype(np.float32)
    places = {"seed": (89, 60), "hill": (45, 2)}
    layers = {
        name: helpers.write_layer(folder / f"{name}.gpkg", [(f"POINT({' '.join(map(str, GRID.to_map(c + 0.5, r + 0.5)))})", {})], GRID.crs)
        for name, (r, c) in places.items()
    }
    return {
        "dem": helpers.write_raster(folder / "dem.tif", heights, GRID), "noisy": helpers.write_raster(folder / "noisy.tif", noisy, GRID),
        "heights": heights, **layers,
    }  # fmt: skip


STYLED = """
from qgis.core import QgsRasterLayer
layer = QgsRasterLayer(task["path"], "x")
answer = [layer.isValid(), layer.renderer().type(), layer.crs().authid()]
"""


def test_from_a_level_to_polygons_and_figures(valley, qgis_process, inside, tmp_path):
    out = {name: str(tmp_path / name) for name in ("e.tif", "d.tif", "noisy.tif", "lakes.gpkg", "r.html", "t.csv", "f.json", "a.tif")}
    done = qgis_process(
        "--json", "run", "waterdl:floodextent", INPUT=valley["dem"], LEVEL=104, SEEDS=valley["seed"], OUTPUT=out["e.tif"], DEPTH=out["d.tif"]
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    told = json.loads(done.stdout)["results"]
    wet = valley["heights"] < 104
    assert told["AREA_KM2"] == pytest.approx(wet.sum() * 1e-4, rel=1e-3) and told["MAX_DEPTH"] == pytest.approx(
        104 - valley["heights"].min()
    )
    np.testing.assert_array_equal(helpers.read_raster(out["e.tif"])[0][0], wet)
    assert (
        inside.do(STYLED, path=out["e.tif"])[:2] == [True, "paletted"]
        and inside.do(STYLED, path=out["d.tif"])[1] == "singlebandpseudocolor"
    )
    lakes = inside.run("vectorizewater", INPUT=out["e.tif"], SMOOTHING=0, OUTPUT=out["lakes.gpkg"]).results
    assert lakes["COUNT"] == 1 and lakes["AREA_M2"] / 1e6 == pytest.approx(told["AREA_KM2"], rel=1e-3)
    inside.run("floodextent", INPUT=valley["noisy"], LEVEL=104, SEEDS=valley["seed"], DEPTH=out["noisy.tif"])
    done = inside.run(
        "assessflood", MAPS=[out["noisy.tif"], out["e.tif"]], REFERENCE=out["d.tif"], WET_DEPTH=0, REPORT=out["r.html"], CSV=out["t.csv"],
        JSON=out["f.json"], OUTPUT=out["a.tif"],
    )  # fmt: skip
    figures = helpers.load_json(out["f.json"])["maps"]
    assert figures[1]["csi"] == 1 and figures[0]["csi"] < 1 and done.results["BEST"] == "e"
    assert done.results["CSI"] == pytest.approx(figures[0]["csi"]) and 0.3 < done.results["DEPTH_RMSE_M"] < 0.7
    assert any(line.startswith("noisy: POD") for line in done.log) and inside.do(STYLED, path=out["a.tif"])[:2] == [True, "paletted"]
    assert "://" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_height_above_drainage(valley, inside, tmp_path):
    out = {name: str(tmp_path / name) for name in ("e.tif", "h.tif")}
    done = inside.run("floodextent", INPUT=valley["dem"], METHOD="hand", STAGE=2, STREAM_AREA=0.1, OUTPUT=out["e.tif"], HAND=out["h.tif"])
    above = helpers.read_raster(out["h.tif"])[0][0]
    extent = helpers.read_raster(out["e.tif"])[0][0]
    np.testing.assert_array_equal(extent == 1, (above >= 0) & (above < 2))
    assert 2 <= done.results["MAX_DEPTH"] < 2.5 and max(done.progress) == 100 and "DEPTH" not in done.results
    assert inside.do(STYLED, path=out["h.tif"]) == [True, "singlebandpseudocolor", "EPSG:32612"]


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({}, ["water level is not set", "LEVEL"]),
        ({"LEVEL": 3}, ["below the whole elevation model", "100.073 to"]),
        ({"LEVEL": 104, "SEEDS": "hill"}, ["No seed lies on ground below", "Raise the level"]),
        ({"METHOD": "hand", "STREAM_AREA": 50}, ["largest contributing area", "STREAM_AREA"]),
        ({"LEVEL": 104, "HAND": "h.tif"}, ["needs the method 'hand'"]),
    ],
    ids=["no level", "below", "seed", "streams", "hand"],
)
def test_refusals_say_what_mends_them(valley, inside, tmp_path, wrong, words):
    given = {
        key: valley.get(value, str(tmp_path / value)) if isinstance(value, str) and key != "METHOD" else value
        for key, value in wrong.items()
    }
    with pytest.raises(Refused) as refused:
        inside.run("floodextent", INPUT=valley["dem"], OUTPUT=str(tmp_path / "e.tif"), **given)
    for word in words:
        assert word in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_maps_that_lie_elsewhere(valley, inside, tmp_path):
    away = helpers.write_raster(tmp_path / "away.tif", valley["heights"], helpers.utm(120, 90, x=900_000.0))
    with pytest.raises(Refused, match="does not lie over the reference"):
        inside.run("assessflood", MAPS=[away], REFERENCE=valley["dem"])
