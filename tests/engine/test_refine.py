"""The refinement as a whole: chosen settings, steps, tiles, files, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.helpers import read_raster, utm, write_raster
from tests.shores import scene
from water_dl_plugin.engine.errors import BandError, Cancelled, ConfigError, GridMismatchError, PackageMissingError
from water_dl_plugin.engine.progress import silent
from water_dl_plugin.engine.raster import Grid, Raster
from water_dl_plugin.engine.refine import crf, plan, refine_arrays, refine_raster, stages, tiles
from water_dl_plugin.engine.refine.stages import centred, fuse, noise, uncentred
from water_dl_plugin.engine.settings import RefineConfig
from water_dl_plugin.engine.windows import Window

MODES = ("slic", "crf", "slic_crf", "crf_slic")


# --- settings that follow from the pixel size


@pytest.mark.parametrize("pixel, segment, sxy, near", [(0.5, 15, 40, 3), (2.0, 12, 20, 3), (10.0, 8, 20, 1), (30.0, 8, 20, 1)])
def test_defaults_by_pixel_size(pixel, segment, sxy, near):
    chosen = plan(RefineConfig(), pixel, pixel)
    assert (chosen.segment, chosen.kernels.sxy, chosen.kernels.near_sxy) == (segment, sxy, near)
    assert chosen.steps == ("slic", "crf") and chosen.kernels.srgb == 13


def test_units_of_the_segment_size():
    published = plan(RefineConfig(segment_size=2800, segment_unit="segments per 2048 x 2048"), 0.5, 0.5)
    assert published.segment == 39  # 2048 / sqrt(2800) = 38.7
    assert plan(RefineConfig(segment_size=20, segment_unit="map units"), 0.5, 0.5).segment == 40
    assert plan(RefineConfig(segment_size=0.0009, segment_unit="map units"), 0.00009, 10.0).segment == 10  # degrees
    assert plan(RefineConfig(segment_size=12), 10, 10).segment == 12
    for size, unit in ((1, "pixels"), (5000, "pixels"), (10, "map units"), (1, "segments per 2048 x 2048")):
        with pytest.raises(ConfigError, match="wide"):
            plan(RefineConfig(segment_size=size, segment_unit=unit), 30.0, 30.0)
    assert plan(RefineConfig(segment_size=1, mode="crf"), 30.0, 30.0).steps == ("crf",)


def test_noise_widens_the_colour_kernel():
    rng = np.random.default_rng(0)
    flat = np.full((3, 64, 64), 100.0, np.float32)
    for wanted in (2.0, 12.0):
        given = noise(flat + rng.normal(0, wanted, flat.shape).astype(np.float32), np.ones((64, 64), bool))
        assert given == pytest.approx(wanted, rel=0.05)
    edges = np.where(np.arange(64) // 8 % 2, 30.0, 200.0)[None, None].repeat(64, 1).astype(np.float32)
    assert noise(edges, np.ones((64, 64), bool)) < 1  # edges are no noise
    assert noise(flat[:, :2], np.ones((2, 64), bool)) == 0
    assert plan(RefineConfig(), 1, 1, noise=12).kernels.srgb == 24 and plan(RefineConfig(srgb=9), 1, 1, noise=12).kernels.srgb == 9


# --- steps


def test_fusion_gives_a_superpixel_the_share_or_the_mean():
    labels = np.array([[0, 0, 0, 2], [2, 2, -1, -1]], np.int32)
    given = np.array([[[0.9, 0.6, 0.0, 0.2], [0.4, 0.6, 0.7, 0.1]]], np.float32)
    third = 1 / 3
    np.testing.assert_allclose(
        fuse(given, labels, "majority")[0], [[2 * third, 2 * third, 2 * third, third], [third, third, 0.7, 0.1]], rtol=1e-6
    )
    np.testing.assert_allclose(fuse(given, labels, "mean")[0], [[0.5, 0.5, 0.5, 0.4], [0.4, 0.4, 0.7, 0.1]], rtol=1e-6)
    three = np.stack([given[0], 0.8 * (1 - given[0]), 0.2 * (1 - given[0])])
    np.testing.assert_allclose(fuse(three, labels, "majority")[:, 0, 0], [2 * third, third, 0], rtol=1e-6)
    np.testing.assert_allclose(fuse(three, labels, "mean").sum(axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.5, 0.9])
def test_the_threshold_becomes_a_half_and_back(threshold):
    given = np.linspace(0.011, 0.989, 91, dtype=np.float32).reshape(1, 7, 13)
    inner = centred(given, threshold, 0.99999)
    np.testing.assert_array_equal(inner >= 0.5, given >= np.float32(threshold))
    np.testing.assert_allclose(uncentred(inner, threshold), given, atol=2e-3)


def test_no_probability_is_surer_than_the_limit():
    assert centred(np.array([[[0.0, 1.0]]], np.float32), 0.5, 0.9).ravel().tolist() == pytest.approx([0.1, 0.9])
    three = centred(np.array([1.0, 0.0, 0.0], np.float32).reshape(3, 1, 1), 0.5, 0.9)
    assert three.ravel().tolist() == pytest.approx([0.9, 0.05, 0.05])


@pytest.mark.parametrize("threshold", [0.15, 0.8])
def test_two_channels_are_the_same_as_one_at_any_threshold(threshold):
    image, probability, truth = scene(4, 90)
    inside = np.ones(truth.shape, bool)
    config = RefineConfig(sxy=15.0, segment_size=5, fusion="majority")
    one = refine_arrays(probability, image, inside, config, 0.5, threshold)
    two = refine_arrays(np.concatenate([1 - probability, probability]), image, inside, config, 0.5, threshold)
    assert (one[1] != two[1]).mean() < 1e-3
    np.testing.assert_allclose(two[0][1], one[0][0], atol=5e-3)
    np.testing.assert_allclose(two[0].sum(axis=0), 1, atol=1e-5)


def test_odd_pixels_of_an_image_spoil_nothing():
    image, probability, truth = scene(5, 120)
    inside, config = np.ones(truth.shape, bool), RefineConfig(sxy=15.0, segment_size=5)
    _, wanted = refine_arrays(probability, image, inside, config, 0.5)
    for value in (np.nan, np.inf, -3.4e38, 1e12):
        odd = image.copy()
        odd[0, 60:63, 60:63] = value
        refined, given = refine_arrays(probability, odd, inside, config, 0.5)
        assert np.isfinite(refined).all() and (given != wanted).mean() < 0.003
        if not np.isfinite(value):
            np.testing.assert_array_equal(refined[0, 60:63, 60:63], probability[0, 60:63, 60:63])
        _, raw = refine_arrays(probability, odd, inside, RefineConfig(sxy=15.0, segment_size=5, stretch=False), 0.5)
        assert (raw != truth).mean() < 0.02


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_every_mode_improves_a_rough_map(mode, engine):
    image, probability, truth = scene(1, 200)
    refined, classes = refine_arrays(
        probability, image.astype(np.uint8), np.ones(truth.shape, bool), RefineConfig(mode=mode, segment_size=6, engine=engine), 0.5
    )
    np.testing.assert_array_equal(classes, refined[0] >= 0.5)
    before, after = ((probability[0] >= 0.5) != truth).mean(), (classes != truth).mean()
    assert before > 0.015 and after < (0.6 if mode == "slic" else 0.3) * before


# --- rasters


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A scene of 400 x 330 px in files: image.tif (uint16, 4 bands), rough.tif (probability), classes.tif; and the arrays."""
    folder = tmp_path_factory.mktemp("lake")
    image, probability, truth = (a[..., :330] for a in scene(2, 400))
    grid = utm(330, 400, pixel=0.5)
    write_raster(folder / "image.tif", (image * 37 + 500).astype(np.uint16), grid)
    write_raster(folder / "rough.tif", probability, grid, nodata=-1, tags={"WATERDL_THRESHOLD": "0.4"})
    write_raster(folder / "classes.tif", np.where(probability[0] >= 0.4, 7, 3).astype(np.uint8), grid, nodata=255)
    return folder, image, probability, truth


def refined(folder, tmp_path, config=None, rough="rough.tif", image="image.tif", **more):
    lines = []
    done = refine_raster(
        str(folder / rough), str(folder / image), str(tmp_path / "c.tif"), config or RefineConfig(sxy=20.0),
        probability=str(tmp_path / "p.tif"), progress=lambda share, text="": lines.append(text) if text else None, **more,
    )  # fmt: skip
    return done, read_raster(tmp_path / "c.tif")[0][0], read_raster(tmp_path / "p.tif")[0], lines


@pytest.mark.parametrize("mode", MODES)
def test_tiles_give_what_the_whole_gives(lake, tmp_path, mode):
    folder, *_, truth = lake
    results = [refined(folder, tmp_path, RefineConfig(mode=mode, sxy=12.0, segment_size=7, tile=tile)) for tile in (0, 256)]
    (whole, one, p, _), (tiled, other, q, _) = results
    assert (one != other).mean() <= 0.0005 and np.abs(p - q).mean() < 1e-4
    assert abs(whole.changed - tiled.changed) <= 0.0005 * truth.size and whole.changed > 500
    assert (one == truth).mean() > 0.97
    assert sorted(os.listdir(tmp_path)) == ["c.tif", "c.tif.aux.xml", "p.tif"]


def test_tiles_that_only_one_step_makes_are_no_chain(tmp_path):
    """A raster that is one tile for the superpixels but not for the CRF: a CRF on superpixels of a tile's halo would show where tiles end."""
    image, probability, _ = (a[..., :40, :] for a in scene(3, 720))
    grid, seen = utm(720, 40, pixel=0.5), []
    write_raster(tmp_path / "image.tif", image.astype(np.uint8)[:3], grid)
    write_raster(tmp_path / "rough.tif", probability, grid, nodata=-1)
    results = []
    for memory in (0.1, 1.5):
        refine_raster(
            str(tmp_path / "rough.tif"), str(tmp_path / "image.tif"), str(tmp_path / "c.tif"), RefineConfig(sxy=12.0, segment_size=3, memory=memory),
            progress=lambda share, text="": seen.append(any("step" in name for name in os.listdir(tmp_path))),
        )  # fmt: skip
        results.append(read_raster(tmp_path / "c.tif")[0][0])
        assert any(seen) == (memory == 0.1) and not any("step" in name for name in os.listdir(tmp_path))
        seen.clear()
    assert (results[0] != results[1]).mean() <= 0.0005


def test_what_a_killed_run_left_goes(lake, tmp_path):
    folder, *_ = lake
    for name in ("c.tif.step.tif", "c.tif.step.tif.partial", "c.tif.partial"):
        (tmp_path / name).write_bytes(b"half")
    refined(folder, tmp_path, RefineConfig(sxy=12.0, tile=256))
    assert sorted(os.listdir(tmp_path)) == ["c.tif", "c.tif.aux.xml", "p.tif"]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_at_the_end_keeps_what_is_certain(lake, tmp_path, threshold):
    *_, truth = lake
    write_raster(tmp_path / "sure.tif", truth.astype(np.float32), utm(330, 400, pixel=0.5))
    _, classes, *_ = refined(
        tmp_path, tmp_path, RefineConfig(sxy=12.0, threshold=threshold), rough="sure.tif", image=str(lake[0] / "image.tif")
    )
    assert ((classes == 1) == truth).mean() > 0.98


@pytest.mark.parametrize("image", ["image.tif", "coarse.tif"])
def test_strips_of_the_image_join(lake, tmp_path, monkeypatch, image):
    folder, pixels, *_ = lake
    write_raster(tmp_path / "image.tif", (pixels * 37 + 500).astype(np.uint16), utm(330, 400, pixel=0.5))
    coarse = pixels.reshape(4, 200, 2, 165, 2).mean((2, 4))
    write_raster(tmp_path / "coarse.tif", (coarse * 37 + 500).astype(np.uint16), utm(165, 200, pixel=1.0, x=400_000.3))
    with Raster(str(folder / "rough.tif")) as rough, tiles._Scene(rough, str(tmp_path / image), (), "") as scenery:
        whole, valid = scenery.read(Window(3, 5, 300, 390))
        monkeypatch.setattr(tiles, "STRIP", 64)
        strips, inside = scenery.read(Window(3, 5, 300, 390))
    np.testing.assert_array_equal(valid, inside)
    np.testing.assert_array_equal(whole[:, valid], strips[:, valid])


def test_samples_come_from_all_over_the_image(lake, tmp_path, monkeypatch):
    """Not always from the same columns, and from more places if the first ones are mostly nodata."""
    folder, pixels, *_ = lake
    monkeypatch.setattr(tiles, "SAMPLES", 25)
    monkeypatch.setattr(tiles, "SAMPLE_PX", 16)  # 25 x 21 places
    holed = (pixels * 37 + 500).astype(np.uint16)
    holed[:, :, 40:] = 0
    holed[:, 120:] = 0
    write_raster(tmp_path / "edge.tif", holed, utm(330, 400, pixel=0.5), nodata=0)
    for name in (folder / "image.tif", tmp_path / "edge.tif"):
        with Raster(str(folder / "rough.tif")) as rough, tiles._Scene(rough, str(name), (), "") as scenery:
            scenery.look(RefineConfig(), silent)
            image, valid = scenery.read(Window(0, 0, 330, 400))
        low, high = np.quantile(image[:, valid], (0.01, 0.99), axis=1)
        assert np.abs(low).max() < 60 and np.abs(high - 255).max() < 60
        assert scenery.noise == pytest.approx(noise(image, valid), rel=0.3) and scenery.noise > 1


def test_what_is_written(lake, tmp_path):
    folder, *_ = lake
    done, classes, probability, lines = refined(folder, tmp_path)
    assert [c.name for c in done.classes] == ["other", "water"] and done.nodata == 0
    assert sum(done.before) == sum(done.after) == classes.size
    np.testing.assert_array_equal(classes == 1, probability[0] >= np.float32(0.4))  # the threshold that the rough map was made with
    assert done.after == ((classes == 0).sum(), (classes == 1).sum())
    assert any("superpixels of 15 px" in line for line in lines) and any("sxy 20 px" in line for line in lines)


def test_the_image_outside_its_data_changes_nothing(lake, tmp_path):
    _, image, probability, _ = lake
    grid = utm(330, 400, pixel=0.5)
    holed, rough = (image * 37 + 500).astype(np.uint16), probability.copy()
    holed[:, 100:200, 50:150], rough[0, 150:250, 100:120] = 0, -1
    write_raster(tmp_path / "holed.tif", holed, grid, nodata=0)
    write_raster(tmp_path / "rough.tif", rough, grid, nodata=-1)
    done, classes, given, _ = refined(tmp_path, tmp_path, rough="rough.tif", image="holed.tif")
    nodata = rough[0] == -1
    assert (
        done.nodata == nodata.sum() and (classes[nodata] == 255).all() and (given[0][nodata] == -1).all() and (classes[~nodata] < 2).all()
    )
    unseen = (holed[0] == 0) & ~nodata
    np.testing.assert_array_equal(given[0][unseen], rough[0][unseen])


def test_a_class_raster_keeps_its_values(lake, tmp_path):
    folder, *_, truth = lake
    done, classes, probability, _ = refined(folder, tmp_path, rough="classes.tif")
    assert set(np.unique(classes)) == {3, 7} and done.changed > 500
    assert ((classes == 7) == truth).mean() > 0.97
    np.testing.assert_array_equal(classes == 7, probability[0] >= 0.5)


def test_several_classes(lake, tmp_path):
    folder, _, probability, truth = lake
    deep = np.zeros(truth.shape)
    deep[:, 200:] = 0.9
    chances = np.stack([1 - probability[0], probability[0] * (1 - deep), probability[0] * deep]).astype(np.float32)
    write_raster(tmp_path / "three.tif", chances, utm(330, 400, pixel=0.5), nodata=-1)
    done, classes, given, _ = refined(
        tmp_path, tmp_path, RefineConfig(sxy=20.0, classes="land, shallow, deep"), rough="three.tif", image=str(folder / "image.tif")
    )
    assert given.shape[0] == 3 and [c.name for c in done.classes] == ["land", "shallow", "deep"]
    np.testing.assert_allclose(given.sum(axis=0), 1, atol=1e-4)
    np.testing.assert_array_equal(classes, given.argmax(axis=0))
    assert ((classes > 0) == truth).mean() > 0.97


def test_an_image_on_another_grid_is_warped(lake, tmp_path):
    folder, image, *_ = lake
    coarse = image.reshape(4, 200, 2, 165, 2).mean((2, 4))
    write_raster(tmp_path / "coarse.tif", (coarse * 37 + 500).astype(np.uint16), utm(165, 200, pixel=1.0))
    done, classes, _, lines = refined(folder, tmp_path, image=str(tmp_path / "coarse.tif"))
    assert any("warped" in line for line in lines) and done.changed > 300
    _, sharp, *_ = refined(folder, tmp_path)
    assert 0 < (sharp != classes).mean() < 0.02


def test_bands_join_and_are_chosen(lake, tmp_path):
    folder, image, *_ = lake
    write_raster(tmp_path / "nir.tif", image[3:].astype(np.uint8), utm(330, 400, pixel=0.5))
    write_raster(tmp_path / "rgb.tif", image[:3].astype(np.uint8), utm(330, 400, pixel=0.5))
    write_raster(tmp_path / "rgbn.tif", image.astype(np.uint8), utm(330, 400, pixel=0.5))
    config = RefineConfig(sxy=20.0, bands="1-4")
    joined = refined(folder, tmp_path, config, image=str(tmp_path / "rgb.tif"), stack=[str(tmp_path / "nir.tif")])[2]
    np.testing.assert_array_equal(joined, refined(folder, tmp_path, config, image=str(tmp_path / "rgbn.tif"))[2])
    *_, lines = refined(folder, tmp_path, image=str(tmp_path / "rgbn.tif"))
    assert any("rgbn.tif says" in line and "near infrared" in line for line in lines)  # four bytes: GDAL calls the fourth alpha
    with pytest.raises(BandError):
        refined(folder, tmp_path, RefineConfig(bands="1-9"))


def test_many_bands_take_part_as_principal_components(lake, tmp_path):
    folder, image, _, truth = lake
    rng = np.random.default_rng(0)
    many = np.concatenate([rng.normal(100, 1.0, (7, *truth.shape)), image[2:], rng.normal(50, 1.0, (3, *truth.shape))]).astype(np.float32)
    write_raster(tmp_path / "many.tif", many, utm(330, 400, pixel=0.5))
    *_, lines = done, classes, *_ = refined(folder, tmp_path, RefineConfig(sxy=20.0, stretch=False), image=str(tmp_path / "many.tif"))
    assert any("12 bands take part as 5" in line for line in lines) and done.changed > 500
    assert (classes == truth).mean() > 0.97  # what counts is in two of the twelve


def test_components_keep_distances():
    rng = np.random.default_rng(1)
    pixels = rng.normal(size=(9, 4)) @ rng.normal(size=(4, 500)) * 30  # nine bands of four independent ones
    rows = stages.components([pixels[:, :200], pixels[:, 200:]])
    given = stages.turned(pixels[:, None].astype(np.float32), rows)
    assert rows.shape == (5, 9) and given.shape == (5, 1, 500)
    apart = [np.linalg.norm(a[:, :250] - a[:, 250:], axis=0) for a in (pixels, given[:, 0])]
    np.testing.assert_allclose(*apart, rtol=1e-3)
    assert stages.components([pixels[:5]]) is None and stages.turned(pixels, None) is pixels


# --- bad input


def test_no_overlap_is_refused(lake, tmp_path):
    folder, image, *_ = lake
    write_raster(tmp_path / "far.tif", image, utm(330, 400, pixel=0.5, x=700_000.0))
    with pytest.raises(GridMismatchError, match="does not lie over"):
        refined(folder, tmp_path, image=str(tmp_path / "far.tif"))
    assert sorted(os.listdir(tmp_path)) == ["far.tif"]


def test_another_size_without_georeference_is_refused(lake, tmp_path):
    _, image, probability, _ = lake
    write_raster(tmp_path / "i.tif", image[:, :300], Grid(330, 300))
    write_raster(tmp_path / "r.tif", probability, Grid(330, 400))
    with pytest.raises(GridMismatchError, match="not georeferenced"):
        refined(tmp_path, tmp_path, rough="r.tif", image="i.tif")


@pytest.mark.parametrize("values, text", [((-4.0, 5.0), "logits"), ((0.0, 100.0), "outside 0..1")])
def test_what_is_no_probability_is_refused(lake, tmp_path, values, text):
    folder, _, probability, _ = lake
    low, high = values
    write_raster(tmp_path / "r.tif", (low + (high - low) * probability).astype(np.float32), utm(330, 400, pixel=0.5))
    with pytest.raises(GridMismatchError, match="0..1") as caught:
        refined(folder, tmp_path, rough=str(tmp_path / "r.tif"))
    assert text in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["r.tif"]


def test_an_image_without_contrast_or_data_says_so(lake, tmp_path):
    folder, *_ = lake
    grid = utm(330, 400, pixel=0.5)
    write_raster(tmp_path / "flat.tif", np.full((3, 400, 330), 9, np.uint8), grid)
    _, classes, *_, lines = refined(folder, tmp_path, image=str(tmp_path / "flat.tif"))
    assert any("constant" in line for line in lines) and set(np.unique(classes)) <= {0, 1}
    write_raster(tmp_path / "empty.tif", np.zeros((3, 400, 330), np.uint8), grid, nodata=0)
    done, _, given, lines = refined(folder, tmp_path, image=str(tmp_path / "empty.tif"))
    assert any("no data" in line for line in lines) and done.changed == 0
    np.testing.assert_array_equal(given, read_raster(folder / "rough.tif")[0])


def test_a_map_without_data_stays_so(lake, tmp_path):
    folder, *_ = lake
    write_raster(tmp_path / "none.tif", np.full((400, 330), -1, np.float32), utm(330, 400, pixel=0.5), nodata=-1)
    done, classes, given, _ = refined(folder, tmp_path, rough=str(tmp_path / "none.tif"))
    assert (classes == 255).all() and (given == -1).all() and done.changed == 0


def test_a_mask_of_255_says_what_to_do(lake, tmp_path):
    folder, *_, truth = lake
    write_raster(tmp_path / "mask.tif", (255 * truth).astype(np.uint8), utm(330, 400, pixel=0.5))
    with pytest.raises(ConfigError, match="raster calculator"):
        refined(folder, tmp_path, rough=str(tmp_path / "mask.tif"))


def test_one_pixel(tmp_path):
    grid = utm(1, 1)
    write_raster(tmp_path / "i.tif", np.full((3, 1, 1), 50, np.uint8), grid)
    write_raster(tmp_path / "r.tif", np.full((1, 1), 0.8, np.float32), grid)
    with pytest.raises(ConfigError, match="larger than the raster"):
        refined(tmp_path, tmp_path, rough="r.tif", image="i.tif")
    _, classes, *_ = refined(tmp_path, tmp_path, RefineConfig(mode="crf"), rough="r.tif", image="i.tif")
    assert classes.tolist() == [[1]]


def test_settings_that_make_no_sense(lake, tmp_path, monkeypatch):
    folder, *_ = lake
    with pytest.raises(ConfigError, match="larger than the raster"):
        refined(folder, tmp_path, RefineConfig(segment_size=500))
    with pytest.raises(ConfigError, match="same file"):
        refine_raster(str(folder / "rough.tif"), str(folder / "image.tif"), str(folder / "rough.tif"), RefineConfig())
    with pytest.raises(ConfigError, match="nothing to write"):
        refine_raster(str(folder / "rough.tif"), str(folder / "image.tif"), "", RefineConfig())
    with pytest.raises(PackageMissingError, match="pydensecrf"):  # said before any work
        monkeypatch.setattr(crf, "find_spec", lambda name: None)
        plan(RefineConfig(engine="pydensecrf"))
    for bad in ({"certainty": 0.5}, {"sxy": -1.0}, {"sxy": 1e9}, {"mode": "both"}, {"compactness": 0.0}):
        with pytest.raises(ConfigError):
            RefineConfig(**bad)


def test_a_reach_that_memory_can_not_hold(tmp_path):
    grid = utm(9000, 9000, pixel=0.5)
    from osgeo import gdal

    for name, kind in (("r.tif", gdal.GDT_Float32), ("i.tif", gdal.GDT_Byte)):
        made = gdal.GetDriverByName("GTiff").Create(str(tmp_path / name), 9000, 9000, 1, kind, ["SPARSE_OK=TRUE", "TILED=YES"])
        made.SetGeoTransform(grid.transform), made.SetProjection(grid.crs)
        del made
    with pytest.raises(ConfigError, match="does not fit"):
        refined(tmp_path, tmp_path, RefineConfig(mode="crf", sxy=800.0, memory=0.2), rough="r.tif", image="i.tif")


def test_cancel_leaves_nothing(lake, tmp_path):
    folder, *_ = lake
    for stop in (0.1, 0.6, 0.97):

        def progress(share, text="", stop=stop):
            if share > stop:
                raise Cancelled()

        with pytest.raises(Cancelled):
            refine_raster(
                str(folder / "rough.tif"), str(folder / "image.tif"), str(tmp_path / "c.tif"), RefineConfig(sxy=8.0, tile=256),
                probability=str(tmp_path / "p.tif"), progress=progress,
            )  # fmt: skip
        assert not os.listdir(tmp_path)


def test_bytes_of_probability_are_no_classes(lake, tmp_path):
    folder, _, probability, _ = lake
    write_raster(tmp_path / "bytes.tif", (255 * probability).astype(np.uint8), utm(330, 400, pixel=0.5))
    with pytest.raises(ConfigError, match="no class raster") as caught:
        refined(folder, tmp_path, rough=str(tmp_path / "bytes.tif"))
    assert "255" in str(caught.value)
