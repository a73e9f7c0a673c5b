"""What can't work is refused with a reason and a remedy, through real QGIS: no Python traceback, and no file that was not there before."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests import helpers, road
from tests.plugin.conftest import Refused, label_layer, scene_pixels, small_model

pytestmark = pytest.mark.qgis


def files(folder) -> set:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def refuses(inside, tmp_path):
    """`refuses("exportchips", "a word", ..., INPUT=...)`: the run fails, its message has the words, at least two sentences, and no new file is left."""

    def check(algorithm, *words, outputs=tmp_path, **parameters):
        before = files(outputs)
        with pytest.raises(Refused) as caught:
            inside.run(algorithm, **{name: str(value) if hasattr(value, "joinpath") else value for name, value in parameters.items()})
        message = str(caught.value)
        for word in words:
            assert word in message
        remedy = message.strip().splitlines()[-1]
        assert len(message.splitlines()) > 1 and remedy[-1] in ".?" and "Traceback" not in message
        assert files(outputs) == before

    return check


@pytest.fixture(scope="module")
def bad(tmp_path_factory, scene) -> SimpleNamespace:
    """Files that are not what they should be."""
    folder = tmp_path_factory.mktemp("bad")
    text = folder / "text.tif"
    text.write_text("This is no raster.")
    elsewhere = helpers.utm(200, 160, x=700_000.0)
    outside = label_layer(folder / "outside.gpkg", scene.water.astype(int), {0: "land", 1: "water"}, elsewhere)
    box = helpers.box(scene.grid, 10, 10, 50, 50)
    bare = helpers.write_layer(
        folder / "bare.gpkg", [(box, {"kind": "water"}), (helpers.box(scene.grid, 80, 10, 50, 50), {"kind": "land"})], ""
    )
    empty = helpers.write_layer(folder / "empty.gpkg", [(box, {"kind": None, "other": 1})], scene.grid.crs)
    with sqlite3.connect(empty) as data:
        data.execute("ALTER TABLE labels ADD COLUMN kind TEXT")
    small = helpers.write_layer(
        folder / "small.gpkg",
        [(helpers.box(scene.grid, 10, 10, 2, 2), {"kind": "water"}), (helpers.box(scene.grid, 80, 10, 2, 2), {"kind": "land"})],
        scene.grid.crs,
    )
    return SimpleNamespace(folder=folder, text=text, none=folder / "none.tif", outside=outside, bare=bare, empty=empty, small=small)


@pytest.fixture
def export(scene, tmp_path) -> dict:
    """Good parameters of exportchips, to spoil one at a time."""
    return {
        "INPUT": scene.raster,
        "LABELS": scene.labels,
        "CLASS_FIELD": "kind",
        "TILE_SIZE": 32,
        "STRIDE": 32,
        "OUTPUT": tmp_path / "chips",
    }


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> str:
    """A small model file for four bands."""
    return small_model(tmp_path_factory.mktemp("model") / "mean.onnx", 4, props={"waterdl": road.waterdl(4)})


@pytest.fixture
def classify(scene, ready, tmp_path) -> dict:
    """Good parameters of classifyraster."""
    return {"INPUT": scene.raster, "MODEL": ready, "OUTPUT": tmp_path / "classes.tif", "PROBABILITY": tmp_path / "chance.tif", "THREADS": 1}


@pytest.fixture
def assess(scene, job, tmp_path) -> dict:
    """Good parameters of assessclassification."""
    return {
        "INPUT": job.classes,
        "LABELS": scene.labels,
        "CLASS_FIELD": "kind",
        "REPORT": tmp_path / "a.html",
        "CSV": tmp_path / "a.csv",
        "JSON": tmp_path / "a.json",
    }


def test_good_parameters_are_not_refused(inside, export, classify, assess):
    """So that a refusal below is for what was spoilt."""
    for name, parameters in (("exportchips", export), ("classifyraster", classify), ("assessclassification", assess)):
        inside.run(name, **{key: str(value) if hasattr(value, "joinpath") else value for key, value in parameters.items()})


# --- rasters


def test_no_such_file(refuses, bad, export, classify, assess):
    for name in ("INPUT", "LABELS", "STACK", "AREA"):
        refuses("exportchips", "none.tif", "Check the path", **{**export, name: bad.none})
    for name in ("INPUT", "MODEL", "AREA"):
        refuses("classifyraster", "none.tif", "Check the path", **{**classify, name: bad.none})
    for name in ("INPUT", "LABELS"):
        refuses("assessclassification", "none.tif", "Check the path", **{**assess, name: bad.none})
    refuses("modelinfo", "no model file", "Check the path", MODEL=bad.none)


def test_not_a_raster(refuses, bad, scene, export, classify, assess):
    for name, given in (("exportchips", export), ("classifyraster", classify), ("assessclassification", assess)):
        refuses(name, "text.tif", "QGIS can open it", **{**given, "INPUT": bad.text})
        refuses(name, "labels", **{**given, "INPUT": scene.labels})
    refuses("exportchips", "text.tif", **{**export, "LABELS": bad.text})


@pytest.mark.parametrize(
    ("bands", "words"),
    [(",", "No band was chosen"), ("9", "Band 9 is missing"), ("2-9", "missing"), ("swir", "There is no band 'swir'"), ("0", "Band 0")],
)
def test_bands(refuses, export, classify, bands, words):
    refuses("exportchips", words, **{**export, "BANDS": bands})
    refuses("classifyraster", words, **{**classify, "BANDS": bands})


# --- labels


def test_labels_outside_the_raster(refuses, bad, export, assess):
    refuses("exportchips", "outside the raster", "CRS", **{**export, "LABELS": bad.outside})
    refuses("assessclassification", "outside the raster", "CRS", **{**assess, "LABELS": bad.outside})


def test_labels_without_crs(refuses, bad, export, assess):
    refuses("exportchips", "no coordinate reference system", "Assign it", **{**export, "LABELS": bad.bare})
    refuses("assessclassification", "no coordinate reference system", "Assign it", **{**assess, "LABELS": bad.bare})


def test_class_field(refuses, bad, export, assess):
    refuses("exportchips", "no field 'nope'", "kind, role", **{**export, "CLASS_FIELD": "nope"})
    refuses("exportchips", "one class only", "class field", **{**export, "CLASS_FIELD": None})
    refuses("exportchips", "'kind' is empty in all labels", **{**export, "LABELS": bad.empty})
    refuses("assessclassification", "no field 'nope'", "kind, role", **{**assess, "CLASS_FIELD": "nope"})
    refuses("assessclassification", "'kind' is empty in all labels", **{**assess, "LABELS": bad.empty})


def test_no_labelled_chip(refuses, bad, export):
    refuses("exportchips", "No chip is left", "Lower the minimum labelled share", **{**export, "LABELS": bad.small, "MIN_LABELLED": 50})


# --- chips folders


def train(chips, out) -> dict:
    return {"CHIPS": chips, "EPOCHS": 1, "BATCH_SIZE": 2, "THREADS": 1, "OUTPUT": out / "model.onnx", "REPORT": out / "report.html"}


@pytest.fixture
def chips(tmp_path) -> str:
    return helpers.chips_folder(tmp_path / "chips", *helpers.bright_is_water(4), split=["train", "train", "train", "validation"])


def test_chips_folder_empty(refuses, tmp_path):
    (tmp_path / "empty").mkdir()
    refuses("trainmodel", "is not a chips folder", "exportchips", **train(tmp_path / "empty", tmp_path))
    (tmp_path / "listed").mkdir()
    (tmp_path / "listed" / "map.txt").write_text("")
    refuses("trainmodel", "lists no chip", **train(tmp_path / "listed", tmp_path))
    refuses("trainmodel", "no chips folder", "exportchips", **train(tmp_path / "nowhere", tmp_path))


@pytest.mark.parametrize("lost", ["chips.json", "images/000000002.tif", "labels/000000000.tif"])
def test_chips_folder_half_written(refuses, chips, tmp_path, lost):
    (tmp_path / "chips" / lost).unlink()
    refuses("trainmodel", "complete" if "/" in lost else "half-written", "exportchips", **train(chips, tmp_path))


def test_chip_damaged(refuses, chips, tmp_path):
    whole = (tmp_path / "chips" / "images" / "000000001.tif").read_bytes()
    (tmp_path / "chips" / "images" / "000000001.tif").write_bytes(whole[: len(whole) // 2])
    refuses("trainmodel", "000000001.tif", "exportchips", **train(chips, tmp_path))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "bands": 3}', '{"schema": 1, "tile_size": 1e999}', "[" * 100_000]
)
def test_chips_manifest_that_is_none(refuses, chips, tmp_path, text):
    (tmp_path / "chips" / "chips.json").write_text(text)
    refuses("trainmodel", "chips.json", "exportchips", **train(chips, tmp_path))


def test_chips_for_another_task(refuses, scene, tmp_path):
    other = helpers.chips_folder(tmp_path / "depths", *helpers.bright_is_water(4), task="depth", values=[1, 2, 3, 4])
    refuses("trainmodel", "'depth'", **train(other, tmp_path))
    refuses(
        "exportchips",
        "'depth'",
        INPUT=scene.raster,
        LABELS=scene.labels,
        CLASS_FIELD="kind",
        TILE_SIZE=32,
        STRIDE=32,
        APPEND=True,
        OUTPUT=other,
    )


def test_a_folder_of_other_files_is_not_replaced(refuses, export, tmp_path):
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "thesis.txt").write_text("precious")
    refuses("exportchips", "holds other files", "new folder", **export)
    assert (tmp_path / "chips" / "thesis.txt").read_text() == "precious"


# --- model files


def test_model_truncated_or_no_model(refuses, model, bad, classify, tmp_path):
    whole = Path(model).read_bytes()
    for name, data in {
        "cut.onnx": whole[: len(whole) // 2],
        "short.onnx": whole[:100],
        "empty.onnx": b"",
        "noise.onnx": bytes(range(256)) * 40,
    }.items():
        (tmp_path / name).write_bytes(data)
        refuses("classifyraster", name, **{**classify, "MODEL": tmp_path / name})
        refuses("modelinfo", name, MODEL=tmp_path / name)
    refuses("classifyraster", "text.tif", ".onnx", **{**classify, "MODEL": bad.text})
    refuses("classifyraster", "no model file", **{**classify, "MODEL": tmp_path})


def test_model_for_another_number_of_bands(refuses, classify):
    refuses("classifyraster", "wants 4 bands (B1, B2, B3, B4), the raster gives 3", "bands field", **{**classify, "BANDS": "1-3"})


def spoilt(**keys) -> dict:
    return {**road.waterdl(4), **keys}


GREY = [0, 0, 0]
HOSTILE = {
    "no JSON": "{", "a list": [], "nothing": {}, "another schema": spoilt(schema=99), "nested": "[" * 100_000, "large": json.dumps({"x": "y" * 6_000_000}),
    "bands are a number": spoilt(bands=4), "other bands": road.waterdl(3), "very many bands": spoilt(bands=[{"name": "x", "unit": ""}] * 100_000),
    "a band's name is a list": spoilt(bands=[{"name": ["x"], "unit": ""}] * 4), "task is a number": spoilt(task=7),
    "class value": spoilt(classes=[{"value": 300, "name": "a", "colour": GREY}, {"value": 1, "name": "b", "colour": GREY}]),
    "colour": spoilt(classes=[{"value": 0, "name": "a", "colour": "red"}, {"value": 1, "name": "b", "colour": "blue"}]),
    "three classes": road.waterdl(4, classes=("a", "b", "c")), "threshold is text": spoilt(threshold="0.5"), "threshold": spoilt(threshold=1e300),
    "enormous chips": spoilt(chip_size=10**12), "enormous multiple": spoilt(multiple=10**9), "multiple 0": spoilt(multiple=0), "negative margin": spoilt(margin=-1),
    "NaN": json.dumps(spoilt(threshold=float("nan"))), "infinite": json.dumps(road.waterdl(4)).replace("0.5", "1e999"),
    "huge whole number": json.dumps(road.waterdl(4)).replace('"threshold": 0.5', '"threshold": ' + "9" * 400),
    "normalisation": spoilt(normalisation={"scheme": "percentile", "bands": 4}), "architecture": spoilt(architecture="__import__('os').system('true')"),
    "low is high": spoilt(normalisation={"scheme": "minmax", "bands": [{"fill": 0, "low": 1, "high": 1}] * 4}),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_metadata(refuses, classify, tmp_path, what):
    path = small_model(tmp_path / "hostile.onnx", 4, props={"waterdl": HOSTILE[what]})
    refuses("classifyraster", **{**classify, "MODEL": path})
    refuses("modelinfo", MODEL=path, REPORT=tmp_path / "info.html")


SEGMENTOR = {"model_type": json.dumps("Segmentor")}
FOREIGN = {
    "detector": {"model_type": json.dumps("Detector")}, "mean is text": {**SEGMENTOR, "standardization_mean": json.dumps("x"), "standardization_std": json.dumps("y")},
    "mean of other length": {**SEGMENTOR, "standardization_mean": [0.5], "standardization_std": [0.5]},
    "std 0": {**SEGMENTOR, "standardization_mean": [0.5] * 4, "standardization_std": [0] * 4}, "names": {**SEGMENTOR, "class_names": 5},
    "resolution": {**SEGMENTOR, "resolution": json.dumps("coarse")}, "tile": {**SEGMENTOR, "tile_size": 10**15}, "threshold": {**SEGMENTOR, "seg_thresh": 50},
    "no JSON": {"model_type": "Segmentor"}, "nested": {**SEGMENTOR, "class_names": "[" * 100_000},
}  # fmt: skip


def test_deepness_metadata_that_is_sound(inside, classify):
    """So that a refusal below is for what was spoilt."""
    keys = {
        **SEGMENTOR,
        "class_names": {"0": "land", "1": "water"},
        "standardization_mean": [0.5] * 4,
        "standardization_std": [0.5] * 4,
        "tile_size": 64,
        "resolution": 1000,
    }
    path = small_model(classify["OUTPUT"].with_suffix(".onnx"), 4, props=keys)
    inside.run("classifyraster", **{**{k: str(v) for k, v in classify.items()}, "MODEL": path})


@pytest.mark.parametrize("what", FOREIGN)
def test_hostile_deepness_metadata(refuses, classify, tmp_path, what):
    refuses("classifyraster", **{**classify, "MODEL": small_model(tmp_path / "hostile.onnx", 4, props=FOREIGN[what])})


# --- settings


def test_overlap_as_large_as_the_window(refuses, classify):
    refuses(
        "classifyraster", "overlap (64 px) must be smaller than the window (64 px)", "quarter", **{**classify, "WINDOW": 64, "OVERLAP": 64}
    )
    refuses("classifyraster", "smaller than the window", **{**classify, "WINDOW": 64, "OVERLAP": 100})


def test_stride_larger_than_the_tile(refuses, export):
    refuses("exportchips", "stride (64 px) is larger than the tile (32 px)", **{**export, "STRIDE": 64})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OVERLAP", 5000, "from 0 to 4096 px"),
        ("THRESHOLD", 2, "from 0 to 1"),
        ("DEVICE", "tpu", "Choose one of: auto, cpu, cuda"),
        ("BATCH_SIZE", 257, "from 0 to 256 windows"),
        ("OVERLAP", "many", "must be a number, not 'many'"),
    ],
)
def test_setting_out_of_its_limits(refuses, classify, name, value, words):
    refuses("classifyraster", words, **{**classify, name: value})


@pytest.mark.parametrize("text", ["[{]", "{}", '[{"loss": "nope"}]', '[{"epochs": 0}]', '[{"lr": 99}]', '[{"speed": 3}]', "[1]"])
def test_stages_that_are_none(refuses, chips, tmp_path, text):
    refuses("trainmodel", "tage", **train(chips, tmp_path), STAGES=text)


def test_nothing_to_write(refuses, inside, classify, assess):
    refuses("classifyraster", "nothing to write", "Choose a class raster", **{**classify, "OUTPUT": None, "PROBABILITY": None})
    told = inside.run("assessclassification", **{**{k: str(v) for k, v in assess.items()}, "REPORT": None, "CSV": None, "JSON": None})
    assert 0.9 < told.results["IOU"] <= 1  # its figures are outputs, too


def test_output_is_an_input(refuses, classify, scene, tmp_path):
    whole, copy = Path(scene.raster).read_bytes(), tmp_path / "scene.tif"
    copy.write_bytes(whole)
    refuses("classifyraster", "same file", **{**classify, "INPUT": copy, "OUTPUT": copy})
    assert copy.read_bytes() == whole


MODEL = """
from qgis.core import QgsProcessingContext, QgsProcessingModelAlgorithm, QgsProcessingModelChildAlgorithm, QgsProcessingModelChildParameterSource as Source
model = QgsProcessingModelAlgorithm("m", "m", "m")
child = QgsProcessingModelChildAlgorithm(task["algorithm"])
child.setChildId("c")
for name, value in task["parameters"].items():
    child.addParameterSources(name, [Source.fromStaticValue(value)])
model.addChildAlgorithm(child)
log = Log()
results, ok = model.run({}, QgsProcessingContext(), log)
answer = [ok, " ".join(log.lines)]
"""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OVERLAP", 5000, "from 0 to 4096 px"),
        ("THRESHOLD", 2.5, "from 0 to 1"),
        ("BATCH_SIZE", 257, "from 0 to 256"),
        ("WINDOW", -1, "from 0 to 8192"),
    ],
)
def test_limits_hold_inside_a_model(inside, classify, tmp_path, name, value, words):
    """A model hands values to its steps without a check."""
    parameters = {k: str(v) if hasattr(v, "joinpath") else v for k, v in {**classify, name: value}.items()}
    ok, log = inside.do(MODEL, algorithm="waterdl:classifyraster", parameters=parameters)
    assert not ok and words in log and not files(tmp_path)


# --- places to write to


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    """A disk of 48 KB, one of 20 MB, and a read-only one."""
    places = {}
    try:
        for name, options in {"tiny": "size=48k", "small": "size=20m", "readonly": "size=1m,ro"}.items():
            place = tmp_path_factory.mktemp(name)
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
            places[name] = place
        yield SimpleNamespace(**places)
    finally:
        for place in places.values():
            subprocess.run(["umount", "-l", str(place)], check=False)


def test_folder_not_writable(refuses, disks, export, classify, assess, chips, tmp_path):
    (tmp_path / "a file").write_text("")
    for place in (disks.readonly, tmp_path / "a file", tmp_path / "nowhere"):
        refuses("exportchips", str(place), **{**export, "OUTPUT": place / "chips"})
        refuses("trainmodel", str(place), **{**train(chips, tmp_path), "OUTPUT": place / "m.onnx"})
        refuses("trainmodel", str(place), **{**train(chips, tmp_path), "REPORT": place / "m.html"})
        for name in ("OUTPUT", "PROBABILITY"):
            refuses("classifyraster", str(place), **{**classify, name: place / "m.tif"})
        for name in ("REPORT", "CSV", "JSON"):
            refuses("assessclassification", str(place), **{**assess, name: place / "m.x"})
        refuses("modelinfo", str(place), MODEL=classify["MODEL"], REPORT=place / "m.html")
        refuses("diagnostics", str(place), OUTPUT=place / "m.txt")


def test_disk_full(refuses, disks, scene, export, classify, assess, chips, tmp_path):
    noise = np.random.default_rng(0).integers(0, 2**16, (4, 160, 200)).astype(np.uint16)  # does not compress
    scene_of_noise = helpers.write_raster(tmp_path / "noise.tif", noise, scene.grid)
    refuses(
        "classifyraster",
        "tiny",
        "disk",
        outputs=disks.tiny,
        **{**classify, "INPUT": scene_of_noise, "OUTPUT": disks.tiny / "a.tif", "PROBABILITY": disks.tiny / "b.tif"},
    )
    refuses("exportchips", "tiny", "disk", outputs=disks.tiny, **{**export, "OUTPUT": disks.tiny / "chips"})
    (disks.tiny / "filler").write_bytes(bytes(36_000))
    refuses("assessclassification", "tiny", "disk", outputs=disks.tiny, **{**assess, "REPORT": disks.tiny / "a.html"})
    given = {**train(chips, tmp_path), "OUTPUT": disks.small / "m.onnx"}
    with_state = files(disks.small)
    refuses("trainmodel", "small", "disk", outputs=tmp_path, **given)
    assert not {"m.onnx", "m.onnx.partial", "m.safetensors"} & (files(disks.small) - with_state)


# --- the same through the shell, with exit codes


def test_exit_code_and_message_in_the_shell(qgis_process, bad, scene, export, classify, tmp_path):
    def told(name, words, **parameters):
        done = qgis_process("run", f"waterdl:{name}", **{k: v for k, v in parameters.items() if v is not None})
        said = done.stdout + done.stderr
        assert done.returncode == 1 and words in said and "Traceback" not in said, said
        assert not files(tmp_path)

    told("classifyraster", "there is no file", **{**classify, "INPUT": bad.none})
    told("classifyraster", "the raster gives 3", **{**classify, "BANDS": "1-3"})
    told("classifyraster", "from 0 to 4096 px", **{**classify, "OVERLAP": 5000})
    told("exportchips", "outside the raster", **{**export, "LABELS": bad.outside})
    told("trainmodel", "is not a chips folder", **train(scene.folder, tmp_path))


def test_json_of_a_failure_is_empty_and_the_reason_is_in_stderr(qgis_process, bad, classify):
    done = qgis_process("--json", "run", "waterdl:classifyraster", **{**classify, "MODEL": bad.text})
    assert done.returncode == 1 and done.stdout.strip() == "" and "ONNX Runtime can load" in done.stderr


def test_rasters_of_noise_are_no_error(inside, scene, ready, tmp_path):
    """Nothing is refused that is only unusual: one pixel, all nodata."""
    for name, pixels in {"one": scene_pixels(np.ones((1, 1), bool)), "empty": np.zeros((4, 20, 30), np.uint16)}.items():
        raster = helpers.write_raster(tmp_path / f"{name}.tif", pixels, helpers.utm(pixels.shape[2], pixels.shape[1]), nodata=0)
        inside.run("classifyraster", INPUT=raster, MODEL=ready, OUTPUT=str(tmp_path / f"{name} classes.tif"), THREADS=1)
        classes, _, _ = helpers.read_raster(tmp_path / f"{name} classes.tif")
        assert classes.shape[1:] == pixels.shape[1:] and (name == "one" or (classes == 255).all())
