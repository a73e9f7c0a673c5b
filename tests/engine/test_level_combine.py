"""Levels of several roads joined to one: weights, intervals, and which levels are joined."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from water_dl_plugin.engine.level import combine
from water_dl_plugin.engine.level.series import Estimate

DAY = dt.timedelta(days=1)
START = dt.datetime(2020, 1, 3, 8)
HALF_A_DAY = dt.timedelta(hours=12)


def estimate(method, level=10.0, half=0.5, when=START, name="dam", **more) -> Estimate:
    low, high = (None, None) if half is None else (level - half, level + half)
    return Estimate(name, when, level, low, high, method, **more)


def pairs(errors, shift=dt.timedelta(0)):
    return [(START + k * DAY + shift, float(e)) for k, e in enumerate(errors)]


# --- weights


def test_weights_are_those_of_bates_and_granger():
    """Two forecasts, equation (5): k = (s2² - r s1 s2) / (s1² + s2² - 2 r s1 s2)."""
    s1, s2, r = 0.3, 0.5, 0.4
    matrix = np.array([[s1**2, r * s1 * s2], [r * s1 * s2, s2**2]])
    k = (s2**2 - r * s1 * s2) / (s1**2 + s2**2 - 2 * r * s1 * s2)
    assert combine.shares(matrix) == pytest.approx([k, 1 - k])


def test_a_method_that_would_get_a_negative_weight_is_left_out():
    s1, s2, r = 0.2, 0.9, 0.8  # r > s1 / s2
    assert combine.shares(np.array([[s1**2, r * s1 * s2], [r * s1 * s2, s2**2]])).tolist() == [1, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_no_mean_with_positive_weights_has_less_variance(seed):
    rng = np.random.default_rng(seed)
    matrix = combine.covariance(rng.normal(0, 1, (12, 3)) @ rng.normal(0, 1, (3, 3)))
    found = combine.shares(matrix)
    steps = np.array([(a, b, 20 - a - b) for a in range(21) for b in range(21 - a)]) / 20
    assert found.min() >= 0 and found.sum() == pytest.approx(1)
    assert found @ matrix @ found <= min(w @ matrix @ w for w in steps) + 1e-12


def test_errors_alike_are_no_reason_to_fail():
    assert combine.shares(np.zeros((2, 2))).sum() == pytest.approx(1)
    same = np.repeat(np.linspace(-1, 1, 15)[:, None], 2, 1)
    assert combine.learnt(("network", "area"), same, 0.9).shares == pytest.approx((0.5, 0.5), abs=0.01)


def test_a_bias_is_an_error_and_opposite_errors_are_not_believed():
    a = np.array([0.4, 0.6] * 10)
    found = combine.covariance(np.column_stack([a, -a]))
    assert found[0, 0] == pytest.approx(0.26) and found[0, 1] == 0


# --- the joined level


def simulated(n, seed, r=0.3, s=(0.3, 0.4)):
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal([0, 0], [[s[0] ** 2, r * s[0] * s[1]], [r * s[0] * s[1], s[1] ** 2]], n)


def test_combined_is_better_than_either_and_its_interval_holds():
    """On dates that it has not seen, over many series; the interval must hold 90 % of them, and be narrower than either road's own."""
    held, better, widths = [], [], []
    for seed in range(40):
        known, new = simulated(40, seed), simulated(500, 1000 + seed)
        weights = combine.learnt(("network", "area"), known, 0.9)
        errors = new @ np.array(weights.shares)
        held.append(np.mean(np.abs(errors) <= weights.half_width_m))
        better.append(np.sqrt(np.mean(errors**2) / np.mean(new**2, 0).min()))
        widths.append(weights.half_width_m)
    assert np.mean(held) == pytest.approx(0.9, abs=0.015) and np.mean(better) < 0.95 and np.mean(widths) < 1.645 * 0.3
    assert weights.correlation == pytest.approx(0.3, abs=0.25) and weights.dates == 40 and "40 shared dates" in weights.line()


def test_each_date_is_judged_with_the_weights_of_the_others():
    """Two methods that take turns in being right look better in hindsight than they are: the interval must not."""
    known = simulated(12, 5, r=0.0)
    weights = combine.learnt(("network", "area"), known, 0.9)
    held = [abs(known[i] @ combine.shares(combine.covariance(np.delete(known, i, 0)))) for i in range(12)]
    assert weights.half_width_m == pytest.approx(sorted(held)[11])  # ceil(13 * 0.9) = 12th of 12


def test_few_errors_give_a_normal_interval():
    weights = combine.learnt(("network", "area"), simulated(12, 5), 0.99)
    assert weights.half_width_m == pytest.approx(2.5758 * np.sqrt(weighed(weights)), rel=1e-3)


def weighed(weights):
    w, s = np.array(weights.shares), np.array(weights.sd_m)
    return (w * s) @ np.array([[1, weights.correlation], [weights.correlation, 1]]) @ (w * s)


def test_unknown_correlation_claims_no_gain():
    found, told = combine.combined([estimate("network", 10.0, 0.3), estimate("area", 10.4, 0.6)], {}, 0.9, HALF_A_DAY)
    assert len(found) == 1 and found[0].method == "combined"
    assert found[0].level_m == pytest.approx(10.08) and found[0].high_m - found[0].low_m == pytest.approx(2 * (0.8 * 0.3 + 0.2 * 0.6))
    assert told["dam", ("network", "area")].correlation is None and "not known" in told["dam", ("network", "area")].line()


def test_errors_of_shared_dates_rule():
    errors = simulated(40, 3)
    known = {"dam": {"network": pairs(errors[:, 0]), "area": pairs(errors[:, 1], dt.timedelta(hours=5))}}
    found, told = combine.combined([estimate("network", 10.0), estimate("area", 10.4)], known, 0.9, HALF_A_DAY)
    weights = told["dam", ("network", "area")]
    assert weights == combine.learnt(("network", "area"), errors, 0.9)
    assert found[0].level_m == pytest.approx(10 + 0.4 * weights.shares[1])
    assert (found[0].low_m + found[0].high_m) / 2 == pytest.approx(found[0].level_m)
    late = {"dam": {**known["dam"], "area": pairs(errors[:, 1], dt.timedelta(hours=13))}}  # nearest is 11 h before, of another day's
    assert (
        combine.combined([estimate("network"), estimate("area")], late, 0.9, dt.timedelta(hours=10))[1]["dam", ("network", "area")].dates
        == 0
    )


def test_nearest_in_time_and_each_once():
    week = [estimate("network", when=START + 5 * k * DAY) for k in range(3)]
    areas = [estimate("area", when=START + h * dt.timedelta(hours=1)) for h in (3, 1, 115, 140)]
    shore = [estimate("shoreline", when=START + h * dt.timedelta(hours=1)) for h in (2, 141)]
    found = [
        [e.method + f" {(e.when - START).total_seconds() / 3600:g}" for e in g] for g in combine.groups(week + areas + shore, HALF_A_DAY)
    ]
    assert found == [["network 0", "area 1", "shoreline 2"], ["network 120", "area 115"], ["area 140", "shoreline 141"]]


def test_what_is_joined_and_what_it_says():
    network = estimate(
        "network", 10.0, 0.3, source="a.tif", sensor="sentinel-2", cloud=0.1, flags=("seen", "no_interval"), spread_m=0.2, part="train"
    )
    area = estimate(
        "area",
        11.0,
        0.3,
        source="b.tif",
        flags=("partly_hidden",),
        area_m2=5e4,
        observed_m=10.4,
        part="test",
        when=START + dt.timedelta(hours=1),
    )
    only = combine.combined([network, area], {}, 0.9, HALF_A_DAY)[0][0]
    assert only.flags == ("seen", "partly_hidden", "disagreement") and only.part == "train"
    assert only.source == "a.tif + b.tif" and only.sensor == "sentinel-2" and only.when == START
    assert (only.area_m2, only.observed_m, only.cloud, only.spread_m) == (5e4, 10.4, 0.1, None)
    for parts, told in ((("test", "validation"), "test"), (("", "validation"), "validation"), (("test", "train"), "train"), (("", ""), "")):
        pair = [estimate(m, part=p) for m, p in zip(("network", "area"), parts)]
        assert combine.combined(pair, {}, 0.9, HALF_A_DAY)[0][0].part == told
    near = combine.combined([network, estimate("area", 10.59, 0.3)], {}, 0.9, HALF_A_DAY)[0][0]
    assert "disagreement" not in near.flags


@pytest.mark.parametrize("flag", sorted(combine.UNFIT))
def test_what_is_no_level_is_not_joined(flag):
    assert combine.combined([estimate("network", flags=(flag,)), estimate("area")], {}, 0.9, HALF_A_DAY) == ([], {})


def test_a_level_of_unknown_accuracy_is_not_joined_unless_its_errors_are_known():
    two = [estimate("network", half=None), estimate("area")]
    assert combine.combined(two, {}, 0.9, HALF_A_DAY)[0] == []
    known = {"dam": {"network": pairs([0.1, -0.1, 0.1, -0.1, 0.1])}}
    only = combine.combined(two, known, 0.9, HALF_A_DAY)[0][0]
    assert only.low_m is None and only.flags == ("no_interval",)


def test_reservoirs_are_not_mixed():
    two = [estimate("network"), estimate("area", name="other")]
    assert combine.combined(two, {}, 0.9, HALF_A_DAY)[0] == []
