"""Heights on other grids: planes exactly, every layer where it belongs, whatever the grids, the CRSs and the cutting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osgeo import gdal, osr

from tests.helpers import crs, utm, write_raster
from water_dl_plugin.engine.dem import resample
from water_dl_plugin.engine.dem.resample import average_on, continued, heights_on, ratio, suited
from water_dl_plugin.engine.errors import GridMismatchError
from water_dl_plugin.engine.grid import moved
from water_dl_plugin.engine.raster import Grid, Raster
from water_dl_plugin.engine.windows import blocks

COARSE = utm(40, 30, 30.0)
ZONE = COARSE.crs


def middles(grid: Grid, crs_wkt: str = ""):
    """x and y of the pixels' middles, `(rows, cols)`, in another CRS if one is given."""
    x, y = grid.to_map(*np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5))
    if crs_wkt:
        there = np.array([p[:2] for p in moved(np.column_stack([x.ravel(), y.ravel()]).tolist(), grid.crs, crs_wkt)])
        x, y = there[:, 0].reshape(x.shape), there[:, 1].reshape(y.shape)
    return x, y


def plane(grid: Grid) -> np.ndarray:
    x, y = middles(grid)
    return 1000 + 0.03 * (x - 400_000) - 0.05 * (y - 4_500_000)


def waves(grid: Grid) -> np.ndarray:
    """A smooth surface, the same place on the ground having the same height on every grid."""
    x, y = middles(grid, ZONE)
    return 1500 + 80 * np.sin((x - 400_000) / 170) * np.cos((y - 4_500_000) / 210) + 0.05 * (x - 400_000)


def fine(pixel: float, x: float = 0.0, y: float = 0.0, size: float = 1200.0) -> Grid:
    return Grid(int(size / pixel), int(0.75 * size / pixel), (400_000 + x, pixel, 0, 4_500_000 - y, 0, -pixel), ZONE)


# ------------------------------------------------------------------------------------------------------------------ planes, exactly


@pytest.mark.parametrize("pixel, x, y", [(10, 0, 0), (10, 3.3, 7.1), (5, 15, 15), (7, -100, -80), (30, 15, 15), (30, 0, 0), (2, 1100, 850)])
@pytest.mark.parametrize("method", ["cubic", "bilinear"])
def test_a_plane_comes_back_exactly_at_borders_and_voids(tmp_path, pixel, x, y, method):
    z = plane(COARSE)
    z[10:14, 10:18] = z[20, 20] = z[0, 0] = z[-1, 5:20] = -9999
    target = fine(pixel, x, y)
    with Raster(write_raster(tmp_path / "z.tif", z, COARSE, nodata=-9999)) as raster:
        found, valid = heights_on(raster, target, method)
    assert found.dtype == np.float64 and found.shape == valid.shape == (1, target.height, target.width) and 0 < valid.mean() < 1
    assert np.abs(found[0] - plane(target))[valid[0]].max() < 1e-6
    assert (found[~valid] == 0).all()
    xs, ys = middles(target)
    col, row = (xs - 400_000) / 30, (4_500_000 - ys) / 30
    inside = (col > 0) & (col < 40) & (row > 0) & (row < 30)
    known = (z != -9999)[np.clip(row, 0, 29).astype(int), np.clip(col, 0, 39).astype(int)]
    clear = (np.abs(col - np.rint(col)) > 1e-6) & (np.abs(row - np.rint(row)) > 1e-6)  # on a pixel's edge either neighbour will do
    np.testing.assert_array_equal(valid[0][clear], (inside & known)[clear])


def test_a_constant_is_a_constant_to_the_last_digit(tmp_path):
    z = np.where(np.random.default_rng(0).random((30, 40)) < 0.3, -9999, 2718.28).astype(np.float32)
    with Raster(write_raster(tmp_path / "z.tif", z, COARSE, nodata=-9999)) as raster:
        found, valid = heights_on(raster, fine(7, 3, 2))
    assert np.abs(found[valid] - np.float32(2718.28)).max() < 1e-9


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.02, 0.9), seed=st.integers(0, 99), slope=st.floats(-5, 5))
def test_continued_keeps_planes(share, seed, slope):
    rng = np.random.default_rng(seed)
    z = 3000 + slope * np.arange(20) + 0.3 * np.arange(17)[:, None]
    valid = rng.random(z.shape) < share
    valid[3:8, 3:8] = True
    out = continued(z, valid)
    np.testing.assert_array_equal(out[valid], z[valid])
    np.testing.assert_allclose(out[1:10, 1:10], z[1:10, 1:10], rtol=0, atol=1e-5)  # beside enough pixels of it
    assert np.isfinite(out).all()


def test_continued_with_hardly_anything_known():
    one = np.zeros((9, 9), bool)
    one[4, 4] = True
    out = continued(np.full((9, 9), 5.0), one)
    np.testing.assert_allclose(out[2:7, 2:7], 5)
    assert (out[0] == 0).all() and (continued(np.ones((3, 3)), np.zeros((3, 3), bool)) == 0).all()
    row = np.zeros((9, 9), bool)
    row[4] = True  # a line tells the slope along itself only
    np.testing.assert_allclose(continued(np.tile(2.0 * np.arange(9), (9, 1)), row)[3], 2.0 * np.arange(9), atol=1e-6)


def test_voids_are_continued_by_what_is_near(tmp_path):
    """A plane through all neighbours alike would cut through the hills."""
    z = waves(utm(80, 80, 30.0))
    valid = np.random.default_rng(0).random(z.shape) > 0.1
    off = (continued(np.where(valid, z, 0), valid) - z)[~valid]
    assert np.sqrt(np.mean(off**2)) < 1 and np.ptp(z) > 150


def test_cubic_convolution_is_keys(tmp_path):
    """Against the formula, away from the border; GDAL would take a wider kernel for a slightly coarser grid."""
    z = np.random.default_rng(1).normal(0, 100, (30, 40))
    with Raster(write_raster(tmp_path / "z.tif", z, COARSE)) as raster:
        for pixel in (10.0, 37.0):
            target = fine(pixel, 130, 110, 700)
            found, valid = heights_on(raster, target)
            xs, ys = middles(target)
            expected = np.zeros_like(xs)
            col, row = (xs - 400_000) / 30 - 0.5, (4_500_000 - ys) / 30 - 0.5
            for i in range(-1, 3):
                for j in range(-1, 3):
                    r, c = np.floor(row).astype(int) + i, np.floor(col).astype(int) + j
                    expected += keys(row - r) * keys(col - c) * z[r, c]
            assert valid.all() and np.abs(found[0] - expected).max() < 1e-7


def keys(t):
    t = np.abs(t)
    return np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t < 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0))


# ------------------------------------------------------------------------------------------------------------- where it belongs


def shift(found: np.ndarray, expected: np.ndarray) -> float:
    """How far `found` is displaced, in pixels, by least squares (Lucas & Kanade); the larger of the two directions."""
    gy, gx = np.gradient(expected)
    cut = (slice(2, -2), slice(2, -2))
    terms = np.stack([gx[cut].ravel(), gy[cut].ravel(), np.ones(gx[cut].size)], axis=1)
    return float(np.abs(np.linalg.lstsq(terms, (found - expected)[cut].ravel(), rcond=None)[0][:2]).max())


def degrees(pixel_m: float, x: float, y: float, width: int, height: int) -> Grid:
    """A grid in longitude and latitude around a place in UTM."""
    ((lon, lat, *_),) = moved([(x, y)], ZONE, crs(4326))
    return Grid(width, height, (lon, pixel_m / 85_000, 0, lat, 0, -pixel_m / 111_000), crs(4326))


SOURCES = {
    "same zone": utm(60, 50, 30.0, 399_700, 4_500_300),
    "half a pixel off": utm(60, 50, 30.0, 399_685, 4_500_285),
    "degrees": degrees(30, 399_600, 4_500_400, 70, 60),
    "next zone": Grid(80, 80, (-108_300.0, 30, 0, 4_524_900, 0, -30), crs(32613)),
    "mercator": Grid(80, 80, (-12_488_900.0, 38, 0, 4_961_200, 0, -38), crs(3857)),
    "turned": utm(60, 60, 30.0, 399_600, 4_500_500).rotated(20),
    "south up": Grid(60, 50, (399_700.0, 30, 0, 4_498_900.0, 0, 30), ZONE),
}
TARGETS = {"utm": fine(10, 200, 200, 600), "degrees": degrees(10, 400_250, 4_499_750, 50, 40)}


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", SOURCES)
def test_every_layer_lands_where_it_belongs(tmp_path, name, to):
    source, target = SOURCES[name], TARGETS[to]
    with Raster(write_raster(tmp_path / "z.tif", waves(source), source)) as raster:
        found, valid = heights_on(raster, target)
    expected = waves(target)
    assert valid.all(), (moved(target.corners, target.crs, source.crs), source.bounds)
    assert shift(found[0], expected) < 0.01 and np.abs(found[0] - expected).max() < 0.35
    assert shift(np.roll(found[0], 1, axis=1), expected) > 0.7  # the measure sees a pixel


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("kind", ["Area", "Point"])
def test_pixel_is_point(tmp_path, kind, to):
    """GDAL corrects the half pixel of AREA_OR_POINT=Point as it writes and reads; nobody may do so again."""
    source, target = SOURCES["same zone"], TARGETS[to]
    path = write_raster(tmp_path / "z.tif", waves(source), source, tags={"AREA_OR_POINT": kind})
    with Raster(path) as raster:
        assert raster.tags()["AREA_OR_POINT"] == kind
        assert shift(heights_on(raster, target)[0][0], waves(target)) < 0.01


def test_means_land_where_they_belong(tmp_path):
    for name, source in (("utm", utm(400, 400, 2.0, 400_100, 4_499_950)), ("degrees", degrees(2.5, 400_050, 4_500_000, 420, 400))):
        target = fine(20, 200, 200, 400)
        with Raster(write_raster(tmp_path / f"{name}.tif", waves(source), source)) as raster:
            found, valid = heights_on(raster, target, "average")
        part = fine(2, 200, 200, 400)
        expected = waves(part).reshape(target.height, 10, target.width, 10).mean(axis=(1, 3))
        assert valid.all() and shift(found[0], expected) < (0.001 if name == "utm" else 0.03)
        assert np.abs(found[0] - expected).max() < (1e-6 if name == "utm" else 0.5)


def test_vertical_datums_move_no_height(tmp_path, monkeypatch):
    """gdalwarp makes metres of feet, and one geoid's heights of another's, if both CRSs have a vertical part. That is settled elsewhere."""
    feet, metres = osr.SpatialReference(), osr.SpatialReference()
    feet.SetFromUserInput("EPSG:32612+6360")
    metres.SetFromUserInput("EPSG:32612+5703")
    source = Grid(40, 30, COARSE.transform, feet.ExportToWkt())
    target = Grid(100, 80, fine(10).transform, metres.ExportToWkt())
    path = write_raster(tmp_path / "z.tif", plane(COARSE), source)
    assert gdal.Warp("", path, format="MEM", dstSRS="EPSG:32612+5703").ReadAsArray().max() < 400
    used, warp = [], gdal.Warp

    def watched(there, here, **options):
        used.extend(osr.SpatialReference(d.GetProjection()).IsCompound() for d in (there, here))
        return warp(there, here, **options)

    monkeypatch.setattr(gdal, "Warp", watched)
    with Raster(path) as raster:
        found, valid = heights_on(raster, target)
    assert valid.all() and np.abs(found[0] - plane(target)).max() < 1e-6 and used and not any(used)


# ---------------------------------------------------------------------------------------------------- numbers, windows, memory


def test_whole_numbers_become_fractions(tmp_path):
    z = np.rint(waves(COARSE)).astype(np.int16)
    with Raster(write_raster(tmp_path / "z.tif", z, COARSE, nodata=-32768)) as raster:
        found, _ = heights_on(raster, fine(10))
    assert np.mean(np.abs(found - np.rint(found)) > 1e-3) > 0.8


@pytest.mark.parametrize("method", ["cubic", "average", "nearest"])
@pytest.mark.parametrize("to", ["utm", "degrees"])
def test_no_pixel_depends_on_the_window(tmp_path, monkeypatch, method, to):
    rng = np.random.default_rng(0)
    source = utm(150, 120, 8.0, 399_900, 4_500_100)
    z = np.where(rng.random((120, 150)) < 0.15, -9999, rng.normal(500, 50, (120, 150)))
    target = fine(10) if to == "utm" else degrees(10, 400_000, 4_500_000, 100, 90)
    with Raster(write_raster(tmp_path / "z.tif", z, source, nodata=-9999)) as raster:
        whole, valid = heights_on(raster, target, method)
        for window in blocks(target.width, target.height, 37):
            part, there = heights_on(raster, target.part(window), method)
            rows, cols = window.slices
            np.testing.assert_allclose(part, whole[:, rows, cols], rtol=0, atol=1e-6)
            assert np.mean(there != valid[:, rows, cols]) == 0
        monkeypatch.setattr(resample, "MOST_PX", 900)  # cut in halves inside
        again, there = heights_on(raster, target, method)
        np.testing.assert_allclose(again, whole, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(there, valid)


def test_a_continent_is_curved(tmp_path, monkeypatch):
    """What a large window needs reaches beyond its corners and the points along its sides."""
    monkeypatch.setattr(resample, "MOST_PX", 10**9)
    source = Grid(4000, 2000, (-30.0, 0.02, 0, 75.0, 0, -0.02), crs(4326))
    rows = np.broadcast_to(75 - 0.02 * (np.arange(2000.0) + 0.5)[:, None], (2000, 4000)).astype(np.float32)
    target = Grid(60, 40, (3_000_000.0, 40_000, 0, 3_900_000, 0, -40_000), crs(3035))
    with Raster(write_raster(tmp_path / "latitude.tif", rows, source)) as raster:
        found, valid = heights_on(raster, target)
    assert valid.all() and np.abs(found[0] - middles(target, crs(4326))[1]).max() < 1e-3


def test_of_a_far_finer_raster_only_pieces_are_read(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "z.tif", np.arange(900 * 1200.0).reshape(900, 1200), utm(1200, 900, 1.0))
    largest, read = [0], Raster.read

    def watched(self, window):
        largest[0] = max(largest[0], window.width * window.height)
        return read(self, window)

    monkeypatch.setattr(resample, "MOST_PX", 20_000)
    monkeypatch.setattr(Raster, "read", watched)
    with Raster(path) as raster:
        found, valid = heights_on(raster, fine(50), "average")
    assert 0 < largest[0] <= 20_000 and valid.all()
    expected = np.arange(900 * 1200.0).reshape(18, 50, 24, 50).mean(axis=(1, 3))
    np.testing.assert_allclose(found[0], expected, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------------------------- means


def test_average_counts_what_is_known_by_area():
    source, target = utm(8, 4, 10.0), utm(3, 1, 30.0)  # the last one hangs over by a pixel, the last rows are left out
    z = np.arange(32.0).reshape(1, 4, 8)
    valid = np.ones(z.shape, bool)
    valid[0, :2, :3] = False  # a third of the first is left: too little
    valid[0, 0, 3:6] = False  # two thirds of the second
    found, known = average_on(z, valid, source, target)
    assert known.tolist() == [[[False, True, True]]]
    assert found[0, 0, 1] == pytest.approx(z[0, 1:3, 3:6].mean()) and found[0, 0, 2] == pytest.approx(z[0, :3, 6:8].mean())
    half = average_on(np.ones((1, 4, 4)), np.ones((1, 4, 4), bool), utm(4, 4, 10.0), utm(2, 1, 30.0))[1]
    assert half.tolist() == [[[True, False]]]  # a third of the second pixel lies on the raster


def test_means_beyond_the_border_count_as_unknown():
    """Also where hardly any of a coarse pixel lies on the raster, and GDAL sees nothing of it but that."""
    _, known = average_on(np.ones((1, 9, 9)), np.ones((1, 9, 9), bool), utm(9, 9, 1.0), utm(2, 2, 30.0, x=399_995, y=4_500_005))
    assert not known.any()


def test_ratio_and_what_suits_it():
    assert ratio(utm(10, 10, 30.0), utm(30, 30, 10.0)) == pytest.approx(3, rel=1e-4)
    world = Grid(3600, 1800, (-180.0, 0.1, 0, 90.0, 0, -0.1), crs(4326))
    north = Grid(100, 100, (500_000.0, 1000.0, 0, 7_800_000.0, 0, -1000.0), crs(32633))  # about 70 degrees
    assert ratio(world, north) == pytest.approx(np.sqrt(11.14 * 11.16 * np.cos(np.radians(69.86))), rel=0.01)
    assert [suited("cubic", r) for r in (0.1, 0.6, 0.7, 5)] == ["average", "average", "cubic", "cubic"] and suited(
        "nearest", 0.1
    ) == "nearest"


def test_elsewhere_and_without_crs(tmp_path):
    path = write_raster(tmp_path / "z.tif", plane(COARSE), COARSE)
    with Raster(path) as raster:
        _, valid = heights_on(raster, fine(10, 9e5))
        assert not valid.any()
        with pytest.raises(GridMismatchError, match="Assign the missing CRS"):
            heights_on(raster, Grid(10, 10, COARSE.transform))
    local = Grid(40, 30, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    with Raster(write_raster(tmp_path / "local.tif", np.tile(np.arange(40.0), (30, 1)), local)) as raster:
        found, valid = heights_on(raster, Grid(80, 60, (0.0, 0.5, 0.0, 0.0, 0.0, -0.5)))
    assert valid.all() and np.abs(found[0, 0] - (np.arange(80) / 2 - 0.25)).max() < 1e-9
    assert gdal.GetLastErrorType() < gdal.CE_Failure
