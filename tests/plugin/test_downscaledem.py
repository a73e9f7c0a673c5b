"""downscaledem through real programs: qgis_process and processing.run, the layers as QGIS opens them, and what it says of bad input."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tests import helpers, terrain
from tests.plugin.conftest import Refused

pytestmark = pytest.mark.qgis
HEIGHTS = terrain.rough(40, 50, seed=5)
RENDERERS = """
from qgis.core import QgsRasterLayer
answer = []
for path in task["paths"]:
    layer = QgsRasterLayer(path)
    renderer = layer.renderer()
    answer.append([renderer.type(), layer.crs().authid(), layer.dataProvider().sourceNoDataValue(1)])
    if renderer.type() == "hillshade":
        answer[-1] += [renderer.zFactor(), renderer.multiDirectional()]
    else:
        answer[-1] += [renderer.classificationMax(), len(renderer.shader().rasterShaderFunction().colorRampItemList())]
"""


@pytest.fixture(scope="module")
def hills(tmp_path_factory):
    """Paths of a base with voids, a second elevation model, an image, and of models for one and for three bands."""
    folder = tmp_path_factory.mktemp("some hills")
    grid, heights = helpers.utm(50, 40, 30.0), HEIGHTS.copy()
    heights[10:13, 20:25] = -32768
    base = helpers.write_raster(folder / "base.tif", heights.astype(np.float32), grid, nodata=-32768)
    other = helpers.write_raster(folder / "other.tif", (HEIGHTS + 2).astype(np.float32), grid)
    image = helpers.write_raster(folder / "image.tif", np.random.default_rng(0).integers(0, 200, (40, 50)).astype(np.uint8), grid)
    alone, three = terrain.model(folder / "1.onnx"), terrain.model(folder / "3.onnx", ("elevation", "elevation", "image"))
    return folder, base, other, image, alone, three


def test_through_qgis_process(hills, qgis_process, inside, tmp_path):
    _, base, _, _, alone, _ = hills
    done = qgis_process(
        "--json",
        "run",
        "waterdl:downscaledem",
        INPUT=base,
        MODEL=alone,
        OUTPUT=tmp_path / "fine.tif",
        ERROR=tmp_path / "error.tif",
        THREADS=1,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    fine, valid, transform = helpers.read_raster(tmp_path / "fine.tif")
    void = np.zeros((40, 50), bool)
    void[10:13, 20:25] = True
    assert fine.shape == (1, 120, 150) and transform[1] == 10 and np.array_equal(valid, ~void.repeat(3, 0).repeat(3, 1))
    means = np.where(valid, fine[0], np.nan).reshape(40, 3, 50, 3).mean((1, 3))
    assert np.nanmedian(np.abs(means - HEIGHTS)) < 2 and 0 < results["MEAN_CHANGE"] < 2 and results["PROVIDER"] == "CPUExecutionProvider"
    assert "3 times finer" in str(json.loads(done.stdout)["log"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["error.qml", "error.tif", "fine.qml", "fine.tif"]
    shade, error = inside.do(RENDERERS, paths=[str(tmp_path / "fine.tif"), str(tmp_path / "error.tif")])
    assert shade == ["hillshade", "EPSG:32612", -9999, pytest.approx(1, abs=1e-3), True]
    assert error[:3] == ["singlebandpseudocolor", "EPSG:32612", -9999] and 0 < error[3] < 10 and error[4] == 5


def test_with_further_rasters_on_a_grid(hills, inside, tmp_path):
    _, base, other, image, _, three = hills
    like = helpers.write_raster(tmp_path / "like.tif", np.zeros((50, 60), np.uint8), helpers.utm(60, 50, 12.0, x=400_300.0, y=4_499_700.0))
    done = inside.run(
        "downscaledem",
        INPUT=[base, other],
        MODEL=three,
        STACK=[image],
        GRID=like,
        VERTICAL="constant",
        OUTPUT=str(tmp_path / "fine.tif"),
        DEVICE="cpu",
    )
    fine, _, transform = helpers.read_raster(tmp_path / "fine.tif")
    assert fine.shape == (1, 50, 60) and transform[:2] == (400_300.0, 12.0) and not (tmp_path / "error.tif").exists()
    log = "\n".join(map(str, done.log))
    assert re.search(r"other\.tif is lowered by (1\.99|2\.0\d) m", log) and "windows of" in log and "2.5 times finer" in log


def test_the_coarse_heights_can_be_kept(hills, inside, tmp_path):
    _, base, _, _, alone, _ = hills
    inside.run("downscaledem", INPUT=[base], MODEL=alone, CONSISTENT=True, OUTPUT=str(tmp_path / "fine.tif"))
    fine, valid, _ = helpers.read_raster(tmp_path / "fine.tif")
    means = np.where(valid, fine[0], np.nan).astype(np.float64).reshape(40, 3, 50, 3).mean((1, 3))
    assert np.nanmax(np.abs(means - HEIGHTS)) < 1e-3 and np.isnan(means).sum() == 15


def test_bad_input_is_told_with_a_remedy(hills, inside, qgis_process, tmp_path):
    _, base, _, image, alone, three = hills
    output = str(tmp_path / "fine.tif")
    with pytest.raises(Refused, match=r"2 elevation models, 1 image band, in this order: 1\. elevation 1 \(elevation\).*\n.*STACK"):
        inside.run("downscaledem", INPUT=[base], MODEL=three, STACK=[image], OUTPUT=output)
    with pytest.raises(Refused, match="same file"):
        inside.run("downscaledem", INPUT=[base], MODEL=alone, OUTPUT=base)
    with pytest.raises(Refused, match="does not suit a base"):
        inside.run("downscaledem", INPUT=[base], MODEL=alone, RESOLUTION=0.0003, OUTPUT=output)
    done = qgis_process("run", "waterdl:downscaledem", INPUT=base, MODEL=base, OUTPUT=output)
    assert done.returncode == 1 and "not a model" in done.stderr + done.stdout
    assert not list(tmp_path.iterdir())
