"""Levels against a gauge through the real programs: tables and layers with real dates, figures, report, refusals."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from osgeo import gdal, ogr

from tests import helpers
from tests.plugin.conftest import Refused

pytestmark = pytest.mark.qgis
DAYS = [dt.datetime(2020, 1, 5, 7, 56, 11) + dt.timedelta(days=10 * k) for k in range(40)]
LEVELS = [20 + (k % 9) / 4 for k in range(40)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The same estimates as estimatelevel writes them, a GeoPackage with a real DATETIME and a CSV, and a gauge in centimetres."""
    folder = tmp_path_factory.mktemp("levels")
    names = {"layer": folder / "levels.gpkg", "csv": folder / "levels.csv", "gauge": folder / "gauge.csv"}
    data = ogr.GetDriverByName("GPKG").CreateDataSource(str(names["layer"]))
    layer = data.CreateLayer("levels", None, ogr.wkbMultiPolygon)
    kinds = {"reservoir": ogr.OFTString, "date": ogr.OFTDateTime, "level_m": ogr.OFTReal, "low_m": ogr.OFTReal, "high_m": ogr.OFTReal, "method": ogr.OFTString, "part": ogr.OFTString, "flags": ogr.OFTString}  # fmt: skip
    for name, kind in kinds.items():
        layer.CreateField(ogr.FieldDefn(name, kind))
    lines = [",".join(kinds)]
    for k, (when, level) in enumerate(zip(DAYS, LEVELS)):
        part = "train" if k < 20 else "test"
        values = [
            "Dam A",
            when.isoformat(),
            level + (0 if k < 20 else 0.25),
            level - 0.2,
            level + 0.2,
            "network",
            part,
            "cloud" if k == 30 else "",
        ]
        lines.append(",".join(map(str, values)))
        feature = ogr.Feature(layer.GetLayerDefn())
        for name, value in zip(kinds, values):
            if name == "date":
                feature.SetField(name, when.year, when.month, when.day, when.hour, when.minute, when.second, 100)
            else:
                feature.SetField(name, value)
        layer.CreateFeature(feature)
    data = layer = None
    names["csv"].write_text("\n".join(lines), encoding="utf-8")
    names["gauge"].write_text(
        "\n".join(["Dam;Date;Stage", *(f"DAM A;{w:%d/%m/%Y};{100 * v:g}" for w, v in zip(DAYS, LEVELS))]), encoding="utf-8"
    )
    return {key: str(path) for key, path in names.items()}


def test_layer_against_a_gauge(tables, qgis_process, tmp_path):
    out = {key: str(tmp_path / name) for key, name in (("REPORT", "r.html"), ("CSV", "t.csv"), ("JSON", "f.json"))}
    done = qgis_process(
        "--json", "run", "waterdl:assesslevels", ESTIMATES=tables["layer"], GAUGE=tables["gauge"], UNIT="cm", LIMIT=0.2, **out
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)["results"]
    assert (
        found["N"] == 20
        and found["RMSE"] == pytest.approx(0.25)
        and found["BIAS"] == pytest.approx(0.25)
        and found["MAE"] == pytest.approx(0.25)
    )
    assert (
        found["DAYS_OFF"] == 20
        and found["COVERAGE"] == 1
        and found["NSE"] == found["R2"] == pytest.approx(helpers.load_json(out["JSON"])["figures"]["nse"])
    )
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "://" not in page and page.count("<svg") == 3 and "Dam A" in page and "cloud" in page
    assert gdal.OpenEx(out["CSV"]).GetLayer(0).GetFeatureCount() == 4  # all, unseen, train, test


def test_table_as_a_loaded_layer(tables, inside):
    """The desktop hands over layers, a CSV also by its own provider."""
    code = (
        "from qgis.core import QgsProject, QgsVectorLayer\nimport processing\n"
        "uri = 'file://' + task['csv'] + '?type=csv&detectTypes=yes'\n"
        "layers = [QgsVectorLayer(uri, 'estimates', 'delimitedtext'), QgsVectorLayer(task['gauge'], 'gauge', 'ogr')]\n"
        "QgsProject.instance().addMapLayers(layers)\n"
        "answer = processing.run('waterdl:assesslevels', {'ESTIMATES': layers[0], 'GAUGE': layers[1], 'UNIT': 'cm', 'DATES': 'all'})\n"
        "QgsProject.instance().clear()\n"
    )
    found = inside.do(code, **tables)
    assert found["N"] == 40 and found["MAE"] == pytest.approx(0.125)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({}, ["observed level", "GAUGE"]),
        ({"GAUGE": "gauge", "METHOD": "area"}, ["METHOD may be network"]),
        ({"GAUGE": "gauge", "DATES": "validation"}, ["DATES may be", "train"]),
        ({"GAUGE": "gauge", "GAUGE_LEVEL": "nivel"}, ["no column 'nivel'", "Stage"]),
        ({"GAUGE": "csv", "GAUGE_LEVEL": "part"}, ["level", "GAUGE_LEVEL"]),
    ],
    ids=["no gauge", "method", "dates", "column", "texts"],
)
def test_refusals_say_what_mends_them(tables, inside, tmp_path, wrong, words):
    given = {key: tables.get(value, value) for key, value in wrong.items()}
    with pytest.raises(Refused) as refused:
        inside.run("assesslevels", ESTIMATES=tables["csv"], REPORT=str(tmp_path / "r.html"), **given)
    for word in words:
        assert word in str(refused.value)
    assert not list(tmp_path.iterdir())
