"""One class per pixel: two classes with one sigmoid channel, more with softmax."""

from __future__ import annotations

import numpy as np
import torch

from .. import losses, metrics
from ..classes import classify
from ..errors import ChipsError
from ..panels import panel, stretch
from ..report_pages import training_report


class Segmentation:
    """See `tasks`. Targets are int64 `(rows, cols)`: the class index, -1 where ignored."""

    spatial = True
    monitor = "miou"
    architecture = "unet"
    losses = tuple(losses.LOSSES)
    lower_is_better = frozenset({"loss"})

    def __init__(self, manifest):
        if len(manifest.classes) < 2:
            raise ChipsError("The chips have fewer than two classes.", "Export them again with labels of two classes.")
        self.classes = manifest.classes
        self.channels = 1 if len(self.classes) == 2 else len(self.classes)

    def target(self, chips, chip) -> np.ndarray:
        return chips.label(chip).astype(np.int64) - 1

    def criterion(self, loss: str, weights):
        return lambda output, target: losses.loss(loss, output, target, weights)

    def balance(self, targets) -> list[float]:
        """Class weights inverse to the classes' pixels, mean 1."""
        counts = sum(np.bincount(t[t >= 0].ravel(), minlength=len(self.classes)) for t in targets)
        there = counts > 0  # a class without pixels must not make the others' weights vanish
        weights = np.where(there, counts.sum() / np.maximum(counts, 1), 0.0)
        return [float(w) for w in np.where(there, weights / weights[there].mean(), 1.0)] if there.any() else [1.0] * len(counts)

    def activate(self, output: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(output) if self.channels == 1 else torch.softmax(output, 1)

    def evaluator(self) -> Evaluator:
        return Evaluator(len(self.classes))

    def info(self) -> dict:
        return {"classes": self.classes, "threshold": 0.5}

    def report(self, path: str, run) -> None:
        """Curves, confusion matrix, figures per class, worst and best validation chips."""
        colours = [c.colour for c in self.classes]
        ranked = []
        for i, chip in enumerate(run.validation):
            _, _, given, target = run.look(chip)
            matrix = metrics.confusion(target, classify(given), len(self.classes))
            if matrix.sum():
                ranked.append((metrics.scores(matrix)["accuracy"], i))  # a mean over classes would be ruled by the one with few pixels
        ranked.sort()

        def draw(chosen):
            for agreement, i in chosen:
                pixels, valid, given, target = run.look(run.validation[i])
                picture = panel(stretch(pixels, valid.all(axis=0), visible(run.bands)), target, classify(given), colours)
                yield picture, f"{run.validation[i].image}, {agreement:.1%} of the labelled pixels right"

        count = min(4, (len(ranked) + 1) // 2)
        training_report(
            path, title=run.title, history=run.history, matrix=run.evaluation.matrix, class_names=[c.name for c in self.classes],
            class_colours=colours, panels_worst=list(draw(ranked[:count])), panels_best=list(draw(ranked[count:][-count:][::-1])), settings=run.settings,
            versions=run.versions, facts=run.facts, best_epoch=run.best_epoch, subtitle=run.subtitle,
        )  # fmt: skip


class Evaluator:
    """Confusion matrix of a data set, chip by chip."""

    def __init__(self, classes: int):
        self.matrix = np.zeros((classes, classes), np.int64)

    def update(self, given: np.ndarray, target: np.ndarray) -> None:
        """`given` `(n, channels, rows, cols)` probabilities, `target` `(n, rows, cols)`."""
        for one, truth in zip(given, target):
            self.matrix += metrics.confusion(truth, classify(one), len(self.matrix))

    def figures(self) -> dict:
        scores = metrics.scores(self.matrix)
        return {"accuracy": scores["accuracy"], "miou": scores["mean_iou"], "dice": scores["mean_dice"]}


def visible(names) -> tuple[int, int, int]:
    """Three bands to look at: red, green, blue if the names tell them, else the first three (the last of fewer repeated)."""
    lower = [n.lower() for n in names]
    if all(c in lower for c in ("red", "green", "blue")):
        return tuple(lower.index(c) for c in ("red", "green", "blue"))
    last = len(names) - 1
    return (min(2, last), min(1, last), 0) if last >= 3 else (0, min(1, last), min(2, last))
