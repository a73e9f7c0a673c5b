"""New polygons against earlier ones."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import ogr

from tests import helpers
from tests.engine.test_vectorize import run
from water_dl_plugin.engine.errors import LabelError

GRID = helpers.utm(100, 60)


def raster(path, *boxes, nodata=None) -> str:
    pixels = np.zeros((60, 100), np.uint8)
    for col, row, width, height in boxes:
        pixels[row : row + height, col : col + width] = 1
    if nodata:
        pixels[:, nodata:] = 255
    return helpers.write_raster(path, pixels, GRID, nodata=255)


def layer(path, *boxes, epsg=32612) -> str:
    features = [(helpers.box(GRID, *b), {"name": f"lake {i}"}) for i, b in enumerate(boxes)]
    return helpers.write_layer(path, features, helpers.crs(epsg))


def changes(tmp_path, new, old, nodata=None, **config) -> list:
    found, _ = run(raster(tmp_path / "new.tif", *new, nodata=nodata), previous=layer(tmp_path / "old.gpkg", *old), smoothing=0.0, **config)
    return [values for values, _ in found]


def test_new_grown_shrunk_same_gone(tmp_path):
    old = [(5, 5, 10, 10), (25, 5, 10, 10), (45, 5, 10, 10), (65, 5, 10, 10)]
    new = [(5, 5, 10, 10), (25, 5, 14, 10), (45, 5, 10, 6), (85, 5, 5, 5)]
    found = changes(tmp_path, new, old)
    assert [v["status"] for v in found] == ["same", "grown", "shrunk", "new", "gone"]
    assert [v["old_id"] for v in found] == [1, 2, 3, None, 4] and [v["id"] for v in found] == [1, 2, 3, 4, 5]
    assert [v["relation"] for v in found] == [""] * 5
    a = pytest.approx
    assert [v["old_area_m2"] for v in found] == [a(10_000, rel=1e-3), a(10_000, rel=1e-3), a(10_000, rel=1e-3), 0, a(10_000, rel=1e-3)]
    assert [v["change_m2"] for v in found] == [a(0, abs=1), a(4000, rel=1e-3), a(-4000, rel=1e-3), a(2500, rel=1e-3), a(-10_000, rel=1e-3)]
    assert [v["change_percent"] for v in found] == [a(0, abs=0.01), a(40, rel=1e-3), a(-40, rel=1e-3), None, -100]
    assert found[4]["area_m2"] == 0


def test_the_gone_lake_has_its_old_outline(tmp_path):
    found, _ = run(raster(tmp_path / "new.tif", (5, 5, 9, 9)), previous=layer(tmp_path / "old.gpkg", (40, 20, 10, 10)))
    assert [v["status"] for v, _ in found] == ["new", "gone"]
    assert found[1][1].GetGeometryName() == "MULTIPOLYGON"
    assert found[1][1].GetGeometryRef(0).Equals(ogr.CreateGeometryFromWkt(helpers.box(GRID, 40, 20, 10, 10)))


@pytest.mark.parametrize("percent, noise, status", [(5, 0, "grown"), (11, 0, "same"), (0, 0.2, "grown"), (0, 0.3, "same")])
def test_tolerances(tmp_path, percent, noise, status):
    found = changes(tmp_path, [(5, 5, 11, 10)], [(5, 5, 10, 10)], same_within=float(percent), outline_noise=noise)
    assert [v["status"] for v in found] == [status]  # 10 px more; the outline is 42 px long


def test_splits_and_merges_share_the_old_area(tmp_path):
    old = [(5, 5, 30, 10), (50, 5, 10, 10), (62, 5, 10, 10)]
    new = [(5, 5, 19, 10), (26, 5, 9, 10), (50, 5, 22, 10)]
    found = changes(tmp_path, new, old, outline_noise=0.0)
    assert [v["relation"] for v in found] == ["split", "split", "merged"]
    assert [v["old_id"] for v in found[:2]] == [1, 1] and found[2]["old_id"] in (2, 3)
    assert [v["status"] for v in found] == ["shrunk", "shrunk", "grown"]
    assert sum(v["old_area_m2"] for v in found) == pytest.approx(50_000, rel=1e-3)
    assert found[0]["old_area_m2"] == pytest.approx(30_000 * 19 / 28, rel=1e-3)
    assert sum(v["change_m2"] for v in found) == pytest.approx(0, abs=20)  # 280 + 220 px now, 300 + 200 px then


def test_a_sliver_in_common_makes_no_relation(tmp_path):
    new = [(5, 5, 10, 10), (17, 16, 10, 10)]
    old = [(5, 5, 10, 10), (17, 6, 10, 10.5)]
    assert [v["status"] for v in changes(tmp_path, new, old)] == ["same", "new", "gone"]
    (tmp_path / "old.gpkg").unlink()
    found = changes(tmp_path, new, old, least_overlap=1.0)
    assert [v["status"] for v in found] == ["same", "same"]


def test_what_this_map_does_not_cover_is_not_gone(tmp_path):
    found = changes(tmp_path, [(5, 5, 10, 10)], [(5, 5, 10, 10), (80, 5, 10, 10), (300, 5, 10, 10), (40, 40, 5, 5)], nodata=70)
    assert [v["status"] for v in found] == ["same", "unmapped", "unmapped", "gone"]
    assert [v["change_m2"] for v in found[1:3]] == [None, None] and [v["area_m2"] for v in found[1:]] == [None, None, 0]


def test_nothing_then_and_nothing_now(tmp_path):
    empty = helpers.write_layer(tmp_path / "empty.gpkg", [], helpers.crs(32612))
    found, _ = run(raster(tmp_path / "new.tif", (5, 5, 10, 10)), previous=empty)
    assert [v["status"] for v, _ in found] == ["new"]
    (tmp_path / "new.tif").unlink()
    assert [v["status"] for v in changes(tmp_path, [], [(5, 5, 10, 10)])] == ["gone"]


def test_earlier_polygons_in_another_crs(tmp_path):
    from osgeo import osr

    geometry = ogr.CreateGeometryFromWkt(helpers.box(GRID, 5, 5, 20, 20))
    source, target = osr.SpatialReference(helpers.crs(32612)), osr.SpatialReference(helpers.crs(4326))
    for reference in (source, target):
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    geometry.Transform(osr.CoordinateTransformation(source, target))
    old = helpers.write_layer(tmp_path / "old.gpkg", [(geometry.ExportToWkt(), {"n": 1})], helpers.crs(4326))
    found, _ = run(raster(tmp_path / "new.tif", (5, 5, 20, 20)), previous=old)
    assert [v["status"] for v, _ in found] == ["same"] and abs(found[0][0]["change_percent"]) < 1


def test_lines_are_no_earlier_polygons(tmp_path):
    lines = helpers.write_layer(tmp_path / "lines.gpkg", [("LINESTRING(400000 4500000,400100 4499900)", {"n": 1})], helpers.crs(32612))
    with pytest.raises(LabelError, match="no polygons"):
        run(raster(tmp_path / "new.tif", (5, 5, 10, 10)), previous=lines)
