"""Random forest and support vector machines on pixels: what scikit-learn learned is what ONNX Runtime gives, on the road of all models."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from tests.helpers import bright_is_water, chips_folder, read_raster, utm, write_raster
from water_dl_plugin.engine import baselines, describe, nets, pixel_graph, tasks, train
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.chips import ChipSet
from water_dl_plugin.engine.errors import Cancelled, ChipsError, ConfigError, ModelError
from water_dl_plugin.engine.mapping import map_classes
from water_dl_plugin.engine.normalise import Normalisation
from water_dl_plugin.engine.samples import Samples
from water_dl_plugin.engine.settings import InferConfig, TrainConfig

KINDS = tuple(nets.TRAINERS)
NAMES = ("land", "mud", "water")


def settings(kind, **changes):
    quick = {"architecture": kind, "trees": 20, "pixels_per_class": 400, "threads": 1, "device": "cpu"}
    return TrainConfig(**{**quick, **changes})


def overlapping(number=6, size=32, share=0.1, classes=2, seed=0):
    """Chips float32 with two bands whose classes overlap: no border is free of errors. The last class has `share` of the pixels."""
    rng = np.random.default_rng(seed)
    p = [(1 - share) / (classes - 1)] * (classes - 1) + [share]
    index = rng.choice(classes, (number, size, size), p=p)
    centres = np.array([[0.0, 0.0], [1.5, 0.5], [-1.0, 2.0]])[:classes]
    images = (centres[index] + rng.normal(0, 1, (*index.shape, 2))).transpose(0, 3, 1, 2).astype(np.float32)
    return images, (index + 1).astype(np.uint8)


def folder_of(path, images, labels, classes=2):
    number = len(images)
    split = ["train"] * (number - number // 3) + ["validation"] * (number // 3)
    return chips_folder(path, images, labels, split, classes=("land", "water") if classes == 2 else NAMES)


def samples_of(folder):
    chips = ChipSet(folder)
    return Samples(chips, chips.split("train"), tasks.make(chips.manifest))


def graph_of(nodes, constants, bands, channels):
    graph = pixel_graph.image_model(nodes, constants, np.ones(max(channels, 2)), Normalisation.identity(bands))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


# ------------------------------------------------------------------------------------------------- the graph is what was learned


def around_thresholds(forest, rows):
    """Pixels that lie on the trees' own borders and one float32 beside them: where a rounded threshold would turn the wrong way."""
    cuts = np.concatenate([t.tree_.threshold[t.tree_.children_left >= 0] for t in forest.estimators_])
    features = np.concatenate([t.tree_.feature[t.tree_.children_left >= 0] for t in forest.estimators_])
    near = cuts.astype(np.float32)
    beside = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    pixels = np.repeat(rows[np.arange(len(cuts)) % len(rows)], 3, axis=0)
    pixels[np.arange(len(pixels)), np.repeat(features, 3)] = np.stack(beside, 1).ravel()
    return pixels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["real", "integer"])
def test_forest_in_onnx_gives_what_scikit_learn_gives(kind, classes):
    rng = np.random.default_rng(0)
    index = rng.integers(0, classes, 1200)
    rows = (index[:, None] * 0.7 + rng.normal(0, 1, (1200, 3))).astype(np.float32)
    rows = np.round(1000 * rows) if kind == "integer" else rows
    forest = RandomForestClassifier(35, max_features=2, random_state=0).fit(rows, index)
    channels = [1] if classes == 2 else [0, 1, 2]
    run = graph_of(*pixel_graph.forest([t.tree_ for t in forest.estimators_], channels), 3, len(channels))
    for pixels in (rng.normal(0.5, 2, (4000, 3)).astype(np.float32), rows, around_thresholds(forest, rows)):
        pixels = pixels[: len(pixels) // 4 * 4]
        given = run(pixels.reshape(2, 2, -1, 3).transpose(0, 3, 1, 2).copy()).transpose(0, 2, 3, 1).reshape(len(pixels), -1)
        assert np.abs(given - forest.predict_proba(pixels)[:, channels]).max() < 1e-6
        assert given.min() >= 0 and given.max() <= 1


def test_thresholds_are_rounded_down():
    numbers = np.array([0.1, 0.3, -0.1, -0.7, 1.0, 2.0**24 + 1])
    low = pixel_graph.below(numbers)
    assert (low.astype(np.float64) <= numbers).all() and (np.nextafter(low, np.float32(np.inf)).astype(np.float64) > numbers).all()


def test_machine_in_onnx_gives_what_scikit_learn_gives():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 2, 3000)
    rows = index[:, None] * 0.3 + rng.normal(0, 0.5, (3000, 3))
    machine = SVC(C=12, gamma=0.187).fit(rows, index)
    order = rng.permutation(len(machine.support_))
    nodes = pixel_graph.machines(machine.support_vectors_[order], machine.dual_coef_.T[order], 0.187, np.ones(1), machine.intercept_)
    pixels = rng.normal(0, 1, (2, 3, 20, 30)).astype(np.float32)
    given = graph_of(*nodes, 3, 1)(pixels)
    expected = 1 / (1 + np.exp(-machine.decision_function(pixels.transpose(0, 2, 3, 1).reshape(-1, 3)))).reshape(2, 1, 20, 30)
    difference = np.abs(given - expected).max()
    assert len(order) > 1500 and difference < 2e-4


def test_a_pixel_far_from_everything_is_no_nan():
    vectors, weights = np.zeros((2, 1)), np.ones((2, 3))
    run = graph_of(*pixel_graph.machines(vectors, weights, 1.0, np.full(3, 1.0), np.full(3, -200.0)), 1, 3)
    assert np.isfinite(run(np.full((1, 1, 2, 2), 1e4, np.float32))).all()


# --------------------------------------------------------------------------------------------------------- which pixels take part


def test_pixels_are_drawn_evenly_and_none_without_label_or_data(tmp_path):
    number, size = 4, 16
    places = np.arange(number * size * size, dtype=np.float32).reshape(number, 1, size, size)
    images = np.concatenate([places, places], axis=1)
    labels = np.ones((number, size, size), np.uint8)
    labels[:, 8:] = 2
    labels[0, 0] = 0  # 16 pixels without a label
    images[1, 1, 8] = np.nan  # 16 without data in one band
    samples = samples_of(chips_folder(tmp_path / "c", images, labels, ["train"] * number))
    seen = np.zeros(number * size * size, int)
    for seed in range(200):
        drawn = baselines.draw(samples, Normalisation.identity(2), 2, 50, seed)
        assert drawn.counts.tolist() == [512 - 16, 512 - 16] and np.bincount(drawn.index).tolist() == [50, 50]
        at = drawn.rows[:, 0].astype(int)
        assert len(set(at)) == 100 and (labels.ravel()[at] == drawn.index + 1).all() and np.isfinite(drawn.rows).all()
        seen[at] += 1
    assert (seen[labels.ravel() == 0] == 0).all() and not seen.reshape(images[:, 0].shape)[1, 8].any()
    usable = seen[(labels.ravel() > 0) & np.isfinite(images[:, 1].ravel())]
    assert usable.min() >= 5 and usable.max() <= 40 and abs(np.corrcoef(usable, np.arange(len(usable)))[0, 1]) < 0.1  # 20 each on average
    again = baselines.draw(samples, Normalisation.identity(2), 2, 50, 199)
    assert np.array_equal(again.rows, drawn.rows) and abs(np.corrcoef(drawn.index, np.arange(100))[0, 1]) < 0.3


def test_probabilities_are_turned_to_the_classes_frequencies():
    drawn = baselines.Drawn(np.zeros((4, 1), np.float32), np.array([0, 0, 1, 1]), np.array([900, 100]))
    given = np.array([[0.0], [0.5], [0.9], [1.0]])
    assert np.allclose(baselines.reweigh(given, drawn.factors(None))[:, 0], [0, 0.1, 0.5, 1])
    assert np.allclose(baselines.reweigh(given, drawn.factors([1 / 9, 1.0])), given)
    three = baselines.Drawn(np.zeros((6, 1), np.float32), np.arange(6) % 3, np.array([700, 200, 100]))
    assert np.allclose(baselines.reweigh(np.full((1, 3), 1 / 3), three.factors(None)), [[0.7, 0.2, 0.1]])


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_the_chips_and_balanced_ones_are_not(tmp_path, kind):
    """Drawn half and half, but a tenth of the chips' pixels is water: that is what must come out."""
    images, labels = overlapping(9)
    folder = folder_of(tmp_path / "c", images, labels)
    shares = []
    for weights in ("", "balanced", "1, 9"):
        train.train(folder, str(tmp_path / "m.onnx"), settings(kind, class_weights=weights, trees=60))
        model = OnnxModel(str(tmp_path / "m.onnx"))
        chips = ChipSet(folder)
        given = np.concatenate([model(model.info.normalisation.apply(*chips.image(c))[None]) for c in chips.split("validation")])
        shares.append(float(given.mean()))
    assert shares[0] == pytest.approx(0.1, abs=0.04 if kind == "random_forest" else 0.02)  # votes of full-grown trees are not calibrated
    assert shares[1] > 0.22 and shares[1] == pytest.approx(shares[2], abs=0.03)


def test_probabilities_of_the_machine_are_true_ones(tmp_path):
    images, labels = overlapping(9, share=0.5)
    train.train(folder_of(tmp_path / "c", images, labels), str(tmp_path / "m.onnx"), settings("svm", pixels_per_class=1000))
    model, (more, _) = OnnxModel(str(tmp_path / "m.onnx")), overlapping(4, share=0.5, seed=1)
    given = model(np.stack([model.info.normalisation.apply(x, np.ones(x.shape, bool)) for x in more]))[:, 0]
    true = 1 / (1 + np.exp(-(1.5 * more[:, 0] + 0.5 * more[:, 1] - 1.25)))  # of two normal distributions side by side
    assert np.abs(given - true).mean() < 0.04


# ------------------------------------------------------------------------------------------------------------------ the whole road


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_from_chips_to_map(tmp_path, kind, classes):
    images, labels = bright_is_water(9, classes=classes, ignored=0.1)
    folder = folder_of(tmp_path / "c", images, labels, classes)
    said = []
    run = train.train(folder, str(tmp_path / "m.onnx"), settings(kind), lambda f, m="": said.append((f, m)), str(tmp_path / "r.html"))
    assert run.best_figure > 0.97 and run.best_epoch is None and np.trace(run.evaluation.matrix) > 0.97 * run.evaluation.matrix.sum()
    assert {p.name for p in tmp_path.iterdir()} == {"c", "m.onnx", "r.html"}
    assert [f for f, _ in said] == sorted(f for f, _ in said) and said[-1][0] == 1 and "million pixels per second" in said[-1][1]
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert kind in page and "Confusion matrix" in page and "Learning curves" not in page and "scikit-learn" in page
    model = OnnxModel(str(tmp_path / "m.onnx"))
    assert (model.info.architecture, model.info.margin, model.info.multiple, model.tile) == (kind, 0, 1, None)
    assert any("miou 0.9" in line or "miou 1.0" in line for line in describe.lines(model))
    new, truth = bright_is_water(1, size=64, classes=classes, seed=5)
    scene = write_raster(tmp_path / "scene.tif", new[0], utm(64, 64))
    maps = []
    for window, overlap in ((0, 32), (24, 8)):
        out = str(tmp_path / f"map{window}.tif")
        map_classes(scene, str(tmp_path / "m.onnx"), out, InferConfig(window=window, overlap=overlap, threads=1))
        maps.append(read_raster(out)[0][0])
    assert np.array_equal(*maps) and (maps[0] == truth[0] - 1).mean() > 0.97


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["zscore", "percentile_clipped", "dynamic_world", "equalize"])
def test_portable_model_gives_the_same_map(tmp_path, kind, scheme):
    images, labels = overlapping(3)
    images = np.clip(100 + 30 * images, 1, 255).astype(np.uint8)
    folder, given = folder_of(tmp_path / "c", images, labels), []
    for portable in (False, True):
        path = str(tmp_path / f"{portable}.onnx")
        train.train(folder, path, settings(kind, normalisation=scheme, portable=portable))
        model = OnnxModel(path)
        assert (model.tile, model.channels) == ((32, 2) if portable else (None, 1)) and model.info.normalisation.scheme == (
            "minmax" if portable else scheme
        )
        given.append(model(model.info.normalisation.apply(images[0], np.ones(images[0].shape, bool))[None])[0])
    assert np.abs(given[1].sum(axis=0) - 1).max() < 1e-6
    assert np.mean(np.abs(given[0][-1] - given[1][-1]) < 1e-3) > 0.99  # pixels / 255 * 255 is rounded: a tree may turn


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_file_another_seed_another(tmp_path, kind):
    folder = folder_of(tmp_path / "c", *overlapping(3))
    files = []
    for seed in (3, 3, 4):
        train.train(folder, str(tmp_path / "m.onnx"), settings(kind, seed=seed))
        files.append((tmp_path / "m.onnx").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_without_pixels_is_never_mapped(tmp_path, kind):
    images, labels = bright_is_water(6)
    labels[labels == 2] = 3
    train.train(folder_of(tmp_path / "c", images, labels, classes=3), str(tmp_path / "m.onnx"), settings(kind))
    model = OnnxModel(str(tmp_path / "m.onnx"))
    given = model(model.info.normalisation.apply(images[0], np.ones(images[0].shape, bool))[None])[0]
    assert given.shape[0] == 3 and given[1].max() < 1e-6 and np.abs(given.sum(axis=0) - 1).max() < 1e-5
    assert (given.argmax(axis=0) == labels[0] - 1).mean() > 0.97


def test_settings_reach_the_forest_and_the_machine(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "c", *overlapping(3, share=0.5))
    made, told = [], []
    original = nets.trainer
    monkeypatch.setattr(nets, "trainer", lambda name: lambda *a: made.append(original(name)(*a)) or made[-1])
    monkeypatch.setattr(baselines, "SVM_PIXELS", 600)
    train.train(folder, str(tmp_path / "m.onnx"), settings("random_forest", trees=13, features_per_split=9))
    train.train(folder, str(tmp_path / "m.onnx"), settings("svm", svm_c=3, svm_gamma=0.7), lambda f, m="": told.append(m))
    forest, svm = made
    assert len(forest.forest.estimators_) == 13 and forest.arguments == {"trees": 13, "features": 2}  # no more than there are bands
    assert (svm._machines[0][1].C, svm._machines[0][1].gamma) == (
        3,
        0.7,
    ) and "svm learns from at most 600 pixels in all, 300 per class." in told
    assert svm._machines[0][1].shape_fit_[0] == 480  # one in five is held out


# ------------------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("changes, words", [
    ({"initial_weights": "x.onnx"}, "'Start from' is for networks"), ({"stages": '[{"loss": "lovasz"}]'}, "'Stages' is for networks"),
    ({"monitor": "loss"}, "no figure 'loss'"), ({"class_weights": "1"}, "Give 2 positive numbers"), ({"class_weights": "1, 0"}, "positive"),
    ({"architecture": "svm", "normalisation": "none"}, "common range"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(tmp_path, changes, words):
    folder = folder_of(tmp_path / "c", *overlapping(3, size=16))
    with pytest.raises(ConfigError) as told:
        train.train(folder, str(tmp_path / "m.onnx"), settings(**{"kind": "random_forest", **changes}) if "architecture" not in changes else TrainConfig(**changes))  # fmt: skip
    assert words in str(told.value) and told.value.remedy and not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_chips_of_one_class_are_refused(tmp_path, kind):
    images, labels = bright_is_water(3)
    with pytest.raises(ChipsError, match="fewer than two classes"):
        train.train(folder_of(tmp_path / "c", images, np.minimum(labels, 1)), str(tmp_path / "m.onnx"), settings(kind))
    assert not (tmp_path / "m.onnx").exists()


def test_a_class_of_one_pixel_does_not_stop_the_machine(tmp_path):
    images, labels = bright_is_water(3)
    labels = np.minimum(labels, 1)
    labels[0, 0, 0], images[0, :, 0, 0] = 2, 255
    train.train(folder_of(tmp_path / "c", images, labels), str(tmp_path / "m.onnx"), settings("svm"))
    assert OnnxModel(str(tmp_path / "m.onnx")).channels == 1


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_is_heard_while_it_learns_and_leaves_nothing(tmp_path, kind):
    folder, calls = folder_of(tmp_path / "c", *overlapping(24, share=0.5)), []

    def stop(fraction, message=""):
        calls.append(fraction)
        if 0.2 <= fraction < 0.8 and not message:
            raise Cancelled

    with pytest.raises(Cancelled):
        train.train(folder, str(tmp_path / "m.onnx"), settings(kind, trees=60, pixels_per_class=8000, svm_c=1000), stop)
    assert calls[-1] < 0.5 and os.listdir(tmp_path) == ["c"]


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "c", *overlapping(3))
    monkeypatch.setattr(pixel_graph, "below", lambda numbers: numbers.astype(np.float32) + 0.02)
    with pytest.raises(ModelError, match="differs from the trained one"):
        train.train(folder, str(tmp_path / "m.onnx"), settings("random_forest"))
    assert os.listdir(tmp_path) == ["c"]


def test_weights_of_an_older_model_are_told_of(tmp_path):
    folder, told = folder_of(tmp_path / "c", *overlapping(3)), []
    (tmp_path / "m.safetensors").write_bytes(b"of a network")
    train.train(folder, str(tmp_path / "m.onnx"), settings("random_forest"), lambda f, m="": told.append(m))
    assert any(m.startswith("Warning: m.safetensors") for m in told)


def test_without_validation_chips(tmp_path):
    images, labels = bright_is_water(2)
    run = train.train(chips_folder(tmp_path / "c", images, labels), str(tmp_path / "m.onnx"), settings("svm", validation_share=0.0), report=str(tmp_path / "r.html"))  # fmt: skip
    assert np.isnan(run.best_figure) and (tmp_path / "r.html").exists()
