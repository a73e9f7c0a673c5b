"""exportlevelchips: scenes, reservoirs and a gauge -> chips of one number each."""

from __future__ import annotations

import csv
import datetime as dt
import os
import shutil

import numpy as np
import pytest
from osgeo import gdal

from tests import ponds
from tests.helpers import crs, read_layer, read_raster, utm, write_layer, write_raster
from water_dl_plugin.engine.chips import ChipSet
from water_dl_plugin.engine.errors import BandError, Cancelled, ChipsError, ConfigError, GridMismatchError, LabelError, OutputError
from water_dl_plugin.engine.grid import Grid
from water_dl_plugin.engine.level.chips.export import export
from water_dl_plugin.engine.settings import LevelChipsConfig


def config(**changes):
    return LevelChipsConfig(**{"name_field": "name", **changes})


def run(place, folder=None, files=(), table="", scenes=None, gauge=None, polygons=None, progress=None, **settings):
    """(chips, dropped, lines of the log)."""
    folder, said = folder or os.path.join(place.folder, "chips"), []
    tell = progress or (lambda f, m="": m and said.append(m))
    _, dropped = export(
        files, place.scenes if scenes is None else scenes, table, polygons or place.polygons, gauge or place.gauge, str(folder), config(**settings),
        dropped_csv=os.path.join(place.folder, "dropped.csv"), progress=tell,
    )  # fmt: skip
    return ChipSet(str(folder)), dropped, said


@pytest.fixture
def place(tmp_path):
    return ponds.series(tmp_path, 24, clouds={3: 0.4, 7: 1.0})


def gauge_rows(path, rows, header=("reservoir", "date", "level_m")) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def water_share(chips, chip) -> float:
    pixels, valid = chips.image(chip)
    return float((pixels[2] < 1500)[valid[2]].mean())


def test_one_chip_per_reservoir_and_date(place):
    chips, dropped, said = run(place)
    manifest = chips.manifest
    assert manifest.task == "level" and not manifest.classes and [b["name"] for b in manifest.bands] == ["B3", "B4", "B8"]
    assert manifest.target["sensor"] == "sentinel-2" and manifest.target["unit"] == "m" and manifest.target["repeats"] == 1
    assert manifest.tile_size == 64 and manifest.pixel_size == (10.0, 10.0) and manifest.settings["split"] == "blocked"
    assert not os.path.exists(os.path.join(chips.folder, "labels"))
    by_day = {(c.place, c.date): c for c in manifest.chips}
    for pond in ponds.PONDS:
        told = next(r for r in manifest.target["reservoirs"] if r["name"] == pond.name)
        grid = Grid(told["width"], told["height"], tuple(told["transform"]), told["crs"])
        assert told["datum_m"] is None and grid.crs and grid.pixel_size == (10.0, 10.0)
        for k, when in enumerate(place.times):
            chip = by_day.pop((pond.name, when.strftime("%Y-%m-%dT%H:%M:%S")), None)
            if k == 7 or (k == 3 and pond is ponds.UPPER):
                assert chip is None
                continue
            assert chip.value == pytest.approx(ponds.level_at(pond, dt.datetime(when.year, when.month, when.day, 8, 13, 1)), abs=0.15)
            assert read_raster(chips.path(chip.image))[2] == grid.transform
            pixels, valid = chips.image(chip)
            away = pond.away(grid)
            water = (pixels[2] < 1500) & (away < pond.radius_m)
            reach = pond.radius_m * (ponds.level_at(pond, when) - pond.zero_m) / pond.full_m
            assert (water == (away < reach))[valid[2] & (away < pond.radius_m)].mean() > 0.99
            assert os.path.basename(place.paths[k]) == manifest.sources[chip.source]["name"]
    assert not by_day
    assert sorted((d.reservoir, d.reason) for d in dropped) == [
        ("Lower Dam", "cloud or shadow hides 100 % of the reservoir"), ("Upper Dam", "cloud or shadow hides 100 % of the reservoir"),
        ("Upper Dam", "cloud or shadow hides 98 % of the reservoir"),
    ]  # fmt: skip
    assert any("Chips: 64 x 64 px of 10 m; bands B3, B4, B8" in line for line in said)
    assert any(line.startswith("Upper Dam: 22 chips (") for line in said)


def test_the_catalogue_and_the_table_of_what_was_left_out(place):
    chips, dropped, said = run(place)
    shapes = read_layer(os.path.join(chips.folder, "chips.gpkg"), "chips")
    assert len(shapes) == len(chips.manifest.chips) == 45
    for shape, chip in zip(shapes, chips.manifest.chips):
        assert (shape["reservoir"], shape["level_m"], shape["date"], shape["split"]) == (chip.place, chip.value, chip.date, chip.split)
        assert shape["usable"] == chip.shares[0] and 0 <= shape["cloud"] <= 0.2
        assert shape["envelope"][1] - shape["envelope"][0] == 640
    with open(os.path.join(place.folder, "dropped.csv"), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["what"], r["name"], r["reservoir"], r["reason"]) for r in rows] == [(d.what, d.name, d.reservoir, d.reason) for d in dropped]
    assert rows[0]["date"] == "2019-02-02T08:13:01"
    assert any("Left out: 3 chips: cloud or shadow hides" in line for line in said)


def test_some_cloud_is_nodata(tmp_path):
    place = ponds.series(tmp_path, 12, clouds={2: 0.25})
    chips, dropped, _ = run(place, max_cloud=60)
    chip = next(c for c in chips.manifest.chips if c.date.startswith("2019-01-23") and c.place == "Upper Dam")
    _, valid = chips.image(chip)
    assert not valid[:, :, 2:32].any() and valid[:, :, 32:].all() and chip.nodata == pytest.approx(0.5) and chip.shares == (0.5,)
    cloud = next(s["cloud"] for s in read_layer(os.path.join(chips.folder, "chips.gpkg"), "chips") if s["image"] == chip.image)
    assert cloud == pytest.approx(0.5, abs=0.02) and not dropped
    assert all(s["min"] > 0 and s["max"] < 5000 for s in chips.manifest.statistics)  # neither nodata nor clouds are in them


def test_datum_split_and_seed(place):
    polygons = ponds.write_polygons(os.path.join(place.folder, "datum.gpkg"), outlet=[95.0, 39.5])
    chips, _, said = run(place, polygons=polygons, datum_field="outlet", split="random", repeats=5, validation_share=0.2)
    assert [r["datum_m"] for r in chips.manifest.target["reservoirs"]] == [95.0, 39.5]
    assert chips.manifest.target["repeats"] == 5 and all(len(c.held) == 1 for c in chips.manifest.chips)
    assert [c.split == "validation" for c in chips.manifest.chips] == [c.held == (0,) for c in chips.manifest.chips]
    again, _, _ = run(place, polygons=polygons, datum_field="outlet", split="random", repeats=5)
    assert again.manifest.chips == chips.manifest.chips and not any("datum" in line for line in said)
    far = ponds.write_polygons(os.path.join(place.folder, "far.gpkg"), outlet=[312.0, 39.5])
    assert any("the datum of Upper Dam is 312 m" in line for line in run(place, polygons=far, datum_field="outlet")[2])


def test_scenes_of_two_zones_and_two_tiles(tmp_path):
    """The neighbour tile of the same pass, in the next zone, shows half of the pond; on one date it is alone."""
    place = ponds.series(tmp_path, 14, ponds=(ponds.UPPER,))
    for k, path in enumerate(place.paths[:10]):
        other = path.replace("T12TUL", "T13TUL").replace("01_N", "31_N")
        gdal.Warp(other, path, dstSRS="EPSG:32613", srcNodata=0, dstNodata=0, cropToCutline=False, resampleAlg="near")
        with_half = gdal.Open(other, gdal.GA_Update)
        if k:
            array = with_half.ReadAsArray()
            array[:, :, : array.shape[2] // 3] = 0
            with_half.WriteArray(array)
        with_half = None
    os.remove(place.paths[0])
    chips, dropped, _ = run(place)
    assert len(chips.manifest.chips) == 14
    assert {chips.manifest.sources[c.source]["epsg"] for c in chips.manifest.chips} == {32612, 32613}
    assert sum("another scene of the same pass shows more" in d.reason for d in dropped) == 9
    for chip in chips.manifest.chips:
        grid = chips.manifest.target["reservoirs"][0]
        assert read_raster(chips.path(chip.image))[2] == tuple(grid["transform"])
    assert "32612" in chips.manifest.target["reservoirs"][0]["crs"]  # that of most scenes, not of the first
    share = [water_share(chips, c) for c in chips.manifest.chips]
    assert np.corrcoef(share, [c.value for c in chips.manifest.chips])[0, 1] > 0.99  # also the warped one
    first = chips.manifest.chips[0]
    assert first.corners[0][0] != chips.manifest.chips[1].corners[0][0]  # in map units of its own scene
    boxes = [s["envelope"] for s in read_layer(os.path.join(chips.folder, "chips.gpkg"), "chips")]
    assert np.allclose(boxes[0], boxes[1], atol=2)


def test_a_table_of_scenes_and_a_table_alone(place):
    rows = [(os.path.join("scenes", os.path.basename(p)), f"2019-06-{k + 1:02d}") for k, p in enumerate(place.paths[:20])]
    table = gauge_rows(os.path.join(place.folder, "list.csv"), rows, ("path", "date"))
    chips, _, _ = run(place, scenes="", table=table, max_cloud=100, split="random")
    assert len(chips.manifest.chips) == 38 and {c.date[:7] for c in chips.manifest.chips} == {"2019-06"}


def test_odd_scenes_lose_against_the_majority(place):
    one = place.paths[5]
    pixels = read_raster(one)[0]
    os.remove(one)
    write_raster(one, pixels[:2], ponds.GRID, names=("B3", "B4"))  # a band is missing
    write_raster(place.paths[9], pixels[:, ::3, ::3], utm(40, 27, 30.0), names=("B3", "B4", "B8", "QA60"))
    write_raster(place.paths[10], (pixels / 10_000).astype(np.float32), ponds.GRID, names=("B3", "B4", "B8", "QA60"))
    write_raster(place.paths[11], pixels[[2, 1, 0, 3]], ponds.GRID, names=("B8", "B4", "B3", "QA60"))  # only another order
    write_raster(place.paths[12], pixels[:3], ponds.GRID)  # no names
    later = ponds.write_scene(place.scenes, dt.datetime(2019, 6, 30, 8, 13, 1)).replace("N0213", "N0400")
    os.rename(later.replace("N0400", "N0213"), later)
    chips, dropped, said = run(place)
    reasons = {d.name[11:19]: d.reason for d in dropped if d.what == "scene"}
    assert reasons == {
        "20190222": "its bands are B3, B4, those of most scenes B3, B4, B8", "20190403": "its pixels are of 30 m, those of most scenes of 10 m",
        "20190413": "it holds real numbers, most scenes whole ones, so its scale is another",
    }  # fmt: skip
    assert sum("1 of " in line and "scenes are left out" in line for line in said) == 3
    order = next(c for c in chips.manifest.chips if c.date.startswith("2019-04-23") and c.place == "Upper Dam")
    assert 0.1 < water_share(chips, order) < 0.6
    assert any("baseline 04.00" in line for line in said)


def test_sensors_are_kept_apart(place):
    for when in place.times[:10]:
        ponds.write_scene(place.scenes, when + dt.timedelta(hours=9), sensor="sentinel-1")
    with pytest.raises(ConfigError, match="24 sentinel-2, 10 sentinel-1.*Choose one with SENSOR"):
        run(place)
    chips, _, _ = run(place, sensor="sentinel-1")
    assert chips.manifest.target["sensor"] == "sentinel-1" and [b["name"] for b in chips.manifest.bands] == ["VV", "VH"]
    assert len(chips.manifest.chips) == 20  # clouds are no matter


def test_reservoirs_of_which_something_is_missing(place):
    """One lies elsewhere, one has no gauge, one is cut off by the scene's edge: told, and the others go on."""
    away = ponds.Pond("Far Dam", 450_000.0, 4_499_000.0)
    mute = ponds.Pond("Mute Dam", 400_600.0, 4_499_500.0, 40.0)
    edge = ponds.Pond("Edge Dam", 400_010.0, 4_499_400.0, 100.0)
    polygons = ponds.write_polygons(os.path.join(place.folder, "more.gpkg"), (ponds.UPPER, away, mute, edge))
    gauge = ponds.write_gauge(os.path.join(place.folder, "more.csv"), (ponds.UPPER, away, edge))
    chips, dropped, said = run(place, polygons=polygons, gauge=gauge)
    assert {c.place for c in chips.manifest.chips} == {"Upper Dam"} == {r["name"] for r in chips.manifest.target["reservoirs"]}
    told = {(d.reservoir, d.reason) for d in dropped}
    assert ("Far Dam", "lies outside all scenes") in told and any(
        n == "Mute Dam" and "no gauge reading of this reservoir" in r for n, r in told
    )
    assert any(n == "Edge Dam" and r.startswith("the scene covers 5") for n, r in told)
    assert any("Warning: Far Dam lies outside all scenes" in line for line in said) and any(
        "no chip of Edge Dam is left" in line for line in said
    )


def test_polygons_in_degrees_and_an_older_folder_is_replaced(place):
    first, _, _ = run(place)
    degrees = os.path.join(place.folder, "degrees.geojson")
    gdal.VectorTranslate(degrees, place.polygons, format="GeoJSON", dstSRS="EPSG:4326")
    second, _, _ = run(place, polygons=degrees, split="chronological", test_share=0.2)
    assert first.manifest.target["reservoirs"] == second.manifest.target["reservoirs"]
    assert {c.split for c in second.manifest.chips} == {"train", "validation", "test"}


# ---------------------------------------------------------------------------------------------------------------------- bad input


def test_series_that_teach_nothing(tmp_path):
    place = ponds.series(tmp_path, 16, clouds=dict.fromkeys(range(16), 1.0))
    with pytest.raises(ChipsError, match="(?s)^No chip.s. are left.*32 chips: cloud or shadow hides 100 %.*Raise MAX_CLOUD"):
        run(place)
    with open(os.path.join(place.folder, "dropped.csv"), encoding="utf-8-sig") as file:
        assert len(file.readlines()) == 33  # the table is there all the same
    assert not os.path.exists(os.path.join(place.folder, "chips")) and not os.path.exists(os.path.join(place.folder, "chips.partial"))
    clear = ponds.series(tmp_path / "clear", 10)
    same = gauge_rows(os.path.join(tmp_path, "same.csv"), [(p.name, t.date(), 12.0) for p in ponds.PONDS for t in clear.times])
    few = gauge_rows(os.path.join(tmp_path, "few.csv"), [("Upper Dam", t.date(), k) for k, t in enumerate(clear.times[:5])])
    for gauge, told in ((same, "All levels are alike"), (few, "^5 chip.s. are left; at least 8")):
        with pytest.raises(ChipsError, match=told):
            run(clear, gauge=gauge)
    month = [ponds.write_scene(tmp_path / "month", ponds.START + dt.timedelta(days=k)) for k in range(10)]
    said = []
    with pytest.raises(ConfigError, match="All dates fall into 1 month.*'random'"):
        run(clear, files=month, scenes="", progress=lambda f, m="": said.append(m))
    assert not any(line.startswith("Chips:") for line in said)  # told before the work
    day = [ponds.write_scene(tmp_path / "day", ponds.START + dt.timedelta(minutes=5 * k)) for k in range(10)]
    with pytest.raises(ConfigError, match="All scenes are of one day, 2019-01-03"):
        run(clear, files=day, scenes="")


def test_what_does_not_meet(place):
    late = ponds.write_gauge(os.path.join(place.folder, "late.csv"), first=dt.datetime(2023, 1, 1))
    other = gauge_rows(os.path.join(place.folder, "other.csv"), [("Vaal", t.date(), 3.0) for t in place.times])
    away = ponds.write_polygons(os.path.join(place.folder, "away.gpkg"), (ponds.Pond("Upper Dam", 700_000.0, 4_499_600.0),))
    swapped = write_layer(
        os.path.join(place.folder, "swapped.gpkg"), [("POLYGON((40 -112,41 -112,41 -111,40 -112))", {"name": "Upper Dam"})], crs(4326)
    )
    bare = write_layer(os.path.join(place.folder, "bare.gpkg"), [(ponds.UPPER.wkt(), {"name": "Upper Dam"})], "")
    single = gauge_rows(os.path.join(place.folder, "single.csv"), [("Lower Dam", t.date(), 3.0 + k) for k, t in enumerate(place.times)])
    upper = [
        ponds.write_scene(os.path.join(place.folder, "west"), t, grid=Grid(60, 80, ponds.GRID.transform, ponds.GRID.crs))
        for t in place.times
    ]
    line = write_layer(os.path.join(place.folder, "line.gpkg"), [("LINESTRING(0 0,1 1)", {"name": "a"})], ponds.GRID.crs)
    for given, error, told in (
        ({"gauge": late}, ConfigError, "2019-01-03 to 2019-08-21; readings .* 2023-01-01 to"), ({"gauge": other}, ConfigError, "'Vaal'.*'Upper Dam', 'Lower Dam'"),
        ({"polygons": away}, GridMismatchError, "No reservoir lies on any scene.*first scene lies at -112.* degrees east.*Upper Dam lies at -108"),
        ({"polygons": swapped}, GridMismatchError, "None of 24 scenes can be used|No reservoir lies on any scene"), ({"polygons": bare}, GridMismatchError, "Assign the missing one"),
        ({"files": upper, "scenes": "", "gauge": single}, ConfigError, "The scenes show Upper Dam, but the gauge table has readings of Lower Dam"),
        ({"polygons": line}, LabelError, "lines, not polygons"), ({"bands": "B9"}, BandError, "None of 24 scenes can be used. The first: There is no band 'B9'"),
        ({"quality": "SCL"}, BandError, "no SCL band"), ({"repeats": 3, "split": "chronological"}, ConfigError, "drawn once only"),
        ({"sensor": "landsat-8"}, ConfigError, "None of 24 rasters can be used: of sentinel-2, not of landsat-8"),
        ({"folder": place.scenes}, OutputError, "holds other files"), ({"gauge": os.path.join(place.folder, "none.csv")}, ConfigError, "no file"),
    ):  # fmt: skip
        with pytest.raises(error, match=f"(?s){told}"):
            run(place, **given)
        assert not os.path.exists(os.path.join(place.folder, "chips")) and not os.path.exists(os.path.join(place.folder, "chips.partial"))


def test_the_band_of_an_older_landsat_collection(tmp_path):
    place = ponds.series(tmp_path, 12)
    for path in place.paths:
        pixels = read_raster(path)[0]
        pixels[3] = 20480
        write_raster(path, pixels, ponds.GRID, names=("B3", "B4", "B5", "BQA"))
    with pytest.raises(BandError, match="before Landsat Collection 2.*set QUALITY to 'none'"):
        run(place)
    for path in place.paths:
        write_raster(path, read_raster(path)[0], ponds.GRID, names=("B3", "B4", "B5", "QA_PIXEL"))
    with pytest.raises(ChipsError, match="no QA_PIXEL band: it holds 20480"):
        run(place)
    assert len(run(place, quality="none", bands="1-3")[0].manifest.chips) == 24


def test_an_empty_qa60_is_told(tmp_path):
    times = ponds.times(12, start=dt.datetime(2022, 6, 1, 8))
    for when in times:
        ponds.write_scene(tmp_path / "scenes", when)
    place = ponds.series(tmp_path / "rest", 1)
    gauge = ponds.write_gauge(tmp_path / "g.csv", first=dt.datetime(2022, 6, 1))
    assert any("QA60 marks no cloud in any of 24 chips" in line for line in run(place, scenes=str(tmp_path / "scenes"), gauge=gauge)[2])
    assert not any(
        "QA60" in line for line in run(place, folder=tmp_path / "b", scenes=str(tmp_path / "scenes"), gauge=gauge, quality="none")[2]
    )


def test_broken_and_foreign_files_are_told(place):
    with open(place.paths[4], "wb") as file:
        file.write(b"II*\0 not a tiff")
    shutil.copy(place.paths[6], os.path.join(place.scenes, "no date.tif"))
    _, dropped, _ = run(place)
    told = {d.name: d.reason for d in dropped if d.what == "scene"}
    assert "date" in told["no date.tif"] and os.path.basename(place.paths[4]) in told


def test_progress_and_cancel(place):
    seen = []
    run(place, progress=lambda f, m="": seen.append(f))
    assert seen == sorted(seen) and seen[-1] == 1 and len(seen) > 60
    folder = os.path.join(place.folder, "cancelled")
    for limit in (0.05, 0.15, 0.5, 0.96):

        def stop(fraction, message="", limit=limit):
            if fraction >= limit:
                raise Cancelled

        with pytest.raises(Cancelled):
            run(place, folder=folder, progress=stop)
        assert not os.path.exists(folder) and not os.path.exists(folder + ".partial")
