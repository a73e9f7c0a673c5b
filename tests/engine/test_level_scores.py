"""Figures of estimated levels: known answers, properties, groups; and tables of estimates against gauges."""

from __future__ import annotations

import csv
import datetime as dt
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import helpers
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.level.assessment import scores
from water_dl_plugin.engine.level.assessment.assess import assess_levels
from water_dl_plugin.engine.level.series import Estimate
from water_dl_plugin.engine.settings import AssessLevelsConfig

DAY = dt.timedelta(days=1)
START = dt.datetime(2018, 1, 10, 8, 20)


def estimates(levels, observed, name="Pond", method="network", parts=None, flags=None, step=7, **more):
    return [
        Estimate(name, START + step * DAY * k, level, None if level is None else level - 0.5, None if level is None else level + 0.5, method,
                 (flags or {}).get(k, ()), observed_m=o, part=parts[k] if parts else "", **more)
        for k, (level, o) in enumerate(zip(levels, observed))
    ]  # fmt: skip


# --- figures


def test_figures_by_hand():
    found = scores.figures([1, 2, 3, 6], [2, 2, 3, 4], [1.5, 1, 2.5, 3], [2.5, 3, 3.5, None], limit_m=1.0)
    # errors 1, 0, 0, -2; the mean of the observed is 3, their squares about it 4 + 1 + 0 + 9
    assert found["n"] == 4 and found["r2"] == found["nse"] == pytest.approx(1 - 5 / 14)
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 4)) and found["mae"] == 0.75 and found["bias"] == -0.25 and found["max_error"] == 2
    assert found["days_off"] == 1  # 1 m is not more than 1 m
    assert (found["with_interval"], found["coverage"], found["width_m"]) == (3, pytest.approx(2 / 3), pytest.approx((1 + 2 + 1) / 3))
    assert found["pearson_r2"] == pytest.approx(np.corrcoef([1, 2, 3, 6], [2, 2, 3, 4])[0, 1] ** 2)


def test_dates_that_one_side_lacks_do_not_count():
    assert scores.figures([1, None, 3, math.nan, 7], [1.5, 9, 3.5, 9, None])["n"] == 2
    found = scores.figures([], [], [], [])
    assert found["n"] == 0 and math.isnan(found["rmse"]) and found["days_off"] == 0


@pytest.mark.parametrize("level", [0.0, 1000.1, -3.7e3])
def test_a_gauge_that_does_not_move_gives_no_skill(level):
    found = scores.figures([level] * 30, np.linspace(0, 1, 30) + level)
    assert all(math.isnan(found[key]) for key in ("r2", "nse", "pearson_r2")) and found["rmse"] > 0


def test_several_reservoirs_are_judged_about_their_own_means():
    """Telling reservoirs apart is no skill."""
    observed, estimated = [10, 11, 12, 100, 101, 102], [11, 11, 11, 101, 101, 101]
    found = scores.figures(observed, estimated, groups=["a"] * 3 + ["b"] * 3)
    assert found["nse"] == 0 and found["r2"] > 0.999
    assert scores.figures(observed, estimated)["nse"] == found["r2"]


LEVELS = hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(-500, 500).map(lambda v: round(v, 3)))


@settings(max_examples=60, deadline=None)
@given(LEVELS, st.floats(-20, 20), st.integers(0, 1000))
def test_properties(observed, shift, seed):
    rng = np.random.default_rng(seed)
    estimated = observed + rng.normal(0, 1, observed.size)
    a, b = scores.figures(observed, estimated), scores.figures(observed, estimated + shift)
    assert b["bias"] == pytest.approx(a["bias"] + shift, abs=1e-9)
    assert b["rmse"] ** 2 - b["bias"] ** 2 == pytest.approx(np.var(estimated - observed), abs=1e-6)
    assert a["mae"] <= a["rmse"] + 1e-12 <= a["max_error"] + 2e-12
    if np.ptp(observed) > 0.01 and np.ptp(estimated) > 0.01:
        assert b["pearson_r2"] == pytest.approx(a["pearson_r2"], abs=1e-6)
        assert a["r2"] <= a["pearson_r2"] + 1e-9  # the best line does no worse than the line of no error
    order = rng.permutation(observed.size)
    assert scores.figures(observed[order], estimated[order])["r2"] == pytest.approx(a["r2"], nan_ok=True, rel=1e-6, abs=1e-6)
    perfect = scores.figures(observed, observed, observed - 0.1, observed + 0.1)
    assert perfect["rmse"] == 0 and perfect["coverage"] == 1 and (math.isnan(perfect["nse"]) or perfect["nse"] == 1)


# --- confidence


def test_errors_that_stay_for_a_season_give_wide_intervals():
    """As many dates, the same RMSE: what counts is how many quarters tell of it."""
    when = [START + 3 * DAY * k for k in range(600)]
    level, rng = np.sin(np.arange(600) / 20), np.random.default_rng(1)
    quarter = np.array([4 * t.year + (t.month - 1) // 3 for t in when])
    lasting = rng.normal(0, 1, quarter.max() + 1)[quarter]
    found = [scores.intervals(when, level, level + error) for error in (lasting, rng.permutation(lasting))]
    width = [f["rmse_high"] - f["rmse_low"] for f in found]
    assert width[0] > 3 * width[1] > 0
    for f, error in zip(found, (lasting, lasting)):
        assert f["rmse_low"] < math.sqrt((error**2).mean()) < f["rmse_high"] and f["nse_low"] < f["nse_high"]


def test_an_error_that_never_varies_has_no_spread():
    when, level = [START + 10 * DAY * k for k in range(200)], np.sin(np.arange(200))
    found = scores.intervals(when, level, level + 0.3)
    assert found["rmse_low"] == pytest.approx(0.3) and found["rmse_high"] == pytest.approx(0.3)


def test_no_interval_from_a_short_series():
    when, level = [START + 5 * DAY * k for k in range(100)], np.arange(100.0)
    assert all(math.isnan(v) for v in scores.intervals(when, level, level + 1).values())  # 500 days: 6 or 7 quarters
    assert all(math.isnan(v) for v in scores.intervals([], [], []).values())


# --- tables


def test_rows_by_method_reservoir_and_part():
    parts = ["train", "train", "validation", "test", "", ""]
    some = estimates([1, 2, 3, 4, 5, 6], [1, 2, 4, 4, 5, 8], parts=parts) + estimates([3.0, 4], [3, 4.5], name="Lake", method="area")
    some += estimates([None, 5], [3, None], name="Lake") + estimates([5.0], [105], name="Lake", flags={0: ("no_datum",)})
    rows = {(r["method"], r["reservoir"], r["part"]): r for r in scores.grouped(some)}
    count = {key[1:]: r["n"] for key, r in rows.items() if key[0] == "network" and key[1]}
    assert count == {
        ("Pond", "all"): 6,
        ("Pond", "unseen"): 4,
        ("Pond", "train"): 2,
        ("Pond", "validation"): 1,
        ("Pond", "test"): 1,
        ("Pond", "new"): 2,
    }
    assert rows["network", "", "all"]["n"] == 6  # what is no level or was not observed is in none
    assert rows["network", "Pond", "train"]["rmse"] == 0 and rows["network", "Pond", "unseen"]["mae"] == 0.75
    assert rows["area", "Lake", "new"]["max_error"] == 0.5 and next(k for k in rows if k[0] == "area") == ("area", "", "all")
    alone = scores.grouped([e for e in some if e.reservoir == "Pond"])
    assert {r["reservoir"] for r in alone} == {"Pond"} and scores.grouped([]) == []


def table(path, some, columns=("reservoir", "date", "level_m", "low_m", "high_m", "observed_m", "method", "part", "flags")) -> str:
    """As estimatelevel writes it."""
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for e in some:
            told = {"date": e.when.isoformat(), "flags": ", ".join(e.flags)}
            writer.writerow([told[c] if c in told else "" if getattr(e, c) is None else getattr(e, c) for c in columns])
    return str(path)


def gauge(path, rows, head="Dam;Datum;Level (m)") -> str:
    path.write_text("\n".join([head, *rows]), encoding="utf-8")
    return str(path)


def test_headline_is_of_dates_that_were_not_trained_with(tmp_path):
    parts = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    level = 20 + np.arange(40) / 10
    some = estimates((level + np.where(np.arange(40) < 20, 0, 0.5)).tolist(), level.tolist(), parts=parts, flags={35: ("cloud",)})
    source = table(tmp_path / "e.csv", some)
    told: list = []
    found = assess_levels(
        source,
        AssessLevelsConfig(),
        csv=str(tmp_path / "t.csv"),
        json_path=str(tmp_path / "f.json"),
        progress=lambda f, m="": told.append(m),
    )
    assert found.numbers() == pytest.approx(
        {
            "N": 20,
            "R2": found.figures["r2"],
            "RMSE": 0.5,
            "MAE": 0.5,
            "BIAS": 0.5,
            "NSE": found.figures["nse"],
            "DAYS_OFF": 0,
            "COVERAGE": 1,
        }
    )
    assert [flag for flag, _ in found.by_flag] == ["", "cloud"] and found.by_flag[1][1]["n"] == 1
    assert any("same zero" in t for t in told)  # half a metre off, always
    written = list(csv.DictReader((tmp_path / "t.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert {r["part"]: float(r["rmse"]) for r in written}["train"] == 0 and [r["n"] for r in written if r["part"] == "all"] == ["40"]
    assert helpers.load_json(tmp_path / "f.json")["figures"]["rmse"] == pytest.approx(0.5)
    for dates, n in (("all", 40), ("test", 10), ("train", 20)):
        assert assess_levels(source, AssessLevelsConfig(dates=dates)).numbers()["N"] == n
    assert assess_levels(source, AssessLevelsConfig(sound_only=True)).numbers()["N"] == 19
    only = assess_levels(table(tmp_path / "train.csv", some[:20]), AssessLevelsConfig())
    assert only.part == "train" and "trained with" in only.notes[0]


def test_a_gauge_table_takes_the_place_of_what_was_observed(tmp_path):
    some = estimates([5.0, 6, 7], [50, 60, 70], name="Voëlvlei") + estimates([5.0, 6, 7], [None] * 3, name="Other", method="area")
    rows = [f"VOELVLEI;{(START + 7 * k * DAY):%d.%m.%Y};{5.25 + k}" for k in range(2)] + ["Third;10.01.2018;9"]
    config = AssessLevelsConfig(method="network")
    found = assess_levels(
        table(tmp_path / "e.csv", some), config, gauge_table=gauge(tmp_path / "g.csv", rows), report=str(tmp_path / "r.html")
    )
    assert found.numbers()["N"] == 2 and found.numbers()["BIAS"] == pytest.approx(-0.25)
    assert [d.what for d in found.dropped if d.reservoir == "Voëlvlei"] == ["estimate"] and not [
        d for d in found.dropped if d.reservoir == "Third"
    ]
    near = assess_levels(table(tmp_path / "e.csv", some), AssessLevelsConfig(tolerance=7), gauge_table=gauge(tmp_path / "g.csv", rows))
    assert near.numbers()["N"] == 3 and near.figures["max_error"] == pytest.approx(0.75)


def test_columns_can_be_chosen_and_lines_without_a_name_are_told(tmp_path):
    path = tmp_path / "e.csv"
    lines = ["dam,a,level,level 2,date"] + [f"{'Pond' if k else ''},2020-01-{k + 1:02d},{k},{k + 0.5},2031-01-01" for k in range(9)]
    path.write_text("\n".join([*lines, "Pond,never,3,3,2031-01-01", "Lake,2020-01-02,3,3,2031-01-01"]), encoding="utf-8")
    rows = [f"Pond;2020-01-{k + 1:02d};{k}" for k in range(9)]
    config = AssessLevelsConfig(estimate_date="A", estimate_level="level 2")
    found = assess_levels(str(path), config, gauge_table=gauge(tmp_path / "g.csv", rows))
    assert found.numbers()["N"] == 8 and found.numbers()["BIAS"] == 0.5 and found.numbers()["R2"] == pytest.approx(1 - 8 * 0.25 / 42)
    assert {d.reason for d in found.dropped} == {"no reservoir", "no date", "no gauge reading of this reservoir"}


def test_any_table_with_dates_and_levels(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("Datum;Wasserstand m\n" + "\n".join(f"{d:02d}.03.2020;{d // 10},{d % 10}" for d in range(1, 21)))
    rows = [f"Pond;{d:02d}.03.2020;{d / 10}" for d in range(1, 21)]
    found = assess_levels(str(path), AssessLevelsConfig(), gauge_table=gauge(tmp_path / "g.csv", rows))
    assert found.method == "estimated" and found.numbers()["N"] == 20 and found.numbers()["RMSE"] == pytest.approx(0, abs=1e-12)
    feet = assess_levels(
        str(path),
        AssessLevelsConfig(),
        gauge_table=gauge(tmp_path / "g.csv", [f"Pond;{d:02d}.03.2020;{d / 3.048:.3f}" for d in range(1, 21)]),
    )
    assert any("3.28 times" in note and "feet" in note for note in feet.notes) and not any("feet" in note for note in found.notes)


@pytest.mark.parametrize(
    "some, config, words",
    [
        (estimates([1.0, 2], [None, None]), {}, "observed level"),
        (estimates([1.0], [2.0], flags={0: ("no_datum",)}), {}, "unknown datum"),
        (estimates([1.0], [2.0], flags={0: ("cloud",)}), {"sound_only": True}, "flagged"),
        (estimates([1.0], [2.0]), {"method": "area"}, "METHOD may be network"),
        (estimates([1.0], [2.0]), {"dates": "test"}, "DATES may be"),
    ],
    ids=["unobserved", "depths", "flagged", "method", "dates"],
)
def test_nothing_to_compare(tmp_path, some, config, words):
    with pytest.raises(ConfigError) as refused:
        assess_levels(table(tmp_path / "e.csv", some), AssessLevelsConfig(**config), report=str(tmp_path / "r.html"))
    assert words in str(refused.value) and [p.name for p in tmp_path.iterdir()] == ["e.csv"]


def test_outputs_do_not_write_over_tables(tmp_path):
    source = table(tmp_path / "e.csv", estimates([1.0], [2.0]))
    with pytest.raises(ConfigError, match="same file"):
        assess_levels(source, AssessLevelsConfig(), csv=source)
