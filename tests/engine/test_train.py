"""Training: the same result each time, also after a kill; the best epoch is the best; what comes out is what was trained."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import bright_is_water, chips_folder, read_raster, small_disk, umount, utm, write_raster
from water_dl_plugin.engine import checkpoint, nets, network_trainer, train
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.chips import ChipSet
from water_dl_plugin.engine.errors import Cancelled, ChipsError, ConfigError, ModelError, OutputError, TrainingError
from water_dl_plugin.engine.mapping import map_classes
from water_dl_plugin.engine.settings import SCHEMES, InferConfig, TrainConfig
from water_dl_plugin.engine.tasks import segmentation

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("tiny")


def settings(**changes):
    quick = {
        "architecture": "tiny",
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 0.02,
        "mixed_precision": False,
        "threads": 1,
        "device": "cpu",
    }
    return TrainConfig(**{**quick, **changes})


def make(folder, number=10, **changes):
    images, labels = bright_is_water(number, **changes)
    classes = ("land", "water") if changes.get("classes", 2) == 2 else ("land", "mud", "water")
    return chips_folder(folder, images, labels, ["train"] * (number - number // 4) + ["validation"] * (number // 4), classes=classes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("train") / "chips")


def weights(path) -> dict:
    return load_file(str(path)[: -len(".onnx")] + ".safetensors")


def same(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


class Stop:
    """A progress callable that raises Cancelled as soon as `when(message)` is true, or at the first call after that."""

    def __init__(self, when, later=False):
        self.when, self.later, self.due, self.calls = when, later, False, []

    def __call__(self, fraction, message=""):
        self.calls.append((fraction, message))
        if self.due or (self.when(message) and not self.later):
            raise Cancelled
        self.due = self.when(message)


# ------------------------------------------------------------------------------------------------------------- the same each time


@pytest.mark.parametrize("network, encoder", [("tiny", "resnet18"), ("linknet", "resnet18")])
def test_same_seed_same_model_another_seed_another(tmp_path, folder, network, encoder):
    if network != "tiny":
        folder = make(tmp_path / "chips", 4)
    config = settings(architecture=network, encoder=encoder, epochs=1, card="# Card", licence="CC0")
    for name, seed in (("a", 0), ("b", 0), ("c", 1))[: 3 if network == "tiny" else 2]:
        train.train(folder, str(tmp_path / f"{name}.onnx"), TrainConfig(**{**config.to_json(), "seed": seed}))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert {p.suffix for p in tmp_path.glob("?.*")} == {".onnx", ".safetensors"}  # no state is left
    if network == "tiny":
        assert not same(weights(tmp_path / "a.onnx"), weights(tmp_path / "c.onnx"))


def test_torch_is_left_as_it_was(tmp_path, folder):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.raises(Cancelled):
        train.train(folder, str(tmp_path / "m.onnx"), settings(), Stop(lambda m: m.startswith("Epoch 1"), later=True))
    train.train(folder, str(tmp_path / "m.onnx"), settings(epochs=1))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


_CHILD = """
import sys, time
from pathlib import Path
from tests.helpers import allow_network, tiny_network
from water_dl_plugin.engine import checkpoint, train
from water_dl_plugin.engine.settings import TrainConfig
import json
folder, output, settings, mark, where = sys.argv[1:]
allow_network("tiny", tiny_network())
def wait():
    Path(mark).touch()
    time.sleep(60)
seen = []
def progress(fraction, message=""):
    if where == "in epoch 3" and any(m.startswith("Epoch 2/4") for m in seen) and not message:
        wait()
    seen.append(message)
if where == "between the files":
    save = checkpoint.save
    def slow(path, tensors, state):
        if path.endswith("last.safetensors") and state["done"] == 3:
            wait()
        save(path, tensors, state)
    checkpoint.save = slow
train.train(folder, output, TrainConfig(**json.loads(settings)), progress)
"""


@pytest.mark.parametrize("where", ["in epoch 3", "between the files"])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, folder, where):
    stages = '[{"loss": "bce_dice", "epochs": 1, "lr": 0.02}, {"loss": "lovasz", "epochs": 3, "lr": 0.01}]'
    config = settings(stages=stages, monitor="loss")
    unbroken = train.train(folder, str(tmp_path / "unbroken.onnx"), config)
    output, mark = tmp_path / "m.onnx", tmp_path / "mark"
    child = subprocess.Popen([sys.executable, "-c", _CHILD, folder, str(output), json.dumps(config.to_json()), str(mark), where], cwd=ROOT)
    try:
        for _ in range(1200):
            if mark.exists() or child.poll() is not None:
                break
            time.sleep(0.05)
        assert mark.exists() and child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not output.exists() and (tmp_path / "m.training" / "last.safetensors").exists()
    said = []
    run = train.train(folder, str(output), config, lambda f, m="": said.append(m))
    assert "Going on after epoch 2 of an interrupted run." in said
    assert output.read_bytes() == (tmp_path / "unbroken.onnx").read_bytes()
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "unbroken.safetensors").read_bytes()
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in run.history] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in unbroken.history
    ]
    assert not (tmp_path / "m.training").exists()


def begun(folder, output, config, epoch=2):
    """A run that was cancelled in the epoch after `epoch`; its state lies beside `output`."""
    with pytest.raises(Cancelled):
        train.train(folder, str(output), config, Stop(lambda m: m.startswith(f"Epoch {epoch}/"), later=True))


def test_cancel_after_a_kill_between_the_two_files_keeps_the_right_weights(tmp_path, folder, monkeypatch):
    """The best weights of epoch 3 are on disk, the state that tells of epoch 3 is not: the best model so far is that of epoch 2."""
    kept, save = scripted(monkeypatch, [0.1, 0.2, 0.3, 0.4]), checkpoint.save

    def killed(path, tensors, state):
        if path.endswith("last.safetensors") and state["done"] == 3:
            raise KeyboardInterrupt
        save(path, tensors, state)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(folder, str(tmp_path / "m.onnx"), settings(epochs=4))
    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(Cancelled, match="epoch 2"):
        train.train(folder, str(tmp_path / "m.onnx"), settings(epochs=4), Stop(lambda m: m.startswith("Going on"), later=True))
    assert same(weights(tmp_path / "m.onnx"), kept[1])


def test_a_run_without_validation_goes_on_too(tmp_path):
    images, labels = bright_is_water(3)
    path = chips_folder(tmp_path / "c", images, labels)
    config = settings(validation_share=0.0, keep_best=False)
    train.train(path, str(tmp_path / "a.onnx"), config)
    begun(path, tmp_path / "b.onnx", config)
    run = train.train(path, str(tmp_path / "b.onnx"), config, report=str(tmp_path / "r.html"))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes() and all(
        math.isnan(r["loss_valid"]) for r in run.history
    )


def test_other_settings_or_chips_start_anew(tmp_path, folder):
    output = tmp_path / "m.onnx"
    config = settings(keep_best=False)
    for changes, chips, resumed in (
        ({}, folder, True), ({"card": "x", "threads": 2}, folder, True), ({"learning_rate": 0.01}, folder, False), ({"seed": 1}, folder, False),
        ({"resume": False}, folder, False), ({}, make(tmp_path / "others", seed=5), False),
    ):  # fmt: skip
        shutil.rmtree(tmp_path / "m.training", ignore_errors=True)
        begun(folder, output, config)
        stop = Stop(lambda m: m.startswith("Epoch"))
        with pytest.raises(Cancelled):
            train.train(chips, str(output), TrainConfig(**{**config.to_json(), **changes}), stop)
        said = [m for _, m in stop.calls]
        assert any(m.startswith("Going on after epoch 2") for m in said) == resumed, changes
        assert said[-1].startswith("Epoch 3/3" if resumed else "Epoch 1/3")
        assert any("starting anew" in m for m in said) == (not resumed and changes != {"resume": False})


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:1000]), lambda p: p.unlink()])
@pytest.mark.parametrize("name", ["last", "best"])
def test_a_damaged_state_starts_anew(tmp_path, folder, damage, name):
    output = tmp_path / "m.onnx"
    begun(folder, output, settings(keep_best=False, epochs=2), epoch=1)
    damage(next((tmp_path / "m.training").glob(f"{name}*")))
    run = train.train(folder, str(output), settings(keep_best=False, epochs=2))
    assert [r["epoch"] for r in run.history] == [1, 2] and output.exists()


# --------------------------------------------------------------------------------------------------------------------- stopping


def test_cancel_is_heard_in_every_batch(tmp_path, folder, monkeypatch):
    steps, calls = [], []
    batches = train.Samples.batches

    def counted(self, *args, **kwargs):
        for batch in batches(self, *args, **kwargs):
            steps.append(len(calls))
            yield batch

    monkeypatch.setattr(train.Samples, "batches", counted)
    train.train(folder, str(tmp_path / "m.onnx"), settings(epochs=2, monitor="loss"), lambda f, m="": calls.append(f))
    training = steps[:-1]  # the last one evaluates the best epoch, after the last cancel
    assert len(training) == 2 * (2 + 1) and len(set(training)) == len(training)
    assert calls == sorted(calls) and calls[-1] <= 1


def test_cancel_keeps_the_best_model_if_asked(tmp_path, folder):
    output = tmp_path / "m.onnx"
    for n, words in ((0, "Reading"), (1, "Epoch 1/3")):
        stop = Stop(lambda m, w=words: m.startswith(w), later=True)
        with pytest.raises(Cancelled) as caught:
            train.train(folder, str(output), settings(), stop)
        assert output.exists() == bool(n)
    assert "best model so far (epoch 1)" in caught.value.message
    assert OnnxModel(str(output)).info.training["epochs"] == 1
    os.remove(output)
    os.remove(tmp_path / "m.safetensors")
    begun(folder, output, settings(keep_best=False))
    assert os.listdir(tmp_path) == ["m.training"]


def scripted(monkeypatch, figures, name="miou"):
    """Let validation give these figures, one per epoch; returns the list of weights after each epoch."""
    kept, evaluate, keep = [], network_trainer.NetworkTrainer._evaluate, network_trainer.NetworkTrainer._keep

    def fake(self, criterion=None, tick=lambda k: None, only=None):
        evaluator, found = evaluate(self, criterion, tick, only)
        if criterion is not None:
            found[name] = figures[len(self.history)]
        return evaluator, found

    def record(self, optimiser, done, improved):
        kept.append({k: v.clone() for k, v in self.net.state_dict().items()})
        keep(self, optimiser, done, improved)

    monkeypatch.setattr(network_trainer.NetworkTrainer, "_evaluate", fake)
    monkeypatch.setattr(network_trainer.NetworkTrainer, "_keep", record)
    return kept


NAN = math.nan


@pytest.mark.parametrize("monitor, name, figures, best", [
    ("miou", "miou", [0.3, 0.8, 0.5], 2), ("", "miou", [0.8, 0.3, 0.5], 1), ("dice", "dice", [0.1, 0.2, 0.3], 3), ("loss", "loss_valid", [0.9, 0.2, 0.5], 2),
    ("loss", "loss_valid", [0.1, 0.2, 0.5], 1), ("miou", "miou", [NAN, 0.1, NAN], 2), ("miou", "miou", [0.5, 0.5, 0.5], 1), ("miou", "miou", [NAN, NAN, NAN], 1),
    ("loss", "loss_valid", [NAN, 0.7, 0.8], 2),
])  # fmt: skip
def test_best_is_best_in_the_figures_own_direction(tmp_path, folder, monkeypatch, monitor, name, figures, best):
    kept = scripted(monkeypatch, figures, name)
    run = train.train(folder, str(tmp_path / "m.onnx"), settings(monitor=monitor))
    assert run.best_epoch == best and same(weights(tmp_path / "m.onnx"), kept[best - 1])
    assert not same(kept[0], kept[1])


def test_the_loss_of_another_stage_is_another_figure(tmp_path, folder, monkeypatch):
    """Values of two losses can't be compared: the later stage's best counts, even if its loss is larger."""
    kept = scripted(monkeypatch, [0.1, 0.2, 0.9, 0.7, 0.8], "loss_valid")
    stages = '[{"loss": "bce_dice", "epochs": 2}, {"loss": "lovasz", "epochs": 3}]'
    run = train.train(folder, str(tmp_path / "m.onnx"), settings(monitor="loss", stages=stages))
    assert run.best_epoch == 4 and same(weights(tmp_path / "m.onnx"), kept[3])


def test_a_wrong_monitor_is_told_before_the_first_epoch(tmp_path, folder):
    for wrong in ("iuo", "loss_valid", "lr", "epoch"):
        stop = Stop(lambda m: m.startswith("Epoch"))
        with pytest.raises(ConfigError, match=f"no figure '{wrong}'.*accuracy, dice, last, loss, miou"):
            train.train(folder, str(tmp_path / "m.onnx"), settings(monitor=wrong), stop)
        assert len(stop.calls) < 15


@pytest.mark.parametrize("figures, epochs", [
    ([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1], [1, 2, 3, 5, 6]), ([0.5, 0.4, 0.6, 0.2, 0.7, 0.1, 0.1, 0.9], [1, 2, 3, 4, 5, 6, 7]),
    ([NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN], [1, 2, 3, 5, 6]),
])  # fmt: skip
def test_patience_also_after_a_break(tmp_path, folder, monkeypatch, figures, epochs):
    stages = '[{"epochs": 4}, {"epochs": 4}]'
    config = settings(patience=2, stages=stages, keep_best=False)
    table = dict(zip(range(1, 9), figures))

    def note(self, row):
        row["miou"] = table[row["epoch"]]
        return original(self, row)

    original = network_trainer.NetworkTrainer._note
    monkeypatch.setattr(network_trainer.NetworkTrainer, "_note", note)
    run = train.train(folder, str(tmp_path / "m.onnx"), config)
    assert [r["epoch"] for r in run.history] == epochs
    for epoch in epochs[1:-1:2]:
        output = tmp_path / f"broken{epoch}.onnx"
        with pytest.raises(Cancelled):
            train.train(folder, str(output), config, Stop(lambda m, e=epoch: m.startswith(f"Epoch {e}/"), later=True))
        again = train.train(folder, str(output), config)
        assert [r["epoch"] for r in again.history] == epochs and again.best_epoch == run.best_epoch
        assert same(weights(output), weights(tmp_path / "m.onnx"))


def test_a_loss_that_is_no_number_is_an_error_without_a_model(tmp_path):
    images, labels = bright_is_water(4)
    path = chips_folder(tmp_path / "c", np.where(images > 128, np.float32(3e38), images.astype(np.float32)), labels)
    with pytest.raises(TrainingError, match="no longer a number") as caught:
        train.train(path, str(tmp_path / "m.onnx"), settings(normalisation="none"))
    assert "learning rate" in caught.value.remedy and not (tmp_path / "m.onnx").exists()


# ---------------------------------------------------------------------------------------------------------- stages and schedules


def test_rates_and_losses_follow_the_stages(tmp_path, folder, monkeypatch):
    rates, losses = [], []
    make_optimiser, criterion = network_trainer.NetworkTrainer._optimiser, segmentation.Segmentation.criterion

    def watched(self, stage):
        optimiser = make_optimiser(self, stage)
        step = optimiser.step
        optimiser.step = lambda *a, **k: (rates.append(optimiser.param_groups[0]["lr"]), step(*a, **k))[1]
        return optimiser

    monkeypatch.setattr(network_trainer.NetworkTrainer, "_optimiser", watched)
    monkeypatch.setattr(segmentation.Segmentation, "criterion", lambda self, loss, w: (losses.append(loss), criterion(self, loss, w))[1])
    stages = '[{"loss": "bce_dice", "epochs": 2, "lr": 0.02}, {"loss": "lovasz", "epochs": 1, "lr": 0.004}]'
    for schedule, factor in (
        ("polynomial", lambda s: (1 - s) ** 0.9),
        ("cosine", lambda s: 0.5 + 0.5 * math.cos(math.pi * s)),
        ("constant", lambda s: 1),
    ):
        rates.clear()
        losses.clear()
        run = train.train(folder, str(tmp_path / f"{schedule}.onnx"), settings(stages=stages, schedule=schedule))
        expected = [0.02 * factor(s) for s in (0, 0.25, 0.5, 0.75)] + [0.004 * factor(s) for s in (0, 0.5)]
        np.testing.assert_allclose(rates, expected, rtol=1e-12)
        assert losses == ["bce_dice", "bce_dice", "lovasz"] and [r["stage"] for r in run.history] == [1, 1, 2]


@pytest.mark.parametrize("stages, told", [
    ("{", "valid JSON"), ("[]", "1 to 20"), ("{}", "1 to 20"), ('["x"]', "no stage"), ('[{"los": "focal"}]', "no stage"), ('[{"epochs": 0}]', "Stages: Epochs"),
    ('[{"epochs": "x"}]', "Stages: Epochs"), ('[{"loss": "best"}]', "Stages: Loss"), ('[{"lr": 7}]', "Stages: Learning rate"), ('[{"lr": null}]', "Stages: Learning rate"),
    ("[" + ",".join(["{}"] * 21) + "]", "1 to 20"),
])  # fmt: skip
def test_wrong_stages(stages, told):
    with pytest.raises(ConfigError, match=told) as caught:
        train.stages(settings(stages=stages))
    assert caught.value.remedy or "JSON" in told


def test_what_a_stage_leaves_out_is_taken_from_the_plain_settings():
    assert train.stages(settings(stages='[{}, {"lr": 0.5}]', loss="focal")) == [train.Stage("focal", 3, 0.02), train.Stage("focal", 3, 0.5)]
    assert train.stages(settings(loss="bce_dice")) == [train.Stage("bce_dice", 3, 0.02)]


# -------------------------------------------------------------------------------------------------------------- does it learn


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", ["bce_dice", "focal"])
def test_an_easy_problem_is_learnt(tmp_path, classes, loss):
    path = make(tmp_path / "c", 20, classes=classes, ignored=0.5)
    run = train.train(path, str(tmp_path / "m.onnx"), settings(epochs=15, loss=loss), report=str(tmp_path / "r.html"))
    best = run.history[run.best_epoch - 1]
    assert best["miou"] > 0.95 and best["loss_train"] < run.history[0]["loss_train"] / 2
    assert run.evaluation.figures()["miou"] == pytest.approx(best["miou"])
    model = OnnxModel(str(tmp_path / "m.onnx"))
    assert model.channels == (1 if classes == 2 else 3) and len(model.info.classes) == classes


def test_a_real_network_learns_too(tmp_path):
    path = make(tmp_path / "c", 8)
    run = train.train(path, str(tmp_path / "m.onnx"), settings(architecture="unet", epochs=4, batch_size=3, learning_rate=2e-3))
    assert run.history[-1]["loss_train"] < run.history[0]["loss_train"] and max(r["miou"] for r in run.history) > 0.7


def test_what_lies_under_ignored_pixels_never_matters(tmp_path):
    images, labels = bright_is_water(8, ignored=0.3)
    odd = np.where(labels == 0, 77, labels).astype(np.uint8)  # no class of this folder
    split = ["train"] * 6 + ["validation"] * 2
    a, b = chips_folder(tmp_path / "a", images, labels, split), chips_folder(tmp_path / "b", images, odd, split)
    runs = [train.train(p, str(tmp_path / f"{n}.onnx"), settings()) for n, p in (("ma", a), ("mb", b))]
    assert same(weights(tmp_path / "ma.onnx"), weights(tmp_path / "mb.onnx"))
    assert runs[0].evaluation.matrix.sum() == (labels[6:] > 0).sum() and (runs[0].evaluation.matrix == runs[1].evaluation.matrix).all()


def test_chips_without_any_label_do_no_harm(tmp_path):
    images, labels = bright_is_water(8)
    labels[::2] = 0
    run = train.train(chips_folder(tmp_path / "a", images, labels), str(tmp_path / "m.onnx"), settings(batch_size=1))
    assert all(math.isfinite(r["loss_train"]) for r in run.history)


@pytest.mark.parametrize("network", ["tiny", "unet"])
def test_a_single_chip(tmp_path, network):
    images, labels = bright_is_water(1)
    said = []
    run = train.train(
        chips_folder(tmp_path / "a", images, labels),
        str(tmp_path / "m.onnx"),
        settings(architecture=network, epochs=2, batch_size=1),
        lambda f, m="": said.append(m),
        str(tmp_path / "r.html"),
    )
    assert math.isnan(run.history[0]["loss_valid"]) and (tmp_path / "r.html").exists() and any("lowest training loss" in m for m in said)
    assert run.best_epoch == int(np.argmin([r["loss_train"] for r in run.history])) + 1


def test_class_weights(tmp_path, folder):
    for text in ("balanced", "1, 3"):
        train.train(folder, str(tmp_path / f"{text[0]}.onnx"), settings(class_weights=text, epochs=1))
    assert not same(weights(tmp_path / "b.onnx"), weights(tmp_path / "1.onnx"))
    for wrong in ("1", "1, x", "1, 0", "1, 2, 3", "1, nan"):
        with pytest.raises(ConfigError, match="[Cc]lass weights"):
            train.train(folder, str(tmp_path / "w.onnx"), settings(class_weights=wrong))
    task = segmentation.Segmentation(ChipSet(folder).manifest)
    assert task.balance([np.array([0, 0, 0, 1, -1])]) == pytest.approx([0.5, 1.5])
    assert task.balance([np.array([0, 0, -1])]) == [1.0, 1.0]  # a class without pixels must not make the other's weight vanish


# -------------------------------------------------------------------------------------------------------------- initial weights


def test_going_on_from_an_own_model(tmp_path, folder):
    first = train.train(folder, str(tmp_path / "a.onnx"), settings(epochs=8))
    fresh = train.train(folder, str(tmp_path / "b.onnx"), settings(epochs=1, learning_rate=1e-4))
    warm = train.train(
        folder,
        str(tmp_path / "c.onnx"),
        settings(epochs=1, learning_rate=1e-4, initial_weights=str(tmp_path / "a.onnx"), normalisation="minmax"),
    )
    assert warm.history[0]["miou"] > fresh.history[0]["miou"] + 0.1 and warm.history[0]["miou"] > first.history[-1]["miou"] - 0.05
    assert (
        OnnxModel(str(tmp_path / "c.onnx")).info.normalisation == OnnxModel(str(tmp_path / "a.onnx")).info.normalisation
    )  # goes with the weights
    said = []
    three = make(tmp_path / "three", classes=3)
    train.train(
        three,
        str(tmp_path / "d.onnx"),
        settings(epochs=1, learning_rate=1e-7, initial_weights=str(tmp_path / "a.safetensors")),
        lambda f, m="": said.append(m),
    )
    a, d = weights(tmp_path / "a.onnx"), weights(tmp_path / "d.onnx")
    assert any("except for the last layer" in m for m in said) and d["head.weight"].shape[0] == 3
    assert all(torch.allclose(a[k], d[k], atol=1e-5) for k in a if k.endswith("weight") and not k.startswith("head"))


def test_initial_weights_that_do_not_fit(tmp_path, folder):
    train.train(folder, str(tmp_path / "a.onnx"), settings(epochs=1))
    four = make(tmp_path / "four", bands=4)
    broken = {k: torch.full_like(v, math.nan) if v.is_floating_point() else v for k, v in weights(tmp_path / "a.onnx").items()}
    state = checkpoint.load(str(tmp_path / "a.safetensors"))[1]
    checkpoint.save(str(tmp_path / "nan.safetensors"), broken, state)
    checkpoint.save(
        str(tmp_path / "evil.safetensors"), weights(tmp_path / "a.onnx"), {**state, "normalisation": {"scheme": "minmax", "bands": "x"}}
    )
    (tmp_path / "lone.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    (tmp_path / "text.safetensors").write_text("hello")
    for chips, name, changes, told in (
        (folder, "a.onnx", {"architecture": "linknet"}, "are of tiny"), (four, "a.onnx", {}, "body.0.weight has another shape"), (folder, "nix.onnx", {}, "no file"),
        (folder, "lone.onnx", {}, "not beside the model"), (folder, "nan.safetensors", {}, "not finite"), (folder, "evil.safetensors", {}, "normalisation"),
        (folder, "text.safetensors", {}, "no encoder"), (folder, "text.safetensors", {"architecture": "unet"}, "text.safetensors"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=told):
            train.train(chips, str(tmp_path / "m.onnx"), settings(initial_weights=str(tmp_path / name), **changes))
    assert not (tmp_path / "m.onnx").exists()


def test_imagenet_files_of_torchvision(tmp_path, folder):
    torch.manual_seed(5)
    encoder = nets.build("unet", 3, 1, encoder="resnet18").encoder.state_dict()
    save_file(
        {**{k: v.contiguous() for k, v in encoder.items()}, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)},
        str(tmp_path / "resnet18.safetensors"),
    )
    train.train(
        folder,
        str(tmp_path / "m.onnx"),
        settings(architecture="linknet", epochs=1, learning_rate=1e-7, initial_weights=str(tmp_path / "resnet18.safetensors")),
    )
    got = weights(tmp_path / "m.onnx")
    assert torch.allclose(got["encoder.layer3.0.conv1.weight"], encoder["layer3.0.conv1.weight"], atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_map_shows_what_was_trained(tmp_path, scheme):
    """For each normalisation: probabilities of the raster road (model file, normalise, blend) = those of the trainer on the same chip."""
    rng = np.random.default_rng(3)
    images, labels = bright_is_water(8, bands=3)
    images = (
        (np.exp(images / 60) * rng.uniform(0.9, 1.1, images.shape)).astype(np.float32) if scheme != "none" else images / np.float32(255)
    )
    images[:, :, :3, :5] = np.nan
    path = chips_folder(tmp_path / "c", images, labels, ["train"] * 5 + ["validation"] * 3)
    run = train.train(path, str(tmp_path / "m.onnx"), settings(normalisation=scheme, epochs=8))
    info = OnnxModel(str(tmp_path / "m.onnx")).info
    assert info.normalisation.scheme == scheme and info.normalisation.in_graph == (scheme not in ("percentile", "minmax", "zscore", "none"))
    for i, chip in enumerate(run.validation):
        map_classes(
            os.path.join(path, chip.image), str(tmp_path / "m.onnx"), "", InferConfig(overlap=0), probability=str(tmp_path / f"p{i}.tif")
        )
        found, there, _ = read_raster(tmp_path / f"p{i}.tif")
        _, valid, own, _ = run.look(chip)
        np.testing.assert_array_equal(there, valid.all(axis=0))
        assert np.abs(found - own)[:, there].max() < 1e-4
        assert own.std() > 0.01


def test_the_model_file_tells_how_it_was_made(tmp_path, folder):
    run = train.train(folder, str(tmp_path / "m.onnx"), settings(seed=7, card="# Lakes", licence="CC-BY-4.0"))
    info = OnnxModel(str(tmp_path / "m.onnx")).info
    assert (info.task, info.architecture, info.arguments, info.card, info.licence) == ("segmentation", "tiny", {}, "# Lakes", "CC-BY-4.0")
    assert (
        info.bands == (("B1", ""), ("B2", ""))
        and [c.name for c in info.classes] == ["land", "water"]
        and info.pixel_size_m == 10.0
        and info.chip_size == 32
    )
    told = info.training
    assert (told["seed"], told["chips"], told["validation_chips"], told["epochs"], told["best_epoch"]) == (7, 8, 2, 3, run.best_epoch)
    assert (
        told["settings"] == {**settings(seed=7, card="# Lakes", licence="CC-BY-4.0").to_json(), "loss": "bce_dice"}
        and len(told["data"]) == 16
    )
    assert told["figures"]["miou"] == pytest.approx(run.history[run.best_epoch - 1]["miou"])
    assert {"torch", "numpy", "onnxruntime", "Python"} <= set(told["versions"])
    other = make(tmp_path / "other", 9)
    train.train(other, str(tmp_path / "o.onnx"), settings(epochs=1))
    assert OnnxModel(str(tmp_path / "o.onnx")).info.training["data"] != told["data"]


def test_the_report_is_one_file(tmp_path, folder):
    train.train(folder, str(tmp_path / "m.onnx"), settings(), report=str(tmp_path / "r.html"))
    page = (tmp_path / "r.html").read_text()
    outside = re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']*)""", page) + re.findall(r"url\((?!['\"]?(?:data:|#))[^)]*\)", page)
    assert not outside and "<script src" not in page
    for words in ("Learning curves", "Confusion matrix", "lowest agreement", "highest", "Settings", "Versions", "water", "torch"):
        assert words in page, words
    assert page.count("data:image/png") == 2  # two validation chips: the worst and the best


# --------------------------------------------------------------------------------------------------------------------- bad input


def test_bad_outputs(tmp_path, folder):
    (tmp_path / "d.onnx").mkdir()
    for output, kind in ((tmp_path / "m.pt", ConfigError), (tmp_path / "nix" / "m.onnx", OutputError), (tmp_path / "d.onnx", OutputError)):
        with pytest.raises(kind):
            train.train(folder, str(output), settings())
    with pytest.raises(OutputError):
        train.train(folder, str(tmp_path / "m.onnx"), settings(), report=str(tmp_path / "nix" / "r.html"))
    assert os.listdir(tmp_path) == ["d.onnx"]


@pytest.mark.parametrize("size, options", [("1m", ",ro"), ("8k", ""), ("40k", "")])
def test_a_full_or_read_only_disk(tmp_path, folder, size, options):
    if not small_disk(tmp_path / "disk", size, options):
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(OutputError) as caught:
            train.train(folder, str(tmp_path / "disk" / "m.onnx"), settings(architecture="unet" if size == "40k" else "tiny", epochs=1))
        assert caught.value.remedy and not list((tmp_path / "disk").glob("m.onnx*"))
    finally:
        umount(tmp_path / "disk")


def test_bad_chips(tmp_path):
    images, labels = bright_is_water(2)
    with pytest.raises(ChipsError, match="task 'knitting'"):
        train.train(chips_folder(tmp_path / "a", images, labels, task="knitting"), str(tmp_path / "m.onnx"), settings())
    with pytest.raises(ChipsError, match="No chip is left for training"):
        train.train(chips_folder(tmp_path / "b", images, labels, ["validation"] * 2), str(tmp_path / "m.onnx"), settings())
    with pytest.raises(ChipsError, match="no label file"):
        train.train(chips_folder(tmp_path / "c", images, None), str(tmp_path / "m.onnx"), settings())
    with pytest.raises(ChipsError, match="fewer than two classes"):
        train.train(chips_folder(tmp_path / "d", images, labels, classes=("water",)), str(tmp_path / "m.onnx"), settings())
    path = chips_folder(tmp_path / "e", images, labels)
    write_raster(f"{path}/labels/000000001.tif", labels[1][:20], utm(32, 20))
    with pytest.raises(ChipsError, match="000000001"):
        train.train(path, str(tmp_path / "m.onnx"), settings())


def test_clock():
    assert [train.clock(s) for s in (3.21, 75, 7384)] == ["3.2 s", "1 min 15 s", "2 h 3 min"]


def test_files_of_the_user_beside_the_state_of_a_run_stay(tmp_path):
    """A folder NAME.training may be there already, with anything in it."""
    chips = make(tmp_path / "chips")
    mine = tmp_path / "m.training"
    mine.mkdir()
    for name in ("best.tif", "labels.gpkg", "best.of.all.safetensors"):
        (mine / name).write_text("mine")
    train.train(chips, str(tmp_path / "m.onnx"), settings(epochs=2))
    assert sorted(os.listdir(mine)) == ["best.of.all.safetensors", "best.tif", "labels.gpkg"]


def test_the_normalisation_of_the_model_it_starts_from_is_told(tmp_path):
    chips, lines = make(tmp_path / "chips"), []
    first = str(tmp_path / "a.onnx")
    train.train(chips, first, settings(epochs=1, normalisation="minmax"))
    train.train(chips, str(tmp_path / "b.onnx"), settings(epochs=1, initial_weights=first), lambda f, m="": lines.append(m))
    assert any(line.startswith("Normalisation: minmax") for line in lines)
    assert OnnxModel(str(tmp_path / "b.onnx")).info.normalisation.scheme == "minmax"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_portable_model_gives_the_same_map(tmp_path, folder, scheme):
    """The window fixed, a channel per class, pixels / 255 before the graph, as Deepness and GeoDeep need it: the same probabilities."""
    image, _ = bright_is_water(1)
    scene = write_raster(tmp_path / "s.tif", image[0], utm(32, 32))
    given = []
    for portable in (False, True):
        model, out = str(tmp_path / f"{portable}.onnx"), str(tmp_path / f"{portable}.tif")
        train.train(folder, model, settings(epochs=1, normalisation=scheme, portable=portable))
        map_classes(scene, model, "", InferConfig(overlap=0, window=32 if not portable else 0, device="cpu"), probability=out)
        given.append(read_raster(out)[0])
    opened = OnnxModel(str(tmp_path / "True.onnx"))
    assert opened.tile == 32 and opened.channels == 2 and opened.info.normalisation.scheme == "minmax"
    assert {(b["low"], b["high"]) for b in opened.info.normalisation.bands} == {(0.0, 255.0)}
    np.testing.assert_allclose(given[1][1], given[0][0], atol=2e-4)
    np.testing.assert_allclose(given[1].sum(axis=0), 1, atol=1e-5)
