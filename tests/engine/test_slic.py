"""Superpixels: what each must be, the same by both engines, in tiles as in the whole, and not worse than scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.shores import scene
from water_dl_plugin.engine.errors import Cancelled
from water_dl_plugin.engine.refine import loops_numba, loops_numpy
from water_dl_plugin.engine.refine.slic import slic

OWN = ("numba", "numpy")


def borders(labels):
    return (labels[1:, :-1] != labels[:-1, :-1]) | (labels[:-1, 1:] != labels[:-1, :-1])


def explained(labels, image) -> float:
    """Share of the image's variance that the superpixels' means explain."""
    _, number = np.unique(labels, return_inverse=True)
    number = number.ravel()
    count = np.bincount(number)
    left = sum(float(((np.bincount(number, band.ravel()) / count)[number] - band.ravel()).var()) for band in image)
    return 1 - left / sum(float(band.var()) for band in image)


@pytest.mark.parametrize("engine", OWN)
@pytest.mark.parametrize("step", [3, 8, 17])
def test_every_pixel_has_one_and_each_is_one_piece(engine, step):
    image, _, _ = scene(1, 70)
    valid = np.ones((70, 70), bool)
    valid[:9], valid[30:40, 20:60] = False, False
    labels = slic(image, valid, step, engine=engine)
    assert ((labels >= 0) == valid).all()
    pieces = sum(ndimage.label(labels == k)[1] for k in np.unique(labels[valid]))
    assert pieces == len(np.unique(labels[valid]))
    assert 0.5 < len(np.unique(labels[valid])) * step**2 / valid.sum() < 2


@pytest.mark.parametrize("engine", OWN)
def test_follows_a_clear_edge(engine):
    rows, cols = np.mgrid[:80, :80]
    truth = (rows - 41.3) ** 2 + (cols - 37.7) ** 2 < 25**2
    image = np.where(truth, 40.0, 200.0)[None].astype(np.float32)
    labels = slic(image, np.ones(truth.shape, bool), 9, compactness=20, engine=engine)
    mixed = [min(truth[labels == k].sum(), (~truth[labels == k]).sum()) for k in np.unique(labels)]
    assert sum(mixed) == 0
    squares = slic(np.zeros_like(image), np.ones(truth.shape, bool), 10, engine=engine)
    np.testing.assert_array_equal(squares, np.arange(64).reshape(8, 8).repeat(10, 0).repeat(10, 1))  # nothing to follow: the grid itself


def test_numpy_and_numba_give_the_same():
    for seed, step in ((2, 5), (3, 14)):
        image, _, _ = scene(seed, 120)
        valid = np.ones((120, 120), bool)
        valid[50:70, :30] = False
        one, other = (slic(image, valid, step, engine=engine) for engine in OWN)
        assert (borders(one) != borders(other)).mean() < 1e-3


def test_components_are_those_of_the_definition():
    rng = np.random.default_rng(7)
    for shape, kinds in (((1, 1), 1), ((1, 12), 2), ((9, 1), 2), ((60, 71), 1), ((60, 71), 3)):
        labels = rng.integers(-1, kinds, shape).astype(np.int32)
        (one, count), (other, number) = loops_numpy.components(labels), loops_numba.components(labels)
        np.testing.assert_array_equal(one, other)
        assert count == number == sum(ndimage.label(labels == k)[1] for k in range(kinds))
        assert ((one >= 0) == (labels >= 0)).all() and len(np.unique(one[one >= 0])) == count
        first = np.unique(one[one >= 0], return_index=True)[1]
        assert (np.diff(first) > 0).all()  # numbered in the order of their first pixels


@pytest.mark.parametrize("engine", OWN)
def test_a_window_finds_what_the_whole_finds(engine):
    image, _, _ = scene(4, 220)
    valid, step, halo = np.ones((220, 220), bool), 9, 8 * 9
    whole = slic(image, valid, step, engine=engine)[90:, 83:]
    part = slic(image[:, 90 - halo :, 83 - halo :], valid[90 - halo :, 83 - halo :], step, origin=(83 - halo, 90 - halo), engine=engine)
    assert (borders(part[halo:, halo:]) != borders(whole)).mean() < 5e-4
    elsewhere = slic(image[:, 90 - halo :, 83 - halo :], valid[90 - halo :, 83 - halo :], step, engine=engine)
    assert (borders(elsewhere[halo:, halo:]) != borders(whole)).mean() > 0.01


@pytest.mark.parametrize("engine", OWN)
def test_not_worse_than_scikit_image(engine):
    segmentation = pytest.importorskip("skimage.segmentation", reason="scikit-image is not installed")
    image, _, truth = scene(5, 240, noise=8.0)
    valid = np.ones(truth.shape, bool)
    for step in (8, 15):
        ours = slic(image, valid, step, engine=engine)
        theirs = segmentation.slic(
            np.moveaxis(image, 0, -1) / 255, n_segments=(240 // step) ** 2, compactness=60 / 255, max_num_iter=10, channel_axis=-1,
            convert2lab=False, min_size_factor=0.25,
        )  # fmt: skip
        assert len(np.unique(ours)) < 1.25 * len(np.unique(theirs))  # more superpixels would be an unfair lead
        assert explained(ours, image) > explained(theirs, image) - 0.005
        shore = borders(truth)
        near = ndimage.binary_dilation
        assert (near(borders(ours), iterations=1) & shore).sum() > 0.97 * (near(borders(theirs), iterations=1) & shore).sum()


@pytest.mark.parametrize("engine", OWN)
def test_nodata_does_not_pull(engine):
    image, _, _ = scene(6, 60)
    valid = np.ones((60, 60), bool)
    valid[20:40, 20:40] = False
    given = [slic(np.where(valid, image, fill).astype(np.float32), valid, 7, engine=engine) for fill in (0, 1e6)]
    np.testing.assert_array_equal(*given)


@pytest.mark.parametrize("engine", OWN)
def test_odd_sizes(engine):
    for shape, step in (((1, 1), 5), ((1, 30), 4), ((3, 2), 50), ((64, 9), 8)):
        labels = slic(np.zeros((2, *shape), np.float32), np.ones(shape, bool), step, engine=engine)
        assert labels.shape == shape and labels.min() >= 0
    assert (slic(np.zeros((1, 6, 6), np.float32), np.zeros((6, 6), bool), 3, engine=engine) == -1).all()


@pytest.mark.parametrize("engine", OWN)
def test_cancel_is_heard(engine):
    def tick(share):
        raise Cancelled()

    with pytest.raises(Cancelled):
        slic(np.zeros((1, 30, 30), np.float32), np.ones((30, 30), bool), 5, engine=engine, tick=tick)
