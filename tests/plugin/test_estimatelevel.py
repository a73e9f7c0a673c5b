"""Estimate water level through the real programs: dates that QGIS's temporal controller can play, layers in memory, a model of the modeler, refusals."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests import helpers, pond_model, ponds
from tests.plugin.conftest import Refused

pytestmark = pytest.mark.qgis


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """Six scenes and twenty class rasters of two ponds, a gauge, and a model."""
    folder = tmp_path_factory.mktemp("levels")
    made = ponds.series(folder, 6, pond_model.PONDS, clouds={2: 0.3})
    made.water = folder / "water"
    made.water.mkdir()
    for when in ponds.times(20):
        water = np.any([p.water(ponds.GRID, ponds.level_at(p, when)) for p in pond_model.PONDS], axis=0)
        helpers.write_raster(made.water / f"water_{when:%Y%m%d}.tif", (1 + water).astype(np.uint8), ponds.GRID, nodata=0)
    made.model = pond_model.write(folder / "m.onnx", series=pond_model.known(np.linspace(-0.5, 0.5, 25)))
    return made


LAYER = """
from qgis.core import QgsVectorLayer
layer = QgsVectorLayer(task["path"], "x")
told, good = layer.loadNamedStyle(task["style"])
played = layer.temporalProperties()
first = layer.minimumValue(layer.fields().indexOf("date"))
answer = {
    "kinds": {f.name(): f.typeName() for f in layer.fields()}, "count": layer.featureCount(), "crs": layer.crs().authid(), "good": good,
    "first": first.toString("yyyy-MM-ddTHH:mm:ss"), "active": played.isActive(), "mode": int(played.mode()), "field": played.startField(), "days": played.fixedDuration(),
    "renderer": layer.renderer().type(), "ranges": len(layer.renderer().ranges()), "labels": layer.labelsEnabled(),
}
from qgis.core import QgsDateTimeRange, QgsFeatureRequest, QgsVectorLayerTemporalContext
from qgis.PyQt.QtCore import QDateTime
at = QDateTime.fromString(task["at"] + "Z", "yyyy-MM-ddTHH:mm:ssZ")
context = QgsVectorLayerTemporalContext()
context.setLayer(layer)
request = QgsFeatureRequest()
request.setFilterExpression(played.createFilterString(context, QgsDateTimeRange(at, at.addSecs(3600))))
answer["frame"] = sorted((f["reservoir"], f["method"], f["date"].toString("yyyy-MM-ddTHH:mm:ss")) for f in layer.getFeatures(request))
"""


def test_scenes_water_and_gauge_to_a_layer_that_plays(world, qgis_process, inside, tmp_path):
    out = {name: str(tmp_path / name) for name in ("levels.gpkg", "t.csv", "r.html", "c.csv", "d.csv")}
    done = qgis_process(
        "--json", "run", "waterdl:estimatelevel", FOLDER=world.scenes, MODEL=world.model, RESERVOIRS=world.polygons, NAME_FIELD="name", GAUGE=world.gauge,
        WATER_FOLDER=world.water, WATER_CLASS="2", THREADS=1, OUTPUT=out["levels.gpkg"], CSV=out["t.csv"], REPORT=out["r.html"], CURVES_OUT=out["c.csv"],
        DROPPED=out["d.csv"],
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    told = json.loads(done.stdout)["results"]
    with open(out["t.csv"], encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert told["COUNT"] == len(rows) and told["FLAGGED"] == sum(bool(r["flags"]) for r in rows) > 0
    assert told["DROPPED_COUNT"] == len((tmp_path / "d.csv").read_text(encoding="utf-8-sig").splitlines()) - 1
    assert {r["method"] for r in rows} == {"network", "area", "combined"} and all(r["observed_m"] for r in rows)
    # the frame of an hour, two days after the second scene: what was last known is still there, nothing else
    at = (world.times[1].replace(hour=9)).replace(day=world.times[1].day + 2)
    seen = inside.do(LAYER, path=out["levels.gpkg"], style=str(tmp_path / "levels.qml"), at=at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert (
        seen["kinds"]["date"] == "DateTime"
        and seen["kinds"]["level_m"] == "Real"
        and seen["count"] == len(rows)
        and seen["crs"] == "EPSG:32612"
    )
    assert seen["first"] == "2019-01-03T08:13:01"  # UTC, as the product's name tells it
    assert seen["good"] and (seen["active"], seen["mode"], seen["field"], seen["days"]) == (True, 1, "date", 10.0)
    assert (seen["renderer"], seen["ranges"], seen["labels"]) == ("graduatedSymbol", 5, True)
    assert [f[:2] for f in seen["frame"]] == [[name, m] for name in ("Lower Dam", "Upper Dam") for m in ("area", "combined", "network")]
    assert {f[2][:10] for f in seen["frame"]} == {f"{world.times[1]:%Y-%m-%d}"}


MEMORY = """
import processing
from qgis.core import QgsProject, QgsProcessingFeatureSourceDefinition, QgsVectorLayer
dams = QgsVectorLayer(task["polygons"] + "|layername=dams", "dams", "ogr")
dams.selectByExpression("name = 'Upper Dam'")
gauge = QgsVectorLayer(task["gauge"], "gauge", "ogr")
QgsProject.instance().addMapLayers([dams, gauge])
one = QgsProcessingFeatureSourceDefinition(dams.id(), selectedFeaturesOnly=True)
done = processing.run("waterdl:estimatelevel", {
    "INPUT": task["scenes"], "MODEL": task["model"], "RESERVOIRS": one, "NAME_FIELD": "name", "GAUGE": gauge.id(), "THREADS": 1, "OUTPUT": "TEMPORARY_OUTPUT",
    "REPORT": task["report"],
}, feedback=Log())
layer = done["OUTPUT"]
answer = {"count": done["COUNT"], "provider": layer.dataProvider().name(), "type": layer.fields().field("date").typeName(), "files": sorted(k for k in done)}
answer["levels"] = [(f["reservoir"], f["date"].toString("yyyy-MM-ddTHH:mm:ss"), f["level_m"], f["observed_m"]) for f in layer.getFeatures()]
"""


def test_layer_in_memory_of_selected_reservoirs(world, inside, tmp_path):
    told = inside.do(
        MEMORY, polygons=world.polygons, gauge=world.gauge, scenes=world.paths[:2], model=world.model, report=str(tmp_path / "r.html")
    )
    assert told["count"] == 2 and told["provider"] == "memory" and told["type"].lower() == "datetime"
    assert [(name, when) for name, when, _, _ in told["levels"]] == [
        ("Upper Dam", t.strftime("%Y-%m-%dT%H:%M:%S")) for t in world.times[:2]
    ]
    assert all(abs(level - observed) < 0.2 for _, _, level, observed in told["levels"]) and (tmp_path / "r.html").exists()


def test_a_shapefile_can_be_written(world, inside, tmp_path):
    inside.run(
        "estimatelevel", INPUT=world.paths[:1], MODEL=world.model, RESERVOIRS=world.polygons, NAME_FIELD="name", THREADS=1, OUTPUT=str(tmp_path / "s.shp"),
    )  # fmt: skip
    rows = helpers.read_layer(tmp_path / "s.shp", "s")
    assert [r["reservoir"] for r in rows] == ["Lower Dam", "Upper Dam"] and "2019" in str(rows[0]["date"]) and rows[0]["observed_m"] is None


MODELER = """
from qgis.core import QgsProcessingModelAlgorithm, QgsProcessingModelChildAlgorithm, QgsProcessingModelChildParameterSource as Source
from qgis.core import QgsProcessingModelOutput, QgsProcessingContext
model = QgsProcessingModelAlgorithm()
child = QgsProcessingModelChildAlgorithm("waterdl:estimatelevel")
child.setChildId("levels")
for key, value in task["given"].items():
    child.addParameterSources(key, [Source.fromStaticValue(value)])
out = QgsProcessingModelOutput("Levels", "Levels")
out.setChildId("levels")
out.setChildOutputName("OUTPUT")
child.setModelOutputs({"Levels": out})
model.addChildAlgorithm(child)
made, good = model.run({"levels:Levels": task["path"], "Levels": task["path"]}, QgsProcessingContext(), Log())
answer = good
"""


def test_in_a_model_of_the_modeler(world, inside, tmp_path):
    given = {"FOLDER": world.scenes, "MODEL": world.model, "RESERVOIRS": world.polygons, "NAME_FIELD": "name", "THREADS": 1}
    assert inside.do(MODELER, given=given, path=str(tmp_path / "l.gpkg"))
    assert len(helpers.read_layer(tmp_path / "l.gpkg", "l")) == 12


@pytest.mark.parametrize(
    "given, words",
    [
        ({"MODEL": "model"}, ["a model, but no scenes", "INPUT"]),
        ({"MODEL": "model", "FOLDER": "scenes", "NAME_FIELD": "nam"}, ["no field 'nam'", "name"]),
        ({"WATER_FOLDER": "water"}, ["which level a water area belongs to", "GAUGE"]),
        ({"MODEL": "model", "FOLDER": "scenes", "COVERAGE": 100}, ["COVERAGE", "50"]),
        ({"MODEL": "polygons", "FOLDER": "scenes"}, ["ONNX"]),
    ],
    ids=["scenes", "field", "curve", "coverage", "model"],
)
def test_refusals_say_what_mends_them(world, inside, given, words):
    known = {name: str(getattr(world, name)) for name in ("model", "scenes", "water", "polygons")}
    with pytest.raises(Refused) as refused:
        inside.run("estimatelevel", RESERVOIRS=world.polygons, **{key: known.get(value, value) for key, value in given.items()})
    for word in words:
        assert word in str(refused.value)
