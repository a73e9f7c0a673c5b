"""New tasks come as data: two toy tasks are registered here and trained by the same `train.train`, of which no line knows them."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from tests.helpers import allow_network, chips_folder, forget_network
from water_dl_plugin.engine import bundle, tasks, train
from water_dl_plugin.engine.chips import ChipSet, Manifest
from water_dl_plugin.engine.classes import MapClass
from water_dl_plugin.engine.config import parse_json
from water_dl_plugin.engine.errors import Cancelled, ChipsError, ConfigError
from water_dl_plugin.engine.report import Report
from water_dl_plugin.engine.settings import TrainConfig
from water_dl_plugin.engine.tasks.segmentation import Evaluator, Segmentation, visible


class _Error:
    def __init__(self):
        self.errors = []

    def update(self, given, target):
        given, target = np.asarray(given, float), np.asarray(target, float)
        assert given.shape[0] == target.shape[0]
        self.errors.append(np.abs(given.reshape(target.shape) - target).ravel())

    def figures(self):
        return {"mae": float(np.concatenate(self.errors).mean())}


class _Regression:
    """Mean squared error, monitored by the mean absolute error, of which less is better."""

    channels, monitor, lower_is_better = 1, "mae", frozenset({"mae", "loss"})

    def __init__(self, manifest):
        self.manifest = manifest

    def criterion(self, loss, weights):
        return lambda output, target: nn.functional.mse_loss(output.reshape(target.shape), target.float())

    def activate(self, output):
        return output

    def evaluator(self):
        return _Error()

    def info(self):
        return {}

    def report(self, path, run):
        page = Report(run.title)
        page.facts([("Mean absolute error", run.evaluation.figures()["mae"])])
        page.write(path)


class Level(_Regression):
    """One number per chip."""

    spatial = False

    def target(self, chips, chip):
        return np.asarray(chip.value, np.float32)


class Height(_Regression):
    """One number per pixel; the chips' label files are float32."""

    spatial = True

    def target(self, chips, chip):
        return chips.read(chip.label)[0][0]


class MeanNet(nn.Module):
    """(N, bands, H, W) -> (N, 1)."""

    gives = "number"

    def __init__(self, bands, channels):
        super().__init__()
        self.head = nn.Linear(bands, channels)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


class PixelNet(nn.Module):
    def __init__(self, bands, channels):
        super().__init__()
        self.head = nn.Conv2d(bands, channels, 1)

    def forward(self, x):
        return self.head(x)


@pytest.fixture(scope="module", autouse=True)
def registered():
    tasks.TASKS.update(number=Level, height=Height)
    allow_network("mean", MeanNet)
    allow_network("pixel", PixelNet)
    yield
    for name in ("number", "height"):
        tasks.TASKS.pop(name)
    forget_network("mean")
    forget_network("pixel")


def settings(**changes):
    quick = {"architecture": "mean", "epochs": 40, "batch_size": 4, "learning_rate": 0.1, "mixed_precision": False, "threads": 1, "device": "cpu",
             "brightness": 0.0, "noise": 0.0, "weight_decay": 0.0, "gradient_clip": 0.0}  # fmt: skip
    return TrainConfig(**{**quick, **changes})


def level_chips(folder, number=20):
    rng = np.random.default_rng(0)
    images = (rng.uniform(0, 100, (number, 2, 1, 1)) + rng.uniform(0, 20, (number, 2, 16, 16))).astype(np.float32)
    return images, chips_folder(
        folder,
        images,
        None,
        ["train"] * (number - 5) + ["validation"] * 5,
        classes=(),
        task="number",
        values=images[:, 0].mean((1, 2)) / 100,
    )


def run_file(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session, session.run(None, {"image": images})[0]


def test_one_number_per_chip(tmp_path):
    images, path = level_chips(tmp_path / "c")
    run = train.train(path, str(tmp_path / "m.onnx"), settings(), report=str(tmp_path / "r.html"))
    figures = [r["mae"] for r in run.history]
    assert min(figures) < 0.05 < 0.3 < figures[0] and run.best_epoch == int(np.argmin(figures)) + 1  # lower is better
    assert run.evaluation.figures()["mae"] == pytest.approx(min(figures), rel=1e-5) and (tmp_path / "r.html").exists()
    session, _ = run_file(tmp_path / "m.onnx", np.zeros((1, 2, 16, 16), np.float32))
    info = bundle.ModelInfo.from_json(parse_json(session.get_modelmeta().custom_metadata_map["waterdl"], "x"))
    assert (info.task, info.classes, info.architecture, info.arguments) == (
        "number",
        (),
        "mean",
        {},
    ) and "model_type" not in session.get_modelmeta().custom_metadata_map
    assert info.training["figures"]["mae"] == pytest.approx(min(figures), rel=1e-5)
    normal = info.normalisation.apply(images[7], np.ones(images[7].shape, bool))
    _, given = run_file(tmp_path / "m.onnx", np.stack([normal] * 3))  # any batch
    assert given.shape == (3, 1) and [(o.name, o.shape) for o in session.get_outputs()] == [("value", ["batch", 1])]
    assert abs(given[0, 0] - images[7, 0].mean() / 100) < 0.1
    np.testing.assert_allclose(given[0], run.look(ChipSet(path).manifest.chips[7])[2], rtol=1e-4)


def test_one_number_per_chip_resumes_and_warms_up_like_any_other(tmp_path):
    _, path = level_chips(tmp_path / "c")
    config = settings(epochs=4, keep_best=False)
    train.train(path, str(tmp_path / "a.onnx"), config)

    def stop(fraction, message=""):
        if message.startswith("Epoch 2/"):
            raise Cancelled

    with pytest.raises(Cancelled):
        train.train(path, str(tmp_path / "b.onnx"), config, stop)
    train.train(path, str(tmp_path / "b.onnx"), config)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    warm = train.train(path, str(tmp_path / "w.onnx"), settings(epochs=1, learning_rate=1e-7, initial_weights=str(tmp_path / "a.onnx")))
    assert warm.history[0]["mae"] == pytest.approx(
        train.train(path, str(tmp_path / "c.onnx"), config).evaluation.figures()["mae"], rel=1e-3
    )


def test_a_raster_of_numbers(tmp_path):
    """The target turns with the image: a ramp can be learnt with flips only if it does."""
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 50, (12, 2, 16, 16)).astype(np.float32)
    target = 1 + 0.03 * images[:, 0] - 0.01 * images[:, 1]
    path = chips_folder(tmp_path / "c", images, target, ["train"] * 9 + ["validation"] * 3, classes=(), task="height")
    run = train.train(path, str(tmp_path / "m.onnx"), settings(architecture="pixel", epochs=80, learning_rate=0.2))
    best = run.history[run.best_epoch - 1]["mae"]
    assert best < 0.02 < 0.3 < run.history[0]["mae"] and best == min(r["mae"] for r in run.history)
    _, _, given, truth = run.look(run.validation[0])
    assert given.shape == (1, 16, 16) and np.abs(given[0] - truth).mean() < 0.03 and truth.dtype == np.float32
    session, out = run_file(tmp_path / "m.onnx", np.zeros((2, 2, 24, 40), np.float32))  # any batch, height and width
    assert out.shape == (2, 1, 24, 40) and session.get_outputs()[0].shape == ["batch", 1, "rows", "columns"]


def test_no_validation_and_balanced_weights(tmp_path):
    _, path = level_chips(tmp_path / "c", 12)
    with pytest.raises(ConfigError, match="no classes to balance"):
        train.train(path, str(tmp_path / "m.onnx"), settings(class_weights="balanced"))
    with pytest.raises(ConfigError, match="no figure 'miou'.*loss, mae"):
        train.train(path, str(tmp_path / "m.onnx"), settings(monitor="miou"))


# ------------------------------------------------------------------------------------------------------------------ segmentation


def manifest(classes=2):
    return Manifest("segmentation", ({"name": "a"},), tuple(MapClass(i, f"c{i}", (i, i, i)) for i in range(classes)), 16, ())


def test_an_unknown_task_is_told():
    with pytest.raises(ChipsError, match="task 'x'.*segmentation"):
        tasks.make(Manifest("x", ({"name": "a"},), (), 16, ()))
    assert isinstance(tasks.make(manifest()), Segmentation)


@pytest.mark.parametrize("classes, channels", [(2, 1), (3, 3), (5, 5)])
def test_channels_and_activation(classes, channels):
    task = Segmentation(manifest(classes))
    output = torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    given = task.activate(output)
    assert task.channels == channels and (given > 0).all() and (given < 1).all()
    if channels > 1:
        assert torch.allclose(given.sum(1), torch.ones(2, 4, 4))
    else:
        assert torch.allclose(given, 1 / (1 + torch.exp(-output)))


def test_figures_of_known_answers():
    evaluator = Evaluator(2)
    evaluator.update(np.array([[[[0.9, 0.2], [0.7, 0.1]]], [[[0.9, 0.9], [0.4, 0.5]]]]), np.array([[[1, 0], [0, 1]], [[-1, -1], [0, 1]]]))
    assert evaluator.matrix.tolist() == [[2, 1], [1, 2]]
    figures = evaluator.figures()
    assert figures == pytest.approx({"accuracy": 4 / 6, "miou": 0.5, "dice": 2 / 3})
    assert all(math.isnan(v) for v in Evaluator(2).figures().values())


def test_bands_to_look_at():
    assert visible(["Blue", "Green", "Red", "NIR"]) == (2, 1, 0) and visible(["a", "b", "c", "d"]) == (2, 1, 0)
    assert visible(["a", "b", "c"]) == (0, 1, 2) and visible(["a", "b"]) == (0, 1, 1) and visible(["a"]) == (0, 0, 0)


def test_the_report_shows_the_worst_and_the_best(tmp_path, monkeypatch):
    """Ten chips of known agreement: the four worst from below, the four best from above; pictures of these only are drawn."""
    from water_dl_plugin.engine.tasks import segmentation

    got, drawn = {}, []
    monkeypatch.setattr(segmentation, "training_report", lambda path, **kwargs: got.update(kwargs))
    original = segmentation.panel
    monkeypatch.setattr(segmentation, "panel", lambda *a, **k: (drawn.append(1), original(*a, **k))[1])
    task = Segmentation(manifest())
    order = np.random.default_rng(0).permutation(10)

    class Chip:
        def __init__(self, n):
            self.n, self.image = n, f"chip {n}"

    def look(chip):
        target = np.zeros((10, 10), int)
        target[:, 5:] = 1
        given = np.where(target, 0.9, 0.1)
        given[: chip.n] = 1 - given[: chip.n]  # n rows are wrong
        if chip.n == 9:
            target[:] = -1  # nothing to compare: not shown
        return np.zeros((1, 10, 10)), np.ones((1, 10, 10), bool), given[None], target

    run = train.Run("t", validation=[Chip(int(n)) for n in order], look=look, evaluation=Evaluator(2), bands=["a"])
    task.report(str(tmp_path / "r.html"), run)
    assert [text.split(",")[0] for _, text in got["panels_worst"]] == ["chip 8", "chip 7", "chip 6", "chip 5"]
    assert [text.split(",")[0] for _, text in got["panels_best"]] == ["chip 0", "chip 1", "chip 2", "chip 3"]
    assert len(drawn) == 8 and got["panels_best"][0][1] == "chip 0, 100.0% of the labelled pixels right"
