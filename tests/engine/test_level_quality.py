"""Quality bands: what their numbers hide, which are refused, and where they are found."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests import ponds
from tests.helpers import utm, write_raster
from water_dl_plugin.engine.errors import BandError
from water_dl_plugin.engine.level.chips import quality
from water_dl_plugin.engine.level.chips.quality import Quality, find
from water_dl_plugin.engine.level.series import Scene
from water_dl_plugin.engine.raster import Raster
from water_dl_plugin.engine.windows import Window

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

# kind -> value: (hidden, no data); Landsat's from the Collection 2 tables: 21824 clear, 21952 water, 22280 cloud, 23888 shadow, 54596 cirrus, 30048 snow
VALUES = {
    "QA60": {0: (0, 0), 1024: (1, 0), 2048: (1, 0), 3072: (1, 0)},
    "SCL": {0: (0, 1), 1: (1, 0), 2: (0, 0), 3: (1, 0), 4: (0, 0), 5: (0, 0), 6: (0, 0), 7: (0, 0), 8: (1, 0), 9: (1, 0), 10: (1, 0), 11: (1, 0)},
    "QA_PIXEL": {
        1: (0, 1), 21824: (0, 0), 21826: (1, 0), 21952: (0, 0), 22280: (1, 0), 23888: (1, 0), 54596: (1, 0), 30048: (0, 0), 5440: (0, 0), 5504: (0, 0),
        5896: (1, 0), 7440: (1, 0),
    },
    "UDM": {0: (0, 0), 1: (0, 1), 2: (1, 0), 4: (1, 0), 128: (1, 0)},
    "UDM2": {0: (1, 0), 1: (0, 0)},
    "mask": {0: (0, 0), 1: (1, 0), 255: (1, 0)},
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_what_is_hidden(kind):
    values = np.array([list(VALUES[kind])], np.uint16)
    hidden, missing = np.array(list(VALUES[kind].values()), bool).T
    assert (quality.unusable(kind, values)[0] == hidden).all()
    assert (quality.missing(kind, values)[0] == missing).all()
    assert (quality.unusable(kind, values.astype(np.float32)) == quality.unusable(kind, values)).all()
    quality.check(kind, values, "q.tif")


def test_planet_with_all_bands():
    bands = np.zeros((8, 1, 4), np.uint8)
    bands[0, 0, :2], bands[7, 0, 1] = 1, 1  # clear, clear but outside the image
    assert quality.unusable("UDM2", bands).tolist() == [[False, False, True, True]]
    assert quality.missing("UDM2", bands).tolist() == [[False, True, False, False]]
    assert quality.unusable("mask", bands[[0, 5]]).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("kind, values, told", [
    ("QA_PIXEL", [20480, 20512, 28672, 53248], "before Landsat Collection 2"),  # the pre-collection BQA: clear, water, cirrus, cloud
    ("QA_PIXEL", [2720, 2752, 2800, 3744], "before Landsat Collection 2"),  # Collection 1
    ("QA_PIXEL", [0, 4, 6], "no QA_PIXEL band"),  # SCL
    ("SCL", [21824, 22280], "no SCL band"), ("SCL", [3.5, 4], "nearest neighbour"), ("QA60", [1024, 512], "no QA60 band: it holds 512"),
    ("QA60", [900, 1400], "no QA60"), ("UDM2", [0, 1, 100], "no UDM2"), ("UDM", [300], "no UDM"),
])  # fmt: skip
def test_other_numbers_are_refused(kind, values, told):
    with pytest.raises(BandError, match=told):
        quality.check(kind, np.array(values, np.float32), "/a/b/q.tif")


@pytest.mark.parametrize("path, good", [
    ("landsat_fullscene/LE07_L2SP_022039_20190517_20200825_02_T1_QA_PIXEL.TIF", True),
    ("landsat_fullscene/LT05_L2SP_022039_20070406_20200830_02_T1_QA_PIXEL.TIF", True), ("landsat8_bqa/l8_BQA.tif", False),
])  # fmt: skip
def test_real_bands(path, good):
    if not (DATA / path).exists():
        pytest.skip("the shared data are not here")
    with Raster(str(DATA / path)) as raster:
        grid = raster.grid
        pixels, valid = raster.read(Window(grid.width // 3, grid.height // 3, min(900, grid.width // 2), min(900, grid.height // 2)))
    if good:
        quality.check("QA_PIXEL", pixels[valid], path)
        assert 0 < quality.unusable("QA_PIXEL", pixels).mean() < 0.5
    else:
        with pytest.raises(BandError, match="before Landsat Collection 2"):
            quality.check("QA_PIXEL", pixels[valid], path)


def scene(path, sensor="", beside="") -> Scene:
    return Scene(str(path), ponds.START, sensor, beside)


def test_a_band_of_the_scene():
    here = scene("/nowhere/s.tif", "sentinel-2")
    assert find(here, ("B3", "B4", "QA60")) == Quality("QA60", "", (3,))
    assert find(here, ("B3", "QA60", "SCL", "MSK_CLDPRB")) == Quality("SCL", "", (3,))  # it knows shadow
    assert find(here, ("B3", "QA60", "SCL"), "QA60") == Quality("QA60", "", (2,))
    assert find(here, ("B3", "MSK_CLASSI_OPAQUE", "MSK_CLASSI_CIRRUS")) == Quality("mask", "", (2, 3))
    assert find(here, ("B3", "QA60"), "none") is None and find(here, ("B3", "B4")) is None
    assert find(scene("/nowhere/s.tif", "sentinel-1"), ("VV", "QA60")) is None
    assert find(here, ("Band 1", "Band 2", "Band 3"), "SCL", (3,)) == Quality("SCL", "", (3,))  # the last, left out of the chosen ones
    for names, wanted, left in ((("Band 1", "Band 2"), "SCL", ()), (("B3", "B4"), "QA60", (2,)), (("B3", "QA60"), "SCL", ())):
        with pytest.raises(BandError, match=f"no {wanted} band in s.tif"):
            find(here, names, wanted, left)
    for names in (("B3", "BQA"), ("B3", "pixel_qa")):
        with pytest.raises(BandError, match="before Landsat Collection 2.*QUALITY to 'none'"):
            find(here, names)


@pytest.mark.parametrize("name, other, kind", [
    ("LC08_L2SP_175083_20200831_20200906_02_T1_SR.tif", "LC08_L2SP_175083_20200831_20200906_02_T1_QA_PIXEL.TIF", "QA_PIXEL"),
    ("T34HBH_20200831T075611_stack.tif", "T34HBH_20200831T075611_SCL_20m.jp2", "SCL"), ("dam_2020-08-31.tif", "dam_2020-08-31_QA60.tif", "QA60"),
    ("scene_2020-08-31.tif", "SCL_2020-08-31.tif", "SCL"), ("20200831_075611_1034_3B_AnalyticMS_SR.tif", "20200831_075611_1034_3B_udm2.tif", "UDM2"),
    ("20200831_075611_1034_3B_AnalyticMS.tif", "20200831_075611_1034_3B_AnalyticMS_DN_udm.tif", "UDM"), ("dam_2020-08-31.tif", "dam_2020-08-31_cloudmask.tif", "mask"),
    ("dam_1.tif", "dam_10_SCL.tif", ""), ("dam_10.tif", "dam_1_SCL.tif", ""), ("dam_2020-08-31.tif", "dam_2020-09-05_SCL.tif", ""),
    ("dam_2020-08-31.tif", "muscle.tif", ""),
])  # fmt: skip
def test_a_file_beside_the_scene(tmp_path, name, other, kind):
    for one in (name, other):
        path = write_raster(tmp_path / os.path.splitext(one)[0], np.ones((4, 4), np.uint8), utm(4, 4))
        os.rename(path, tmp_path / one)
    found = find(scene(tmp_path / name), ("B3", "B4"))
    assert found == (Quality(kind, str(tmp_path / other), (1,)) if kind else None)


def test_the_table_names_it(tmp_path):
    path = write_raster(tmp_path / "clouds of august.tif", np.ones((8, 4, 4), np.uint8), utm(4, 4))
    named = write_raster(tmp_path / "august_udm.tif", np.ones((8, 4, 4), np.uint8), utm(4, 4))
    with pytest.raises(BandError, match="does not tell what kind"):
        find(scene("/nowhere/s.tif", "", path), ("B3", "QA60"))
    assert find(scene("/nowhere/s.tif", "", path), ("B3", "QA60"), "mask") == Quality("mask", path, tuple(range(1, 9)))
    assert find(scene("/nowhere/s.tif", "", named), ("B3",)) == Quality("UDM2", named, tuple(range(1, 9)))  # by its bands
