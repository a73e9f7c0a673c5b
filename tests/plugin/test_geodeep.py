"""GeoDeep (PyPI `geodeep`), a foreign reader of the Deepness keys, runs a model of ours and gives our class raster.

What GeoDeep 0.9.13 does, read in its source: three bands; 8-bit pixels divided by 255, `standardization_mean/std` not used; windows of the
graph's fixed size from the upper left corner, `tiles_overlap` percent of them shared and cropped in the middle; values below `seg_thresh`
made 0, then argmax over the channels (so one sigmoid channel is always class 0); resampled only if its pixels are finer than
`resolution`; a 5 x 5 median over the finished map in any case; `seg_small_segment` 0 sieves nothing.

Hence trainmodel's setting PORTABLE: the window fixed in the graph, the normalisation in it, a channel per class. Maps are compared after the
same median.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from osgeo import gdal

from tests import helpers
from tests.plugin.conftest import QUICK, label_layer, lakes

pytestmark = pytest.mark.qgis
NAMES = {0: "land", 1: "shadow", 2: "water"}

RUN = """
import sys
import numpy as np
from geodeep import segment
np.save(sys.argv[3], segment(sys.argv[1], sys.argv[2], max_threads=1))
"""


def geodeep(scene, model, out) -> np.ndarray:
    """GeoDeep's map `(rows, cols)`. In a process of its own: it brings a second libgdal."""
    done = subprocess.run([sys.executable, "-c", RUN, str(scene), str(model), str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(out)


def tiled(path, pixels, grid) -> str:
    plain = helpers.write_raster(path.with_suffix(".plain.tif"), pixels, grid)
    gdal.Translate(str(path), plain, creationOptions=["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"])
    return str(path)


@pytest.fixture(scope="module", params=[3, 2])
def trained(request, inside, tmp_path_factory) -> SimpleNamespace:
    """A scene of three bands and three or two classes, and a model trained on it with the default normalisation."""
    folder = tmp_path_factory.mktemp("geodeep")
    grid, rng = helpers.utm(256, 192), np.random.default_rng(5)
    classes = np.where(lakes(192, 256, 2), 2, np.where(lakes(192, 256, 3), 1, 0))
    level = np.array([[150, 60, 40], [140, 55, 90], [110, 50, 170]])[:, classes]
    pixels = np.clip(level + rng.normal(0, 8, level.shape), 0, 255).astype(np.uint8)
    scene = tiled(folder / "scene.tif", pixels, grid)
    names = NAMES if request.param == 3 else {0: "land", 1: "water"}
    if request.param == 2:
        classes = (classes == 2).astype(int)
    labels = label_layer(folder / "labels.gpkg", classes, names, grid)
    inside.run(
        "exportchips",
        INPUT=scene,
        LABELS=labels,
        CLASS_FIELD="kind",
        CLASSES=", ".join(names.values()),
        TILE_SIZE=64,
        STRIDE=32,
        OUTPUT=str(folder / "chips"),
    )
    model = str(folder / "portable.onnx")
    settings = {**QUICK, "ARCHITECTURE": "linknet", "EPOCHS": 8, "PORTABLE": True}
    inside.run("trainmodel", CHIPS=str(folder / "chips"), **settings, OUTPUT=model)
    return SimpleNamespace(folder=folder, grid=grid, classes=classes, pixels=pixels, scene=scene, model=model, names=names)


def seg_thresh(model) -> float:
    import onnx

    return float({prop.key: prop.value for prop in onnx.load(model).metadata_props}["seg_thresh"])


def ours(inside, scene, model, out, overlap: int, **more) -> np.ndarray:
    inside.run("classifyraster", INPUT=str(scene), MODEL=model, OVERLAP=overlap, BLENDING="crop", OUTPUT=str(out), THREADS=1, **more)
    return helpers.read_raster(out)[0][0]


def smoothed(classes: np.ndarray) -> np.ndarray:
    """The median that GeoDeep puts over its maps."""
    from scipy.ndimage import median_filter

    return median_filter(classes, 5)


def test_the_model_learned_something_to_compare(inside, trained, tmp_path):
    found = ours(inside, trained.scene, trained.model, tmp_path / "a.tif", 16)
    assert (found == trained.classes).mean() > 0.9 and set(np.unique(found)) == set(trained.names)


def test_one_window_agrees_in_every_pixel(inside, trained, tmp_path):
    """A scene as large as the window: both feed the network the same 64 x 64 pixels, so that our probabilities, treated as GeoDeep says it
    treats them, give its map in every pixel; and our own map agrees wherever a class reaches the threshold."""
    seen = set()
    for row, col in ((0, 0), (64, 128), (128, 64)):
        part = tiled(tmp_path / f"part {row}.tif", trained.pixels[:, row : row + 64, col : col + 64], helpers.utm(64, 64))
        chance = tmp_path / f"chance {row}.tif"
        mine = ours(inside, part, trained.model, tmp_path / f"ours {row}.tif", 0, PROBABILITY=str(chance))
        theirs = geodeep(part, trained.model, tmp_path / f"theirs {row}.npy")
        given, _, _ = helpers.read_raster(chance)
        threshold = seg_thresh(trained.model)
        seen |= set(np.unique(mine))
        assert theirs.shape == (64, 64)
        assert np.array_equal(theirs, smoothed(np.where(given < threshold, 0, given).argmax(axis=0).astype(np.uint8)))
        sure = given.max(axis=0) >= threshold
        assert sure.mean() > 0.95 and (theirs == smoothed(mine))[sure].mean() >= 0.995
    assert seen == set(trained.names)  # the windows show all classes between them


def test_a_whole_scene_agrees(inside, trained, tmp_path):
    """Windows lie elsewhere (ours begin half an overlap outside), so that pixels near seams may differ; 16 px at the scene's border,
    which we fill by reflection and GeoDeep by the network's zeros, are left out."""
    mine = ours(inside, trained.scene, trained.model, tmp_path / "ours.tif", 16)
    theirs = geodeep(trained.scene, trained.model, tmp_path / "theirs.npy")
    same = (smoothed(mine) == theirs)[16:-16, 16:-16]
    print(f"agreement with GeoDeep: {100 * same.mean():.3f} % of {same.size} pixels")
    assert theirs.shape == mine.shape and set(np.unique(theirs)) == set(trained.names) and same.mean() >= 0.995


def test_geodeep_names_our_classes(trained, tmp_path):
    code = "import sys, geodeep; print(geodeep.segment(sys.argv[1], sys.argv[2], output_type='geojson', max_threads=1))"
    done = subprocess.run([sys.executable, "-c", code, trained.scene, trained.model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert {feature["properties"]["class"] for feature in found["features"]} == set(trained.names.values())
