"""refinewater through real programs: qgis_process, processing.run, Cancel; and what it says of bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers
from tests.plugin.conftest import Refused
from tests.shores import scene as shore

pytestmark = pytest.mark.qgis


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Paths of an image and a rough probability raster of 300 x 260 px, and the truth."""
    folder = tmp_path_factory.mktemp("a lake")
    image, probability, truth = (a[..., :260] for a in shore(3, 300))
    grid = helpers.utm(260, 300, pixel=0.5)
    helpers.write_raster(folder / "image.tif", image.astype(np.uint8), grid)
    helpers.write_raster(folder / "rough.tif", probability, grid, nodata=-1)
    return folder / "image.tif", folder / "rough.tif", truth


def test_refines_through_qgis_process(lake, qgis_process, tmp_path):
    image, rough, truth = lake
    done = qgis_process(
        "--json",
        "run",
        "waterdl:refinewater",
        INPUT=rough,
        IMAGE=image,
        SXY=20,
        OUTPUT=tmp_path / "fine.tif",
        PROBABILITY=tmp_path / "p.tif",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    classes, valid, _ = helpers.read_raster(tmp_path / "fine.tif")
    before = (helpers.read_raster(rough)[0][0] >= 0.5) != truth
    after = (classes[0] == 1) != truth
    assert valid.all() and before.mean() > 0.008 and after.mean() < 0.3 * before.mean()
    assert results["CHANGED"] == (classes[0] != (helpers.read_raster(rough)[0][0] >= 0.5)).sum()
    assert (tmp_path / "fine.qml").exists() and (tmp_path / "p.qml").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.endswith((".step.tif", ".partial"))]


def test_a_layer_of_the_class_raster_refines_too(lake, inside, tmp_path):
    image, rough, truth = lake
    helpers.write_raster(
        tmp_path / "c.tif", (helpers.read_raster(rough)[0][0] >= 0.5).astype(np.uint8), helpers.utm(260, 300, pixel=0.5), nodata=255
    )
    done = inside.run("refinewater", INPUT=str(tmp_path / "c.tif"), IMAGE=str(image), MODE="crf", SXY=20, OUTPUT=str(tmp_path / "o.tif"))
    assert done.results["CHANGED"] > 300 and "CRF with sxy 20 px" in "\n".join(map(str, done.log))
    assert ((helpers.read_raster(tmp_path / "o.tif")[0][0] == 1) == truth).mean() > 0.98


def test_bad_input_is_told_with_a_remedy(lake, inside, qgis_process, tmp_path):
    image, rough, _ = lake
    far = helpers.write_raster(tmp_path / "far.tif", np.zeros((3, 20, 20), np.uint8), helpers.utm(20, 20, x=900_000.0))
    with pytest.raises(Refused, match="does not lie over"):
        inside.run("refinewater", INPUT=str(rough), IMAGE=far, OUTPUT=str(tmp_path / "o.tif"))
    with pytest.raises(Refused, match="3 to 2000 px"):
        inside.run("refinewater", INPUT=str(rough), IMAGE=str(image), SEGMENT_SIZE=1, OUTPUT=str(tmp_path / "o.tif"))
    done = qgis_process("run", "waterdl:refinewater", INPUT=image, IMAGE=rough, OUTPUT=tmp_path / "o.tif")  # the wrong way round
    assert done.returncode == 1 and "neither a class nor a probability raster" in done.stderr + done.stdout
    assert not (tmp_path / "o.tif").exists()
