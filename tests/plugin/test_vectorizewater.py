"""vectorizewater through real programs: formats, layers in memory, models' context, styles, Cancel, last year's polygons."""

from __future__ import annotations

import json

import numpy as np
import pytest
from osgeo import gdal, ogr
from scipy import ndimage

from tests import helpers
from tests.plugin.conftest import Refused

pytestmark = pytest.mark.qgis
CLASSES = {"WATERDL_CLASSES": json.dumps([{"value": i, "name": name, "colour": [9, 9, i]} for i, name in enumerate(("land", "water"))])}


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """A class raster of lakes."""
    noise = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(160, 200)), 5)
    mask = (noise > np.quantile(noise, 0.7)).astype(np.uint8)
    return mask, helpers.write_raster(
        tmp_path_factory.mktemp("water") / "water map.tif", mask, helpers.utm(200, 160), nodata=255, tags=CLASSES
    )


def count(mask) -> int:
    return ndimage.label(mask, np.ones((3, 3)))[1]


def features(path, layer=None) -> list[dict]:
    data = gdal.OpenEx(str(path), gdal.OF_VECTOR)
    found = data.GetLayerByName(layer) if layer else data.GetLayer(0)
    return [{**f.items(), "valid": f.GetGeometryRef().IsValid(), "area": f.GetGeometryRef().GetArea()} for f in found]


def agrees(results, path, mask) -> None:
    found = features(path)
    assert results["COUNT"] == len(found) == count(mask) and all(f["valid"] for f in found)
    assert sum(f["area_m2"] for f in found) == pytest.approx(results["AREA_M2"]) == pytest.approx(mask.sum() * 100, rel=0.01)
    assert {f["class"] for f in found} == {"water"} and path.with_suffix(".qml").exists()


def test_qgis_process_writes_a_geopackage(water, qgis_process, tmp_path):
    done = qgis_process("--json", "run", "waterdl:vectorizewater", INPUT=water[1], OUTPUT=tmp_path / "lakes.gpkg")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning: 1" not in done.stderr and "ResourceWarning" not in done.stderr
    agrees(json.loads(done.stdout)["results"], tmp_path / "lakes.gpkg", water[0])


@pytest.mark.parametrize("name", ["lakes.geojson", "lakes.shp", "lakes.fgb"])
def test_other_formats(water, inside, tmp_path, name):
    agrees(inside.run("vectorizewater", INPUT=water[1], OUTPUT=str(tmp_path / name)).results, tmp_path / name, water[0])


def test_defaults_and_bad_values(water, qgis_process, tmp_path):
    done = qgis_process("run", "waterdl:vectorizewater", INPUT=water[1], OUTPUT=tmp_path / "a.gpkg", SMOOTHING=0.9)
    assert done.returncode == 1 and "SMOOTHING" in done.stderr + done.stdout and not list(tmp_path.iterdir())
    done = qgis_process("run", "waterdl:vectorizewater", INPUT=water[1], OUTPUT=tmp_path / "nowhere" / "a.gpkg")
    assert done.returncode == 1


LOADED = """
import processing
from qgis.core import QgsProject
processing.runAndLoadResults("waterdl:vectorizewater", {"INPUT": task["raster"], "OUTPUT": task["out"], **task["more"]}, feedback=Log())
answer = {}
for layer in QgsProject.instance().mapLayers().values():
    renderer = layer.renderer()
    symbols = renderer.ranges() if renderer.type() == "graduatedSymbol" else renderer.categories()
    drawn = {s.label(): 0 for s in symbols}
    if renderer.type() == "graduatedSymbol":
        for feature in layer.getFeatures():
            drawn[renderer.rangeForValue(feature["area_m2"]).label()] += 1
        classes = {}
        for feature in layer.getFeatures():
            classes[feature["size_class"]] = classes.get(feature["size_class"], 0) + 1
        assert {k: n for k, n in drawn.items() if n} == classes, (drawn, classes)
    answer[layer.name()] = [layer.providerType(), renderer.type(), renderer.classAttribute(), layer.featureCount(), list(drawn), layer.crs().authid()]
"""


@pytest.mark.parametrize("where", ["memory", "file", "table"])
@pytest.mark.parametrize("limits", [None, "0.002, 0.02"])
def test_loaded_layer_is_named_and_styled_by_size(water, inside, tmp_path, where, limits):
    out = {"memory": "memory:", "file": str(tmp_path / "l.gpkg"), "table": f"ogr:dbname='{tmp_path}/db.gpkg' table=\"lakes\" (geom)"}[where]
    if where == "table":
        helpers.write_layer(tmp_path / "db.gpkg", [("POINT(0 0)", {"n": 1})], helpers.crs(32612), layer="other")
    found = inside.do(LOADED, raster=water[1], out=out, more={"SIZE_LIMITS": limits} if limits else {})
    ((name, (provider, kind, attribute, number, labels, crs)),) = found.items()
    assert name == "Lakes" and kind == "graduatedSymbol" and attribute == "area_m2" and number == count(water[0]) and crs == "EPSG:32612"
    assert provider == ("memory" if where == "memory" else "ogr")
    assert len(labels) == (3 if limits else 6) and labels[0] == ("< 0.002 km²" if limits else "< 0.001 km²")
    if where == "table":
        assert features(tmp_path / "db.gpkg", "other") and not list(tmp_path.glob("*.qml"))


def test_a_style_that_someone_made_stays(water, inside, tmp_path):
    style = tmp_path / "lakes.qml"
    style.write_text("<qgis>mine</qgis>")
    inside.run("vectorizewater", INPUT=water[1], OUTPUT=str(tmp_path / "lakes.gpkg"))
    assert style.read_text() == "<qgis>mine</qgis>"
    inside.run("vectorizewater", INPUT=water[1], OUTPUT=str(tmp_path / "other.gpkg"))
    inside.run("vectorizewater", INPUT=water[1], OUTPUT=str(tmp_path / "other.gpkg"), SIZE_LIMITS="0.5")
    assert "0.5 km²" in (tmp_path / "other.qml").read_text(encoding="utf-8")  # ours is written anew


def test_no_water_gives_an_empty_layer_with_its_fields(inside, tmp_path):
    raster = helpers.write_raster(tmp_path / "dry.tif", np.zeros((9, 9), np.uint8), helpers.utm(9, 9), tags=CLASSES)
    done = inside.run("vectorizewater", INPUT=raster, OUTPUT=str(tmp_path / "dry.gpkg"))
    assert done.results["COUNT"] == 0 and done.results["AREA_M2"] == 0 and any("empty" in line for line in done.log)
    data = gdal.OpenEx(str(tmp_path / "dry.gpkg"), gdal.OF_VECTOR)
    layer = data.GetLayer(0)
    assert (
        layer.GetFeatureCount() == 0 and layer.GetLayerDefn().GetFieldIndex("area_m2") >= 0 and layer.GetGeomType() == ogr.wkbMultiPolygon
    )


CHANGED = """
import processing
from qgis.core import QgsProject, QgsVectorLayer
then = processing.run("waterdl:vectorizewater", {"INPUT": task["then"], "OUTPUT": "memory:"})["OUTPUT"]
QgsProject.instance().addMapLayer(then)
now = processing.run("waterdl:vectorizewater", {"INPUT": task["now"], "PREVIOUS": then if task["by"] == "layer" else then.id(), "OUTPUT": task["out"]})["OUTPUT"]
layer = QgsVectorLayer(now, "now", "ogr") if isinstance(now, str) else now
answer = {"status": sorted(f["status"] for f in layer.getFeatures()), "style": layer.renderer().type()}
answer["categories"] = [c.value() for c in layer.renderer().categories()] if answer["style"] == "categorizedSymbol" else []
"""


@pytest.mark.parametrize("by", ["layer", "id"])
def test_last_years_polygons_from_a_layer_in_memory(inside, tmp_path, by):
    then, now = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    then[5:20, 5:20] = now[5:20, 5:20] = 1
    then[30:40, 5:20] = 1
    now[30:40, 30:50] = 1
    paths = [helpers.write_raster(tmp_path / f"{k}.tif", mask, helpers.utm(60, 60), tags=CLASSES) for k, mask in enumerate((then, now))]
    found = inside.do(CHANGED, then=paths[0], now=paths[1], by=by, out=str(tmp_path / "changes.gpkg"))
    assert found["status"] == ["gone", "new", "same"] and found["style"] == "categorizedSymbol"
    assert {"new", "grown", "shrunk", "same", "gone"} <= set(found["categories"])


def test_figures_with_probabilities_and_elevation(water, inside, tmp_path):
    mask, raster = water
    chance = helpers.write_raster(tmp_path / "p.tif", np.where(mask, 0.75, 0.1).astype(np.float32), helpers.utm(200, 160))
    dem = helpers.write_raster(tmp_path / "dem.tif", np.full((50, 60), 3720.0, np.float32), helpers.utm(60, 50, pixel=40.0, y=4_500_100.0))
    inside.run("vectorizewater", INPUT=raster, PROBABILITY=chance, DEM=dem, OUTPUT=str(tmp_path / "l.gpkg"))
    for found in features(tmp_path / "l.gpkg"):
        assert found["probability_mean"] == pytest.approx(0.75) == pytest.approx(found["probability_min"])
        assert found["elevation_m"] == pytest.approx(3720) and found["elevation_band"] == "3500\u20134000 m"


def test_areas_agree_with_those_of_qgis(water, inside, tmp_path):
    told = inside.do(
        """
from qgis.core import QgsDistanceArea, QgsProject, QgsVectorLayer
import processing
layer = processing.run("waterdl:vectorizewater", {"INPUT": task["raster"], "OUTPUT": "memory:"})["OUTPUT"]
measure = QgsDistanceArea()
measure.setSourceCrs(layer.crs(), QgsProject.instance().transformContext())
measure.setEllipsoid(layer.crs().ellipsoidAcronym())
answer = [[f["area_m2"], measure.measureArea(f.geometry()), f["perimeter_m"], measure.measurePerimeter(f.geometry())] for f in layer.getFeatures()]
""",
        raster=water[1],
    )
    ours, theirs, perimeter, their_perimeter = np.array(told).T
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)
    np.testing.assert_allclose(perimeter, their_perimeter, rtol=1e-6)


CANCEL = """
import processing
from qgis.core import QgsProcessingException
log = Log()
log.progressChanged.connect(lambda percent: percent >= task["at"] and log.cancel())
try:
    processing.run("waterdl:vectorizewater", {"INPUT": task["raster"], "OUTPUT": task["out"]}, feedback=log)
    answer = ""
except QgsProcessingException as error:
    answer = str(error)
"""


@pytest.mark.parametrize("at", [1, 51, 70])
def test_cancel_leaves_nothing(inside, tmp_path, at):
    speckled = (np.random.default_rng(0).random((300, 300)) < 0.3).astype(np.uint8)
    raster = helpers.write_raster(tmp_path / "map.tif", speckled, helpers.utm(300, 300))
    out = tmp_path / "out"
    out.mkdir()
    assert "Cancelled" in inside.do(CANCEL, raster=raster, out=str(out / "l.gpkg"), at=at)
    assert not list(out.iterdir())


def test_errors_have_remedies_and_leave_nothing(water, inside, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    scene = helpers.write_raster(tmp_path / "scene.tif", np.ones((4, 9, 9), np.uint16), helpers.utm(9, 9))
    far = helpers.write_raster(tmp_path / "far.tif", np.ones((9, 9), np.float32), helpers.utm(9, 9, x=700_000.0))
    for wrong, said in (
        ({"INPUT": scene}, "4 bands"),
        ({"DEM": far}, "does not lie over"),
        ({"POSITIVE": "pond"}, "no class 'pond'"),
        ({"SIZE_LIMITS": "a"}, "rising numbers"),
    ):
        with pytest.raises(Refused, match=said):
            inside.run("vectorizewater", **{"INPUT": water[1], "OUTPUT": str(out / "l.gpkg"), **wrong})
    assert not list(out.iterdir())


@pytest.mark.parametrize("name", ["l.gpkg", "l.shp", "l.fgb"])
def test_a_full_disk_is_told_and_leaves_nothing(inside, tmp_path, name):
    folder = tmp_path / "small"
    if not helpers.small_disk(folder, "120k"):
        pytest.skip("no small disk can be made here")
    try:
        speckled = (np.random.default_rng(0).random((200, 200)) < 0.3).astype(np.uint8)
        raster = helpers.write_raster(tmp_path / "map.tif", speckled, helpers.utm(200, 200))
        with pytest.raises(Refused, match="disk full"):
            inside.run("vectorizewater", INPUT=raster, OUTPUT=str(folder / name))
        assert not list(folder.iterdir())
    finally:
        helpers.umount(folder)
