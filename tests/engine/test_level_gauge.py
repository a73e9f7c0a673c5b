"""Gauge tables as people have them, what looks odd in them, and which reading belongs to which scene."""

from __future__ import annotations

import datetime as dt
import gzip
import shutil
import zoneinfo
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from osgeo import ogr

from water_dl_plugin.engine import clock
from water_dl_plugin.engine.config import Config
from water_dl_plugin.engine.errors import ConfigError, LabelError
from water_dl_plugin.engine.level.inputs import columns, gauge
from water_dl_plugin.engine.level.inputs.match import match
from water_dl_plugin.engine.level.series import Estimate, Reading, Scene
from water_dl_plugin.engine.settings import series

DAMS = Path(__file__).resolve().parents[3] / "shared" / "data" / "dam_levels" / "cape_town_dams_daily_2012_2017.csv.gz"


@dataclass(frozen=True)
class Settings(Config):
    gauge_reservoir: str = series.gauge_reservoir()
    gauge_date: str = series.gauge_date()
    gauge_level: str = series.gauge_level()
    gauge_date_format: str = series.gauge_date_format()
    unit: str = series.unit()
    time_zone: str = series.time_zone()
    missing: str = series.missing()
    tolerance: float = series.tolerance()


def read(tmp_path, text, encoding="utf-8", name="gauge.csv", **settings):
    """(readings, dropped, lines of the log) of a table with this text."""
    path, lines = tmp_path / name, []
    path.write_bytes(text.encode(encoding))
    readings, dropped = gauge.read(str(path), Settings(**settings), lambda f, m="": lines.append(m))
    return readings, dropped, "\n".join(lines)


def levels(readings) -> list[float]:
    return [round(r.level_m, 4) for r in readings]


def at(day: int, hour: int = 12, minute: int = 0) -> dt.datetime:
    return dt.datetime(2020, 8, day, hour, minute)


@pytest.mark.parametrize("text, encoding", [
    ("date,level\n2020-08-30,12.5\n2020-08-31,12.25\n", "utf-8"),
    ("Datum;Pegel [m]\r\n30.08.2020;12,5\r\n31.08.2020;12,25\r\n", "utf-8-sig"),
    ("Name;Date;H\u00f6he m\n;30-Aug-2020;12,5\n;31-Aug-2020;12,25\n", "cp1252"),
    ("Fecha\tCota\n2020/8/30\t12.5\n2020/8/31\t12.25\n", "utf-16"),
    ('Date,"Water level, m"\n"Aug 30, 2020",12.5\n"Aug 31, 2020",12.25\n', "utf-8"),
    ("Day|WaterLevel_m|remark\n8/30/2020|12.5|\n8/31/2020|12.25|low, windy\n", "utf-8"),
    ("level,date\n12.5,2020-08-30 00:00:00\n12.25,2020-08-31T00:00:00Z\n", "utf-8"),  # midnights are days
    ("Dam: Voelvlei\nOwner: City, Cape Town\nLat,-33.5\nZone,34\n\nDate,Level\n20200830,12.5\n20200831,12.25\n", "utf-8"),
    ("Date,Level\n44073,12.5\n44074,12.25\n", "utf-8"),  # a spreadsheet's days
    ("# USGS\nagency_cd\tsite_no\tdatetime\tstage\n5s\t15s\t20d\t14n\nUSGS\t\t2020-08-30\t12.5\nUSGS\t\t2020-08-31\t12.25\n", "utf-8"),
])  # fmt: skip
def test_one_table_written_in_many_ways(tmp_path, text, encoding):
    readings, dropped, _ = read(tmp_path, text, encoding)
    assert readings == [Reading("", at(30), 12.5), Reading("", at(31), 12.25)] and not dropped


def test_layers_and_their_date_fields(tmp_path):
    path = str(tmp_path / "gauge.gpkg")
    data = ogr.GetDriverByName("GPKG").CreateDataSource(path)
    layer = data.CreateLayer("readings", None, ogr.wkbNone)
    for name, kind in (("dam", ogr.OFTString), ("date", ogr.OFTDateTime), ("level_cm", ogr.OFTReal)):
        layer.CreateField(ogr.FieldDefn(name, kind))
    for flag, level in ((100, 1250.0), (108, 1225.0), (92, 1240.0), (0, None)):  # UTC, UTC+2, UTC-2, unknown
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField("dam", "Voelvlei")
        feature.SetField("date", 2020, 8, 30, 9, 30, 0, flag)
        if level is not None:
            feature.SetField("level_cm", level)
        layer.CreateFeature(feature)
    data = layer = feature = None
    readings, dropped = gauge.read(f"{path}|layername=readings", Settings(unit="cm", time_zone="UTC-1"))
    assert [(r.reservoir, r.when, r.level_m, r.dated) for r in readings] == [
        ("Voelvlei", at(30, 7, 30), 12.25, False), ("Voelvlei", at(30, 9, 30), 12.5, False), ("Voelvlei", at(30, 11, 30), 12.4, False),
    ]  # fmt: skip
    assert [d.when for d in dropped] == [at(30, 10, 30)] and dropped[0].reason == "no level"
    few, _ = gauge.read(f"{path}|layername=readings|subset=level_cm > 1230", Settings(unit="cm"))
    assert levels(few) == [12.5, 12.4]
    with pytest.raises(LabelError, match="no layer"):
        gauge.read(f"{path}|layername=other", Settings())


def test_units_times_zones_and_what_is_missing(tmp_path):
    text = 'site,date,time,stage_ft\nA,31/08/2020,7:30 pm,10\nA,31/08/2020,07:30,"1,000.5"\nA,1/9/2020,,-9999.0\nA,2/9/2020,,ice\nA,later,,1\nA,3/9/2020,,\n'
    readings, dropped, _ = read(tmp_path, text, unit="ft", time_zone="Africa/Johannesburg")
    assert [(r.when, r.dated) for r in readings] == [(at(31, 5, 30), False), (at(31, 17, 30), False)]
    assert levels(readings) == [304.9524, 3.048]
    assert [d.reason for d in dropped] == ["no level (-9999.0)", "no number: 'ice'", "no date: 'later'", "no level"]
    assert dropped[0].when == dt.datetime(2020, 9, 1, 10) and dropped[0].name == "line 4"
    _, _, log = read(tmp_path, text)
    assert "speaks of feet" in log and "UNIT to ft" in log
    assert "feet" not in read(tmp_path, "date,level_m\n2020-08-31,3\n")[2]


def test_readings_of_one_time(tmp_path):
    text = "dam,date,level\nA,2020-08-30,3.50\nA,2020-08-30,3.54\nA,2020-08-31,3.5\nA,2020-08-31,9.5\nB,2020-08-31,1\n"
    readings, dropped, log = read(tmp_path, text)
    assert readings == [Reading("A", at(30), pytest.approx(3.52)), Reading("B", at(31), 1.0)]
    assert [d.when for d in dropped] == [at(31)] and "3.50, 9.50" in dropped[0].reason and "Warning: 1 time(s)" in log


@pytest.mark.parametrize("text, told", [
    ("date,level\n01/02/2020,1\n02/03/2020,2\n", "day or the month first.*GAUGE_DATE_FORMAT"),
    ("date,level\n31/08/2020,1\n08/31/2020,2\n", "contradict"),
    ("date,level\n31/08/20,1\n30/08/20,2\n", "two digits.*GAUGE_DATE_FORMAT"),
    ("date,level\nMonday,1\nTuesday,2\n", "0 of 2 dates.*Monday"),
    ("date,level\n2020-08-30,12,5\n2020-08-31,12,6\n", "more cells"),
    ('date,level\n2020-08-30,"1,234"\n2020-08-31,"1,235"\n', "decimal comma or is a thousand"),
    ("date,level_min,level_max\n2020-08-31,1,2\n", "level_min, level_max.*GAUGE_LEVEL"),
    ("date,depth of snow\n", "no lines"),
    ("when done,h\n2020-08-31,1\n", "when done, h.*GAUGE_DATE"),
    ("2020-08-30,12.5\n2020-08-31,12.5\n", "names of its columns"),
    ("date,level\n2020-08-30,1\n2020-08-30,2\n2020-08-31,1\n2020-08-31,5\n", "GAUGE_RESERVOIR"),
    ("date,level\n2020-08-30,NA\n2020-08-31,---\n", "None of 2 lines.*no level"),
    ("", "is empty"), ("\0\x01\x02\xff" * 50, "No column"),
])  # fmt: skip
def test_tables_that_do_not_tell(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        read(tmp_path, text, "latin-1")


def test_settings_mend_them(tmp_path):
    text = "gauge no,when done,level_min,level_max\n7,01/02/20 06:30,1,2\n8,02/02/20 06:30,1,2\n"
    named = {"gauge_date": "When Done", "gauge_level": "level_max", "gauge_date_format": "%d/%m/%y %H:%M"}
    readings, _, _ = read(tmp_path, text, **named)
    assert readings == [Reading("7", dt.datetime(2020, 2, 1, 6, 30), 2.0, False), Reading("8", dt.datetime(2020, 2, 2, 6, 30), 2.0, False)]
    readings, _, _ = read(tmp_path, text, **{**named, "gauge_date_format": "%m/%d/%y %H:%M"})
    assert readings[0].when == dt.datetime(2020, 1, 2, 6, 30)
    with pytest.raises(ConfigError, match="no column 'level'.*GAUGE_LEVEL"):
        read(tmp_path, text, **{**named, "gauge_level": "level"})
    with pytest.raises(ConfigError, match="no file"):
        gauge.read(str(tmp_path / "nope.csv"), Settings())


@pytest.mark.parametrize("names, wanted, number", [
    (["dam_name", "date", "height_m", "storage_ml", "current_%", "monthname", "daymonthyear"], (gauge.RESERVOIR, gauge.DATE, gauge.LEVEL), (0, 1, 2)),
    (["id", "Station Name", "Date/Time (UTC)", "Water Level (m a.s.l.)", "level_quality"], (gauge.RESERVOIR, gauge.DATE, gauge.LEVEL), (1, 2, 3)),
    (["date", "water level status", "level"], (gauge.DATE, gauge.LEVEL, gauge.RESERVOIR), (0, 2, None)),
    (["date", "dam level (m)", "dam"], (gauge.DATE, gauge.LEVEL, gauge.RESERVOIR), (0, 1, 2)),
])  # fmt: skip
def test_columns_by_name(names, wanted, number):
    table = columns.Table.__new__(columns.Table)
    table.names, table.path = names, "x.csv"
    assert tuple(columns.column(table, "", w, "X", optional=w is gauge.RESERVOIR) for w in wanted) == number
    table.names = ["time", "level"]
    assert columns.column(table, "", gauge.TIME, "X", optional=True) == 0 and columns.column(table, "", gauge.TIME, "X", (0,), True) is None


@given(st.lists(st.floats(-500, 9000).map(lambda v: round(v, 2)), min_size=2, max_size=20))
def test_numbers_come_back_from_points_and_commas(values):
    texts = [f"{v:.2f}" for v in values]
    for written, separator in ((texts, ","), ([t.replace(".", ",") for t in texts], ";"), ([f"{v:,.2f}" for v in values], ",")):
        assert columns.numbers(written, separator, "") == values
    german = [f"{v:,.2f}".translate(str.maketrans(",.", ".,")) for v in values]
    assert columns.numbers(german, ";", "") == values


@given(
    st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2090, 1, 1)),
    st.sampled_from(["Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "UTC"]),
)
def test_zones_as_the_machine_has_them(local, name):
    expected = local.replace(tzinfo=zoneinfo.ZoneInfo(name)).astimezone(dt.timezone.utc).replace(tzinfo=None)
    assert clock.utc(clock.Stamp(local, False), clock.zone(name)) == expected
    day = clock.utc(clock.Stamp(local, True), clock.zone(name))
    assert clock.local_day(day, clock.zone(name)) == local.date()  # a bare day's noon is of that day


@pytest.mark.parametrize("text, minutes", [
    ("", 0), ("UTC", 0), ("Z", 0), ("UTC+2", 120), ("+02:00", 120), ("-3", -180), ("GMT -03:30", -210), ("utc+5.75", 345), ("+0530", 330),
])  # fmt: skip
def test_offsets(text, minutes):
    assert clock.zone(text).utcoffset(at(1)) == dt.timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["Cape Town", "UTC+25", "../etc/passwd", "+2:99"])
def test_what_is_no_zone(text):
    with pytest.raises(ConfigError):
        clock.zone(text)


def daily(values, name="", first=dt.datetime(2020, 1, 1, 12)) -> list[Reading]:
    return [Reading(name, first + dt.timedelta(days=i), float(v)) for i, v in enumerate(values)]


def test_doubts():
    calm = 20 + 0.02 * np.sin(np.arange(200)) - 0.01 * np.arange(200)
    spike, step, zero = calm.copy(), calm.copy(), calm.copy()
    spike[50] -= 2
    step[120:] += 1.5
    zero[60:65] = 0
    assert gauge.doubts(daily(calm)) == []
    (told,) = gauge.doubts(daily(spike, "A"))
    assert told.startswith("Warning: gauge of A: 2020-02-20:") and "there and back" in told
    (told,) = gauge.doubts(daily(step))
    assert "2020-04-30" in told and "jumps and stays" in told
    assert any("5 levels are exactly 0" in line for line in gauge.doubts(daily(zero)))
    gone = [r for r in daily(calm) if not dt.datetime(2020, 3, 1) < r.when < dt.datetime(2020, 5, 1)]
    assert gauge.doubts(gone) == ["Warning: gauge: no reading from 2020-02-29 to 2020-05-01."]
    assert "all 200 levels are alike" in gauge.doubts(daily(np.full(200, 3.0)))[0]
    assert "one reading only" in gauge.doubts(daily([3.0]))[0]
    assert "set UNIT to ft" in gauge.doubts(daily(calm / 0.3048, "A"), {"A": 19.0})[0]
    assert gauge.doubts(daily(calm, "A"), {"A": 19.0}) == gauge.doubts(daily(calm, "A"), {"B": 6.0}) == []


@pytest.mark.skipif(not DAMS.is_file(), reason="needs shared/data/dam_levels beside the project")
def test_real_dams(tmp_path):
    path = str(tmp_path / "dams.csv")
    with gzip.open(DAMS) as packed, open(path, "wb") as file:
        shutil.copyfileobj(packed, file)
    readings, dropped = gauge.read(path, Settings(time_zone="Africa/Johannesburg"))
    assert len(readings) == 29_029 and len(dropped) == 1309 and {d.reason for d in dropped} == {"no level"}
    assert readings[0] == Reading("Alexandra", dt.datetime(2012, 1, 1, 10), 10.64)
    told = gauge.doubts([r for r in readings if r.reservoir == "Voëlvlei"])
    assert len(told) == 1 and "2014-02-02, 2015-04-19" in told[0]  # 15.82, 13.75, 15.70 and 11.72, 11.00, 11.69 m
    assert any("344 levels are exactly 0" in line for line in gauge.doubts([r for r in readings if r.reservoir == "Victoria"]))


SCENES = [Scene("s30.tif", at(30, 8)), Scene("s31.tif", at(31, 8))]


def test_names_meet_without_case_accents_and_blanks():
    pairs, dropped = match(
        SCENES, daily([1, 2, 3], "VOELVLEI  dam", at(29)) + daily([5], "Other", at(31)), ["Voëlvlei Dam", "Berg"], Settings()
    )
    assert [(p.scene.path, p.reservoir, p.reading) for p in pairs] == [
        ("s30.tif", "Voëlvlei Dam", Reading("Voëlvlei Dam", at(30), 2.0)), ("s31.tif", "Voëlvlei Dam", Reading("Voëlvlei Dam", at(31), 3.0)),
    ]  # fmt: skip
    assert [(d.reservoir, d.reason.split(" reading")[0]) for d in dropped] == [("Berg", "no gauge"), ("Other", "1 gauge")]


def test_readings_without_a_name_are_the_single_reservoirs():
    pairs, _ = match(SCENES, daily([1, 2], "", at(30)), ["Dam"], Settings())
    assert [p.reading.level_m for p in pairs] == [1, 2] and {p.reading.reservoir for p in pairs} == {"Dam"}
    with pytest.raises(ConfigError, match="GAUGE_RESERVOIR"):
        match(SCENES, daily([1, 2], "", at(30)), ["Dam", "Other"], Settings())


def test_tolerance_counts_whole_days_where_only_days_are_known():
    day = [Reading("", at(29), 1.0)]
    assert [p.scene.path for p in match(SCENES, day, ["A"], Settings(tolerance=1))[0]] == ["s30.tif"]  # 20 h before
    late = [Scene("late.tif", at(30, 23, 50))]  # 36 h after that noon, but the next day
    assert len(match(late, day, ["A"], Settings(tolerance=1))[0]) == 1
    with pytest.raises(ConfigError, match="TOLERANCE"):
        match(late, [replace(day[0], dated=False)], ["A"], Settings(tolerance=1))
    assert len(match(late, [replace(day[0], dated=False)], ["A"], Settings(tolerance=1.5))[0]) == 1


def test_the_day_is_the_gauges():
    evening = [Scene("x.tif", at(30, 22, 20))]  # 10:20 of the 31st in New Zealand
    readings = [Reading("", clock.utc(clock.Stamp(at(day), True), clock.zone("Pacific/Auckland")), float(day)) for day in (30, 31)]
    assert match(evening, readings, ["A"], Settings(time_zone="Pacific/Auckland"))[0][0].reading.level_m == 31


def test_the_nearest_time_wins_within_the_day():
    scene = [Scene("x.tif", at(30, 0, 30))]
    readings = [Reading("", at(29, 23, 50), 1.0, False), Reading("", at(30, 4), 2.0, False), Reading("", at(30, 23), 3.0, False)]
    assert match(scene, readings, ["A"], Settings())[0][0].reading.level_m == 2
    assert match(scene, readings, ["A"], Settings(tolerance=0.5))[0][0].reading.level_m == 1
    far = [Reading("", at(1), 1.0), Reading("", at(11), 2.0), Reading("", dt.datetime(2020, 12, 1), 3.0)]
    assert match(scene, far, ["A"], Settings(tolerance=60))[0][0].reading.level_m == 2


@given(st.lists(st.integers(0, 24 * 60), min_size=1, max_size=30, unique=True), st.integers(0, 24 * 60), st.integers(1, 5))
def test_matching_against_the_plain_rule(hours, scene, tolerance):
    start = dt.datetime(2020, 1, 1)
    readings = [Reading("", start + dt.timedelta(hours=h), float(h), False) for h in sorted(hours)]
    nearest = min(abs(h - scene) for h in hours)
    scenes = [Scene("x.tif", start + dt.timedelta(hours=scene))]
    if nearest > 24 * tolerance:
        with pytest.raises(ConfigError):
            match(scenes, readings, ["A"], Settings(tolerance=tolerance))
        return
    (pair,), _ = match(scenes, readings, ["A"], Settings(tolerance=tolerance))
    assert abs(pair.reading.level_m - scene) == nearest


def test_what_has_a_reservoir_is_matched_with_that_one_only():
    estimates = [Estimate(name, at(30), 1.0, None, None, "network", source="s.tif") for name in ("A", "B", "C")]
    pairs, dropped = match(estimates, daily([1], "A", at(30)) + daily([2], "B", at(25)), ["A", "B"], Settings())
    assert [(p.scene.reservoir, p.reading.level_m) for p in pairs] == [("A", 1.0)]
    assert [(d.name, d.reservoir, d.reason) for d in dropped] == [
        ("s.tif", "B", "no gauge reading of its day; the nearest is 5.0 days off")
    ]


@pytest.mark.parametrize("name, reservoirs, first, told", [
    ("Voelvlei", ["Berg", "Voëlvley"], at(30), "'Voelvlei' .gauge. and 'Voëlvley' .polygon"),
    ("Berg", ["Bérg River Dam", "X"], at(30), "'Berg' .gauge. and 'Bérg River Dam' .polygon"), ("Xyz", ["Berg"], at(30), "'Xyz'; the polygons have 'Berg'"),
    ("Berg", ["Berg"], dt.datetime(2019, 5, 1, 12), "Scenes: 2020-08-30 to 2020-08-31; readings of 'Berg': 2019-05-01 to 2019-05-02.*TOLERANCE"),
    ("Berg", ["Berg", "BERG"], at(30), "same name"),
])  # fmt: skip
def test_nothing_matches(name, reservoirs, first, told):
    with pytest.raises(ConfigError, match=told):
        match(SCENES, daily([1, 2], name, first), reservoirs, Settings())
