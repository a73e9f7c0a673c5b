"""Finer elevation models from input that does not fit: each is refused with what mends it, or told, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests import helpers, road, terrain
from tests.engine.test_downscale import BASE, HEIGHT, config, dem, run
from water_dl_plugin.engine.dem.downscale import downscale
from water_dl_plugin.engine.errors import Cancelled, ConfigError, GridMismatchError, ModelError, OutputError, RasterError


@pytest.fixture
def model(tmp_path):
    return terrain.model(tmp_path / "m.onnx")


class TestBadInput:
    KINDS = ("elevation", "elevation", "image", "class")

    @pytest.mark.parametrize(("dems", "others"), [(1, 2), (2, 1), (2, 3), (3, 1), (2, 0)])
    def test_what_the_model_wants_is_listed(self, tmp_path, dems, others):
        model, base = terrain.model(tmp_path / "m.onnx", self.KINDS), dem(tmp_path / "b.tif")
        with pytest.raises(ModelError) as raised:
            run(tmp_path, [base] * dems, model, others=[base] * others)
        said = raised.value.message
        assert "2 elevation models, 1 image band, 1 class band" in said and raised.value.remedy
        assert "1. elevation 1 (elevation), 2. elevation 2 (elevation), 3. image 3 (image), 4. class 4 (class)" in said
        assert f"Given are {dems} elevation model" in said and f"and {others} band" in said

    def test_a_raster_of_several_bands_may_hold_several_kinds(self, tmp_path):
        model, base = terrain.model(tmp_path / "m.onnx", ("elevation", "image", "class", "class")), dem(tmp_path / "b.tif")
        stack = np.random.default_rng(0).integers(0, 5, (3, 50, 64)).astype(np.float32)
        one, *_ = run(tmp_path, [base], model, others=[helpers.write_raster(tmp_path / "s.tif", stack, BASE)])
        files = [helpers.write_raster(tmp_path / f"{k}.tif", plane, BASE) for k, plane in enumerate(stack)]
        assert np.array_equal(one, run(tmp_path, [base], model, others=files)[0])

    @pytest.mark.parametrize("kind", [
        "classes", "other numbers", "one channel", "no kinds", "unknown kind", "elevation last", "no factor", "feet", "no dem", "no output",
        "output is input", "output is error", "output is stack", "elsewhere", "no folder", "resolution", "degrees", "coarser", "coarser grid", "missing", "two bands", "small windows", "cancel", "cancel late",
    ])  # fmt: skip
    def test_says_what_mends_it_and_leaves_nothing(self, tmp_path, model, kind):
        (tmp_path / "out").mkdir()
        base, output, settings, more, error = dem(tmp_path / "b.tif"), str(tmp_path / "out" / "fine.tif"), config(), {}, ModelError
        made = lambda *a, **k: terrain.model(tmp_path / "m.onnx", *a, **k)  # noqa: E731
        dems = [base]
        if kind == "classes":
            model = road.mean3(tmp_path / "c.onnx", props={"waterdl": road.waterdl()})
        elif kind == "other numbers":
            model = made(details={})
        elif kind == "one channel":
            model = terrain.model(tmp_path / "m.onnx", channels=3)
        elif kind == "no kinds":
            model = made(details={"target": {"factor": 3}, "bands": []})
        elif kind == "unknown kind":
            model = made(details={"target": {"factor": 3}, "bands": [{"kind": "sound"}]})
        elif kind == "elevation last":
            model, more = made(("image", "elevation")), {"others": [base]}
        elif kind == "no factor":
            model = made(target={"name": "x", "factor": float(0)})
        elif kind == "feet":
            dems = [dem(tmp_path / "f.tif", unit="US survey foot")]
        elif kind == "no dem":
            dems, error = [], ConfigError
        elif kind == "no output":
            output, error = "", ConfigError
        elif kind == "output is input":
            output, error = base, ConfigError
        elif kind == "output is error":
            more, error = {"error": output}, ConfigError
        elif kind == "output is stack":
            model, more, error = (
                made(("elevation", "image")),
                {"others": [dem(tmp_path / "i.tif")], "error": str(tmp_path / "i.tif")},
                ConfigError,
            )
        elif kind == "elsewhere":
            model, far = (
                made(("elevation", "image")),
                helpers.write_raster(tmp_path / "far.tif", np.zeros((9, 9), np.float32), helpers.utm(9, 9, x=9e5)),
            )
            more, error = {"others": [far]}, GridMismatchError
        elif kind == "no folder":
            output, error = str(tmp_path / "missing" / "fine.tif"), OutputError
        elif kind in ("resolution", "degrees", "coarser"):
            settings, error = config(resolution={"resolution": 30.0, "degrees": 0.0003, "coarser": 90.0}[kind]), ConfigError
        elif kind == "coarser grid":
            more, error = (
                {"grid_path": helpers.write_raster(tmp_path / "g.tif", np.zeros((20, 20), np.uint8), helpers.utm(20, 20, 60.0))},
                GridMismatchError,
            )
        elif kind == "missing":
            dems, error = [str(tmp_path / "none.tif")], RasterError
        elif kind == "two bands":
            model, error = made(("elevation", "elevation")), RasterError
            dems = [helpers.write_raster(tmp_path / "two.tif", np.stack([HEIGHT, HEIGHT]).astype(np.float32), BASE)]
        elif kind == "small windows":
            settings, error = config(window=40), ConfigError
        elif kind.startswith("cancel"):
            settings, error = config(consistent=kind == "cancel late", window=64), Cancelled

            def progress(fraction, message=""):
                if fraction > (0.95 if kind == "cancel late" else 0.3):
                    raise Cancelled()

            more = {"progress": progress, "error": str(tmp_path / "out" / "e.tif")}
        before = Path(base).read_bytes()
        with pytest.raises(error) as raised:
            downscale(dems, model, output, settings, **more)
        assert os.listdir(tmp_path / "out") == [] and Path(base).read_bytes() == before
        assert raised.value.remedy or kind.startswith("cancel")

    def test_an_older_result_stays_when_the_new_one_fails(self, tmp_path, model):
        run(tmp_path, [dem(tmp_path / "b.tif")], model)
        before = (tmp_path / "fine.tif").read_bytes()

        def progress(fraction, message=""):
            if fraction > 0.5:
                raise Cancelled()

        with pytest.raises(Cancelled):
            downscale([str(tmp_path / "b.tif")], model, str(tmp_path / "fine.tif"), config(window=64), progress=progress)
        assert (tmp_path / "fine.tif").read_bytes() == before and not (tmp_path / "fine.tif.partial").exists()

    @pytest.mark.parametrize(
        ("pixel", "resolution", "words"),
        [(10.0, 0, "does not know"), (60.0, 0, "Choose a finer base"), (30.0, 20.0, "pixels of the result are 20 m"), (30.0, 0, "")],
    )
    def test_pixels_that_are_not_as_in_training_are_told(self, tmp_path, model, pixel, resolution, words):
        base = dem(tmp_path / "b.tif", grid=helpers.utm(64, 50, pixel))
        lines = [line for line in run(tmp_path, [base], model, settings=config(resolution=resolution))[2] if "Warning" in line]
        assert any(words in line for line in lines) if words else not lines

    def test_bands_in_another_order_are_told(self, tmp_path):
        model = terrain.model(
            tmp_path / "m.onnx", ("elevation", "image", "image"), bands=[{"name": n, "unit": ""} for n in ("b", "red", "nir")]
        )
        stack = helpers.write_raster(
            tmp_path / "s.tif", np.random.default_rng(0).random((2, 50, 64)).astype(np.float32), BASE, names=("nir", "red")
        )
        lines = run(tmp_path, [dem(tmp_path / "b.tif")], model, others=[stack])[2]
        assert any("Warning: the bands come as b, nir, red" in line for line in lines)


def test_changes_far_beyond_the_expected_error_are_told(tmp_path, monkeypatch):
    """Inputs in other units, or a constant one, make a model sure and wrong."""
    model, paths = (
        terrain.model(tmp_path / "m.onnx", ("elevation", "elevation")),
        [dem(tmp_path / "b.tif"), dem(tmp_path / "other.tif", HEIGHT)],
    )
    fine, lines = run(tmp_path, paths, model)[1:]
    ratio = fine.mean_change / fine.mean_error
    assert not any("unlike those of the training" in line for line in lines)
    monkeypatch.setattr("water_dl_plugin.engine.dem.downscale.DOUBTFUL", 0.99 * ratio)
    assert any("unlike those of the training" in line for line in run(tmp_path, paths, model)[2])
    monkeypatch.setattr("water_dl_plugin.engine.dem.downscale.DOUBTFUL", 1.01 * ratio)
    assert not any("unlike those of the training" in line for line in run(tmp_path, paths, model)[2])
