"""Labels on pixels: known-answer burns, classes, CRS, and every way to get them wrong."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import ogr, osr

from tests.helpers import box, crs, utm, write_layer, write_raster
from water_dl_plugin.engine.classes import MapClass
from water_dl_plugin.engine.errors import LabelError
from water_dl_plugin.engine.labels import Area, choose_classes, open_labels
from water_dl_plugin.engine.raster import Grid
from water_dl_plugin.engine.windows import Window

GRID = utm(40, 30)
TWO = [(box(GRID, 2, 3, 5, 4), {"class": "land"}), (box(GRID, 20, 10, 6, 6), {"class": "water"})]


def opened(source, field="class", order="", background=False, buffer=0.0):
    labels = open_labels(str(source), field, buffer)
    labels.use(choose_classes(labels, order, background), background)
    return labels


def count(pixels, classes=2):
    return np.bincount(pixels.ravel(), minlength=classes + 1).tolist()


def in_lonlat(wkt: str, segments: float = 5.0) -> str:
    """WKT in longitude and latitude, its edges cut into short pieces so that they stay where they were."""
    there, here = osr.SpatialReference(), osr.SpatialReference(GRID.crs)
    there.ImportFromEPSG(4326)
    for reference in (there, here):
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    geometry = ogr.CreateGeometryFromWkt(wkt)
    geometry.Segmentize(segments)
    geometry.Transform(osr.CoordinateTransformation(here, there))
    return geometry.ExportToWkt()


def test_squares_are_burnt_pixel_by_pixel(tmp_path):
    labels = opened(write_layer(tmp_path / "a.gpkg", TWO, GRID.crs))
    expected = np.zeros((30, 40), np.uint8)
    expected[3:7, 2:7] = 1
    expected[10:16, 20:26] = 2
    pixels = labels.read(GRID)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)
    part = Window(4, 5, 18, 7)
    np.testing.assert_array_equal(labels.read(GRID.part(part)), expected[part.slices])
    assert [c.name for c in labels.classes] == ["land", "water"]
    assert labels.touches(GRID) and not labels.touches(utm(40, 30, x=900_000.0))


def test_a_pixel_is_labelled_where_its_centre_is(tmp_path):
    shifted = [(box(GRID, 2.4, 3.4, 5, 4), {"class": "land"}), (box(GRID, 10.6, 10.6, 5, 4), {"class": "water"})]
    pixels = opened(write_layer(tmp_path / "a.gpkg", shifted, GRID.crs)).read(GRID)
    assert pixels[3:7, 2:7].min() == 1 and pixels[11:15, 11:16].min() == 2 and count(pixels)[1:] == [20, 20]


def test_labels_in_another_crs(tmp_path):
    moved = [(in_lonlat(wkt), values) for wkt, values in TWO]
    here = opened(write_layer(tmp_path / "a.gpkg", TWO, GRID.crs)).read(GRID)
    for name in ("b.gpkg", "b.geojson"):
        np.testing.assert_array_equal(opened(write_layer(tmp_path / name, moved, crs(4326))).read(GRID), here)


def test_later_features_lie_above(tmp_path):
    features = [(box(GRID, 0, 0, 10, 10), {"class": "water"}), (box(GRID, 5, 5, 10, 10), {"class": "land"})]
    assert count(opened(write_layer(tmp_path / "a.gpkg", features, GRID.crs)).read(GRID)) == [1200 - 175, 100, 75]
    assert count(opened(write_layer(tmp_path / "b.gpkg", features[::-1], GRID.crs)).read(GRID)) == [1200 - 175, 75, 100]


def test_points_and_lines_take_the_pixels_they_touch_and_a_buffer_in_map_units(tmp_path):
    x, y = GRID.to_map(10.5, 10.5)
    end = GRID.to_map(19.5, 20.5)
    start = GRID.to_map(10.5, 20.5)
    features = [(f"POINT({x} {y})", {"class": "water"}), (f"LINESTRING({start[0]} {start[1]},{end[0]} {end[1]})", {"class": "land"})]
    path = write_layer(tmp_path / "a.gpkg", features, GRID.crs)
    plain = opened(path).read(GRID)
    assert plain[10, 10] == 2 and count(plain) == [1200 - 11, 10, 1]
    wide = opened(path, buffer=50.0).read(GRID)
    distance = np.hypot(*(np.mgrid[:30, :40] - 10.0)) * 10
    assert (wide == 2)[distance < 49].all() and not (wide == 2)[distance > 51].any()  # the buffer is a polygon, not quite a circle
    rows = np.flatnonzero((wide == 1)[:, 15])
    assert len(rows) in (10, 11) and abs(rows.mean() - 20) <= 0.5  # 50 m to either side: 10 pixels; a centre on the edge may count
    polygon = write_layer(tmp_path / "b.gpkg", TWO, GRID.crs)
    np.testing.assert_array_equal(opened(polygon, buffer=50.0).read(GRID), opened(polygon).read(GRID))  # polygons are not widened


@pytest.mark.parametrize("values, kind, expected", [
    ((1, 4), ogr.OFTInteger, ["1", "4"]), ((1, 4), ogr.OFTInteger64, ["1", "4"]), ((1.0, 4.0), ogr.OFTReal, ["1", "4"]), (("1", "4"), ogr.OFTString, ["1", "4"]),
])  # fmt: skip
def test_class_fields_of_any_type(tmp_path, values, kind, expected):
    features = [(wkt, {"class": v}) for (wkt, _), v in zip(TWO, values)]
    labels = opened(write_layer(tmp_path / "a.gpkg", features, GRID.crs, kind=kind))
    assert [c.name for c in labels.classes] == expected
    assert [c.value for c in labels.classes] == ([1, 4] if kind != ogr.OFTString else [0, 1])
    assert count(labels.read(GRID)) == [1200 - 56, 20, 36]


def test_features_without_a_value_are_no_labels(tmp_path):
    features = [*TWO, (box(GRID, 30, 20, 5, 5), {"class": None}), (box(GRID, 0, 20, 5, 5), {"class": "  "})]
    assert count(opened(write_layer(tmp_path / "a.gpkg", features, GRID.crs)).read(GRID)) == [1200 - 56, 20, 36]


def test_not_a_number_in_a_class_field_is_no_label(tmp_path):
    features = [(TWO[0][0], {"class": 1.0}), (TWO[1][0], {"class": 2.0}), (box(GRID, 30, 20, 5, 5), {"class": float("nan")})]
    assert count(opened(write_layer(tmp_path / "a.gpkg", features, GRID.crs)).read(GRID)) == [1200 - 56, 20, 36]


def test_unlabelled_pixels_are_background_only_if_asked(tmp_path):
    path = write_layer(tmp_path / "a.gpkg", [TWO[1]], GRID.crs)
    for field in ("class", ""):
        labels = opened(path, field, background=True)
        assert [c.name for c in labels.classes] == ["background", "water" if field else "labelled"]
        assert count(labels.read(GRID)) == [0, 1200 - 36, 36]
    assert [c.name for c in opened(path, "", "lake", background=True).classes] == ["background", "lake"]
    with pytest.raises(LabelError, match="one class only"):
        opened(path)


def test_a_class_called_background_takes_the_unlabelled_pixels(tmp_path):
    features = [(TWO[0][0], {"class": "background"}), (TWO[1][0], {"class": "a lake"}), (box(GRID, 30, 20, 5, 5), {"class": "a field"})]
    path = write_layer(tmp_path / "a.gpkg", features, GRID.crs)
    labels = opened(path, background=True)
    assert [(c.value, c.name) for c in labels.classes] == [(0, "background"), (1, "a field"), (2, "a lake")]
    assert count(labels.read(GRID), 3) == [0, 1200 - 36 - 25, 25, 36]
    with pytest.raises(LabelError, match="first"):
        opened(path, order="a field, background, a lake", background=True)


def test_the_number_zero_is_background(tmp_path):
    features = [(TWO[0][0], {"class": 0}), (TWO[1][0], {"class": 3})]
    labels = opened(write_layer(tmp_path / "a.gpkg", features, GRID.crs), background=True)
    assert [(c.value, c.name) for c in labels.classes] == [(0, "0"), (3, "3")] and count(labels.read(GRID)) == [0, 1200 - 36, 36]
    with pytest.raises(LabelError, match="takes the number 0"):
        opened(tmp_path / "a.gpkg", order="3, 0", background=True)


@pytest.mark.parametrize("background", [False, True])
def test_classes_left_out_of_the_order_are_ignored_not_background(tmp_path, background):
    features = [*TWO, (box(GRID, 30, 20, 5, 5), {"class": "cloud"})]
    raster = np.zeros((30, 40), np.uint8)
    raster[3:7, 2:7], raster[10:16, 20:26], raster[20:25, 30:35] = 1, 2, 3
    for source, order in (
        (write_layer(tmp_path / "a.gpkg", features, GRID.crs), "land, water"),
        (write_raster(tmp_path / "a.tif", raster, GRID, 0), "1, 2"),
    ):
        pixels = opened(source, order=order, background=background).read(GRID)
        assert count(pixels, 3 if background else 2) == ([25, 1200 - 81, 20, 36] if background else [1200 - 56, 20, 36])
        assert not pixels[20:25, 30:35].any()


def test_layers_and_filters_of_qgis(tmp_path):
    path = write_layer(tmp_path / "a.gpkg", [(TWO[0][0], {"class": "x"}), (TWO[1][0], {"class": "y"})], GRID.crs, layer="other")
    write_layer(
        path,
        [(w, {**v, "role": r}) for (w, v), r in zip([*TWO, (box(GRID, 0, 0, 1, 1), {"class": "land"})], ("a", "a", "b|c=d"))],
        GRID.crs,
        layer="second one",
    )
    assert [c.name for c in opened(path + "|layername=other").classes] == ["x", "y"]
    assert [c.name for c in opened(path + "|layerid=1").classes] == ["land", "water"]
    assert count(opened(path + "|layername=second one").read(GRID)) == [1200 - 57, 21, 36]
    assert count(opened(path + "|layername=second one|subset=\"role\" = 'a'").read(GRID)) == [1200 - 56, 20, 36]
    with pytest.raises(LabelError, match="one class"):  # the bar and the sign = belong to the filter
        opened(path + "|layername=second one|subset=role = 'b|c=d'")
    for bad, told in (
        ("|layername=nix", "no layer 'nix'.*other, second one"),
        ("|layerid=7", "no layer '7'"),
        ("|layerid=x", "no layer 'x'"),
        ("|layername=other|subset=nix = 3", "filter"),
    ):
        with pytest.raises(LabelError, match=told):
            opened(path + bad)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_class_raster_on_the_same_grid(tmp_path, dtype):
    values = np.zeros((30, 40), dtype)
    values[3:7, 2:7], values[10:16, 20:26] = 3, 7
    labels = opened(write_raster(tmp_path / "a.tif", values, GRID, nodata=0))
    assert [(c.value, c.name) for c in labels.classes] == [(3, "3"), (7, "7")]
    np.testing.assert_array_equal(labels.read(GRID), np.select([values == 3, values == 7], [1, 2]))
    ordered = opened(tmp_path / "a.tif", order="7, 3")
    np.testing.assert_array_equal(ordered.read(GRID), np.select([values == 3, values == 7], [2, 1]))


def test_class_raster_coarser_and_in_another_crs(tmp_path):
    coarse = np.random.default_rng(1).integers(1, 4, (10, 10)).astype(np.uint8)
    labels = opened(write_raster(tmp_path / "a.tif", coarse, utm(10, 10, 40.0)))
    np.testing.assert_array_equal(labels.read(GRID), coarse.repeat(4, 0).repeat(4, 1)[:30])
    scene = Grid(60, 60, (-112.2, 0.001, 0, 40.66, 0, -0.001), crs(4326))
    lonlat = np.zeros((300, 300), np.uint8)
    lonlat[60:180, 90:210] = 1
    fine = opened(write_raster(tmp_path / "b.tif", lonlat + 1, Grid(300, 300, (-112.2, 0.0002, 0, 40.66, 0, -0.0002), scene.crs)))
    expected = np.ones((60, 60), int)
    expected[12:36, 18:42] = 2
    np.testing.assert_array_equal(fine.read(scene), expected)
    moved = fine.read(utm(60, 60, 80.0, 399_000.0, 4_500_900.0))  # in UTM, about the same place: areas agree
    assert abs((moved == 2).sum() * 80 * 80 / (24 * 24 * 111_040 * 84_500 * 1e-6) - 1) < 0.05


def test_class_raster_outside_and_empty(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.ones((30, 40), np.uint8), GRID)
    assert not open_labels(path).touches(utm(40, 30, x=900_000.0))
    with pytest.raises(LabelError, match="nodata only"):
        open_labels(write_raster(tmp_path / "b.tif", np.zeros((30, 40), np.uint8), GRID, nodata=0))
    with pytest.raises(LabelError, match="more than 255"):
        open_labels(write_raster(tmp_path / "c.tif", np.arange(1200).reshape(30, 40).astype(np.int16), GRID))
    with pytest.raises(LabelError, match="both have a CRS"):
        open_labels(write_raster(tmp_path / "d.tif", np.ones((30, 40), np.uint8), Grid(40, 30, GRID.transform))).touches(GRID)


def test_what_is_no_label_source(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    for path in (tmp_path / "a.txt", tmp_path / "missing.gpkg", tmp_path):
        with pytest.raises(LabelError):
            open_labels(str(path), "class")
    good = write_layer(tmp_path / "a.gpkg", TWO, GRID.crs)
    with pytest.raises(LabelError, match="no field 'klass'.*class"):
        open_labels(good, "klass")
    empty = write_layer(tmp_path / "c.gpkg", [*TWO, (TWO[0][0], {"role": "x"})], GRID.crs) + "|subset=class is null"
    with pytest.raises(LabelError, match="'class' is empty"):
        open_labels(empty, "class")
    with pytest.raises(LabelError, match="no feature"):
        opened(write_layer(tmp_path / "d.gpkg", [], GRID.crs), "", background=True).read(GRID)


def test_a_missing_crs_is_told(tmp_path):
    with pytest.raises(LabelError, match="The labels have no coordinate reference system"):
        opened(write_layer(tmp_path / "a.gpkg", TWO, "")).read(GRID)
    with pytest.raises(LabelError, match="The raster has no coordinate reference system"):
        opened(write_layer(tmp_path / "b.gpkg", TWO, GRID.crs)).read(Grid(40, 30, GRID.transform))
    bare = Grid(40, 30, GRID.transform)
    assert count(opened(tmp_path / "a.gpkg").read(bare)) == [1200 - 56, 20, 36]  # neither has one: taken to be the same


def test_curves_and_heights_are_labels_too(tmp_path):
    x, y = GRID.to_map(20, 15)
    curve = f"CURVEPOLYGON(CIRCULARSTRING({x - 50} {y},{x + 50} {y},{x - 50} {y}))"
    features = [
        (curve, {"class": "water"}),
        (box(GRID, 0, 0, 5, 5).replace("POLYGON", "POLYGON Z").replace(",", " 7,").replace("))", " 7))"), {"class": "land"}),
    ]
    pixels = opened(write_layer(tmp_path / "a.gpkg", features, GRID.crs)).read(GRID)
    assert (pixels == 1).sum() == 25 and abs((pixels == 2).sum() - np.pi * 25) < 5


def test_area_of_interest(tmp_path):
    path = write_layer(tmp_path / "a.gpkg", [(box(GRID, 5, 5, 10, 10), {}), (box(GRID, 10, 10, 10, 10), {})], GRID.crs)
    area = Area(path, GRID)
    expected = np.zeros((30, 40), bool)
    expected[5:15, 5:15] = expected[10:20, 10:20] = True
    np.testing.assert_array_equal(area(Window(0, 0, 40, 30)), expected)
    np.testing.assert_array_equal(area(Window(8, 8, 9, 9)), expected[8:17, 8:17])
    far = utm(40, 30, x=900_000.0)
    with pytest.raises(LabelError, match="outside the raster"):
        Area(path, far)
    missed = Area(path, far, everywhere=False)
    assert missed.missed and not area.missed and not missed.on(far).any()


def test_appending_takes_the_folders_classes(tmp_path):
    existing = (MapClass(0, "land", (1, 1, 1)), MapClass(1, "water", (2, 2, 2)), MapClass(2, "ice", (3, 3, 3)))
    labels = open_labels(write_layer(tmp_path / "a.gpkg", TWO, GRID.crs), "class")
    assert choose_classes(labels, "", False, existing) == existing
    with pytest.raises(LabelError, match="'water' is not in the chips folder"):
        choose_classes(labels, "", False, existing[::2])
    with pytest.raises(LabelError, match="not the background"):
        choose_classes(labels, "", True, existing)
