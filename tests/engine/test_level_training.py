"""From level chips to one model file of several members, and what it says of itself."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.basins import level_chips, level_images
from tests.helpers import allow_network, bright_is_water, chips_folder, forget_network
from water_dl_plugin.engine import describe, ensemble, nets, network_trainer, normalise, onnx_export, tasks, train
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.chips import ChipSet, read_manifest
from water_dl_plugin.engine.errors import Cancelled, ChipsError, ConfigError, ModelError
from water_dl_plugin.engine.level.conformal import half_width
from water_dl_plugin.engine.level.model import LevelModel
from water_dl_plugin.engine.settings import TrainConfig


class SmallLevelNet(nn.Module):
    """As levelnet, but a matter of a second."""

    gives, stride, margin = "number", 1, 0

    def __init__(self, bands, channels, attention="none"):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(bands, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(16, channels)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture(scope="module", autouse=True)
def registered():
    allow_network("smalllevel", SmallLevelNet)
    yield
    forget_network("smalllevel")


def settings(**changes):
    quick = {"architecture": "smalllevel", "epochs": 30, "batch_size": 8, "learning_rate": 0.02, "mixed_precision": False, "threads": 1,
             "device": "cpu", "members": 3, "brightness": 0.02, "noise": 0.0}  # fmt: skip
    return TrainConfig(**{**quick, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("level")
    path, levels = level_chips(folder / "c", 50, reservoirs=("Upper", "Lower"))
    run = train.train(path, str(folder / "m.onnx"), settings(), report=str(folder / "r.html"))
    return folder, path, levels, run


def answers(folder, path, k):
    """What member-wise the model file makes of chip k."""
    chips, model = ChipSet(path), LevelModel(str(folder / "m.onnx"), "cpu", 1)
    chip = chips.manifest.chips[k]
    return model.levels(*chips.image(chip), model.places[chip.place].datum_m), model


def test_levels_of_both_reservoirs_come_back_as_levels(trained):
    folder, path, levels, run = trained
    for k in (0, 5, 60, 95):  # test chips of both
        given, model = answers(folder, path, k)
        assert given.shape == (3,) == (model.members,) and abs(given.mean() - levels[k]) < 1.5
    assert run.evaluation.figures()["rmse"] < 1.2 and run.evaluation.figures()["r2"] > 0.8
    assert (folder / "m.safetensors").exists() and not (folder / "m.training").exists()


def test_members_differ_and_their_mean_is_what_was_judged(trained):
    folder, path, levels, _ = trained
    given, model = answers(folder, path, 5)
    assert given.std() > 1e-3
    known = model.series[5]
    assert known.part == "test" and known.unseen_m == pytest.approx(given.mean(), abs=2e-3) and known.level_m == pytest.approx(levels[5])


def test_the_model_file_tells_reservoirs_dates_and_errors(trained):
    folder, path, _, run = trained
    _, model = answers(folder, path, 0)
    manifest = read_manifest(path)
    assert (model.sensor, list(model.places), model.info.architecture) == ("sentinel-2", ["Upper", "Lower"], "smalllevel")
    upper = model.places["Upper"]
    own = [c for c in manifest.chips if c.place == "Upper"]
    assert upper.datum_m == pytest.approx(min(c.value for c in own if c.split != "test"))
    learnt = [c.value for c in own if c.split == "train"]
    assert (upper.low_m, upper.high_m) == pytest.approx((min(learnt), max(learnt))) and (upper.grid.width, upper.grid.transform[1]) == (
        32,
        10,
    )
    assert len(model.series) == 100 and {k.part for k in model.series} == {"train", "validation", "test"}
    assert all((k.unseen_m is None) == (k.part == "train") for k in model.series)
    errors = model.errors()
    assert len(errors) == 20 == len(model.errors("Upper")) + len(model.errors("Lower"))
    assert float(np.sqrt((errors**2).mean())) == pytest.approx(run.evaluation.figures()["rmse"], abs=1e-3)
    assert len(model.interval_errors("Upper")) == 20  # its own ten are too few
    assert model.info.training["figures"]["rmse"] == pytest.approx(run.evaluation.figures()["rmse"])


def test_the_interval_holds_as_many_new_dates_as_it_says(trained):
    folder, _, _, _ = trained
    _, model = answers(folder, trained[1], 0)
    width = half_width(model.errors(), 0.9)
    tested = [abs(k.unseen_m - k.level_m) <= width for k in model.series if k.part == "test"]
    assert len(tested) == 20 and np.mean(tested) >= 0.75


def test_the_report_shows_both_reservoirs(trained):
    text = (trained[0] / "r.html").read_text(encoding="utf-8")
    for word in ("Reservoir Upper", "Reservoir Lower", "R² on held-out dates", "90 % interval", "Members"):
        assert word in text


def test_drawings_each_member_validates_on_its_own(tmp_path):
    path, _ = level_chips(tmp_path / "c", 40, repeats=4)
    train.train(path, str(tmp_path / "m.onnx"), settings(epochs=3, members=4))
    model = LevelModel(str(tmp_path / "m.onnx"), "cpu", 1)
    assert all(k.unseen_m is not None for k in model.series)  # every date was held out from one of the four
    chips = ChipSet(path)
    for number, chip in enumerate(chips.manifest.chips[:10]):
        given = model.levels(*chips.image(chip), model.places["Lake"].datum_m)
        unseen = [given[k] for k in range(4) if k in chip.held] or list(given)
        assert model.series[number].unseen_m == pytest.approx(np.mean(unseen), abs=2e-3)


def test_members_learn_from_their_drawing_only(tmp_path):
    path, _ = level_chips(tmp_path / "c", 20, repeats=2)
    chips = ChipSet(path)
    task = tasks.make(chips.manifest)
    samples = [train.Samples(chips, chips.split(s), task) for s in ("train", "validation")]
    config = train.fitting(settings(members=2), task)
    run = ensemble.EnsembleTrainer(
        chips, task, *samples, config, train.stages(config), str(tmp_path / "m.onnx"), "", torch.device("cpu"), print
    )
    for k in (0, 1):
        learn, check = run._drawing(k)
        assert all(c.held == (k,) for c in check) and all(k not in c.held and c.split != "test" for c in learn)
        assert len(learn) + len(check) == 16


def test_a_datum_that_is_given_counts(tmp_path):
    path, levels = level_chips(tmp_path / "c", 20, datum=90.0)
    task = tasks.make(read_manifest(path))
    assert (task.low, task.high) == pytest.approx((10, 20), abs=1.2)
    chips = ChipSet(path)
    assert float(task.target(chips, chips.manifest.chips[3])) == pytest.approx(levels[3] - 90, abs=1e-4)
    assert task.info()["details"]["reservoirs"][0]["datum_m"] == 90
    assert torch.allclose(task.activate(torch.tensor([[0.0], [1.0]]))[:, 0], torch.tensor([task.low, task.high]))


def test_cancel_keeps_the_members_that_are_ready_and_the_same_call_goes_on(tmp_path):
    path, _ = level_chips(tmp_path / "c", 20)
    config = settings(epochs=4)
    train.train(path, str(tmp_path / "a.onnx"), config)

    def stop(fraction, message=""):
        if message.startswith("Member 3 of 3: Epoch 2"):
            raise Cancelled

    with pytest.raises(Cancelled, match="The 2 of 3 members"):
        train.train(path, str(tmp_path / "b.onnx"), config, stop)
    assert LevelModel(str(tmp_path / "b.onnx"), "cpu", 1).members == 2
    said = []
    train.train(path, str(tmp_path / "b.onnx"), config, lambda f, m="": said.append(m))
    assert sum("Going on after epoch" in m for m in said) >= 2
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert not (tmp_path / "b.training").exists()


def test_nothing_is_written_when_the_first_member_is_cancelled(tmp_path):
    path, _ = level_chips(tmp_path / "c", 20)

    def stop(fraction, message=""):
        if "Epoch 2" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        train.train(path, str(tmp_path / "b.onnx"), settings(epochs=5), stop)
    assert not (tmp_path / "b.onnx").exists()


def test_the_state_is_kept_seldom_but_in_the_end(tmp_path, monkeypatch):
    """Weights of 45 MB after each of many short epochs would take longer than the epochs."""
    saved = []
    monkeypatch.setattr(network_trainer.checkpoint, "save", lambda path, tensors, state: saved.append(path))
    monkeypatch.setattr(network_trainer.NetworkTrainer, "_resume", lambda self: (0, None))
    path, _ = level_chips(tmp_path / "c", 20)
    train.train(path, str(tmp_path / "m.onnx"), settings(epochs=6, members=2))
    last = [p for p in saved if p.endswith("last.safetensors")]
    assert len(last) == 4  # the first and the last epoch of each member


def test_the_last_epoch_is_taken_since_the_held_out_dates_must_not_choose(trained):
    run = trained[3]
    assert run.best_epoch == run.history[-1]["epoch"] == 30 and len(run.history) == 16  # the first, and every other one


@pytest.mark.parametrize("network", ["unet", "demunet"])
def test_networks_of_images_are_refused(tmp_path, network):
    path, _ = level_chips(tmp_path / "c", 20)
    with pytest.raises(ConfigError, match=f"{network} is not for these chips"):
        train.train(path, str(tmp_path / "m.onnx"), settings(architecture=network))


def test_levelnet_is_refused_for_classes_and_auto_takes_it_for_levels(tmp_path):
    images, labels = bright_is_water(6)
    path = chips_folder(tmp_path / "s", images, labels, ["train"] * 4 + ["validation"] * 2)
    with pytest.raises(ConfigError, match="levelnet is not for these chips"):
        train.train(path, str(tmp_path / "m.onnx"), settings(architecture="levelnet"))
    levels, _ = level_chips(tmp_path / "c", 20)
    config = train.fitting(TrainConfig(), tasks.make(read_manifest(levels)))
    assert (config.architecture, config.loss, config.epochs, config.learning_rate) == (
        "levelnet",
        "huber",
        60,
        nets.usual("levelnet", "learning_rate"),
    )
    with pytest.raises(ConfigError, match="one number per image"):
        train.fitting(TrainConfig(portable=True), tasks.make(read_manifest(levels)))


def test_levels_that_are_alike_or_missing_are_refused(tmp_path):
    images = level_images(np.full(6, 5.0))
    place = {"name": "L", "crs": "", "transform": [0, 1, 0, 0, 0, -1], "width": 32, "height": 32}
    told = {"classes": (), "task": "level", "target": {"reservoirs": [place]}, "sources": ({"name": "s", "crs": ""},)}
    path = chips_folder(tmp_path / "a", images, None, ["train"] * 6, values=np.full(6, 3.0), chips=[{"place": "L"}] * 6, **told)
    with pytest.raises(ChipsError, match="alike"):
        tasks.make(read_manifest(path))
    path = chips_folder(tmp_path / "b", images, None, ["train"] * 6, chips=[{"place": "L"}] * 6, **told)
    with pytest.raises(ChipsError, match="without level"):
        tasks.make(read_manifest(path))
    path = chips_folder(tmp_path / "d", images, None, ["train"] * 6, values=np.arange(6.0), chips=[{"place": "M"}] * 6, **told)
    with pytest.raises(ChipsError, match="of a reservoir"):
        tasks.make(read_manifest(path))


def test_vary_moves_the_image_and_keeps_the_level():
    task = tasks.TASKS["level"]
    from water_dl_plugin.engine.tasks.level import SHIFT, Level

    assert task in (Level, ".level:Level")
    image = np.arange(2 * 12 * 12, dtype=np.float32).reshape(2, 12, 12)
    seen = set()
    for seed in range(60):
        moved, target = Level.vary(None, image, np.float32(3), np.random.default_rng(seed))
        assert moved.shape == image.shape and target == 3
        inner = moved[:, 4:8, 4:8]
        place = [
            (r, c)
            for r in range(-SHIFT, SHIFT + 1)
            for c in range(-SHIFT, SHIFT + 1)
            if np.array_equal(image[:, 4 + r : 8 + r, 4 + c : 8 + c], inner)
        ]
        assert len(place) == 1
        seen.add(place[0])
    assert len(seen) == (2 * SHIFT + 1) ** 2


def test_a_level_model_is_no_map_model_and_the_reverse(trained, tmp_path):
    with pytest.raises(ModelError, match="does not give an image.*Estimate water level"):
        OnnxModel(str(trained[0] / "m.onnx"), "cpu")
    assert OnnxModel(str(trained[0] / "m.onnx"), "cpu", gives="any").gives == "numbers"
    images, labels = bright_is_water(6)
    path = chips_folder(tmp_path / "s", images, labels, ["train"] * 4 + ["validation"] * 2)
    train.train(path, str(tmp_path / "m.onnx"), settings(architecture="linknet", epochs=1))
    with pytest.raises(ModelError, match="does not give one number"):
        LevelModel(str(tmp_path / "m.onnx"), "cpu", 1)


def test_half_width_is_the_conformal_quantile():
    errors = -np.arange(1.0, 101.0)
    assert half_width(errors, 0.9) == 91 and half_width(errors, 0.5) == 51  # ceil(101 * coverage)-th smallest
    assert half_width(np.arange(9.0), 0.9) == 8 and half_width(np.arange(8.0), 0.9) is None and half_width([], 0.9) is None
    assert half_width([1.0, math.nan, *np.arange(2.0, 10.0)], 0.9) == 9


def test_half_width_covers_new_errors_as_promised():
    rng = np.random.default_rng(0)
    covered = [np.abs(rng.standard_t(2)) <= half_width(rng.standard_t(2, 40), 0.9) for _ in range(3000)]
    assert 0.88 < np.mean(covered) < 0.93


def test_model_information_names_the_reservoirs(trained):
    model = OnnxModel(str(trained[0] / "m.onnx"), "cpu", gives="any")
    told = dict(describe.facts(model))
    assert told["Task"] == "level" and told["Members"] == "3" and told["Sensor"] == "sentinel-2" and "Classes" not in told
    assert "Upper (100." in told["Reservoirs"] and "Lower (200." in told["Reservoirs"] and "datum" in told["Reservoirs"]
    model.info = dataclasses.replace(model.info, details={"reservoirs": [3, {"name": ["x"], "low_m": "a"}]})
    assert dict(describe.facts(model))["Reservoirs"] == "['x']"  # a stranger's file


def test_a_search_trains_one_member_and_hears_its_figures(tmp_path):
    path, _ = level_chips(tmp_path / "c", 20)
    rows = []
    train.train(path, str(tmp_path / "m.onnx"), settings(epochs=3), watch=rows.append)
    assert len(rows) == 3 and all(math.isfinite(r["rmse"]) for r in rows) and LevelModel(str(tmp_path / "m.onnx"), "cpu", 1).members == 1


def test_the_model_file_takes_half_the_space_and_gives_the_same_within_a_thousandth(tmp_path):
    path, _ = level_chips(tmp_path / "c", 20)
    train.train(path, str(tmp_path / "m.onnx"), settings(architecture="levelnet", epochs=1, members=1, learning_rate=1e-3))
    half, whole = (tmp_path / "m.onnx").stat().st_size, (tmp_path / "m.safetensors").stat().st_size
    assert half < 0.52 * whole
    torch.manual_seed(0)
    net = nets.build("levelnet", 3, 1).eval()
    task = tasks.make(read_manifest(path))
    info = OnnxModel(str(tmp_path / "m.onnx"), "cpu", gives="any").info
    x = np.random.default_rng(0).uniform(0, 1, (4, 3, 48, 48)).astype(np.float32)
    given = []
    for name, half in (("a", False), ("b", True)):
        onnx_export.write(str(tmp_path / f"{name}.onnx"), net, task.activate, info, x, half=half)
        given.append(OnnxModel(str(tmp_path / f"{name}.onnx"), "cpu", gives="numbers")(x))
    assert 0 < np.abs(given[0] - given[1]).max() < 2e-3 * np.abs(given[0]).max()


def test_chips_of_levels_are_never_turned(tmp_path):
    """On steep banks the level shows at a few places of the shore: with flips the simulated steep reservoir was not learnt (R2 0.07, without 0.71)."""
    path, _ = level_chips(tmp_path / "c", 20)
    chips = ChipSet(path)
    task = tasks.make(chips.manifest)
    task.vary = lambda image, target, rng: (image, target)
    learn = train.Samples(chips, chips.split("train"), task)
    scheme = normalise.fit("minmax", learn.sketches())
    plain = {learn._one(i, scheme, None, 0, 0)[0].tobytes() for i in range(len(learn))}
    for images, _ in learn.batches(4, scheme, settings(flips=True, brightness=0.0), 0):
        assert all(image.tobytes() in plain for image in images)


def test_another_figure_may_choose_the_epoch_and_its_price_is_told(tmp_path):
    path, _ = level_chips(tmp_path / "c", 20)
    said = []
    run = train.train(path, str(tmp_path / "m.onnx"), settings(epochs=4, members=2, monitor="rmse"), lambda f, m="": said.append(m))
    assert any(m.startswith("Warning: rmse") and "too narrow" in m for m in said)
    assert len(run.history) >= 1 and math.isfinite(run.evaluation.figures()["rmse"])


def test_a_reservoir_that_nothing_was_learnt_of_has_no_datum(tmp_path):
    path, _ = level_chips(tmp_path / "c", 10, reservoirs=("Upper", "Lower"))
    manifest = read_manifest(path)
    chips = tuple(dataclasses.replace(c, split="test") if c.place == "Lower" else c for c in manifest.chips)
    told = {p["name"]: p for p in tasks.make(dataclasses.replace(manifest, chips=chips)).info()["details"]["reservoirs"]}
    assert told["Lower"]["datum_m"] is None and told["Lower"]["low_m"] is None and told["Upper"]["datum_m"] > 99
