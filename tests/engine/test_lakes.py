"""Lake statistics: hand-made lakes with known answers, properties, and layers of every bad kind."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osgeo import gdal, ogr, osr

from tests import helpers
from water_dl_plugin.engine.errors import ConfigError, GridMismatchError, LabelError, OutputError
from water_dl_plugin.engine.lakes import inventory, overlay
from water_dl_plugin.engine.lakes import tables as lake_tables
from water_dl_plugin.engine.lakes.match import scores
from water_dl_plugin.engine.lakes.statistics import MATCH_FIELDS, lake_statistics
from water_dl_plugin.engine.settings import LakesConfig

UTM, DEGREES, LAEA = helpers.crs(32645), helpers.crs(4326), helpers.crs(3035)
X, Y = 500_000.0, 3_100_000.0  # on the central meridian: the scale is 0.9996
TRUE = 1 / 0.9996**2  # m2 on the ellipsoid per m2 of the plane there
CONFIG = LakesConfig(size_limits="0.005, 0.02")


def square(x: float, y: float, width: float = 100, height: float = 100, hole=None) -> str:
    """WKT; the corner is `x`, `y` metres from the origin, the hole (x, y, width, height) from the corner."""

    def ring(x, y, width, height):
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
        return "(" + ",".join(f"{X + a!r} {Y + b!r}" for a, b in corners) + ")"

    inner = f",{ring(x + hole[0], y + hole[1], hole[2], hole[3])}" if hole else ""
    return f"POLYGON({ring(x, y, width, height)}{inner})"


def multi(*polygons: str) -> str:
    return f"MULTIPOLYGON({','.join(wkt[len('POLYGON') :] for wkt in polygons)})"


def layer(path, wkts, crs=UTM, **fields) -> str:
    """A layer of outlines; `fields` are lists of values."""
    features = [(wkt, {name: values[k] for name, values in fields.items()}) for k, wkt in enumerate(wkts)]
    return helpers.write_layer(path, features, crs, layer="lakes")


def moved(wkt: str, target: str, segments: float = 20.0) -> str:
    here, there = osr.SpatialReference(UTM), osr.SpatialReference(target)
    for reference in (here, there):
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    geometry = ogr.CreateGeometryFromWkt(wkt)
    geometry.Segmentize(segments)
    geometry.Transform(osr.CoordinateTransformation(here, there))
    return geometry.ExportToWkt()


# name: outlines in the inventory, outlines in the map, what becomes of either
CASES = {
    "exact": ([square(0, 0)], [square(0, 0)], ["found"], ["right"]),
    "missed": ([square(300, 0)], [], ["missed"], []),
    "false": ([], [square(600, 0)], [], ["false"]),
    "split": ([square(900, 0)], [square(900, 0, 45), square(955, 0, 45)], ["split"], ["right", "right"]),
    "merged": ([square(1200, 0), square(1320, 0)], [square(1200, 0, 220)], ["merged", "merged"], ["merging"]),
    "touching": ([square(1600, 0)], [square(1700, 0)], ["missed"], ["false"]),
    "island": ([square(1900, 0, hole=(20, 20, 50, 40))], [square(1900, 0)], ["found"], ["right"]),
    "in the hole": ([square(2200, 0, hole=(20, 20, 50, 40))], [square(2220, 20, 50, 40)], ["missed"], ["false"]),
    "half": ([square(2500, 0)], [square(2500, 0, 50)], ["found"], ["right"]),
    "less than half": ([square(2800, 0)], [square(2800, 0, 49.9)], ["missed"], ["right"]),
    "too large": ([square(3100, 0)], [square(3100, 0, 210)], ["found"], ["false"]),
    "a sliver is no piece": ([square(3400, 0)], [square(3400, 0, 80), square(3491, 0, 9)], ["found"], ["right", "right"]),
    "twice the same ground": ([square(3700, 0)], [square(3700, 0, 30), square(3700, 0, 30)], ["missed"], ["right", "right"]),
    "just beside": ([square(4300, 0), square(4420, 0)], [square(4300, 0, 140)], ["found", "missed"], ["right"]),
    "two parts": ([multi(square(4000, 0, 40), square(4060, 0, 40))], [square(4000, 0)], ["found"], ["right"]),
}
WHOLE = {"exact", "island", "just beside", "two parts"}
ALONE = {*WHOLE, "half", "a sliver is no piece"}  # one in both layers


def everything(folder, crs=UTM, order=1):
    """All cases in two files; (map, inventory, expected kinds by layer)."""
    reference, mapped, wanted = [], [], {"reference": [], "map": []}
    for outlines, found, kinds, map_kinds in CASES.values():
        reference += outlines
        mapped += found
        wanted["reference"] += kinds
        wanted["map"] += map_kinds
    there = [wkt if crs == UTM else moved(wkt, crs) for wkt in reference]
    return layer(folder / "map.gpkg", mapped[::order]), layer(folder / "inventory.gpkg", there[::order], crs), wanted


def kinds(result, order=1) -> dict:
    found = {"reference": [], "map": []}
    for _, values in result.features():
        found[values["layer"]].append(values["match"])
    return {name: values[::order] for name, values in found.items()}


@pytest.mark.parametrize("crs", [UTM, DEGREES, LAEA], ids=["same", "degrees", "laea"])
def test_each_case_is_called_by_its_name(tmp_path, crs):
    path, reference, wanted = everything(tmp_path, crs)
    config = LakesConfig(size_limits="0.005, 0.02", found_share=49.99, false_share=49.97) if crs == LAEA else CONFIG
    assert kinds(lake_statistics(path, config, reference=reference)) == wanted


def test_found_whole_is_found_alone_and_complete(tmp_path):
    path, reference, _ = everything(tmp_path)
    found = lake_statistics(path, CONFIG, reference=reference).match
    names = [name for name, (outlines, *_) in CASES.items() for _ in outlines]
    assert {name for name, whole in zip(names, found.whole) if whole} == WHOLE
    assert {name for name, alone in zip(names, found.alone) if alone} == ALONE
    names = [name for name, (_, outlines, *_) in CASES.items() for _ in outlines]
    assert {name for name, mated in zip(names, found.mated) if mated} == {*ALONE, "split", "merged"}


def test_order_of_the_lakes_changes_nothing(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, two = (lake_statistics(path, CONFIG, reference=reference) for path, reference, _ in (everything(tmp_path / "a"), everything(tmp_path / "b", order=-1)))  # fmt: skip
    assert kinds(one) == kinds(two, -1)
    assert one.numbers() == pytest.approx(two.numbers(), rel=1e-12)


def test_the_figures_of_all_cases(tmp_path):
    path, reference, wanted = everything(tmp_path)
    result = lake_statistics(path, CONFIG, reference=reference)
    number, judged = result.numbers(), wanted["reference"]
    assert number["COUNT"] == len(wanted["map"]) and number["REFERENCE_COUNT"] == len(judged)
    assert number["MISSED"] == judged.count("missed") and number["FOUND"] == len(judged) - judged.count("missed")
    assert (
        number["SPLIT"] == 1 and number["MERGED"] == 2 and number["MERGING"] == 1 and number["FALSE_LAKES"] == wanted["map"].count("false")
    )
    recall, precision = number["FOUND"] / len(judged), 1 - wanted["map"].count("false") / len(wanted["map"])
    assert number["RECALL"] == pytest.approx(recall) and number["PRECISION"] == pytest.approx(precision)
    assert number["F1"] == pytest.approx(2 * recall * precision / (recall + precision))
    assert number["SMALLEST_WHOLE_M2"] == pytest.approx((40 + 40) * 100 * TRUE, rel=1e-6)
    assert number["LARGEST_MISSED_M2"] == pytest.approx(100 * 100 * TRUE, rel=1e-6)
    rows = {row["class"]: row for row in result.rows}
    assert sum(row["found"] for row in result.rows[1:]) == number["FOUND"] and list(rows) == [
        "all lakes",
        "< 0.005 km²",
        "0.005–0.02 km²",
        "≥ 0.02 km²",
    ]
    assert rows["≥ 0.02 km²"]["number"] == 2 and rows["≥ 0.02 km²"]["reference_number"] == 0 and math.isnan(rows["≥ 0.02 km²"]["recall"])


def test_lakes_that_overlap_each_other_are_told_of(tmp_path):
    reference, path = layer(tmp_path / "r.gpkg", [square(0, 0), square(500, 0)]), layer(tmp_path / "m.gpkg", [square(0, 0), square(3, 0), square(500, 0)])  # fmt: skip
    one, two = lake_statistics(path, CONFIG, reference=reference), lake_statistics(reference, CONFIG, reference=path)
    assert one.notes == ["Lakes of the map overlap each other: they cover 1 lakes of the inventory twice, which may then count as split."]
    assert two.notes == ["Lakes of the inventory overlap each other: they cover 1 lakes of the map twice, which may then count as merging."]
    assert kinds(one)["reference"] == ["split", "found"] and kinds(two)["map"] == ["merging", "right"]
    assert one.match.whole.tolist() == [False, True] and two.match.whole.tolist() == [False, False, True]


def test_agreement_of_areas(tmp_path):
    """A lake of 100 x 100 drawn 30 m too far east, one of 200 x 100 drawn 100 x 100, one of which only 20 x 100 are found, and a false one
    of 50 x 100."""
    reference = layer(tmp_path / "r.gpkg", [square(0, 0), square(1000, 0, 200), square(3000, 0)])
    path = layer(tmp_path / "m.gpkg", [square(30, 0), square(1000, 0, 100), square(2000, 0, 50), square(3000, 0, 20)])
    number = lake_statistics(path, CONFIG, reference=reference).numbers()
    assert number["IOU"] == pytest.approx((70 + 100 + 20) / (400 + 270 - 190), rel=1e-6)
    assert number["MATCHED_IOU"] == pytest.approx((70 + 100) / (300 + 200 - 170), rel=1e-6)
    assert number["AREA_BIAS"] == pytest.approx((270 - 400) / 400, rel=1e-6)
    assert number["ALONE"] == 2 and number["ALONE_AREA_BIAS"] == pytest.approx((200 - 300) / 300, rel=1e-6)
    assert number["ALONE_IOU"] == pytest.approx((70 / 130 + 0.5) / 2, rel=1e-6)


def test_what_the_features_say(tmp_path):
    reference = layer(tmp_path / "r.gpkg", [square(0, 0), square(1000, 0, 200)], elevation_m=[4100.0, None])
    path = layer(tmp_path / "m.gpkg", [square(30, 0), square(1000, 0, 100), square(2000, 0, 50)])
    shapes, values = zip(*lake_statistics(path, CONFIG, reference=reference).features())
    assert all(list(v) == [name for name, _ in MATCH_FIELDS] for v in values)
    first, second, third = values[0], values[1], values[2]
    assert (
        first["number"] == 1 and first["partner"] == 1 and first["partner_m2"] == pytest.approx(1e4 * TRUE) and first["elevation_m"] == 4100
    )
    assert first["covered"] == pytest.approx(0.7) and first["iou"] == pytest.approx(70 / 130) and first["size_class"] == "0.005–0.02 km²"
    assert second["covered"] == pytest.approx(0.5) and second["whole"] == 0 and second["pieces"] == 1 and second["elevation_m"] is None
    assert third["layer"] == "map" and third["partner"] is None and third["covered"] == pytest.approx(0.7)
    assert ogr.CreateGeometryFromWkb(shapes[1]).GetArea() == pytest.approx(2e4)


# --- properties

lake = st.tuples(*(st.integers(0, 60) for _ in range(2)), *(st.integers(1, 25) for _ in range(2)))
lakes = st.lists(lake, min_size=1, max_size=12)


def inventory_of(boxes) -> inventory.Inventory:
    geometries = [ogr.CreateGeometryFromWkt(square(*(10.0 * value for value in box))) for box in boxes]
    count = len(boxes)
    areas = np.array([g.GetArea() for g in geometries])
    return inventory.Inventory("", geometries, np.arange(count), areas, np.full(count, np.nan), inventory._boxes(geometries))


@settings(max_examples=40, deadline=None)
@given(lakes, lakes)
def test_overlay_is_what_pixels_say(first, second):
    """Squares on a lattice: each shared area and each covered share can be counted in cells."""

    def cells(box):
        mask = np.zeros((90, 90), bool)
        mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
        return mask

    found = overlay.overlay(inventory_of(first), inventory_of(second))
    a, b = [cells(box) for box in first], [cells(box) for box in second]
    wanted = {(i, j): 100.0 * (p & q).sum() for i, p in enumerate(a) for j, q in enumerate(b) if (p & q).any()}
    assert dict(zip(zip(found.i.tolist(), found.j.tolist()), found.area_m2.tolist())) == pytest.approx(wanted)
    assert found.covered_i == pytest.approx([(p & np.any(b, axis=0)).sum() / p.sum() for p in a])
    assert found.covered_j == pytest.approx([(q & np.any(a, axis=0)).sum() / q.sum() for q in b])


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (1, 1), (15, 17), (300, 700), (40, 5000), (9000, 50)])
def test_index_finds_all_pairs_of_boxes_and_no_others(sizes):
    rng = np.random.default_rng(sizes)
    corner = [rng.uniform(0, 100, (count, 2)) for count in sizes]
    a, b = (np.concatenate([at, at + rng.pareto(1.5, at.shape)], axis=1) for at in corner)
    b[: len(b) // 3] = np.rint(b[: len(b) // 3])  # some that only touch, some without extent
    i, j = overlay.meeting(a, b)
    wanted = (a[:, None, 0] <= b[:, 2]) & (a[:, None, 2] >= b[:, 0]) & (a[:, None, 1] <= b[:, 3]) & (a[:, None, 3] >= b[:, 1])
    assert len(i) == wanted.sum() and set(zip(i.tolist(), j.tolist())) == set(zip(*(k.tolist() for k in np.nonzero(wanted))))


def shore(rng, x: float, y: float, radius: float, corners: int) -> str:
    angle = np.arange(corners) * 2 * np.pi / corners
    far = radius * (1 + 0.3 * np.sin(5 * angle + rng.uniform(0, 6)) + 0.1 * np.sin(23 * angle))
    points = [f"{X + x + r * math.cos(a)!r} {Y + y + r * math.sin(a)!r}" for a, r in zip(angle, far)]
    return f"POLYGON(({','.join([*points, points[0]])}))"


def round_lakes(seed: int, count: int = 60, corners: int = 40) -> list:
    rng = np.random.default_rng(seed)
    return [shore(rng, *rng.uniform(0, 4000, 2), 40 + 60 * rng.pareto(2), corners) for _ in range(count)]


def test_an_inventory_against_itself_is_all_found(tmp_path):
    outlines = [shore(np.random.default_rng(k), 700 * (k % 8), 700 * (k // 8), 60 + 4 * k, 50) for k in range(48)]
    here = layer(tmp_path / "a.gpkg", outlines)
    for name, crs in (("b.gpkg", UTM), ("c.gpkg", DEGREES)):
        there = layer(tmp_path / name, [wkt if crs == UTM else moved(wkt, crs, 1e9) for wkt in outlines], crs)
        number = lake_statistics(here, CONFIG, reference=there).numbers()
        assert (
            number["FOUND"] == number["WHOLE"] == number["ALONE"] == 48
            and number["SPLIT"] == number["MERGED"] == number["FALSE_LAKES"] == 0
        )
        assert number["F1"] == 1 and number["IOU"] == pytest.approx(1, abs=1e-5) and number["ALONE_AREA_BIAS"] == pytest.approx(0, abs=1e-5)


def test_recall_and_precision_change_places_with_the_layers(tmp_path):
    """With the same share for found and false, the question is the same from both sides."""
    a, b = layer(tmp_path / "a.gpkg", round_lakes(1)), layer(tmp_path / "b.gpkg", round_lakes(1)[:50] + round_lakes(2, 20))
    one, two = lake_statistics(a, CONFIG, reference=b).numbers(), lake_statistics(b, CONFIG, reference=a).numbers()
    assert one["RECALL"] == two["PRECISION"] < 1 and one["PRECISION"] == two["RECALL"] < 1 and one["F1"] == pytest.approx(two["F1"])
    assert one["IOU"] == pytest.approx(two["IOU"], rel=1e-6) and 1 + one["AREA_BIAS"] == pytest.approx(1 / (1 + two["AREA_BIAS"]))


def test_outlines_in_pieces_give_the_same_as_whole_ones(tmp_path, monkeypatch):
    a, b = (
        layer(tmp_path / "a.gpkg", round_lakes(3, corners=300)),
        layer(tmp_path / "b.gpkg", round_lakes(4, 20, 300) + round_lakes(3, 50, 290)),
    )
    whole = lake_statistics(a, CONFIG, reference=b)
    monkeypatch.setattr(overlay, "MANY_VERTICES", 30)
    assert len(overlay._pieces(whole.lakes)[0]) > 5 * len(whole.lakes)
    pieces = lake_statistics(a, CONFIG, reference=b)
    assert kinds(whole) == kinds(pieces) and whole.numbers() == pytest.approx(pieces.numbers(), rel=1e-9)
    np.testing.assert_allclose(whole.match.covered, pieces.match.covered, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_scores_and_their_intervals(found, missed, right, false):
    told = scores(found, found + missed, right, right + false)
    for key, hits, total in (("recall", found, found + missed), ("precision", right, right + false)):
        low, high = told[f"{key}_interval"]
        assert math.isnan(told[key]) == (total == 0) and (total == 0 or 0 <= low <= told[key] <= high <= 1)
        assert total == 0 or (high < 1) == (hits < total)
    if math.isnan(told["recall"] + told["precision"]):
        assert told["f1"] == 0 if 0 in (told["recall"], told["precision"]) else math.isnan(told["f1"])
    else:
        assert min(told["recall"], told["precision"]) <= told["f1"] + 1e-12 <= max(told["recall"], told["precision"]) + 2e-12


def test_wilson_interval_of_a_textbook():
    """8 of 10: 0.490 to 0.943 (Newcombe 1998 gives 81 of 263: 0.2553 to 0.3662)."""
    assert scores(81, 263, 1, 1)["recall_interval"] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert scores(8, 10, 1, 1)["recall_interval"] == pytest.approx((0.4902, 0.9433), abs=5e-5)


# --- sizes


def test_a_lake_on_a_limit_belongs_to_the_class_that_begins_there():
    config = LakesConfig(size_limits="0.001;0.01, 1")
    assert lake_tables.size_class(config, np.array([0, 999.99, 1000, 9999, 1e4, 1e6, 5e9])).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert [name for name, *_ in lake_tables.size_classes(config)] == ["< 0.001 km²", "0.001–0.01 km²", "0.01–1 km²", "≥ 1 km²"]


@pytest.mark.parametrize("text", ["", "a", "0, 1", "-1", "1, 1", "2, 1", "nan", "1, inf", "0,001, 0,01"])
def test_limits_that_do_not_rise_are_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="size classes") as told:
        lake_statistics(layer(tmp_path / "a.gpkg", [square(0, 0)]), LakesConfig(size_limits=text))
    assert "0.001, 0.01" in told.value.remedy


def test_area_does_not_depend_on_the_projection(tmp_path):
    """Web Mercator doubles areas at 45 degrees and more; a field called area_m2 is not believed."""
    found = []
    for number, epsg in enumerate((32645, 4326, 3857, 3035)):
        wkt = square(0, 0, 3000, 2000) if epsg == 32645 else moved(square(0, 0, 3000, 2000), helpers.crs(epsg))
        path = layer(tmp_path / f"{number}.gpkg", [wkt], helpers.crs(epsg), area_m2=[1.0])
        found.append(lake_statistics(path, CONFIG).numbers()["AREA_KM2"])
    assert found == pytest.approx([6 * TRUE] * 4, rel=1e-5)


def test_small_lakes_can_be_left_out_but_still_cover_others(tmp_path):
    """10 000 m2 in the inventory, 9 000 in the map: with a limit of 9 500 m2 it is found by a lake that does not count."""
    reference = layer(tmp_path / "r.gpkg", [square(0, 0), square(300, 0, 50)])
    path = layer(tmp_path / "m.gpkg", [square(0, 0, 90), square(600, 0, 20)])
    number = lake_statistics(path, LakesConfig(minimum_area=9500), reference=reference).numbers()
    assert number["COUNT"] == 0 and number["FALSE_LAKES"] == 0 and number["REFERENCE_COUNT"] == number["FOUND"] == 1
    assert "PRECISION" in number and number["PRECISION"] is None and number["RECALL"] == 1


# --- area of interest


def test_a_lake_counts_when_half_of_it_lies_in_the_area(tmp_path):
    path = layer(tmp_path / "m.gpkg", [square(0, 0), square(150, 0), square(460, 0), square(1000, 0)])
    area = layer(tmp_path / "a.gpkg", [square(0, -100, 200, 300), square(-100, -100, 250, 300)])  # these overlap: that counts once
    result = lake_statistics(path, CONFIG, area=area)
    assert result.counted.tolist() == [True, True, False, False] and result.numbers()["AREA_KM2"] == pytest.approx(0.02 * TRUE)
    area = layer(tmp_path / "b.gpkg", [moved(square(0, -100, 199, 300), DEGREES)], DEGREES)
    assert lake_statistics(path, CONFIG, area=area).counted.tolist() == [True, False, False, False]


def test_area_of_interest_limits_what_is_missed_and_false(tmp_path):
    path, reference, _ = everything(tmp_path)
    area = layer(tmp_path / "a.gpkg", [square(-50, -50, 750, 300)])  # exact, missed, false
    number = lake_statistics(path, CONFIG, reference=reference, area=area).numbers()
    assert (number["COUNT"], number["REFERENCE_COUNT"], number["FOUND"], number["MISSED"], number["FALSE_LAKES"]) == (2, 2, 1, 1, 1)
    with pytest.raises(LabelError, match="No lake lies in the area of interest"):
        lake_statistics(path, CONFIG, reference=reference, area=layer(tmp_path / "b.gpkg", [square(9e4, 9e4)]))


def test_a_scene_without_lakes_misses_all_of_its_area(tmp_path):
    """The map is empty there: recall 0, no error, for batches."""
    path = helpers.write_layer(tmp_path / "m.gpkg", [], UTM, layer="lakes")
    reference = layer(tmp_path / "r.gpkg", [square(0, 0), square(5000, 0)])
    told = []
    result = lake_statistics(
        path, CONFIG, reference=reference, area=layer(tmp_path / "a.gpkg", [square(-9, -9, 900, 900)]), report=str(tmp_path / "r.html"),
        progress=lambda _, line="": told.append(line),
    )  # fmt: skip
    number = result.numbers()
    assert (
        number["RECALL"] == 0
        and number["MISSED"] == 1
        and number["COUNT"] == 0
        and number["AREA_KM2"] == number["F1"] == 0
        and number["PRECISION"] is None
    )
    assert number["SMALLEST_WHOLE_M2"] is None and any("No lake of the map counts" in line for line in told)
    assert [values["match"] for _, values in result.features()] == ["missed"]


def test_inventory_beyond_the_map_is_told(tmp_path):
    path = layer(tmp_path / "m.gpkg", [square(0, 0)])
    reference = layer(tmp_path / "r.gpkg", [square(0, 0), square(7000, 0), square(9000, 0)])
    result = lake_statistics(path, CONFIG, reference=reference)
    assert result.numbers()["RECALL"] == pytest.approx(1 / 3) and any(
        "2 of 3 lakes" in note and "area of interest" in note for note in result.notes
    )
    with pytest.raises(LabelError, match="lies elsewhere"):
        lake_statistics(path, CONFIG, reference=layer(tmp_path / "far.gpkg", [square(7000, 0)]))


# --- elevation


def dem(path, grid=None, nodata=None) -> str:
    """Pixels of 30 m: 4000 m at the top left, one metre less per row, a tenth more per column."""
    grid = grid or helpers.utm(60, 50, 30.0, X, Y + 1500, 32645)
    heights = (4000.0 - np.arange(grid.height)[:, None] + 0.1 * np.arange(grid.width)).astype(np.float32)
    if nodata is not None:
        heights[:, :20] = nodata
    return helpers.write_raster(path, heights, grid, nodata=nodata)


def test_elevation_is_the_mean_of_the_pixels_inside(tmp_path, monkeypatch):
    # 600 m x 600 m at the bottom are rows 30..49 and columns 10..29; the small one lies in row 49, column 50, between pixel centres
    path = layer(tmp_path / "m.gpkg", [square(300, 0, 600, 600), square(1502, 2, 8, 8), square(90_000, 0), square(1780, 1480)])
    wanted = [4000 - 39.5 + 1.95, 4000 - 49 + 5, np.nan, 4000 + 5.9]
    for block in (1024, 16):
        monkeypatch.setattr(inventory, "BLOCK", block)
        result = lake_statistics(path, LakesConfig(band_height=10), dem=dem(tmp_path / f"{block}.tif"))
        np.testing.assert_allclose(result.lakes.elevation_m, wanted, rtol=1e-7)
    bands = [row for row in result.rows if row["by"] == "elevation band"]  # 3962.45, 3956 and 4005.9 m
    assert [(row["class"], row["number"]) for row in bands] == [
        ("3950–3960 m", 1),
        ("3960–3970 m", 1),
        ("4000–4010 m", 1),
        ("not known", 1),
    ]
    cross = [cell for cell in result.cross if cell["band"] == "3960–3970 m" and cell["number"]]
    assert len(cross) == 1 and cross[0]["size_class"] == "0.1–1 km²" and cross[0]["area_km2"] == pytest.approx(0.36 * TRUE)


def test_elevation_model_in_another_crs_and_with_nodata(tmp_path):
    path = layer(tmp_path / "m.gpkg", [square(0, 0, 300, 600), square(900, 0, 300, 600)])
    result = lake_statistics(path, CONFIG, dem=dem(tmp_path / "n.tif", nodata=-9999))
    np.testing.assert_allclose(result.lakes.elevation_m, [np.nan, 3960.5 + 3.45])
    gdal.Warp(str(tmp_path / "w.tif"), dem(tmp_path / "d.tif"), dstSRS="EPSG:4326", dstNodata=-1)
    result = lake_statistics(path, CONFIG, dem=str(tmp_path / "w.tif"))
    np.testing.assert_allclose(result.lakes.elevation_m, [3960.5 + 0.45, 3960.5 + 3.45], atol=0.6)


def test_which_elevation_is_taken(tmp_path):
    path = layer(tmp_path / "m.gpkg", [square(0, 0, 300, 600), square(900, 0, 300, 600)], elevation_m=[100.0, None], height=["250", "x"])
    heights = dem(tmp_path / "d.tif")

    def told(**options):
        config = LakesConfig(elevation_field=options.pop("field", ""))
        return lake_statistics(path, config, **options).lakes.elevation_m.tolist()

    assert told() == pytest.approx([100, np.nan], nan_ok=True)
    assert told(dem=heights) == pytest.approx([3960.95, 3963.95])
    assert told(field="height") == pytest.approx([250, np.nan], nan_ok=True)
    assert told(field="height", dem=heights) == pytest.approx([250, 3963.95])
    with pytest.raises(LabelError, match="no field 'depth'") as refused:
        told(field="depth")
    assert "elevation_m, height" in refused.value.remedy


def test_recall_by_elevation(tmp_path):
    path = layer(tmp_path / "m.gpkg", [square(0, 0), square(600, 0)], elevation_m=[4100.0, 4600.0])
    reference = layer(tmp_path / "r.gpkg", [square(0, 0), square(300, 0), square(600, 0)], elevation_m=[4100.0, 4200.0, 4600.0])
    rows = {row["class"]: row for row in lake_statistics(path, CONFIG, reference=reference).rows}
    assert rows["4000–4500 m"]["recall"] == 0.5 and rows["4500–5000 m"]["recall"] == 1 and rows["4000–4500 m"]["precision"] == 1


def test_elevation_model_elsewhere_is_refused(tmp_path):
    path = layer(tmp_path / "m.gpkg", [square(0, 0)])
    with pytest.raises(LabelError, match="covers none of the lakes"):
        lake_statistics(path, CONFIG, dem=dem(tmp_path / "far.tif", helpers.utm(20, 20, 30.0, X + 1e5, Y, 32645)))
    with pytest.raises(GridMismatchError, match="CRS"):
        lake_statistics(path, CONFIG, dem=helpers.write_raster(tmp_path / "no.tif", np.ones((5, 5), np.float32), helpers.Grid(5, 5)))


# --- layers of strangers

BOW = f"POLYGON(({X} {Y},{X + 100} {Y + 100},{X + 100} {Y},{X} {Y + 100},{X} {Y}))"  # two triangles of 2500 m2
SPIKE = f"POLYGON(({X} {Y},{X + 100} {Y},{X + 300} {Y},{X + 100} {Y},{X + 100} {Y + 100},{X} {Y + 100},{X} {Y}))"
LINE = f"LINESTRING({X} {Y},{X + 100} {Y})"


def test_invalid_outlines_are_made_valid_and_it_is_told(tmp_path):
    twice = multi(square(500, 0), square(550, 0))
    told = []
    path = layer(
        tmp_path / "m.gpkg", [BOW, SPIKE, twice, square(1000, 0), "POLYGON EMPTY", LINE, f"POLYGON(({X} {Y},{X + 9} {Y},{X} {Y}))"]
    )
    result = lake_statistics(path, CONFIG, progress=lambda _, line="": told.append(line))
    np.testing.assert_allclose(result.lakes.area_m2, np.array([5000, 10_000, 15_000, 10_000]) * TRUE, rtol=1e-6)
    assert all(g.IsValid() for g in result.lakes.geometries)
    assert "Warning: Lakes: 4 invalid outlines were made valid." in told and "Warning: Lakes: 1 lines or points were left out." in told
    assert "Warning: Lakes: 2 features without an outline were left out." in told
    number = lake_statistics(path, CONFIG, reference=path).numbers()
    assert number["FOUND"] == 4 and number["F1"] == 1


def test_heights_curves_and_collections(tmp_path):
    z = square(0, 0).replace("POLYGON", "POLYGON Z").replace(",", " 4000,").replace("))", " 4000))")
    x, y = X + 1000, Y
    circle = f"CURVEPOLYGON(CIRCULARSTRING({x} {y},{x + 100} {y + 100},{x + 200} {y},{x + 100} {y - 100},{x} {y}))"
    mixed = f"GEOMETRYCOLLECTION({square(2000, 0)},{LINE},{square(2200, 0)})"
    result = lake_statistics(layer(tmp_path / "m.gpkg", [z, circle, mixed]), CONFIG)
    np.testing.assert_allclose(result.lakes.area_m2, np.array([1e4, np.pi * 1e4, 2e4]) * TRUE, rtol=1e-3)
    assert not any(g.Is3D() for g in result.lakes.geometries)


def test_each_part_can_be_a_lake(tmp_path):
    many = multi(*(square(150 * k, 0) for k in range(60)))
    path = layer(tmp_path / "m.gpkg", [many, square(0, 500)])
    one, parts = lake_statistics(path, CONFIG), lake_statistics(path, LakesConfig(parts=True))
    assert one.numbers()["COUNT"] == 2 and any("60 parts" in note and "PARTS" in note for note in one.notes)
    assert parts.numbers()["COUNT"] == 61 and not parts.notes and one.numbers()["AREA_KM2"] == pytest.approx(parts.numbers()["AREA_KM2"])
    assert set(parts.lakes.numbers.tolist()) == {1, 2}


def test_layers_without_crs(tmp_path):
    bare, with_crs = layer(tmp_path / "a.gpkg", [square(0, 0)], ""), layer(tmp_path / "b.gpkg", [square(0, 0)])
    result = lake_statistics(bare, CONFIG, reference=bare)
    assert (
        result.numbers()["AREA_KM2"] == pytest.approx(0.01)
        and result.numbers()["F1"] == 1
        and any("taken as a metre" in n for n in result.notes)
    )
    for one, other in ((bare, with_crs), (with_crs, bare)):
        with pytest.raises(LabelError, match="Only one of the two layers has a coordinate reference system"):
            lake_statistics(one, CONFIG, reference=other)


def test_what_is_no_layer_of_lakes_is_refused_with_its_name(tmp_path):
    good = layer(tmp_path / "good.gpkg", [square(0, 0)])
    lines = layer(tmp_path / "lines.gpkg", [LINE])
    with pytest.raises(LabelError, match="The lakes can't be used: .* no polygons"):
        lake_statistics(lines, CONFIG)
    with pytest.raises(LabelError, match="The inventory can't be used: .* no polygons"):
        lake_statistics(good, CONFIG, reference=lines)
    with pytest.raises(LabelError, match="The area of interest can't be used: There is no file"):
        lake_statistics(good, CONFIG, area=str(tmp_path / "none.gpkg"))
    empty = helpers.write_layer(tmp_path / "empty.gpkg", [], UTM, layer="lakes")
    with pytest.raises(LabelError, match="The inventory has no lakes"):
        lake_statistics(good, CONFIG, reference=empty)
    with pytest.raises(LabelError, match="The area of interest is empty"):
        lake_statistics(good, CONFIG, area=empty)
    with pytest.raises(OutputError):
        lake_statistics(good, CONFIG, csv=str(tmp_path / "no folder" / "a.csv"))


def test_a_layer_as_qgis_names_it(tmp_path):
    path = layer(tmp_path / "m.gpkg", [square(0, 0), square(300, 0)], kind=["lake", "river"])
    assert lake_statistics(f"{path}|layername=lakes|subset=\"kind\" = 'lake'", CONFIG).numbers()["COUNT"] == 1


def test_lakes_on_the_other_side_of_the_earth_meet_none(tmp_path):
    """A world inventory: what UTM can't draw is missed, not an error, nor a lake in the wrong place."""
    path = layer(tmp_path / "m.gpkg", [square(0, 0)])
    antipode = "POLYGON((-93 -28,-92.99 -28,-92.99 -27.99,-93 -27.99,-93 -28))"
    beyond = "POLYGON((176.99 -0.01,177.01 -0.01,177.01 0.01,176.99 0.01,176.99 -0.01))"  # the cylinder ends there
    reference = layer(tmp_path / "r.gpkg", [moved(square(0, 0), DEGREES), antipode, beyond], DEGREES)
    result = lake_statistics(path, CONFIG, reference=reference)
    assert result.match.found.tolist() == [True, False, False] and result.match.right.tolist() == [True]
    assert any("1 of its lakes can't be drawn" in note for note in result.notes)
    assert [len(wkb) > 50 for wkb, _ in result.features()] == [True, True, False, True]


def test_a_lake_across_the_date_line_covers_nothing_else(tmp_path):
    """Drawn in degrees, the second one would run round the earth, over the lake at the prime meridian."""
    there = [f"POLYGON(({x} 73e5,{x + 1e4} 73e5,{x + 1e4} 731e4,{x} 731e4,{x} 73e5))" for x in (600_000, 630_000)]
    reference = layer(tmp_path / "r.gpkg", there, helpers.crs(32660))
    here = ["POLYGON((0 65.83,0.01 65.83,0.01 65.84,0 65.84,0 65.83))", "POLYGON((179 65,179.5 65,179.5 66,179 66,179 65))"]
    result = lake_statistics(layer(tmp_path / "m.gpkg", here, DEGREES), CONFIG, reference=reference)
    assert result.match.found.tolist() == [True, False] and result.match.on[0] == 0
    assert any("1 of its lakes can't be drawn" in note for note in result.notes)


# --- what is written


def test_table_and_figures(tmp_path):
    path, reference, _ = everything(tmp_path)
    result = lake_statistics(path, CONFIG, reference=reference, csv=str(tmp_path / "t.csv"), json_path=str(tmp_path / "f.json"))
    with open(tmp_path / "t.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [row["class"] for row in result.rows] and rows[0]["by"] == "all"
    assert int(rows[0]["found"]) == result.numbers()["FOUND"] and float(rows[0]["recall_low"]) < float(rows[0]["recall"]) < float(
        rows[0]["recall_high"]
    )
    assert rows[3]["recall"] == rows[3]["recall_low"] == ""  # no such lake in the inventory
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert figures["found"] == result.numbers()["FOUND"] and figures["settings"]["found_share"] == 50 and len(figures["table"]) == len(rows)
    alone = lake_statistics(path, CONFIG, csv=str(tmp_path / "u.csv"))
    assert (tmp_path / "u.csv").read_text(encoding="utf-8-sig").splitlines()[
        0
    ] == "by,class,from,to,number,area_km2" and alone.match is None


@pytest.mark.parametrize("count", [0, 1, 60])
@pytest.mark.parametrize("compared", [False, True])
def test_report(tmp_path, count, compared):
    outlines = round_lakes(5)[:count]
    heights = {"elevation_m": [4000.0 + 40 * k for k in range(count)]} if count else {}
    path = (
        helpers.write_layer(tmp_path / "<b>m&.gpkg", [], UTM, layer="lakes")
        if not count
        else layer(tmp_path / "<b>m&.gpkg", outlines, **heights)
    )
    reference = layer(tmp_path / "r.gpkg", round_lakes(5)[: max(count, 1)]) if compared else ""
    lake_statistics(path, LakesConfig(), reference=reference, report=str(tmp_path / "r.html"))
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<b>m" not in page and "&lt;b&gt;m&amp;.gpkg" in page and "://" not in page and "<script" not in page
    assert ("By elevation" in page) == bool(count) and "By size" in page and ("Against the inventory" in page) == compared
    assert page.count("<svg") == 1 + bool(count) + compared * (1 + 2 * (count > 20)) and "nan" not in page.lower().replace("nanjing", "")


def test_cancel_is_heard_everywhere(tmp_path):
    class Stop(Exception):
        pass

    path, reference = layer(tmp_path / "m.gpkg", round_lakes(1)), layer(tmp_path / "r.gpkg", round_lakes(2))
    calls = []
    lake_statistics(path, CONFIG, reference=reference, dem="", progress=lambda fraction, _="": calls.append(fraction))
    assert calls == sorted(calls) and calls[-1] <= 1
    for stop in range(len(calls)):
        left = [stop]

        def progress(_, line="", left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Stop

        with pytest.raises(Stop):
            lake_statistics(path, CONFIG, reference=reference, csv=str(tmp_path / "t.csv"), progress=progress)
        assert not (tmp_path / "t.csv").exists()


def test_lakes_that_are_gone_do_not_count(tmp_path):
    grid = helpers.utm(100, 100)
    features = [
        (helpers.box(grid, 10 * k, 10, 5, 5), {"status": status, "change_m2": 1.0})
        for k, status in enumerate(("new", "gone", "unmapped", "same"))
    ]
    found = inventory.read(helpers.write_layer(tmp_path / "changes.gpkg", features, grid.crs))
    assert len(found.geometries) == 3 and any("1 lakes that are gone" in note for note in found.notes)
    others = [(wkt, {"status": "gone"}) for wkt, _ in features]  # another's field of that name means something else
    assert len(inventory.read(helpers.write_layer(tmp_path / "others.gpkg", others, grid.crs)).geometries) == 4
    assert not inventory.read(helpers.write_layer(tmp_path / "gone.gpkg", features[1:2], grid.crs)).geometries
