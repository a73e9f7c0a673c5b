"""Maps against truth: figures as scikit-learn gives them, from any kind of raster and truth, in blocks as from the whole."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from tests.helpers import box, load_json, utm, write_layer, write_raster
from water_dl_plugin.engine import assess as module
from water_dl_plugin.engine.assess import assess
from water_dl_plugin.engine.errors import ConfigError, GridMismatchError, LabelError, OutputError, RasterError, WaterError
from water_dl_plugin.engine.maps import CLASSES_KEY
from water_dl_plugin.engine.raster import Grid
from water_dl_plugin.engine.settings import AssessConfig

GRID = utm(120, 90)
NAMES = ("land", "water")


def tags(names=NAMES, values=None, **more):
    classes = [{"value": v, "name": n, "colour": [9, 9, v]} for n, v in zip(names, values or range(len(names)))]
    return {CLASSES_KEY: json.dumps(classes), **more}


def random_map(classes=2, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (9, 12)).repeat(10, 0).repeat(10, 1)
    return truth, np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, classes, truth.shape)).astype(np.uint8)


def probabilities(seed=0):
    truth, _ = random_map(seed=seed)
    rng = np.random.default_rng(seed + 50)
    return truth, np.clip(0.5 + 0.25 * (truth * 2 - 1) + rng.normal(0, 0.25, truth.shape), 0, 1).astype(np.float32)


def class_raster(path, pixels, nodata=255, **kw):
    return write_raster(path, pixels.astype(np.uint8), GRID, nodata, tags=kw.pop("tags", tags()))


def truth_raster(path, truth, known=None, offset=0):
    values = truth + offset
    return write_raster(path, np.where(known, values, 255).astype(np.uint8) if known is not None else values.astype(np.uint8), GRID, 255)


def squares(path, truth, chosen, names=NAMES, field="class"):
    """Truth polygons: the 10 px squares with these numbers."""
    return write_layer(
        path,
        [(box(GRID, 10 * (n % 12), 10 * (n // 12), 10, 10), {field: names[truth[10 * (n // 12), 10 * (n % 12)]]}) for n in chosen],
        GRID.crs,
    )


def matrix_of(result):
    return result.matrix.ravel().tolist()


def compare(result, truth, guess, classes=2):
    """All figures as of scikit-learn."""
    truth, guess = np.asarray(truth).ravel(), np.asarray(guess).ravel()
    ids, scores = list(range(classes)), result.scores
    np.testing.assert_array_equal(result.matrix, sk.confusion_matrix(truth, guess, labels=ids))
    for name, function in (("recall", sk.recall_score), ("precision", sk.precision_score), ("f1", sk.f1_score), ("iou", sk.jaccard_score)):
        np.testing.assert_allclose(scores[name], function(truth, guess, labels=ids, average=None), atol=1e-12)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert scores["kappa"] == pytest.approx(sk.cohen_kappa_score(truth, guess)) and scores["mcc"] == pytest.approx(
        sk.matthews_corrcoef(truth, guess)
    )
    k = result.positive
    hits, misses, false = ((truth == k) & (guess == k)).sum(), ((truth == k) & (guess != k)).sum(), ((truth != k) & (guess == k)).sum()
    expected = {"pod": hits / (hits + misses), "far": false / (hits + false), "csi": hits / (hits + misses + false)}
    assert {n: result.detection[n] for n in expected} == pytest.approx(expected)


def test_class_raster_and_truth_raster(tmp_path):
    truth, guess = random_map()
    known = np.random.default_rng(9).random(truth.shape) < 0.6
    shown = guess.copy()
    shown[5:9, 20:40] = 255
    result = assess(class_raster(tmp_path / "m.tif", shown), truth_raster(tmp_path / "t.tif", truth, known), AssessConfig())
    use = known & (shown != 255)
    compare(result, truth[use], guess[use])
    assert [c.name for c in result.classes] == ["land", "water"] and result.unmapped == (known & (shown == 255)).sum()
    assert result.curve is None and result.best_threshold is None and result.intervals is None and result.threshold is None


@pytest.mark.parametrize("classes", [2, 4])
def test_class_raster_and_polygons(tmp_path, classes):
    names = ("land", "mud", "ice", "water")[-classes:] if classes == 4 else NAMES
    truth, guess = random_map(classes)
    chosen = [3, 7, 11, 20, 26, 40, 41, 55, 60, 73, 90, 100]
    result = assess(
        class_raster(tmp_path / "m.tif", guess, tags=tags(names)),
        squares(tmp_path / "t.gpkg", truth, chosen, names),
        AssessConfig(class_field="class"),
    )
    use = np.isin((np.arange(90) // 10)[:, None] * 12 + np.arange(120) // 10, chosen)
    compare(result, truth[use], guess[use], classes)
    assert ("Truth features", 12) in result.facts


def test_probability_raster_its_threshold_and_its_curve(tmp_path):
    truth, chance = probabilities()
    shown = chance.copy()
    shown[:4] = -1
    path = write_raster(tmp_path / "p.tif", shown, GRID, -1, tags=tags(WATERDL_THRESHOLD="0.4"))
    where = truth_raster(tmp_path / "t.tif", truth)
    y, p = truth[4:].ravel(), chance[4:].ravel()
    for threshold, used in ((None, 0.4), (0.7, 0.7), (0.0, 0.0)):
        result = assess(path, where, AssessConfig(threshold=threshold))
        assert result.threshold == used and result.unmapped == 4 * 120
        matrix = sk.confusion_matrix(y, p >= np.float32(used))
        np.testing.assert_array_equal(result.matrix, matrix)
    ious = [sk.jaccard_score(y, p >= np.float32(t)) for t in np.arange(0, 1.001, 0.02)]
    assert (
        result.best_threshold[1] == pytest.approx(max(sk.jaccard_score(y, p >= np.float32(result.best_threshold[0])), 0))
        and result.best_threshold[1] >= max(ious) - 1e-12
    )
    land = assess(path, where, AssessConfig(positive="land"))
    assert (
        land.curve.average_precision() == pytest.approx(sk.average_precision_score(1 - y, 1 - p), abs=2e-3)
        and land.detection["hits"] == matrix_of(land)[0]
    )
    assert result.curve.average_precision() == pytest.approx(
        sk.average_precision_score(y, np.floor(p.astype(float) * 1000) / 1000), abs=1e-3
    )


def test_probabilities_of_several_classes(tmp_path):
    truth, _ = random_map(3)
    rng = np.random.default_rng(1)
    given = rng.random((3, *truth.shape)) + 0.5 * (np.arange(3)[:, None, None] == truth)
    given = (given / given.sum(0)).astype(np.float32)
    path = write_raster(tmp_path / "p.tif", given, GRID, -1, tags=tags(("land", "ice", "water")))
    result = assess(path, truth_raster(tmp_path / "t.tif", truth), AssessConfig(positive="land"))
    compare(result, truth, given.argmax(0), 3)
    assert result.positive == 0 and result.curve.average_precision() == pytest.approx(
        sk.average_precision_score((truth == 0).ravel(), given[0].ravel()), abs=1e-3
    )
    bare = write_raster(tmp_path / "b.tif", given, GRID, -1)
    with pytest.raises(ConfigError, match="names of its classes are not known"):
        assess(bare, truth_raster(tmp_path / "t.tif", truth), AssessConfig())
    named = assess(bare, truth_raster(tmp_path / "t.tif", truth), AssessConfig(classes="land, ice, water"))
    np.testing.assert_array_equal(named.matrix, result.matrix)
    swapped = assess(
        bare, truth_raster(tmp_path / "t.tif", truth), AssessConfig(classes="water=2, ice=1, land=0")
    )  # bands are in the order of the values
    np.testing.assert_array_equal(swapped.matrix, result.matrix)


def test_classes_are_matched_by_name_by_value_or_as_told(tmp_path):
    truth, guess = random_map()
    named = class_raster(tmp_path / "named.tif", guess)
    bare = class_raster(tmp_path / "bare.tif", guess, tags={})
    other = class_raster(tmp_path / "other.tif", np.array([20, 10], np.uint8)[guess], tags={})
    by_name = squares(tmp_path / "n.gpkg", truth, range(108))
    by_value = squares(tmp_path / "v.gpkg", truth, range(108), (0, 1), "code")
    for path, where, changes in (
        (named, by_name, {"class_field": "class"}), (named, by_value, {"class_field": "code"}), (bare, by_value, {"class_field": "code"}),
        (bare, by_name, {"class_field": "class", "classes": "land=0, water=1"}), (other, by_name, {"class_field": "class", "classes": "land=20, water=10"}),
    ):  # fmt: skip
        result = assess(path, where, AssessConfig(**changes))
        compare(result, truth, guess)
    with pytest.raises(LabelError, match=r"Truth \(land, water\) and map \(0, 1\) share no class"):
        assess(bare, by_name, AssessConfig(class_field="class"))


def test_category_names_of_a_raster_are_its_classes(tmp_path):
    from osgeo import gdal

    truth, guess = random_map()
    path = class_raster(tmp_path / "m.tif", guess, tags={})
    data = gdal.Open(path, gdal.GA_Update)
    data.GetRasterBand(1).SetCategoryNames(["land", "water"])
    data = None
    compare(assess(path, squares(tmp_path / "t.gpkg", truth, range(108)), AssessConfig(class_field="class")), truth, guess)


@pytest.mark.parametrize("wrong", ["land=x", "land=300, water=1", "=1", "land=-1", "land=1, water=1", "a=1, a=2", "land=\u00b2, b=1"])
def test_classes_that_can_not_be_understood(tmp_path, wrong):
    truth, guess = random_map()
    with pytest.raises(ConfigError, match="land=0, water=1"):
        assess(class_raster(tmp_path / "m.tif", guess), truth_raster(tmp_path / "t.tif", truth), AssessConfig(classes=wrong))


@pytest.mark.parametrize("background", [False, True])
def test_a_truth_class_that_the_map_has_not_is_told_and_ignored(tmp_path, background):
    _, guess = random_map()
    features = [
        (box(GRID, 0, 0, 30, 30), {"class": "water"}),
        (box(GRID, 40, 0, 30, 30), {"class": "land"}),
        (box(GRID, 80, 40, 20, 20), {"class": "ice"}),
    ]
    said = []
    result = assess(
        class_raster(tmp_path / "m.tif", guess), write_layer(tmp_path / "t.gpkg", features, GRID.crs),
        AssessConfig(class_field="class", unlabelled="background" if background else "ignored"), progress=lambda f, m="": said.append(m),
    )  # fmt: skip
    here = np.zeros((90, 120), int) if background else np.full((90, 120), -1)
    here[:30, :30], here[:30, 40:70], here[40:60, 80:100] = 1, 0, -1
    compare(result, here[here >= 0], guess[here >= 0])
    assert any("no class ice" in m for m in said) and ("Truth classes that the map does not know (ignored)", "ice") in result.facts


def test_unlabelled_as_background_with_and_without_a_class_field(tmp_path):
    _, guess = random_map()
    path = class_raster(tmp_path / "m.tif", guess)
    lakes = write_layer(
        tmp_path / "l.gpkg", [(box(GRID, 10, 10, 35, 50), {"class": "water"}), (box(GRID, 70, 20, 20, 40), {"class": "water"})], GRID.crs
    )
    here = np.zeros((90, 120), int)
    here[10:60, 10:45] = here[20:60, 70:90] = 1
    for field in ("class", ""):
        compare(assess(path, lakes, AssessConfig(class_field=field, unlabelled="background")), here, guess)
    with pytest.raises(ConfigError, match="one class only"):
        assess(path, lakes, AssessConfig())
    with pytest.raises(ConfigError, match="must be the last one"):
        assess(path, lakes, AssessConfig(unlabelled="background", positive="land"))


def test_area_of_interest_and_truth_in_points(tmp_path):
    truth, guess = random_map()
    path, where = class_raster(tmp_path / "m.tif", guess), truth_raster(tmp_path / "t.tif", truth)
    area = write_layer(tmp_path / "a.gpkg", [(box(GRID, 15, 20, 50, 40), {})], GRID.crs)
    compare(assess(path, where, AssessConfig(), area=area), truth[20:60, 15:65], guess[20:60, 15:65])
    rng = np.random.default_rng(3)
    cells = rng.choice(90 * 120, 200, replace=False)
    points = [("POINT({} {})".format(*GRID.to_map(c % 120 + 0.5, c // 120 + 0.5)), {"class": NAMES[truth.ravel()[c]]}) for c in cells]
    result = assess(path, write_layer(tmp_path / "p.gpkg", points, GRID.crs), AssessConfig(class_field="class"))
    compare(result, truth.ravel()[cells], guess.ravel()[cells])
    assert result.intervals["units"] == 200


@pytest.mark.parametrize("block", [7, 32, 1000])
def test_blocks_give_what_the_whole_gives(tmp_path, monkeypatch, block):
    truth, chance = probabilities()
    path = write_raster(tmp_path / "p.tif", chance, GRID, -1, tags=tags())
    where = squares(tmp_path / "t.gpkg", truth, range(0, 108, 3))
    whole = assess(path, where, AssessConfig(class_field="class"))
    monkeypatch.setattr(module, "BLOCK", block)
    parts = assess(path, where, AssessConfig(class_field="class"))
    np.testing.assert_array_equal(parts.matrix, whole.matrix)
    np.testing.assert_allclose(parts.areas_m2, whole.areas_m2, rtol=1e-9)
    np.testing.assert_array_equal(parts.curve.positive, whole.curve.positive)
    assert parts.intervals["units"] == whole.intervals["units"] == 36 and parts.best_threshold == whole.best_threshold
    np.testing.assert_allclose(parts.intervals["iou"], whole.intervals["iou"], atol=0.02)  # features are drawn in another order


def test_areas_are_those_of_the_ground(tmp_path):
    """UTM at the central meridian: a pixel of 10 m covers 100 m2 / 0.9996^2."""
    grid = utm(120, 90, x=499_400.0)
    truth, guess = random_map()
    shown = guess.copy()
    shown[:9] = 255
    path = write_raster(tmp_path / "m.tif", shown, grid, 255, tags=tags())
    known = np.zeros(truth.shape, bool)
    known[20:50] = True
    where = write_raster(tmp_path / "t.tif", np.where(known, truth, 255).astype(np.uint8), grid, 255)
    result = assess(path, where, AssessConfig())
    pixel = 100 / 0.9996**2
    for k in (0, 1):
        assert result.areas_m2[k][0] == pytest.approx((truth[20:50] == k).sum() * pixel, rel=1e-5)
        assert result.areas_m2[k][1] == pytest.approx((guess[20:50] == k).sum() * pixel, rel=1e-5)
        assert result.mapped_area_m2[k] == pytest.approx((guess[9:] == k).sum() * pixel, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_figures(tmp_path, seed):
    truth, guess = random_map(seed=seed)
    config = AssessConfig(class_field="class", seed=seed)
    path, where = class_raster(tmp_path / "m.tif", guess), squares(tmp_path / "t.gpkg", truth, range(0, 108, 2))
    result = assess(path, where, config)
    assert result.intervals["units"] == 54
    for name in ("accuracy", "kappa", "mcc", "mean_iou"):
        low, high = result.intervals[name]
        assert low < result.scores[name] < high and high - low < 0.2
    for name in ("iou", "f1", "recall", "precision"):
        for (low, high), value in zip(result.intervals[name], result.scores[name]):
            assert low < value < high
    assert (
        assess(path, where, config).intervals
        == result.intervals
        != assess(path, where, AssessConfig(class_field="class", seed=99)).intervals
    )


def test_what_is_written_equals_the_figures(tmp_path):
    truth, chance = probabilities()
    path = write_raster(tmp_path / "p.tif", chance, GRID, -1, tags=tags(WATERDL_MODEL="lakes.onnx 0123", WATERDL_SETTINGS="{broken"))
    result = assess(
        path, squares(tmp_path / "t.gpkg", truth, range(0, 108, 2)), AssessConfig(class_field="class"),
        report=str(tmp_path / "r.html"), csv=str(tmp_path / "r.csv"), json_path=str(tmp_path / "r.json"),
    )  # fmt: skip
    data = load_json(tmp_path / "r.json")
    assert (
        data["confusion_matrix"] == result.matrix.tolist() and data["classes"] == ["land", "water"] and data["class_of_interest"] == "water"
    )
    assert (
        data["iou"] == result.scores["iou"] and data["detection"] == result.detection and data["best_threshold"] == result.best_threshold[0]
    )
    assert data["areas_m2"]["map"] == [b for _, b in result.areas_m2] and data["threshold"] == 0.5
    with open(tmp_path / "r.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["class"] for r in rows] == ["land", "water", "all"]
    for k in (0, 1):
        for name in ("recall", "precision", "f1", "iou"):
            assert float(rows[k][name]) == result.scores[name][k]
        assert int(rows[k]["truth_pixels"]) == result.matrix[k].sum() and float(rows[k]["truth_area_m2"]) == result.areas_m2[k][0]
    for name in ("accuracy", "kappa", "mcc"):
        assert float(rows[2][name]) == result.scores[name]
    for name in ("pod", "far", "csi", "bias"):
        assert float(rows[2][name]) == result.detection[name]
    page = (tmp_path / "r.html").read_text()
    assert (
        "lakes.onnx 0123" in page
        and f"{result.scores['mean_iou']:.3f}"[:5] in page
        and "http://" not in page.replace("http://www.w3.org", "")
    )
    numbers = result.numbers()
    assert numbers["IOU"] == result.scores["iou"][1] and numbers["BEST_THRESHOLD"] == result.best_threshold[0]
    assert any(line.startswith("water: IoU") for line in result.lines())


def test_undefined_figures_are_none_not_nan(tmp_path):
    path = class_raster(tmp_path / "m.tif", np.zeros((90, 120)))
    result = assess(path, truth_raster(tmp_path / "t.tif", np.zeros((90, 120), int)), AssessConfig(), json_path=str(tmp_path / "r.json"))
    assert result.numbers()["IOU"] is None and result.numbers()["ACCURACY"] == 1.0 and math.isnan(result.scores["recall"][1])
    assert load_json(tmp_path / "r.json")["iou"] == [1.0, None]


# ------------------------------------------------------------------------------------------------------------------ odd and bad input


def test_whole_numbers_in_a_float_raster_are_classes(tmp_path):
    truth, guess = random_map(3)
    path = write_raster(tmp_path / "m.tif", np.where(guess == 0, -9999, guess).astype(np.float32), GRID, -9999)
    result = assess(path, truth_raster(tmp_path / "t.tif", truth), AssessConfig(classes="land=0, mud=1, water=2"))
    assert result.curve is None
    np.testing.assert_array_equal(result.matrix, sk.confusion_matrix(truth[guess > 0], guess[guess > 0], labels=[0, 1, 2]))
    found = assess(
        path, truth_raster(tmp_path / "t.tif", truth), AssessConfig()
    )  # names none: its values are its classes, 0 is not among them
    assert [c.name for c in found.classes] == ["1", "2"] and ("Truth classes that the map does not know (ignored)", "0") in found.facts


def test_zero_and_one_in_a_float_raster_are_probabilities(tmp_path):
    truth, guess = random_map()
    result = assess(
        write_raster(tmp_path / "m.tif", guess.astype(np.float32), GRID), truth_raster(tmp_path / "t.tif", truth), AssessConfig()
    )
    compare(result, truth, guess)
    assert result.curve is not None and [c.name for c in result.classes] == ["other", "water"]


def test_what_is_neither_classes_nor_probabilities(tmp_path):
    truth, guess = random_map()
    where = truth_raster(tmp_path / "t.tif", truth)
    for name, pixels, kind, told in (
        ("percent", probabilities()[1] * 100, GridMismatchError, "outside 0..1"), ("negative", probabilities()[1] - 0.5, GridMismatchError, "outside 0..1"),
        ("two", np.stack([guess, guess]), ConfigError, "2 bands"), ("large", np.arange(90 * 120).reshape(90, 120).astype(np.int16), ConfigError, "beyond 0 to 254"),
        ("minus", guess.astype(np.int16) - 5, ConfigError, "beyond 0 to 254"),
    ):  # fmt: skip
        with pytest.raises(kind, match=told):
            assess(write_raster(tmp_path / f"{name}.tif", pixels, GRID), where, AssessConfig())
    byte = write_raster(tmp_path / "byte.tif", (probabilities()[1] * 250).astype(np.uint8) + 3, GRID)
    with pytest.raises(LabelError, match="share no class"):
        assess(byte, where, AssessConfig())


@pytest.mark.parametrize(
    "more",
    [
        {CLASSES_KEY: "{"},
        {CLASSES_KEY: "[5]"},
        {CLASSES_KEY: json.dumps([{"value": 999, "name": "x"}])},
        {"WATERDL_THRESHOLD": "high"},
        {"WATERDL_THRESHOLD": "nan"},
    ],
)
def test_edited_metadata_does_no_harm(tmp_path, more):
    truth, chance = probabilities()
    result = assess(write_raster(tmp_path / "p.tif", chance, GRID, tags=more), truth_raster(tmp_path / "t.tif", truth), AssessConfig())
    assert result.threshold == 0.5
    compare(result, truth, chance >= 0.5)


def test_truth_that_can_not_be_used(tmp_path):
    truth, guess = random_map()
    path = class_raster(tmp_path / "m.tif", guess)
    far = utm(120, 90, x=900_000.0)
    outside = write_layer(
        tmp_path / "far.gpkg", [(box(far, 0, 0, 9, 9), {"class": "water"}), (box(far, 20, 0, 9, 9), {"class": "land"})], far.crs
    )
    empty = write_layer(
        tmp_path / "e.gpkg",
        [(box(GRID, 0, 0, 9, 9), {"class": None, "other": "x"}), (box(GRID, 0, 0, 9, 9), {"class": "water", "other": "y"})],
        GRID.crs,
    )
    no_crs = write_layer(tmp_path / "n.gpkg", [(box(GRID, 0, 0, 9, 9), {"class": "water"})], "")
    hidden = class_raster(tmp_path / "h.tif", np.full((90, 120), 255))
    good = squares(tmp_path / "g.gpkg", truth, range(9))
    for raster, where, changes, told in (
        (path, outside, {"class_field": "class"}, "outside the raster"), (path, empty + "|subset=other = 'x'", {"class_field": "class"}, "empty"),
        (path, good, {"class_field": "klass"}, "no field 'klass'"), (path, no_crs, {"class_field": "class"}, "no coordinate reference system"),
        (path, str(tmp_path / "nix.gpkg"), {}, "no file"), (hidden, good, {"class_field": "class"}, "No truth pixel"),
    ):  # fmt: skip
        with pytest.raises(LabelError, match=told):
            assess(raster, where, AssessConfig(**changes), json_path=str(tmp_path / "out.json"))
    with pytest.raises(LabelError, match="area of interest"):
        assess(path, good, AssessConfig(class_field="class"), area=outside)
    with pytest.raises(ConfigError, match="no class 'ice'"):
        assess(path, good, AssessConfig(class_field="class", positive="ice"))
    with pytest.raises(RasterError):
        assess(str(tmp_path / "nix.tif"), good, AssessConfig(class_field="class"))
    with pytest.raises(WaterError):
        assess(
            write_raster(tmp_path / "bare.tif", guess, Grid(120, 90, GRID.transform), tags=tags()), good, AssessConfig(class_field="class")
        )
    assert not (tmp_path / "out.json").exists()


def test_outputs_are_looked_at_before_the_work(tmp_path):
    truth, guess = random_map()
    path, where, seen = class_raster(tmp_path / "m.tif", guess), truth_raster(tmp_path / "t.tif", truth), []
    for name in ("report", "csv", "json_path"):
        with pytest.raises(OutputError):
            assess(path, where, AssessConfig(), progress=lambda f, m="": seen.append(f), **{name: str(tmp_path / "nix" / "x")})
    assert not seen


def test_two_bands_of_probability_are_cut_at_the_threshold(tmp_path):
    """As the map is: a softmax over two classes has two bands, and the threshold counts for the second."""
    truth, _ = random_map()
    chance = np.where(truth == 1, 0.4, 0.2).astype(np.float32)
    path = write_raster(tmp_path / "p.tif", np.stack([1 - chance, chance]), GRID, -1, tags=tags())
    labels = truth_raster(tmp_path / "t.tif", truth)
    assert assess(path, labels, AssessConfig(threshold=0.3)).scores["accuracy"] == 1
    assert assess(path, labels, AssessConfig(threshold=0.5)).scores["recall"][1] == 0
