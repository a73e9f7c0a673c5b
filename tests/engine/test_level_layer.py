"""Estimates as a table, as features, and the style that plays them."""

from __future__ import annotations

import csv
import datetime as dt
import xml.etree.ElementTree as ET

import pytest
from osgeo import ogr

from water_dl_plugin.engine.level import layer
from water_dl_plugin.engine.level.series import Estimate, Reservoir

START = dt.datetime(2020, 8, 31, 7, 56, 11)


def wkb(wkt: str) -> bytes:
    return bytes(ogr.CreateGeometryFromWkt(wkt).ExportToWkb())


SQUARE = wkb("POLYGON Z((0 0 5,10 0 5,10 10 5,0 10 5,0 0 5))")
DAMS = [Reservoir("Voëlvlei", SQUARE, ""), Reservoir("-1", wkb("MULTIPOLYGON(((0 0,1 0,1 1,0 0)))"), "")]


def estimate(level, days=0.0, method="network", name="Voëlvlei", **more) -> Estimate:
    return Estimate(name, START + dt.timedelta(days=days), level, None, None, method, **more)


def test_features_are_multipolygons_with_a_real_date_and_how_full_they_are():
    made = list(layer.features([estimate(12, 5), estimate(10), estimate(11, 9), estimate(300, method="area"), estimate(None, 7)], DAMS))
    assert [v["fill"] for _, v in made] == [1.0, 0.0, 1.0, None, 0.5]
    assert [v["method"] for _, v in made] == ["area", *["network"] * 4] and made[1][1]["date"] == START
    shape = ogr.CreateGeometryFromWkb(made[0][0])
    assert shape.GetGeometryType() == ogr.wkbMultiPolygon and shape.GetArea() == 100
    assert all(set(v) == {name for name, _ in layer.FIELDS} for _, v in made)
    assert all(v[name] is None or isinstance(v[name], kind) for _, v in made for name, kind in layer.FIELDS if kind is not float)
    assert all(len(name) <= 10 for name, _ in layer.FIELDS)  # a shapefile cuts off the rest


def test_table_holds_what_the_layer_holds(tmp_path):
    listed = [estimate(12.5, 1, name="-1", flags=("seen", "cloud"), spread_m=0.25, part="train", source="a.tif", cloud=0.0), estimate(10.0)]
    layer.write_csv(tmp_path / "t.csv", listed)
    with open(tmp_path / "t.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [name for name, _ in layer.FIELDS[:-1]]
    assert rows[1]["reservoir"] == "Voëlvlei" and rows[1]["date"] == "2020-08-31T07:56:11" and rows[1]["low_m"] == ""
    assert (rows[0]["flags"], rows[0]["level_m"], rows[0]["spread_m"], rows[0]["cloud"]) == ("seen, cloud", "12.5", "0.25", "0.0")


def test_no_estimates_leave_an_empty_table_with_its_header(tmp_path):
    layer.write_csv(tmp_path / "t.csv", [])
    assert (tmp_path / "t.csv").read_text(encoding="utf-8-sig").startswith("reservoir,date,level_m")


@pytest.mark.parametrize(
    "methods, shown", [(["area", "network"], "network"), (["network", "area", "combined"], "combined"), ([], "network")]
)
def test_style_shows_one_method_and_plays_it(tmp_path, methods, shown):
    listed = [estimate(10, days, method) for method in methods for days in (0, 5, 10, 22)]
    listed += [estimate(10, days, "shoreline") for days in range(9)]  # of a method that is not drawn
    layer.write_style(tmp_path / "s.qml", listed if methods else [])
    root = ET.parse(tmp_path / "s.qml").getroot()
    played = root.find("temporal").attrib
    assert (played["enabled"], played["mode"], played["startField"], played["durationUnit"]) == ("1", "1", "date", "d")
    assert float(played["fixedDuration"]) == (5 if methods else 1)
    assert f"= '{shown}'" in root.find("renderer-v2").attrib["attr"]
    text = (tmp_path / "s.qml").read_text(encoding="utf-8")
    assert "@method@" not in text and "@days@" not in text


def test_usual_gap_is_of_each_reservoir_by_itself():
    listed = [estimate(10, d) for d in (0, 16, 32)] + [estimate(10, d, name="-1") for d in (1, 17, 33.5)]
    assert layer.usual_gap(listed) == 16
    assert layer.usual_gap([estimate(10, h / 24) for h in (0, 1, 2)]) == 1
