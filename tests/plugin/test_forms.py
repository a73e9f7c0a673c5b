"""The forms of all algorithms are what the settings say, and tell what they need."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from tests.plugin.conftest import ROOT, Inside, Refused, small_model
from water_dl_plugin.engine import settings
from water_dl_plugin.engine.config import params

pytestmark = pytest.mark.qgis
# no setting of any config, but data: what is read and what is written
DATA = {
    "exportchips": {"INPUT", "LABELS", "STACK", "AREA", "WATER", "OUTPUT"}, "trainmodel": {"CHIPS", "SETTINGS", "OUTPUT", "REPORT"}, "tunemodel": {"CHIPS", "OUTPUT", "STUDY", "REPORT"},
    "classifyraster": {"INPUT", "MODEL", "STACK", "AREA", "OUTPUT", "PROBABILITY"}, "assessclassification": {"INPUT", "LABELS", "AREA", "REPORT", "CSV", "JSON"},
    "modelinfo": {"MODEL", "REPORT"}, "installpackages": set(), "diagnostics": {"OUTPUT"},
    "refinewater": {"INPUT", "IMAGE", "STACK", "OUTPUT", "PROBABILITY"}, "vectorizewater": {"INPUT", "PROBABILITY", "DEM", "PREVIOUS", "OUTPUT"},
    "downscaledem": {"INPUT", "MODEL", "STACK", "GRID", "OUTPUT", "ERROR"},
    "floodextent": {"INPUT", "SEEDS", "STREAMS", "OUTPUT", "DEPTH", "HAND"},
    "assessflood": {"MAPS", "REFERENCE", "PERMANENT", "AREA", "REPORT", "CSV", "JSON", "OUTPUT"},
    "estimatelevel": {"INPUT", "FOLDER", "TABLE", "MODEL", "RESERVOIRS", "WATER", "WATER_FOLDER", "GAUGE", "DEM", "CURVES", "OUTPUT", "CSV", "REPORT", "CURVES_OUT", "DROPPED"},
    "exportlevelchips": {"INPUT", "FOLDER", "TABLE", "RESERVOIRS", "GAUGE", "OUTPUT", "DROPPED"},
    "assesslevels": {"ESTIMATES", "GAUGE", "REPORT", "CSV", "JSON"},
    "assessdem": {"INPUT", "REFERENCE", "BASELINES", "LANDCOVER", "AREA", "REPORT", "CSV", "JSON", "ERROR"},
    "lakestatistics": {"INPUT", "REFERENCE", "DEM", "AREA", "REPORT", "CSV", "JSON", "MATCHES"},
}  # fmt: skip
CONFIGS = {
    "exportchips": settings.ChipsConfig,
    "trainmodel": settings.TrainConfig,
    "tunemodel": settings.TuneConfig,
    "classifyraster": settings.InferConfig,
    "assessclassification": settings.AssessConfig,
    "assessdem": settings.AssessDemConfig,
    "refinewater": settings.RefineConfig,
    "vectorizewater": settings.VectorizeConfig,
    "lakestatistics": settings.LakesConfig,
    "floodextent": settings.FloodConfig,
    "assessflood": settings.AssessFloodConfig,
    "estimatelevel": settings.EstimateLevelConfig,
    "assesslevels": settings.AssessLevelsConfig,
    "exportlevelchips": settings.LevelChipsConfig,
    "downscaledem": settings.DownscaleConfig,
}

FORMS = """
from qgis.core import QgsApplication, QgsProcessingParameterDefinition as Definition, QgsProcessingParameterNumber as Number
answer = {}
for algorithm in QgsApplication.processingRegistry().providerById("waterdl").algorithms():
    rows = []
    for d in algorithm.parameterDefinitions():
        flags, row = d.flags(), {"name": d.name(), "label": d.description(), "help": d.help(), "default": d.defaultValue(), "type": d.type(), "destination": d.isDestination()}
        row["advanced"], row["optional"] = bool(flags & Definition.FlagAdvanced), bool(flags & Definition.FlagOptional)
        if d.type() == "enum":
            row["static"], row["options"] = d.usesStaticStrings(), list(d.options())
        if d.type() == "number":
            row["low"], row["high"], row["double"] = d.minimum(), d.maximum(), d.dataType() == Number.Double
        if d.type() == "string":
            row["multiline"] = d.multiLine()
        if d.type() == "field":
            row["parent"] = d.parentLayerParameterName()
        rows.append(row)
    can, why = algorithm.canExecute()
    answer[algorithm.name()] = {
        "rows": rows, "title": algorithm.displayName(), "group": algorithm.group(), "group id": algorithm.groupId(), "help": algorithm.shortHelpString(),
        "tags": algorithm.tags(), "icon": not algorithm.icon().isNull(), "can": can, "why": why,
    }
"""


@pytest.fixture(scope="module")
def forms(inside):
    return inside.do(FORMS)


def test_these_algorithms_are_there(forms):
    assert set(forms) == set(DATA)


@pytest.mark.parametrize("name", DATA)
def test_algorithm_tells_what_it_is(forms, name):
    form = forms[name]
    assert re.fullmatch(r"[a-z]+", name) and re.fullmatch(r"[A-Z][A-Za-z ]+", form["title"])
    assert re.fullmatch(r"[1-5] (Prepare|Train|Map|Assess|Deploy)", form["group"]) and re.fullmatch("[a-z]+", form["group id"])
    assert len(form["help"]) > 100 and len(form["tags"]) > 3 and form["icon"] and form["can"]
    for row in form["rows"]:
        assert row["help"] in form["help"]


@pytest.mark.parametrize("name", DATA)
def test_parameters_are_the_data_and_the_settings(forms, name):
    names = [row["name"] for row in forms[name]["rows"]]
    fields = {item.name.upper() for item in params(CONFIGS[name])} if name in CONFIGS else set()
    if name == "installpackages":
        fields = {"PURPOSE", "ONLY_SHOW", "DEVICE", "INDEX_URL"}
    assert len(names) == len(set(names)) and set(names) == DATA[name] | fields


@pytest.mark.parametrize("name", DATA)
def test_parameter_has_label_help_and_default(forms, name):
    for row in forms[name]["rows"]:
        assert len(row["help"]) > 10 and row["help"].endswith("."), row
        assert row["label"] and "_" not in row["label"] and row["label"] != row["name"], row
        required = row["name"] in DATA[name] or row["name"] == "CLASS_FIELD"
        if not required and row["type"] not in ("file",):
            assert row["default"] is not None or row["optional"], row


@pytest.mark.parametrize("name", CONFIGS)
def test_form_says_what_the_settings_say(forms, name):
    rows = {row["name"]: row for row in forms[name]["rows"]}
    for item in params(CONFIGS[name]):
        row = rows[item.name.upper()]
        assert row["help"] == item.help and row["advanced"] == item.advanced
        assert row["label"] == (f"{item.label} [{item.unit}]" if item.unit else item.label)
        if item.choices:
            assert row["static"] and row["options"] == list(item.choices) and row["default"] == item.default
        elif item.kind in (int, float):
            assert row["default"] == item.default and row["double"] == (item.kind is float)
            assert (item.minimum is None or row["low"] == item.minimum) and (item.maximum is None or row["high"] == item.maximum)
        elif item.of_input:
            assert row["type"] == "field" and row["parent"] == item.of_input
            assert rows[row["parent"]]["type"] == "source"  # with "layer" QGIS 3.22 dies as soon as its form shows a raster
        elif item.file:
            assert row["type"] == "file"
        elif item.kind is str:
            assert row["type"] == "string" and row["multiline"] == item.multiline and (row["default"] or "") == item.default
        else:
            assert row["type"] == "boolean" and row["default"] is item.default


GIVEN = """
from qgis.core import QgsApplication, QgsProcessingContext
from water_dl_plugin.algorithms.base import Data
from water_dl_plugin.engine.config import params
answer = {}
for algorithm in QgsApplication.processingRegistry().providerById("waterdl").algorithms():
    data = Data(algorithm, task["given"].get(algorithm.name(), {}), QgsProcessingContext(), Log())
    answer[algorithm.name()] = {item.name: data.setting(item) for item in params(algorithm.CONFIG)}
"""


def test_a_form_left_as_it_is_gives_the_default_settings(inside):
    """What the engine gets from an untouched form is the config's default, whatever way a widget stores it."""
    found = inside.do(GIVEN, given={})
    for name, config in CONFIGS.items():
        assert found[name] == dataclasses.asdict(config())


def test_a_form_filled_in_gives_these_settings(inside):
    given = {
        "trainmodel": {
            "LEARNING_RATE": "0.0003",
            "EPOCHS": "7",
            "FLIPS": "false",
            "ARCHITECTURE": "linknet",
            "STAGES": "[]",
            "INITIAL_WEIGHTS": "/a b.onnx",
        }
    }
    given["classifyraster"] = {"THRESHOLD": "0.25", "BANDS": "1-3", "DEVICE": "cpu"}
    found = inside.do(GIVEN, given=given)
    wanted = {
        "learning_rate": 0.0003,
        "epochs": 7,
        "flips": False,
        "architecture": "linknet",
        "stages": "[]",
        "initial_weights": "/a b.onnx",
    }
    assert {key: found["trainmodel"][key] for key in wanted} == wanted
    assert [found["classifyraster"][key] for key in ("threshold", "bands", "device")] == [0.25, "1-3", "cpu"]


WIDGETS = """
from qgis.core import QgsApplication
from qgis.gui import QgsGui, QgsProcessingGui, QgsProcessingParameterWidgetContext
from qgis.PyQt.QtWidgets import QAbstractSpinBox
from processing.gui.wrappers import WidgetWrapperFactory
answer = {}
for name, parameter, value in task["wanted"]:
    algorithm = QgsApplication.processingRegistry().algorithmById("waterdl:" + name)
    wrapper = QgsGui.processingGuiRegistry().createParameterWidgetWrapper(algorithm.parameterDefinition(parameter), QgsProcessingGui.Standard)
    wrapper.setWidgetContext(QgsProcessingParameterWidgetContext())
    widget = wrapper.createWrappedWidget(context)
    spin = widget if isinstance(widget, QAbstractSpinBox) else widget.findChild(QAbstractSpinBox)
    shown = [spin.text(), wrapper.parameterValue()]
    if value is not None:
        wrapper.setWidgetValue(value, context)
        shown.append(wrapper.parameterValue())
    answer[parameter] = shown
"""


def test_number_fields_show_small_numbers(inside):
    """A spin box with too few decimals would turn a learning rate of 1e-5 into 0."""
    wanted = [
        ["trainmodel", "LEARNING_RATE", 1e-5],
        ["trainmodel", "WEIGHT_DECAY", 3e-5],
        ["trainmodel", "NOISE", 0.015],
        ["classifyraster", "THRESHOLD", 0.125],
        ["classifyraster", "DIVIDE_BY", 1e-4],
        ["exportchips", "BUFFER", 0.00027],
    ]
    found = inside.do(WIDGETS, wanted=wanted)
    assert found["LEARNING_RATE"] == ["Not set", None, 1e-5]  # the network's own, unless one is given
    assert found["WEIGHT_DECAY"][0].startswith("0.0001") and found["WEIGHT_DECAY"][2] == 3e-5
    assert found["NOISE"][2] == 0.015 and found["THRESHOLD"][1] is None and found["THRESHOLD"][2] == 0.125 and found["DIVIDE_BY"][2] == 1e-4
    assert found["BUFFER"][2] == 0.00027  # one Landsat pixel in degrees


# --- packages that are missing


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """QGIS on the system's own Python, which has none of the packages."""
    env = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    check = subprocess.run(["/usr/bin/python3", "-s", "-c", "import onnxruntime"], capture_output=True, env=env, check=False)
    if check.returncode == 0:
        pytest.skip("the system's Python has onnxruntime")
    place = tmp_path_factory.mktemp("bare")
    process = Inside(
        python="/usr/bin/python3", PYTHONNOUSERSITE="1", PATH="/usr/bin:/bin", QGIS_CUSTOM_CONFIG_PATH=str(place / "profile"),
        WATER_DL_PACKAGES=str(place / "packages"),
    )  # fmt: skip
    yield process
    process.close()


def test_without_packages_the_toolbox_lists_all_and_says_what_mends_it(bare, forms):
    found = bare.do(FORMS)
    assert set(found) == set(forms)
    for name, form in found.items():
        needs = name in ("trainmodel", "classifyraster", "modelinfo", "downscaledem")
        assert form["rows"] == forms[name]["rows"]
        if needs:
            assert not form["can"] and "waterdl:installpackages" in form["why"] and "onnxruntime" in form["why"]
    assert found["exportchips"]["can"] and found["installpackages"]["can"] and found["diagnostics"]["can"]


def test_without_packages_the_run_itself_fails_with_the_same_step(bare, scene, tmp_path):
    """qgis_process and models do not ask canExecute."""
    (tmp_path / "m.onnx").write_bytes(b"")
    for name, given in {
        "classifyraster": {"INPUT": scene.raster, "MODEL": "m.onnx"},
        "modelinfo": {"MODEL": "m.onnx"},
        "trainmodel": {"CHIPS": str(tmp_path)},
    }.items():
        with pytest.raises(Refused, match="waterdl:installpackages"):
            bare.run(
                name, **{**given, "OUTPUT": str(tmp_path / ("o.tif" if "INPUT" in given else "o.onnx"))} if name != "modelinfo" else given
            )
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx"}


def test_without_packages_chips_are_exported(bare, scene, tmp_path):
    """Nothing but GDAL and numpy is needed to prepare."""
    done = bare.run(
        "exportchips", INPUT=scene.raster, LABELS=scene.labels, CLASS_FIELD="kind", TILE_SIZE=32, STRIDE=32, OUTPUT=str(tmp_path / "chips")
    )
    assert done.results["NUMBER"] > 10


def test_mapping_needs_no_torch(tmp_path, scene, qgis_process):
    """A model is applied where torch can't be imported at all."""
    from tests import road

    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "torch.py").write_text("raise ImportError('no torch here')")
    path = small_model(tmp_path / "mean.onnx", 4, props={"waterdl": road.waterdl(4)})
    process = Inside(python=sys.executable, PYTHONPATH=f"{trap}{os.pathsep}{ROOT}", QGIS_CUSTOM_CONFIG_PATH=str(tmp_path / "profile"))
    try:
        process.run("classifyraster", INPUT=scene.raster, MODEL=path, OUTPUT=str(tmp_path / "a.tif"), THREADS=1)
        assert process.do("try:\n    import torch\nexcept ImportError as error:\n    answer = str(error)") == "no torch here"
    finally:
        process.close()
    assert (tmp_path / "a.tif").exists()
