"""tunemodel and the settings file of trainmodel, in the real programs."""

from __future__ import annotations

import json

import pytest

from tests import helpers
from tests.plugin.conftest import Refused

pytestmark = pytest.mark.qgis
SVM = {"ARCHITECTURE": "svm", "FIXED": '{"pixels_per_class": 200}', "SEARCH": "svm_c, svm_gamma", "THREADS": 1, "PARALLEL": 1}


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    images, labels = helpers.bright_is_water(8, size=64, bands=3)
    return helpers.chips_folder(tmp_path_factory.mktemp("chips") / "chips", images, labels, ["train"] * 5 + ["validation"] * 3)


def test_tune_then_train_with_what_was_found(qgis_process, inside, chips, tmp_path):
    """A network, in the real qgis_process; training with the best settings comes to the very figure of the search."""
    out = {"OUTPUT": tmp_path / "best.json", "STUDY": tmp_path / "study.sqlite", "REPORT": tmp_path / "report.html"}
    settings = {
        "ARCHITECTURE": "linknet",
        "TRIALS": 2,
        "EPOCHS": 1,
        "FIXED": '{"mixed_precision": false}',
        "SEARCH": "learning_rate,noise",
        "THREADS": 1,
        "PARALLEL": 1,
    }
    done = qgis_process("--json", "run", "waterdl:tunemodel", CHIPS=chips, **settings, **out)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["results"]
    best = helpers.load_json(out["OUTPUT"])
    assert (
        told["TRIALS"] == 2 and told["BEST_TRIAL"] in (1, 2) and set(best) == {"architecture", "mixed_precision", "learning_rate", "noise"}
    )
    assert "Best settings" in out["REPORT"].read_text(encoding="utf-8") and sorted(tmp_path.iterdir()) == sorted(out.values())
    trained = inside.run(
        "trainmodel", CHIPS=chips, SETTINGS=str(out["OUTPUT"]), EPOCHS=1, THREADS=1, DEVICE="cpu", OUTPUT=str(tmp_path / "m.onnx")
    )
    assert trained.results["FIGURE"] == pytest.approx(told["FIGURE"], abs=1e-12)
    log = "\n".join(trained.log)
    assert "From the settings file: architecture 'linknet', instead of 'auto'." in log and "From the settings file: noise" in log
    info = json.loads(inside.run("modelinfo", MODEL=str(tmp_path / "m.onnx")).results["INFO"])
    assert {k: info["training"]["settings"][k] for k in best} == best and info["training"]["settings"]["epochs"] == 1


def test_a_baseline_is_tuned_and_its_study_kept(inside, chips, tmp_path):
    paths = {"OUTPUT": str(tmp_path / "best.json"), "STUDY": str(tmp_path / "study.sqlite"), "REPORT": str(tmp_path / "report.html")}
    found = inside.run("tunemodel", CHIPS=chips, **SVM, TRIALS=2, **paths).results
    assert found["TRIALS"] == 2 and set(helpers.load_json(paths["OUTPUT"])) == {"architecture", "pixels_per_class", "svm_c", "svm_gamma"}
    again = inside.run("tunemodel", CHIPS=chips, **SVM, TRIALS=1, **paths)  # nothing is left to do
    assert again.results["FIGURE"] == found["FIGURE"] and any("Going on with a study of 2 trials" in line for line in again.log)
    with pytest.raises(Refused, match=r"Not the same: .*the seed \(0, now 1\)"):
        inside.run("tunemodel", CHIPS=chips, **SVM, TRIALS=3, SEED=1, **paths)


@pytest.mark.parametrize("text, words", [
    ('{"nois": 1}', "Unknown setting nois"), ('{"noise": 7}', "must be from 0 to 1"), ("[]", "needs a JSON object"), ("{", "not valid JSON"), (b"\xff\xfe{", "can't be read"),
])  # fmt: skip
def test_a_wrong_settings_file_is_told(inside, chips, tmp_path, text, words):
    path = tmp_path / "settings.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Refused, match=words):
        inside.run("trainmodel", CHIPS=chips, SETTINGS=str(path), OUTPUT=str(tmp_path / "m.onnx"))
    assert not (tmp_path / "m.onnx").exists()
