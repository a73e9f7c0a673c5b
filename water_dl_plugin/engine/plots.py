"""Figures for reports. matplotlib's object interface only (no pyplot: this runs in worker threads inside QGIS), imported when first used.

Every function returns a `matplotlib.figure.Figure`. Names from files go through `shortened`, so that a `$` starts no formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from .errors import PackageMissingError
from .metrics import ProbabilityCurve
from .panels import hexadecimal

INK, SOFT, LINE, FAINT = "#1c2833", "#5b6b79", "#dfe5ea", "#9aa7b2"
BLUE, ORANGE, GREEN, GREY = "#1d5f8a", "#c4661f", "#3b8a5a", "#7a8793"
COUNTS_UP_TO = 8  # classes: in a larger matrix the numbers of pixels don't fit
WIDTH = 9.6  # inches: the text width of a report


@dataclass(frozen=True)
class Figures:
    """What the right half of `curves` shows: its title, the columns (key, name, colour), and which of them the kept epoch is marked on."""

    title: str
    columns: tuple
    marked: str
    note: str


AGREEMENT = Figures(
    "Agreement", (("accuracy", "accuracy", FAINT), ("dice", "mean dice", ORANGE), ("miou", "mean IoU", BLUE)), "miou",
    "kept: epoch {epoch:g}, mean IoU {value:.3f}",
)  # fmt: skip
ERRORS = Figures(
    "Error", (("rmse_base", "RMSE of the interpolated base", FAINT), ("mae", "MAE", ORANGE), ("rmse", "RMSE", BLUE)), "rmse",
    "kept: epoch {epoch:g}, RMSE {value:.3g}",
)  # fmt: skip


def curves(history: Sequence[dict], best_epoch: Optional[int] = None, figures: Figures = AGREEMENT):
    """Losses, figures of the task and learning rate per epoch.

    `history` holds one dict per epoch: `epoch`, and any of `stage`, `loss_train`, `loss_valid`, `lr` and the columns of `figures` (absent,
    None and NaN leave a gap). Borders between stages are dotted; the epoch that was kept is marked (None: highest `miou`).
    """
    figure = new_figure(3.7)
    axes = figure.subplot_mosaic([["loss", "agreement"], ["lr", "agreement"]], gridspec_kw={"height_ratios": [3, 1], "wspace": 0.08})
    left, right, rate = axes["loss"], axes["agreement"], axes["lr"]
    epochs = _column(history, "epoch")
    if best_epoch is None:
        agreement = _column(history, "miou")
        best_epoch = epochs[int(np.nanargmax(agreement))] if np.isfinite(agreement).any() else None
    _lines(left, epochs, history, [("loss_train", "training", FAINT), ("loss_valid", "validation", BLUE)])
    _lines(right, epochs, history, figures.columns)
    _lines(rate, epochs, history, [("lr", "", SOFT)])
    dress(left, title="Loss")
    dress(right, title=figures.title, x="epoch")
    dress(rate, x="epoch")
    rate.set_title("Learning rate", loc="left", fontsize=9, color=SOFT)
    left.tick_params(labelbottom=False)
    highest = _column(history, "lr")
    highest = float(np.nanmax(highest)) if np.isfinite(highest).any() else 0.0
    if highest > 0:
        rate.set(ylim=(0, 1.1 * highest), yticks=[0, highest], yticklabels=["0", f"{highest:g}"])
    for axes in (left, right, rate):
        axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        _whole(axes.xaxis)
        for border in _borders(history, epochs):
            axes.axvline(border, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    _stage_names(left, history, epochs)
    if best_epoch is not None:
        _mark_best(left, epochs, _column(history, "loss_valid"), best_epoch, "")
        _mark_best(right, epochs, _column(history, figures.marked), best_epoch, figures.note)
    for axes, where, columns in ((left, {"loc": "lower right", "bbox_to_anchor": (1.02, 0.98)}, 2), (right, {"loc": "best"}, 1)):
        if axes.lines:
            axes.legend(**where, ncol=columns, frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4, columnspacing=1.2)
    return figure


def confusion_plot(matrix: np.ndarray, names: Sequence[str]):
    """Share of each true class that was mapped as each class (rows sum to 100 %), with the pixels below."""
    matrix = np.asarray(matrix)
    count = len(matrix)
    size = min(max(2.6, 0.95 * count + 1.2), 8.5)
    figure = new_figure(size * 0.92, width=min(size * 1.5, WIDTH))
    axes = figure.add_subplot()
    from matplotlib.patches import Rectangle

    for row in range(count):
        total = int(matrix[row].sum())
        for col in range(count):
            share = matrix[row, col] / total if total else math.nan
            depth = 0.0 if math.isnan(share) else share
            axes.add_patch(Rectangle((col, row), 1, 1, facecolor=_blue(depth), edgecolor="white", linewidth=2))
            colour = "white" if depth > 0.55 else INK
            if count <= 14:
                big = "–" if math.isnan(share) else f"{share:.1%}"
                axes.text(col + 0.5, row + 0.46, big, ha="center", va="center", color=colour, fontsize=10.5 if count <= 8 else 8)
            if count <= COUNTS_UP_TO:
                pixels = f"{int(matrix[row, col]):,}".replace(",", "\u202f")
                faint = "#d5e3ed" if depth > 0.55 else SOFT
                axes.text(col + 0.5, row + 0.72, pixels, ha="center", va="center", color=faint, fontsize=7.5)
    labels = [shortened(name, 22) for name in names]
    middles = np.arange(count) + 0.5
    axes.set(xlim=(0, count), ylim=(count, 0))
    axes.set_xticks(middles, labels, rotation=0 if count <= 4 else 35, ha="center" if count <= 4 else "right", fontsize=9)
    axes.set_yticks(middles, labels, fontsize=9)
    axes.set_xlabel("mapped as", color=SOFT, fontsize=9)
    axes.set_ylabel("truth", color=SOFT, fontsize=9)
    axes.tick_params(length=0, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def class_bars(names: Sequence[str], colours: Sequence[Any], scores: dict, intervals: Optional[dict] = None):
    """IoU and F1 per class as bars in the class colour, with the bounds of `metrics.bootstrap` as whiskers."""
    figure = new_figure(0.75 + 0.42 * len(names))
    for place, (key, title) in enumerate([("iou", "IoU"), ("f1", "F1")]):
        axes = figure.add_subplot(1, 2, place + 1)
        for row, (value, colour) in enumerate(zip(scores[key], colours)):
            known = not math.isnan(value)
            if known:
                axes.barh(row, value, height=0.56, color=hexadecimal(colour), edgecolor=SOFT, linewidth=0.4)
            low, high = intervals[key][row] if intervals else (math.nan, math.nan)
            if known and not math.isnan(low):
                axes.plot([low, high], [row, row], color=INK, linewidth=1.3, solid_capstyle="butt")
            edge = max(value, 0 if math.isnan(high) else high) if known else 0
            axes.text(edge + 0.015, row, f"{value:.3f}" if known else "–", va="center", fontsize=9, color=INK)
        dress(axes, title=title, grid="x")
        axes.set(xlim=(0, 1.14), ylim=(len(names) - 0.45, -0.55))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_yticks(range(len(names)), [shortened(name, 22) for name in names] if place == 0 else [""] * len(names))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["bottom"].set_visible(False)
    return figure


def precision_recall_plot(curve: ProbabilityCurve, best: Optional[tuple[float, float]] = None):
    """Precision over recall, and precision, recall and IoU over the threshold; `best` is (threshold, IoU), None: looked up."""
    thresholds, precision, recall = curve.precision_recall()
    threshold, value = curve.best_threshold("iou") if best is None else best
    figure = new_figure(3.4)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.08})
    left.plot(recall, precision, color=BLUE, linewidth=1.8)
    right.plot(thresholds, precision, color=ORANGE, linewidth=1.5, label="precision")
    right.plot(thresholds, recall, color=GREEN, linewidth=1.5, label="recall")
    right.plot(thresholds, curve.values("iou"), color=BLUE, linewidth=1.8, label="IoU")
    if not math.isnan(threshold):
        at = round(threshold * curve.bins)
        left.plot(recall[at], precision[at], "o", color="white", markeredgecolor=INK, markersize=7, zorder=5)
        note = f"threshold {threshold:g}"
        left.annotate(note, (recall[at], precision[at]), (-9, -11), textcoords="offset points", ha="right", va="top", fontsize=9, color=INK)
        right.axvline(threshold, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
        right.plot(threshold, value, "o", color="white", markeredgecolor=INK, markersize=7, zorder=5)
    dress(left, title=f"Average precision {curve.average_precision():.3f}", x="recall", y="precision")
    dress(right, title=f"Best IoU {value:.3f} at threshold {threshold:g}", x="threshold")
    for axes in (left, right):
        axes.set(xlim=(0, 1.02), ylim=(0, 1.03))
    right.legend(loc="lower center", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    return figure


def reliability_plot(curve: ProbabilityCurve, groups: int = 10):
    """Observed share over predicted probability: on the diagonal, a probability means what it says. Below: pixels per group."""
    table = curve.reliability(groups)
    figure = new_figure(3.6, width=WIDTH / 2)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    top.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=(0, (3, 3)))
    top.plot(table["probability"], table["observed"], "o-", color=BLUE, linewidth=1.5, markersize=5)
    total = max(sum(table["pixels"]), 1)
    middles = (np.array(table["low"]) + np.array(table["high"])) / 2
    bottom.bar(middles, np.array(table["pixels"]) / total, width=0.92 / groups, color="#a9c3d6")
    dress(top, title=f"Calibration error {table['error']:.3f}", y="observed share")
    dress(bottom, x="predicted probability", y="pixels")
    bottom.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    top.set(xlim=(0, 1), ylim=(0, 1.03))
    return figure


def new_figure(height: float, width: float = WIDTH):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PackageMissingError("The Python package matplotlib is missing.", "Run the algorithm 'Install packages' once.") from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def dress(axes, title: str = "", x: str = "", y: str = "", grid: str = "y") -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_ylabel(y, fontsize=9, color=SOFT)
    axes.grid(axis=grid, color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=SOFT, length=0)
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set_color(FAINT)


def _lines(axes, epochs: np.ndarray, history: Sequence[dict], columns: Sequence[tuple[str, str, str]]) -> None:
    marker = "o" if len(history) < 4 else ""
    for key, name, colour in columns:
        values = _column(history, key)
        if np.isfinite(values).any():
            axes.plot(epochs, values, marker=marker, linestyle="-", color=colour, linewidth=1.6, markersize=4, label=name)


def _column(history: Sequence[dict], key: str) -> np.ndarray:
    return np.array([math.nan if row.get(key) is None else row[key] for row in history], np.float64)


def _borders(history: Sequence[dict], epochs: np.ndarray) -> list[float]:
    return [
        (epochs[index - 1] + epochs[index]) / 2
        for index in range(1, len(history))
        if history[index].get("stage") != history[index - 1].get("stage")
    ]


def _stage_names(axes, history: Sequence[dict], epochs: np.ndarray) -> None:
    starts = [epochs[0] - 0.5, *_borders(history, epochs)]
    if len(starts) > 1:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.13 * (high - low))  # room for the names
        for start in starts:
            stage = next(row.get("stage") for row, epoch in zip(history, epochs) if epoch > start)
            axes.annotate(
                shortened(f"stage {stage}" if isinstance(stage, int) else stage, 24), (start, 1), (5, -3), va="top", fontsize=8, color=SOFT,
                xycoords=("data", "axes fraction"), textcoords="offset points",
            )  # fmt: skip


def _mark_best(axes, epochs: np.ndarray, values: np.ndarray, best_epoch: float, note: str) -> None:
    for epoch, value in zip(epochs, values):
        if epoch == best_epoch and math.isfinite(value):
            axes.plot(epoch, value, "o", color="white", markeredgecolor=INK, markersize=7, zorder=5)
            if note:
                axes.set_title(note.format(epoch=epoch, value=value), loc="right", fontsize=9, color=SOFT)


def _whole(axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def _blue(share: float) -> tuple[float, float, float]:
    """From near-white to the report's blue."""
    light, dark = np.array([0xF1, 0xF5, 0xF8]) / 255, np.array([0x1D, 0x5F, 0x8A]) / 255
    return tuple(light + (dark - light) * share)


def shortened(name: Any, length: int) -> str:
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(name))
    return (name if len(name) <= length else name[: length - 1] + "…").replace("$", r"\$")
