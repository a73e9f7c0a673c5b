"""The two pages that people read: what training gave, and how good a map is."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np

from . import plots
from .metrics import ProbabilityCurve
from .metrics import scores as scores_of
from .panels import IGNORED
from .report import Report, Swatch, number
from .tables import json_text

Path = Union[str, os.PathLike]
Panels = Sequence[tuple[np.ndarray, str]]
HEADERS = {"loss_train": "loss, training", "loss_valid": "loss, validation", "miou": "mean IoU", "dice": "mean dice", "lr": "learning rate"}


def training_report(
    path: Path,
    *,
    title: str,
    history: Sequence[dict],
    matrix: np.ndarray,
    class_names: Sequence[str],
    class_colours: Sequence[Any],
    panels_worst: Panels = (),
    panels_best: Panels = (),
    settings: Optional[dict] = None,
    versions: Optional[dict] = None,
    facts: Sequence[tuple[str, Any]] = (),
    subtitle: str = "",
    best_epoch: Optional[int] = None,
) -> None:
    """Writes the page of a training run.

    `history` is as `plots.curves` takes it, `matrix` the validation pixels of the kept epoch, `panels_*` are (RGB array of
    `panels.panel`, caption), `facts` (label, value) beside those that are worked out here. Raises `OutputError`.
    """
    figures = scores_of(matrix)
    page = Report(title, subtitle)
    page.facts([("Mean IoU", figures["mean_iou"]), ("Mean dice (F1)", figures["mean_dice"]), ("Accuracy", figures["accuracy"]), *facts])
    if history:
        page.heading("Learning curves")
        caption = "Agreement: on the validation chips. Circle: the epoch whose weights are in the model file. Dotted line: the next stage."
        page.figure(plots.curves(history, best_epoch), caption)
    _agreement(page, matrix, class_names, class_colours, figures, None, "validation chips")
    swatches = [Swatch(name, colour) for name, colour in zip(class_names, class_colours)]
    for heading, pictures in (("Validation chips with the lowest agreement", panels_worst), ("… and with the highest", panels_best)):
        if pictures:
            page.heading(heading)
            page.legend([*swatches, Swatch("not labelled", IGNORED)])
            page.text("Each row: image, truth, prediction.")
            page.gallery(pictures)
    page.heading("How it was made")
    epoch_table(page, history)
    how(page, settings, versions)
    page.write(path)


def assessment_report(
    path: Path,
    *,
    title: str,
    matrix: np.ndarray,
    class_names: Sequence[str],
    class_colours: Sequence[Any],
    scores: Optional[dict] = None,
    detection: Optional[dict] = None,
    areas: Optional[Sequence[tuple[float, float]]] = None,
    curve: Optional[ProbabilityCurve] = None,
    intervals: Optional[dict] = None,
    settings: Optional[dict] = None,
    versions: Optional[dict] = None,
    facts: Sequence[tuple[str, Any]] = (),
    subtitle: str = "",
    positive: str = "",
) -> None:
    """Writes the page of an accuracy assessment.

    `scores`, `detection`, `intervals` are what `metrics.scores`, `.detection` and `.bootstrap` give; `positive` names the class that
    `detection` and `curve` are about; `areas` holds (truth, mapped) in m2 per class. Raises `OutputError`.
    """
    figures = scores_of(matrix) if scores is None else scores
    page = Report(title, subtitle)
    first = [("Mean IoU", "mean_iou"), ("Accuracy", "accuracy"), ("Kappa", "kappa"), ("MCC", "mcc")]
    page.facts([*((label, figures[key]) for label, key in first), *facts])
    _agreement(page, matrix, class_names, class_colours, figures, intervals, "labelled pixels")
    swatches = [Swatch(name, colour) for name, colour in zip(class_names, class_colours)]
    if areas is not None:
        page.heading("Areas")
        unit, size = _area_unit(areas)
        rows = [
            [swatch, f"{truth / size:.2f}", f"{mapped / size:.2f}", _change(truth, mapped)]
            for swatch, (truth, mapped) in zip(swatches, areas)
        ]
        page.table(["Class", f"Truth ({unit})", f"Map ({unit})", "Difference"], rows)
    if detection is not None:
        page.heading(f"Detection of {positive}" if positive else "Detection")
        page.table(
            ["Figure", "Value", "Best"],
            [
                ["POD, probability of detection: share of the true pixels that were found", detection["pod"], "1"],
                ["FAR, false alarm ratio: share of the mapped pixels that are wrong", detection["far"], "0"],
                ["CSI, critical success index (= IoU): hits among hits, misses and false alarms", detection["csi"], "1"],
                ["Bias: mapped through true pixels; above 1 too much is mapped", detection["bias"], "1"],
            ],
        )
    if curve is not None:
        page.heading(f"Probability of {positive} and threshold" if positive else "Probability and threshold")
        threshold, value = curve.best_threshold("iou")
        if math.isnan(threshold):
            page.text("The truth holds no pixel of the class: there is no best threshold.")
        else:
            caption = "A pixel is of the class where its probability reaches the threshold."
            page.figure(plots.precision_recall_plot(curve, (threshold, value)), caption)
            page.text(
                "A threshold that is picked on these labels looks better here than on new ones: pick it on validation labels, "
                "state results on others."
            )
        caption = "Points above the diagonal: the class is more frequent than the probability says; below: less."
        page.figure(plots.reliability_plot(curve), caption)
    page.heading("How it was made")
    how(page, settings, versions)
    page.write(path)


def _agreement(page: Report, matrix: np.ndarray, names, colours, figures: dict, intervals: Optional[dict], where: str) -> None:
    """Figures per class and the confusion matrix."""
    page.heading("Agreement by class")
    bounds = ""
    if intervals is not None and intervals["units"] > 1:
        units, repeats = number(intervals["units"]), number(intervals["repeats"])
        bounds = f" Whiskers and brackets: {intervals['level']:.0%} interval, {units} sampling units drawn anew {repeats} times."
    page.figure(plots.class_bars(names, colours, figures, intervals if bounds else None), f"On {where}.{bounds}")
    rows = []
    for place, (name, colour) in enumerate(zip(names, colours)):
        row: list[Any] = [Swatch(name, colour), *(figures[key][place] for key in ("recall", "precision", "f1", "iou"))]
        if bounds:
            row.append(_interval(intervals["iou"][place]))
        rows.append([*row, figures["truth_pixels"][place], figures["predicted_pixels"][place]])
    interval = ["IoU interval"] if bounds else []
    page.table(["Class", "Recall", "Precision", "F1", "IoU", *interval, "Pixels, truth", "Pixels, map"], rows)
    page.text(
        "Recall: share of the true pixels that were found. Precision: share of the mapped pixels that are right. IoU: right pixels among "
        "all that truth or map give to the class. A dash stands for a figure that is not defined here; means leave it out."
    )
    page.heading("Confusion matrix")
    page.figure(plots.confusion_plot(matrix, names), "Rows sum to 100%." + (" Small: pixels." if len(matrix) <= plots.COUNTS_UP_TO else ""))


def epoch_table(page: Report, history: Sequence[dict], headers: dict = HEADERS) -> None:
    """Every epoch's figures, folded away."""
    if history:
        keys = list(dict.fromkeys(key for row in history for key in row))
        rows = [[_epoch_cell(key, row.get(key)) for key in keys] for row in history]
        page.details_table("Every epoch", [headers.get(key, key) for key in keys], rows)


def how(page: Report, settings: Optional[dict], versions: Optional[dict]) -> None:
    """Settings and versions, folded away."""
    if settings:
        page.details("Settings", json_text(settings))
    if versions:
        page.details_table("Versions", ["Package", "Version"], list(versions.items()), numeric=False)


def _epoch_cell(key: str, value: Any) -> Any:
    return f"{value:.3g}" if key == "lr" and isinstance(value, float) else value


def _interval(limits: tuple[float, float]) -> str:
    return "–" if math.isnan(limits[0]) else f"[{limits[0]:.3f}, {limits[1]:.3f}]"


def _area_unit(areas: Sequence[tuple[float, float]]) -> tuple[str, float]:
    """Unit and its size in m2, by the largest area."""
    largest = max((value for pair in areas for value in pair), default=0)
    return ("km²", 1e6) if largest >= 1e7 else ("ha", 1e4) if largest >= 1e5 else ("m²", 1.0)


def _change(truth: float, mapped: float) -> str:
    return "–" if not truth else f"{(mapped - truth) / truth:+.1%}".replace("-", "\u2212")
