"""Flood maps against a reference: figures by hand, all kinds of rasters, other grids, what is left out, and what is told."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import box, crs, read_raster, utm, write_layer, write_raster
from water_dl_plugin.engine.errors import Cancelled, ConfigError, GridMismatchError, LabelError
from water_dl_plugin.engine.flood.assess import assess_flood
from water_dl_plugin.engine.flood.inputs import FloodMap
from water_dl_plugin.engine.flood.scores import AGREEMENT, Score
from water_dl_plugin.engine.grid import Grid
from water_dl_plugin.engine.settings import AssessFloodConfig
from water_dl_plugin.engine.windows import Window

GRID = utm(40, 30)
TRUTH = np.zeros((30, 40), np.float32)
TRUTH[5:25, 10:30] = 1.5  # 400 px
MAP = np.zeros((30, 40), np.float32)
MAP[5:25, 15:40] = 2.25  # 500 px: 300 hits, 100 misses, 200 false alarms


def raster(folder, name, pixels, grid=GRID, nodata=-9999.0, **more):
    return write_raster(folder / f"{name}.tif", pixels, grid, nodata, **more)


def assessed(folder, maps, truth=TRUTH, lines=None, data=None, **given):
    """Run it on arrays or paths."""
    maps = maps if isinstance(maps, list) else [maps]
    paths = [raster(folder, f"map{i}", m) if isinstance(m, np.ndarray) else m for i, m in enumerate(maps)]
    truth = raster(folder, "truth", truth) if isinstance(truth, np.ndarray) else truth
    told = [] if lines is None else lines
    return assess_flood(
        paths, truth, AssessFloodConfig(**given), **(data or {}), progress=lambda share, line="": told.append(line) if line else None
    )


def counts(result, number=0):
    f = result.scores[number].figures()
    return f["hits"], f["misses"], f["false_alarms"], f["correct_negatives"]


def test_figures_by_hand(tmp_path):
    result = assessed(tmp_path, MAP)
    assert counts(result) == (300, 100, 200, 600)
    f = result.scores[0].figures()
    assert (f["pod"], f["far"], f["csi"], f["bias"], f["f1"]) == pytest.approx((0.75, 0.4, 0.5, 1.25, 600 / 900))
    assert (f["map_km2"], f["reference_km2"], f["hit_km2"]) == pytest.approx((0.05, 0.04, 0.03), rel=1e-3)
    errors = np.repeat([0.75, -1.5, 2.25], [300, 100, 200])  # hits, misses, false alarms: wet in either
    assert f["depth_pixels"] == 600 and f["depth_bias_m"] == pytest.approx(errors.mean())
    assert f["depth_rmse_m"] == pytest.approx(np.sqrt((errors**2).mean())) and f["depth_mae_m"] == pytest.approx(np.abs(errors).mean())
    assert result.numbers()["CSI"] == 0.5 and result.best.name == "map0" and "CSI 0.5000" in result.scores[0].line()


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4).map(lambda v: np.array(v).reshape(2, 2)))
@settings(max_examples=100, deadline=None)
def test_figures_belong_together(matrix):
    """Identities of the verification literature; NaN only where there is nothing to share out."""
    f = Score("", "", "extent", matrix=matrix).figures()
    (_, false_alarms), (misses, hits) = matrix.tolist()
    if hits:
        assert f["csi"] == pytest.approx(1 / (1 / f["pod"] + 1 / (1 - f["far"]) - 1)) and f["f1"] == pytest.approx(
            2 * f["csi"] / (1 + f["csi"])
        )
        assert f["bias"] == pytest.approx(f["pod"] / (1 - f["far"]))
    assert math.isnan(f["pod"]) == (hits + misses == 0) and math.isnan(f["far"]) == (hits + false_alarms == 0)
    assert math.isnan(f["csi"]) == (hits + misses + false_alarms == 0)


def test_a_pixel_is_wet_from_the_depth_on(tmp_path):
    depths = np.where(TRUTH > 0, 0.25, 0.0625).astype(np.float32)
    assert counts(assessed(tmp_path, depths)) == (400, 0, 0, 800)
    assert counts(assessed(tmp_path, depths, wet_depth=0.25)) == (400, 0, 0, 800)
    assert counts(assessed(tmp_path, depths, wet_depth=0.26)) == (0, 400, 0, 800)
    assert counts(assessed(tmp_path, depths, wet_depth=0.05)) == (400, 0, 800, 0)
    assert counts(assessed(tmp_path, depths - 0.0625, wet_depth=0.0)) == (400, 0, 0, 800)  # 0 is dry all the same
    below = assessed(tmp_path, np.where(TRUTH > 0, 0.25, -3).astype(np.float32), np.where(TRUTH > 0, 0, 0.25).astype(np.float32))
    assert counts(below) == (0, 800, 400, 0) and below.numbers()["DEPTH_RMSE_M"] == 0.25  # water surface minus ground: dry where negative


@pytest.mark.parametrize("kind", ["depth", "probability", "named", "plain", "float classes"])
def test_all_kinds_of_maps_say_the_same(tmp_path, kind):
    wet = MAP > 0
    given, more = {}, {"nodata": -9999.0}
    if kind == "depth":
        pixels = np.where(wet, 0.3, 0.01).astype(np.float32)
    elif kind == "probability":
        pixels, more = np.where(wet, 0.8, 0.3).astype(np.float32), {"nodata": -1.0, "names": ["probability of water"]}
    elif kind == "named":
        classes = [{"value": v, "name": n} for v, n in ((1, "cloudless land"), (4, "flood"), (7, "ice"))]
        pixels = np.where(wet, 4, 1).astype(np.uint8)
        pixels[0, 0] = 7
        more, given = {"nodata": 255, "tags": {"WATERDL_CLASSES": json.dumps(classes)}}, {"positive": "flood"}
    elif kind == "plain":
        pixels, more = wet.astype(np.uint8), {"nodata": 255}
    else:
        pixels, more = wet.astype(np.float32), {}
    result = assessed(tmp_path, raster(tmp_path, "m", pixels, **more), **given)
    assert counts(result) == (300, 100, 200, 600)
    assert (
        result.scores[0].kind == ("depth" if kind == "depth" else "extent") == ("depth" if result.scores[0].depth is not None else "extent")
    )


def test_said_kinds_hold(tmp_path):
    low = np.where(MAP > 0, 0.4, 0.2).astype(np.float32)
    lines: list = []
    assert counts(assessed(tmp_path, low, lines=lines)) == (400, 0, 800, 0)
    assert any("If it holds probabilities" in line for line in lines)
    lines = []
    assert counts(assessed(tmp_path, low, map_kind="extent", threshold=0.3, lines=lines)) == (300, 100, 200, 600)
    assert not any("If it holds probabilities" in line for line in lines)
    lines = []
    assessed(tmp_path, raster(tmp_path, "low", low, names=["water depth"]), lines=lines)
    assert not any("If it holds probabilities" in line for line in lines)
    metres = raster(tmp_path, "whole", (MAP > 0).astype(np.int16) * 2)
    result = assessed(tmp_path, metres, map_kind="depth")
    assert counts(result) == (300, 100, 200, 600) and result.scores[0].depth is not None


def test_a_map_of_dry_ground_only(tmp_path):
    lines: list = []
    result = assessed(tmp_path, raster(tmp_path, "dry", np.zeros((30, 40), np.uint8), nodata=255), lines=lines)
    assert counts(result) == (0, 400, 0, 800) and math.isnan(result.scores[0].figures()["far"]) and result.numbers()["FAR"] is None
    result = assessed(tmp_path, MAP, np.zeros_like(TRUTH), lines=lines)
    assert result.numbers()["POD"] is None and any("no flooded pixel" in line for line in lines)


def test_maps_on_other_grids(tmp_path):
    """A depth map of half the resolution, one that is shifted, and one in degrees."""
    double = Grid(20, 15, (GRID.transform[0], 20.0, 0, GRID.transform[3], 0, -20.0), GRID.crs)
    coarse = raster(tmp_path, "coarse", (MAP[::2, ::2] > 0).astype(np.uint8), double, 255)
    wanted = np.kron(MAP[::2, ::2] > 0, np.ones((2, 2), bool))
    result = assessed(tmp_path, coarse)
    assert counts(result)[:2] == (int((wanted & (TRUTH > 0)).sum()), int((~wanted & (TRUTH > 0)).sum()))
    tilted = np.add.outer(np.arange(15) * 2.0, np.arange(20) * 0.5).astype(np.float32) + 1
    fine = np.add.outer(np.arange(30) + 0.5 - 1, (np.arange(40) + 0.5 - 1) * 0.25) + 1  # the same plane, between the middles
    result = assessed(tmp_path, raster(tmp_path, "slope", tilted, double), fine.astype(np.float32), data={"area": inner(tmp_path)})
    f = result.scores[0].figures()
    assert f["depth_rmse_m"] < 1e-4 and f["depth_pixels"] == 28 * 38
    part = Grid(10, 30, (GRID.transform[0], 10.0, 0, GRID.transform[3], 0, -10.0), GRID.crs)
    lines: list = []
    assert sum(counts(assessed(tmp_path, raster(tmp_path, "part", MAP[:, :10], part), lines=lines))) == 300
    assert any("no data on 900 pixels" in line for line in lines)


def inner(folder):
    return write_layer(folder / "inner.gpkg", [(box(GRID, 1, 1, 38, 28), {})], GRID.crs)


def test_areas_are_those_on_the_ellipsoid(tmp_path):
    """In degrees, from 40 to 70 north: pixels shrink, and areas with them."""
    grid = Grid(40, 30, (10.0, 0.5, 0, 70.0, 0, -1.0), crs(4326))
    result = assessed(tmp_path, raster(tmp_path, "m", MAP, grid), raster(tmp_path, "t", TRUTH, grid))
    areas, f = grid.areas_m2() / 1e6, result.scores[0].figures()
    assert (f["map_km2"], f["reference_km2"]) == pytest.approx((areas[MAP > 0].sum(), areas[TRUTH > 0].sum()), rel=1e-9)
    assert f["miss_km2"] == pytest.approx(areas[(TRUTH > 0) & (MAP == 0)].sum(), rel=1e-9)


def test_nodata_as_dry_ground(tmp_path):
    """As a hydraulic model leaves it: without the setting nothing is seen of false alarms, and that is told."""
    bare = np.where(TRUTH > 0, TRUTH, -9999)
    lines: list = []
    assert counts(assessed(tmp_path, MAP, bare, lines=lines)) == (300, 100, 0, 0)
    assert any("NODATA_IS_DRY" in line and "truth.tif" in line for line in lines)
    lines = []
    assert counts(assessed(tmp_path, MAP, bare, nodata_is_dry=True, lines=lines)) == (300, 100, 200, 600)
    assert not any("NODATA_IS_DRY" in line for line in lines)
    part = Grid(20, 30, (GRID.transform[0] + 100, 10.0, 0, GRID.transform[3], 0, -10.0), GRID.crs)
    some = np.where(MAP > 0, MAP, -9999)[:, 10:30]
    assert counts(assessed(tmp_path, raster(tmp_path, "part", some, part), nodata_is_dry=True)) == (
        300,
        100,
        0,
        200,
    )  # outside stays unknown


def test_permanent_water_and_area_of_interest(tmp_path):
    river = write_layer(tmp_path / "river.gpkg", [(box(GRID, 20, 0, 5, 30), {"name": "river"})], GRID.crs)
    result = assessed(tmp_path, MAP, data={"permanent": river})
    assert counts(result) == (200, 100, 200, 550) and result.permanent == 150
    mask = np.zeros((30, 40), np.int16)
    mask[:, 20:25] = 3
    mask[0, 0] = -9999
    assert counts(assessed(tmp_path, MAP, data={"permanent": raster(tmp_path, "mask", mask)})) == (200, 100, 200, 550)
    half = write_layer(tmp_path / "half.gpkg", [(box(GRID, 0, 0, 20, 30), {})], GRID.crs)
    assert counts(assessed(tmp_path, MAP, data={"area": half, "permanent": river})) == (100, 100, 0, 400)
    with pytest.raises(GridMismatchError, match="no pixel in common"):
        assessed(
            tmp_path, MAP, data={"area": write_layer(tmp_path / "in.gpkg", [(box(GRID, 21, 3, 2, 3), {})], GRID.crs), "permanent": river}
        )
    away = write_layer(tmp_path / "away.gpkg", [(box(GRID, 300, 0, 5, 30), {})], GRID.crs)
    for wrong, error in (({"permanent": away}, GridMismatchError), ({"area": away}, LabelError)):
        with pytest.raises(error, match="outside"):
            assessed(tmp_path, MAP, data=wrong)


def test_several_maps_are_compared_on_the_same_pixels(tmp_path):
    holes = TRUTH.copy()
    holes[:, :20] = -9999
    lines: list = []
    paths = {"report": "r.html", "csv": "t.csv", "json_path": "f.json", "agreement": "a.tif"}
    data = {key: str(tmp_path / name) for key, name in paths.items()}
    result = assessed(tmp_path, [MAP, holes], lines=lines, data=data)
    assert counts(result, 0) == (200, 0, 200, 200) and counts(result, 1) == (200, 0, 0, 400) and result.best.name == "map1"
    assert result.scores[1].unmapped == 600 and any("map1 has no data on 600 pixels" in line for line in lines)
    with open(tmp_path / "t.csv", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [r["map"] for r in rows] == ["map0", "map1"] and float(rows[0]["csi"]) == 0.5 and rows[0]["holds"] == "depth"
    told = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert told["best"] == "map1" and told["maps"][0]["hits"] == 200 and told["settings"]["wet_depth"] == 0.1
    planes, _, _ = read_raster(tmp_path / "a.tif")
    wanted = np.where(TRUTH > 0, np.where(MAP > 0, 1, 2), np.where(MAP > 0, 3, 0))
    wanted[:, :20] = 255
    np.testing.assert_array_equal(planes[0], wanted)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for words in ("Best of the maps", "map1", "false alarm", "RMSE (m)", "600 pixels", "data:image/png"):
        assert words in page
    assert "://" not in page


def test_one_map_has_colours(tmp_path):
    from osgeo import gdal

    assessed(tmp_path, MAP, data={"agreement": str(tmp_path / "a.tif")})
    data = gdal.Open(str(tmp_path / "a.tif"))
    band = data.GetRasterBand(1)
    assert band.GetNoDataValue() == 255  # before this is asked, GDAL 3.6 does not look for the names
    assert band.GetCategoryNames() == [c.name for c in AGREEMENT] and band.GetColorTable().GetColorEntry(2)[:3] == AGREEMENT[2].colour


def test_pictures_are_thinned(tmp_path, monkeypatch):
    """The report's picture holds each third pixel, whatever the blocks."""
    from water_dl_plugin.engine.flood import assess

    monkeypatch.setattr(assess, "PICTURE", 14)
    monkeypatch.setattr(assess, "BLOCK", 7)
    result = assessed(tmp_path, MAP)
    wanted = np.where(TRUTH > 0, np.where(MAP > 0, 1, 2), np.where(MAP > 0, 3, 0))
    np.testing.assert_array_equal(result.scores[0].picture, wanted[::3, ::3])
    assert counts(result) == (300, 100, 200, 600)


def test_names_tell_maps_apart(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    paths = [raster(tmp_path / folder, "depth", MAP) for folder in ("a", "b")]
    truth = raster(tmp_path, "truth", TRUTH)
    result = assess_flood(paths, truth, AssessFloodConfig())
    assert [s.name for s in result.scores] == ["depth (1)", "depth (2)"]
    assert [s.name for s in assess_flood(paths, truth, AssessFloodConfig(), names=["x", "y"]).scores] == ["x", "y"]


def test_refused(tmp_path):
    away = raster(tmp_path, "away", MAP, utm(40, 30, x=900_000.0))
    bare = raster(tmp_path, "bare", MAP, Grid(40, 30))
    named = raster(
        tmp_path,
        "named",
        (MAP > 0).astype(np.uint8),
        tags={"WATERDL_CLASSES": '[{"value": 0, "name": "dry"}, {"value": 1, "name": "wet"}]'},
    )
    two = raster(tmp_path, "two", np.stack([MAP, MAP]))
    for maps, error, words, more in (
        ([], ConfigError, "no map", {}), (away, GridMismatchError, "does not lie over", {}), (bare, GridMismatchError, "CRS", {}),
        (named, ConfigError, "no class 'flood'", {"positive": "flood"}), (two, ConfigError, "2 bands", {"map_kind": "depth"}),
        (np.full_like(MAP, -9999), GridMismatchError, "no pixel in common", {}),
    ):  # fmt: skip
        with pytest.raises(error, match=words) as refused:
            assessed(tmp_path, maps, **more)
        assert refused.value.remedy
    water = raster(tmp_path, "water", (MAP > 0).astype(np.uint8))
    for same in (
        {"agreement": str(tmp_path / "truth.tif")},
        {"agreement": water, "permanent": water},
        {"csv": str(tmp_path / "x"), "json_path": str(tmp_path / "x")},
    ):
        with pytest.raises(ConfigError, match="same file"):
            assessed(tmp_path, MAP, data=same)


def test_cancel_leaves_nothing(tmp_path):
    path = raster(tmp_path, "m", MAP)

    def stop(share, line=""):
        if not line:
            raise Cancelled()

    with pytest.raises(Cancelled):
        assess_flood([path], path, AssessFloodConfig(), agreement=str(tmp_path / "a.tif"), report=str(tmp_path / "r.html"), progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]


def test_cancel_is_heard_while_it_is_found_out_what_a_raster_holds(tmp_path):
    heard = []
    FloodMap(
        raster(tmp_path, "m", np.ones((10, 3000), np.float32), utm(3000, 10)), None, "auto", AssessFloodConfig(), lambda *a: heard.append(a)
    ).close()
    assert heard == [(0, "")] * 3


def test_footprints_are_cleared(tmp_path):
    from osgeo import gdal

    shifted = raster(tmp_path, "m", MAP, utm(40, 30, x=400_003.0))
    made = FloodMap(shifted, GRID, "depth", AssessFloodConfig(nodata_is_dry=True))
    assert made.flood(Window(0, 0, 40, 30)).known[:, 1:].all() and gdal.ReadDir("/vsimem/")
    made.close()
    assert not [n for n in gdal.ReadDir("/vsimem/") or [] if "footprint" in n]
