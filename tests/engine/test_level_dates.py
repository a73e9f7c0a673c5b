"""Dates and sensors of scenes: product names of every kind, patterns, metadata; and the scenes of a folder and a table."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import utm, write_raster
from water_dl_plugin.engine import dates
from water_dl_plugin.engine.config import Config
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.level.inputs import scenes
from water_dl_plugin.engine.level.series import Scene
from water_dl_plugin.engine.settings import series

SAFE = "S2A_MSIL2A_20200831T075611_N0214_R035_T34HBH_20200831T110033.SAFE"
MORNING, NOON = dt.datetime(2020, 8, 31, 7, 56, 11), dt.datetime(2020, 8, 31, 12)
EVENING = dt.datetime(2020, 8, 31, 17, 25, 34)

# name -> (time of sensing, sensor); a day alone is its noon
PRODUCTS = {
    "S2A_MSIL2A_20200831T075611_N0214_R035_T34HBH_20210101T110033.tif": (MORNING, "sentinel-2"),
    "20200831T075611_20200831T081503_T34HBH.tif": (MORNING, "sentinel-2"),
    "T34HBH_20200831T075611_B03_10m.jp2": (MORNING, "sentinel-2"),
    "S2A_OPER_PRD_MSIL1C_PDMC_20200902T121212_R035_V20200831T075611_20200831T075611.tif": (MORNING, "sentinel-2"),
    "SENTINEL2A_20200831-075611-123_L2A_T34HBH_C_V2-2_FRE_STACK.tif": (MORNING, "sentinel-2"),
    "2020-08-31-00:00_2020-08-31-23:59_Sentinel-2_L2A_B03_(Raw).tiff": (NOON, "sentinel-2"),
    "S2B_34HBH_20200831_0_L2A.tif": (NOON, "sentinel-2"),
    "S1A_IW_GRDH_1SDV_20200831T172534_20200831T172559_034150_03F765_ABCD.tif": (EVENING, "sentinel-1"),
    "s1b-iw-grd-vv-20200831t172534-20200831t172559-034150-03f765-001.tiff": (EVENING, "sentinel-1"),
    "S1A__IW___A_20200831T172534_VV_grd_mli_norm_db.tif": (EVENING, "sentinel-1"),
    "OPERA_L2_RTC-S1_T027-056725-IW1_20200831T172534Z_20211001T000000Z_S1A_30_v1.0_VV.tif": (EVENING, "sentinel-1"),
    "LC08_L2SP_175083_20200831_20200906_02_T1_SR.tif": (NOON, "landsat-8"),
    "LC09_CU_003010_20200831_20210504_02_SR.tif": (NOON, "landsat-9"),
    "LC08_175083_20200831.tif": (NOON, "landsat-8"),
    "LT051750832020083101T1-SC20201231120000.tif": (NOON, "landsat-5"),
    "LC81750832020244LGN00.tif": (NOON, "landsat-8"),
    "LE71750832020244ASN00_sr.tif": (NOON, "landsat-7"),
    "HLS.S30.T34HBH.2020244T075611.v2.0.tif": (MORNING, "sentinel-2"),
    "20200831_075611_1034_3B_AnalyticMS.tif": (MORNING, "planetscope"),
    "20200831_075611_84_2416_3B_AnalyticMS_SR_8b_clip.tif": (MORNING, "planetscope"),
    "2328007_2020-08-31_RE4_3A_Analytic.tif": (NOON, ""),
    f"{SAFE}/GRANULE/L2A_T34HBH_A027104_20200831T081503/IMG_DATA/stack.tif": (MORNING, "sentinel-2"),
    "LC81750832020244LGN00/stack.tif": (NOON, "landsat-8"),
    "2020-08-31/stack.tif": (NOON, ""),
    "34/H/BH/2020/8/31/0/stack.tif": (NOON, ""),
    "C:\\dams\\2020-08-31T07-56-11.tif": (MORNING, ""),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_names(name):
    time, sensor = PRODUCTS[name]
    assert dates.when(name) == dates.when(name.upper()) == time
    assert dates.sensor(name) == sensor


@pytest.mark.parametrize("name, date", [
    ("LC08_20200831_x.tif", "2020-08-31"), ("a/b/2020-08-31.tif", "2020-08-31"), ("s2_2020_08_31_B3.tif", "2020-08-31"), ("20201331.tif", ""),
    ("202008311.tif", ""), ("scene.tif", ""), ("1850-01-01.tif", ""), ("20200230.tif", ""), ("2020-08-31/scene.tif", ""),
])  # fmt: skip
def test_days_in_names(name, date):
    assert dates.day(name) == date


@given(
    st.datetimes(dt.datetime(1972, 1, 1), dt.datetime(2049, 12, 31)).map(lambda t: t.replace(microsecond=0)),
    st.sampled_from(["%Y%m%dT%H%M%S", "%Y%m%d_%H%M%S", "%Y%m%d%H%M%S", "%Y-%m-%dT%H-%M-%S", "%Y_%m_%d_%H_%M_%S", "%Y-%m-%d %H:%M:%S"]),
    st.sampled_from(["dam_{}", "{}_3_bands", "x-{}-v2", "Lake 7 {}"]),
)
def test_any_time_comes_back_out_of_a_name(time, form, name):
    expected = time if time.time() != dt.time() else time.replace(hour=12)  # midnight is how programs write a day
    path = name.format(time.strftime(form)) + ".tif"
    assert dates.when(path) == expected
    assert dates.when(path, form.replace("%-", "%")) == expected


def test_two_dates_of_no_product_are_none_and_the_reason_names_them():
    time, reason = dates.found("sim_20200831_20210101.tif")
    assert time is None and "2020-08-31, 2021-01-01" in reason and "DATE_PATTERN" in reason
    assert dates.found("2020-08-31.tif", "%d%m%Y")[0] is None and "does not fit" in dates.found("x.tif", "%d%m%Y")[1]


@pytest.mark.parametrize("name, pattern, date", [
    ("dam_31082020_01012021.tif", "dam_%d%m%Y", "2020-08-31"), ("12345678_31082020.tif", "%d%m%Y", "2020-08-31"),
    ("sim_20200831_20210101.tif", "_%Y%m%d.", "2021-01-01"), ("x_200831.tif", "x_%y%m%d", "2020-08-31"), ("x_31Aug2020.tif", "%d%b%Y", "2020-08-31"),
    ("A2020244.tif", "A%Y%j", "2020-08-31"), ("2020/run-31-08/x.tif", "%Y/run-%d-%m", "2020-08-31"), ("x_100%_20200831.tif", "%%_%Y%m%d", "2020-08-31"),
    ("01012020_02012020.tif", "%d%m%Y", None), ("x_31022020.tif", "%d%m%Y", None), ("9931082020.tif", "%d%m%Y", None), ("A2021366.tif", "A%Y%j", None),
])  # fmt: skip
def test_patterns(name, pattern, date):
    found = dates.when(name, pattern)
    assert (found.date().isoformat() if found else None) == date


@pytest.mark.parametrize("pattern", ["%Y%m", "%d%m", "%Q%Y%m%d", "%Y%Y%m%d", "20200831", "%Y%m%d%"])
def test_what_is_no_pattern(pattern):
    with pytest.raises(ConfigError):
        dates.found("x_20200831.tif", pattern)


@pytest.mark.parametrize("tags, time", [
    ({"TIFFTAG_DATETIME": "2020:08:31 07:56:11"}, None),  # when the file was made
    ({"ACQUISITIONDATETIME": "2020-08-31 07:56:11"}, MORNING), ({"PRODUCT_START_TIME": "2020-08-31T07:56:11.024Z"}, MORNING),
    ({"PRODUCT_SCENE_RASTER_START_TIME": "31-AUG-2020 07:56:11.024000"}, MORNING), ({"datetime": "2020-08-31T09:56:11+02:00"}, MORNING),
    ({"system:time_start": "1598860571000"}, MORNING), ({"system": "time_start=1598860571000"}, MORNING), ({"acquired": "2020-08-31"}, NOON),
    ({"DATE_ACQUIRED": "2020-08-31", "SCENE_CENTER_TIME": '"07:56:11.7917421Z"'}, MORNING),
    ({"A.B.DATE_ACQUIRED": "2020-08-31", "A.B.SCENE_CENTER_TIME": "07:56:11.79Z"}, MORNING),
    ({"ACQUISITIONDATETIME": "1970-01-01 00:00:00", "DATE_ACQUIRED": "2020-08-31"}, NOON),  # GDAL's word for unknown
    ({"SENSING_TIME": "soon"}, None),
])  # fmt: skip
def test_metadata(tags, time):
    assert dates.from_tags(tags) == time
    assert dates.found("scene.tif", tags=tags)[0] == time
    assert dates.found("2019-01-01.tif", tags=tags)[0] == dt.datetime(2019, 1, 1, 12)  # the name goes first
    assert dates.found("2019-01-01/scene.tif", tags=tags)[0] == (time or dt.datetime(2019, 1, 1, 12))  # the folder last


@pytest.mark.parametrize("name, tags, bands, sensor", [
    ("x.tif", {"SPACECRAFT_NAME": "Sentinel-2B"}, [], "sentinel-2"), ("x.tif", {"SATELLITEID": "LANDSAT_8"}, [], "landsat-8"),
    ("x.tif", {"platform": "S1A"}, [], "sentinel-1"), ("x.tif", {}, ["VV", "VH"], "sentinel-1"), ("x.tif", {}, ["Sigma0_VV_db"], "sentinel-1"),
    ("x.tif", {}, ["B3", "B8A"], "sentinel-2"), ("x.tif", {}, ["red", "green"], ""), ("S2_x.tif", {}, ["1", "2", "3", "4"], "sentinel-2"),
    ("S1_x.tif", {}, ["1", "2", "3", "4"], ""),  # site S1, it seems
])  # fmt: skip
def test_sensors(name, tags, bands, sensor):
    assert dates.sensor(name, tags, bands) == sensor
    assert sensor in ("", *series.SENSORS)


@dataclass(frozen=True)
class Settings(Config):
    date_pattern: str = series.date_pattern()
    sensor: str = series.sensor()


def scene(folder, name, bands=3, **more) -> str:
    path = os.path.join(str(folder), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return write_raster(path, np.ones((bands, 4, 4), np.uint8), utm(4, 4), **more)


def names(found) -> list[str]:
    return [os.path.basename(s.path) for s in found]


def test_a_folder_as_people_have_it(tmp_path):
    later = scene(tmp_path, "a/S2B_MSIL2A_20200905T075611_N0214_R035_T34HBH_20200906T110033.tif")
    scene(tmp_path, "a/S2B_MSIL2A_20200905T075611_N0214_R035_T34HBH_20200906T110033_SCL.tif", 1)
    first = scene(tmp_path, "deep/er/S2A_MSIL2A_20200831T075611_N0214_R035_T34HBH_20200831T110033.TIF")
    scene(tmp_path, "LC08_L2SP_175083_20200907_20200915_02_T1_SR_B3.tif", 1)
    scene(tmp_path, "LC08_L2SP_175083_20200907_20200915_02_T1_SR_B4.tif", 1)
    scene(tmp_path, "LC08_L2SP_175083_20200907_20200915_02_T1_QA_PIXEL.tif", 1)
    scene(tmp_path, "T34HBH_20200910T075611_TCI_10m.tif")
    scene(tmp_path, "20200911_075611_1034_3B_udm2.tif", 8)
    stack = scene(tmp_path, "dam_2020-09-20_B3_B4_QA60.tif")
    scene(tmp_path, "made_later.tif", tags={"TIFFTAG_DATETIME": "2023:01:01 00:00:00"})
    scene(tmp_path, "water_mask_2020-09-01.tif", 1)
    (tmp_path / "broken_20200101.tif").write_text("no raster")
    (tmp_path / "a" / "preview_20200101.png").write_text("")
    lines: list[str] = []
    found, dropped = scenes.gather([later], str(tmp_path), "", Settings(), lambda f, m="": lines.append(m))
    assert names(found) == [
        os.path.basename(first),
        "water_mask_2020-09-01.tif",
        os.path.basename(later),
        os.path.basename(stack),
    ]  # once each, in time
    assert [s.sensor for s in found] == ["sentinel-2", "", "sentinel-2", ""] and found[0].when == MORNING
    reasons = {d.name.split("_")[0] + d.name[-8:]: d.reason for d in dropped}
    assert len(dropped) == 7 and "left out" in lines[-1]
    assert "quality raster" in reasons["LC08IXEL.tif"] and "quality raster" in reasons["S2B_SCL.tif"]
    assert "one band a file (SR_B3, SR_B4)" in reasons["LC08R_B3.tif"] and "Virtual Raster" in reasons["LC08R_B3.tif"]
    assert "quality raster" in reasons["20200911udm2.tif"]
    assert "picture" in reasons["T34HBH_10m.tif"] and "can't be read" in reasons["broken0101.tif"] and "no date" in reasons["madeater.tif"]
    assert scenes.one_sensor(found) == "sentinel-2"


def test_one_band_alone_is_a_scene(tmp_path):
    scene(tmp_path, "S1A_IW_20200831T172534_VV.tif", 1)
    scene(tmp_path, "S1A_IW_20200912T172534_VV.tif", 1)
    found, dropped = scenes.gather([], str(tmp_path), "", Settings())
    assert len(found) == 2 and not dropped
    scene(tmp_path, "S1A_IW_20200912T172534_VH.tif", 1)
    found, dropped = scenes.gather([], str(tmp_path), "", Settings())
    assert names(found) == ["S1A_IW_20200831T172534_VV.tif"] and [d.reason[:24] for d in dropped] == ["one band a file (VH, VV)"]


def test_sensors_are_kept_apart(tmp_path):
    scene(tmp_path, "S1A_IW_20200831T172534_VV.tif", 1)
    scene(tmp_path, "S2B_34HBH_20200831_0_L2A.tif")
    scene(tmp_path, "dam_2020-09-01.tif")
    found, _ = scenes.gather([], str(tmp_path), "", Settings())
    with pytest.raises(ConfigError, match="1 sentinel-1.*SENSOR"):
        scenes.one_sensor(found)
    found, dropped = scenes.gather([], str(tmp_path), "", Settings(sensor="sentinel-2"))
    assert [s.sensor for s in found] == ["sentinel-2"] * 2 and [d.reason for d in dropped] == ["of sentinel-1, not of sentinel-2"]
    assert scenes.one_sensor(found) == "sentinel-2" and scenes.one_sensor([]) == ""


def test_a_table_goes_before_names(tmp_path):
    known = scene(tmp_path, "images/2020-08-31.tif")
    scene(tmp_path, "images/other.tif")
    clouds = scene(tmp_path, "images/other_SCL.tif", 1)
    table = tmp_path / "scenes.csv"
    table.write_text(
        "Path;Date;Quality\nimages/2020-08-31.tif;01.09.2020 10:00;\nimages\\other.tif;13.09.2020;images/other_SCL.tif\nimages/no.tif;;\nx.tif;soon;\n"
    )
    found, dropped = scenes.gather([known], "", str(table), Settings())
    assert found == [
        Scene(known, dt.datetime(2020, 9, 1, 10)),
        Scene(str(tmp_path / "images" / "other.tif"), dt.datetime(2020, 9, 13, 12), "", clouds),
    ]
    assert sorted(d.name for d in dropped) == ["no.tif", "x.tif"] and any("soon" in d.reason for d in dropped)


@pytest.mark.parametrize("case, told", [
    ("nothing", "No scene was chosen"), ("empty folder", "no scene in"), ("no folder", "no folder"), ("no dates", "no date in its name.*2"),
    ("no path column", "'path'"), ("odd dates", "2020-08-31"), ("pattern", "does not tell the day"),
])  # fmt: skip
def test_no_scene_is_left(tmp_path, case, told):
    table, one, two = tmp_path / "t.csv", scene(tmp_path, "s/one.tif"), scene(tmp_path, "s/two.tif")
    table.write_text({"no path column": "date,what\n2020-08-31,one.tif\n", "odd dates": "path,date\ns/one.tif,soon\n"}.get(case, ""))
    os.makedirs(tmp_path / "empty")
    given = {
        "nothing": ([], "", ""), "empty folder": ([], str(tmp_path / "empty"), ""), "no folder": ([], str(tmp_path / "nope"), ""),
        "no dates": ([one, two], "", ""), "pattern": ([one], "", ""),
    }.get(case, ([], "", str(table)))  # fmt: skip
    with pytest.raises(ConfigError, match=told):
        scenes.gather(*given, Settings(date_pattern="%Y" if case == "pattern" else ""))
