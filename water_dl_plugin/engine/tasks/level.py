"""One number per chip: the water level of the reservoir that it shows. The network gives 0..1, the model file depths in m, one per member."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import ChipsError
from ..level.assessment.training_report import level_training

SHIFT = 1  # px: scenes lie off by a fraction of a pixel, and a network must not count on an exact place
LOSSES = {
    "huber": lambda given, wanted: 20 * F.smooth_l1_loss(given, wanted, beta=0.05),  # of the range: gauges have outliers
    "rmse": lambda given, wanted: (F.mse_loss(given, wanted) + 1e-12).sqrt(),
    "mae": F.l1_loss,
}


class Level:
    """See `tasks`. Targets are float32 numbers: metres above the datum of the chip's reservoir, the given one or the lowest level that is
    not for testing. So chips of several reservoirs can teach one network."""

    spatial = False
    turned = False  # where the banks are steep the level shows at a few places of the shore: a chip that is turned or mirrored hides them
    ensemble = True
    channels = 1
    architecture = "levelnet"
    losses = tuple(LOSSES)
    monitor = "last"  # the held-out chips tell how far to trust the model: they must not choose it
    searched = "rmse"
    lower_is_better = frozenset({"loss", "rmse", "mae"})

    def __init__(self, manifest):
        self.told = dict(manifest.target)
        used = [c for c in manifest.chips if c.split != "test"]
        if any(c.value is None for c in manifest.chips) or not {c.place for c in manifest.chips} <= {p["name"] for p in self._places()}:
            raise ChipsError("Chips without level, or of a reservoir that chips.json does not describe.", "Run exportlevelchips again.")
        self.sources = [s["name"] for s in manifest.sources]
        self.datum = {}
        for place in self._places():
            levels = [c.value for c in used if c.place == place["name"]]
            self.datum[place["name"]] = place["datum_m"] if place["datum_m"] is not None else min(levels, default=0.0)
        depths = [self._depth(c) for c in used]
        self.low, self.high = min(depths, default=0.0), max(depths, default=0.0)
        if self.high - self.low < 0.01:
            raise ChipsError("All levels are alike: there is nothing to learn.", "Export a longer series.")
        learnt = [c for c in used if c.split == "train" or len(c.held) < int(self.told.get("repeats", 1))]
        self.range = {p["name"]: [c.value for c in learnt if c.place == p["name"]] for p in self._places()}
        self.series: list[list] = []
        self.members = 1

    def _places(self) -> list[dict]:
        return self.told.get("reservoirs", [])

    def _depth(self, chip) -> float:
        return chip.value - self.datum[chip.place]

    def target(self, chips, chip) -> np.ndarray:
        return np.float32(self._depth(chip))

    def vary(self, image: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The same reservoir up to `SHIFT` pixels aside."""
        down, right = rng.integers(0, 2 * SHIFT + 1, 2)
        padded = np.pad(image, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
        return padded[:, down : down + image.shape[1], right : right + image.shape[2]], target

    def criterion(self, loss: str, weights):
        return lambda output, target: LOSSES[loss](output.float(), ((target - self.low) / (self.high - self.low))[:, None])

    def activate(self, output: torch.Tensor) -> torch.Tensor:
        return output * (self.high - self.low) + self.low

    def evaluator(self) -> Evaluator:
        return Evaluator()

    def remember(self, chips, given: np.ndarray, unseen: np.ndarray) -> None:
        """Keep every date with its level and what the members that had not learnt from it made of it: `level.model` tells intervals from it."""
        numbers = {p["name"]: i for i, p in enumerate(self._places())}
        self.members = given.shape[1]
        self.series = [
            [numbers[c.place], c.date, c.value, None if math.isnan(u) else round(float(u) + self.datum[c.place], 4), c.split, self.sources[c.source]]
            for c, u in zip(chips, unseen)
        ]  # fmt: skip

    def info(self) -> dict:
        places = [
            {**p, "datum_m": self.datum[p["name"]] if p["datum_m"] is not None or self.range[p["name"]] else None, "low_m": min(self.range[p["name"]], default=None), "high_m": max(self.range[p["name"]], default=None)}
            for p in self._places()
        ]  # fmt: skip
        target = {k: self.told[k] for k in ("name", "unit") if k in self.told}
        return {"details": {
            "target": target, "sensor": self.told.get("sensor", ""), "reservoirs": places, "members": self.members, "series": self.series,
        }}  # fmt: skip

    def report(self, path: str, run) -> None:
        """Curves, and observed and estimated levels of the dates that were held out."""
        level_training(path, run, self.info()["details"])


class Evaluator:
    """Errors of depths, m."""

    def __init__(self):
        self.pairs: list[np.ndarray] = []

    def update(self, given: np.ndarray, target: np.ndarray) -> None:
        """`given` `(n, members)`, `target` `(n,)`, m."""
        self.pairs.append(np.stack([np.asarray(given, np.float64).mean(1), np.asarray(target, np.float64)]))

    def figures(self) -> dict:
        """r2 (1 - SSE / SST about the mean of all), rmse, mae, bias in m."""
        given, wanted = np.concatenate(self.pairs, axis=1) if self.pairs else np.full((2, 1), np.nan)
        error = given - wanted
        spread = ((wanted - wanted.mean()) ** 2).sum()
        return {
            "r2": float(1 - (error**2).sum() / spread) if spread > 0 else math.nan, "rmse": float(np.sqrt((error**2).mean())),
            "mae": float(np.abs(error).mean()), "bias": float(error.mean()),
        }  # fmt: skip
