"""Chips of reservoirs: the scene's own pixels, means of them, or warped ones; cloud and cover inside the polygon."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from tests import ponds
from tests.helpers import crs, utm, write_raster
from water_dl_plugin.engine.errors import BandError, Cancelled, GridMismatchError
from water_dl_plugin.engine.grid import Grid
from water_dl_plugin.engine.level.chips import sites
from water_dl_plugin.engine.level.chips.cut import Opened, cut
from water_dl_plugin.engine.level.series import Place, Scene

GRID = ponds.GRID
HERE = Grid(64, 64, (399_980.0, 10.0, 0.0, 4_499_920.0, 0.0, -10.0), GRID.crs)  # of Upper Dam: two columns west of GRID, eight rows down


def made(path, pixels, grid=GRID, quality="", **more) -> Scene:
    return Scene(write_raster(path, np.asarray(pixels), grid, **more), ponds.START, "", quality)


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    return sites.inside(sites.read(ponds.write_polygons(tmp_path_factory.mktemp("d") / "d.gpkg"), "name")[0], HERE)


def noise(bands: int = 3, grid=GRID, dtype=np.uint16):
    return np.random.default_rng(0).integers(1, 3000, (bands, grid.height, grid.width)).astype(dtype)


def test_the_scenes_own_pixels(tmp_path, inside):
    pixels = noise()
    found = cut(made(tmp_path / "s.tif", pixels), Place("a", HERE), inside)
    assert found.pixels.dtype == np.float32 and found.pixels.shape == found.valid.shape == (3, 64, 64)
    assert not found.valid[:, :, :2].any() and (found.pixels[:, :, :2] == 0).all()  # west of the scene
    np.testing.assert_array_equal(found.pixels[:, :, 2:], pixels[:, 8:72, :62])
    assert found.valid[:, :, 2:].all() and found.cloud == 0 and found.cover == 1


def test_coarser_pixels_are_means_of_what_is_valid(tmp_path, inside):
    pixels = noise().astype(np.float32)
    pixels[:, 8:11, 10:13] = -9999  # one whole coarse pixel
    pixels[:, 20, 22] = -9999  # a ninth of another
    pixels[0, 23:25, 22:25] = -9999  # two thirds of a third one, in one band
    coarse = Grid(20, 20, (400_010.0, 30.0, 0.0, 4_499_920.0, 0.0, -30.0), GRID.crs)
    found = cut(made(tmp_path / "s.tif", pixels, nodata=-9999), Place("a", coarse), np.ones((20, 20), bool))
    fine = pixels[:, 8:68, 1:61].reshape(3, 20, 3, 20, 3)
    good = np.broadcast_to((fine != -9999).all(axis=0), fine.shape)
    wanted = np.where(good, fine, 0).sum(axis=(2, 4)) / np.maximum(good.sum(axis=(2, 4)), 1)
    assert np.argwhere(~found.valid[0]).tolist() == [[0, 3], [5, 7]]
    np.testing.assert_allclose(found.pixels[found.valid], wanted[found.valid], rtol=1e-6)
    assert found.cover == pytest.approx(1 - (9 + 1 + 6) / 3600)


def test_large_scenes_are_read_in_blocks(tmp_path):
    """The same means, whatever the blocks."""
    grid = utm(5000, 3000, 1.0)
    x = np.arange(5000, dtype=np.uint16)[None, None] + np.zeros((1, 3000, 1), np.uint16)
    coarse = Grid(32, 32, (400_000.0, 90.0, 0.0, 4_500_000.0, 0.0, -90.0), GRID.crs)
    seen = []
    with Opened(made(tmp_path / "s.tif", x, grid)) as opened:
        found = opened.cut(coarse, np.ones((32, 32), bool), lambda f, m="": seen.append(f))
    np.testing.assert_allclose(found.pixels[0], np.broadcast_to(90 * np.arange(32) + 44.5, (32, 32)), rtol=1e-6)
    assert len(seen) > 1 and found.cover == 1


def test_another_zone_and_degrees_show_the_same_place(tmp_path, inside):
    """Water of a scene in another CRS comes to lie where it is."""
    path = ponds.write_scene(tmp_path, ponds.START, quality="")
    first = cut(Scene(path, ponds.START), Place("a", HERE), inside)
    for name, epsg in (("zone", 32613), ("degrees", 4326), ("albers", 5070)):
        gdal.Warp(str(tmp_path / f"{name}.tif"), path, dstSRS=f"EPSG:{epsg}", resampleAlg="cubic", srcNodata=0, dstNodata=0)
        scene = Scene(str(tmp_path / f"{name}.tif"), ponds.START)
        found = cut(scene, Place("a", HERE), inside)
        both = found.valid[2] & first.valid[2]
        water = [(c.pixels[2] < 1500)[both & inside] for c in (first, found)]
        assert found.cover > 0.99 and (water[0] == water[1]).mean() > 0.97, name
        assert abs(water[0].sum() - water[1].sum()) < 0.02 * water[0].sum()


def test_a_scene_a_fraction_of_a_pixel_aside(inside, tmp_path):
    """It is laid on the chip's pixels: a slope keeps its place on the ground."""
    aside = Grid(120, 80, (GRID.transform[0] + 3, 10.0, 0, GRID.transform[3] - 4, 0, -10.0), crs(32612))
    x, y = aside.to_map(*np.meshgrid(np.arange(120) + 0.5, np.arange(80) + 0.5))
    found = cut(made(tmp_path / "s.tif", [x - 399_000, y - 4_498_000], aside), Place("a", HERE), inside)
    x, y = HERE.to_map(*np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5))
    np.testing.assert_allclose(found.pixels[0][inside], (x - 399_000)[inside], atol=0.01)
    np.testing.assert_allclose(found.pixels[1][inside], (y - 4_498_000)[inside], atol=0.01)
    assert found.cover == 1


def test_clouds_become_nodata_and_are_counted_inside_the_polygon(tmp_path, inside):
    pixels, marks = noise(), np.zeros((1, GRID.height, GRID.width), np.uint16)
    marks[0, :, :30] = 1024  # the western half of the pond, whose middle is at column 30
    marks[0, :, 60:] = 2048  # and what lies outside of it
    scene = made(tmp_path / "s.tif", np.concatenate([pixels, marks]), names=("B3", "B4", "B8", "QA60"))
    with Opened(scene) as opened:
        assert [b.name for b in opened.bands] == ["B3", "B4", "B8"] and opened.quality.kind == "QA60" and not opened.marked
        found = opened.cut(HERE, inside)
        assert opened.marked
    assert found.cloud == pytest.approx(0.5, abs=0.02) and found.cover == 1
    assert found.valid[:, :, 32:62].all() and not found.valid[:, :, :32].any() and not found.valid[:, :, 62:].any()
    assert (found.pixels[~found.valid] == 0).all()
    blind = cut(scene, Place("a", HERE), inside, kind="none")
    assert blind.cloud == 0 and len(blind.pixels) == 3


def test_a_quality_file_of_coarser_pixels(tmp_path, inside):
    """SCL has pixels of 20 m: it is laid over by the nearest one."""
    marks = np.full((40, 60), 6, np.uint8)
    marks[:, :15], marks[:10] = 9, 0
    path = write_raster(tmp_path / "x_SCL.tif", marks, utm(60, 40, 20.0))
    found = cut(made(tmp_path / "s.tif", noise(), quality=path), Place("a", HERE), inside)
    assert not found.valid[:, 12:, 2:32].any() and found.valid[:, 12:, 32:].all()
    assert not found.valid[:, :12].any() and found.cover == 1  # SCL's 0 is no data; the pond begins at row 12
    assert found.cloud == pytest.approx(0.5, abs=0.02)
    away = write_raster(tmp_path / "y_SCL.tif", marks, utm(60, 40, 20.0, x=900_000))
    with pytest.raises(GridMismatchError, match="y_SCL.tif does not lie over the scene"):
        Opened(made(tmp_path / "s.tif", noise(), quality=away))


def test_cover_and_undeclared_nodata(tmp_path, inside):
    pixels = noise()
    pixels[:, :, :30] = 0  # what products write where they hold no data
    found = cut(made(tmp_path / "s.tif", pixels), Place("a", HERE), inside)
    assert found.cover == pytest.approx(0.5, abs=0.02) and found.cloud == 0 and not found.valid[:, :, :32].any()
    pixels[1, :, :30] = 5
    assert cut(made(tmp_path / "t.tif", pixels), Place("a", HERE), inside).cover == 1  # dark in two bands, but there
    assert (
        cut(made(tmp_path / "u.tif", np.zeros(pixels.shape, np.uint8)), Place("a", HERE), inside).cover == 1
    )  # stretched pictures have real zeros
    elsewhere = cut(made(tmp_path / "v.tif", noise(), utm(120, 80, x=700_000)), Place("a", HERE), inside)
    assert elsewhere.cover == 0 and elsewhere.cloud == 1 and not elsewhere.valid.any()


def test_bands_by_name_number_and_likeness(tmp_path, inside):
    pixels = noise(4)
    scene = made(tmp_path / "s.tif", pixels, names=("B8", "B4", "B3", "SCL"))
    for bands, like, wanted in (
        ("", (), [0, 1, 2]),
        ("B3,B8", (), [2, 0]),
        ("2-3", (), [1, 2]),
        ("", ("B3", "B4", "B8"), [2, 1, 0]),
        ("", ("B3", "X"), [0, 1, 2]),
    ):
        with Opened(scene, bands, "none", like) as opened:
            np.testing.assert_array_equal(opened.cut(HERE, inside).pixels[:, :, 2:], pixels[wanted][:, 8:72, :62])
    for bands, kind, told in (("B9", "none", "no band 'B9'"), ("", "QA_PIXEL", "no QA_PIXEL band in s.tif")):
        with pytest.raises(BandError, match=told):
            Opened(scene, bands, kind)
    with pytest.raises(BandError, match="quality bands only"):
        Opened(made(tmp_path / "q.tif", noise(1), names=("SCL",)))
    with Opened(scene) as opened, pytest.raises(BandError, match="s.tif is no SCL band"):
        opened.cut(HERE, inside)


def test_scenes_that_do_not_fit(tmp_path, inside):
    coarse = made(tmp_path / "c.tif", noise(grid=utm(40, 30, 30.0)), utm(40, 30, 30.0))
    with pytest.raises(GridMismatchError, match="3.0 times as large"):
        cut(coarse, Place("a", HERE), inside)
    bare = made(tmp_path / "b.tif", noise(), Grid(120, 80, GRID.transform))
    with pytest.raises(GridMismatchError, match="CRS"):
        cut(bare, Place("a", HERE), inside)

    def stop(fraction, message=""):
        raise Cancelled

    with Opened(made(tmp_path / "e.tif", noise())) as opened, pytest.raises(Cancelled):
        opened.cut(HERE, inside, stop)
