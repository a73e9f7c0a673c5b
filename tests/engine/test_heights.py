"""Arithmetic on elevations against gdaldem, known surfaces and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osgeo import gdal

from tests.helpers import crs, utm, write_raster
from water_dl_plugin.engine.grid import spacing_m
from water_dl_plugin.engine.heights import aspect_deg, fill_voids, gradient, level_areas, slope_deg
from water_dl_plugin.engine.raster import Grid


def rough(rows=60, cols=50, seed=0):
    steps = np.random.default_rng(seed).normal(size=(rows, cols))
    return np.cumsum(np.cumsum(steps, 0), 1) + 1000


# -------------------------------------------------------------------------------------------------------------------------- voids


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), cols=st.integers(1, 40), share=st.floats(0.02, 1), level=st.floats(-100, 8000), seed=st.integers(0, 99))
def test_filled_voids_lie_within_what_is_known_and_the_known_is_untouched(rows, cols, share, level, seed):
    rng = np.random.default_rng(seed)
    plane = (level + rng.normal(0, 10, (rows, cols))).astype(np.float32)
    valid = rng.random((rows, cols)) < share
    filled = fill_voids(np.where(valid, plane, np.nan).astype(np.float32), valid)
    assert filled.dtype == np.float32 and filled.shape == plane.shape
    if not valid.any():
        assert (filled == 0).all()
        return
    assert np.array_equal(filled[valid].view(np.uint32), plane[valid].view(np.uint32))
    known = plane[valid]
    assert known.min() - 1e-2 <= filled.min() and filled.max() <= known.max() + 1e-2


def test_a_void_in_a_slope_is_bridged_smoothly():
    plane = np.add.outer(np.arange(64.0), 2 * np.arange(64.0)).astype(np.float32)
    valid = np.ones(plane.shape, bool)
    valid[20:36, 24:40] = False
    filled = fill_voids(plane, valid)
    assert np.abs(filled - plane)[~valid].max() < 14  # 48 m over the void; its mean would be off by 24
    assert np.abs(np.diff(filled, axis=1)).max() < 8  # no cliff at its edges
    constant = fill_voids(np.where(valid, np.float32(1234.567), 0).astype(np.float32), valid)
    assert (constant == np.float32(1234.567)).all()


# --------------------------------------------------------------------------------------------------------------- slope and aspect


@pytest.mark.parametrize("mode, own", [("slope", slope_deg), ("aspect", aspect_deg)])
def test_as_gdaldem(tmp_path, mode, own):
    z = rough().astype(np.float32)
    path = write_raster(tmp_path / "z.tif", z, utm(50, 60))
    theirs = gdal.DEMProcessing("", path, mode, format="MEM", computeEdges=True).ReadAsArray()
    mine = own(z.astype(np.float64), 10, 10)
    inner = np.ones(z.shape, bool)
    inner[[0, 0, -1, -1], [0, -1, 0, -1]] = False  # gdaldem has a way of its own at the four corners
    off = np.abs(mine - theirs)[inner]
    assert np.minimum(off, 360 - off).max() < 0.05


@pytest.mark.parametrize(
    "east, north, aspect", [(-1, 0, 90), (1, 0, 270), (0, -1, 0), (0, 1, 180), (-1, -1, 45), (1, -1, 315), (1, 1, 225)]
)
def test_a_plane_falls_where_it_falls(east, north, aspect):
    """Rise per metre to the east and north; pixels of 5 x 20 m."""
    z = 100 + east * 5.0 * np.arange(7) - north * 20.0 * np.arange(6)[:, None]
    dz_dx, dz_dy = gradient(z, 5, 20)
    np.testing.assert_allclose(dz_dx, east, atol=1e-12)  # up to the border
    np.testing.assert_allclose(dz_dy, north, atol=1e-12)
    np.testing.assert_allclose(slope_deg(z, 5, 20), np.degrees(np.arctan(np.hypot(east, north))))
    np.testing.assert_allclose(aspect_deg(z, 5, 20), aspect, atol=1e-9)


def test_level_ground_has_no_aspect_and_a_void_is_no_slope():
    z = np.full((5, 6), 7.0)
    assert np.isnan(aspect_deg(z, 1, 1)).all() and (slope_deg(z, 1, 1) == 0).all()
    z[2, 2] = np.nan
    assert np.isnan(slope_deg(z, 1, 1))[1:4, 1:4].all() and np.isnan(slope_deg(z, 1, 1)).sum() == 9
    assert gradient(np.zeros((3, 1, 1)), 1, 1)[0].shape == (3, 1, 1)


# ------------------------------------------------------------------------------------------------------------------------ spacing


def test_spacing_is_true_on_the_ground():
    dx, dy = spacing_m(Grid(100, 100, (-105.0, 1 / 3600, 0, 60.0, 0, -1 / 3600), crs(4326)))
    middle = np.radians(60 - 50 / 3600)
    e2, a = 0.00669437999014, 6378137.0
    prime = a / np.sqrt(1 - e2 * np.sin(middle) ** 2)
    assert dx == pytest.approx(prime * np.cos(middle) * np.radians(1 / 3600), rel=1e-6)
    assert dy == pytest.approx(a * (1 - e2) / (1 - e2 * np.sin(middle) ** 2) ** 1.5 * np.radians(1 / 3600), rel=1e-6)
    assert spacing_m(utm(100, 100, x=500_000)) == pytest.approx((10 / 0.9996, 10 / 0.9996), rel=1e-6)
    mercator = spacing_m(Grid(10, 10, (0.0, 30.0, 0, 8_399_737.9, 0, -30.0), crs(3857)))  # 60 degrees north: half as long, nearly
    assert mercator == pytest.approx((15.04, 15.0), rel=5e-3)


def test_spacing_of_turned_and_unknown_grids():
    assert spacing_m(Grid(10, 10, (0.0, 2.0, 0.0, 0.0, 0.0, -3.0))) == (2.0, 3.0)
    assert spacing_m(utm(64, 64).rotated(30)) == pytest.approx(spacing_m(utm(64, 64)), rel=1e-6)
    feet = Grid(10, 10, (600_000.0, 100.0, 0.0, 200_000.0, 0.0, -100.0), crs(2263))  # US survey feet
    assert spacing_m(feet) == pytest.approx((30.48, 30.48), rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------- level areas


def test_level_areas():
    z, valid = rough(40, 40), np.ones((40, 40), bool)
    z[5:12, 6:20] = 50.0  # a lake
    z[20:24, 20:30] = 60.0  # too narrow
    z[30:36, 2:8] = 70.0
    valid[32, 4] = False  # no square of 5 without a void
    expected = np.zeros_like(valid)
    expected[5:12, 6:20] = True
    np.testing.assert_array_equal(level_areas(z, valid), expected)
    assert level_areas(z, valid, 4).sum() > expected.sum() and not level_areas(z[:4], valid[:4]).any()


def test_a_crooked_lake_is_found_whole():
    z = rough(50, 50)
    row, col = np.mgrid[:50, :50]
    lake = (row - 25) ** 2 + (col - 20) ** 2 < 15**2
    z[lake] = 12.5
    found = level_areas(z, np.ones(z.shape, bool))
    assert not (found & ~lake).any() and (found & lake).sum() > 0.95 * lake.sum()
