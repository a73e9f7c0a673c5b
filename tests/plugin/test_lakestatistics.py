"""Lake statistics through the real programs: from a class raster to figures, layers in memory, the styled layer of matches, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from osgeo import gdal

from tests import helpers
from tests.plugin.conftest import Refused, lakes

pytestmark = pytest.mark.qgis


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """A class raster of lakes at 10 m, a DEM, and a layer of nine squares."""
    folder = tmp_path_factory.mktemp("water")
    grid, mask = helpers.utm(200, 160), lakes()
    raster = helpers.write_raster(folder / "map.tif", mask.astype(np.uint8), grid, nodata=255)
    heights = np.repeat(4000 + 10.0 * np.arange(160)[:, None], 200, axis=1).astype(np.float32)
    dem = helpers.write_raster(folder / "dem.tif", heights, grid)
    boxes = [(helpers.box(grid, 20 * k, 5, 10, 10), {"kind": "lake" if k < 6 else "river"}) for k in range(9)]
    squares = helpers.write_layer(folder / "squares.gpkg", boxes, grid.crs, layer="lakes")
    return {"raster": raster, "dem": dem, "boxes": squares, "area_m2": mask.sum() * 100}


def test_from_class_raster_to_figures_and_back(water, qgis_process, inside, tmp_path):
    """Our own polygons against those of GDAL: the same lakes."""
    out = {name: str(tmp_path / name) for name in ("ours.gpkg", "gdal.gpkg", "r.html", "t.csv", "f.json", "m.gpkg")}
    done = qgis_process("run", "waterdl:vectorizewater", INPUT=water["raster"], SMOOTHING=0, OUTPUT=out["ours.gpkg"])
    assert done.returncode == 0, done.stderr
    source = gdal.Open(water["raster"])
    data = gdal.GetDriverByName("GPKG").Create(out["gdal.gpkg"], 0, 0, 0, gdal.GDT_Unknown)
    polygons = data.CreateLayer("lakes", source.GetSpatialRef())
    gdal.Polygonize(source.GetRasterBand(1), source.GetRasterBand(1), polygons, -1, ["8CONNECTED=8"])
    count = polygons.GetFeatureCount()
    data = polygons = source = None
    done = qgis_process(
        "--json", "run", "waterdl:lakestatistics", INPUT=out["ours.gpkg"], REFERENCE=out["gdal.gpkg"], DEM=water["dem"], SIZE_LIMITS="0.01,0.05",
        REPORT=out["r.html"], CSV=out["t.csv"], JSON=out["f.json"], MATCHES=out["m.gpkg"],
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    told = json.loads(done.stdout)["results"]
    assert (
        told["COUNT"] == told["REFERENCE_COUNT"] == told["FOUND"] == told["WHOLE"] == count > 3
        and told["MISSED"] == told["FALSE_LAKES"] == 0
    )
    assert told["F1"] == 1 and told["IOU"] == pytest.approx(1, abs=1e-6) and "LARGEST_MISSED_M2" not in told
    assert told["AREA_KM2"] == pytest.approx(water["area_m2"] / 1e6, rel=1e-3)
    figures = helpers.load_json(out["f.json"])
    assert figures["count"] == count and {row["by"] for row in figures["table"]} == {"all", "size class", "elevation band"}
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "By elevation" in page and "Against the inventory" in page and "://" not in page
    matches = helpers.read_layer(out["m.gpkg"], "m")
    assert [m["match"] for m in matches] == ["found"] * count + ["right"] * count and matches[0]["elevation_m"] > 4000
    styled = inside.do(STYLE, path=out["m.gpkg"])
    assert styled["valid"] and styled["crs"] == "EPSG:32612" and styled["type"] == "categorizedSymbol"
    assert styled["values"] == ["found", "split", "merged", "missed", "right", "merging", "false"]


STYLE = """
from qgis.core import QgsVectorLayer
layer = QgsVectorLayer(task["path"], "x")
renderer = layer.renderer()
answer = {"valid": layer.isValid(), "crs": layer.crs().authid(), "type": renderer.type()}
answer["values"] = [c.value() for c in renderer.categories()] if renderer.type() == "categorizedSymbol" else []
"""

MEMORY = """
import processing
from qgis.core import QgsProcessingFeatureSourceDefinition, QgsProject, QgsVectorLayer
stored = QgsVectorLayer(task["path"] + "|layername=lakes", "stored", "ogr")
drawn = QgsVectorLayer("Polygon?crs=EPSG:32612&field=fid:integer&field=kind:string", "drawn", "memory")
drawn.dataProvider().addFeatures(list(stored.getFeatures()))
assert drawn.featureCount() == 9
drawn.selectByExpression("kind = 'lake'")
QgsProject.instance().addMapLayers([drawn, stored])
mine = QgsProcessingFeatureSourceDefinition(drawn.id(), selectedFeaturesOnly=True)
done = processing.run("waterdl:lakestatistics", {"INPUT": mine, "REFERENCE": stored, "MATCHES": "TEMPORARY_OUTPUT"}, feedback=Log())
layer = done["MATCHES"]
answer = {key: done[key] for key in ("COUNT", "REFERENCE_COUNT", "FOUND", "MISSED", "RECALL", "F1")}
answer["provider"], answer["crs"] = layer.dataProvider().name(), layer.crs().authid()
answer["matches"] = sorted(f["match"] for f in layer.getFeatures())
answer["areas"] = [f.geometry().area() for f in layer.getFeatures()]
"""


def test_layers_in_memory_and_selected_features(water, inside):
    told = inside.do(MEMORY, path=water["boxes"])
    assert (
        told["COUNT"] == told["FOUND"] == 6
        and told["REFERENCE_COUNT"] == 9
        and told["MISSED"] == 3
        and told["RECALL"] == pytest.approx(2 / 3)
    )
    assert told["provider"] == "memory" and told["crs"] == "EPSG:32612" and told["areas"] == pytest.approx([1e4] * 15)
    assert told["matches"] == ["found"] * 6 + ["missed"] * 3 + ["right"] * 6


def test_matches_can_be_a_geojson(water, inside, tmp_path):
    inside.run("lakestatistics", INPUT=water["boxes"], REFERENCE=water["boxes"], MATCHES=str(tmp_path / "m.geojson"))
    assert {m["match"] for m in helpers.read_layer(tmp_path / "m.geojson", "m")} == {"found", "right"}


def test_statistics_alone(water, inside, tmp_path):
    done = inside.run("lakestatistics", INPUT=water["boxes"], CSV=str(tmp_path / "t.csv"), SIZE_LIMITS="0.005")
    assert done.results["COUNT"] == 9 and "FOUND" not in done.results and "MATCHES" not in done.results
    assert any(line.startswith("size class ≥ 0.005 km²: 9 lakes") for line in done.log)
    assert len((tmp_path / "t.csv").read_text(encoding="utf-8-sig").splitlines()) == 4


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"MATCHES": "TEMPORARY_OUTPUT"}, ["Matched lakes need an inventory", "REFERENCE"]),
        ({"SIZE_LIMITS": "1, 0.1"}, ["rising numbers", "0.001, 0.01"]),
        ({"FOUND_SHARE": 120}, ["FOUND_SHARE", "from 1 to 100"]),
        ({"ELEVATION_FIELD": "depth"}, ["no field 'depth'", "kind"]),
        ({"REFERENCE": "/none/lakes.gpkg"}, ["/none/lakes.gpkg"]),
    ],
    ids=["matches", "limits", "share", "field", "file"],
)
def test_refusals_say_what_mends_them(water, inside, wrong, words):
    with pytest.raises(Refused) as refused:
        inside.run("lakestatistics", INPUT=water["boxes"], **wrong)
    for word in words:
        assert word in str(refused.value)
