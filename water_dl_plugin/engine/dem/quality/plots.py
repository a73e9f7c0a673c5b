"""Figures of heights and their errors for reports; see ../plots.py for the manner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np

from ...plots import BLUE, FAINT, INK, ORANGE, SOFT, WIDTH, dress, new_figure, shortened

DIVERGING = ("#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b")
VOID = "#c9d2da"
BINS = 120


def error_maps(means: Sequence[np.ndarray], titles: Sequence[str], limit: float):
    """Mean errors in m `(rows, cols)` of some DEMs in one scale of colours, full from `limit` on."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("errors", DIVERGING)
    colours.set_bad(VOID)
    rows, cols = means[0].shape
    count = len(means)
    each = WIDTH * (0.46 if count > 1 else 0.6)
    figure = new_figure(min(max(each * rows / cols, 1.4), 7.5) + 0.5, width=WIDTH if count > 1 else WIDTH * 0.68)
    drawn = None
    axes = figure.subplots(1, count, squeeze=False)[0]
    for place, mean, title in zip(axes, means, titles):
        drawn = place.imshow(np.ma.masked_invalid(mean), cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
        place.set_title(shortened(title, 48), loc="left", fontsize=10.5, color=INK)
        place.set_axis_off()
    bar = figure.colorbar(drawn, ax=list(axes), shrink=0.8, pad=0.015, extend="both")
    bar.set_label("too low  —  error, m  —  too high", fontsize=9, color=SOFT)
    bar.ax.tick_params(labelsize=8.5, colors=SOFT, length=0)
    bar.outline.set_visible(False)
    return figure


def histogram(atoms: Sequence[tuple], names: Sequence[str], limit: float):
    """Distributions of errors up to `limit` m on either side; `atoms` are (values, numbers of pixels)."""
    figure = new_figure(3.1, width=WIDTH * 0.72)
    axes = figure.add_subplot()
    edges = np.linspace(-limit, limit, BINS + 1)
    for (values, counts), name, colour in zip(atoms, names, (BLUE, ORANGE)):
        share = np.histogram(values, edges, weights=counts)[0] / counts.sum()
        axes.stairs(100 * share, edges, color=colour, linewidth=1.5, label=shortened(name, 44), fill=False)
        if colour == BLUE:
            axes.stairs(100 * share, edges, color=colour, alpha=0.15, fill=True)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(0)
    dress(axes, title="Share of pixels per bin, %", x="DEM minus reference, m")
    axes.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    return figure


def class_bars(names: Sequence[str], values: Sequence[Sequence[float]], titles: Sequence[str], shares: Sequence[float]):
    """RMSE by class as bars, one colour per DEM (`values[dem][class]`); beside the names the share of pixels."""
    figure = new_figure(0.9 + (0.3 * len(values) + 0.22) * len(names), width=WIDTH * 0.8)
    axes = figure.add_subplot()
    height = 0.78 / len(values)
    largest = max((v for row in values for v in row if math.isfinite(v)), default=0) or 1
    for k, (row, title, colour) in enumerate(zip(values, titles, (BLUE, ORANGE))):
        at = np.arange(len(names)) + (k - (len(values) - 1) / 2) * height
        axes.barh(at, np.nan_to_num(row), height=height, color=colour, edgecolor="white", linewidth=0.6, label=shortened(title, 44))
        for y, value in zip(at, row):
            axes.text(
                np.nan_to_num(value) + 0.012 * largest,
                y,
                f"{value:.2f}" if math.isfinite(value) else "–",
                va="center",
                fontsize=8.5,
                color=INK,
            )
    dress(axes, title="RMSE, m", grid="x")
    axes.set(xlim=(0, 1.14 * largest), ylim=(len(names) - 0.45, -0.55))
    axes.set_yticks(range(len(names)), [f"{shortened(name, 24)}  ({_per_cent(share)})" for name, share in zip(names, shares)])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["bottom"].set_visible(False)
    if len(values) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=2, frameon=False, fontsize=9, labelcolor=INK, handlelength=1.2)
    return figure


def profile(distance_m: np.ndarray, reference: np.ndarray, heights: Sequence[np.ndarray], names: Sequence[str]):
    """Heights along a line: the reference, the DEM, a baseline; below, their errors."""
    figure = new_figure(4.2)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.6, 1]})
    top.plot(distance_m, reference, color=INK, linewidth=1.8, label="reference")
    bottom.axhline(0, color=INK, linewidth=0.9)
    for values, name, colour in zip(heights, names, (BLUE, ORANGE)):
        top.plot(distance_m, values, color=colour, linewidth=1.2, label=shortened(name, 44))
        bottom.plot(distance_m, values - reference, color=colour, linewidth=1.0)
    dress(top, title="Height, m")
    dress(bottom, x="distance, m", y="error, m")
    top.legend(loc="best", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    bottom.set_xlim(distance_m[0], distance_m[-1])
    return figure


def scatter(samples: np.ndarray):
    """Heights of the DEM over those of the reference, and errors over the slope, as numbers of pixels. `samples` as `compare.Sights` gives."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    reference, dem, slope = samples[:3].astype(np.float64)
    colours = LinearSegmentedColormap.from_list("pixels", ("#d9e6ef", BLUE, "#08162a"))
    figure = new_figure(3.9)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.1})
    low, high = _range(np.concatenate([reference, dem]), 0, 100)
    error = dem - reference
    limit = max(abs(v) for v in _range(error, 0.2, 99.8))
    known = np.isfinite(slope)
    steepest = max(float(np.percentile(slope[known], 99.8)), 1.0) if known.any() else 1.0
    for axes, x, y, extent in (
        (left, reference, dem, (low, high, low, high)), (right, slope[known], error[known], (0, steepest, -limit, limit)),
    ):  # fmt: skip
        counts = np.histogram2d(x, y, BINS, [extent[:2], extent[2:]])[0].T
        shown = np.ma.masked_equal(counts, 0)
        axes.imshow(
            shown,
            origin="lower",
            extent=extent,
            aspect="auto",
            cmap=colours,
            norm=LogNorm(1, max(counts.max(), 2)),
            interpolation="nearest",
        )
    left.plot([low, high], [low, high], color=ORANGE, linewidth=0.8, linestyle=(0, (3, 3)))
    right.axhline(0, color=ORANGE, linewidth=0.8, linestyle=(0, (3, 3)))
    dress(left, title="Height of the DEM, m", x="height of the reference, m", grid="both")
    dress(right, title="Error, m", x="slope of the reference, degrees", grid="both")
    for axes in (left, right):
        axes.grid(False)  # it would lie over the pixels
    return figure


def _range(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    a, b = (float(v) for v in np.percentile(values, [low, high])) if values.size else (0.0, 1.0)
    return (a, b) if b > a else (a - 0.5, b + 0.5)


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %"


def error_limit(le90: Sequence[Optional[float]]) -> float:
    """Where the colours of errors end: a round number at the worst of some LE90."""
    worst = max((v for v in le90 if v is not None and math.isfinite(v)), default=0)
    return float(f"{worst:.2g}") or 1.0
