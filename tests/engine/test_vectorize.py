"""From raster to lake polygons with their figures: known answers, and what users feed in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal, ogr
from scipy import ndimage

from tests import helpers
from water_dl_plugin.engine.errors import Cancelled, ConfigError, GridMismatchError, RasterError
from water_dl_plugin.engine.lakes.ellipsoid import measure, rings
from water_dl_plugin.engine.raster import Grid
from water_dl_plugin.engine.settings import VectorizeConfig
from water_dl_plugin.engine.vectorize import run as job

REAL = sorted((Path(__file__).resolve().parents[3] / "shared" / "data" / "real_water_masks").glob("*.tif"))
CLASSES = {
    "WATERDL_CLASSES": json.dumps([{"value": i, "name": name, "colour": [9, 9, i]} for i, name in enumerate(("land", "river", "lake"))])
}


def run(path, /, probability="", dem="", previous="", progress=None, **config):
    """(values, geometry) of each polygon, and the lines of the log."""
    said = []

    def hear(fraction, message=""):
        said.append((fraction, message))
        if progress:
            progress(fraction, message)

    lakes = job.vectorize(str(path), VectorizeConfig(**config), probability=probability, dem=dem, previous=previous, progress=hear)
    found = [(values, ogr.CreateGeometryFromWkb(wkb)) for wkb, values in lakes]
    assert lakes.count == len([v for v, _ in found if v.get("status") not in ("gone", "unmapped")])
    assert lakes.area_m2 == pytest.approx(sum(v["area_m2"] or 0 for v, _ in found))
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1
    return found, [message for _, message in said if message]


def blobs(height=120, width=150, seed=0, share=0.3, wide=4):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), wide)
    return (noise > np.quantile(noise, 1 - share)).astype(np.uint8)


def counter_clockwise(geometry) -> bool:
    """The outer ring; and the others run the other way."""
    turns = [x[:-1] @ y[1:] - x[1:] @ y[:-1] for part in rings(geometry) for x, y in (np.array(ring - ring[0]).T for ring in part)]
    return turns[0] > 0 and all(turn < 0 for turn in turns[1:])


@pytest.fixture(autouse=True)
def small_strips(monkeypatch):
    monkeypatch.setattr(job, "STRIP", 64 * 150)  # several strips even here


def test_every_lake_with_its_figures(tmp_path):
    mask, grid = blobs(), helpers.utm(150, 120)
    found, _ = run(helpers.write_raster(tmp_path / "a.tif", mask, grid))
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    assert len(found) == count and [v["id"] for v, _ in found] == list(range(1, count + 1))
    pixel = grid.areas_m2()[60, 75]
    assert sorted(v["area_m2"] for v, _ in found) == pytest.approx(sorted(np.bincount(labels.ravel())[1:] * pixel), rel=0.01)
    for values, geometry in found:
        assert geometry.IsValid() and geometry.GetGeometryName() == "MULTIPOLYGON"
        assert measure(geometry, grid.crs) == (values["area_m2"], values["perimeter_m"])
        assert (
            values["compactness"] == pytest.approx(4 * np.pi * values["area_m2"] / values["perimeter_m"] ** 2)
            and 0 < values["compactness"] < 1
        )
        assert values["islands"] == geometry.GetGeometryRef(0).GetGeometryCount() - 1
        assert (
            values["class"] == "1" and values["class_value"] == 1 and values["elevation_m"] is None and values["probability_mean"] is None
        )
        left, right, bottom, top = geometry.GetEnvelope()
        near = left <= 400_000 or right >= 401_500 or top >= 4_500_000 or bottom <= 4_498_800
        assert values["touches_edge"] == near and values["touches_nodata"] == 0
        assert counter_clockwise(geometry)
    names = {v["size_class"] for v, _ in found}
    assert names <= {"< 0.001 km²", "0.001\u20130.01 km²", "0.01\u20130.1 km²", "0.1\u20131 km²"} and len(names) > 1


@pytest.mark.parametrize("connectivity, count", [("8", 1), ("4", 2)])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_pixels_that_share_a_corner(tmp_path, connectivity, count, smoothing):
    mask = np.zeros((10, 10), np.uint8)
    mask[1:5, 1:5] = mask[5:9, 5:9] = 1
    found, _ = run(helpers.write_raster(tmp_path / "a.tif", mask, helpers.utm(10, 10)), connectivity=connectivity, smoothing=smoothing)
    assert len(found) == count and all(g.IsValid() for _, g in found)
    assert sum(g.GetArea() for _, g in found) == pytest.approx(3200, rel=1e-6 if smoothing == 0 else 0.01)


@pytest.mark.parametrize("connectivity", ["8", "4"])
@pytest.mark.parametrize("seed", range(4))
def test_outlines_along_the_pixels_are_valid_and_exact(tmp_path, connectivity, seed):
    mask = (np.random.default_rng(seed).random((40, 50)) < (0.3, 0.5, 0.6, 0.8)[seed]).astype(np.uint8)
    grid = helpers.utm(50, 40)
    found, _ = run(helpers.write_raster(tmp_path / "a.tif", mask, grid), connectivity=connectivity, smoothing=0.0)
    labels, count = ndimage.label(mask, np.ones((3, 3)) if connectivity == "8" else None)
    assert len(found) == count and all(g.IsValid() for _, g in found)
    assert sorted(g.GetArea() for _, g in found) == pytest.approx(sorted(np.bincount(labels.ravel())[1:] * 100.0))
    burnt = gdal.GetDriverByName("MEM").Create("", 50, 40, 1, gdal.GDT_Byte)
    burnt.SetGeoTransform(grid.transform)
    memory = (ogr.GetDriverByName("Memory") or ogr.GetDriverByName("MEM")).CreateDataSource("")
    layer = memory.CreateLayer("x")
    for _, geometry in found:
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(geometry)
        layer.CreateFeature(feature)
    gdal.RasterizeLayer(burnt, [1], layer, burn_values=[1])
    assert np.array_equal(burnt.ReadAsArray(), mask)


@pytest.mark.skipif(not REAL, reason="no real water masks here")
@pytest.mark.parametrize("connectivity", ["8", "4"])
def test_real_masks(connectivity, monkeypatch):
    monkeypatch.setattr(job, "STRIP", 200_000)
    for path in REAL[::13]:
        found, _ = run(path, connectivity=connectivity)
        dataset = gdal.Open(str(path))
        mask, pixel = dataset.ReadAsArray() == 1, abs(dataset.GetGeoTransform()[1] * dataset.GetGeoTransform()[5])
        labels, count = ndimage.label(mask, np.ones((3, 3)) if connectivity == "8" else None)
        assert len(found) == count and all(g.IsValid() for _, g in found)
        assert sorted(g.GetArea() for _, g in found) == pytest.approx(sorted(np.bincount(labels.ravel())[1:] * pixel), rel=0.01)


def test_the_strip_height_changes_nothing(tmp_path, monkeypatch):
    path = helpers.write_raster(tmp_path / "a.tif", blobs(400, 90), helpers.utm(90, 400))
    results = []
    for strip in (64 * 90, 10**7):
        monkeypatch.setattr(job, "STRIP", strip)
        results.append(run(path, simplify=0.0)[0])
    (parts, whole) = results
    assert [v["id"] for v, _ in parts] == [v["id"] for v, _ in whole]
    assert all(a.SymDifference(b).GetArea() < 1e-6 * a.GetArea() for (_, a), (_, b) in zip(parts, whole))


def test_minimum_areas_are_on_the_ellipsoid(tmp_path):
    mask = np.zeros((30, 30), np.uint8)
    mask[2:5, 2:5] = 1  # 9 px
    mask[10:25, 10:25] = 1
    mask[14:16, 14:16] = 0  # a hole of 4 px
    grid = Grid(30, 30, (10.0, 0.001, 0, 60.0, 0, -0.001), helpers.crs(4326))
    pixel = grid.areas_m2()[15, 15]
    path = helpers.write_raster(tmp_path / "a.tif", mask, grid)
    assert len(run(path, min_area=8.9 * pixel)[0]) == 2 and len(run(path, min_area=9.1 * pixel)[0]) == 1
    holes = [[v["islands"] for v, _ in run(path, min_hole=size * pixel, min_area=100.0)[0]] for size in (3.9, 4.1)]
    assert holes == [[0, 1], [0, 0]]
    assert run(path, min_hole=4.1 * pixel, min_area=9.1 * pixel)[0][0][0]["area_m2"] == pytest.approx(225 * pixel, rel=0.002)


@pytest.mark.parametrize("degrees", [0, 33])
def test_classes_of_the_metadata_and_the_choice_of_several(tmp_path, degrees):
    index = np.zeros((40, 60), np.uint8)
    index[5:35, 5:30], index[10:30, 30:50] = 1, 2
    path = helpers.write_raster(tmp_path / "a.tif", index, helpers.utm(60, 40).rotated(degrees), tags=CLASSES)
    assert [(v["class"], v["class_value"]) for v, _ in run(path)[0]] == [("lake", 2)]
    both = run(path, positive="lake, 1")[0]
    assert [v["class"] for v, _ in both] == ["lake", "river"]
    assert both[0][1].Intersection(both[1][1]).GetArea() < 1e-6
    union = both[0][1].Union(both[1][1])
    assert union.GetGeometryName() == "POLYGON" and union.GetGeometryCount() == 1  # no gap between them
    assert union.GetArea() == pytest.approx(115_000, rel=0.01)
    with pytest.raises(ConfigError, match="no class 'pond'"):
        run(path, positive="pond")


@pytest.mark.parametrize("row", [30, 64])  # 64: where two strips meet
def test_where_two_classes_cross_the_first_one_is_joined(tmp_path, row):
    index = np.zeros((128, 150), np.uint8)
    index[row - 4 : row, 10:14] = index[row : row + 4, 14:18] = 2
    index[row - 4 : row, 14:18] = index[row : row + 4, 10:14] = 1
    path = helpers.write_raster(tmp_path / "a.tif", index, helpers.utm(150, 128), tags=CLASSES)
    for order, names in (("lake, river", ["lake", "river", "river"]), ("river, lake", ["river", "lake", "lake"])):
        found, _ = run(path, positive=order)
        assert [v["class"] for v, _ in found] == names
        for i, (_, one) in enumerate(found):
            assert all(one.Intersection(other).GetArea() < 1e-6 for _, other in found[:i])


def test_filled_holes_do_not_bury_another_class(tmp_path):
    index = np.full((20, 20), 2, np.uint8)
    index[8:12, 8:12] = 1
    path = helpers.write_raster(tmp_path / "a.tif", index, helpers.utm(20, 20), tags=CLASSES)
    found = run(path, positive="river, lake", min_hole=5000.0)[0]
    assert sum(g.GetArea() for _, g in found) == pytest.approx(40_000, rel=0.01)
    assert found[0][1].Intersection(found[1][1]).GetArea() < 1e-6


def test_probabilities_as_input(tmp_path):
    mask = ndimage.gaussian_filter(blobs().astype(np.float32), 2)
    path = helpers.write_raster(tmp_path / "p.tif", mask, helpers.utm(150, 120), nodata=-1)
    found, _ = run(path, threshold=0.4)
    labels, count = ndimage.label(mask >= 0.4, np.ones((3, 3)))
    assert len(found) == count and found[0][0]["class"] == "water"
    numbers = np.arange(1, count + 1)
    for name, figure in (("probability_mean", ndimage.mean), ("probability_min", ndimage.minimum)):
        assert sorted(v[name] for v, _ in found) == pytest.approx(sorted(figure(mask, labels, numbers)))


@pytest.mark.parametrize("bands", [1, 2])
def test_a_probability_raster_beside_the_classes(tmp_path, bands):
    mask, chance = blobs(seed=2), np.random.default_rng(1).random((120, 150)).astype(np.float32)
    chance[:20] = -1
    path = helpers.write_raster(tmp_path / "a.tif", mask, helpers.utm(150, 120))
    stack = np.stack([np.where(chance < 0, -1, 1 - chance), chance])[2 - bands :]
    found, _ = run(path, probability=helpers.write_raster(tmp_path / "p.tif", stack, helpers.utm(150, 120), nodata=-1))
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    labels = np.where(chance < 0, 0, labels)
    known = np.unique(labels[labels > 0])
    for name, figure in (("probability_mean", ndimage.mean), ("probability_min", ndimage.minimum)):
        assert sorted(v[name] for v, _ in found if v[name] is not None) == pytest.approx(sorted(figure(chance, labels, known)))
    assert sum(v["probability_mean"] is None for v, _ in found) == count - len(known)


def test_filled_holes_do_not_count_in_the_means(tmp_path):
    mask = np.ones((20, 20), np.uint8)
    mask[9:11, 9:11] = 0
    chance = np.where(mask, 0.9, 0.1).astype(np.float32)
    paths = [helpers.write_raster(tmp_path / name, a, helpers.utm(20, 20)) for name, a in (("a.tif", mask), ("p.tif", chance))]
    ((values, _),), _ = run(paths[0], probability=paths[1], min_hole=1000.0)
    assert values["islands"] == 0 and values["probability_min"] == values["probability_mean"] == pytest.approx(0.9)


def test_elevation_of_another_grid_and_its_band(tmp_path):
    mask = np.zeros((60, 60), np.uint8)
    mask[5:15, 5:15] = mask[40:55, 30:50] = 1
    path = helpers.write_raster(tmp_path / "a.tif", mask, helpers.utm(60, 60))
    cols = np.arange(100)[None] * np.ones((100, 1))
    # 0.0002 degrees wide: elevation rises by 100 m per pixel eastwards, from 3000 m
    west, north = -112.185, 40.65
    dem = helpers.write_raster(
        tmp_path / "d.tif", (3000 + 100 * cols).astype(np.float32), Grid(100, 100, (west, 2e-4, 0, north, 0, -2e-4), helpers.crs(4326))
    )
    found, _ = run(path, dem=dem, band_height=250.0)
    for values, geometry in found:
        from osgeo import osr

        source, degrees = osr.SpatialReference(helpers.crs(32612)), osr.SpatialReference(helpers.crs(4326))
        for reference in (source, degrees):
            reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        lon, _, _ = osr.CoordinateTransformation(source, degrees).TransformPoint(geometry.Centroid().GetX(), geometry.Centroid().GetY())
        wanted = 3000 + 100 * ((lon - west) / 2e-4 - 0.5)
        assert values["elevation_m"] == pytest.approx(wanted, abs=5)
        low = 250 * (wanted // 250)
        assert values["elevation_band"] == f"{low:g}\u2013{low + 250:g} m"


def test_rasters_that_lie_elsewhere_are_refused(tmp_path):
    path = helpers.write_raster(tmp_path / "a.tif", blobs(), helpers.utm(150, 120))
    far = helpers.write_raster(tmp_path / "far.tif", np.ones((20, 20), np.float32), helpers.utm(20, 20, x=700_000.0))
    no_crs = helpers.write_raster(tmp_path / "no.tif", np.ones((20, 20), np.float32), Grid(20, 20, helpers.utm(1, 1).transform))
    wild = helpers.write_raster(tmp_path / "wild.tif", np.full((120, 150), 7.5, np.float32), helpers.utm(150, 120))
    for name in ("dem", "probability"):
        with pytest.raises(GridMismatchError, match="does not lie over"):
            run(path, **{name: far})
        with pytest.raises(GridMismatchError, match="CRS"):
            run(path, **{name: no_crs})
    with pytest.raises(GridMismatchError, match=r"outside 0\.\.1"):
        run(path, probability=wild)
    with pytest.raises(ConfigError, match="Limits of|limits of"):
        run(path, size_limits="1, 0.1")


@pytest.mark.parametrize("pixels, nodata, tags", [(np.zeros((9, 9), np.uint8), None, None), (np.zeros((9, 9), np.uint8), None, CLASSES), (np.full((9, 9), 255, np.uint8), 255, None), (np.full((9, 9), 255, np.uint8), 255, CLASSES)])  # fmt: skip
def test_no_water_is_an_empty_layer_and_a_word(tmp_path, pixels, nodata, tags):
    path = helpers.write_raster(tmp_path / "a.tif", pixels, helpers.utm(9, 9), nodata=nodata, tags=tags)
    found, said = run(path)
    assert found == [] and "empty" in said[-1] and said[-1].startswith("Warning")
    lakes = job.vectorize(path, VectorizeConfig())
    assert [name for name, _ in lakes.fields][:4] == ["id", "class", "class_value", "area_m2"] and list(lakes) == []


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_a_raster_of_one_pixel_or_one_row(tmp_path, shape, smoothing):
    path = helpers.write_raster(tmp_path / "a.tif", np.ones(shape, np.uint8), helpers.utm(*shape[::-1]))
    ((values, geometry),), _ = run(path, smoothing=smoothing)
    assert geometry.IsValid() and geometry.GetArea() == pytest.approx(100 * max(shape)) and values["touches_edge"] == 1


def test_nodata_beside_a_lake_is_told(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 3:8] = mask[5:10, 20:25] = 1
    mask[:, 25:] = 255
    found, _ = run(helpers.write_raster(tmp_path / "a.tif", mask, helpers.utm(30, 20), nodata=255))
    assert [v["touches_nodata"] for v, _ in found] == [0, 1] and [v["touches_edge"] for v, _ in found] == [0, 0]


@pytest.mark.parametrize("kind", ["rotated", "south up", "degrees", "no crs", "no georeference"])
def test_any_grid(tmp_path, kind):
    mask = blobs(60, 50, seed=5)
    grid = {
        "rotated": helpers.utm(50, 60).rotated(33), "south up": Grid(50, 60, (400_000.0, 10, 0, 4_500_000, 0, 10), helpers.crs(32612)),
        "degrees": Grid(50, 60, (20.0, 1e-4, 0, 69.0, 0, -1e-4), helpers.crs(4326)), "no crs": Grid(50, 60, (400_000.0, 10, 0, 4_500_000, 0, -10)),
        "no georeference": Grid(50, 60),
    }[kind]  # fmt: skip
    found, _ = run(helpers.write_raster(tmp_path / "a.tif", mask, grid))
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    pixel = grid.areas_m2()[30, 25]
    assert sorted(v["area_m2"] for v, _ in found) == pytest.approx(sorted(np.bincount(labels.ravel())[1:] * pixel), rel=0.01)
    assert all(g.IsValid() and counter_clockwise(g) for _, g in found)
    inside = grid.to_map(*(np.argwhere(mask)[0][::-1] + 0.5))
    assert any(g.Contains(ogr.CreateGeometryFromWkt(f"POINT({inside[0]!r} {inside[1]!r})")) for _, g in found)


def test_rasters_that_are_no_maps_are_refused(tmp_path):
    many = helpers.write_raster(tmp_path / "many.tif", np.arange(900, dtype=np.uint16).reshape(30, 30), helpers.utm(30, 30))
    with pytest.raises(ConfigError, match="no class raster"):
        run(many)
    scene = helpers.write_raster(tmp_path / "scene.tif", np.ones((4, 9, 9), np.uint16), helpers.utm(9, 9))
    with pytest.raises(ConfigError, match="4 bands"):
        run(scene)
    logits = helpers.write_raster(tmp_path / "logits.tif", np.linspace(-4.2, 4, 81, dtype=np.float32).reshape(9, 9), helpers.utm(9, 9))
    with pytest.raises(GridMismatchError, match=r"outside 0\.\.1"):
        run(logits)
    with pytest.raises(RasterError, match="no file"):
        run(tmp_path / "none.tif")


@pytest.mark.parametrize("when", [0.01, 0.3, 0.55, 0.7])
def test_cancel_is_heard(tmp_path, when):
    mask = np.tile(blobs(64, 75, share=0.5, wide=1), (4, 2))
    path = helpers.write_raster(tmp_path / "a.tif", mask, helpers.utm(150, 256))
    chance = helpers.write_raster(tmp_path / "p.tif", np.ones(mask.shape, np.float32), helpers.utm(150, 256))

    def press(fraction, message=""):
        if fraction >= when:
            raise Cancelled()

    with pytest.raises(Cancelled):
        job.vectorize(path, VectorizeConfig(), probability=chance, progress=press)
