"""exportlevelchips through real programs."""

from __future__ import annotations

import csv
import json
import os

import pytest

from tests import helpers, ponds
from tests.plugin.conftest import Refused
from water_dl_plugin.engine.chips import ChipSet

pytestmark = pytest.mark.qgis


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return ponds.series(tmp_path_factory.mktemp("dams and scenes"), 16, clouds={4: 1.0})


def test_qgis_process_makes_a_folder(place, qgis_process, tmp_path):
    done = qgis_process(
        "--json", "run", "waterdl:exportlevelchips", FOLDER=place.scenes, RESERVOIRS=place.polygons, GAUGE=place.gauge, NAME_FIELD="name",
        SPLIT="random", TEST_SHARE=0.2, OUTPUT=tmp_path / "chips", DROPPED=tmp_path / "left out.csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert results["CHIPS"] == 30 and results["DROPPED_COUNT"] == 2 and "Traceback" not in done.stderr
    manifest = ChipSet(str(tmp_path / "chips")).manifest
    assert manifest.task == "level" and {c.split for c in manifest.chips} == {"train", "validation", "test"}
    with open(tmp_path / "left out.csv", encoding="utf-8-sig", newline="") as file:
        assert {row["reservoir"] for row in csv.DictReader(file)} == {"Upper Dam", "Lower Dam"}


LAYERS = """
from qgis.core import QgsVectorLayer, QgsRasterLayer, QgsProject, QgsProcessingFeatureSourceDefinition, QgsProcessingContext
dams, gauge = QgsVectorLayer(task["polygons"], "dams", "ogr"), QgsVectorLayer(task["gauge"], "readings", "delimitedtext")
scenes = [QgsRasterLayer(p, str(i)) for i, p in enumerate(task["scenes"])]
assert dams.isValid() and gauge.isValid() and all(s.isValid() for s in scenes)
QgsProject.instance().addMapLayers([dams, gauge, *scenes])
dams.selectByExpression("name = 'Upper Dam'")
selected = QgsProcessingFeatureSourceDefinition(dams.id(), True)
log = Log()
answer = processing.run("waterdl:exportlevelchips", {"INPUT": [s.id() for s in scenes], "RESERVOIRS": selected, "GAUGE": gauge.id(), "NAME_FIELD": "name",
    "DATUM_FIELD": "outlet", "OUTPUT": task["output"]}, feedback=log)
answer["log"] = log.lines
footprints = QgsVectorLayer(answer["FOOTPRINTS"], "chips", "ogr")
answer["features"], answer["fields"] = footprints.featureCount(), footprints.fields().names()
"""


def test_layers_of_a_project_and_the_selected_reservoir(place, inside, tmp_path):
    """A delimited text layer is no file that GDAL reads; of the polygons one is selected."""
    polygons = ponds.write_polygons(tmp_path / "d.gpkg", outlet=[99.5, 39.0])
    found = inside.do(
        LAYERS,
        polygons=polygons,
        gauge=f"file://{place.gauge}?type=csv&detectTypes=yes",
        scenes=place.paths[:14],
        output=str(tmp_path / "chips"),
    )
    assert found["CHIPS"] == found["features"] == 13, found["log"]
    assert {"reservoir", "level_m", "cloud", "date", "split"} <= set(found["fields"])
    told = ChipSet(str(tmp_path / "chips")).manifest.target["reservoirs"]
    assert [(r["name"], r["datum_m"]) for r in told] == [("Upper Dam", 99.5)]


def test_what_is_refused(place, inside, tmp_path):
    lines = helpers.write_layer(tmp_path / "l.gpkg", [("LINESTRING(400000 4499000,401000 4499000)", {"name": "a"})], ponds.GRID.crs)
    given = {"FOLDER": place.scenes, "RESERVOIRS": place.polygons, "GAUGE": place.gauge, "NAME_FIELD": "name"}
    for changes, told in (
        ({"FOLDER": None}, "No scene was chosen"), ({"RESERVOIRS": lines}, "(?s)lines, not polygons|RESERVOIRS"), ({"MAX_CLOUD": 500}, "from 0 to 100"),
        ({"NAME_FIELD": None}, "polygons have '1', '2'"), ({"FOLDER": os.path.join(place.folder, "nothing")}, "no folder|no file"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=told):
            inside.run("exportlevelchips", **{**given, **changes}, OUTPUT=str(tmp_path / "none"))
        assert not (tmp_path / "none").exists()
