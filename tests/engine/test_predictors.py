"""Rasters of all kinds as one stack on a fine grid."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from tests.helpers import utm, write_raster
from water_dl_plugin.engine.dem.predictors import Layer, Predictors, guessed_kind
from water_dl_plugin.engine.dem.resample import heights_on
from water_dl_plugin.engine.dem.vertical import Offset
from water_dl_plugin.engine.errors import BandError, ConfigError, GridMismatchError, RasterError
from water_dl_plugin.engine.raster import Grid, Raster
from water_dl_plugin.engine.windows import Window, blocks

FINE = utm(96, 80, 10.0)
RNG = np.random.default_rng(0)


def hill(grid: Grid) -> np.ndarray:
    x, y = grid.to_map(*np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5))
    return 2000 + 50 * np.sin((x - 400_000) / 150) + 0.1 * (y - 4_500_000)


@pytest.fixture
def files(tmp_path):
    """base 30 m; other: DEM on the fine grid; image 3 bands, 20 m, integers; finest: 2 m image; classes 25 m."""
    coarse, twenty = utm(32, 27, 30.0), utm(48, 40, 20.0)
    return {
        "base": write_raster(tmp_path / "base.tif", hill(coarse), coarse),
        "other": write_raster(tmp_path / "other.tif", (hill(FINE) + 3).astype(np.float32), FINE),
        "image": write_raster(
            tmp_path / "image.tif", RNG.integers(0, 3000, (3, 40, 48)).astype(np.uint16), twenty, names=("red", "nir", "swir")
        ),
        "finest": write_raster(tmp_path / "finest.tif", RNG.normal(0, 1, (400, 480)).astype(np.float32), utm(480, 400, 2.0)),
        "classes": write_raster(tmp_path / "classes.tif", RNG.integers(1, 9, (32, 40)).astype(np.uint8), utm(40, 32, 25.0)),
    }


def layers(files):
    return [
        Layer(files["base"], kind="elevation"), Layer(files["other"], kind="elevation"), Layer(files["image"], bands="3,1"),
        Layer(files["finest"]), Layer(files["classes"], kind="class"),
    ]  # fmt: skip


def test_all_on_one_grid(files):
    with Predictors(FINE, layers(files)) as stack:
        assert [b.name for b in stack.bands] == ["base", "other", "swir", "red", "finest", "classes"]
        assert stack.kinds == ("elevation", "elevation", "image", "image", "image", "class") and stack.dtype == np.float32
        assert stack.resamplings == ("cubic", "cubic", "bilinear", "bilinear", "bilinear", "nearest")
        assert stack.base_factor == pytest.approx(3, rel=1e-4) and stack.path == files["base"] and stack.grid == FINE
        pixels, valid = stack.read(Window(0, 0, 96, 80))
        assert pixels.dtype == np.float32 and pixels.shape == valid.shape == (6, 80, 96)
        for band, (name, bands, method) in enumerate(
            [("base", "", "cubic"), ("other", "", "nearest"), ("image", "3", "bilinear"), ("image", "1", "bilinear"), ("finest", "", "average"), ("classes", "", "nearest")]
        ):  # fmt: skip
            with Raster(files[name], bands) as raster:
                expected, there = heights_on(raster, FINE, method)
            np.testing.assert_array_equal(valid[band], there[0])
            np.testing.assert_allclose(pixels[band], expected[0], rtol=0, atol=2e-4)
        finest = gdal.Open(files["finest"]).ReadAsArray().reshape(80, 5, 96, 5).mean(axis=(1, 3))
        np.testing.assert_allclose(pixels[4], finest, atol=1e-5)  # a mean, not one pixel of 25
        assert np.mean(pixels[2] % 1 > 0) > 0.5 and set(np.unique(pixels[5])) <= set(range(9))
        for window in blocks(96, 80, 29):
            part, there = stack.read(window)
            rows, cols = window.slices
            np.testing.assert_allclose(part, pixels[:, rows, cols], rtol=0, atol=1e-3)
            np.testing.assert_array_equal(there, valid[:, rows, cols])


def test_turned_and_moved_grids(files):
    with Predictors(FINE, layers(files)[:2]) as stack:
        whole, _ = stack.read(Window(0, 0, 96, 80))
        window = Window(30, 20, 32, 32)
        quarter, valid = stack.read_on(FINE.part(window).rotated(90))
        assert valid.all()
        np.testing.assert_allclose(np.rot90(quarter, 1, axes=(1, 2)), whole[:, 20:52, 30:62], atol=1e-3)


def test_offsets_and_the_base_in_full(files):
    with Predictors(FINE, layers(files)) as stack:
        before, _ = stack.read(Window(8, 8, 16, 16))
        plane = Offset(10.0, 0.01, 0.0, 400_000.0, 0.0)
        stack.set_offset(0, plane)
        stack.set_offset(1, Offset(-3.0))
        after, _ = stack.read(Window(8, 8, 16, 16))
        np.testing.assert_allclose(after[0] - before[0], plane.at(FINE.part(Window(8, 8, 16, 16))), atol=1e-3)
        np.testing.assert_allclose(after[1] - before[1], -3, atol=1e-3)
        np.testing.assert_array_equal(after[2:], before[2:])
        base, valid = stack.base(Window(8, 8, 16, 16))
        assert base.dtype == np.float64 and base.shape == valid.shape == (16, 16)
        np.testing.assert_array_equal(base.astype(np.float32), after[0])
        assert (base != base.astype(np.float32)).any()
        stack.set_offset(0, None)
        np.testing.assert_array_equal(stack.read(Window(8, 8, 16, 16))[0][0], before[0])


def test_voids_stay_voids_and_get_no_offset(tmp_path, files):
    z = hill(FINE)
    z[10:20, 10:20] = np.nan
    path = write_raster(tmp_path / "holes.tif", z, FINE)
    with Predictors(FINE, [Layer(files["base"], kind="elevation"), Layer(path, kind="elevation")]) as stack:
        stack.set_offset(1, Offset(5.0))
        pixels, valid = stack.read(Window(0, 0, 96, 80))
    assert not valid[1, 10:20, 10:20].any() and valid[1].sum() == 96 * 80 - 100 and (pixels[1][~valid[1]] == 0).all()
    assert valid[0].all() and np.isfinite(pixels).all()


def test_half_a_pixel_between_two_elevation_models(tmp_path):
    """Two DEMs of 30 m whose grids are half a pixel apart, one in degrees: on the fine grid they are the same surface."""
    near, off = utm(40, 40, 30.0), utm(40, 40, 30.0, x=399_985, y=4_500_015)
    paths = [write_raster(tmp_path / f"{i}.tif", hill(g), g) for i, g in enumerate((near, off))]
    gdal.Warp(
        str(tmp_path / "degrees.tif"), paths[0], dstSRS="EPSG:4326", resampleAlg="cubic", outputType=gdal.GDT_Float64, dstNodata=-9999
    )
    with Predictors(FINE, [Layer(p, kind="elevation") for p in (*paths, str(tmp_path / "degrees.tif"))]) as stack:
        (a, b, c), _ = stack.read(Window(5, 5, 80, 70))
    truth = hill(FINE.part(Window(5, 5, 80, 70)))
    assert max(np.abs(a - truth).max(), np.abs(b - truth).max()) < 0.05 and np.abs(c - truth).max() < 0.25  # half a pixel is 5 m
    assert np.abs(np.roll(truth, 1, axis=1) - truth).max() > 2


# ------------------------------------------------------------------------------------------------------------------ what is refused


def test_a_base_finer_than_the_target(files):
    with pytest.raises(GridMismatchError, match=r"finer than the target: its pixel is 0.3.* Are they mixed up\?"):
        Predictors(utm(32, 27, 30.0), [Layer(files["other"], kind="elevation")])
    with Predictors(FINE, [Layer(files["other"], kind="elevation")]) as same:
        assert same.base_factor == pytest.approx(1)
    with Predictors(FINE, [Layer(files["base"], kind="elevation"), Layer(files["finest"], kind="elevation")]):
        pass  # only the base must be coarser


def test_elsewhere_without_crs_and_other_misfits(tmp_path, files):
    away = write_raster(tmp_path / "away.tif", hill(utm(20, 20, 30.0)), utm(20, 20, 30.0, x=700_000))
    bare = write_raster(tmp_path / "bare.tif", hill(utm(20, 20, 30.0)), Grid(20, 20, (400_000.0, 30, 0, 4_500_000.0, 0, -30)))
    base = Layer(files["base"], kind="elevation")
    for chosen, error, told in (
        ([Layer(away, kind="elevation")], GridMismatchError, "does not lie over"),
        ([base, Layer(away)], GridMismatchError, "Choose rasters of the same place"),
        ([base, Layer(bare)], GridMismatchError, "has no CRS"),
        ([Layer(files["image"], kind="elevation")], BandError, "has 3 bands; an elevation model has one"),
        ([Layer(files["image"])], ConfigError, "first raster must be an elevation model"),
        ([], ConfigError, "first raster must be"),
        ([base, Layer(files["image"]), Layer(files["other"], kind="elevation")], ConfigError, "must come before"),
        ([base, Layer(files["image"], kind="radar")], ConfigError, "Choose one of: elevation, image, class"),
        ([base, Layer(str(tmp_path / "nix.tif"))], RasterError, "no file"),
    ):
        with pytest.raises(error, match=told):
            Predictors(FINE, chosen)


def test_doubts_are_those_of_the_layers(tmp_path, files):
    flat = write_raster(tmp_path / "flat.tif", np.full((80, 96), 3.0), FINE)
    steps = write_raster(tmp_path / "steps.tif", np.rint(hill(utm(32, 27, 30.0))).astype(np.int16), utm(32, 27, 30.0))
    with Predictors(
        FINE, [Layer(files["base"], kind="elevation"), Layer(steps, kind="elevation"), Layer(flat), Layer(files["image"])]
    ) as stack:
        lines = stack.doubts()
    assert len(lines) == 2 and "steps.tif are whole numbers" in lines[0] and "flat.tif holds one value only here (3)" in lines[1]


# --------------------------------------------------------------------------------------------------------------------- what is what


def test_kinds_are_guessed(tmp_path, files):
    grid = utm(40, 40)
    many = write_raster(tmp_path / "many.tif", RNG.integers(0, 200, (40, 40)).astype(np.uint8), grid)
    few = write_raster(tmp_path / "few.tif", RNG.choice([0, 50, 250], (40, 40)).astype(np.uint8), grid)
    wide = write_raster(tmp_path / "wide.tif", RNG.integers(0, 5, (40, 40)).astype(np.int16), grid)
    named = write_raster(tmp_path / "named.tif", RNG.integers(0, 5, (40, 40)).astype(np.int16), grid)
    data = gdal.Open(named, gdal.GA_Update)
    data.GetRasterBand(1).SetCategoryNames(["land", "water"])
    data = None
    coloured = write_raster(tmp_path / "coloured.tif", RNG.integers(0, 200, (40, 40)).astype(np.uint8), grid)
    data, table = gdal.Open(coloured, gdal.GA_Update), gdal.ColorTable()
    table.SetColorEntry(1, (255, 0, 0, 255))
    data.GetRasterBand(1).SetColorTable(table)
    data = None
    kinds = [guessed_kind(p) for p in (many, few, wide, named, coloured, files["image"], files["classes"], files["finest"])]
    assert kinds == ["image", "class", "image", "class", "class", "image", "class", "image"]


def test_scaled_numbers_are_no_heights_yet(tmp_path):
    grid = utm(20, 20)
    path = write_raster(tmp_path / "dm.tif", np.full((20, 20), 12345, np.int16), grid)
    data = gdal.Open(path, gdal.GA_Update)
    data.GetRasterBand(1).SetScale(0.1)
    data = None
    with pytest.raises(BandError, match="scaled numbers.*unscale"):
        Predictors(grid, [Layer(path, kind="elevation")])


@pytest.mark.parametrize("value", [-32768, -9999, 3.4e38, -99999])
def test_undeclared_nodata_is_no_height(tmp_path, value):
    grid = utm(20, 20)
    heights = np.full((20, 20), 1500, np.float32)
    heights[3, 4] = value
    path = write_raster(tmp_path / "dem.tif", heights, grid)
    with (
        Predictors(utm(40, 40, 5.0), [Layer(path, kind="elevation")]) as stack,
        pytest.raises(RasterError, match="does not declare") as caught,
    ):
        stack.read(Window(0, 0, 20, 20))
    assert "-a_nodata" in caught.value.remedy
    declared = write_raster(tmp_path / "declared.tif", heights, grid, nodata=np.float32(value))
    with Predictors(utm(40, 40, 5.0), [Layer(declared, kind="elevation")]) as stack:
        pixels, valid = stack.read(Window(0, 0, 20, 20))
    assert (pixels[valid] == 1500).all() and not valid[0, 6:8, 8:10].any()
