"""The physical road as a whole: levels by area and shoreline, where the curve is from, and what is honest about dates that were fitted on."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pytest

from tests import bowls
from tests.helpers import crs, utm, write_raster
from water_dl_plugin.engine.errors import Cancelled, ConfigError, RasterError
from water_dl_plugin.engine.grid import Grid
from water_dl_plugin.engine.level.physical import curve
from water_dl_plugin.engine.level.physical import estimates as physical
from water_dl_plugin.engine.level.series import FLAGS, PARTS, Reading, Scene

CONE = bowls.cone()
ZERO = 12.5  # m, the gauge's zero above the elevation model's


def dem(folder, z=CONE) -> str:
    return write_raster(folder / "dem.tif", z.astype(np.float32), utm(z.shape[1], z.shape[0]), -9999.0)


def table(folder, shift: float = -ZERO, name: str = "Bowl") -> str:
    level = np.linspace(52, 72, 21)
    rows = [f"{name},{h + shift:.3f},{math.pi * ((h - 50) / 0.05) ** 2:.1f}" for h in level]
    (folder / "table.csv").write_text("reservoir,level_m,area_m2\n" + "\n".join(rows) + "\n")
    return str(folder / "table.csv")


def run(folder, level, *, gauge=(), hidden=None, name: str = "Bowl", noise=None, **given):
    """`gauge`: dates that have a reading."""
    scenes = bowls.scenes(folder, CONE, level if noise is None else level + noise, hidden)
    told = [r for k, r in enumerate(bowls.readings(level - ZERO, name)) if k in set(gauge)]
    settings = bowls.config(**{k: given.pop(k) for k in ("coverage", "max_hidden", "tolerance") if k in given})
    return physical.estimates(scenes, [bowls.reservoir()], settings, readings=told, **given)


def by(found, method: str) -> list:
    return [e for e in found.estimates if e.method == method]


def test_a_gauge_for_half_of_the_dates_gives_levels_for_all(tmp_path):
    level = bowls.levels(40)
    found = run(tmp_path, level, gauge=range(0, 40, 2))
    got = by(found, "area")
    assert len(got) == 40 and found.curves["Bowl"].origin == "gauge" and found.estimates == got
    error = np.array([e.level_m for e in got]) - (level - ZERO)
    assert np.abs(error).max() < 0.7 and np.sqrt(np.mean(error**2)) < 0.25
    assert [e.observed_m is not None for e in got] == [k % 2 == 0 for k in range(40)]
    assert all(set(e.flags) <= set(FLAGS) and e.part in ("", *PARTS) and e.low_m < e.level_m < e.high_m for e in got)
    assert got[3].area_m2 == pytest.approx(math.pi * ((level[3] - 50) / 0.05) ** 2, rel=0.03)
    assert (got[0].source, got[0].sensor, got[0].cloud, got[0].when) == ("water_000.tif", "sentinel-2", 0, bowls.when(0))


def test_a_date_that_was_fitted_on_gets_the_level_without_it(tmp_path):
    """One reading is a typing error: its own date must not follow it, and its error must be told in full."""
    level = bowls.levels(40)
    scenes = bowls.scenes(tmp_path, CONE, level)
    readings = bowls.readings(level - ZERO)
    readings[11] = Reading("Bowl", readings[11].when, readings[11].level_m + 5, False)
    found = physical.estimates(scenes, [bowls.reservoir()], bowls.config(), readings=readings)
    got = by(found, "area")
    assert {e.part for e in got} == {"validation"} and not any("seen" in e.flags for e in got)
    assert abs(got[11].level_m - (level[11] - ZERO)) < 0.6 and got[11].observed_m == pytest.approx(level[11] - ZERO + 5)
    errors = dict(found.errors["Bowl"]["area"])
    assert len(errors) == 40 and errors[bowls.when(11)] == pytest.approx(got[11].level_m - got[11].observed_m)


def test_held_out_errors_are_those_of_dates_without_a_reading(tmp_path):
    rng, level = np.random.default_rng(3), bowls.levels(120)
    noise = rng.normal(0, 0.4, 120)  # water drawn too large or too small, by as much as 0.4 m of level
    found = run(tmp_path, level, gauge=range(0, 120, 2), noise=noise)
    got = by(found, "area")
    told = np.sqrt(np.mean([e**2 for _, e in found.errors["Bowl"]["area"]]))
    new = np.sqrt(np.mean([(e.level_m - (h - ZERO)) ** 2 for e, h in zip(got, level) if e.part == ""]))
    assert 0.3 < new < 0.6 and 0.75 < told / new < 1.35
    inside = np.mean([e.low_m <= h - ZERO <= e.high_m for e, h in zip(got, level) if e.part == ""])
    assert 0.82 <= inside <= 0.98


def test_intervals_follow_the_coverage_and_what_was_filled_in(tmp_path):
    level = bowls.levels(60)
    noise = np.random.default_rng(4).normal(0, 0.3, 60)

    def gap(k):
        found = np.zeros(CONE.shape, bool)
        if k == 31:
            found[:, :60] = True
        return found

    wide = by(run(tmp_path, level, gauge=range(60), noise=noise, hidden=gap, coverage=95.0, max_hidden=80.0), "area")
    slim = by(run(tmp_path, level, gauge=range(60), noise=noise, hidden=gap, coverage=60.0, max_hidden=80.0), "area")
    assert wide[5].high_m - wide[5].low_m > 1.5 * (slim[5].high_m - slim[5].low_m)
    assert wide[31].high_m - wide[31].low_m > 1.01 * (wide[5].high_m - wide[5].low_m)
    assert "partly_hidden" in wide[31].flags and wide[31].cloud > 0.5 and wide[5].flags == ()


def test_levels_beyond_those_that_had_readings_are_flagged(tmp_path):
    level = np.append(bowls.levels(30), [51.0, 73.5])
    got = by(run(tmp_path, level, gauge=range(30)), "area")
    assert "outside_range" in got[30].flags and "outside_range" in got[31].flags and "few_pixels" not in got[0].flags
    assert got[30].low_m is None and got[31].high_m is None and "no_interval" in got[31].flags and got[0].low_m is not None
    assert [k for k, e in enumerate(got) if "outside_range" in e.flags and k < 30] == []
    assert "few_pixels" in by(run(tmp_path, np.append(level, 50.2), gauge=range(30)), "area")[-1].flags


def test_a_known_table_needs_no_gauge_and_is_judged_by_one(tmp_path):
    level = bowls.levels(20)
    found = run(tmp_path, level, table=table(tmp_path))
    assert found.curves["Bowl"].origin == "table" and found.errors["Bowl"]["area"] == []
    assert np.abs([e.level_m - (h - ZERO) for e, h in zip(by(found, "area"), level)]).max() < 0.25
    assert all(e.low_m is None and "no_interval" in e.flags and e.part == "" for e in found.estimates)
    judged = run(tmp_path, level, gauge=range(0, 20, 2), table=table(tmp_path))
    assert len(judged.errors["Bowl"]["area"]) == 10 and judged.estimates[1].low_m is not None and judged.notes == []
    assert {e.part for e in judged.estimates} == {""}
    off = run(tmp_path, level, gauge=range(20), table=table(tmp_path, shift=0.0))
    assert "+12.4" in off.notes[0] and "same zero" in off.notes[0]
    assert by(off, "area")[0].level_m == pytest.approx(level[0], abs=0.25)  # nobody shifts what the user knows


def test_a_table_of_another_reservoir_is_not_taken(tmp_path):
    assert run(tmp_path, bowls.levels(8), table=table(tmp_path, name="Elsewhere")).estimates == []
    assert len(run(tmp_path, bowls.levels(8), table=table(tmp_path, name="BOWL ")).estimates) == 8


def test_a_table_without_names_belongs_to_a_single_reservoir(tmp_path):
    (tmp_path / "plain.csv").write_text("level_m,area_m2\n40,10000\n60,500000\n")
    scenes = bowls.scenes(tmp_path, CONE, bowls.levels(6))
    places = [bowls.reservoir(name="A"), bowls.reservoir(name="B")]
    for chosen, number in ((places[:1], 6), (places, 0)):
        assert len(physical.estimates(scenes, chosen, bowls.config(), table=str(tmp_path / "plain.csv")).estimates) == number


def test_six_readings_give_an_interval_wider_than_that_of_many(tmp_path):
    noise, level = np.random.default_rng(8).normal(0, 0.3, 60), bowls.levels(60)
    few, many = (by(run(tmp_path, level, gauge=dates, noise=noise), "area") for dates in (range(0, 60, 10), range(60)))
    assert all(("no_interval" in e.flags) == ("outside_range" in e.flags) for e in few)
    one = next(k for k, e in enumerate(few) if e.low_m is not None)
    assert few[one].high_m - few[one].low_m > many[one].high_m - many[one].low_m > 0.3


def test_what_is_left_out_is_the_whole_month():
    when = [dt.datetime(2018, month, day) for month, day in ((1, 1), (1, 9), (1, 20), (2, 1), (3, 1), (4, 1), (5, 1))]
    told = physical.without_own(np.array([9.0, 9, 9, 1, 2, 3, 4]), np.ones(7, bool), when)
    assert told.tolist() == [2.5, 2.5, 2.5, 6.5, 6.5, 6.5, 6.0]
    single = physical.without_own(np.array([1.0, 5.0, 9.0]), np.array([True, True, False]), when[:3])
    assert single.tolist() == [5, 1, 3]


def test_an_elevation_model_alone_gives_its_heights_by_both_roads(tmp_path):
    level = bowls.levels(20)
    found = run(tmp_path, level, dem=dem(tmp_path))
    assert found.curves["Bowl"].origin == "dem" and found.curves["Bowl"].curve.error_m is None
    for method in ("area", "shoreline"):
        got = by(found, method)
        assert len(got) == 20 and np.abs([e.level_m - h for e, h in zip(got, level)]).max() < 0.3, method
    assert all(e.low_m is None and "no_interval" in e.flags for e in found.estimates)
    assert all(0.1 < e.spread_m < 0.6 for e in by(found, "shoreline"))


def test_a_few_readings_bring_the_elevation_model_to_the_gauges_zero(tmp_path):
    level = bowls.levels(30)
    found = run(tmp_path, level, gauge=[2, 9, 17], dem=dem(tmp_path))
    assert found.curves["Bowl"].origin == "dem" and "-12.4" in found.curves["Bowl"].told
    for method in ("area", "shoreline"):
        got = by(found, method)
        assert np.abs([e.level_m - (h - ZERO) for e, h in zip(got, level)]).max() < 0.4, method
        assert [k for k, e in enumerate(got) if e.part == "validation"] == [2, 9, 17]
        assert len(found.errors["Bowl"][method]) == 3
    single = run(tmp_path, level, gauge=[9], dem=dem(tmp_path))
    assert all(e.part == "train" and "seen" in e.flags for e in single.estimates if e.when == bowls.when(9))
    assert single.errors["Bowl"] == {"area": [], "shoreline": []}


def test_shorelines_have_calibrated_intervals_with_a_gauge(tmp_path):
    level = bowls.levels(60)
    noise = np.random.default_rng(5).normal(0, 0.3, 60)
    got = by(run(tmp_path, level, gauge=range(0, 60, 2), noise=noise, dem=dem(tmp_path)), "shoreline")
    new = [(e, h - ZERO) for k, (e, h) in enumerate(zip(got, level)) if k % 2]
    assert 0.75 <= np.mean([e.low_m <= h <= e.high_m for e, h in new]) <= 1
    assert np.mean([e.high_m - e.low_m for e, _ in new]) < 2.2


def test_a_shore_that_is_seen_at_the_dam_only_tells_no_level(tmp_path):
    """Beyond the dam the valley is deep: what the water borders on there lies below all of it."""
    z = CONE.copy()
    z[:, 70:] = 20.0
    level = bowls.levels(12, 66.0, 70.0)

    def gap(k):
        hidden = np.zeros(CONE.shape, bool)
        if k == 5:
            hidden[:, :20] = hidden[:42] = hidden[58:] = True
        return hidden

    scenes = bowls.scenes(tmp_path, np.where(np.arange(100) < 70, CONE, 99.0), level, gap)
    found = physical.estimates(scenes, [bowls.reservoir()], bowls.config(max_hidden=95.0), dem=dem(tmp_path, z))
    assert [(d.what, d.name) for d in found.dropped] == [("estimate", "water_005.tif")] and "above its level" in found.dropped[0].reason
    got = by(found, "shoreline")
    assert len(got) == 11 and np.abs([e.level_m - h for e, h in zip(got, np.delete(level, 5))]).max() < 0.5


def test_an_elevation_model_that_shows_water_is_used_above_it(tmp_path):
    level = bowls.levels(30)
    found = run(tmp_path, level, dem=dem(tmp_path, np.maximum(CONE, 62.0)))
    for e, h in zip(by(found, "area"), level):
        assert ("outside_range" in e.flags) == (h < 61.8), (h, e.flags)
    for e, h in zip(by(found, "shoreline"), level):
        assert ("outside_range" in e.flags) == (h < 61.5) or 61.5 < h < 62.5, (h, e.flags)
    assert any("shows water" in n for n in found.notes) and any("lie on water" in n for n in found.notes)
    with_gauge = run(tmp_path, level, gauge=range(30), dem=dem(tmp_path, np.maximum(CONE, 62.0)))
    assert with_gauge.curves["Bowl"].origin == "gauge"
    shores = by(with_gauge, "shoreline")
    assert {("outside_range" in e.flags, e.low_m is None) for e in shores} == {(True, True), (False, False)}


def test_the_better_of_gauge_and_elevation_model_is_taken(tmp_path):
    level = bowls.levels(12)
    wrong = 50 + (CONE - 50) * 1.6
    good, bad = (run(tmp_path, level, gauge=range(12), dem=dem(tmp_path, z)) for z in (CONE, wrong))
    assert good.curves["Bowl"].origin == "dem" and bad.curves["Bowl"].origin == "gauge"


def test_steep_walls_are_told(tmp_path):
    rng, level = np.random.default_rng(6), bowls.levels(60)
    wall = np.where(np.hypot(*(np.mgrid[:100, :100] - 49.5)) < 30, 50.0, CONE + 40)
    scenes = []
    for k in range(60):
        water = (wall <= 51) | ((rng.random(CONE.shape) < 0.1) & (CONE < 67))
        scenes.append(Scene(write_raster(tmp_path / f"s{k}.tif", water.astype(np.uint8), utm(100, 100)), bowls.when(k)))
    found = physical.estimates(scenes, [bowls.reservoir()], bowls.config(), readings=bowls.readings(level))
    assert any("tells little" in n for n in found.notes)
    width = np.mean([e.high_m - e.low_m for e in by(found, "area")])
    assert width > 10  # the interval says it, too: levels range over 16 m
    same = bowls.scenes(tmp_path, wall, level)
    refused = physical.estimates(same, [bowls.reservoir()], bowls.config(), readings=bowls.readings(level))
    assert refused.estimates == [] and any("hardly changes" in n for n in refused.notes)


def test_two_reservoirs_in_the_same_rasters_and_one_elsewhere(tmp_path):
    wide = np.concatenate([CONE, CONE + 20], axis=1)
    level = bowls.levels(16)
    grid = utm(200, 100)
    east = Grid(100, 100, (grid.transform[0] + 1000, 10, 0, grid.transform[3], 0, -10), grid.crs)
    scenes = []
    for k, h in enumerate(level):
        water = (wide <= np.where(np.arange(200) < 100, h, 142 - h)).astype(np.uint8)  # one falls while the other rises
        scenes.append(Scene(write_raster(tmp_path / f"w{k}.tif", water, grid), bowls.when(k)))
    far = Grid(100, 100, (900_000.0, 10, 0, 4_500_000.0, 0, -10), crs(32612))
    scenes.append(Scene(write_raster(tmp_path / "far.tif", np.ones((100, 100), np.uint8), far), bowls.when(20)))
    places = [
        bowls.reservoir(name="West"),
        bowls.reservoir(name="East", grid=east),
        bowls.reservoir(name="Nowhere", grid=Grid(100, 100, (700_000.0, 10, 0, 4_500_000.0, 0, -10), grid.crs)),
    ]
    readings = [*bowls.readings(level, "west"), *bowls.readings(142 - level, "EAST")]
    found = physical.estimates(scenes, places, bowls.config(), readings=readings)
    for name, want in (("West", level), ("East", 142 - level)):
        got = [e for e in found.estimates if e.reservoir == name]
        assert np.abs([e.level_m - h for e, h in zip(got, want)]).max() < 1.5 and len(got) == 16
    assert {(d.name, d.reason) for d in found.dropped} == {("far.tif", "outside all reservoirs")}
    assert any(n.startswith("Nowhere") for n in found.notes)


def test_what_is_missing_is_told_or_raised(tmp_path):
    level = bowls.levels(8)
    nothing = run(tmp_path, level)
    assert nothing.estimates == [] and any("no gauge reading" in n for n in nothing.notes)
    few = run(tmp_path, level, gauge=[0, 1, 2])
    assert few.estimates == [] and any("too few" in n for n in few.notes)
    late = [Reading("Bowl", dt.datetime(2030, 1, 1), 5.0)]
    scenes = bowls.scenes(tmp_path, CONE, level)
    assert physical.estimates(scenes, [bowls.reservoir()], bowls.config(), readings=late).estimates == []
    with pytest.raises(RasterError):
        run(tmp_path, level, dem=str(tmp_path / "none.tif"))
    (tmp_path / "bad.csv").write_text("level_m,area_m2\n1,5\n2,4\n")
    with pytest.raises(ConfigError, match="falls"):
        run(tmp_path, level, table=str(tmp_path / "bad.csv"))


def test_progress_rises_to_the_end_and_hears_cancel(tmp_path):
    seen, told = [], []

    def progress(fraction, message=""):
        seen.append(fraction)
        told.append(message)

    run(tmp_path, bowls.levels(20), gauge=range(20), dem=dem(tmp_path), progress=progress)
    assert min(seen) >= 0 and max(seen) <= 1 and any("curve fitted" in m or "curve from" in m for m in told)
    for stop in range(0, len(seen), 7):
        count = iter(range(stop + 1))

        def cancel(_fraction, _message="", count=count):
            if next(count, None) is None:
                raise Cancelled()

        with pytest.raises(Cancelled):
            run(tmp_path, bowls.levels(20), gauge=range(20), dem=dem(tmp_path), progress=cancel)


def test_curves_of_all_reservoirs_can_be_written_and_used_again(tmp_path):
    level = bowls.levels(30)
    first = run(tmp_path, level, gauge=range(30))
    curve.write(tmp_path / "curves.csv", {name: f.curve for name, f in first.curves.items()})
    again = run(tmp_path, level, table=str(tmp_path / "curves.csv"))
    plain = [first.curves["Bowl"].curve.level(e.area_m2)[0] for e in again.estimates]
    assert [e.level_m for e in again.estimates] == pytest.approx(plain, abs=0.01)
