"""Shifts that were planted are found again: on surfaces that a formula gives at any place, and on files."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from tests import helpers
from water_dl_plugin.engine.dem.quality import coregister
from water_dl_plugin.engine.dem.quality.coregister import Block, find, offset, pairs, sample
from water_dl_plugin.engine.dem.resample import heights_on
from water_dl_plugin.engine.raster import Raster
from water_dl_plugin.engine.windows import Window

WAVES = [(40, 0.3, 25), (27, 1.4, 12), (61, 2.2, 30), (18, 2.9, 5), (12, 0.9, 2.5), (90, 1.9, 45)]  # length px, direction, height m


def hills(col, row) -> np.ndarray:
    """Heights in m at a place given in pixels."""
    return 900 + sum(h * np.sin(2 * math.pi / length * (col * math.cos(a) + row * math.sin(a)) + 3 * a) for length, a, h in WAVES)


@functools.cache
def _grains(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (512, 512))


def surface(grid, shift=(0.0, 0.0), level=0.0, noise=0.0, seed=0, shape=hills):
    """A DEM over `grid` that lies `shift` (cols, rows) and `level` off, as `find` asks for it."""

    def heights(part):
        col, row = grid.to_pixel(*part.to_map(0.5, 0.5))
        cols, rows = col + np.arange(part.width) - shift[0], row + np.arange(part.height)[:, None] - shift[1]
        z = shape(cols, rows) + level
        if noise:
            z = z + noise * _grains(seed)[np.floor(rows).astype(int) % 512, np.floor(cols).astype(int) % 512]  # belongs to the place
        return z, np.ones(z.shape, bool)

    return heights


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.31, -0.47), (0.5, 0.5), (-2.6, 1.2), (0.03, 4.4)])
def test_planted_shift(shift):
    grid = helpers.utm(300, 260, 30.0)
    truth = sample(surface(grid), grid, Window(0, 0, 300, 260))
    found = find(surface(grid, shift, 2.5), truth)
    assert found.known and (found.cols, found.rows) == pytest.approx(shift, abs=0.005) and found.offset == pytest.approx(2.5, abs=0.01)
    assert found.cols_error < 0.01 and found.rows_error < 0.01


def test_planted_shift_under_noise_forest_and_voids():
    grid, rng = helpers.utm(300, 300, 30.0), np.random.default_rng(5)
    truth = [
        Block(b.grid, np.where(rng.random(b.heights.shape) < 0.1, np.nan, b.heights + rng.normal(0, 1.5, b.heights.shape)))
        for b in sample(surface(grid), grid, Window(0, 0, 300, 300))
    ]
    plain = surface(grid, (0.42, -0.18), -4.0, noise=1.5, seed=7)

    def dem(part):
        z, valid = plain(part)
        col, row = grid.to_pixel(*part.to_map(0, 0))
        cols, rows = col + np.arange(part.width), row + np.arange(part.height)[:, None]
        sunny = hills(cols + 1, rows) - hills(cols - 1, rows) > 11  # trees of 18 m stand on one side of the hills
        return z + np.where(sunny, 18.0, 0.0), valid & ((rows + cols) % 37 > 1)

    found = find(dem, truth)
    assert found.known and (found.cols, found.rows) == pytest.approx((0.42, -0.18), abs=0.05) and found.offset == pytest.approx(-4, abs=0.5)
    assert abs(found.cols - 0.42) < 5 * found.cols_error and 0 < found.cols_error < 0.05


def test_a_smooth_dem_beside_a_rough_reference():
    """Canopy in the reference: its slopes are noise mostly, so the smooth DEM's are used."""
    grid = helpers.utm(400, 400, 30.0)
    truth = sample(surface(grid, noise=15.0, seed=3), grid, Window(0, 0, 400, 400))
    found = find(surface(grid, (3.3, -2.2)), truth)
    assert found.known and (found.cols, found.rows) == pytest.approx((3.3, -2.2), abs=0.1)


def test_the_moved_grid_is_where_the_dem_holds_the_same():
    grid = helpers.utm(200, 200, 30.0)
    dem = surface(grid, (1.7, -0.6), 3.0)
    found = find(dem, sample(surface(grid), grid, Window(0, 0, 200, 200)))
    heights, _ = dem(found.moved(grid.part(Window(50, 60, 20, 10))))
    assert np.allclose(heights - found.offset, surface(grid)(grid.part(Window(50, 60, 20, 10)))[0], atol=0.05)


def plane(col, row):
    return 100 + 0.3 * col + 0.2 * row


def ridges(col, row):
    return 100 + 20 * np.sin(col / 9) + 0 * row


def tilted(col, row):
    return 100 + 0.25 * col + 4.0 * (np.floor(row) % 16 // 4)  # nothing is rounded: what can't be solved is exactly so


@pytest.mark.parametrize(
    "shape", [plane, ridges, tilted, lambda col, row: 250 + 0 * col * row], ids=["plane", "ridges", "tilted ridges", "level"]
)
def test_terrain_that_tells_no_shift(shape):
    """On a plane a shift is an offset, along a ridge nothing changes: then only the offset is told."""
    grid = helpers.utm(200, 200, 30.0)
    found = find(surface(grid, (0.0, 0.0), 1.25, shape=shape), sample(surface(grid, shape=shape), grid, Window(0, 0, 200, 200)))
    assert not found.known and (found.cols, found.rows) == (0, 0) and found.offset == pytest.approx(1.25) and found.pixels > 10_000


def test_noise_without_terrain_tells_no_shift():
    grid = helpers.utm(200, 200, 30.0)
    level = surface(grid, noise=1.0, seed=1, shape=lambda col, row: 250 + 0 * col * row)
    other = surface(grid, noise=1.0, seed=2, shape=lambda col, row: 251 + 0 * col * row)
    found = find(other, sample(level, grid, Window(0, 0, 200, 200)))
    assert not found.known and found.offset == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("planted", [0.5, -0.5, 0.0])
def test_half_a_pixel_of_a_coarse_dem_on_files(tmp_path, planted):
    """Means over 5 x 5 pixels, with a georeference that is half a coarse pixel off, as when corners are taken for centres."""
    grid = helpers.utm(400, 300, 10.0)
    fine = np.mean([surface(grid, (a, b))(grid)[0] for a in (-0.25, 0.25) for b in (-0.25, 0.25)], axis=0)
    coarse = fine.reshape(60, 5, 80, 5).mean(axis=(1, 3)).astype(np.float32)
    truth = helpers.write_raster(tmp_path / "fine.tif", fine.astype(np.float32), grid)
    wrong = helpers.utm(80, 60, 50.0, x=400_000 + 50 * planted, y=4_500_000 - 50 * planted)
    path = helpers.write_raster(tmp_path / "coarse.tif", coarse, wrong)
    with Raster(truth) as reference, Raster(path) as dem:
        blocks = sample(lambda g: tuple(a[0] for a in heights_on(reference, g)), grid, Window(0, 0, 400, 300))
        found = find(lambda g: tuple(a[0] for a in heights_on(dem, g)), blocks, 5.0)
    assert found.known and (found.cols / 5, found.rows / 5) == pytest.approx((planted, planted), abs=0.05)


def test_a_shift_beyond_reach_is_not_told():
    grid = helpers.utm(300, 300, 30.0)
    assert not find(surface(grid, (25.0, 25.0)), sample(surface(grid), grid, Window(0, 0, 300, 300))).known


def test_samples_are_bounded_and_spread():
    grid = helpers.utm(20_000, 20_000, 1.0)
    read = []

    def heights(part):
        read.append(grid.to_pixel(*part.to_map(0, 0)))
        return np.zeros((part.height, part.width)), np.ones((part.height, part.width), bool)

    found = sample(heights, grid, Window(5000, 2000, 12_000, 15_000))
    assert coregister.ENOUGH <= sum(b.heights.size for b in found) < 1.2 * coregister.ENOUGH
    places = np.array(read)
    assert places.min(axis=0).tolist() >= [5000, 2000] and (places.max(axis=0) < [17_000, 17_000]).all()
    assert (places.max(axis=0) - places.min(axis=0) > [7_000, 10_000]).all()


def test_nothing_in_common():
    grid = helpers.utm(100, 100)
    blocks = sample(surface(grid), grid, Window(0, 0, 100, 100))

    def void(part):
        return np.zeros((part.height, part.width)), np.zeros((part.height, part.width), bool)

    assert not len(pairs(void, blocks)[0]) and offset(np.zeros(0)).pixels == 0 and find(void, blocks).pixels == find(void, []).pixels == 0
    assert sample(void, grid, Window(0, 0, 100, 100)) == []
