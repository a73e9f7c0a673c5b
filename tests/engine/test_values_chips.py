"""exportchips with TARGET=values: coarse elevation models, further rasters and a fine elevation model -> chips."""

from __future__ import annotations

import os

import numpy as np
import pytest
from osgeo import gdal

from tests.helpers import box, crs, load_json, read_layer, read_raster, utm, write_layer, write_raster
from water_dl_plugin.engine.chips import ChipSet
from water_dl_plugin.engine.dem.resample import heights_on
from water_dl_plugin.engine.errors import BandError, Cancelled, ChipsError, ConfigError, GridMismatchError, LabelError
from water_dl_plugin.engine.export import export
from water_dl_plugin.engine.raster import Grid, Raster
from water_dl_plugin.engine.settings import ChipsConfig

FINE, COARSE = utm(192, 128, 10.0), utm(64, 43, 30.0)
LAKE = (slice(40, 60), slice(70, 100))


def config(**changes):
    return ChipsConfig(**{"target": "values", "tile_size": 32, "validation_share": 0.0, **changes})


def surface(grid: Grid) -> np.ndarray:
    x, y = grid.to_map(*np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5))
    return 1200 + 60 * np.sin((x - 400_000) / 120) * np.cos((y - 4_500_000) / 150) + 0.02 * (x - 400_000)


def fine_heights() -> np.ndarray:
    return (surface(FINE) + np.random.default_rng(0).normal(0, 0.5, (128, 192))).astype(np.float32)


@pytest.fixture
def fine(tmp_path):
    return write_raster(tmp_path / "fine_20190704.tif", fine_heights(), FINE, nodata=-32768)


@pytest.fixture
def base(tmp_path):
    return write_raster(tmp_path / "base.tif", surface(COARSE), COARSE, nodata=-32768)


def lines_of(*args, **kwargs):
    said = []
    manifest = export(*args, progress=lambda f, m="": m and said.append(m), **kwargs)
    return manifest, said


def place(chips: ChipSet, inside: str):
    transform = read_raster(chips.path(inside))[2]
    col, row = FINE.to_pixel(transform[0], transform[3])
    return slice(round(row), round(row) + chips.manifest.tile_size), slice(round(col), round(col) + chips.manifest.tile_size)


# ------------------------------------------------------------------------------------------------------------------- what is cut


def test_chips_hold_predictors_and_heights_at_their_place(tmp_path, base, fine):
    image = write_raster(tmp_path / "image.tif", np.random.default_rng(1).integers(0, 3000, (2, 128, 192)).astype(np.uint16), FINE)
    folder = tmp_path / "chips"
    manifest = export([base], fine, str(folder), config(vertical="none"), stack=[image])
    chips = ChipSet(str(folder))
    assert chips.manifest == manifest and len(manifest.chips) == 6 * 4
    with Raster(base) as raster:
        expected, _ = heights_on(raster, FINE)
    for chip in manifest.chips:
        cut = place(chips, chip.image)
        pixels, valid = chips.image(chip)
        heights, known = chips.values(chip)
        assert pixels.dtype == heights.dtype == np.float32 and heights.shape == known.shape == (32, 32) and known.all() and valid.all()
        np.testing.assert_allclose(heights, fine_heights()[cut], rtol=1e-7)
        np.testing.assert_allclose(pixels[0], expected[0][cut], rtol=1e-7)
        np.testing.assert_array_equal(pixels[1:], read_raster(image)[0][(slice(None), *cut)])
        assert read_raster(chips.path(chip.image))[2] == read_raster(chips.path(chip.label))[2]
        assert (chip.date, chip.shares, chip.nodata) == ("2019-07-04", (1.0,), 0.0)
    assert manifest.task == "regression" and manifest.classes == () and manifest.pixel_size == (10.0, 10.0)
    assert manifest.target == {"name": "elevation", "unit": "m", "factor": 3.0, "vertical": "none"}
    assert [(b["kind"], b["resampling"]) for b in manifest.bands] == [("elevation", "cubic"), ("image", "bilinear"), ("image", "bilinear")]
    for band, plane in zip(manifest.statistics, (expected[0], *read_raster(image)[0])):
        assert band["mean"] == pytest.approx(plane.mean(), rel=1e-6) and band["std"] == pytest.approx(plane.std(), rel=1e-4)
    assert sorted(os.listdir(folder)) == ["chips.gpkg", "chips.json", "images", "labels"]
    footprints = read_layer(folder / "chips.gpkg", "chips")
    assert len(footprints) == 24 and {f["usable"] for f in footprints} == {1.0} and "share_land" not in footprints[0]


def test_what_can_not_be_learnt_from_is_masked(tmp_path, base):
    z = fine_heights()
    z[LAKE] = 1190.5  # as the maker of the elevation model sets it
    z[5:9, 5:9] = -32768
    z[100:103, 100:103] = 1234.0  # level, but smaller than 5 x 5
    z[0:6, 150:180] = 1000.0  # at the raster's border, across chips
    fine = write_raster(tmp_path / "fine.tif", z, FINE, nodata=-32768)
    pond = write_layer(tmp_path / "pond.gpkg", [(box(FINE, 120, 70, 15, 10), {"name": "pond"})], FINE.crs)
    masked = np.zeros(z.shape, bool)
    masked[LAKE] = masked[5:9, 5:9] = masked[0:6, 150:180] = True
    with_pond = masked.copy()
    with_pond[70:80, 120:135] = True
    classes = write_raster(tmp_path / "water.tif", np.where(with_pond, 80, 0).astype(np.uint8), FINE)
    for name, water, changes, expected in (
        ("a", "", {}, masked), ("b", pond, {}, with_pond), ("c", classes, {"level_water": False}, with_pond), ("d", "", {"level_water": False}, z == -32768),
    ):  # fmt: skip
        export([base], fine, str(tmp_path / name), config(**changes), water=water)
        chips, seen = ChipSet(str(tmp_path / name)), np.ones(z.shape, bool)
        for chip in chips.manifest.chips:
            heights, known = chips.values(chip)
            seen[place(chips, chip.label)] = ~known
            np.testing.assert_array_equal(heights[known], z[place(chips, chip.label)][known])
            assert (heights[~known] == -9999).all() and read_raster(chips.path(chip.label))[0].dtype == np.float32
            assert chip.shares == (round(float(known.mean()), 4),)
        np.testing.assert_array_equal(seen, expected)


def test_voids_of_predictors_stay_voids_of_their_band(tmp_path, fine):
    z, cloudy = surface(COARSE), np.random.default_rng(1).normal(0, 1, (128, 192)).astype(np.float32)
    z[4:8, 4:8] = -32768
    cloudy[60:90, 60:120] = -1
    base = write_raster(tmp_path / "base.tif", z, COARSE, nodata=-32768)
    image = write_raster(tmp_path / "image.tif", cloudy, FINE, nodata=-1)
    export([base], fine, str(tmp_path / "chips"), config(max_nodata=100), stack=[image])
    chips, voids, unknown = ChipSet(str(tmp_path / "chips")), np.zeros((2, 128, 192), bool), np.zeros((128, 192), bool)
    for chip in chips.manifest.chips:
        pixels, valid = chips.image(chip)
        voids[(slice(None), *place(chips, chip.image))] = ~valid
        unknown[place(chips, chip.image)] = ~chips.values(chip)[1]
        assert (pixels[~valid] == -9999).all()
        assert chip.nodata == pytest.approx(1 - valid[0].mean(), abs=1e-4)  # clouds in an image are no reason to leave a chip out
    expected = np.zeros((2, 128, 192), bool)
    expected[0, 12:24, 12:24] = expected[1, 60:90, 60:120] = True
    np.testing.assert_array_equal(voids, expected)
    np.testing.assert_array_equal(unknown, expected[0])  # without the base there is no difference to learn
    low = chips.manifest.statistics
    assert low[0]["min"] > 1000 and low[1]["min"] > -6 and low[1]["p50"] != -1


def test_levels_are_brought_together_and_told(tmp_path, base, fine):
    away, tilted = surface(COARSE) + 25, surface(COARSE) - 8 + 4e-3 * 30 * np.arange(64)
    paths = [write_raster(tmp_path / f"{n}.tif", z, COARSE) for n, z in (("away", away), ("tilted", tilted))]
    found = {}
    for kind in ("constant", "plane", "none"):
        manifest, said = lines_of([*paths], fine, str(tmp_path / kind), config(vertical=kind))
        chips = ChipSet(str(tmp_path / kind))
        residuals = [chips.values(c)[0] - chips.image(c)[0] for c in manifest.chips]
        found[kind] = [
            max(abs(float(np.mean([r[i].mean() for r in residuals]))), max(abs(float(r[i].mean())) for r in residuals)) for i in (0, 1)
        ]
        offsets, told = manifest.sources[0]["offsets"], "\n".join(said)
        assert manifest.sources[0]["layers"] == ["away.tif", "tilted.tif"] and manifest.target["vertical"] == kind
        assert "away.tif lies 25.0" in told and "geoid" in told and "tilted.tif is tilted" in told
        if kind == "none":
            assert offsets[0]["c"] == 0 and "is raised by" not in told and "is lowered by" not in told
        else:
            assert offsets[0]["c"] == pytest.approx(-25, abs=0.1) and f"away.tif is lowered by {-offsets[0]['c']:.2f} m" in told
            assert (offsets[1]["a"] != 0) == (kind == "plane")
        assert ("tilted by 7." in told) == (kind == "plane")
    assert found["none"][0] > 20 and found["constant"][0] < 0.7 and found["constant"][1] > 2 and max(found["plane"]) < 0.7
    assert load_json(tmp_path / "plane" / "chips.json")["sources"][0]["offsets"][1]["a"] == pytest.approx(-4e-3, rel=0.02)


def test_resampling_and_kinds_of_further_rasters(tmp_path, base, fine):
    soil = write_raster(tmp_path / "soil.tif", np.random.default_rng(0).integers(1, 5, (64, 96)).astype(np.uint8), utm(96, 64, 20.0))
    radar = write_raster(tmp_path / "radar.tif", np.random.default_rng(1).normal(0, 1, (64, 96)), utm(96, 64, 20.0))
    manifest = export([base], fine, str(tmp_path / "auto"), config(), stack=[soil, radar])
    assert [(b["kind"], b["resampling"]) for b in manifest.bands[1:]] == [("class", "nearest"), ("image", "bilinear")]
    assert set(np.unique(ChipSet(str(tmp_path / "auto")).image(manifest.chips[5])[0][1])) <= {1.0, 2.0, 3.0, 4.0}
    manifest = export([base], fine, str(tmp_path / "own"), config(resampling="bilinear, cubic"), stack=[soil, radar])
    assert [(b["kind"], b["resampling"]) for b in manifest.bands[1:]] == [("image", "bilinear"), ("image", "cubic")]
    manifest = export([base], fine, str(tmp_path / "bands"), config(bands="1,3"), stack=[soil, radar])
    assert [b["kind"] for b in manifest.bands] == ["elevation", "image"] and manifest.sources[0]["layers"] == ["base.tif", "radar.tif"]
    for changes, told in (
        ({"resampling": "nearest"}, "2 further raster.* but 1 resampling"), ({"resampling": "nearest, lanczos"}, "no resampling 'lanczos'"),
        ({"bands": "2,3"}, "leave out the elevation model"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            export([base], fine, str(tmp_path / "wrong"), config(**changes), stack=[soil, radar])


def test_split_by_blocks_and_area(tmp_path, base, fine):
    area = write_layer(tmp_path / "area.gpkg", [(box(FINE, 0, 0, 160, 128), {"a": 1})], FINE.crs)
    folder = tmp_path / "chips"
    manifest = export(
        [base], fine, str(folder), config(stride=16, block_size=32, validation_share=0.3, test_share=0.1, min_labelled=5), area=area
    )
    chips, seen = ChipSet(str(folder)), np.zeros((3, 128, 192), bool)
    for chip in manifest.chips:
        seen[("train", "validation", "test").index(chip.split)][place(chips, chip.label)] |= chips.values(chip)[1]
    assert (seen.sum(axis=0) <= 1).all() and not seen[:, :, 160:].any()  # no pixel both trains and tests
    shares = seen.sum(axis=(1, 2)) / seen.sum()
    assert seen.any(axis=0)[:, :160].mean() > 0.97 and abs(shares[1] - 0.3) < 0.05 and abs(shares[2] - 0.1) < 0.05
    assert {b["split"] for b in read_layer(folder / "chips.gpkg", "blocks")} == {"train", "validation", "test"}


def test_turned_chips_keep_water_masked(tmp_path, base):
    z = fine_heights()
    z[LAKE] = 1190.54
    fine = write_raster(tmp_path / "fine.tif", z, FINE)
    manifest = export([base], fine, str(tmp_path / "chips"), config(rotation=30, tile_size=48))
    chips, level = ChipSet(str(tmp_path / "chips")), 0
    for chip in manifest.chips:
        heights, known = chips.values(chip)
        level += int((np.abs(heights[known] - 1190.54) < 1e-3).sum())
    assert {c.rotation for c in manifest.chips} == {30.0 * k for k in range(12)}
    assert level < 0.03 * 600 * 12


def test_append(tmp_path, base, fine):
    folder = str(tmp_path / "chips")
    export([base], fine, folder, config())
    grid = utm(192, 128, 10.0, x=450_000)
    other = write_raster(tmp_path / "other.tif", surface(grid).astype(np.float32), grid)
    coarse = write_raster(tmp_path / "coarse.tif", surface(utm(64, 43, 30.0, x=450_000)), utm(64, 43, 30.0, x=450_000))
    both = export([coarse], other, folder, config(append=True))
    assert (
        len(both.chips) == 48
        and [s["name"] for s in both.sources] == ["fine_20190704.tif", "other.tif"]
        and both == ChipSet(folder).manifest
    )
    assert both.statistics[0]["max"] > 1500 and len(read_layer(tmp_path / "chips" / "chips.gpkg", "chips")) == 48
    six = write_raster(tmp_path / "six.tif", surface(utm(32, 22, 60.0)), utm(32, 22, 60.0))
    with pytest.raises(GridMismatchError, match="as wide as 6 of the target's; in the folder it is 3"):
        export([six], fine, folder, config(append=True))
    with pytest.raises(GridMismatchError, match="different numbers of bands"):
        export([base, base], fine, folder, config(append=True))
    image = write_raster(tmp_path / "image.tif", np.random.default_rng(0).normal(0, 1, (128, 192)), FINE)
    export([base, base], fine, folder, config())
    with pytest.raises(GridMismatchError, match="are elevation, image; those of the folder are elevation, elevation"):
        export([base], fine, folder, config(append=True), stack=[image])
    labels = write_layer(
        tmp_path / "labels.gpkg", [(box(FINE, 0, 0, 90, 90), {"c": "a"}), (box(FINE, 90, 0, 90, 90), {"c": "b"})], FINE.crs
    )
    with pytest.raises(ChipsError, match="for the task 'regression'"):
        export([fine], labels, folder, ChipsConfig(class_field="c", tile_size=32, append=True))


# ---------------------------------------------------------------------------------------------------------------------- bad input


def test_suspicious_elevation_models_are_told(tmp_path, base, fine):
    feet = write_raster(tmp_path / "feet.tif", surface(COARSE) / 0.3048, COARSE)
    steps = write_raster(tmp_path / "steps.tif", np.rint(surface(COARSE)).astype(np.int16), COARSE)
    flat = write_raster(tmp_path / "flat.tif", np.full((128, 192), 4.0), FINE)
    _, said = lines_of([feet], fine, str(tmp_path / "a"), config())
    assert any("feet.tif seems to be in feet" in line and "Bring both" in line for line in said)
    _, said = lines_of([base, steps], fine, str(tmp_path / "b"), config(), stack=[flat])
    assert any("steps.tif are whole numbers" in line for line in said)
    assert any("flat.tif holds one value only" in line and "Leave it out" in line for line in said)
    assert not any("base.tif" in line and "Warning" in line for line in said)


def test_a_second_coarse_model_is_recommended(tmp_path, base, fine):
    alone = "\n".join(lines_of([base], fine, str(tmp_path / "one"), config())[1])
    both = "\n".join(lines_of([base, base], fine, str(tmp_path / "two"), config())[1])
    assert "A second one of another source" in alone and "A second one" not in both


def test_a_target_in_whole_metres(tmp_path, base):
    z = np.rint(fine_heights() / 4).astype(np.int16)  # 5 x 5 squares of one height are common now
    fine = write_raster(tmp_path / "steps.tif", z, FINE)
    manifest, said = lines_of([base], fine, str(tmp_path / "chips"), config())
    assert sum("whole numbers" in line for line in said) == 2 and any("Give a water mask instead" in line for line in said)
    assert all(c.shares == (1.0,) for c in manifest.chips)


def test_what_is_refused(tmp_path, base, fine):
    away = write_raster(tmp_path / "away.tif", surface(COARSE), utm(64, 43, 30.0, x=800_000))
    bare = write_raster(tmp_path / "bare.tif", surface(COARSE), Grid(64, 43, COARSE.transform))
    void = write_raster(tmp_path / "void.tif", np.full((43, 64), -32768.0), COARSE, nodata=-32768)
    colour = write_raster(tmp_path / "colour.tif", np.random.default_rng(0).integers(0, 255, (3, 128, 192)).astype(np.uint8), FINE)
    flat = write_raster(tmp_path / "flat.tif", np.full((128, 192), 7.5), FINE)
    labels = write_layer(tmp_path / "labels.gpkg", [(box(FINE, 0, 0, 90, 90), {"c": "a"})], FINE.crs)
    far = write_raster(tmp_path / "far.tif", np.ones((10, 10), np.uint8), utm(10, 10, x=700_000))
    for scenes, target, water, error, told in (
        ([fine], base, "", GridMismatchError, "finer than the target.*mixed up"),
        ([away], fine, "", GridMismatchError, "does not lie over.*check their CRS"),
        ([bare], fine, "", GridMismatchError, "Assign the missing CRS"),
        ([void], fine, "", GridMismatchError, "no pixel with data in common.*nodata"),
        ([base], colour, "", BandError, "3 bands; an elevation model has one"),
        ([colour], fine, "", BandError, "3 bands; an elevation model has one"),
        ([base], labels, "", LabelError, "is a vector layer.*raster"),
        ([base], flat, "", LabelError, "No pixel of flat.tif can be learnt from.*switch 'Leave out level areas' off"),
        ([base], fine, far, GridMismatchError, "does not lie over"),
        ([], fine, "", ConfigError, "No scene was chosen"),
    ):
        with pytest.raises(error, match=f"(?s){told}"):
            export(scenes, target, str(tmp_path / "chips"), config(), water=water)
        assert not (tmp_path / "chips").exists() and not (tmp_path / "chips.partial").exists()
    with pytest.raises(ConfigError, match="PNG takes three 8-bit bands"):
        export([base], fine, str(tmp_path / "chips"), config(image_format="PNG"))
    with pytest.raises(ConfigError, match="for the target 'values' only"):
        export([base], labels, str(tmp_path / "chips"), ChipsConfig(class_field="c"), water=far)
    pond = write_layer(tmp_path / "pond.gpkg", [(box(utm(10, 10, x=700_000), 0, 0, 5, 5), {"a": 1})], FINE.crs)
    assert any("water mask does not lie over" in line for line in lines_of([base], fine, str(tmp_path / "ok"), config(), water=pond)[1])


def test_cancel_and_progress(tmp_path, base, fine):
    seen = []
    export([base, base], fine, str(tmp_path / "chips"), config(), progress=lambda f, m="": seen.append(f))
    assert seen == sorted(seen) and seen[-1] == 1 and seen[0] < 0.05

    for limit in (0.01, 0.1, 0.5):

        def stop(fraction, message="", limit=limit):
            if fraction >= limit:
                raise Cancelled

        with pytest.raises(Cancelled):
            export([base], fine, str(tmp_path / "none"), config(), progress=stop)
        assert not (tmp_path / "none").exists() and not (tmp_path / "none.partial").exists()


def test_degrees_on_metres_and_pixel_is_point(tmp_path, fine):
    """A base in longitude and latitude whose file says that its pixels are points: residuals are noise, not a shifted hillside."""
    degrees = Grid(90, 60, (-112.1838, 30 / 85_000, 0, 40.6455, 0, -30 / 111_000), crs(4326))
    source = write_raster(
        tmp_path / "large.tif", surface(utm(600, 500, 10.0, x=398_000, y=4_502_000)), utm(600, 500, 10.0, x=398_000, y=4_502_000)
    )
    (west, south, east, north) = degrees.bounds
    path = str(tmp_path / "degrees.tif")
    gdal.Warp(
        path, source, dstSRS="EPSG:4326", outputBounds=(west, south, east, north), width=90, height=60, resampleAlg="cubic",
        outputType=gdal.GDT_Float64, errorThreshold=0, warpOptions=["XSCALE=1", "YSCALE=1"],
    )  # fmt: skip
    data = gdal.Open(path, gdal.GA_Update)
    data.SetMetadataItem("AREA_OR_POINT", "Point")
    data = None
    np.testing.assert_allclose(gdal.Open(path).GetGeoTransform(), degrees.transform, rtol=1e-9)
    manifest = export([path], fine, str(tmp_path / "chips"), config(max_nodata=100))
    chips = ChipSet(str(tmp_path / "chips"))
    assert gdal.Open(path).GetMetadataItem("AREA_OR_POINT") == "Point"
    off = np.concatenate([(chips.values(c)[0] - chips.image(c)[0][0])[chips.values(c)[1] & chips.image(c)[1][0]] for c in manifest.chips])
    assert len(off) > 20_000 and off.std() < 0.6  # the target's own noise is 0.5; half a pixel would be 4
