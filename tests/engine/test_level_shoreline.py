"""Levels and areas out of an elevation model: known bowls, steep walls, water in the model, units, hollows at the dam's foot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from osgeo import ogr

from tests import bowls
from tests.helpers import crs, utm, write_raster
from water_dl_plugin.engine.errors import BandError, ConfigError, GridMismatchError
from water_dl_plugin.engine.grid import Grid
from water_dl_plugin.engine.level.physical import hypsometry, shoreline
from water_dl_plugin.engine.level.series import Reservoir

CONE = bowls.cone()
ALL = np.ones(CONE.shape, bool)


def dem(folder, z: np.ndarray, grid=None, nodata=-9999.0) -> str:
    return write_raster(folder / "dem.tif", z.astype(np.float32), grid or utm(z.shape[1], z.shape[0]), nodata)


def curve(folder, z: np.ndarray, radius: float = 480.0):
    return hypsometry.curve(dem(folder, z), bowls.reservoir(radius))


# ---------------------------------------------------------------------------------------------------------------------- hypsometry


def test_the_curve_of_a_cone_and_of_a_paraboloid(tmp_path):
    level = np.linspace(54, 72, 10)
    made = curve(tmp_path, CONE)
    assert made.curve.level(math.pi * ((level - 50) / 0.05) ** 2)[0] == pytest.approx(level, abs=0.15) and made.water_m is None
    bowl = bowls.FLOOR + ((CONE - bowls.FLOOR) / 0.05) ** 2 / 10_000  # metres from the middle, squared
    made = curve(tmp_path, bowl)
    assert made.curve.level(math.pi * 1e4 * (level - 50))[0] == pytest.approx(level, abs=0.15)
    assert made.notes == () and made.curve.error_m is None


def test_the_curve_of_a_valley_with_a_dam(tmp_path):
    """A V of 1:5 walls that falls by 2 % towards a dam in the south: at depth d a triangle, d / 0.02 long and 2 d / 0.2 wide at the dam."""
    rows, cols = np.mgrid[:100, :100]
    z = 50 + 0.2 * 10 * np.abs(cols - 49.5) + 0.02 * 10 * (94.5 - rows)
    z[95:97] = 90.0  # the dam
    z[97:] = 40.0  # the valley below it, deeper than the reservoir
    grid = utm(100, 100)
    corners = [grid.to_map(c, r) for c, r in ((49.5, 2), (60, 95), (60, 100), (39, 100), (39, 95), (49.5, 2))]  # drawn over the dam, too
    wkt = f"POLYGON(({','.join(f'{x} {y}' for x, y in corners)}))"
    found = hypsometry.curve(dem(tmp_path, z), Reservoir("V", bytes(ogr.CreateGeometryFromWkt(wkt).ExportToWkb()), grid.crs))
    depth = np.array([4.0, 8.0, 12.0])
    assert found.curve.level(depth / 0.02 * 2 * depth / 0.2 / 2)[0] == pytest.approx(50 + depth, abs=0.5)
    assert found.curve.level_m[0] > 49


def test_a_side_basin_counts_from_the_sill_on(tmp_path):
    rows, cols = np.mgrid[:100, :100]
    deep, shallow = np.hypot(rows - 50, cols - 32), np.hypot(rows - 50, cols - 72)
    z = bowls.FLOOR + np.minimum(deep, shallow + 4)  # 10 m pixels, slope 0.1; the second bowl is 4 m higher; the sill lies at 72
    found = curve(tmp_path, z, 470.0)
    below, above = 70.0, 74.0
    assert found.curve.level(math.pi * 1e2 * (below - 50) ** 2)[0] == pytest.approx(below, abs=0.5)
    both = ((z <= above) & (np.hypot(rows - 49.5, cols - 49.5) < 47)).sum() * 100
    assert found.curve.level(both)[0] == pytest.approx(above, abs=0.5)


def test_water_in_the_model_is_told_and_the_curve_begins_there(tmp_path):
    found = curve(tmp_path, np.maximum(CONE, 58.0))
    assert found.water_m == 58.0 and "below 58.00 m" in found.notes[0]
    assert found.curve.level_m[0] == 58.0 and found.curve.area_m2[0] == pytest.approx(math.pi * 160**2, rel=0.05)
    assert found.curve.level(math.pi * 280**2)[0] == pytest.approx(64, abs=0.2)
    assert found.curve.level(math.pi * 100**2)[1]  # below: outside


def test_a_model_of_water_only_and_one_that_lies_elsewhere_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="level all over"):
        curve(tmp_path, np.full(CONE.shape, 58.0))
    path = dem(tmp_path, CONE, Grid(100, 100, (900_000.0, 10, 0, 4_500_000.0, 0, -10), crs(32612)))
    with pytest.raises(GridMismatchError, match="does not cover"):
        hypsometry.curve(path, bowls.reservoir())
    path = dem(tmp_path, CONE[:, :60], Grid(60, 100, (400_000.0, 10, 0, 4_500_000.0, 0, -10), crs(32612)))
    with pytest.raises(GridMismatchError, match="covers 6"):
        hypsometry.curve(path, bowls.reservoir())
    with pytest.raises(BandError, match="not heights"):
        scaled(tmp_path)


def scaled(tmp_path) -> None:
    from osgeo import gdal

    path = dem(tmp_path, CONE)
    data = gdal.Open(path, gdal.GA_Update)
    data.GetRasterBand(1).SetScale(0.1)
    data = None
    hypsometry.curve(path, bowls.reservoir())


def test_feet_voids_and_noise(tmp_path):
    from osgeo import gdal

    path = dem(tmp_path, CONE / 0.3048)
    data = gdal.Open(path, gdal.GA_Update)
    data.GetRasterBand(1).SetUnitType("ft")
    data = None
    area = math.pi * 280**2
    assert hypsometry.curve(path, bowls.reservoir()).curve.level(area)[0] == pytest.approx(64, abs=0.15)
    gap = CONE.copy()
    gap[:, 45:52] = -9999
    assert "no heights on" in curve(tmp_path, gap).notes[0]
    noisy = CONE + np.random.default_rng(0).normal(0, 0.3, CONE.shape)
    assert curve(tmp_path, noisy).curve.level(area)[0] == pytest.approx(64, abs=0.3)


def test_a_model_too_fine_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hypsometry, "MOST", 5000)
    with pytest.raises(ConfigError, match="Resample"):
        curve(tmp_path, CONE)


def test_the_curve_ends_where_the_polygon_does(tmp_path):
    """Further up the polygon would be measured, whose area does not grow: here a square, whose corners are 6 m higher than its sides' middles."""
    grid = utm(100, 100)
    corners = [grid.to_map(c, r) for c, r in ((20, 20), (80, 20), (80, 80), (20, 80), (20, 20))]
    shape = ogr.CreateGeometryFromWkt(f"POLYGON(({','.join(f'{x} {y}' for x, y in corners)}))")
    made = hypsometry.curve(dem(tmp_path, CONE), Reservoir("square", bytes(shape.ExportToWkb()), grid.crs)).curve
    assert made.level_m[-1] == pytest.approx(50 + 0.05 * math.hypot(295, 150), abs=0.4)


# ----------------------------------------------------------------------------------------------------------------------- shoreline


@pytest.mark.parametrize("level", [53.3, 60.0, 66.77])
@pytest.mark.parametrize("slope", [0.02, 0.05, 0.5])
def test_the_shore_of_a_cone_stands_at_the_level(level, slope):
    z = bowls.cone(slope)
    height = bowls.FLOOR + (level - bowls.FLOOR) * slope / 0.05
    found = shoreline.level(z <= height, ALL, ALL, z, ALL, 10.0)
    assert found.level_m == pytest.approx(height, abs=0.2 * slope * 10) and found.flat == 0
    assert 0.2 * slope * 10 < found.spread_m < slope * 10 and found.places > 10


def test_noise_of_the_model_averages_out():
    rng = np.random.default_rng(0)
    z = CONE + rng.normal(0, 1.0, CONE.shape)
    found = shoreline.level(CONE <= 62, ALL, ALL, z, ALL, 10.0)
    assert found.level_m == pytest.approx(62, abs=0.25) and 0.4 < found.spread_m < 1.2


def test_walls_specks_and_islands_of_error_have_no_say():
    rng = np.random.default_rng(1)
    z = CONE.copy()
    z[:, 70:] += 25.0  # a dam: water stands against its wall
    water = (CONE <= 62) & (np.arange(100) < 70)
    water |= rng.random(water.shape) < 0.01  # wrong water on the slopes
    found = shoreline.level(water, ALL, ALL, z, ALL, 10.0)
    assert found.level_m == pytest.approx(62, abs=0.15)


def test_hidden_pixels_and_the_polygons_edge_are_no_shore():
    water, known = CONE <= 62, ALL.copy()
    known[:50] = False
    seen = shoreline.level(water & known, known, ALL, CONE, ALL, 10.0)
    assert seen.level_m == pytest.approx(62, abs=0.1)
    whole = shoreline.level(water, ALL, ALL, CONE, ALL, 10.0)
    assert seen.places == pytest.approx(whole.places / 2, rel=0.1)
    within = CONE <= 58  # a polygon smaller than the water: no shore in it
    assert shoreline.level(water, ALL, within, CONE, ALL, 10.0) is None
    assert shoreline.level(water & ~ALL, ALL, ALL, CONE, ALL, 10.0) is None
    valid = CONE > 80
    assert shoreline.level(water, ALL, ALL, CONE, valid, 10.0) is None


def strip() -> np.ndarray:
    """Ten columns through the middle: twenty sides of the shore, and many more along its own edges."""
    return np.tile((np.arange(100) >= 45) & (np.arange(100) < 55), (100, 1))


def test_where_most_is_hidden_the_rest_of_the_shore_tells():
    found = shoreline.level((CONE <= 62) & strip(), strip(), ALL, CONE, ALL, 10.0)
    assert found.level_m == pytest.approx(62, abs=0.3) and found.places <= 24


def test_water_that_was_cut_out_by_the_polygon_has_no_shore_there():
    found = shoreline.level((CONE <= 62) & strip(), ALL, strip(), CONE, ALL, 10.0)
    assert found.level_m == pytest.approx(62, abs=0.3) and found.places <= 24


def test_only_the_largest_water_counts():
    """Thirty ponds on the slope have more shore than the reservoir."""
    water = CONE <= 60
    for k in range(30):
        row, col = (int(49.5 + 40 * f(2 * np.pi * k / 30)) for f in (np.sin, np.cos))
        water[row - 1 : row + 2, col - 1 : col + 2] = True
    assert shoreline.level(water, ALL, ALL, CONE, ALL, 10.0).level_m == pytest.approx(60, abs=0.15)


def test_a_shore_that_is_hidden_by_plants_for_a_third_of_its_length_has_no_say_there():
    rows, cols = np.mgrid[:100, :100] - 49.5
    water = np.where(np.abs(np.arctan2(rows, cols)) < 1.1, CONE <= 59, CONE <= 62)  # drawn six pixels short
    found = shoreline.level(water, ALL, ALL, CONE, ALL, 10.0)
    assert found.level_m == pytest.approx(62, abs=0.1)


def test_heights_that_are_all_alike_are_no_surer_than_the_pixels():
    z = np.tile(np.arange(60.0), (60, 1))
    everywhere = np.ones(z.shape, bool)
    found = shoreline.level(z <= 20, everywhere, everywhere, z, everywhere, 10.0)
    assert found.level_m == 20.5 and found.spread_m == pytest.approx(1 / math.sqrt(12)) and found.places == 60


def test_a_shore_on_water_of_the_model_is_told():
    flooded = np.maximum(CONE, 64.0)
    found = shoreline.level(CONE <= 58, ALL, ALL, flooded, ALL, 10.0)
    assert found.flat == 1 and found.level_m == 64
    assert shoreline.level(CONE <= 68, ALL, ALL, flooded, ALL, 10.0).flat == 0


def test_gentle_ground_counts_more_than_steep_ground():
    """The mask lies a pixel too far east: on the steep side that is 5 m, on the gentle one 0.1 m."""
    cols = np.arange(100.0)
    z = np.tile(np.where(cols < 50, (50 - cols) * 0.1, (cols - 50) * 5.0) + 50, (60, 1))
    water = np.roll(z <= 52.05, 1, axis=1)
    everywhere = np.ones(z.shape, bool)
    found = shoreline.level(water, everywhere, everywhere, z, everywhere, 10.0)
    assert found.level_m == pytest.approx(52.05, abs=0.2)


def test_the_weighted_median():
    assert shoreline._median(np.array([3.0, 1.0, 2.0]), np.ones(3)) == 2
    assert shoreline._median(np.array([4.0, 1.0]), np.ones(2)) == 2.5
    assert shoreline._median(np.array([1.0, 5.0, 9.0]), np.array([1.0, 1.0, 5.0])) == 9
