"""The DenseCRF against pydensecrf, against the exact kernel, and against itself."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from tests.shores import scene
from water_dl_plugin.engine import refine
from water_dl_plugin.engine.errors import Cancelled, PackageMissingError
from water_dl_plugin.engine.refine import crf
from water_dl_plugin.engine.refine.crf import Kernels, mean_field
from water_dl_plugin.engine.refine.lattice import Parts, Smooth

OWN = ("numba", "numpy")
SMALL = Kernels(sxy=30.0)


def everywhere(probability):
    return np.ones(probability.shape[1:], bool)


def differ(one, other) -> float:
    """Share of pixels with another class."""
    if len(one) == 1:
        return float(((one > 0.5) != (other > 0.5)).mean())
    return float((one.argmax(0) != other.argmax(0)).mean())


def exact(probability, image, valid, k: Kernels, iterations: int):
    """The mean field with all pairs of pixels, several classes, in float64."""
    rows, cols = np.nonzero(valid)
    place, colour = np.stack([cols, rows], 1).astype(float), image[:, valid].T.astype(float)
    apart = ((place[:, None] - place[None]) ** 2).sum(-1)
    other = ((colour[:, None] - colour[None]) ** 2).sum(-1)
    message = 0
    for weight, kernel in (
        (k.near_weight, np.exp(-0.5 * apart / k.near_sxy**2)),
        (k.far_weight, np.exp(-0.5 * (apart / k.sxy**2 + other / k.srgb**2))),
    ):
        scale = 1 / np.sqrt(kernel.sum(1))
        message = message + weight * kernel * scale[:, None] * scale[None]
    chances = np.concatenate([1 - probability, probability]) if len(probability) == 1 else probability
    unary = np.log(np.clip(chances[:, valid].astype(float), 1e-5, 1))
    belief = np.exp(unary) / np.exp(unary).sum(0)
    for _ in range(iterations):
        energy = unary + belief @ message
        belief = np.exp(energy - energy.max(0))
        belief /= belief.sum(0)
    result = probability.astype(float)
    result[:, valid] = belief[-len(probability) :]
    return result


def three(seed: int, size: int):
    """A scene of three classes."""
    image, probability, _ = scene(seed, size)
    rng = np.random.default_rng(seed)
    ice = np.zeros((size, size))
    ice[size // 4 : size // 2, size // 3 :] = 0.5
    chances = np.stack([(1 - probability[0]) * (1 - ice), probability[0] * (1 - ice), ice + 0.05 * rng.random((size, size))])
    image = image + 90 * (ice > 0)
    return image.astype(np.float32), (chances / chances.sum(0)).astype(np.float32)


@pytest.mark.parametrize("engine", OWN)
@pytest.mark.parametrize("bands", [3, 4])
def test_agrees_with_pydensecrf(engine, bands):
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed (make test builds it)")
    for seed in range(2):
        image, probability, _ = scene(seed, 224, bands)
        valid = everywhere(probability)
        theirs = mean_field(probability, image, valid, Kernels(), engine="pydensecrf")
        ours = mean_field(probability, image, valid, Kernels(), engine=engine)
        assert differ(theirs, probability) > 0.003  # there was something to do
        assert differ(ours, theirs) <= 0.0005
        assert np.abs(ours - theirs).mean() <= 0.002


@pytest.mark.parametrize("engine", OWN)
def test_agrees_with_pydensecrf_on_three_classes(engine):
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed (make test builds it)")
    image, probability = three(1, 160)
    theirs = mean_field(probability, image, everywhere(probability), SMALL, engine="pydensecrf")
    ours = mean_field(probability, image, everywhere(probability), SMALL, engine=engine)
    assert differ(theirs, probability) > 0.003
    assert differ(ours, theirs) <= 0.0005 and np.abs(ours - theirs).mean() <= 0.002
    np.testing.assert_allclose(ours.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("engine", [*OWN, "pydensecrf"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_close_to_the_exact_kernel(engine, bands):
    if engine == "pydensecrf":
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed (make test builds it)")
    image, probability, _ = scene(3, 44, bands)
    valid = everywhere(probability)
    valid[5:12, 30:] = False
    wanted = exact(probability, image, valid, SMALL, 10)
    given = mean_field(probability, image, valid, SMALL, 10, engine=engine)
    assert differ(wanted, probability) > 0.02
    assert differ(given, wanted) <= 0.003 and np.abs(given - wanted).mean() <= 0.004


@pytest.mark.parametrize("engine", OWN)
def test_three_classes_close_to_the_exact_kernel(engine):
    image, probability = three(4, 40)
    wanted = exact(probability, image, everywhere(probability), SMALL, 10)
    given = mean_field(probability, image, everywhere(probability), SMALL, 10, engine=engine)
    assert differ(given, wanted) <= 0.005 and np.abs(given - wanted).mean() <= 0.005


@pytest.mark.parametrize("engine", OWN)
def test_two_channels_are_the_same_as_one(engine):
    image, probability, _ = scene(2, 64)
    one = mean_field(probability, image, everywhere(probability), SMALL, engine=engine)
    two = mean_field(np.concatenate([1 - probability, probability]), image, everywhere(probability), SMALL, engine=engine)
    np.testing.assert_allclose(two[1], one[0], atol=2e-5)


def test_numpy_and_numba_give_the_same():
    for bands, nodata in ((1, False), (3, True), (6, True)):
        image, probability, _ = scene(5, 90, min(bands, 4))
        image = np.concatenate([image, image])[:bands]
        valid = everywhere(probability)
        valid[10:40, 20:50] = not nodata
        given = [mean_field(probability, image, valid, SMALL, engine=engine) for engine in OWN]
        np.testing.assert_allclose(given[0], given[1], atol=1e-4)


@pytest.mark.parametrize("engine", OWN)
def test_nodata_takes_part_in_no_sum(engine):
    image, probability, _ = scene(6, 80)
    valid = everywhere(probability)
    valid[:20], valid[40:50, 30:60] = False, False
    with np.errstate(invalid="ignore"):
        given = []
        for fill in (0.0, 255.0, 1e6):
            changed = [np.where(valid, a, b).astype(np.float32) for a, b in ((image, fill), (probability, min(fill, 0.9)))]
            given.append(mean_field(changed[1], changed[0], valid, SMALL, engine=engine))
    np.testing.assert_array_equal(given[0][:, valid], given[1][:, valid])
    np.testing.assert_array_equal(given[0][:, valid], given[2][:, valid])
    assert (given[1][:, ~valid] == np.float32(0.9)).all()
    # cut off is the same as absent
    alone = mean_field(probability[:, 50:], image[:, 50:], valid[50:], SMALL, origin=(0, 50), engine=engine)
    valid[:50] = False
    np.testing.assert_allclose(alone, mean_field(probability, image, valid, SMALL, engine=engine)[:, 50:], atol=1e-5)


@pytest.mark.parametrize("engine", [*OWN, "pydensecrf"])
def test_a_window_finds_what_the_whole_finds(engine):
    """With the window's origin; without it the lattice lies elsewhere."""
    if engine == "pydensecrf":
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed (make test builds it)")
    image, probability, _ = scene(7, 200)
    kernels = Kernels(sxy=10.0)
    whole = mean_field(probability, image, everywhere(probability), kernels, engine=engine)[0, 71:, 53:]
    cut = (slice(None), slice(71 - 50, None), slice(53 - 50, None))
    valid = everywhere(probability)[cut[1:]]
    good = mean_field(probability[cut], image[cut], valid, kernels, origin=(3, 21), engine=engine)[0, 50:, 50:]
    bad = mean_field(probability[cut], image[cut], valid, kernels, origin=(3 + 5, 21 + 5), engine=engine)[0, 50:, 50:]
    assert np.abs(good - whole).max() < 2e-3
    assert np.abs(bad - whole).max() > 10 * np.abs(good - whole).max()


@pytest.mark.parametrize("engine", OWN)
def test_the_number_of_threads_changes_nothing(engine):
    image, probability, _ = scene(8, 200)
    one, many = (mean_field(probability, image, everywhere(probability), SMALL, 3, threads=n, engine=engine) for n in (1, 3))
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("engine", OWN)
def test_improves_the_map(engine):
    image, probability, truth = scene(9, 160)
    given = mean_field(probability, image, everywhere(probability), SMALL, engine=engine)[0] > 0.5
    before, after = ((probability[0] > 0.5) != truth).mean(), (given != truth).mean()
    assert before > 0.01 and after < before / 10


@pytest.mark.parametrize("engine", OWN)
def test_specks_go_without_an_image_to_hold_them(engine):
    probability = np.full((1, 40, 40), 0.1, np.float32)
    probability[0, 20, 20] = 0.9
    flat = np.full((1, 40, 40), 100, np.float32)
    assert mean_field(probability, flat, everywhere(probability), Kernels(), engine=engine)[0, 20, 20] < 0.5
    kept = mean_field(probability, flat, everywhere(probability), Kernels(far_weight=0, near_weight=0), engine=engine)
    np.testing.assert_array_equal(kept, probability)


@pytest.mark.parametrize("engine", [*OWN, "pydensecrf"])
def test_odd_input(engine):
    if engine == "pydensecrf":
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed (make test builds it)")
    for shape in ((1, 1), (1, 7), (5, 1)):
        for value in (0.0, 0.3, 1.0):
            probability = np.full((1, *shape), value, np.float32)
            given = mean_field(probability, np.zeros((2, *shape), np.float32), everywhere(probability), Kernels(), engine=engine)
            assert np.isfinite(given).all() and ((given > 0.5) == (value > 0.5)).all()
    nothing = mean_field(probability, np.zeros((2, *shape), np.float32), np.zeros(shape, bool), Kernels(), engine=engine)
    np.testing.assert_array_equal(nothing, probability)


@pytest.mark.parametrize("engine", OWN)
@pytest.mark.parametrize("sxy", [0.2, 1.0, 3000.0])
def test_any_reach_gives_probabilities(engine, sxy):
    image, probability, _ = scene(10, 48)
    for near_weight in (3.0, 1000.0):
        kernels = Kernels(sxy=sxy, srgb=1.0, near_weight=near_weight)
        given = mean_field(probability, image, everywhere(probability), kernels, engine=engine)
        assert np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1


@pytest.mark.parametrize("engine", OWN)
@pytest.mark.parametrize("value", [-9999.0, 1e9, 1e12])
def test_outliers_stay_by_themselves(engine, value):
    """Beyond float32's precision a pixel's place in the lattice is anyone's guess, but it must be one."""
    image, probability, _ = scene(10, 48)
    holed = image.copy()
    holed[1, 20:23, 30:33] = value
    valid = everywhere(probability)
    given = mean_field(probability, holed, valid, SMALL, 3, engine=engine)
    valid[8:35, 18:45] = False  # near it the outlier is missed
    assert np.abs(given - mean_field(probability, image, everywhere(probability), SMALL, 3, engine=engine))[0][valid].max() < 0.02


def test_memory_of_the_plain_loops():
    """Well below 40 % of pydensecrf's 240 to 270 bytes per pixel (`make bench` measures both)."""
    image, probability, _ = scene(12, 512)
    valid = everywhere(probability)
    mean_field(probability[:, :32], image[:, :32], valid[:32], Kernels(), 1, engine="numpy")
    tracemalloc.start()
    mean_field(probability, image, valid, Kernels(), 2, engine="numpy", threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / valid.size < 100


@pytest.mark.parametrize("engine", OWN)
def test_cancel_is_heard_after_each_round(engine):
    image, probability, _ = scene(11, 32)
    seen = []

    def tick(share):
        seen.append(share)
        if len(seen) == 3:
            raise Cancelled()

    with pytest.raises(Cancelled):
        mean_field(probability, image, everywhere(probability), SMALL, 10, engine=engine, tick=tick)
    assert len(seen) == 3 and seen == sorted(seen) and seen[-1] < 1


def test_engines_that_are_not_there(monkeypatch):
    monkeypatch.setattr(crf, "find_spec", lambda name: None)
    monkeypatch.delattr(refine, "loops_numba", raising=False)
    monkeypatch.delitem(sys.modules, "water_dl_plugin.engine.refine.loops_numba", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)  # its import fails, as that of a numba made for another NumPy
    image, probability, _ = scene(0, 16)
    assert crf.compiled("auto") is False
    for engine in ("numba", "pydensecrf"):
        with pytest.raises(PackageMissingError, match=engine):
            mean_field(probability, image, everywhere(probability), SMALL, engine=engine)


@pytest.mark.parametrize("compiled", [True, False])
def test_smooth_is_the_gaussian_of_the_definition(compiled):
    rng = np.random.default_rng(0)
    image = rng.random((30, 41)).astype(np.float32)
    with Parts(2) as parts:
        given = Smooth(2.0, parts, compiled).filter(image)
    reach = np.exp(-0.5 * (np.arange(-60, 61) / 2.0) ** 2)
    padded = np.pad(image, 60)
    wanted = np.apply_along_axis(lambda v: np.convolve(v, reach, "same"), 0, padded)
    wanted = np.apply_along_axis(lambda v: np.convolve(v, reach, "same"), 1, wanted)[60:-60, 60:-60]
    np.testing.assert_allclose(given, wanted, rtol=2e-3)  # cut at 4 standard deviations
