"""Figures of lakes for reports; see plots.py for the manner."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..plots import BLUE, FAINT, GREEN, GREY, INK, LINE, ORANGE, SOFT, WIDTH, dress, new_figure, shortened
from ..report import number

INVENTORY = "#c9d2da"
MANY_POINTS = 4000  # in a scatter plot: an SVG of a hundred thousand takes minutes to show


def counts(rows: Sequence[dict], upwards: bool = False):
    """Number and area of lakes per row of a table as bars, the map's above the inventory's; `upwards` puts the first row at the bottom."""
    both = "reference_number" in rows[0]
    figure = new_figure(0.9 + (0.56 if both else 0.36) * len(rows))
    places = np.arange(len(rows)) * (-1 if upwards else 1)
    height = 0.36 if both else 0.6
    for place, (key, title) in enumerate([("number", "Number of lakes"), ("area_km2", "Area, km²")]):
        axes = figure.add_subplot(1, 2, place + 1)
        groups = [("", BLUE, -height / 2 if both else 0, "map"), *([("reference_", INVENTORY, height / 2, "inventory")] if both else [])]
        largest = max(max(row[prefix + key] for row in rows) for prefix, *_ in groups) or 1
        for prefix, colour, shift, name in groups:
            values = [row[prefix + key] for row in rows]
            axes.barh(places + shift, values, height=height, color=colour, edgecolor="white", linewidth=0.6, label=name)
            for at, value in zip(places + shift, values):
                written = f"{value:.3g}" if isinstance(value, float) and value < 1000 else number(round(value))
                axes.text(value + 0.012 * largest, at, written, va="center", fontsize=8 if both else 8.5, color=INK)
        dress(axes, title=title, grid="x")
        axes.set(xlim=(0, 1.16 * largest), ylim=(places.max() + 0.55, places.min() - 0.55))
        axes.set_yticks(places, [shortened(row["class"], 22) for row in rows] if place == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: number(int(value)) if value == int(value) else f"{value:g}")
        axes.spines["bottom"].set_visible(False)
        if both and place == 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=2, frameon=False, fontsize=9, labelcolor=INK, handlelength=1.2)
    return figure


def detection(rows: Sequence[dict]):
    """Recall, precision and F1 of lakes by size class; whiskers: 95 % intervals."""
    figure = new_figure(0.8 + 0.4 * len(rows))
    for place, (key, title, colour) in enumerate([("recall", "Recall", BLUE), ("precision", "Precision", ORANGE), ("f1", "F1", GREEN)]):
        axes = figure.add_subplot(1, 3, place + 1)
        for at, row in enumerate(rows):
            value, (low, high) = row[key], row.get(f"{key}_interval", (math.nan, math.nan))
            if math.isnan(value):
                axes.text(0.02, at, "–", va="center", fontsize=9, color=SOFT)
                continue
            axes.barh(at, value, height=0.56, color=colour, alpha=0.85)
            if not math.isnan(low):
                axes.plot([low, high], [at, at], color=INK, linewidth=1.3, solid_capstyle="butt")
            axes.text(max(value, 0 if math.isnan(high) else high) + 0.02, at, f"{value:.2f}", va="center", fontsize=8.5, color=INK)
        dress(axes, title=title, grid="x")
        axes.set(xlim=(0, 1.2), ylim=(len(rows) - 0.45, -0.55))
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks(range(len(rows)), [shortened(row["class"], 22) for row in rows] if place == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["bottom"].set_visible(False)
    return figure


def size_curve(area_m2: np.ndarray, found: np.ndarray, whole: np.ndarray, smallest_whole_m2: float):
    """Running share of the inventory's lakes that were found, and found whole, over their area."""
    figure = new_figure(3.3, width=WIDTH * 0.62)
    axes = figure.add_subplot()
    order = np.argsort(area_m2, kind="stable")
    size = max(min(len(order) // 8, max(len(order) // 40, 200)), 1)
    steps = np.unique(np.linspace(0, len(order) - size, min(len(order) - size + 1, 300)).astype(int))
    middle = [math.exp(np.log(area_m2[order[k : k + size]]).mean()) for k in steps]
    for values, colour, name in ((found, BLUE, "found"), (whole, GREEN, "found whole")):
        axes.plot(middle, [values[order[k : k + size]].mean() for k in steps], color=colour, linewidth=1.8, label=name)
    if math.isfinite(smallest_whole_m2):
        axes.axvline(smallest_whole_m2, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_xscale("log")
    axes.set_ylim(0, 1.03)
    dress(axes, title=f"Share of lakes, {size} neighbours in size at a time", x="area of the lake in the inventory, m²")
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    return figure


def area_scatter(reference_m2: np.ndarray, map_m2: np.ndarray):
    """Area in the map over area in the inventory, of lakes that are one in both."""
    figure = new_figure(3.6, width=WIDTH / 2)
    axes = figure.add_subplot()
    some = np.random.default_rng(0).permutation(len(reference_m2))[:MANY_POINTS]
    low, high = min(reference_m2.min(), map_m2.min()), max(reference_m2.max(), map_m2.max())
    low, high = low / 1.5, high * 1.5
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.9, linestyle=(0, (3, 3)))
    axes.plot(reference_m2[some], map_m2[some], "o", color=BLUE, markersize=3.2 if len(some) < 500 else 2, alpha=0.45, markeredgewidth=0)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    dress(axes, x="area in the inventory, m²", y="area in the map, m²", grid="both")
    axes.grid(color=LINE, linewidth=0.7)
    return figure
