"""Figures of height errors: worked out by hand, against numpy, and in pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from water_dl_plugin.engine.dem.quality.figures import NAMES, Angles, Errors, improvement, turn


def of(error, height=None) -> dict:
    errors = Errors()
    errors.update(np.asarray(error, float), np.arange(len(error)) * 10.0 if height is None else np.asarray(height, float))
    return errors.figures()


def test_by_hand():
    found = of([-1, 0, 2, 3], [10, 20, 30, 40])
    # squares 1 + 0 + 4 + 9 = 14; deviations from the mean 1: -2, -1, 1, 2; sizes in order 0, 1, 2, 3; the reference's squares 500
    assert found["pixels"] == 4 and found["bias"] == 1 and found["mae"] == 1.5 and found["median"] == 1
    assert found["rmse"] == pytest.approx(math.sqrt(3.5)) and found["std"] == pytest.approx(math.sqrt(2.5))
    assert found["nmad"] == pytest.approx(1.4826 * 1.5) and found["le90"] == pytest.approx(2.7)  # rank 2.7 of 0, 1, 2, 3
    assert found["r2"] == pytest.approx(1 - 14 / 500) and (found["minimum"], found["maximum"]) == (-1, 3)


def test_one_outlier_moves_rmse_but_not_nmad():
    calm = of(np.tile([-1.0, 1.0], 500))
    wild = of([*np.tile([-1.0, 1.0], 500), 1000.0])
    assert wild["rmse"] > 30 and calm["rmse"] == 1
    assert wild["nmad"] == pytest.approx(1.4826 * 2, rel=1e-6) and wild["le90"] == 1  # the median is now 1: half of them lie 2 away


@pytest.mark.parametrize(
    "error",
    [
        np.random.default_rng(0).normal(0.3, 4, 200_000),
        np.random.default_rng(1).normal(31, 2, 50_000),
        np.random.default_rng(2).standard_t(2, 100_000) * 0.02,
        np.random.default_rng(3).integers(-5, 9, 5_000).astype(float),
        np.round(np.random.default_rng(4).normal(0, 4, 50_000), 1),
        np.array([1e-7, -3e-7, 2e-7]),
        np.array([5.0]),
        np.array([-2e7, 3.0, 4e8]),
    ],
    ids=["small bias", "another datum", "long tails", "whole metres", "decimetres", "float noise", "one pixel", "nonsense"],
)
def test_as_numpy(error):
    found, median = of(error), np.median(error)
    near = {"rel": 1e-3, "abs": max(abs(median) / 512, 3e-6)}  # a bin's width
    assert found["median"] == pytest.approx(median, **near) and found["le90"] == pytest.approx(np.percentile(np.abs(error), 90), **near)
    assert found["nmad"] == pytest.approx(1.4826 * np.median(np.abs(error - median)), **near)
    assert found["std"] == pytest.approx(error.std(), rel=1e-9, abs=1e-12) and found["bias"] == pytest.approx(error.mean(), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=60), st.integers(1, 6), st.floats(0, 9000))
def test_pieces_make_the_whole(values, count, level):
    error, height = np.array(values), level + np.sin(np.arange(len(values)))
    parts = [Errors() for _ in range(count)]
    streamed = Errors()
    for part, e, h in zip(parts, np.array_split(error, count), np.array_split(height, count)):
        part.update(e, h)
        streamed.update(e, h)
    once = of(error, height)
    for found in (Errors.merged(parts).figures(), streamed.figures()):
        assert found["pixels"] == len(values)
        for name in NAMES:
            assert found[name] == pytest.approx(once[name], rel=1e-6, abs=1e-6, nan_ok=True), name


def test_level_reference_and_nothing_at_all():
    level = of([0.5, -0.5], [812.25, 812.25])
    assert math.isnan(level["r2"]) and level["rmse"] == 0.5
    nothing = of([])
    assert nothing["pixels"] == 0 and all(math.isnan(nothing[name]) for name in NAMES)
    high = of(np.random.default_rng(0).normal(0, 1, 1000), 8000 + np.random.default_rng(1).normal(0, 10, 1000))
    assert high["r2"] == pytest.approx(0.99, abs=0.002)  # 8000 m up nothing is lost


def test_memory_is_bounded():
    """Hundreds of these are kept at a time."""
    errors = Errors()
    assert errors._counts.nbytes + errors._sums.nbytes < 500_000
    values, counts = (errors.update(np.random.default_rng(0).normal(0, 100, 500_000), np.zeros(500_000)), errors.atoms)[1]
    assert counts.sum() == 500_000 and len(values) < 15_000 and (np.diff(values) > 0).all()


def test_directions_turn_the_short_way():
    assert turn(np.array([350.0, 10, 90, 180, 5]), np.array([10.0, 350, 90, 0, 5])).tolist() == [-20, 20, 0, -180, 0]
    angles = Angles()
    angles.update(np.array([3.0, -4.0]))
    whole = Angles.merged([angles, angles])
    assert whole.figures("slope") == {"slope_rmse": math.sqrt(12.5), "slope_mae": 3.5, "slope_bias": -0.5} and whole.number == 4
    assert all(math.isnan(v) for v in Angles().figures("x").values())


def test_improvement():
    assert improvement(1.5, 2.0) == 25 and improvement(3.0, 2.0) == -50
    assert improvement(1.0, 0.0) is None and improvement(math.nan, 1.0) is None
