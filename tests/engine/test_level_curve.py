"""Area-level curves: known shapes, outliers on either side, honest errors, tables."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.level.physical import curve
from water_dl_plugin.engine.level.physical.curve import Curve, fit


def pairs(count: int = 120, noise: float = 0.01, outliers: float = 0.0, seed: int = 0):
    """Areas of a cone (10 000 m2 times the square of the depth + 1) with errors in percent, levels 100 + 0..10 m with errors of 3 cm."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0, 10, count)
    area, level = 1e4 * (1 + depth) ** 2 * (1 + rng.normal(0, noise, count)), 100 + depth + rng.normal(0, 3 * noise, count)
    odd = rng.random(count) < outliers  # half of a scene clouded, or a typing error of the gauge
    area = np.where(odd & (rng.random(count) < 0.6), area * rng.uniform(0.4, 0.9, count), area)
    level = np.where(odd & (rng.random(count) < 0.5), level + rng.normal(0, 8, count), level)
    return area, level


def off(made: Curve) -> np.ndarray:
    depth = np.linspace(0.3, 9.7, 60)
    return made.level(1e4 * (1 + depth) ** 2)[0] - (100 + depth)


def months(count: int, days: float = 9.0) -> list[dt.datetime]:
    return [dt.datetime(2016, 1, 5) + dt.timedelta(days=days * k) for k in range(count)]


def test_exact_pairs_give_their_curve_back():
    area, level = pairs(noise=0)
    made = fit(area, level)
    assert np.abs(off(made)).max() < 0.05 and made.error_m < 0.05


@pytest.mark.parametrize("outliers, most", [(0.0, 0.06), (0.1, 0.12), (0.2, 0.2)])
def test_outliers_of_either_do_not_bend_the_curve(outliers, most):
    worst = [np.sqrt(np.mean(off(fit(*pairs(outliers=outliers, seed=s))) ** 2)) for s in range(4)]
    assert max(worst) < most, worst


def test_five_pairs_are_enough_and_four_are_not():
    area, level = pairs(5, noise=0.0)
    assert np.isfinite(fit(area, level).level(area)[0]).all()
    with pytest.raises(ConfigError, match="too few"):
        fit(area[:4], level[:4])


def test_areas_that_do_not_change_are_refused():
    with pytest.raises(ConfigError, match="hardly changes"):
        fit(np.full(30, 5e4) + np.arange(30), np.arange(30.0), pixel_m2=100)


def test_steep_walls_are_told_with_what_a_pixel_is_worth():
    rng, depth = np.random.default_rng(1), np.random.default_rng(2).uniform(0, 10, 80)
    area = 2e5 + 200 * depth  # two pixels a metre
    made = fit(area + rng.normal(0, 1500, 80), 50 + depth, pixel_m2=100)
    told = " ".join(curve.doubts(made, 50 + depth, 100))
    assert "one pixel of area (100 m²) is worth" in told and "tells little" in told
    assert curve.doubts(fit(*pairs()), pairs()[1], 100) == []


def test_levels_that_fall_as_areas_grow_tell_little():
    area, level = pairs()
    assert "tells little" in " ".join(curve.doubts(fit(area, -level), -level, 100))


def test_beyond_the_pairs_the_curve_goes_on_and_says_so():
    area, level = pairs()
    made = fit(area, level)
    wide = np.array([area.max() * 1.2, 1e3, 2e5])
    got, outside = made.level(wide)
    assert outside.tolist() == [True, True, False] and got[0] > level.max() and got[1] < level.min()
    assert made.level(float(wide[2])) == (got[2], False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e7), st.floats(-500, 9000)), min_size=5, max_size=60))
@example([(0.0, 0.0)] * 4 + [(620.0, 6.4e-303)])
@example([(0.0, 0.0)] * 4 + [(2.3e-308, 4.0)])
@example([(0.0, 0.0)] + [(5592406.031813046, 0.0)] * 5)
def test_whatever_the_pairs_the_curve_never_falls(found):
    area, level = np.array(found).T
    try:
        made = fit(area, level)
    except ConfigError:
        return
    at = np.linspace(area.min() - 10, area.max() + 10, 300)
    got, _ = made.level(at)
    assert np.isfinite(got).all() and (np.diff(got) >= -1e-6 * max(1, np.abs(got).max())).all()
    assert len(made.held_m) == len(area)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.01, 50)), min_size=2, max_size=12))
def test_between_knots_it_is_scipys_monotone_cubic(steps):
    x, y = np.cumsum(np.array(steps), 0).T
    at = np.linspace(x[0], x[-1], 99)
    inner = (at >= x[1]) & (at <= x[-2]) if len(x) > 3 else at < -1
    got = Curve(tuple(x), tuple(y)).level(at)[0]
    assert np.allclose(got[inner], PchipInterpolator(x, y)(at)[inner], atol=1e-6 * (y[-1] - y[0]))
    assert np.allclose(Curve(tuple(x), tuple(y)).level(x)[0], y)


def test_left_out_errors_are_those_of_new_dates():
    area, level = pairs(150)
    made = fit(area, level, months(150))
    fresh = off_new(made)
    assert len(made.held_m) == 150
    assert 0.8 < made.error_m / fresh < 1.3


def off_new(made: Curve) -> float:
    area, level = pairs(3000, seed=9)
    return float(np.sqrt(np.mean((made.level(area)[0] - level) ** 2)))


def test_a_month_is_left_out_as_a_whole():
    """One month's levels stand 2 m too high: only with the whole month left out does its error show in full."""
    area, level = pairs(90, seed=3)
    when = months(90, 6.0)
    odd = np.array([t.year == 2016 and t.month == 5 for t in when])
    assert 4 <= odd.sum() <= 6
    area = np.where(odd, 1e4 * 12**2, area)  # and larger areas than any other date: nothing else says what is there
    level = np.where(odd, 113.0, level)
    whole = np.abs(np.array(fit(area, level, when).held_m))[odd]
    single = np.abs(np.array(fit(area, level).held_m))[odd]
    assert whole.min() > 1.5 and single.max() < 0.7


def test_isotonic_pools_what_falls():
    assert curve.isotonic([1, 3, 2, 4]).tolist() == [1, 2.5, 2.5, 4]
    assert curve.isotonic([5, 2, 2, 7], np.median).tolist() == [2, 2, 2, 7]


def test_error_is_not_ruled_by_a_typing_error():
    errors = np.random.default_rng(0).normal(0, 0.1, 200)
    errors[7] = 90.0
    assert 0.08 < curve.error_of(errors) < 0.13
    assert curve.error_of([0.1, 0.2]) is None


def test_json_and_raised():
    made = fit(*pairs())
    again = Curve.from_json(made.to_json())
    assert again == made and made.raised(2.5).level(2e5)[0] == pytest.approx(made.level(2e5)[0] + 2.5)
    with pytest.raises(ConfigError):
        Curve.from_json({"area_m2": [1, 2], "level_m": [3, "x"]})
    with pytest.raises(ConfigError):
        Curve.from_json([1])


# ------------------------------------------------------------------------------------------------------------------------- tables


def test_a_written_table_reads_back(tmp_path):
    made = {"Upper dam": fit(*pairs()), "Lower": fit(*pairs(seed=4))}
    curve.write(tmp_path / "curves.csv", made)
    again = curve.read(str(tmp_path / "curves.csv"))
    at = np.linspace(2e4, 1e6, 50)
    for name, known in made.items():
        assert np.allclose(again[name].level(at)[0], known.level(at)[0], atol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "level_m,area_m2\n10,1000\n11,30000\n12,50000\n",
        "Stage (m);Area (ha)\n10;0,1\n11;3,0\n12;5,0\n",
        "elevation\tsurface_area_km2\n12\t0.05\n10\t0.001\n11\t0.03\n",
        "level_m,area_m2\n10,1000\n11,30000\n11,30000\n12,50000\n",
    ],
)
def test_tables_as_people_have_them(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    made = curve.read(str(path))[""]
    assert made.level(np.array([1000.0, 30000.0, 50000.0]))[0].tolist() == pytest.approx([10, 11, 12])


@pytest.mark.parametrize(
    "text, told",
    [
        ("level_m,area_m2\n10,1000\n11,900\n", "falls"),
        ("level_m,area_m2\n10,1000\n", "fewer than two"),
        ("level_m,area_m2\n10,1000\n11,many\n", "Line 3"),
        ("level_m,area_m2\n10,1000\n11,1000\n", "one area"),
        ("level_m,area_m2\n10,-5\n11,1000\n", "below 0"),
        ("level_m,depth_m\n10,1000\n", "No column"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, told):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        curve.read(str(path))


@pytest.mark.parametrize(
    "head, level, area",
    [("level_m,area_m2", 1, 1), ("Elevation (ft),Area (acres)", 0.3048, 4046.8564224), ("stage m,area (sq km)", 1, 1e6), ("level_cm,area_ha", 0.01, 1e4),
     ("level,area", 1, 1)],
)  # fmt: skip
def test_units_of_a_stage_area_table(tmp_path, head, level, area):
    (tmp_path / "t.csv").write_text(f"{head}\n1000,10\n1010,50\n1020,120\n")
    (known,) = curve.read(str(tmp_path / "t.csv")).values()
    assert known.area_m2 == pytest.approx([10 * area, 50 * area, 120 * area])
    assert known.level_m == pytest.approx([1000 * level, 1010 * level, 1020 * level])


def test_levels_that_are_alike_make_no_curve():
    with pytest.raises(ConfigError, match="alike"):
        curve.fit(np.linspace(1e4, 2e4, 20), np.full(20, 105.0))
