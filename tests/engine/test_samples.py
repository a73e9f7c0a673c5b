"""What the network is shown: augmentation that really changes, and that never parts an image from its labels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import bright_is_water, chips_folder
from water_dl_plugin.engine import samples as samples_module
from water_dl_plugin.engine import tasks
from water_dl_plugin.engine.chips import ChipSet
from water_dl_plugin.engine.errors import ChipsError
from water_dl_plugin.engine.normalise import Normalisation
from water_dl_plugin.engine.samples import Samples, augment
from water_dl_plugin.engine.settings import TrainConfig

OFF = {"flips": False, "brightness": 0.0, "noise": 0.0}


def opened(folder, **changes):
    chips = ChipSet(str(folder))
    for name, value in changes.items():
        setattr(samples_module, name, value)
    return Samples(chips, list(chips.manifest.chips), tasks.make(chips.manifest))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten chips that know themselves: band 1 is the label, band 2 the chip's number."""
    _, labels = bright_is_water(10, size=16, classes=2, ignored=0.2)
    labels[:, :3, :2] = 1  # no symmetry
    number = np.arange(10, dtype=np.uint8)[:, None, None] + np.zeros_like(labels)
    return chips_folder(tmp_path_factory.mktemp("s") / "chips", np.stack([labels, number], 1), labels, classes=("land", "water"))


def plain(bands=2):
    return Normalisation.identity(bands)


def all_of(samples, config=None, epoch=0, size=4):
    parts = list(samples.batches(size, plain(), config, epoch))
    return [np.concatenate([p[k] for p in parts]) for k in (0, 1)], [len(p[0]) for p in parts]


def test_without_augmentation_chips_come_as_they_are(folder):
    samples = opened(folder)
    (images, targets), sizes = all_of(samples)
    assert sizes == [4, 4, 2] and images.dtype == np.float32 and targets.dtype == np.int64
    np.testing.assert_array_equal(images[:, 0] - 1, targets)  # target: class index, -1 where ignored
    np.testing.assert_array_equal(images[:, 1, 0, 0], np.arange(10))
    (images, targets), _ = all_of(samples, TrainConfig(**OFF))
    for image, target in zip(images, targets):
        raw = samples.raw(int(image[1, 0, 0]))
        np.testing.assert_array_equal(image, raw[0])
        np.testing.assert_array_equal(target, raw[2])


def test_flips_move_image_and_label_together_into_all_eight_positions(folder):
    samples = opened(folder)
    config = TrainConfig(**{**OFF, "flips": True})
    seen = {i: set() for i in range(10)}
    for epoch in range(40):
        (images, targets), _ = all_of(samples, config, epoch)
        np.testing.assert_array_equal(images[:, 0] - 1, targets)
        for image, target in zip(images, targets):
            number = int(image[1, 0, 0])
            assert (image[1] == number).all()
            raw = samples.raw(number)[2]
            positions = [np.rot90(r, k) for r in (raw, raw[:, ::-1]) for k in range(4)]
            found = [k for k, p in enumerate(positions) if np.array_equal(p, target)]
            assert len(found) == 1
            seen[number].add(found[0])
    assert set.union(*seen.values()) == set(range(8)) and min(map(len, seen.values())) >= 7


@pytest.mark.parametrize("changes", [{"brightness": 0.2}, {"noise": 0.1}])
def test_brightness_and_noise_change_the_image_only(changes):
    rng = np.random.default_rng(0)
    image, target = rng.random((3, 16, 16)).astype(np.float32), rng.integers(-1, 2, (16, 16))
    config = TrainConfig(**{**OFF, **changes})
    before = image.copy()
    changed = [augment(image, target, np.random.default_rng(k), config) for k in range(200)]
    np.testing.assert_array_equal(image, before)  # what is kept in memory stays as it was
    for new, same in changed:
        assert not np.array_equal(new, image) and new.dtype == np.float32
        np.testing.assert_array_equal(same, target)
    news = np.stack([new for new, _ in changed])
    if "noise" in changes:
        assert abs((news - image).std() - 0.1) < 0.003 and abs((news - image).mean()) < 0.003
    else:
        for band in range(3):  # each band: a factor and a shift, both within the share, and not the same for all bands
            fits = np.array([np.polyfit(image[band].ravel(), new[band].ravel(), 1) for new in news])
            assert np.abs(fits - [1, 0]).max() <= 0.2 + 1e-5 and fits.std(axis=0).min() > 0.08
        assert abs(np.corrcoef((news - image).mean(axis=(2, 3)).T)[0, 1]) < 0.3


def test_all_off_changes_nothing():
    image, target = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32), np.arange(64).reshape(8, 8)
    new, same = augment(image, target, np.random.default_rng(0), TrainConfig(**OFF))
    np.testing.assert_array_equal(new, image)
    np.testing.assert_array_equal(same, target)
    assert new is not image and not np.shares_memory(new, image)


def test_targets_of_other_shapes():
    image = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    config = TrainConfig(**{**OFF, "flips": True})
    for seed in range(20):
        new, number = augment(image, np.asarray(5.0), np.random.default_rng(seed), config, spatial=False)
        assert number.shape == () and number == 5.0
        new, two = augment(image, np.concatenate([image, image]), np.random.default_rng(seed), config)  # two heads
        np.testing.assert_array_equal(two, np.concatenate([new, new]))


def test_order_is_drawn_per_epoch_and_seed(folder):
    samples = opened(folder)

    def order(seed, epoch):
        return all_of(samples, TrainConfig(**OFF, seed=seed), epoch)[0][0][:, 1, 0, 0].astype(int).tolist()

    assert order(0, 0) == order(0, 0) and order(0, 0) != order(0, 1) and order(0, 0) != order(1, 0)
    assert sorted(set(order(0, 0))) == list(range(10))


def test_augmentation_is_drawn_per_epoch_and_seed(folder):
    samples = opened(folder)

    def images(seed, epoch):
        return all_of(samples, TrainConfig(seed=seed), epoch)[0][0]

    np.testing.assert_array_equal(images(0, 3), images(0, 3))
    assert not np.array_equal(images(0, 3), images(0, 4)) and not np.array_equal(images(0, 3), images(1, 3))


@pytest.mark.parametrize(
    "number, size, expected",
    [(10, 4, [4, 4, 4]), (10, 5, [5, 5]), (10, 10, [10]), (10, 16, [10]), (1, 4, [2]), (1, 1, [1]), (3, 2, [2, 2]), (3, 1, [1, 1, 1])],
)
def test_batches_of_training_are_full(folder, number, size, expected):
    samples = opened(folder)
    samples.chosen = samples.chosen[:number]
    (images, _), sizes = all_of(samples, TrainConfig(**OFF), size=size)
    assert sizes == expected and set(images[:, 1, 0, 0].astype(int)) == set(range(number))


def test_cached_is_the_same_as_read_again(folder, monkeypatch):
    kept = opened(folder)
    monkeypatch.setattr(samples_module, "CACHE_BYTES", 0)
    read = opened(folder)
    monkeypatch.setattr(samples_module, "CACHE_BYTES", 5 * (2 * 2 + 8) * 256)
    some = opened(folder)
    for epoch in (0, 1):
        results = [all_of(s, TrainConfig(), epoch)[0] for s in (kept, read, some)]
        for other in results[1:]:
            np.testing.assert_array_equal(other[0], results[0][0])
            np.testing.assert_array_equal(other[1], results[0][1])
    assert (len(kept._cache), len(read._cache), len(some._cache)) == (10, 0, 5)


def test_statistics_leave_nodata_out(tmp_path):
    images = np.full((2, 1, 16, 16), 100, np.int16)
    images[0, 0, :8] = -9999
    images[1, 0, :, :8] = 300
    path = chips_folder(tmp_path / "c", images, np.ones((2, 16, 16), np.uint8))
    from osgeo import gdal

    for i in range(2):
        data = gdal.Open(f"{path}/images/{i:09d}.tif", gdal.GA_Update)
        data.GetRasterBand(1).SetNoDataValue(-9999)
        data = None
    sketch = opened(path).sketches()[0]
    assert (sketch.low, sketch.high, sketch.number) == (100, 300, 128 + 256)
    assert sketch.mean == pytest.approx((256 * 100 + 128 * 300) / 384)


def test_a_chip_of_another_size_is_told(tmp_path):
    path = chips_folder(tmp_path / "c", np.zeros((2, 1, 16, 16), np.uint8), np.ones((2, 16, 16), np.uint8))
    from tests.helpers import utm, write_raster

    write_raster(f"{path}/images/000000001.tif", np.zeros((1, 12, 16), np.uint8), utm(16, 12))
    with pytest.raises(ChipsError, match="16 x 12 px, the folder's chips are 16"):
        opened(path).raw(1)
