"""Losses, figures and normalisation of values: elevations that are to be made finer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from water_dl_plugin.engine import normalise, regression_losses, settings
from water_dl_plugin.engine.errors import ChipsError, ConfigError
from water_dl_plugin.engine.heights import moving_mean
from water_dl_plugin.engine.manifest import Manifest
from water_dl_plugin.engine.normalise import Normalisation, Sketch
from water_dl_plugin.engine.regression_losses import SPREAD_WEIGHT, loss
from water_dl_plugin.engine.samples import augment
from water_dl_plugin.engine.tasks.regression import Evaluator, Regression

NAN = math.nan
TARGET = {"name": "fine", "unit": "m", "factor": 3.0, "vertical": "constant"}


def given(value, spread=1.0):
    value = torch.tensor(value, dtype=torch.float32)
    return torch.stack([value, torch.full_like(value, spread)])[None].requires_grad_()


def likelihood(errors, spread=1.0):
    """A tenth of minus the mean log of the Laplace density whose standard deviation is `spread`."""
    b = spread / math.sqrt(2)
    return SPREAD_WEIGHT * np.mean([math.log(2 * b) + abs(e) / b for e in errors])


class TestLosses:
    def test_known_answers(self):
        output, target = given([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[[0.0, 0.0], [0.0, NAN]]])
        rest = likelihood([1, 3, 0])
        assert loss("mae", output, target).item() == pytest.approx(4 / 3 + rest, rel=1e-6)
        assert loss("rmse", output, target).item() == pytest.approx(math.sqrt(10 / 3) + rest, rel=1e-6)
        # across: 1 -> 3 (the lower pair has an unknown end); down: 1 -> 0
        assert loss("mae", output, target, 0.5).item() == pytest.approx(4 / 3 + 0.5 * (2 + 1) / 2 + rest, rel=1e-6)

    def test_ignored_pixels_have_no_gradient_and_known_ones_have(self):
        output = given([[1.0, 3.0], [0.0, 2.0]])
        loss("rmse", output, torch.tensor([[[0.0, NAN], [0.5, NAN]]]), 1.0).backward()
        assert torch.equal(output.grad[0, :, :, 1], torch.zeros(2, 2)) and (output.grad[0, :, :, 0].abs() > 0).all()

    def test_a_chip_without_any_known_pixel_teaches_nothing(self):
        output = given([[1.0]])
        total = loss("mae", output, torch.tensor([[[NAN]]]), 1.0)
        total.backward()
        assert total.item() == 0 and not output.grad.any()

    def test_the_expected_error_does_not_pull_at_the_value(self):
        narrow, wide = given([[1.0]], 0.1), given([[1.0]], 9.0)
        for output in (narrow, wide):
            loss("mae", output, torch.zeros(1, 1, 1)).backward()
        assert narrow.grad[0, 0].item() == wide.grad[0, 0].item() == 1.0
        assert narrow.grad[0, 1].item() < 0 < wide.grad[0, 1].item()  # an error of 1: the narrow one must grow, the wide one shrink

    def test_the_expected_error_settles_at_the_standard_deviation(self):
        errors = torch.distributions.Laplace(0.0, 2.0).sample((1, 200, 200))
        spread = torch.tensor(1.5, requires_grad=True)
        step = torch.optim.Adam([spread], 0.2)
        for _ in range(300):
            step.zero_grad()
            loss("mae", torch.stack([errors, spread.expand_as(errors)], 1), torch.zeros_like(errors)).backward()
            step.step()
        assert spread.item() == pytest.approx(2 * math.sqrt(2), rel=0.03)

    def test_wrong_names_and_shapes(self):
        with pytest.raises(ConfigError, match="rmse, mae"):
            loss("lovasz", given([[1.0]]), torch.zeros(1, 1, 1))
        with pytest.raises(ValueError):
            loss("mae", given([[1.0]]), torch.zeros(1, 2, 2))

    def test_the_form_offers_them(self):
        assert set(regression_losses.LOSSES) <= set(settings.LOSSES)


class TestEvaluator:
    def test_known_answers(self):
        found = Evaluator()
        found.update(np.array([[[[1.0, 2.0]], [[1.0, 2.0]]]]), np.array([[[0.0, NAN]]]))
        found.update(np.array([[[[1.0, -1.0]], [[2.0, 2.0]]]]), np.array([[[4.0, 0.0]]]))
        figures = found.figures()  # errors 1, -3, -1; the base alone errs by 0, 4, 0
        assert figures["rmse"] == pytest.approx(math.sqrt(11 / 3)) and figures["mae"] == pytest.approx(5 / 3)
        assert figures["bias"] == pytest.approx(-1) and figures["rmse_base"] == pytest.approx(math.sqrt(16 / 3))
        assert figures["skill"] == pytest.approx(1 - math.sqrt(11 / 16)) and found.pixels == 3

    def test_nothing_known(self):
        assert all(math.isnan(v) for v in Evaluator().figures().values())

    def test_expected_errors_are_scaled_until_they_are_right(self):
        task, rng = Regression(manifest()), np.random.default_rng(0)
        truth = rng.normal(0, 3, (1, 100, 100))
        for _ in range(2):
            found = Evaluator()
            output = task.activate(torch.stack([torch.zeros(1, 100, 100), torch.ones(1, 100, 100)], 1)).numpy()
            found.update(output, truth)
            task.calibrate(found)
        assert task.spread_scale == pytest.approx(3, rel=0.03)
        assert task.info()["details"]["spread_scale"] == task.spread_scale
        assert found.told[:, 0].sum() == 10_000 and np.count_nonzero(found.told[:, 0]) == 1


def manifest(**changes):
    bands = ({"name": "dem", "unit": "m", "kind": "elevation", "resampling": "cubic"}, {"name": "red", "unit": "", "kind": "image", "resampling": ""})  # fmt: skip
    return Manifest(**{"task": "regression", "bands": bands, "classes": (), "tile_size": 16, "chips": (), "target": TARGET, **changes})


class TestTask:
    def test_it_says_what_the_network_must_know(self):
        task = Regression(manifest())
        assert task.arguments == {"elevations": [0]} and task.channels == 2
        info = task.info()
        assert info["nodata"] == "base" and info["details"]["target"] == TARGET
        assert info["details"]["bands"] == [{"kind": "elevation", "resampling": "cubic"}, {"kind": "image", "resampling": ""}]

    @pytest.mark.parametrize("kinds", [("image", "elevation"), ("image", "image")])
    def test_the_base_must_come_first(self, kinds):
        bands = tuple({"name": k, "unit": "", "kind": k} for k in kinds)
        with pytest.raises(ChipsError, match="TARGET=values"):
            Regression(manifest(bands=bands))

    @pytest.mark.parametrize("changes", [
        {"target": {}}, {"target": {**TARGET, "vertical": "weird"}}, {"target": {**TARGET, "factor": 1000.0}}, {"target": {**TARGET, "factor": 0.2}},
        {"bands": ({"name": "a", "unit": "m", "kind": "elevation", "resampling": "lanczos"},)},
        {"bands": ({"name": "a", "unit": "m", "kind": "elevation"}, {"name": "b", "unit": "", "kind": "sound"})},
    ])  # fmt: skip
    def test_chips_that_downscaledem_could_not_follow_are_refused_before_training(self, changes):
        with pytest.raises(ChipsError, match="how the chips were made"):
            Regression(manifest(**changes))


class TestNormalisation:
    def heights(self):
        rng = np.random.default_rng(1)
        pixels = np.stack([3000 + rng.normal(0, 5, (20, 20)), 3001 + rng.normal(0, 5, (20, 20)), rng.uniform(0, 100, (20, 20))]).astype(
            np.float32
        )
        return pixels, np.ones(pixels.shape, bool)

    def fitted(self, scheme="percentile"):
        sketches = [Sketch() for _ in range(3)]
        for sketch, plane in zip(sketches, self.heights()[0]):
            sketch.update(plane)
        return normalise.fit(scheme, sketches, (0, 1))

    def test_elevations_are_metres_relative_to_the_base(self):
        pixels, valid = self.heights()
        out = self.fitted().apply(pixels, valid)
        level = np.rint(pixels[0].mean(dtype=np.float64))
        np.testing.assert_array_equal(out[:2], pixels[:2] - np.float32(level))
        assert abs(out[0].mean()) < 1 and 0.5 < np.ptp(out[2]) < 1.2

    def test_voids_of_the_base_are_interpolated_and_those_of_others_taken_from_it(self):
        pixels, valid = self.heights()
        pixels[0], pixels[1] = 3000.0, 3007.0
        valid[0, 5:9, 5:9], valid[1, 12, 12], valid[2, 3, 3] = False, False, False
        pixels[~valid] = -9999
        out = self.fitted().apply(pixels, valid)
        np.testing.assert_array_equal(out[0], 0)
        assert out[1, 12, 12] == 0 and out[1, 5, 5] == 7 and np.isfinite(out).all() and abs(out[2, 3, 3]) < 2

    @pytest.mark.parametrize("hole", [np.s_[5:12, 3:9], np.s_[:, :8], np.s_[15:, :], np.s_[:19, :18]])
    def test_a_tilted_plane_goes_on_through_voids_and_beyond_its_end(self, hole):
        pixels, valid = self.heights()
        rows, cols = np.mgrid[:20, :20]
        plane = (6 * rows - 9 * cols + 3000).astype(np.float32)
        pixels[:2], valid[0][hole], valid[1][hole] = plane, False, False
        pixels[~valid] = -9999
        out = self.fitted().apply(pixels, valid)
        np.testing.assert_allclose(out[0] - out[0, 19, 19], plane - plane[19, 19], rtol=0, atol=2e-3)
        np.testing.assert_array_equal(out[1], out[0])

    def test_no_valid_pixel_at_all(self):
        pixels, valid = self.heights()
        out = self.fitted().apply(pixels, np.zeros_like(valid))
        assert not out[:2].any() and np.isfinite(out).all()

    @pytest.mark.parametrize("scheme", settings.SCHEMES)
    def test_json_and_back(self, scheme):
        pixels, valid = self.heights()
        made = self.fitted(scheme)
        again = Normalisation.from_json(made.to_json(), 3)
        assert again == made and again.elevations == (0, 1)
        np.testing.assert_array_equal(again.apply(pixels, valid), made.apply(pixels, valid))

    def test_elevations_are_not_brightened(self):
        config = settings.TrainConfig(brightness=0.5, noise=0.5)
        image, target = np.ones((2, 4, 4), np.float32), np.zeros((4, 4), np.float32)
        changed, _ = augment(image, target, np.random.default_rng(0), config, True, (0,))
        assert (changed[0] == 1).all() and (changed[1] != 1).any()


class TestVaryingRelief:
    def scene(self, size=48, factor=3):
        """A chip of coarse models that are moving means of the truth plus known errors, the first one 0.5 m on average."""
        rng = np.random.default_rng(2)
        rows, cols = np.mgrid[:size, :size]
        truth = (20 * np.sin(rows / 7) + 15 * np.cos(cols / 5) + rng.normal(0, 1, (size, size))).astype(np.float32)
        means = moving_mean(truth, factor)
        errors = rng.normal(0, 0.5, (2, size, size)).astype(np.float32)
        image = np.stack([means + errors[0], means + errors[1], rng.random((size, size)).astype(np.float32)])
        bands = ({"name": "a", "unit": "m", "kind": "elevation"}, {"name": "b", "unit": "m", "kind": "elevation"}, {"name": "red", "unit": "", "kind": "image"})  # fmt: skip
        task = Regression(manifest(bands=bands, target={**TARGET, "factor": float(factor)}))
        task.configure(settings.TrainConfig(relief=4.0))
        return task, truth, means, errors, image

    def test_terrain_is_scaled_and_errors_stay(self):
        task, truth, means, errors, image = self.scene()
        factors = []
        for seed in range(40):
            changed, residual = task.vary(image, truth - image[0], np.random.default_rng(seed))
            made = changed[0] + residual
            k = float((made * truth).sum() / (truth**2).sum())
            factors.append(k)
            np.testing.assert_allclose(made, k * truth, atol=2e-3)
            np.testing.assert_allclose(changed[:2] - k * means, errors, atol=2e-3)
            np.testing.assert_array_equal(changed[2], image[2])
        assert 0.25 <= min(factors) < 0.4 and 2.5 < max(factors) <= 4 and 0.6 < np.exp(np.mean(np.log(factors))) < 1.6

    def test_what_is_ignored_stays_ignored_and_nothing_else_is_lost(self):
        task, truth, _, _, image = self.scene()
        target = truth - image[0]
        target[10:20, 5:30] = np.nan
        changed, residual = task.vary(image, target, np.random.default_rng(0))
        np.testing.assert_array_equal(np.isnan(residual), np.isnan(target))
        assert np.isfinite(changed).all() and image[0, 0, 0] == self.scene()[4][0, 0, 0]  # the chip in the cache is as it was

    def test_it_can_be_switched_off(self):
        task, truth, _, _, image = self.scene()
        task.configure(settings.TrainConfig(relief=1.0))
        changed, residual = task.vary(image, truth - image[0], np.random.default_rng(0))
        assert changed is image and np.array_equal(residual, truth - image[0])

    @pytest.mark.parametrize("width", [1, 3, 7])
    def test_means_of_a_plane_are_the_plane(self, width):
        rows, cols = np.mgrid[:20, :12].astype(np.float64)
        plane = 3 * rows - 2 * cols + 1000
        np.testing.assert_allclose(moving_mean(plane, width), plane, rtol=0, atol=1e-9)
        spike = np.zeros((20, 12))
        spike[10, 6] = width**2
        found = moving_mean(spike, width)
        assert found.sum() == pytest.approx(width**2) and found[10, 6] == pytest.approx(1) and (found > 1e-12).sum() == width**2
        assert moving_mean(np.full((1, 3), 5.0), width).tolist() == [[5.0, 5.0, 5.0]]
