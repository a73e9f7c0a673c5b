"""Levels of elevation models against each other, and what is suspicious about them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import crs, utm, write_raster
from water_dl_plugin.engine.dem.vertical import Offset, doubts, fit, pairs, raster_doubts, stepped_in
from water_dl_plugin.engine.errors import Cancelled, ConfigError
from water_dl_plugin.engine.raster import Grid, Raster

RNG = np.random.default_rng(0)
X, Y = 400_000 + RNG.uniform(0, 30_000, 5000), 4_500_000 - RNG.uniform(0, 20_000, 5000)


def terrain(grid: Grid) -> np.ndarray:
    x, y = grid.to_map(*np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5))
    return 900 + 120 * np.sin((x - 400_000) / 700) * np.cos((y - 4_500_000) / 900)


# ------------------------------------------------------------------------------------------------------------------------ offsets


@settings(max_examples=30, deadline=None)
@given(c=st.floats(-100, 100), a=st.floats(-2e-3, 2e-3), b=st.floats(-2e-3, 2e-3), wrong=st.floats(0, 0.3))
def test_a_plane_is_found_under_forests_and_errors(c, a, b, wrong):
    truth = c + a * (X - X.mean()) + b * (Y - Y.mean())
    noise = np.random.default_rng(1).normal(0, 0.5, X.shape)
    noise[: int(wrong * len(X))] += np.random.default_rng(2).uniform(10, 40, int(wrong * len(X)))  # all to one side
    found = fit(truth + noise, X, Y, "plane")
    at = found.c + found.a * (X - found.x0) + found.b * (Y - found.y0)
    assert np.abs(at - truth).max() < 0.15
    level = fit(np.full(X.shape, c) + noise, X, Y, "constant")
    assert level.a == level.b == 0 and abs(level.c - c) < 0.5


def test_kinds_of_offsets():
    difference = np.r_[np.full(60, 2.0), np.full(40, 50.0)]
    assert fit(difference, X[:100], Y[:100], "constant") == Offset(2.0)
    assert fit(difference, X[:100], Y[:100], "none") == fit(np.array([]), X[:0], Y[:0], "plane") == Offset()
    assert fit(difference[:20], X[:20], Y[:20], "plane") == Offset(2.0)  # too few
    assert fit(difference, X[:100], np.full(100, 5.0), "plane") == Offset(2.0)  # in a line
    assert fit(difference, np.full(100, 3.0), np.full(100, 5.0), "plane") == Offset(2.0)
    with pytest.raises(ConfigError, match="Choose one of: constant, plane, none"):
        fit(difference, X[:100], Y[:100], "cubic")


def test_an_offset_on_a_grid():
    grid = Grid(4, 3, (100.0, 10.0, 0.0, 200.0, 0.0, -10.0))
    offset = Offset(5.0, 0.1, -0.2, 105.0, 195.0)
    np.testing.assert_allclose(offset.at(grid), 5 + np.arange(4.0) + 2 * np.arange(3.0)[:, None])
    turned = Grid(2, 2, (0.0, 0.0, 10.0, 0.0, 10.0, 0.0))  # columns run north, rows east
    np.testing.assert_allclose(Offset(0.0, 1.0, 0.0, 0.0, 0.0).at(turned), [[5, 5], [15, 15]])
    assert (Offset(3.0).at(grid) == 3).all() and Offset(3.0).at(grid).shape == (3, 4)
    assert Offset.from_json(offset.to_json()) == offset
    for wrong in ({}, {"c": "x"}, [], {**offset.to_json(), "a": float("nan")}, {**offset.to_json(), "a": None}):
        with pytest.raises(ConfigError, match="offset"):
            Offset.from_json(wrong)


# -------------------------------------------------------------------------------------------------------------------------- pairs


def test_pairs_are_heights_of_the_same_places(tmp_path):
    fine, coarse = utm(300, 240, 10.0), Grid(60, 50, (-112.185, 45 / 85_000, 0, 40.648, 0, -45 / 111_000), crs(4326))
    here = terrain(fine)
    here[:60] = -9999
    in_utm = np.array([(p[0], p[1]) for p in _moved(coarse)]).T.reshape(2, 50, 60)
    there = 900 + 120 * np.sin((in_utm[0] - 400_000) / 700) * np.cos((in_utm[1] - 4_500_000) / 900) - 7
    a, b = (write_raster(tmp_path / f"{n}.tif", z, g, nodata=-9999) for n, z, g in (("a", there, coarse), ("b", here, fine)))
    with Raster(a) as first, Raster(b) as second:
        both = pairs(first, second, fine, limit=5000)
        assert 3000 < len(both.a) <= 5000 and both.a.dtype == np.float64
        np.testing.assert_allclose(both.b, 900 + 120 * np.sin((both.x - 400_000) / 700) * np.cos((both.y - 4_500_000) / 900), atol=1e-6)
        assert np.abs(both.a - both.b + 7).max() < 0.2
        assert np.ptp(both.x) > 2000 and both.y.max() < 4_500_000 - 600
        again = pairs(first, second, fine, limit=5000)
        other = pairs(first, second, fine, limit=5000, seed=1)
        np.testing.assert_array_equal(again.x, both.x)
        assert len(other.x) != len(both.x) or (other.x != both.x).any()

        def stop(fraction, message=""):
            raise Cancelled

        with pytest.raises(Cancelled):
            pairs(first, second, fine, progress=stop)


def _moved(grid):
    from water_dl_plugin.engine.grid import moved

    places = [grid.to_map(c + 0.5, r + 0.5) for r in range(grid.height) for c in range(grid.width)]
    return moved(places, grid.crs, crs(32612))


def test_a_finer_raster_is_averaged(tmp_path):
    grid = utm(20, 20, 50.0)
    rough = np.random.default_rng(0).normal(500, 30, (100, 100))
    fine, coarse = write_raster(tmp_path / "f.tif", rough, utm(100, 100, 10.0)), write_raster(tmp_path / "c.tif", np.zeros((20, 20)), grid)
    with Raster(fine) as a, Raster(coarse) as b:
        both = pairs(a, b, grid)
    np.testing.assert_allclose(np.sort(both.a), np.sort(rough.reshape(20, 5, 20, 5).mean(axis=(1, 3)).ravel()), rtol=1e-9)


def test_of_a_large_raster_little_is_read(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "z.tif", np.zeros((3000, 4000), np.float32), utm(4000, 3000))
    seen, read = [], Raster.read

    def watched(self, window):
        seen.append(window)
        return read(self, window)

    monkeypatch.setattr(Raster, "read", watched)
    with Raster(path) as a:
        both = pairs(a, a, a.grid, limit=10_000)
    assert len(both.a) == pytest.approx(10_000, rel=0.3) and sum(w.width * w.height for w in seen) < 400_000
    assert {int(w.col > 2000) + 2 * int(w.row > 1500) for w in seen} == {0, 1, 2, 3}


# ------------------------------------------------------------------------------------------------------------------------- doubts


Z = 300 + 100 * np.sin((X - 400_000) / 3000) + 40 * np.cos(Y / 2000)
NOISE = np.random.default_rng(3).normal(0, 4, Z.shape)


@pytest.mark.parametrize("level", [False, True])
def test_feet_and_metres(level):
    z = Z if not level else 300 + np.random.default_rng(4).normal(0, 0.4, Z.shape)  # a plain has no slope of regression, but a level
    assert "seems to be in feet" in doubts(z / 0.3048 + NOISE, z, "srtm.tif")[0]
    (line,) = doubts(z * 0.3048 + 0.1 * NOISE, z, "srtm.tif")
    assert line.startswith("Warning: srtm.tif seems to be in metres") and "Bring both to the same unit" in line
    assert not doubts(z + NOISE, z, "srtm.tif")
    if not level:  # the slope tells it whatever the level
        assert "feet" in doubts((z - 30) / 0.3048 + NOISE, z, "srtm.tif")[0]


def test_other_levels_and_tilts():
    (line,) = doubts(Z + 31.4 + NOISE, Z, "srtm.tif", X, Y)
    assert "31.4" in line and "above" in line and "geoid" in line and "'Vertical offset'" in line
    assert "below" in doubts(Z - 31.4, Z, "srtm.tif", X, Y)[0]
    (line,) = doubts(Z + 4e-4 * (X - X.mean()), Z, "srtm.tif", X, Y)
    assert "tilted" in line and "by 12.0 m" in line
    assert not doubts(Z + NOISE + 1, Z, "srtm.tif", X, Y)
    assert "hardly a pixel in common (3)" in doubts(Z[:3], Z[:3], "srtm.tif")[0]


def test_steps_and_constants(tmp_path):
    grid = utm(80, 60)
    z = terrain(grid)
    stack = np.stack([np.rint(z), z, np.full(z.shape, 7.0), np.full(z.shape, -9999.0)])
    path = write_raster(tmp_path / "mixed.tif", stack, grid, nodata=-9999)
    with Raster(path) as raster:
        lines = raster_doubts(raster, grid, elevation=True)
        assert len(lines) == 3 and "whole numbers" in lines[0] and "Band 3 of mixed.tif holds one value only here (7)" in lines[1]
        assert "Band 4 of mixed.tif holds hardly any data" in lines[2] and all("mixed.tif" in line for line in lines)
        assert len(raster_doubts(raster, grid, elevation=False)) == 2  # whole numbers are no fault of an image
        assert stepped_in(raster, grid)
    with Raster(path, "2") as raster:
        assert not raster_doubts(raster, grid, elevation=True) and not stepped_in(raster, grid)
    with Raster(path, "3") as raster:
        assert not stepped_in(raster, grid)


def test_only_what_lies_below_the_grid_is_looked_at(tmp_path):
    grid = utm(400, 300)
    z = np.full((300, 400), 5.0)
    z[:, 200:] = np.arange(200) + 0.5
    with Raster(write_raster(tmp_path / "z.tif", z, grid)) as raster:
        assert "one value only" in raster_doubts(raster, utm(150, 300), elevation=False)[0]
        assert not raster_doubts(raster, utm(100, 100, x=403_000), elevation=False)
        assert "hardly any data" in raster_doubts(raster, utm(100, 100, x=900_000), elevation=False)[0]
