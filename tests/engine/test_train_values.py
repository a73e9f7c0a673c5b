"""From chips of elevations to a model file that gives residual and expected error."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from tests.helpers import chips_folder, hills
from water_dl_plugin.engine import train
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.errors import Cancelled, ConfigError
from water_dl_plugin.engine.settings import TrainConfig

QUICK = {"epochs": 40, "batch_size": 4, "depth": 1, "width": 8, "threads": 1, "device": "cpu", "mixed_precision": False}
BANDS = ({"name": "glo", "unit": "m", "kind": "elevation", "resampling": "cubic"}, {"name": "srtm", "unit": "m", "kind": "elevation", "resampling": "cubic"})  # fmt: skip
TARGET = {"name": "lidar", "unit": "m", "factor": 3.0, "vertical": "constant"}


def values_chips(folder, number=16, holes=False, **changes):
    images, values = hills(number, bands=2)
    if holes:
        values[:, :20, 10:30] = np.nan
        images[:, 1, 40:50, 40:50] = np.nan
    split = ["validation" if i % 4 == 0 else "train" for i in range(number)]
    return chips_folder(folder, images, values, split, classes=(), task="regression", **{"bands": BANDS, "target": TARGET, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("values")
    folder = values_chips(place / "chips", holes=True)
    lines = []
    run = train.train(
        folder, str(place / "m.onnx"), TrainConfig(**QUICK), lambda _, text="": lines.append(text), str(place / "report.html")
    )
    return place, run, lines


def test_it_learns_what_is_missing(trained):
    _, run, lines = trained
    figures = run.evaluation.figures()
    assert figures["rmse"] < 0.7 * figures["rmse_base"] and figures["skill"] > 0.3
    assert run.best_figure == pytest.approx(figures["rmse"], rel=1e-5) == min(r["rmse"] for r in run.history)
    assert run.settings["architecture"] == "demunet" and run.settings["loss"] == "rmse" and run.settings["learning_rate"] == 3e-3
    assert any("rmse_base" in line for line in lines)


def test_expected_errors_are_right_on_average_and_larger_where_errors_are(trained):
    place, run, _ = trained
    told, model = run.evaluation.told, OnnxModel(str(place / "m.onnx"), "cpu", 1)
    assert run.evaluation.ratio / run.evaluation.pixels == pytest.approx(1, rel=0.02)
    assert told[:, 0].sum() == run.evaluation.pixels and model.info.details["spread_scale"] != 1


def test_the_model_file_says_what_it_wants_and_gives_what_the_network_gave(trained):
    place, run, _ = trained
    model = OnnxModel(str(place / "m.onnx"), "cpu", 1)
    info = model.info
    assert (info.task, info.nodata, model.channels, info.multiple) == ("regression", "base", 2, 2) and info.margin % 2 == 0 < info.margin
    assert info.bands == (("glo", "m"), ("srtm", "m")) and info.details["target"] == TARGET and info.normalisation.elevations == (0, 1)
    assert info.details["bands"] == [{"kind": "elevation", "resampling": "cubic"}] * 2
    pixels, valid, given, target = run.look(run.validation[0])
    again = model(info.normalisation.apply(pixels, valid)[None])[0]
    np.testing.assert_allclose(again, given, rtol=0, atol=1e-3)
    assert np.isnan(target[:20, 10:30]).all() and np.isfinite(target[30:]).all() and np.isfinite(given).all()


def test_report_shows_errors_and_pictures(trained):
    place, _, _ = trained
    text = (place / "report.html").read_text()
    for wanted in ("RMSE of the interpolated base", "What the expected error is worth", "Learning curves", "lowest gain", "demunet"):
        assert wanted in text
    assert "nan" not in text.lower().replace("nanoseconds", "").split("<svg")[0] and text.count("<img") >= 4
    assert "miou" not in text and "Confusion" not in text


def test_a_run_that_was_stopped_goes_on_to_the_same_result(tmp_path):
    def stop(_, text=""):
        if text.startswith("Epoch 3/"):  # it is told before its state is kept: two are
            raise Cancelled()

    folder, config = values_chips(tmp_path / "chips", 8), TrainConfig(**{**QUICK, "epochs": 4})
    whole = train.train(folder, str(tmp_path / "whole.onnx"), config)
    with pytest.raises(Cancelled):
        train.train(folder, str(tmp_path / "parts.onnx"), dataclasses.replace(config, keep_best=False), stop)
    assert not os.path.exists(tmp_path / "parts.onnx") and os.path.isdir(tmp_path / "parts.training")
    told = []
    parts = train.train(folder, str(tmp_path / "parts.onnx"), config, lambda _, text="": told.append(text))
    assert any("Going on after epoch 2" in text for text in told) and [r["rmse"] for r in parts.history] == [
        r["rmse"] for r in whole.history
    ]


def test_what_watches_an_epoch_can_end_the_run_and_nothing_is_left(tmp_path):
    class Enough(Exception):
        pass

    def watch(row):
        seen.append((row["epoch"], row["rmse"]))
        if row["epoch"] == 2:
            raise Enough

    folder, seen = values_chips(tmp_path / "chips", 8), []
    with pytest.raises(Enough):
        train.train(folder, str(tmp_path / "m.onnx"), TrainConfig(**{**QUICK, "epochs": 4}), watch=watch)
    assert [epoch for epoch, _ in seen] == [1, 2] and os.listdir(tmp_path) == ["chips"]


@pytest.mark.parametrize("changes,wanted", [
    ({"architecture": "unet"}, "not for these chips"), ({"architecture": "random_forest"}, "not for these chips"), ({"loss": "lovasz"}, "rmse, mae"),
    ({"stages": '[{"loss": "focal", "epochs": 1}]'}, "rmse, mae"), ({"portable": True}, "Deepness"), ({"class_weights": "balanced"}, "no classes"),
    ({"monitor": "miou"}, "rmse"),
])  # fmt: skip
def test_settings_of_other_tasks_are_refused(tmp_path, changes, wanted):
    with pytest.raises(ConfigError) as caught:
        train.train(values_chips(tmp_path / "chips", 4), str(tmp_path / "m.onnx"), TrainConfig(**{**QUICK, **changes}))
    assert wanted in str(caught.value)


def test_demunet_is_not_for_classes(tmp_path):
    images = np.zeros((4, 2, 32, 32), np.uint8)
    folder = chips_folder(tmp_path / "chips", images, np.ones((4, 32, 32), np.uint8))
    for changes, wanted in (({"architecture": "demunet"}, "not for these chips"), ({"loss": "rmse"}, "bce_dice")):
        with pytest.raises(ConfigError, match=wanted):
            train.train(folder, str(tmp_path / "m.onnx"), TrainConfig(**{**QUICK, **changes}))
