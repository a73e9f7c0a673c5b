"""From scenes and labels to a chips folder, and back: place, pixels, labels, splits, and nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal, osr
from scipy import ndimage

from tests.helpers import (
    box,
    bright_is_water,
    chips_folder,
    crs,
    load_json,
    read_layer,
    read_raster,
    small_disk,
    umount,
    utm,
    write_layer,
    write_raster,
)
from water_dl_plugin.engine.chips import Chip, ChipSet, Manifest, read_manifest, with_validation
from water_dl_plugin.engine.errors import BandError, Cancelled, ChipsError, ConfigError, GridMismatchError, LabelError, OutputError
from water_dl_plugin.engine.export import export
from water_dl_plugin.engine.labels import choose_classes, open_labels
from water_dl_plugin.engine.raster import Grid
from water_dl_plugin.engine.settings import ChipsConfig

ROOT = Path(__file__).parents[2]
GRID = utm(128, 96)


def config(**changes):
    return ChipsConfig(**{"class_field": "class", "tile_size": 32, "stride": 32, "min_labelled": 0.0, "validation_share": 0.0, **changes})


def scene_pixels(bands=3, grid=GRID, seed=0, dtype=np.uint16):
    return np.random.default_rng(seed).integers(1, 4000 if dtype == np.uint16 else 255, (bands, grid.height, grid.width)).astype(dtype)


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene_20200831.tif", scene_pixels(), GRID, names=("blue", "green", "red"))


@pytest.fixture
def everywhere(tmp_path):
    """Labels on every pixel: the left half land, the right half water."""
    return write_layer(
        tmp_path / "all.gpkg", [(box(GRID, 0, 0, 64, 96), {"class": "land"}), (box(GRID, 64, 0, 64, 96), {"class": "water"})], GRID.crs
    )


@pytest.fixture
def sparse(tmp_path):
    """Two small squares, in the tiles (row 0, column 0) and (row 2, column 3) of 32 px."""
    return write_layer(
        tmp_path / "sparse.gpkg", [(box(GRID, 4, 4, 10, 10), {"class": "land"}), (box(GRID, 100, 70, 12, 12), {"class": "water"})], GRID.crs
    )


def place(chip_path, grid=GRID):
    transform = read_raster(chip_path)[2]
    col, row = grid.to_pixel(transform[0], transform[3])
    return round(col), round(row)


def labels_on_scene(chips: ChipSet, grid=GRID):
    """Class index + 1 of the labels of each split, mapped back on the scene: `(3, rows, cols)`, for upright chips."""
    back = np.zeros((3, grid.height + 200, grid.width + 200), np.uint8)
    for chip in chips.manifest.chips:
        col, row = place(chips.path(chip.image), grid)
        label = chips.label(chip)
        cut = back[("train", "validation", "test").index(chip.split), row : row + len(label), col : col + len(label)]
        np.copyto(cut, label, where=label > 0)
    return back[:, : grid.height, : grid.width]


# ---------------------------------------------------------------------------------------------------------------- what is cut


def test_chips_hold_the_scenes_pixels_at_their_place(tmp_path, scene, everywhere):
    manifest = export([scene], everywhere, str(tmp_path / "chips"), config())
    chips = ChipSet(str(tmp_path / "chips"))
    assert len(manifest.chips) == len(chips.manifest.chips) == 4 * 3 and chips.manifest == manifest
    pixels, seen = scene_pixels(), set()
    for chip in chips.manifest.chips:
        image, mask, transform = read_raster(chips.path(chip.image))
        col, row = place(chips.path(chip.image))
        assert transform[1] == 10 and transform[5] == -10 and image.dtype == np.uint16 and mask.all()
        np.testing.assert_array_equal(image, pixels[:, row : row + 32, col : col + 32])
        label, _, label_transform = read_raster(chips.path(chip.label))
        assert label_transform == transform and label.dtype == np.uint8
        np.testing.assert_array_equal(label[0], 1 if col < 64 else 2)
        assert chip.corners[0] == (transform[0], transform[3]) and chip.shares == ((1.0, 0.0) if col < 64 else (0.0, 1.0))
        assert (chip.date, chip.split, chip.nodata, chip.rotation) == ("2020-08-31", "train", 0.0, 0.0)
        seen.add((col, row))
    assert seen == {(c, r) for c in (0, 32, 64, 96) for r in (0, 32, 64)}
    assert [b["name"] for b in manifest.bands] == ["blue", "green", "red"] and manifest.pixel_size == (10.0, 10.0)
    assert abs(manifest.pixel_size_m - 10) < 0.02 and manifest.sources[0]["epsg"] == 32612 and len(manifest.sources[0]["hash"]) == 16
    for band, plane in zip(manifest.statistics, pixels):
        assert (band["min"], band["max"]) == (plane.min(), plane.max())
        np.testing.assert_allclose([band["mean"], band["std"]], [plane.mean(), plane.std()], rtol=1e-9)
    assert sorted(os.listdir(tmp_path / "chips")) == [
        "chips.gpkg", "chips.json", "esri_accumulated_stats.json", "esri_model_definition.emd", "images", "labels", "map.txt", "stats.txt"]  # fmt: skip


@pytest.mark.parametrize(
    "tile, stride, number", [(32, 0, 4 * 3), (32, 16, 7 * 5), (32, 24, 5 * 4), (50, 50, 3 * 2), (96, 96, 2), (128, 128, 1), (200, 100, 1)]
)
def test_number_of_chips(tmp_path, scene, everywhere, tile, stride, number):
    manifest = export([scene], everywhere, str(tmp_path / "chips"), config(tile_size=tile, stride=stride, max_nodata=100))
    assert len(manifest.chips) == number
    back = labels_on_scene(ChipSet(str(tmp_path / "chips")))[0]  # nothing of the scene is left out
    np.testing.assert_array_equal(back, np.where(np.arange(128) < 64, 1, 2)[None].repeat(96, 0))


def test_a_scene_smaller_than_a_tile_is_filled_with_nodata(tmp_path, scene, everywhere):
    manifest = export([scene], everywhere, str(tmp_path / "chips"), config(tile_size=160, stride=160, max_nodata=53))
    chips = ChipSet(str(tmp_path / "chips"))
    pixels, valid = chips.image(manifest.chips[0])
    there = np.zeros((160, 160), bool)
    there[:96, :128] = True
    np.testing.assert_array_equal(valid, there[None].repeat(3, 0))
    np.testing.assert_array_equal(pixels[:, :96, :128], scene_pixels())
    assert manifest.chips[0].nodata == round(1 - 128 * 96 / 160**2, 4) and not chips.label(manifest.chips[0])[~there].any()
    with pytest.raises(ChipsError, match="1 too much nodata"):
        export([scene], everywhere, str(tmp_path / "none"), config(tile_size=160, stride=160, max_nodata=51))


def test_only_tiles_with_labels(tmp_path, scene, sparse):
    manifest = export([scene], sparse, str(tmp_path / "chips"), config())
    assert [place(tmp_path / "chips" / c.image) for c in manifest.chips] == [(0, 0), (96, 64)]
    assert [c.shares for c in manifest.chips] == [(round(100 / 1024, 4), 0.0), (0.0, round(144 / 1024, 4))]


@pytest.mark.parametrize("share, number", [(9.0, 2), (10.0, 1), (14.0, 1), (15.0, 0)])
def test_minimum_labelled_share(tmp_path, scene, sparse, share, number):
    if number:
        assert len(export([scene], sparse, str(tmp_path / "chips"), config(min_labelled=share)).chips) == number
    else:
        with pytest.raises(ChipsError, match="12 tiles have too few labels"):
            export([scene], sparse, str(tmp_path / "chips"), config(min_labelled=share))
        assert not (tmp_path / "chips").exists() and not (tmp_path / "chips.partial").exists()


@pytest.mark.parametrize("only, number", [(True, 1), (False, 12)])
def test_background(tmp_path, scene, sparse, only, number):
    manifest = export(
        [scene], sparse + "|subset=class='water'", str(tmp_path / "chips"), config(unlabelled="background", only_with_labels=only)
    )
    assert len(manifest.chips) == number and [c.name for c in manifest.classes] == ["background", "water"]
    chips = ChipSet(str(tmp_path / "chips"))
    total = sum(np.bincount(chips.label(c).ravel(), minlength=3) for c in chips.manifest.chips)
    assert total.tolist() == [0, 1024 * number - 144, 144]


def test_background_needs_a_feature_where_there_is_data(tmp_path, sparse):
    """A tile whose only feature lies on nodata holds nothing but background."""
    pixels = scene_pixels()
    pixels[:, 66:90, 98:120] = 0
    scene = write_raster(tmp_path / "s.tif", pixels, GRID, nodata=0)
    manifest = export([scene], sparse, str(tmp_path / "chips"), config(unlabelled="background", max_nodata=80))
    assert [place(tmp_path / "chips" / c.image) for c in manifest.chips] == [(0, 0)]


def test_nodata_survives_and_has_no_label(tmp_path, everywhere):
    pixels = scene_pixels()
    pixels[1, 10:20, 5:25] = 0  # one band is enough
    pixels[:, 40:96, 32:64] = 0
    scene = write_raster(tmp_path / "s.tif", pixels, GRID, nodata=0)
    manifest = export([scene], everywhere, str(tmp_path / "chips"), config())
    assert (32, 64) not in [place(tmp_path / "chips" / c.image) for c in manifest.chips] and len(
        manifest.chips
    ) == 10  # (32, 32): 75 % missing
    chips = ChipSet(str(tmp_path / "chips"))
    hole = np.zeros((32, 32), bool)
    hole[10:20, 5:25] = True
    found, valid = chips.image(chips.manifest.chips[0])
    np.testing.assert_array_equal(valid, ~hole[None].repeat(3, 0))
    np.testing.assert_array_equal(found, pixels[:, :32, :32])
    np.testing.assert_array_equal(chips.label(chips.manifest.chips[0]), np.where(hole, 0, 1))
    assert chips.manifest.chips[0].nodata == round(200 / 1024, 4)
    assert chips.manifest.statistics[0]["min"] >= 1 and chips.manifest.statistics[1]["min"] >= 1
    assert len(export([scene], everywhere, str(tmp_path / "chips"), config(max_nodata=19)).chips) == 9


def test_nan_is_nodata(tmp_path, everywhere):
    pixels = scene_pixels().astype(np.float32)
    pixels[2, 3, 4] = np.nan
    manifest = export([write_raster(tmp_path / "s.tif", pixels, GRID)], everywhere, str(tmp_path / "chips"), config())
    chips = ChipSet(str(tmp_path / "chips"))
    _, valid = chips.image(chips.manifest.chips[0])
    assert (~valid).sum() == 3 and chips.label(chips.manifest.chips[0])[3, 4] == 0 and np.isfinite(manifest.statistics[2]["mean"])


def test_area_of_interest(tmp_path, scene, everywhere):
    area = write_layer(tmp_path / "area.gpkg", [(box(GRID, 40, 40, 40, 20), {})], GRID.crs)
    manifest = export([scene], everywhere, str(tmp_path / "chips"), config(), area=area)
    assert sorted(place(tmp_path / "chips" / c.image) for c in manifest.chips) == [(32, 32), (64, 32)]
    back = labels_on_scene(ChipSet(str(tmp_path / "chips")))[0] > 0
    expected = np.zeros((96, 128), bool)
    expected[40:60, 40:80] = True
    np.testing.assert_array_equal(back, expected)
    far = write_layer(tmp_path / "far.gpkg", [(box(utm(9, 9, x=900_000.0), 0, 0, 9, 9), {})], GRID.crs)
    with pytest.raises(LabelError, match="area of interest"):
        export([scene], everywhere, str(tmp_path / "none"), config(), area=far)


@pytest.mark.parametrize("angle", [90.0, 180.0])
def test_quarter_turns_are_exact(tmp_path, scene, sparse, angle):
    manifest = export([scene], sparse, str(tmp_path / "chips"), config(rotation=angle))
    chips = ChipSet(str(tmp_path / "chips"))
    assert [c.rotation for c in manifest.chips] == [*np.arange(0, 360, angle)] * 2
    upright = {}
    for chip in chips.manifest.chips:
        pixels, valid = chips.image(chip)
        label = chips.label(chip)
        assert valid.all()
        if chip.rotation == 0:
            upright = {"pixels": pixels, "label": label}
        turns = -round(chip.rotation / 90)  # a chip that lies turned counter-clockwise shows its content turned clockwise
        np.testing.assert_array_equal(pixels, np.rot90(upright["pixels"], turns, (1, 2)))
        np.testing.assert_array_equal(label, np.rot90(upright["label"], turns))


def test_any_turn_moves_pixels_and_labels_together(tmp_path):
    grid = utm(192, 192)
    y, x = np.mgrid[:192, :192] - 95.5
    bump = (2000 + 1500 * np.cos(np.hypot(x, y) / 12) * np.exp(-((np.hypot(x, y) / 60) ** 2))).astype(np.float32)
    wedge = (2000 + 10 * x + 4 * y).astype(np.float32)
    scene = write_raster(tmp_path / "s.tif", np.stack([bump, wedge]), grid)
    labels = write_layer(
        tmp_path / "l.gpkg", [(box(grid, 0, 0, 192, 192), {"class": "land"}), (box(grid, 80, 70, 50, 30), {"class": "water"})], grid.crs
    )
    middle = write_layer(tmp_path / "m.gpkg", [(box(grid, 48, 48, 96, 96), {})], grid.crs)
    manifest = export([scene], labels, str(tmp_path / "chips"), config(tile_size=96, stride=48, rotation=30, min_labelled=70), area=middle)
    chips = ChipSet(str(tmp_path / "chips"))
    here = [c for c in manifest.chips if np.allclose(np.mean(c.corners, axis=0), grid.to_map(96, 96), atol=1)]
    assert [c.rotation for c in here] == [30.0 * k for k in range(12)]
    upright = chips.image(here[0])[0], chips.label(here[0])
    disc = np.hypot(*(np.mgrid[:96, :96] - 47.5)) < 45
    for chip in here:
        pixels, label = chips.image(chip)[0], chips.label(chip)
        assert np.abs(pixels[0] - upright[0][0]).max() < 60  # radially symmetric: unmoved, within the interpolation of a curved field
        expected = ndimage.rotate(upright[0][1], -chip.rotation, reshape=False, order=1)
        np.testing.assert_allclose(pixels[1][disc], expected[disc], atol=1)
        turned = ndimage.rotate(upright[1], -chip.rotation, reshape=False, order=0)
        inner = disc & (label > 0) & (turned > 0)  # the area of interest does not turn
        assert (turned == label)[inner].mean() > 0.99 and inner.sum() > 5000 and (label == 2).sum() > 1200


def test_a_turn_of_less_than_a_degree_is_refused(tmp_path, scene, sparse):
    with pytest.raises(ConfigError, match="3600 copies"):
        export([scene], sparse, str(tmp_path / "chips"), config(rotation=0.1))


# ------------------------------------------------------------------------------------------------ several scenes, stacks, formats


def test_several_scenes_of_different_crs(tmp_path, scene, everywhere):
    other = Grid(128, 96, (-112.18, 0.0001, 0, 40.64, 0, -0.0001), crs(4326))
    second = write_raster(tmp_path / "s2.tif", scene_pixels(seed=1), other)
    third = write_raster(tmp_path / "s3.tif", scene_pixels(seed=2), utm(64, 64, x=700_000.0))  # far from all labels: gives nothing
    features = [(box(other, 0, 0, 70, 96), {"class": "land"}), (box(other, 70, 0, 58, 96), {"class": "water"})]
    here = write_layer(tmp_path / "o.geojson", features, other.crs)
    manifest = export([second, third], here, str(tmp_path / "chips"), config())
    assert (
        len(manifest.chips) == 12
        and [s["name"] for s in manifest.sources] == ["s2.tif", "s3.tif"]
        and {c.source for c in manifest.chips} == {0}
    )
    np.testing.assert_array_equal(
        labels_on_scene(ChipSet(str(tmp_path / "chips")), other)[0], np.where(np.arange(128) < 70, 1, 2)[None].repeat(96, 0)
    )
    footprints = read_layer(tmp_path / "chips" / "chips.gpkg", "chips")
    assert len(footprints) == 12
    np.testing.assert_allclose(footprints[0]["envelope"], (-112.18, -112.1768, 40.6368, 40.64), atol=1e-9)
    area = write_layer(tmp_path / "area.gpkg", [(box(other, 0, 0, 32, 32), {})], other.crs)
    assert len(export([second, third], here, str(tmp_path / "few"), config(), area=area).chips) == 1  # it need not meet all scenes


def test_a_stack_is_warped_to_the_first_raster(tmp_path, everywhere):
    """The second raster is in degrees; it holds the longitude, which is known at every pixel of the first one."""
    scene = write_raster(tmp_path / "s.tif", scene_pixels(2).astype(np.float32), GRID)
    wide = Grid(400, 300, (-112.20, 0.0001, 0, 40.66, 0, -0.0001), crs(4326))
    longitude = np.tile(-112.20 + 0.0001 * (np.arange(400) + 0.5), (300, 1)).astype(np.float64)
    other = write_raster(tmp_path / "lon.tif", longitude, wide)
    manifest = export([scene], everywhere, str(tmp_path / "chips"), config(bands="3,1"), stack=[other])
    chips = ChipSet(str(tmp_path / "chips"))
    assert len(manifest.bands) == 2
    for chip in chips.manifest.chips[::5]:
        pixels, _ = chips.image(chip)
        col, row = place(chips.path(chip.image))
        source, target = osr.SpatialReference(GRID.crs), osr.SpatialReference(wide.crs)
        target.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        move = osr.CoordinateTransformation(source, target)
        for i, j in ((0, 0), (31, 31), (10, 20)):
            assert abs(pixels[0, i, j] - move.TransformPoint(*GRID.to_map(col + j + 0.5, row + i + 0.5))[0]) < 1e-5  # a tenth of a pixel
        np.testing.assert_array_equal(pixels[1], scene_pixels(2)[0, row : row + 32, col : col + 32])


def test_scenes_that_do_not_fit_together(tmp_path, scene, everywhere):
    two = write_raster(tmp_path / "two.tif", scene_pixels(2), GRID)
    coarse = write_raster(tmp_path / "coarse.tif", scene_pixels(3), utm(128, 96, 30.0))
    with pytest.raises(GridMismatchError, match="numbers of bands"):
        export([scene, two], everywhere, str(tmp_path / "c"), config())
    with pytest.raises(GridMismatchError, match="10 m and 30 m"):
        export([scene, coarse], everywhere, str(tmp_path / "c"), config())
    with pytest.raises(BandError, match="Band 9"):
        export([scene], everywhere, str(tmp_path / "c"), config(bands="9"))
    with pytest.raises(ConfigError, match="No scene"):
        export([], everywhere, str(tmp_path / "c"), config())
    with pytest.raises(ConfigError, match="stride"):
        export([scene], everywhere, str(tmp_path / "c"), config(stride=33))
    with pytest.raises(ConfigError, match="Nothing is left"):
        export([scene], everywhere, str(tmp_path / "c"), config(validation_share=0.5, test_share=0.5))
    with pytest.raises(LabelError, match="outside"):
        export([write_raster(tmp_path / "far.tif", scene_pixels(), utm(128, 96, x=700_000.0))], everywhere, str(tmp_path / "c"), config())
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("kind, driver, worst", [("PNG", "PNG", 0), ("JPEG", "JPEG", 12)])
def test_picture_formats(tmp_path, everywhere, kind, driver, worst):
    y, x = np.mgrid[:96, :128]
    pixels = np.stack([100 + x // 2, 50 + y, 200 - x // 2 - y // 2]).astype(np.uint8)
    scene = write_raster(tmp_path / "s.tif", pixels, GRID)
    manifest = export([scene], everywhere, str(tmp_path / "chips"), config(image_format=kind))
    chips = ChipSet(str(tmp_path / "chips"))
    assert len(manifest.chips) == 12
    for chip in chips.manifest.chips:
        data = gdal.Open(chips.path(chip.image))
        assert data.GetDriver().ShortName == driver and not chips.path(chip.image).endswith(".tif")
        col, row = place(chips.path(chip.image))
        found, valid = chips.image(chip)
        assert valid.all() and np.abs(found.astype(int) - pixels[:, row : row + 32, col : col + 32]).max() <= worst
    holes = write_raster(tmp_path / "h.tif", np.where(x < 3, 0, pixels), GRID, nodata=0)
    assert len(export([holes], everywhere, str(tmp_path / "chips"), config(image_format=kind)).chips) == 9
    for wrong in (pixels[:2], pixels.astype(np.uint16)):
        with pytest.raises(ConfigError, match="three 8-bit bands"):
            export([write_raster(tmp_path / "w.tif", wrong, GRID)], everywhere, str(tmp_path / "none"), config(image_format=kind))


def test_a_raster_without_crs_is_cut_like_any_other(tmp_path):
    bare = Grid(64, 64)
    scene = write_raster(tmp_path / "s.tif", scene_pixels(1, bare), bare)
    labels = write_layer(
        tmp_path / "l.gpkg",
        [("POLYGON((0 0,32 0,32 -64,0 -64,0 0))", {"class": "a"}), ("POLYGON((32 0,64 0,64 -64,32 -64,32 0))", {"class": "b"})],
        "",
    )
    manifest = export([scene], labels, str(tmp_path / "chips"), config())
    assert len(manifest.chips) == 4 and manifest.pixel_size_m is None and manifest.sources[0]["epsg"] is None


# ----------------------------------------------------------------------------------------------------------------------- splits


@pytest.fixture
def patchy(tmp_path):
    """A larger scene with 60 labelled squares of three classes."""
    grid, rng = utm(200, 200), np.random.default_rng(4)
    features = []
    for i in range(60):
        col, row = rng.integers(0, 190, 2)
        features.append((box(grid, int(col), int(row), 10, 8), {"class": ("land", "cloud", "water")[i % 3]}))
    return grid, write_raster(tmp_path / "p.tif", scene_pixels(1, grid), grid), write_layer(tmp_path / "p.gpkg", features, grid.crs)


@pytest.mark.parametrize("tile, stride, block", [(64, 32, 25), (48, 48, 0), (32, 16, 33)])
def test_blocks_leak_nothing_and_lose_nothing(tmp_path, patchy, tile, stride, block):
    grid, scene, labels = patchy
    settings = config(tile_size=tile, stride=stride, block_size=block, validation_share=0.2, test_share=0.1)
    manifest = export([scene], labels, str(tmp_path / "chips"), settings)
    back = labels_on_scene(ChipSet(str(tmp_path / "chips")), grid)
    assert ((back > 0).sum(axis=0) <= 1).all()  # no labelled pixel is in two splits
    opened = open_labels(labels, "class")
    opened.use(choose_classes(opened, "", False), False)
    np.testing.assert_array_equal(back.max(axis=0), opened.read(grid))  # and each is in one
    for k in (1, 2, 3):
        sizes = (back == k).sum(axis=(1, 2)) / (back == k).sum()
        np.testing.assert_allclose(sizes, [0.7, 0.2, 0.1], atol=0.13)
        assert sizes.min() > 0
    assert {c.split for c in manifest.chips} == {"train", "validation", "test"}
    side = block or 64
    assert len(read_layer(tmp_path / "chips" / "chips.gpkg", "blocks")) == (-(-200 // side)) ** 2


def test_turned_chips_leak_nothing_either(tmp_path, patchy):
    _, scene, labels = patchy
    export([scene], labels, str(tmp_path / "chips"), config(tile_size=64, stride=64, rotation=45, validation_share=0.3, block_size=40))
    chips, seen = ChipSet(str(tmp_path / "chips")), np.zeros((2, 200, 200), bool)
    for chip in chips.manifest.chips:
        t, label = read_raster(chips.path(chip.image))[2], chips.label(chip)
        rows, cols = np.nonzero(label)
        x, y = t[0] + (cols + 0.5) * t[1] + (rows + 0.5) * t[2], t[3] + (cols + 0.5) * t[4] + (rows + 0.5) * t[5]
        i, j = ((400_000 - x) / -10).astype(int), ((4_500_000 - y) / 10).astype(int)
        seen[("train", "validation").index(chip.split), np.clip(j, 0, 199), np.clip(i, 0, 199)] = True
    assert seen.any(axis=(1, 2)).all()
    blocks = seen.reshape(2, 5, 40, 5, 40).any(axis=(2, 4))
    assert not blocks.all(axis=0).any()  # no block of the map has labels on both sides


def test_random_split_and_seeds(tmp_path, patchy):
    _, scene, labels = patchy

    def splits(**changes):
        made = export(
            [scene],
            labels,
            str(tmp_path / "chips"),
            config(split="random", validation_share=0.3, rotation=180, tile_size=64, stride=64, **changes),
        )
        return [c.split for c in made.chips]

    first = splits()
    assert first == splits() and first != splits(seed=1)
    assert first[::2] == first[1::2]  # turned copies stay together
    assert first.count("validation") == 2 * round(0.3 * len(first) / 2)


def test_source_split(tmp_path, patchy, everywhere):
    grid, _, labels = patchy
    copies = [write_raster(tmp_path / f"c{i}.tif", scene_pixels(1, grid, seed=i), grid) for i in range(4)]
    manifest = export(copies, labels, str(tmp_path / "chips"), config(split="source", validation_share=0.25, tile_size=64, stride=64))
    by_source = {c.source: c.split for c in manifest.chips}
    assert all(c.split == by_source[c.source] for c in manifest.chips) and sorted(by_source.values()) == ["train"] * 3 + ["validation"]
    said = []
    export(
        copies[:1], labels, str(tmp_path / "one"), config(split="source", validation_share=0.25), progress=lambda f, m="": said.append(m)
    )
    assert any("too few scenes" in m for m in said)


def test_drawing_validation_later():
    manifest = Manifest(
        "segmentation", ({"name": "a"},), (), 32, tuple(Chip(f"{i}", None, s) for i, s in enumerate(["", "train"] * 10 + ["test"]))
    )
    drawn = with_validation(manifest, 0.25, 0)
    assert [c.split for c in drawn.chips].count("validation") == 5 and drawn.chips[-1].split == "test"
    assert drawn == with_validation(manifest, 0.25, 0) != with_validation(manifest, 0.25, 1)
    assert with_validation(drawn, 0.5, 3) == drawn
    assert {c.split for c in with_validation(manifest, 0, 0).chips} == {"train", "test"}


# ----------------------------------------------------------------------------------------------------------------------- append


def test_append_goes_on_counting_and_keeps_everything_right(tmp_path, scene, everywhere, sparse):
    folder = str(tmp_path / "chips")
    first = export([scene], sparse, folder, config(start_index=7))
    assert [c.image for c in first.chips] == ["images/000000007.tif", "images/000000008.tif"]
    later = write_raster(tmp_path / "later_2021-01-02.tif", scene_pixels(seed=3) + 5000, GRID)
    both = export([later], everywhere, folder, config(append=True))
    assert [c.image for c in both.chips] == [f"images/{i:09d}.tif" for i in range(7, 21)] and [c.source for c in both.chips] == [0, 0] + [
        1
    ] * 12
    assert both.chips[:2] == first.chips and both.classes == first.classes and read_manifest(folder) == both
    chips = ChipSet(folder)
    pixels = np.concatenate([chips.image(c)[0].reshape(3, -1) for c in both.chips], axis=1)
    for band, values in zip(both.statistics, pixels.astype(float)):
        np.testing.assert_allclose(
            [band["min"], band["max"], band["mean"], band["std"]], [values.min(), values.max(), values.mean(), values.std()]
        )
    counts = sum(np.bincount(chips.label(c).ravel(), minlength=3) for c in both.chips)
    accumulated = load_json(tmp_path / "chips" / "esri_accumulated_stats.json")
    assert accumulated["NumTiles"] == 14 and accumulated["ClassPixelStats"]["NumPixelsPerClass"] == counts[1:].tolist()
    assert load_json(tmp_path / "chips" / "esri_model_definition.emd")["AllTilesStats"][0]["Max"] == both.statistics[0]["max"] > 5000
    assert len(Path(folder, "map.txt").read_text().splitlines()) == 14
    listed = read_layer(folder + "/chips.gpkg", "chips")
    assert [f["image"] for f in listed] == [c.image for c in both.chips] and listed[0]["share_land"] == both.chips[0].shares[0]
    third = export([scene], sparse, folder, config(append=True, start_index=100))
    assert third.chips[-2].image == "images/000000100.tif"
    assert len(read_layer(folder + "/chips.gpkg", "blocks")) == 3 * 4


def test_append_refuses_what_does_not_fit(tmp_path, scene, everywhere):
    folder = str(tmp_path / "chips")
    export([scene], everywhere, folder, config())
    before = {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
    ice = write_layer(
        tmp_path / "ice.gpkg", [(box(GRID, 0, 0, 40, 40), {"class": "ice"}), (box(GRID, 60, 0, 40, 40), {"class": "water"})], GRID.crs
    )
    far = write_raster(tmp_path / "far.tif", scene_pixels(), utm(128, 96, x=700_000.0))
    coarse = write_raster(tmp_path / "coarse.tif", scene_pixels(), utm(128, 96, 30.0))
    two = write_raster(tmp_path / "two.tif", scene_pixels(2), GRID)
    for source, labels, changes, kind in (
        (scene, ice, {}, LabelError), (scene, everywhere, {"tile_size": 48}, ConfigError), (far, everywhere, {}, LabelError), (two, everywhere, {}, GridMismatchError),
        (coarse, everywhere, {}, GridMismatchError), (scene, everywhere, {"unlabelled": "background"}, LabelError),
    ):  # fmt: skip
        with pytest.raises(kind):
            export([source], labels, folder, config(append=True, **changes))
        assert {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()} == before


def test_append_leaves_no_trace_of_a_run_that_stopped(tmp_path, scene, everywhere):
    folder = str(tmp_path / "chips")
    export([scene], everywhere, folder, config())
    before = {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}

    def stop(fraction, message=""):
        if fraction > 0.6:
            raise Cancelled

    with pytest.raises(Cancelled):
        export([scene], everywhere, folder, config(append=True), progress=stop)
    assert {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()} == before


def test_append_to_other_folders(tmp_path, scene, everywhere):
    new = str(tmp_path / "new")
    assert len(export([scene], everywhere, new, config(append=True)).chips) == 12
    os.remove(os.path.join(new, "chips.json"))  # now it is ArcGIS'
    with pytest.raises(ChipsError, match="another program"):
        export([scene], everywhere, new, config(append=True))
    level = chips_folder(tmp_path / "level", scene_pixels(3, utm(32, 32))[None], None, classes=(), task="level", values=[1.0])
    with pytest.raises(ChipsError, match="for the task 'level'"):
        export([scene], everywhere, level, config(append=True))


# ---------------------------------------------------------------------------------------------- what is there, and what goes wrong


def test_an_own_folder_is_replaced_and_foreign_files_stay(tmp_path, scene, everywhere, sparse):
    folder = tmp_path / "chips"
    export([scene], everywhere, str(folder), config())
    (folder / "notes.txt").write_text("mine")
    assert len(export([scene], sparse, str(folder) + "/", config()).chips) == 2
    assert len(list((folder / "images").iterdir())) == 2 and (folder / "notes.txt").read_text() == "mine"
    assert len(ChipSet(str(folder)).manifest.chips) == 2 and not list(folder.glob("*.replaced"))


def test_foreign_folders_are_refused(tmp_path, scene, sparse):
    other = tmp_path / "photos"
    (other / "images").mkdir(parents=True)
    (other / "images" / "cat.jpg").write_text("cat")
    with pytest.raises(OutputError, match="holds other files"):
        export([scene], sparse, str(other), config())
    (other / "chips.json").write_text('{"crisps": "salty"}')
    with pytest.raises(OutputError, match="not one of ours"):
        export([scene], sparse, str(other), config())
    assert (other / "images" / "cat.jpg").read_text() == "cat"
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match="in the way"):
        export([scene], sparse, str(tmp_path / "new"), config())
    assert (tmp_path / "new.partial" / "thesis.doc").exists()
    with pytest.raises(OutputError, match="is a file"):
        export([scene], sparse, scene, config())
    with pytest.raises(OutputError, match="does not exist"):
        export([scene], sparse, str(tmp_path / "a" / "b"), config())
    (tmp_path / "empty").mkdir()
    assert len(export([scene], sparse, str(tmp_path / "empty"), config()).chips) == 2


_CHILD = """
import sys, time
from pathlib import Path
from water_dl_plugin.engine import catalogue
from water_dl_plugin.engine.export import export
from water_dl_plugin.engine.settings import ChipsConfig
scene, labels, folder, mark, where = sys.argv[1:]
def wait():
    Path(mark).touch()
    time.sleep(60)
def slow(fraction, message=""):
    if where == "cutting" and fraction > 0.7:
        wait()
if where == "moving":
    import os
    replace, count = os.replace, []
    def slow_replace(a, b):
        count.append(b)
        if str(b).endswith("map.txt") and ".partial" not in str(b):
            replace(a, b)
            wait()
        replace(a, b)
    catalogue.os.replace = slow_replace
export([scene], labels, folder, ChipsConfig(class_field="class", tile_size=32, stride=32, validation_share=0.0), progress=slow)
"""


@pytest.mark.parametrize("where, before", [("cutting", False), ("cutting", True), ("moving", True)])
def test_a_kill_leaves_nothing_that_looks_finished(tmp_path, scene, everywhere, sparse, where, before):
    folder, mark = tmp_path / "chips", tmp_path / "mark"
    if before:
        export([scene], sparse, str(folder), config())
    child = subprocess.Popen([sys.executable, "-c", _CHILD, scene, everywhere, str(folder), str(mark), where], cwd=ROOT)
    try:
        for _ in range(600):
            if mark.exists() or child.poll() is not None:
                break
            time.sleep(0.05)
        assert mark.exists() and child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (tmp_path / "chips.partial").exists()
    if where == "cutting" and before:
        assert len(ChipSet(str(folder)).manifest.chips) == 2  # as it was
    elif where == "cutting":
        assert not folder.exists()
    else:
        with pytest.raises(ChipsError, match="half-written"):
            ChipSet(str(folder))
    if not before:
        with pytest.raises(ChipsError):
            ChipSet(str(tmp_path / "chips.partial"))
    assert len(export([scene], everywhere, str(folder), config()).chips) == 12
    assert len(ChipSet(str(folder)).manifest.chips) == 12 and not (tmp_path / "chips.partial").exists()


@pytest.mark.parametrize("size", ["64k", "360k"])
def test_a_full_disk(tmp_path, scene, everywhere, size):
    if not small_disk(tmp_path / "disk", size):
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(OutputError, match="can't be written"):
            export([scene], everywhere, str(tmp_path / "disk" / "chips"), config(tile_size=16, stride=8))
        assert os.listdir(tmp_path / "disk") == []
    finally:
        umount(tmp_path / "disk")


def test_a_read_only_disk(tmp_path, scene, everywhere):
    if not small_disk(tmp_path / "disk", "1m", ",ro"):
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(OutputError, match="Nothing can be written"):
            export([scene], everywhere, str(tmp_path / "disk" / "chips"), config())
    finally:
        umount(tmp_path / "disk")


def test_cancel_leaves_nothing(tmp_path, scene, everywhere):
    def stop(fraction, message=""):
        if fraction > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        export([scene], everywhere, str(tmp_path / "chips"), config(), progress=stop)
    assert not (tmp_path / "chips").exists() and not (tmp_path / "chips.partial").exists()


def test_progress_rises_to_one(tmp_path, scene, everywhere):
    seen = []
    export([scene], everywhere, str(tmp_path / "chips"), config(), progress=lambda f, m="": seen.append((f, m)))
    fractions = [f for f, _ in seen]
    assert fractions == sorted(fractions) and fractions[0] < 0.05 and fractions[-1] == 1 and len(seen) > 12
    assert seen[-1][1].startswith("Written: 12 chips (12 train, 0 validation, 0 test)")


# --------------------------------------------------------------------------------------------------------------- reading a folder


def test_incomplete_folders(tmp_path, scene, everywhere):
    folder = tmp_path / "chips"
    for path, told in ((tmp_path / "nix", "no chips folder"), (tmp_path, "not a chips folder")):
        with pytest.raises(ChipsError, match=told):
            ChipSet(str(path))
    export([scene], everywhere, str(folder), config())
    os.remove(folder / "images" / "000000003.tif")
    with pytest.raises(ChipsError, match=r"1 file\(s\) are missing, e.g. images/000000003.tif"):
        ChipSet(str(folder))
    (folder / "images" / "000000003.tif").write_text("not an image")
    chips = ChipSet(str(folder))
    with pytest.raises(ChipsError, match="can't be read"):
        chips.image(chips.manifest.chips[3])
    write_raster(folder / "images" / "000000003.tif", scene_pixels(2)[:, :32, :32], GRID)
    with pytest.raises(ChipsError, match="2 bands, the folder's chips have 3"):
        chips.image(chips.manifest.chips[3])
    os.remove(folder / "chips.json")
    os.remove(folder / "map.txt")
    with pytest.raises(ChipsError, match="half-written"):
        ChipSet(str(folder))


def _hostile():
    """(name, change of a good manifest) of what strangers, editors and broken disks make of it."""
    many = 10**400
    values = {
        "none": None,
        "text": "x",
        "number": 5,
        "list": [1],
        "object": {"a": 1},
        "nested": [[[[1]]]],
        "true": True,
        "huge": many,
        "negative": -7,
        "float": 2.5,
    }
    for key in (
        "schema",
        "task",
        "bands",
        "classes",
        "tile_size",
        "chips",
        "stride",
        "pixel_size",
        "pixel_size_m",
        "image_format",
        "codes",
        "statistics",
        "sources",
        "settings",
        "seed",
        "target",
    ):
        for name, value in values.items():
            yield f"{key} {name}", (lambda d, k=key, v=value: d.update({k: v}))
    for key in ("schema", "task", "bands", "classes", "tile_size", "chips"):
        yield f"without {key}", (lambda d, k=key: d.pop(k))
    for key in ("image", "label", "split", "source", "rotation", "date", "nodata", "shares", "value", "corners"):
        for name, value in values.items():
            yield f"chip {key} {name}", (lambda d, k=key, v=value: d["chips"][0].update({k: v}))
    for path in (
        "/etc/passwd",
        "../../etc/passwd",
        "images/../../x.tif",
        "..\\..\\x",
        "C:\\x.tif",
        "C:/x.tif",
        "\\\\server\\x.tif",
        "/vsicurl/http://x/y.tif",
        "a\0b",
        "x" * 5000,
        "",
    ):
        yield f"path {path[:20]!r}", (lambda d, p=path: d["chips"][0].update(image=p))
        if path:
            yield f"label path {path[:20]!r}", (lambda d, p=path: d["chips"][0].update(label=p))
    yield "unknown key", lambda d: d["chips"][0].update(evil=1)
    yield "codes out of range", lambda d: d.update(codes=[300, 1])
    yield "no bands", lambda d: d.update(bands=[])
    for name, value in values.items():
        yield f"target's factor {name}", (lambda d, v=value: d.update(target={"name": "z", "factor": v}))
        yield f"target's unit {name}", (lambda d, v=value: d.update(target={"unit": v, "factor": 3}))
        yield f"kind {name}", (lambda d, v=value: d["bands"][0].update(kind=v))


@pytest.mark.parametrize("change", [pytest.param(c, id=n) for n, c in _hostile()])
def test_hostile_manifests_give_a_chips_error_or_are_harmless(tmp_path_factory, change):
    folder = _good_folder(tmp_path_factory)
    data = load_json(folder / "good.json")
    change(data)
    (folder / "chips.json").write_text(json.dumps(data))
    try:
        chips = ChipSet(str(folder))
    except ChipsError as error:
        assert len(str(error)) < 1000
        return
    for chip in chips.manifest.chips:  # what was taken can be used
        assert os.path.realpath(chips.path(chip.image)).startswith(str(folder))
        pixels, _ = chips.image(chip)
        if chip.label:
            assert chips.label(chip).shape == pixels.shape[1:]
    made = chips.manifest
    json.dumps(made.to_json(), allow_nan=False)
    whole = (made.tile_size, made.stride, made.seed, *made.codes, *(c.source for c in made.chips))
    assert all(type(n) is int for n in whole) and all(type(c.nodata) is type(c.rotation) is float for c in made.chips)
    assert all(type(v) is (float if k == "factor" else str) for k, v in made.target.items())
    assert all(type(b.get(k, "")) is str for b in made.bands for k in ("kind", "resampling"))
    assert all(type(t) is str for t in (made.task, made.image_format, *(b["name"] for b in made.bands), *(c.split for c in made.chips)))


def test_a_chip_outside_the_folder_is_never_read(tmp_path_factory):
    """The file is there and is a good chip; it just isn't the folder's."""
    folder = _good_folder(tmp_path_factory)
    outside = write_raster(folder.parent / "outside.tif", scene_pixels(2, utm(16, 16)), utm(16, 16))
    for path in ("../outside.tif", "images/../../outside.tif", "..\\outside.tif", outside, "/vsizip/../outside.tif"):
        for key in ("image", "label"):
            data = load_json(folder / "good.json")
            data["chips"][0][key] = path
            (folder / "chips.json").write_text(json.dumps(data))
            with pytest.raises(ChipsError, match="outside the folder"):
                ChipSet(str(folder))


_FOLDERS: list = []


def _good_folder(factory) -> Path:
    if not _FOLDERS:
        folder = Path(chips_folder(factory.mktemp("hostile") / "chips", scene_pixels(2, utm(16, 16))[None], np.ones((1, 16, 16), np.uint8)))
        os.rename(folder / "chips.json", folder / "good.json")
        _FOLDERS.append(folder)
    return _FOLDERS[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", '{"schema": 2}', "\xff\xfe", "[" * 200_000, '{"schema": 1e999}', "\0\0\0"])
def test_what_is_no_manifest(tmp_path_factory, text):
    folder = _good_folder(tmp_path_factory)
    (folder / "chips.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ChipsError):
        ChipSet(str(folder))


def test_export_imports_no_torch():
    code = "import sys, water_dl_plugin.engine.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_chip_that_is_no_image_of_its_own_is_refused(tmp_path):
    """A VRT under the name of a TIFF could read any file of the computer, or the network."""
    images, labels = bright_is_water(2)
    folder = chips_folder(tmp_path / "chips", images, labels)
    chips = ChipSet(folder)
    secret = write_raster(tmp_path / "secret.tif", images[0], utm(32, 32))
    vrt = (
        '<VRTDataset rasterXSize="32" rasterYSize="32"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    chip = chips.manifest.chips[0]
    with open(chips.path(chip.image), "w") as file:
        file.write(vrt)
    with pytest.raises(ChipsError, match="can't be read"):
        chips.image(chip)
