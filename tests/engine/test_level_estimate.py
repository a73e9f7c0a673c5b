"""From scenes and a model to levels, and the whole of it beside the physical road. The model is made by hand: it is right for any bowl."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from osgeo import gdal

from tests import pond_model, ponds
from tests.helpers import read_raster, write_raster
from water_dl_plugin.engine.errors import Cancelled, ConfigError, ModelError
from water_dl_plugin.engine.level import network
from water_dl_plugin.engine.level.chips import sites
from water_dl_plugin.engine.level.conformal import half_width
from water_dl_plugin.engine.level.estimate import Inputs, estimate
from water_dl_plugin.engine.level.inputs import scenes
from water_dl_plugin.engine.level.model import LevelModel
from water_dl_plugin.engine.raster import Grid
from water_dl_plugin.engine.settings import EstimateLevelConfig

UPPER, LOWER = pond_model.PONDS
ERRORS = np.linspace(-0.5, 0.5, 25)
NEAR = 0.15  # m: a pond of 10 m pixels tells no more


def config(**changes):
    return EstimateLevelConfig(**{"name_field": "name", "threads": 1, "device": "cpu", **changes})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Twelve dates of two ponds; the third is a third cloud, the fourth all cloud."""
    folder = tmp_path_factory.mktemp("ponds")
    made = ponds.series(folder, 12, pond_model.PONDS, clouds={2: 0.3, 3: 1.0})
    made.model = pond_model.write(folder / "m.onnx", series=pond_model.known(ERRORS))
    return made


def run(paths, polygons, model, **changes):
    """By the model alone."""
    told = config(**changes)
    listed, _ = scenes.gather(paths, "", "", told)
    reservoirs = sites.read(polygons, told.name_field, told.datum_field)
    return network.estimates(listed, reservoirs, LevelModel(str(model), "cpu", 1), told)


def network_errors(world, model):
    return [e for _, e in run(world.paths[:1], world.polygons, model).errors[UPPER.name]]


def of(found, pond):
    return [e for e in found.estimates if e.reservoir == pond.name]


def reasons(found):
    return [d.reason for d in found.dropped]


# --- the network's road


def test_levels_of_every_scene_and_reservoir(world):
    found = run(world.paths, world.polygons, world.model)
    assert len(of(found, UPPER)) == len(of(found, LOWER)) == 11
    for pond in (UPPER, LOWER):
        for e in of(found, pond):
            if not e.flags:
                assert abs(e.level_m - ponds.level_at(pond, e.when)) < NEAR
            assert e.method == "network" and e.sensor == "sentinel-2" and e.source == ponds.name(e.when) + ".tif"
            assert e.spread_m == pytest.approx(0.1 * np.sqrt(2), rel=1e-3)  # of two members, 0.1 m off on both sides
    half = half_width(ERRORS, 0.9)
    assert all((e.low_m, e.high_m) == pytest.approx((e.level_m - half, e.level_m + half)) for e in found.estimates)
    assert half_width(ERRORS, 0.8) == pytest.approx(
        of(run(world.paths[:1], world.polygons, world.model, coverage=80.0), UPPER)[0].high_m - found.estimates[0].level_m
    )
    assert found.errors[UPPER.name] and [e for _, e in found.errors[UPPER.name]] == pytest.approx(ERRORS) and found.notes == []


def test_clouds_are_flagged_or_left_out(world):
    found = run(world.paths, world.polygons, world.model)
    cloudy = next(e for e in of(found, UPPER) if e.when == world.times[2])
    inside = sites.inside(sites.read(world.polygons, "name")[0], pond_model.grid_of(UPPER))
    x = pond_model.grid_of(UPPER).to_map(np.arange(48) + 0.5, 0)[0]
    hidden = (inside & (x < ponds.GRID.to_map(36, 0)[0])).sum() / inside.sum()  # the western 30 % of 120 columns
    assert cloudy.flags == ("cloud",) and cloudy.cloud == pytest.approx(hidden)
    assert reasons(found) == ["wholly hidden by cloud and shadow"] * 2 and {d.when for d in found.dropped} == {world.times[3]}
    allowed = run(world.paths, world.polygons, world.model, max_cloud=90.0)
    assert all("cloud" not in e.flags for e in allowed.estimates)


def test_scene_that_shows_a_part(world, tmp_path):
    when = world.times[0]
    left, both = Grid(40, 80, ponds.GRID.transform, ponds.GRID.crs), Grid(60, 80, ponds.GRID.transform, ponds.GRID.crs)
    aside = Grid(20, 20, (300_000.0, *ponds.GRID.transform[1:]), ponds.GRID.crs)
    cut = ponds.write_scene(tmp_path / "a", when, pond_model.PONDS, left)
    found = run([cut], world.polygons, world.model)
    assert [e.reservoir for e in found.estimates] == [UPPER.name] and found.estimates[0].flags == ("cut_off",)
    none = ponds.write_scene(tmp_path / "b", world.times[1], pond_model.PONDS, aside)
    whole = ponds.write_scene(tmp_path / "c", world.times[2], pond_model.PONDS, both)
    found = run([none, whole], world.polygons, world.model)
    assert [e.when for e in found.estimates] == [world.times[2]] and found.estimates[0].flags == ()
    assert reasons(found) == ["shows no reservoir"]


def test_of_two_tiles_of_a_pass_the_one_that_covers_more_counts(world, tmp_path):
    when, whole = world.times[0], Grid(60, 80, ponds.GRID.transform, ponds.GRID.crs)
    part = Grid(35, 80, ponds.GRID.transform, ponds.GRID.crs)
    for first, second in ((whole, part), (part, whole)):
        paths = [ponds.write_scene(tmp_path / f"{first.width}{k}", when, (UPPER,), g) for k, g in enumerate((first, second))]
        found = run(paths, world.polygons, world.model)
        assert (
            len(found.estimates) == 1 and found.estimates[0].flags == () and reasons(found)[0].startswith("another scene of the same pass")
        )


def test_scene_in_another_zone_is_brought_to_the_models_grid(world, tmp_path):
    plain = ponds.write_scene(tmp_path / "plain", world.times[0], pond_model.PONDS, quality="")
    target = str(tmp_path / os.path.basename(plain))
    gdal.Warp(target, plain, dstSRS="EPSG:32611", resampleAlg="bilinear", dstNodata=0)
    found = run([target], world.polygons, world.model)
    assert abs(of(found, UPPER)[0].level_m - ponds.level_at(UPPER, world.times[0])) < NEAR and not of(found, UPPER)[0].flags


def test_bands_are_found_by_name_and_quality_bands_left_out(world, tmp_path):
    pixels, _, _ = read_raster(world.paths[0])
    names = ("B3", "B4", "B8", "QA60")
    order = [3, 2, 0, 1]  # QA60, B8, B3, B4
    path = write_raster(tmp_path / os.path.basename(world.paths[0]), pixels[order], ponds.GRID, names=[names[i] for i in order])
    same = run([path], world.polygons, world.model).estimates
    assert [e.level_m for e in same] == [e.level_m for e in run(world.paths[:1], world.polygons, world.model).estimates]


def test_beyond_the_trained_range_is_flagged(world, tmp_path):
    """Levels are about 109 m and 46.7 m; 2 % of a range beyond it are allowed."""
    level = run(world.paths[:1], world.polygons, world.model).estimates[0].level_m
    for high, flags in ((level + 0.1, ()), (level - 0.15, ()), (level - 0.25, ("outside_range",))):
        places = [pond_model.place(UPPER, low_m=high - 10, high_m=high), pond_model.place(LOWER)]
        model = pond_model.write(tmp_path / "m.onnx", places=places, series=pond_model.known(ERRORS))
        assert of(run(world.paths[:1], world.polygons, model), UPPER)[0].flags == flags
    low = [pond_model.place(UPPER, low_m=level + 0.25, high_m=level + 10), pond_model.place(LOWER)]
    assert of(run(world.paths[:1], world.polygons, pond_model.write(tmp_path / "m.onnx", places=low)), UPPER)[0].flags == (
        "outside_range",
        "no_interval",
    )


def test_reservoir_that_the_model_does_not_know(world, tmp_path):
    """With a datum it gets a level, without one a depth; never an interval."""
    model = pond_model.write(tmp_path / "m.onnx", listed=(UPPER,), series=pond_model.known(ERRORS))
    found = run(world.paths[:1], world.polygons, model)
    level = ponds.level_at(LOWER, world.times[0])
    only = of(found, LOWER)[0]
    assert only.flags == ("unknown_reservoir", "no_datum", "no_interval") and only.low_m is None
    assert only.level_m == pytest.approx(level - LOWER.zero_m, abs=NEAR) and "are depths" in found.notes[0]
    polygons = ponds.write_polygons(tmp_path / "p.gpkg", pond_model.PONDS, zero=[100.0, 40.0])
    found = run(world.paths[:1], polygons, model, datum_field="zero")
    assert of(found, LOWER)[0].flags == ("unknown_reservoir", "no_interval") and "datum of 40 m is added" in found.notes[0]
    assert of(found, LOWER)[0].level_m == pytest.approx(level, abs=NEAR)


def test_a_reservoir_too_large_for_the_models_chips_is_left_out(world, tmp_path):
    large = dataclasses.replace(LOWER, radius_m=400.0, name="Large")
    polygons = ponds.write_polygons(tmp_path / "p.gpkg", (UPPER, large))
    found = run(world.paths[:1], polygons, world.model)
    assert [e.reservoir for e in found.estimates] == [UPPER.name] and "does not fit the model's chips" in " ".join(found.notes)


def test_polygon_of_that_name_elsewhere_is_left_out(world, tmp_path):
    moved = dataclasses.replace(LOWER, x=LOWER.x + 5000)
    found = run(world.paths[:1], ponds.write_polygons(tmp_path / "p.gpkg", (UPPER, moved)), world.model)
    assert [e.reservoir for e in found.estimates] == [UPPER.name] and "does not lie where" in found.notes[0]


def test_the_models_datum_counts_and_a_differing_one_is_told(world, tmp_path):
    polygons = ponds.write_polygons(tmp_path / "p.gpkg", pond_model.PONDS, zero=[90.0, 40.0])
    found = run(world.paths[:1], polygons, world.model, datum_field="zero")
    assert of(found, UPPER)[0].level_m == pytest.approx(ponds.level_at(UPPER, world.times[0]), abs=NEAR)
    assert len(found.notes) == 1 and "90 m" in found.notes[0] and "100 m" in found.notes[0]


def test_dates_that_were_trained_with_are_told(world, tmp_path):
    parts = ("train", "validation", "test")
    row = [[0, t.strftime("%Y-%m-%dT%H:%M:%S"), 105.0, None if p == "train" else 105.1, p, "a.tif"] for t, p in zip(world.times, parts)]
    model = pond_model.write(tmp_path / "m.onnx", series=row)
    found = of(run([*world.paths[:3], world.paths[4]], world.polygons, model, max_cloud=100.0), UPPER)
    assert [e.part for e in found] == [*parts, ""] and ["seen" in e.flags for e in found] == [True, False, False, False]
    known = network_errors(world, model)
    assert known == pytest.approx([0.1])  # of the date for validation; those for testing tell nothing beforehand
    # with several drawings of the split some members have learnt from what others held out
    model = pond_model.write(tmp_path / "m.onnx", series=[*row, *pond_model.known([0.1], part="train")])
    found = of(run([*world.paths[:3], world.paths[4]], world.polygons, model, max_cloud=100.0), UPPER)
    assert ["seen" in e.flags for e in found] == [True, True, False, False]


def test_members_that_disagree_are_flagged(world, tmp_path):
    """Their own 90 % range, 1.645 standard deviations, against half the interval's width."""
    for error, flags in ((0.25, ()), (0.22, ("disagreement",))):  # 1.645 * 0.1414 = 0.2326
        model = pond_model.write(tmp_path / "m.onnx", series=pond_model.known([error] * 25))
        assert run(world.paths[:1], world.polygons, model).estimates[0].flags == flags


def test_scenes_that_do_not_fit_the_model(world, tmp_path):
    radar = ponds.write_scene(tmp_path / "s1", world.times[0], pond_model.PONDS, sensor="sentinel-1")
    with pytest.raises(ModelError, match="sentinel-1; the model was trained with sentinel-2.*SENSOR"):
        run([radar], world.polygons, world.model)
    found = run([radar, world.paths[1]], world.polygons, world.model)
    assert len(found.estimates) == 2 and reasons(found) == ["of sentinel-1; the model was trained with sentinel-2"]
    pixels, _, _ = read_raster(world.paths[0])
    two = write_raster(tmp_path / os.path.basename(world.paths[0]), pixels[:2], ponds.GRID, names=("B3", "B4"))
    with pytest.raises(ModelError, match=r"has 2 bands \(B3, B4\); the model takes 3 \(B3, B4, B8\).*BANDS"):
        run([two], world.polygons, world.model)
    broken = tmp_path / "S2A_MSIL2A_20190301T081301_x.tif"
    broken.write_bytes(b"II*\0")
    with pytest.raises(ConfigError):
        run([str(broken)], world.polygons, world.model)


def test_numbers_in_another_unit_are_told(world, tmp_path):
    paths = []
    for path in world.paths[:2]:
        pixels, _, _ = read_raster(path)
        paths.append(
            write_raster(tmp_path / os.path.basename(path), pixels[:3].astype(np.float32) / 1e4, ponds.GRID, names=("B3", "B4", "B8"))
        )
    assert any("reflectance x 10000" in text for text in run(paths, world.polygons, world.model).notes)


def test_each_scene_is_opened_once_and_cancel_is_heard(world, monkeypatch):
    opened = []

    class Counted(network.Opened):
        def __init__(self, scene, *args):
            opened.append(scene.path)
            super().__init__(scene, *args)

    monkeypatch.setattr(network, "Opened", Counted)
    run(world.paths, world.polygons, world.model)
    assert sorted(opened) == sorted(world.paths)

    def stop(fraction, message=""):
        if fraction > 0.5:
            raise Cancelled()

    listed, _ = scenes.gather(world.paths, "", "", config())
    with pytest.raises(Cancelled):
        network.estimates(listed, sites.read(world.polygons, "name"), LevelModel(world.model, "cpu", 1), config(), stop)


# --- all roads together


@pytest.fixture(scope="module")
def watered(world, tmp_path_factory):
    """Class rasters (1 land, 2 water) of many dates beside the scenes, and what comes of both with the gauge."""
    folder = tmp_path_factory.mktemp("water")
    for when in ponds.times(30):
        water = np.any([p.water(ponds.GRID, ponds.level_at(p, when)) for p in pond_model.PONDS], axis=0)
        write_raster(folder / f"water {when:%Y-%m-%dT%H%M%S}.tif", (1 + water).astype(np.uint8), ponds.GRID, nodata=0)
    out, log = tmp_path_factory.mktemp("out"), []
    series = pond_model.known(np.linspace(-0.2, 0.2, 30), first=ponds.START)
    for row, when in zip(series, ponds.times(30)):
        row[1] = when.strftime("%Y-%m-%dT%H:%M:%S")
    model = pond_model.write(out / "m.onnx", series=series)
    inputs = Inputs(folder=world.scenes, model=model, water_folder=str(folder), gauge=world.gauge)
    found = estimate(
        world.polygons, inputs, config(water_class="2"), csv=str(out / "t.csv"), report=str(out / "r.html"), curves=str(out / "c.csv"),
        dropped=str(out / "d.csv"), progress=lambda fraction, message="": log.append((fraction, message)),
    )  # fmt: skip
    return SimpleNamespace(out=out, found=found, log=log, folder=str(folder), inputs=inputs)


def test_all_roads_meet(watered):
    found = watered.found
    count = {m: sum(e.method == m for e in found.estimates) for m in ("network", "area", "combined")}
    assert count["network"] == 22 and count["area"] > 50 and count["combined"] == 21  # the clouded one is not joined
    for pond in (UPPER, LOWER):
        for e in of(found, pond):
            if not set(e.flags) - {"seen"}:
                assert abs(e.level_m - ponds.level_at(pond, e.when)) < (0.3 if e.method == "network" else 0.25)
            assert e.observed_m == pytest.approx(ponds.level_at(pond, e.when), abs=0.05)
    assert any("combined: network" in text and "shared dates" in text for text in found.notes)
    assert [(e.reservoir, e.method, e.when) for e in found.estimates] == sorted((e.reservoir, e.method, e.when) for e in found.estimates)


def test_weights_rest_on_errors_of_the_same_dates(watered):
    """The model's errors of 30 dates and the curve's of the same ones: the better road has the say."""
    joined = [e for e in of(watered.found, UPPER) if e.method == "combined"]
    areas = {e.when: e for e in of(watered.found, UPPER) if e.method == "area"}
    assert any(text.startswith("Upper Dam, combined") and "correlate" in text for text in watered.found.notes)
    assert all(abs(e.level_m - areas[e.when].level_m) < 0.1 for e in joined) and all(e.low_m < e.level_m < e.high_m for e in joined)


def test_files_say_the_same(watered):
    with open(watered.out / "t.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(watered.found.estimates) and {r["method"] for r in rows} == {"network", "area", "combined"}
    with open(watered.out / "d.csv", encoding="utf-8-sig", newline="") as file:
        assert [r["reason"] for r in csv.DictReader(file)] == reasons(watered.found)
    with open(watered.out / "c.csv", encoding="utf-8-sig", newline="") as file:
        assert {r["reservoir"] for r in csv.DictReader(file)} == {UPPER.name, LOWER.name}
    page = (watered.out / "r.html").read_text(encoding="utf-8")
    assert "Upper Dam" in page and "combined" in page and "<script" not in page and "://" not in page
    assert [f for f, _ in watered.log] == sorted(f for f, _ in watered.log) and any(
        "Upper Dam, network: 11 levels" in m for _, m in watered.log
    )


def test_a_curve_that_was_written_can_be_given(watered, world):
    found = estimate(world.polygons, Inputs(water_folder=watered.folder, curves=str(watered.out / "c.csv")), config(water_class="2"))
    assert {e.method for e in found.estimates} == {"area"} and {f.origin for f in found.curves.values()} == {"table"}
    assert all(abs(e.level_m - ponds.level_at(UPPER, e.when)) < 0.25 for e in of(found, UPPER) if not e.flags)


def test_water_rasters_may_be_of_any_sensor(watered, world, tmp_path):
    """SENSOR is about the scenes: maps of radar tell areas as well."""
    name = sorted(os.listdir(watered.folder))[0]
    shutil.copy(os.path.join(watered.folder, name), tmp_path / (ponds.name(ponds.START, "sentinel-1") + ".tif"))
    curves = str(watered.out / "c.csv")
    found = estimate(world.polygons, Inputs(water_folder=str(tmp_path), curves=curves), config(water_class="2", sensor="sentinel-2"))
    assert [e.sensor for e in found.estimates] == ["sentinel-1"] * 2


def test_doubts_about_the_gauge_are_told_once(world, tmp_path):
    with open(world.gauge, encoding="utf-8") as file:
        rows = [line.strip().split(",") for line in file]
    gauge, log = tmp_path / "g.csv", []
    gauge.write_text("\n".join(",".join([*r[:2], r[2] if r[2] == "level_m" else f"{float(r[2]) / 0.3048:.3f}"]) for r in rows))
    polygons = ponds.write_polygons(tmp_path / "p.gpkg", pond_model.PONDS, zero=[106.0, 44.0])
    inputs = Inputs(world.paths[:1], model=world.model, gauge=str(gauge))
    found = estimate(polygons, inputs, config(datum_field="zero"), progress=lambda fraction, message="": log.append(message))
    told = [note for note in found.notes if "UNIT" in note]
    assert len(told) == 2 and all(note.startswith("gauge of ") for note in told)
    assert sum(line.startswith("Warning: gauge of ") for line in log) == 2


def test_a_gauge_that_ended_before_the_scenes_is_no_error(world, tmp_path):
    gauge = ponds.write_gauge(tmp_path / "g.csv", pond_model.PONDS, first=ponds.START.replace(year=2010), days=100)
    found = estimate(world.polygons, Inputs(world.paths[:2], model=world.model, gauge=gauge), config())
    assert len(found.estimates) == 4 and all(e.observed_m is None for e in found.estimates) and found.observed[UPPER.name]


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({}, "nothing to estimate levels from.*MODEL.*WATER"),
        ({"model": "m.onnx"}, "a model, but no scenes.*INPUT"),
        ({"files": ["a.tif"]}, "scenes, but no model.*MODEL.*WATER"),
        ({"water": ["a.tif"]}, "which level a water area belongs to.*GAUGE.*CURVES.*DEM"),
        ({"folder": "x", "model": "m", "dem": "d.tif"}, "needs water rasters.*WATER"),
    ],
)
def test_refusals_say_what_is_missing(world, inputs, words):
    with pytest.raises(ConfigError, match=words):
        estimate(world.polygons, Inputs(**inputs), config())


def test_nothing_but_clouds(world):
    with pytest.raises(ConfigError, match=r"No level can be told: wholly hidden by cloud and shadow \(2\)"):
        estimate(world.polygons, Inputs([world.paths[3]], model=world.model), config())


def test_a_model_of_something_else_is_refused(world, tmp_path):
    path = shutil.copy(world.model, tmp_path / "m.onnx")
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data.replace(b'"task": "level"', b'"task": "lever"'))
    with pytest.raises(ModelError):
        estimate(world.polygons, Inputs(world.paths[:1], model=path), config())


# --- what a first user and a reviewer met


def test_an_output_is_never_an_input(world, tmp_path):
    gauge = shutil.copy(world.gauge, tmp_path / "gauge.csv")
    before = (tmp_path / "gauge.csv").read_text()
    inputs = Inputs(files=world.paths[:2], model=str(world.model), gauge=str(gauge))
    with pytest.raises(ConfigError, match="same file"):
        estimate(world.polygons, inputs, config(), csv=str(gauge))
    assert (tmp_path / "gauge.csv").read_text() == before


def test_bands_of_other_names_are_no_match(world, tmp_path):
    paths = []
    for path in world.paths[:2]:
        pixels, _, _ = read_raster(path)
        paths.append(write_raster(tmp_path / os.path.basename(path), pixels[:3], ponds.GRID, names=("B8", "B11", "B12")))
    with pytest.raises(ModelError, match="B8, B11, B12.*BANDS"):
        run(paths, world.polygons, world.model)
    assert len(run(paths, world.polygons, world.model, bands="1-3").estimates) == 4


def test_without_a_quality_band_no_cloud_is_known(world, tmp_path):
    path = ponds.write_scene(tmp_path, world.times[0], pond_model.PONDS, quality="")
    found = run([path], world.polygons, world.model)
    assert [e.cloud for e in found.estimates] == [None, None] and any("no quality band" in n for n in found.notes)
    assert not any("no quality band" in n for n in run([path], world.polygons, world.model, quality="none").notes)
