"""One number per pixel: a fine elevation model from a coarse one. The network gives what is to be added to the base, and its expected error."""

from __future__ import annotations

import math

import numpy as np
import torch

from .. import regression_losses
from ..dem.finer import MOST
from ..dem.predictors import KINDS
from ..dem.vertical import KINDS as VERTICAL
from ..errors import ChipsError
from ..heights import fill_voids, moving_mean
from ..raster import RESAMPLING
from ..values_report import values_report

SPREADS = np.geomspace(1e-3, 1e3, 61)  # limits of the classes of expected error, in the target's unit


class Regression:
    """See `tasks`. Targets are float32 `(rows, cols)`: target minus base in the target's unit, NaN where ignored."""

    spatial = True
    channels = 2
    architecture = "demunet"
    losses = tuple(regression_losses.LOSSES)
    monitor = "rmse"
    lower_is_better = frozenset({"loss", "rmse", "mae", "rmse_base"})

    def __init__(self, manifest):
        self.bands, self.told = manifest.bands, dict(manifest.target)
        elevations = [i for i, b in enumerate(manifest.bands) if b.get("kind") == "elevation"]
        if elevations[:1] != [0]:
            raise ChipsError("The chips have no elevation model that could be made finer.", "Export them again, with TARGET=values.")
        odd = [b for b in manifest.bands if b.get("kind") not in KINDS or b.get("resampling", "") not in (*RESAMPLING, "")]
        if odd or not 0.9 <= self.told.get("factor", 0) <= MOST or self.told.get("vertical") not in VERTICAL:
            raise ChipsError("chips.json does not say how the chips were made.", "Export them again, with TARGET=values.")
        self.arguments = {"elevations": elevations}
        self.slope_weight, self.spread_scale, self.relief = 0.0, 1.0, 1.0
        self.pixel_m = manifest.pixel_size_m or 1.0
        self.width = 2 * int(float(self.told["factor"]) // 2) + 1  # px: nearest odd number to a pixel of the base

    def configure(self, config) -> None:
        self.slope_weight, self.relief = config.slope_weight, config.relief

    def target(self, chips, chip) -> np.ndarray:
        heights, known = chips.values(chip)
        pixels, valid = chips.image(chip)
        return np.where(known & valid[0], heights.astype(np.float64) - pixels[0], np.nan).astype(np.float32)

    def vary(self, image: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The same place with its terrain `k` times as high, and the errors of the coarse models as they were.

        A coarse model holds means of the terrain over its pixels, plus errors; so (k - 1) times the means are added to each, and (k - 1)
        times the terrain to the target. Without it a network that was trained in gentle terrain takes the relief of a rugged one for errors.
        """
        if self.relief <= 1 or not np.isfinite(target).any():
            return image, target
        k = np.float32(self.relief ** rng.uniform(-1, 1))
        terrain = image[0] + fill_voids(np.where(np.isfinite(target), target, 0).astype(np.float32), np.isfinite(target))
        means = moving_mean(terrain, self.width)
        image = image.copy()
        image[self.arguments["elevations"]] += (k - 1) * means
        return image, target + (k - 1) * (terrain - means)

    def criterion(self, loss: str, weights):
        return lambda output, target: regression_losses.loss(loss, output, target, self.slope_weight)

    def activate(self, output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output[:, :1], output[:, 1:] * self.spread_scale], 1)

    def evaluator(self) -> Evaluator:
        return Evaluator()

    def calibrate(self, evaluator: Evaluator) -> None:
        """Scale the expected errors so that they are right on average over the validation chips: mean (error / expected error)^2 = 1."""
        if evaluator.pixels and math.isfinite(evaluator.ratio):
            self.spread_scale *= math.sqrt(evaluator.ratio / evaluator.pixels)

    def info(self) -> dict:
        bands = [{"kind": b.get("kind", "image"), "resampling": b.get("resampling", "")} for b in self.bands]
        return {"nodata": "base", "details": {"target": self.told, "bands": bands, "spread_scale": self.spread_scale}}

    def report(self, path: str, run) -> None:
        """Curves, figures against the interpolated base, and the validation chips with the largest and smallest gain."""
        ranked = []
        for i, chip in enumerate(run.validation):
            _, _, given, target = run.look(chip)
            one = Evaluator()
            one.update(given[None], target[None])
            if one.pixels:
                ranked.append((one.figures()["skill"], i))
        ranked.sort()
        count = min(3, (len(ranked) + 1) // 2)
        chosen = [("lowest", ranked[:count]), ("highest", ranked[count:][-count:][::-1])]
        values_report(path, run, self.told.get("unit", ""), self.pixel_m, [
            (which, [(run.validation[i].image, skill, *run.look(run.validation[i])) for skill, i in some]) for which, some in chosen if some
        ])  # fmt: skip


class Evaluator:
    """Errors of a data set, chip by chip: of the network and of the base alone."""

    def __init__(self):
        self.pixels, self.sums = 0, np.zeros(4)
        self.ratio = 0.0
        self.told = np.zeros((len(SPREADS) + 1, 3))  # by expected error: pixels, sum of squared expected errors, of squared errors

    def update(self, given: np.ndarray, target: np.ndarray) -> None:
        """`given` `(n, 2, rows, cols)` residual and expected error, `target` `(n, rows, cols)` residual, NaN where ignored."""
        known = np.isfinite(target)
        wanted, value, spread = (a[known].astype(np.float64) for a in (target, given[:, 0], given[:, 1]))
        error = value - wanted
        self.pixels += error.size
        self.sums += [(error**2).sum(), np.abs(error).sum(), error.sum(), (wanted**2).sum()]
        self.ratio += float(((error / np.maximum(spread, 1e-6)) ** 2).sum())
        place = np.digitize(spread, SPREADS)
        for k, weights in enumerate((None, spread**2, error**2)):
            self.told[:, k] += np.bincount(place, weights, len(self.told))

    def figures(self) -> dict:
        """rmse, mae, bias in the target's unit; rmse_base: of the base alone; skill: the share of that which is gone, 1 - rmse / rmse_base."""
        if not self.pixels:
            return dict.fromkeys(("rmse", "mae", "bias", "rmse_base", "skill"), math.nan)
        square, absolute, error, base = self.sums / self.pixels
        rmse, rmse_base = math.sqrt(square), math.sqrt(base)
        return {
            "rmse": rmse,
            "mae": absolute,
            "bias": error,
            "rmse_base": rmse_base,
            "skill": 1 - rmse / rmse_base if rmse_base else math.nan,
        }
